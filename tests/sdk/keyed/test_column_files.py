"""Column files: columns beside the rows are read like all others, and rewritten rows take them along."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import LongType

import lakefeed.expressions as se
from lakefeed import Dataset, Fence, Table, collect_garbage, connect, udf
from lakefeed.catalog import Lake, data_files, update_properties
from lakefeed.errors import (
    ColumnNotFoundError,
    FenceError,
    SchemaError,
    TransformError,
    TypeMismatchError,
    UnsupportedError,
    VersionNotFoundError,
)
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.run.touched_rows import touched_keys
from tests.sdk.processes import Program, finish_all
from tests.sdk.test_garbage import age

SIZES = {"LAKEFEED__WRITE__ROW_GROUP_ROWS": "40"}


@pytest.fixture
def table(home: Path, monkeypatch: pytest.MonkeyPatch) -> Table:
    """A table of three files, of several row groups each."""
    for name, value in SIZES.items():
        monkeypatch.setenv(name, value)
    table = Table.create("photos", key_schema={"id": pa.int64()})
    for start in (0, 100, 200):
        ids = list(range(start, start + 100))
        table.write({"id": ids, "x": [float(n) for n in ids], "text": [f"t{n}" for n in ids]})
    return table


def rows(table: Table, where: str | None = None, *columns: str) -> list[dict[str, Any]]:
    return table.scan(*columns, where=where).to_table().to_pylist()


def stored(name: str = "photos") -> Any:
    """The table as PyIceberg sees it."""
    return connect().catalog().load_table(("default", name))


def files(home: Path) -> dict[str, list[Path]]:
    """The column files and the other data files."""
    found: dict[str, list[Path]] = {"columns": [], "rows": []}
    for path in sorted(home.rglob("data/*.parquet")):
        found["columns" if ".c" in path.name else "rows"].append(path)
    return found


def test_an_enrichment_adds_columns_as_one_version_without_rewriting_rows(table: Table, home: Path) -> None:
    before = files(home)["rows"]
    version = table.enrich({"y": table["x"] * 2, "size": {"w": table["id"] + 1}}).apply()
    assert version is not None
    assert version.version == 5
    assert files(home)["rows"] == before
    assert len(files(home)["columns"]) == 3
    assert rows(table, "id in (7, 250)", "id", "y", "size") == [
        {"id": 7, "y": 14.0, "size": {"w": 8}},
        {"id": 250, "y": 500.0, "size": {"w": 251}},
    ]
    photos = Dataset("photos")
    assert photos.schema.names == table.schema().names == ["id", "x", "text", "y", "size"]
    newest = photos.list_versions()[0]
    assert (newest.operation, newest.added_records, newest.total_records) == ("replace", 0, 300)
    assert photos.added_since(4).count() == 0
    assert Dataset("photos", version=4).schema.names == ["id", "x", "text"]
    assert table.scan(asof=4).schema.names == ["id", "x", "text"]


def test_filters_use_the_statistics_of_column_files(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    matching = Dataset("photos").filter("y >= 420 and text != 't211'")
    assert matching.select(["id"]).to_arrow()["id"].to_pylist() == [210, *range(212, 300)]
    assert matching.count() == 89
    assert "1 of 3 files" in matching.explain()
    scan = table.scan("id", where="y >= 460")
    assert scan.to_table().num_rows == 70
    assert scan.metrics["row_groups_skipped"] == 6
    assert Dataset("photos").filter("y is null").count() == 0
    table.enrich({"y": 0 - table["x"], "z": table["x"]}).apply()
    table.enrich({"y": table["x"] + 1000}).apply()  # the values of y in the older files say nothing
    assert Dataset("photos").filter("y > 1290 and z > 0").count() == 9
    assert Dataset("photos").filter("y < 1000").count() == 0


def test_columns_that_a_filter_does_not_read_are_decoded_only_where_rows_match(
    table: Table, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.enrich({"odd": table["id"] * 7 % 300, "other": table["id"] + 1}).apply()
    table.delete_keys([43])
    read: list[tuple[str, ...]] = []
    honest = ParquetFile.read

    def spy(file: ParquetFile, group: int, columns: Any, *args: Any, **options: Any) -> Any:
        read.append(tuple(columns))
        return honest(file, group, columns, *args, **options)

    monkeypatch.setattr(ParquetFile, "read", spy)
    data = Dataset("photos").filter("odd in (0, 1)").select(["text", "other"])
    assert sorted(data.to_arrow().to_pylist(), key=str) == [{"text": "t0", "other": 1}]
    assert set(read) == {("odd",), ("text",), ("other",)}
    assert read.count(("odd",)) > read.count(("text",)) == read.count(("other",)) <= 2
    for where in ("odd > 150 and x < 120", "odd is null", "id > 250 or odd < 20", "text = 't4'"):
        expected = [row for row in rows(table) if wanted(where, row)]
        assert rows(table, where) == expected
        assert sorted(Dataset("photos").filter(where).to_arrow()["id"].to_pylist()) == [row["id"] for row in expected]
        assert rows(table, where, "other") == [{"other": row["other"]} for row in expected]


def wanted(where: str, row: dict[str, Any]) -> bool:
    text = where.replace(" is null", " is None").replace(" = ", " == ")
    return bool(eval(text, {}, row))


def test_loaders_and_caches_read_column_files_like_one_plain_file(table: Table) -> None:
    pytest.importorskip("torch")
    table.enrich({"y": table["x"] * 2}).apply()
    table.delete_keys([5, 105, 205])
    photos = Dataset("photos").select(["id", "y"])
    plain = Dataset("photos").select(["id", "x"])
    assert photos.cache().to_arrow() == photos.to_arrow()

    def order(data: Dataset, column: str, **options: Any) -> list[Any]:
        return [
            v
            for batch in data.shuffle(seed=3, window=64).to_torch(batch_size=10, **options)
            for v in batch[column].tolist()
        ]

    assert order(photos, "y") == [2 * x for x in order(plain, "x")]
    assert order(photos, "y", rank=1, world_size=3) == [2 * x for x in order(plain, "x", rank=1, world_size=3)]
    loader = photos.shuffle(seed=3, window=64).to_torch(batch_size=10)
    first = iter(loader)
    for _ in range(7):
        next(first)
    resumed = photos.shuffle(seed=3, window=64).to_torch(batch_size=9, num_workers=0)
    resumed.load_state_dict(loader.state_dict())
    assert [v for batch in resumed for v in batch["id"].tolist()] == order(photos, "id")[70:]
    assert photos.slice(95, 103).to_arrow()["y"].to_pylist() == [2.0 * n for n in (*range(96, 100), *range(100, 104))]


def test_other_engines_read_the_rows_as_before(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    seen = stored()
    assert seen.schema().column_names == ["id", "x", "text"]
    assert seen.scan().to_arrow().num_rows == 300
    raw = seen.scan(snapshot_id=seen.refs()["lakefeed.columns"].snapshot_id).to_arrow()
    assert sorted(raw["y"].to_pylist()) == [2.0 * n for n in range(300)]
    ids = pa.array([1000], pa.int64())
    seen.append(pa.table({"id": ids, "x": [1.0], "text": ["new"]}, schema=seen.schema().as_arrow()))
    assert rows(table, "id in (7, 1000)", "id", "y") == [{"id": 7, "y": 14.0}, {"id": 1000, "y": None}]


def test_rewritten_rows_take_their_columns_along_until_the_table_has_them(table: Table, home: Path) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    table.write({"id": [7, 400], "x": [-7.0, -400.0]})
    assert rows(table, "id in (7, 8, 400)", "id", "x", "y") == [
        {"id": 7, "x": -7.0, "y": 14.0},
        {"id": 8, "x": 8.0, "y": 16.0},
        {"id": 400, "x": -400.0, "y": None},
    ]
    table.delete_keys(list(range(10, 90)))  # the first file is written again
    assert rows(table, "id in (9, 90)", "id", "y") == [{"id": 9, "y": 18.0}, {"id": 90, "y": 180.0}]
    assert stored().schema().column_names == ["id", "x", "text"]
    table.compact()
    assert stored().schema().column_names == table.schema().names == ["id", "x", "text", "y"]
    assert stored().scan("id in (7, 8)").to_arrow().sort_by("id")["y"].to_pylist() == [14.0, 16.0]
    assert rows(table, "y = 598", "id", "y") == [{"id": 299, "y": 598.0}]
    table.enrich({"y": table["x"] * 3}, where="id = 8").apply()  # a column that all see is derived anew
    assert rows(table, "id in (7, 8, 9)", "id", "y") == [
        {"id": 7, "y": 14.0},
        {"id": 8, "y": 24.0},
        {"id": 9, "y": 18.0},
    ]
    assert stored().schema().column_names == ["id", "x", "text"]


def test_some_rows_are_derived_anew_and_the_others_keep_their_values(table: Table, home: Path) -> None:
    table.enrich({"y": table["x"], "z": table["text"]}, where="id >= 150").apply()
    table.enrich({"y": table["y"] + 1000}, where="id between 250 and 252").apply()
    table.delete_keys([251])
    table.enrich({"y": table["y"] + 0.5}).apply()
    assert rows(table, "id in (149, 150, 250, 251, 252)", "id", "y", "z") == [
        {"id": 149, "y": None, "z": None},
        {"id": 150, "y": 150.5, "z": "t150"},
        {"id": 250, "y": 1250.5, "z": "t250"},
        {"id": 252, "y": 1252.5, "z": "t252"},
    ]
    for number in range(6):
        table.enrich({f"more{number}": table["id"] * number}).apply()
    (one,) = Dataset("photos").filter("id = 150").to_arrow().to_pylist()
    assert one == {"id": 150, "x": 150.0, "text": "t150", "y": 150.5, "z": "t150"} | {
        f"more{n}": 150 * n for n in range(6)
    }

    assert max(len(file.columns) for file in data_files(Lake.current(), Lake.current().table("photos"))) <= 4


def test_projections_over_several_tables_and_functions(table: Table) -> None:
    other = Table.create("scores", key_schema={"id": pa.int64()})
    other.write({"id": list(range(0, 300, 2)), "score": [n / 10 for n in range(0, 300, 2)]})
    calls: list[int] = []

    @udf(pa.int64())
    def length(text: Any) -> Any:
        calls.append(len(text))
        return pa.array([len(each) for each in text.to_pylist()])

    table.delete_keys([4])
    version = table.enrich(
        {"score": other["score"], "length": length(table["text"]), "name": se.cast(table["id"], pa.string())},
        where=other["score"] > 20,
    ).apply()
    assert version is not None
    assert sum(calls) == len(range(202, 300, 2))
    assert rows(table, "id in (200, 202, 203)", "id", "score", "length", "name") == [
        {"id": 200, "score": None, "length": None, "name": None},
        {"id": 202, "score": 20.2, "length": 4, "name": "202"},
        {"id": 203, "score": None, "length": None, "name": None},
    ]

    @udf(pa.int64())
    def broken(text: Any) -> Any:
        return [1]

    with pytest.raises(TransformError, match="broken"):
        table.enrich({"broken": broken(table["text"])}).apply()
    assert table.snapshot().version == version.version


def test_what_cannot_be_an_enrichment(table: Table) -> None:
    with pytest.raises(SchemaError, match="no columns other than the key"):
        table.enrich(table[["id"]])
    with pytest.raises(ColumnNotFoundError, match="nothing"):
        table.enrich({"y": table["nothing"]})
    with pytest.raises(TypeMismatchError, match="'text'"):
        table.enrich({"text": table["x"]}).apply()
    assert table.enrich({"y": table["x"]}, where="id > 1000").apply() is None
    assert table.snapshot().version == 4
    assert "y" not in table.schema().names
    empty = Table.create("empty", key_schema={"id": pa.int64()})
    assert empty.enrich({"y": empty["id"]}).apply() is None
    with pytest.raises(FenceError):
        table.enrich({"y": table["x"]}).apply(fence=Fence("f", "1", "2"))
    assert table.enrich({"y": table["x"]}).apply(idempotency_key="once").version == 5  # type: ignore[union-attr]
    assert table.enrich({"y": table["x"]}).apply(idempotency_key="once").version == 5  # type: ignore[union-attr]


def test_columns_in_column_files_are_renamed_dropped_widened_and_restored(table: Table) -> None:
    table.enrich({"y": se.cast(table["id"], pa.int32()), "size": {"w": table["id"], "h": table["x"]}}).apply()
    photos = Dataset("photos")
    photos.rename_column("y", "year")
    photos.widen_column("year", pa.int64())
    assert rows(table, "year = 7", "id", "year") == [{"id": 7, "year": 7}]
    table.drop_columns(["size.h"])
    table.enrich({"size": {"d": table["size.w"] + 1}}, where="id < 8").apply()
    assert rows(table, "id in (7, 8)", "size") == [{"size": {"w": 7, "d": 8}}, {"size": {"w": 8, "d": None}}]
    assert Dataset("photos", version=5).filter("id = 7").to_arrow().to_pylist() == [
        {"id": 7, "x": 7.0, "text": "t7", "y": 7, "size": {"w": 7, "h": 7.0}}
    ]
    Dataset("photos", version=5).tag("enriched")
    table.drop_columns(["size", "year"])
    assert table.schema().names == stored().schema().column_names == ["id", "x", "text"]
    table.write({"id": [7], "text": ["changed"]})
    photos.restore("enriched")
    assert rows(table, "id = 7") == [{"id": 7, "x": 7.0, "text": "t7", "y": 7, "size": {"w": 7, "h": 7.0}}]
    photos.restore(4)
    assert table.schema().names == ["id", "x", "text"]
    assert len(rows(table)) == 300


def test_rows_that_another_engine_writes_anew_get_their_columns_by_key(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    table.delete_keys([20])
    stored().delete("id < 10 or id between 150 and 160")
    assert table.scan("id", "x").to_table().num_rows == 278
    assert table.scan("y", where="id >= 200").to_table().num_rows == 100
    with pytest.raises(UnsupportedError, match="written rows of 'photos' anew"):
        table.scan("y").to_table()
    foreign = table.snapshot().version
    table.write({"id": [5, 11], "x": [5.0, 11.5]})
    expected = [{"id": 5, "y": None}, {"id": 11, "y": 22.0}, {"id": 19, "y": 38.0}, {"id": 161, "y": 322.0}]
    assert rows(table, "id in (5, 11, 19, 20, 155, 161)", "id", "y") == expected
    older = Dataset("photos", version=foreign).filter("id in (11, 161)").sort("id").to_arrow()
    assert older["y"].to_pylist() == [22.0, 322.0]
    assert table.scan().to_table()["y"].null_count == 1
    table.write({"id": [300, 301], "x": [0.0, 0.0], "y": [1.0, 2.0]})  # in the rows, not in a column file
    stored().delete("id = 300")
    table.write({"id": [302], "x": [0.0]})
    assert rows(table, "id >= 300", "id", "y") == [{"id": 301, "y": 2.0}, {"id": 302, "y": None}]


def test_columns_that_another_engine_adds_right_after_a_restore(table: Table) -> None:
    photos = Dataset("photos")
    table.enrich({"y": table["x"] * 2}).apply()
    table.drop_columns(["y"])
    photos.restore(5)
    with stored().update_schema() as update:
        update.add_column("later", LongType())
    assert rows(table, "id = 7", "y", "later") == [{"y": 14.0, "later": None}]
    photos.restore(4)
    with stored().update_schema() as update:
        update.add_column("last", LongType())
    assert table.schema().names == ["id", "x", "text", "last"]
    table.write({"id": [7], "last": [5]})
    assert rows(table, "id = 7", "x", "last") == [{"x": 7.0, "last": 5}]


def test_tags_hold_column_files_while_another_engine_expires_snapshots(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    Dataset("photos", version=5).tag("first")
    table.enrich({"y": table["x"] * 3}).apply()
    table.write({"id": [7], "x": [0.0]})
    Dataset("photos", version=7).copy("copied")
    for name in ("photos", "copied"):
        expiry = stored(name).maintenance.expire_snapshots()
        expiry.older_than(dt.datetime.now() + dt.timedelta(days=1)).commit()
        assert Dataset(name, version="first").filter("id = 7").to_arrow()["y"].to_pylist() == [14.0]
    assert Dataset("photos", version="first").filter("id = 7").to_arrow()["y"].to_pylist() == [14.0]
    assert rows(table, "id in (7, 8)", "y") == [{"y": 21.0}, {"y": 24.0}]
    assert sorted(stored().refs()) == ["first", "lakefeed.columns", "lakefeed.columns.first", "main"]
    Dataset("photos").untag("first")
    assert sorted(stored().refs()) == ["lakefeed.columns", "main"]


def test_rows_keep_columns_where_versions_of_other_engines_have_expired(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("x", pa.float64())])
    for number in (1_000, 1_001):
        stored().append(pa.table({"id": [number], "x": [1.0]}, schema=schema))
    expected = rows(table, "id >= 0", "id", "y")
    newest = stored().current_snapshot()
    assert newest is not None
    assert newest.parent_snapshot_id is not None
    stored().maintenance.expire_snapshots().by_id(newest.parent_snapshot_id).commit()
    assert rows(table, "id >= 0", "id", "y") == expected
    table.enrich({"y": table["x"] * 3}, where="id = 1000").apply()
    assert rows(table, "id in (7, 1000)", "y") == [{"y": 14.0}, {"y": 3.0}]


def test_a_version_whose_column_files_have_expired_says_so_also_where_it_was_read_before(
    table: Table, home: Path
) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    photos = Dataset("photos", version=5)
    assert photos.filter("id = 7").to_arrow()["y"].to_pylist() == [14.0]
    expired = stored().refs()["lakefeed.columns"].snapshot_id
    table.enrich({"y": table["x"] * 3}).apply()
    stored().maintenance.expire_snapshots().by_id(expired).commit()
    for _ in range(2):
        with pytest.raises(VersionNotFoundError, match="expired the column files"):
            Dataset("photos", version=5).to_arrow()
        age(home)
        collect_garbage(False, dt.timedelta(0))
    with pytest.raises(VersionNotFoundError, match="expired the column files"):
        photos.to_arrow()
    assert rows(table, "id = 7", "y") == [{"y": 21.0}]


def test_a_version_of_another_engine_keeps_the_values_that_it_was_assigned_first(table: Table) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    stored().delete("id == 8")
    table.write({"id": [1_000], "x": [1.0]})
    table.enrich({"y": table["x"] * 5}).apply()
    assert Dataset("photos", version=6).filter("id in (7, 8, 9)").to_arrow()["y"].to_pylist() == [14.0, 18.0]
    assert rows(table, "id in (7, 9)", "y") == [{"y": 35.0}, {"y": 45.0}]


def test_columns_of_a_version_of_another_engine_are_no_nulls_once_its_parent_has_expired(table: Table) -> None:
    table.delete_keys([250])  # the rows of version 7 are counted in its files
    table.enrich({"y": table["x"] * 2}).apply()
    schema = pa.schema([pa.field("id", pa.int64(), nullable=False), pa.field("x", pa.float64())])
    stored().append(pa.table({"id": [1_000], "x": [1.0]}, schema=schema))
    expected = Dataset("photos", version=7).to_arrow()
    table.enrich({"y": table["x"] * 3}, where="id < 10").apply()
    assert Dataset("photos", version=7).to_arrow() == expected
    gone = [each.snapshot_id for each in stored().snapshots() if each.sequence_number <= 6]
    stored().maintenance.expire_snapshots().by_ids(gone).commit()
    with pytest.raises(VersionNotFoundError, match="expired the column files"):
        Dataset("photos", version=7).to_arrow()
    assert [(each.version, each.total_records) for each in Dataset("photos").list_versions()] == [(8, 300), (7, 300)]
    Dataset("photos").copy("copied")
    with pytest.raises(VersionNotFoundError, match="expired the column files"):
        Dataset("copied", version=7).to_arrow()
    assert rows(table, "id in (7, 10, 1000)", "y") == [{"y": 21.0}, {"y": 20.0}, {"y": None}]


def test_lakes_that_move_and_tables_that_are_dropped_take_column_files_along(
    table: Table, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    with table.txn() as txn:
        txn.writeback(table.scan("y", where="id < 2"))
        txn.write({"id": [0], "x": [5.0]})
    moved = home.rename(home.with_name("moved"))
    monkeypatch.setenv("LAKEFEED_HOME", str(moved))
    assert rows(Table("photos"), "id in (0, 299)", "id", "x", "y") == [
        {"id": 0, "x": 5.0, "y": 0.0},
        {"id": 299, "x": 299.0, "y": 598.0},
    ]
    Table("photos").enrich({"z": Table("photos")["y"] + 1}).apply()
    assert rows(Table("photos"), "id = 299", "z") == [{"z": 599.0}]
    connect().drop_table("photos")
    assert files(moved) == {"columns": [], "rows": []}


def test_garbage_collection_knows_column_files(table: Table, home: Path) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    table.enrich({"y": table["x"] * 3}, where="id < 100").apply()
    table.write({"id": [7], "x": [0.0]})
    before = files(home)
    (home / "warehouse").exists()
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    assert files(home) == before
    assert Dataset("photos", version=5).filter("id = 7").to_arrow()["y"].to_pylist() == [14.0]
    assert rows(table, "id = 7", "y") == [{"y": 21.0}]
    with pytest.raises(ZeroDivisionError):
        table.enrich({"z": failing(table["x"])}).apply()
    assert files(home) == before


@udf(pa.float64())
def failing(values: Any) -> Any:
    if values[0].as_py() >= 200:
        raise ZeroDivisionError
    return values


def test_bytes_that_an_enrichment_writes(table: Table, home: Path) -> None:
    table.enrich({"y": table["x"] * 2}).apply()
    assert all(path.stat().st_size < 8 * 100 + 64 * 1024 for path in files(home)["columns"])
    base, column = files(home)["rows"][0], None
    assert pq.read_metadata(base).num_row_groups == 3
    for column in files(home)["columns"]:
        groups = pq.read_metadata(column)
        assert [groups.row_group(n).num_rows for n in range(3)] == [40, 40, 20]


def test_tables_without_column_files_write_rows_again(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "40")
    table = Table.create("plain", key_schema={"id": pa.int64()}, column_files=False)
    for start in (0, 50):
        table.write({"id": list(range(start, start + 50)), "x": [1.0 * n for n in range(start, start + 50)]})
    table.delete_keys([3])
    snapshot = table.enrich({"y": table["x"] * 2}, where="id < 60").apply()
    assert snapshot is not None
    assert files(home)["columns"] == []
    assert stored("plain").schema().column_names == ["id", "x", "y"]
    seen = stored("plain").scan(row_filter="id in (3, 7, 59, 60)").to_arrow().sort_by("id")
    assert seen["y"].to_pylist() == [14.0, 118.0, None]
    assert rows(table, "id in (3, 7, 60)", "id", "y") == [{"id": 7, "y": 14.0}, {"id": 60, "y": None}]
    data = Dataset("plain")
    before = snapshot.version - 1
    assert (data.added_since(before).count(), data.removed_since(before).count()) == (0, 0)
    assert data.changes(before, keys="id").changed == 59
    told = {key for batch in touched_keys(Lake.current(), "plain", before) for key in batch.column("id").to_pylist()}
    assert told == set(range(60)) - {3}
    assert data.list_versions()[0].operation == "replace"
    table.enrich({"y": table["x"]}, where="id = 70").apply()
    assert stored("plain").scan(row_filter="id > 58").to_arrow()["y"].drop_null().to_pylist() == [118.0, 70.0]
    assert table.enrich({"z": table["x"]}, where="id > 500").apply() is None
    update_properties(Lake.current(), "plain", {}, ["lakefeed.column-files"])
    table.enrich({"z": table["x"] + 1}).apply()
    assert len(files(home)["columns"]) == 2
    update_properties(Lake.current(), "plain", {"lakefeed.column-files": "off"})
    table.enrich({"z": table["x"] + 2}, where="id >= 50").apply()
    assert rows(table, "id in (1, 70)", "z") == [{"z": 2.0}, {"z": 72.0}]


ENRICHER = """
import sys
from lakefeed import Table
table, me = Table("raced"), int(sys.argv[1])
for turn in range(int(sys.argv[2])):
    if me % 2:
        table.write({"id": [100 * me + turn], "x": [1.0 * turn]})
    else:
        table.enrich({f"by{me}": table["x"] + turn}).apply()
"""


@pytest.mark.live
def test_racing_enrichments_and_writes_lose_nothing(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__COMMIT__RETRIES", "1000")
    table = Table.create("raced", key_schema={"id": pa.int64()})
    table.write({"id": [0], "x": [0.5]})
    finish_all([Program(ENRICHER, number, 4) for number in range(4)])
    assert table.snapshot().version == 2 + 16
    result = table.scan().to_table().to_pydict()
    assert result["id"] == [0, *range(100, 104), *range(300, 304)]
    assert [result["by0"][0], result["by2"][0]] == [3.5, 3.5]
    for name in ("by0", "by2"):
        assert all(y is None or (y - x) in (0, 1, 2, 3) for x, y in zip(result["x"], result[name], strict=True))
