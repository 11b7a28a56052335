"""Others use the same tables: plain PyIceberg reads what we commit, and we go on from what it commits."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import ManifestContent, ManifestFile
from pyiceberg.table import Table
from pyiceberg.types import LongType, StringType

from lakefeed.catalog import Lake, added_rows, append, create, data_files, declared_schema, list_versions

SCHEMA = pa.schema([("x", pa.int64()), ("s", pa.string())])


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


def table_of(*values: int) -> pa.Table:
    return pa.table({"x": pa.array(values), "s": pa.array([f"s{value}" for value in values], pa.string())})


def add(lake: Lake, *values: int) -> None:
    append(lake, "t", table_of(*values).to_batches(), schema=SCHEMA)


def summary(table: Table) -> dict[str, str]:
    return dict(table.metadata.current_snapshot().summary.additional_properties)


def test_plain_pyiceberg_reads_ours(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", SCHEMA, table_of(1, 2).to_batches())
    add(lake, 3)
    rows = plain.load_table("default.t").scan().to_arrow().sort_by("x")
    assert rows.cast(SCHEMA).equals(table_of(1, 2, 3))


def test_totals_are_right(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", SCHEMA, table_of(1, 2).to_batches())
    add(lake, 3)
    table = plain.load_table("default.t")
    sizes = [file.size for file in data_files(lake, lake.table("t"))]
    facts = summary(table)
    assert {key: facts[key] for key in facts if not key.startswith("lakefeed.")} == {
        "added-data-files": "1",
        "added-files-size": str(sizes[1]),
        "added-records": "1",
        "total-data-files": "2",
        "total-delete-files": "0",
        "total-equality-deletes": "0",
        "total-files-size": str(sum(sizes)),
        "total-position-deletes": "0",
        "total-records": "3",
    }
    assert table.inspect.snapshots()["operation"].to_pylist() == ["append", "append"]


def test_pyiceberg_commits_in_between(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", SCHEMA, table_of(1).to_batches())
    theirs = plain.load_table("default.t")
    theirs.append(table_of(2))
    add(lake, 3)
    theirs.refresh()
    theirs.append(table_of(4))
    theirs.delete("x = 2")
    add(lake, 5)
    rows = plain.load_table("default.t").scan().to_arrow()
    assert sorted(rows["x"].to_pylist()) == [1, 3, 4, 5]
    assert summary(plain.load_table("default.t"))["total-records"] == "4"
    assert [version.version for version in list_versions(lake.table("t"))] == [6, 5, 4, 3, 2, 1]
    assert [file.sequence for file in data_files(lake, lake.table("t"))] == [1, 3, 4, 6]


def test_pyiceberg_that_commits_on_an_old_view_tries_again(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", SCHEMA, table_of(1).to_batches())
    theirs = plain.load_table("default.t")
    add(lake, 2)
    theirs.append(table_of(3))
    assert sorted(lake.table("t").scan().to_arrow()["x"].to_pylist()) == [1, 2, 3]


def test_a_table_that_pyiceberg_made(lake: Lake, plain: SqlCatalog) -> None:
    theirs = plain.create_table("default.t", SCHEMA)
    theirs.append(table_of(1))
    assert declared_schema(lake.table("t")) == SCHEMA
    add(lake, 2)
    assert sum(file.rows for delta in added_rows(lake.table("t")) for file in delta.files) == 2
    assert plain.load_table("default.t").scan().to_arrow().num_rows == 2
    lake.drop("t")
    assert not plain.table_exists("default.t")


def test_an_empty_table_that_pyiceberg_made(lake: Lake, plain: SqlCatalog) -> None:
    plain.create_table("default.t", SCHEMA)
    assert append(lake, "t", [], schema=SCHEMA).version == 1


def test_a_column_that_pyiceberg_added(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", pa.schema([("x", pa.uint8())]), [pa.record_batch({"x": pa.array([1], pa.uint8())})])
    first = list_versions(lake.table("t"))[0]
    with plain.load_table("default.t").update_schema() as update:
        update.add_column("s", StringType())
    with plain.load_table("default.t").update_schema() as update:
        update.rename_column("x", "y")
    batch = pa.record_batch({"y": pa.array([2], pa.uint8()), "s": ["two"]})
    append(lake, "t", [batch], schema=batch.schema)
    assert declared_schema(lake.table("t")) == pa.schema([("y", pa.uint8()), ("s", pa.string())])
    assert declared_schema(lake.table("t"), first.snapshot_id) == pa.schema([("x", pa.uint8())])
    assert plain.load_table("default.t").scan().to_arrow().sort_by("y").to_pydict() == {"y": [1, 2], "s": [None, "two"]}


def test_a_column_that_pyiceberg_widened_is_what_it_says(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", pa.schema([("x", pa.uint8())]), [])
    with plain.load_table("default.t").update_schema() as update:
        update.update_column("x", field_type=LongType())
    assert declared_schema(lake.table("t")).field("x").type == pa.int64()


@pytest.mark.live
def test_many_commits_stay_readable_for_pyiceberg(lake: Lake, plain: SqlCatalog) -> None:
    create(lake, "t", SCHEMA, [])
    for value in range(70):
        add(lake, value)
    table = plain.load_table("default.t")
    assert sorted(table.scan().to_arrow()["x"].to_pylist()) == list(range(70))
    assert table.scan(row_filter="x = 5").to_arrow()["s"].to_pylist() == ["s5"]
    entries = table.inspect.entries()
    assert sorted(entries["sequence_number"].to_pylist()) == list(range(2, 72))
    assert sum(manifest.added_rows_count for manifest in table.metadata.current_snapshot().manifests(table.io)) < 70


def test_deleted_rows_are_told(lake: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    create(lake, "t", SCHEMA, table_of(1).to_batches())
    add(lake, 2)
    # PyIceberg writes no delete files: let the second manifest pass for one that others wrote.
    content = property(lambda m: ManifestContent.DELETES if m.sequence_number == 2 else ManifestContent.DATA)
    monkeypatch.setattr(ManifestFile, "content", content)
    (file,) = data_files(lake, lake.table("t"))
    assert file.has_deletes
