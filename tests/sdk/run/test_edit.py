"""Deleting, overwriting and upserting rows: which rows, which files, and what the input must be."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.catalog import Catalog

from lakefeed import Dataset, Fence
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_files import data_files
from lakefeed.errors import (
    ColumnNotFoundError,
    CommitConflictError,
    DatasetNotFoundError,
    DuplicateKeyError,
    ExpressionError,
    InvalidArgumentError,
    SchemaError,
    TypeMismatchError,
)
from lakefeed.formats.parquet_format import ParquetFile
from tests.sdk.catalog.types import EXACT, column
from tests.sdk.prepared_homes import PreparedHomes

TABLE = pa.table(
    {
        "id": pa.array(range(30), pa.int32()),
        "x": pa.array([None if n % 7 == 0 else n / 2 for n in range(30)]),
        "s": [f"s{n % 4}" for n in range(30)],
        "r": [{"a": n, "b": [n, None]} if n % 5 else None for n in range(30)],
    }
)


@pytest.fixture(params=["one file", "small row groups", "three files"])
def saved(request: pytest.FixtureRequest, prepared_homes: PreparedHomes, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a dataset that holds ``TABLE``."""
    if request.param == "small row groups":
        monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "4")
    parts = [TABLE] if request.param != "three files" else [TABLE.slice(start, 10) for start in (0, 10, 20)]

    def build() -> None:
        for part in parts:
            Dataset.from_arrow(part).save("t", column_types=None, if_exists="append")

    prepared_homes.enter(request.param, build, monkeypatch)
    return "t"


def rows() -> list[dict[str, Any]]:
    return Dataset("t").to_arrow().to_pylist()


def ids(dataset: Dataset | None = None) -> list[int]:
    return [int(value) for value in (dataset or Dataset("t")).to_arrow()["id"].to_pylist()]


def files() -> list[DataFileRef]:
    lake = Lake.current()
    return list(data_files(lake, lake.table("t")))


def parquet() -> set[Path]:
    return set(Lake.current().settings.home.rglob("*.parquet"))


def opened(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Every row group that is read from now on."""
    read: list[tuple[str, int]] = []
    honest = ParquetFile.read

    def spy(file: ParquetFile, group: int, *args: Any, **options: Any) -> Any:
        read.append((file.url, group))
        return honest(file, group, *args, **options)

    monkeypatch.setattr(ParquetFile, "read", spy)
    return read


# ------------------------------------------------------------------ delete_rows


@pytest.mark.parametrize(
    "predicate",
    ["id >= 5 and id < 12", "x is null", "s = 's1' or r.a > 25", "not (x < 3)", "id = 100", "id >= 0", "x != x"],
)
def test_deleted_rows_are_those_of_the_filter(saved: str, predicate: str) -> None:
    gone = ids(Dataset(saved).filter(predicate))
    expected = [row for row in TABLE.to_pylist() if row["id"] not in gone]
    after = Dataset(saved).delete_rows(predicate)
    assert after.to_arrow().to_pylist() == rows() == expected


def test_a_null_predicate_deletes_nothing(saved: str) -> None:
    version = Dataset(saved).version
    assert Dataset(saved).delete_rows("x < 0").version == version
    assert len(Dataset(saved)) == 30


def test_only_files_that_hold_a_row_are_written() -> None:
    Dataset.from_arrow(TABLE.slice(0, 10)).save("t", column_types=None)
    Dataset.from_arrow(TABLE.slice(10)).append_to("t")
    first, second = files()
    Dataset("t").delete_rows("id < 3 or s = 'nowhere'")
    assert files()[1] == second
    assert files()[0].path != first.path
    assert len(parquet()) == 3
    Dataset("t").delete_rows("id = 12")
    assert files()[1].path == second.path
    assert len(parquet()) == 4


def test_only_row_groups_that_may_match_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "5")
    Dataset.from_arrow(TABLE.slice(0, 10)).save("t", column_types=None)
    Dataset.from_arrow(TABLE.slice(10, 10)).append_to("t")
    read = opened(monkeypatch)
    _, second = files()
    Dataset("t").delete_rows("id = 12")
    # Looked at: one row group. Of a few rows only the positions are written.
    assert read == [(second.path, 0)]


def test_delete_rows_acts_on_the_newest_rows(saved: str) -> None:
    pinned = Dataset(saved, version=1)
    before = ids(pinned)
    assert pinned.delete_rows("id < 28").version == Dataset(saved).version
    assert ids() == [28, 29]
    assert ids(pinned) == before


@pytest.mark.parametrize(
    ("predicate", "error"),
    [
        ("nope = 1", ColumnNotFoundError),
        ("id =", ExpressionError),
        ("id", ExpressionError),
        (None, InvalidArgumentError),
    ],
)
def test_mistakes_in_predicates(saved: str, predicate: Any, error: type[Exception]) -> None:
    before, version = parquet(), Dataset(saved).version
    with pytest.raises(error):
        Dataset(saved).delete_rows(predicate)
    assert (parquet(), Dataset(saved).version) == (before, version)


def test_deleting_from_nothing() -> None:
    with pytest.raises(DatasetNotFoundError):
        Dataset("nowhere").delete_rows("x = 1")
    with pytest.raises(DatasetNotFoundError):
        Dataset.from_dict({"id": [1]}).overwrite("nowhere")
    with pytest.raises(DatasetNotFoundError):
        Dataset.from_dict({"id": [1]}).upsert_into("nowhere", keys="id")


# ------------------------------------------------------------------ overwrite


def test_overwritten_rows(saved: str) -> None:
    version = Dataset(saved).version
    new = Dataset.from_arrow(TABLE.slice(5, 3)).overwrite(saved)
    assert new.version == version + 1
    assert rows() == new.to_arrow().to_pylist() == TABLE.slice(5, 3).to_pylist()


def test_overwrite_with_nothing(saved: str) -> None:
    assert Dataset.from_arrow(TABLE.slice(0, 0)).overwrite(saved).count() == 0
    assert Dataset(saved).schema.names == TABLE.column_names


def test_overwrite_by_what_is_made_of_the_rows(saved: str) -> None:
    Dataset(saved).filter("id >= 10").sql("SELECT * FROM data ORDER BY id DESC").overwrite(saved)
    assert ids() == list(range(29, 9, -1))


def test_rows_that_came_after_reading_are_not_taken(saved: str) -> None:
    made = Dataset(saved).filter("id < 3")
    Dataset.from_arrow(TABLE.slice(0, 1)).append_to(saved)
    before = parquet()
    with pytest.raises(CommitConflictError, match="read from 't' itself, which has moved on to version"):
        made.overwrite(saved)
    assert len(Dataset(saved)) == 31
    assert parquet() == before


def test_overwrite_checks_columns_first(saved: str) -> None:
    before = parquet()
    with pytest.raises(ColumnNotFoundError, match="'y'"):
        Dataset.from_dict({"y": [1]}).overwrite(saved)
    with pytest.raises(TypeMismatchError, match="'id'"):
        Dataset.from_dict({"id": ["one"]}).overwrite(saved)
    assert parquet() == before


def test_overwrite_that_breaks_leaves_nothing(saved: str) -> None:
    def broken() -> Any:
        yield from TABLE.to_batches(max_chunksize=4)
        raise RuntimeError("the input broke")

    before = parquet()
    with pytest.raises(RuntimeError, match="the input broke"):
        Dataset.from_batches(broken, schema=TABLE.schema).overwrite(saved)
    assert (len(Dataset(saved)), parquet()) == (30, before)


# ------------------------------------------------------------------ upsert_into


def test_upserted_rows(saved: str) -> None:
    version = Dataset(saved).version
    given = pa.table(
        {"id": pa.array([100, 3, 28], pa.int32()), "x": [1.0, None, 2.0], "s": ["new", "three", None], "r": [None] * 3},
        schema=TABLE.schema,
    )
    after = Dataset.from_arrow(given).upsert_into(saved, keys="id")
    assert after.version == version + 1
    assert rows() == [row for row in TABLE.to_pylist() if row["id"] not in (3, 28)] + given.to_pylist()
    told = after.list_versions()[0]
    assert (told.added_records, told.deleted_records, told.total_records) == (3, 2, 31)


def test_rows_that_change_nothing_make_no_version(saved: str) -> None:
    before, version = parquet(), Dataset(saved).version
    assert Dataset.from_arrow(TABLE.slice(3, 20)).upsert_into(saved, keys="id").version == version
    assert parquet() == before


def test_of_many_rows_only_the_changed_ones_move(saved: str) -> None:
    changed = TABLE.set_column(2, "s", pa.array(["other" if n in (4, 17) else f"s{n % 4}" for n in range(30)]))
    Dataset.from_arrow(changed).upsert_into(saved, keys="id")
    assert ids() == [n for n in range(30) if n not in (4, 17)] + [4, 17]
    assert Dataset(saved).list_versions()[0].added_records == 2


def test_columns_that_the_rows_lack_keep_their_value(saved: str) -> None:
    Dataset.from_dict({"id": pa.array([2, 50, 12], pa.int32()), "s": ["two", "fifty", "twelve"]}).upsert_into(
        saved, keys=["id"]
    )
    was = {row["id"]: row for row in TABLE.to_pylist()}
    assert rows()[-3:] == [
        was[2] | {"s": "two"},
        {"id": 50, "x": None, "s": "fifty", "r": None},
        was[12] | {"s": "twelve"},
    ]
    assert len(Dataset(saved)) == 31


def test_several_keys(saved: str) -> None:
    given = Dataset.from_dict({"id": pa.array([1, 1], pa.int32()), "s": ["s1", "s2"], "x": [9.0, 8.0]})
    given.upsert_into(saved, keys=("id", "s"))
    assert [(row["id"], row["s"], row["x"]) for row in rows() if row["id"] == 1] == [(1, "s1", 9.0), (1, "s2", 8.0)]


def test_rows_of_one_key_in_the_dataset_all_give_way() -> None:
    Dataset.from_dict({"id": [1, 2, 1], "x": [1, 2, 3]}).save("t")
    Dataset.from_dict({"id": [1], "x": [3]}).upsert_into("t", keys="id")
    assert [tuple(row.values()) for row in rows()] == [(2, 2), (1, 3)]


def test_an_upsert_into_nothing() -> None:
    Dataset.from_arrow(TABLE.slice(0, 0)).save("t", column_types=None)
    Dataset.from_arrow(TABLE).upsert_into("t", keys="id")
    assert rows() == TABLE.to_pylist()
    assert Dataset.from_arrow(TABLE.slice(0, 0)).upsert_into("t", keys="id").version == 2


def test_keys_given_twice_are_shown(saved: str) -> None:
    before = parquet()
    given = Dataset.from_dict({"id": pa.array([7, 1, 7, 1, 2], pa.int32())})
    with pytest.raises(DuplicateKeyError, match=r"more than once: \{'id': 7\}, \{'id': 1\}\. .*keep one row of each"):
        given.upsert_into(saved, keys="id")
    assert parquet() == before


def test_keys_that_are_null(saved: str) -> None:
    with pytest.raises(SchemaError, match="key column 'id' is null in row 1"):
        Dataset.from_dict({"id": pa.array([1, None], pa.int32())}).upsert_into(saved, keys="id")


@pytest.mark.parametrize(
    ("keys", "error", "message"),
    [
        ("nope", ColumnNotFoundError, "'nope' in the rows to upsert"),
        ([], InvalidArgumentError, "keys"),
        (["id", "id"], InvalidArgumentError, "different"),
        ("x", TypeMismatchError, "cannot be a key"),
        ("r", TypeMismatchError, "cannot be a key"),
        (3, InvalidArgumentError, "keys must be"),
    ],
)
def test_columns_that_cannot_be_keys(saved: str, keys: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        Dataset.from_arrow(TABLE).upsert_into(saved, keys=keys)


def test_an_upsert_reads_only_what_may_match(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "5")
    Dataset.from_arrow(TABLE.slice(0, 15)).save("t", column_types=None)
    Dataset.from_arrow(TABLE.slice(15)).append_to("t")
    read = opened(monkeypatch)
    first, _ = files()
    Dataset.from_dict({"id": pa.array([7], pa.int32()), "s": ["seven"]}).upsert_into("t", keys="id")
    assert {url for url, _ in read} == {first.path}
    assert read[0] == (first.path, 1)


KEYS = [name for name, (kind, _) in EXACT.items() if not (pa.types.is_nested(kind) or pa.types.is_floating(kind))]


def every_type(turned: int) -> pa.RecordBatch:
    """Three rows a type, which have null in the columns of the others: two values and null, turned by so many rows."""
    columns = {"id": pa.array(range(3 * len(EXACT)))}
    for place, (name, (kind, values)) in enumerate(EXACT.items()):
        own = [values[0], values[-1], None]
        own = own[turned:] + own[:turned]
        cells = [None] * 3 * place + own + [None] * 3 * (len(EXACT) - place - 1)
        columns[name] = column(kind, cells).slice(0, len(cells))
    return pa.record_batch(columns)


def test_values_of_every_type_are_compared() -> None:
    batch, turned = every_type(0), every_type(1)
    Dataset.from_arrow(batch).save("t", column_types=None)
    assert Dataset.from_arrow(batch).upsert_into("t", keys="id").version == 1
    assert Dataset.from_arrow(turned).upsert_into("t", keys="id").version == 2
    found = sorted(rows(), key=lambda row: int(row["id"]))
    assert [name for name in EXACT if [row[name] for row in found] != turned[name].to_pylist()] == []
    places = {row["id"] // 3 for row in Dataset("t").added_since(1).rows()}
    assert [name for place, name in enumerate(EXACT) if place not in places] == []
    added, changed = Dataset("t").added_since(1).count(), Dataset("t").changes(1, 2, keys="id")
    assert added >= 2 * len(EXACT)
    assert (changed.added, changed.removed, changed.changed) == (0, 0, added)


@pytest.mark.live
def test_keys_of_every_type() -> None:
    for number, name in enumerate(sorted(KEYS)):
        keys, table = column(*EXACT[name]).slice(0, 2), f"t{number}"
        distinct = len({str(key) for key in keys.to_pylist()}) == 2
        Dataset.from_arrow(pa.record_batch({"k": keys.slice(0, 1), "x": [1]})).save(table, column_types=None)
        upserted = Dataset.from_arrow(pa.record_batch({"k": keys, "x": [10, 20]}))
        if distinct:
            upserted.upsert_into(table, keys="k")
            assert Dataset(table).to_arrow()["x"].to_pylist() == [10, 20], name
        else:
            with pytest.raises(DuplicateKeyError):
                upserted.upsert_into(table, keys="k")


def test_an_upsert_of_more_keys_than_a_filter_takes() -> None:
    Dataset.from_dict({"id": list(range(5000)), "x": [0] * 5000}).save("t")
    Dataset.from_dict({"id": list(range(2500, 7500)), "x": [n % 2 for n in range(5000)]}).upsert_into("t", keys="id")
    assert len(Dataset("t")) == 7500
    assert sum(Dataset("t").to_arrow()["x"].to_pylist()) == 2500
    assert Dataset("t").list_versions()[0].added_records == 1250 + 2500


# ------------------------------------------------------------------ others at the same time


def rival(act: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another writer acts just before the next commit."""
    kind = type(Lake.current().catalog)
    honest = kind.commit_table

    def commit(catalog: Catalog, *args: Any) -> Any:
        monkeypatch.setattr(kind, "commit_table", honest)
        act()
        return honest(catalog, *args)

    monkeypatch.setattr(kind, "commit_table", commit)


def test_two_upserts_of_one_new_key_make_one_row(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    new = Dataset.from_dict({"id": pa.array([99, 5], pa.int32()), "s": ["mine", "five"]})
    other = Dataset.from_dict({"id": pa.array([99, 6], pa.int32()), "s": ["theirs", "six"], "x": [7.0, 8.0]})
    rival(lambda: other.upsert_into(saved, keys="id"), monkeypatch)
    new.upsert_into(saved, keys="id")
    assert [(row["id"], row["s"], row["x"]) for row in rows() if row["id"] in (5, 6, 99)] == [
        (6, "six", 8.0),
        (99, "mine", 7.0),
        (5, "five", 2.5),
    ]
    assert len(Dataset(saved)) == 31


def test_rows_appended_while_deleting(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rival(lambda: Dataset.from_arrow(TABLE.slice(0, 12)).append_to(saved), monkeypatch)
    Dataset(saved).delete_rows("id < 10")
    assert ids() == [*range(10, 30), 10, 11]


def test_rows_appended_while_overwriting_are_replaced(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    rival(lambda: Dataset.from_arrow(TABLE.slice(0, 12)).append_to(saved), monkeypatch)
    Dataset.from_arrow(TABLE.slice(0, 2)).overwrite(saved)
    assert ids() == [0, 1]


def test_a_column_dropped_meanwhile(saved: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def act() -> None:
        Dataset(saved).drop_column("s")
        Dataset.from_dict({"id": pa.array([3], pa.int32())}).append_to(saved)

    rival(act, monkeypatch)
    with pytest.raises(ColumnNotFoundError, match="'s'"):
        Dataset(saved).delete_rows("s = 's1'")
    assert len(Dataset(saved)) == 31


def test_an_edit_lands_once_under_its_key(saved: str) -> None:
    new = Dataset.from_dict({"id": pa.array([3], pa.int32()), "s": ["three"]})
    first = new.upsert_into(saved, keys="id", idempotency_key="k")
    Dataset(saved).delete_rows("id = 3")
    assert new.upsert_into(saved, keys="id", idempotency_key="k").version == first.version
    assert 3 not in ids()


def test_edits_pass_fences(saved: str) -> None:
    Dataset(saved).delete_rows("id = 3", fence=Fence("f", None, "1"))
    assert Dataset(saved).restore(1, fence=Fence("f", "1", "2")).version == Dataset(saved).version


def test_edits_keep_nothing_of_a_key_of_dates() -> None:
    days = [dt.date(2026, 1, day) for day in (1, 2, 3)]
    Dataset.from_dict({"day": days, "x": [1, 2, 3]}).save("t")
    Dataset.from_dict({"day": days[1:2], "x": [20]}).upsert_into("t", keys="day")
    Dataset("t").delete_rows("day = date '2026-01-01'")
    assert Dataset("t").to_arrow()["x"].to_pylist() == [3, 20]
