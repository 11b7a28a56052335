"""Position deletes of other engines are read as the specification says, also on keyed tables and by compactions."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table import Table as IcebergTable
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import LongType, NestedField, StringType

from lakefeed import Dataset, Table
from lakefeed.catalog import Lake
from lakefeed.errors import UnsupportedError
from tests.sdk.foreign_deletes import Deletes, commit_deletes


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        catalog.create_namespace_if_not_exists("default")
        yield catalog


def theirs(table: IcebergTable) -> list[int]:
    return sorted(table.scan().to_arrow()["id"].to_pylist())


def ours(name: str = "t", version: int | None = None) -> list[int]:
    return sorted(Dataset(name, version=version).to_arrow()["id"].to_pylist())


def paths_of(table: IcebergTable) -> list[str]:
    """The data files, oldest first."""
    tasks = sorted(table.scan().plan_files(), key=lambda task: int.from_bytes(task.file.lower_bounds[1], "little"))
    return [task.file.file_path for task in tasks]


def append(table: IcebergTable, first: int, rows: int = 10, **columns: str) -> None:
    ids = pa.array(range(first, first + rows), pa.int64())
    table.append(pa.table({"id": ids, **{name: [value] * rows for name, value in columns.items()}}))


def test_deletes_of_several_files_in_every_form(plain: SqlCatalog, tmp_path: Path) -> None:
    table = plain.create_table("default.t", Schema(NestedField(1, "id", LongType(), required=False)))
    for first in (0, 10, 20):
        append(table, first)
    first, second, third = paths_of(table)
    left = set(range(30))
    cases = [
        (Deletes([(first, 3), (first, 4), (second, 0)]), {3, 4, 10}),
        (Deletes([(third, 9), (first, 5)]), {29, 5}),  # not in order
        (Deletes([(second, 1), (second, 1), (second, 0)]), {11}),  # twice in a file, and again
        (Deletes([(first, 9)], bounds="none"), {9}),
        (Deletes([(first, 8), (third, 0)], bounds="truncated"), {8, 20}),
        (Deletes([(f"{tmp_path}/elsewhere.parquet", 2), (third, 1)]), {21}),  # a file that the table lacks
    ]
    for version, (given, gone) in enumerate(cases, 4):
        commit_deletes(table, tmp_path, given)
        left -= gone
        assert ours() == theirs(table) == sorted(left)
        assert len(Dataset("t")) == len(left)
        assert sorted(Dataset("t").removed_since(version - 1).to_arrow()["id"].to_pylist()) == sorted(gone)
        assert Dataset("t").added_since(version - 1).count() == 0
    assert Dataset("t").filter("id < 9").count() == len([each for each in left if each < 9])
    assert sorted(Dataset("t").shuffle(seed=1).to_arrow()["id"].to_pylist()) == sorted(left)
    assert sorted(Dataset("t").delete_rows("id == 0").to_arrow()["id"].to_pylist()) == sorted(left - {0})
    assert theirs(table.refresh()) == sorted(left - {0})


def test_deletes_hold_for_rows_that_are_not_newer(plain: SqlCatalog, tmp_path: Path) -> None:
    table = plain.create_table("default.t", Schema(NestedField(1, "id", LongType(), required=False)))
    append(table, 0)  # sequence number 1
    append(table, 10)  # 2
    first, second = paths_of(table)
    # Of an entry that another engine moved into a later manifest, the number stays.
    commit_deletes(table, tmp_path, Deletes([(first, 0), (second, 0)], sequence=1))
    assert ours() == list(range(1, 20))
    commit_deletes(table, tmp_path, Deletes([(first, 1), (second, 1)], sequence=2))
    assert ours() == [*range(2, 11), *range(12, 20)]
    assert theirs(table) == [*range(2, 10), *range(12, 20)]  # PyIceberg looks at the path alone


def test_deletes_of_partitions(plain: SqlCatalog, tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "id", LongType(), required=False), NestedField(2, "p", StringType(), required=False))
    spec = PartitionSpec(PartitionField(source_id=2, field_id=1000, transform=IdentityTransform(), name="p"))
    table = plain.create_table("default.t", schema, partition_spec=spec)
    append(table, 0, p="a")
    append(table, 10, p="b")
    first, second = paths_of(table)
    commit_deletes(
        table, tmp_path, Deletes([(first, 1)], partition=("a",)), Deletes([(second, 2)], ("b",), bounds="none")
    )
    left = [each for each in range(20) if each not in (1, 12)]
    assert ours() == theirs(table) == left
    assert Dataset("t").filter("p == 'b'").count() == 9
    assert ours(version=2) == list(range(20))


def test_keyed_tables_read_write_and_compact_with_foreign_deletes(plain: SqlCatalog, tmp_path: Path) -> None:
    keyed = Table.create("t", key_schema={"id": pa.int64()})
    keyed.write({"id": list(range(10)), "x": list(range(10))})
    keyed.write({"id": [3, 20], "x": [-3, 20]})
    table = plain.load_table("default.t")
    large, small = sorted((task.file for task in table.scan().plan_files()), key=lambda file: -file.record_count)
    commit_deletes(table, tmp_path, Deletes([(large.file_path, 9), (small.file_path, 0)], bounds="none"))
    assert keyed.scan("id").to_table()["id"].to_pylist() == [0, 1, 2, 4, 5, 6, 7, 8, 20]
    assert keyed.scan().to_table(key_table=pa.table({"id": [9, 3, 4]}))["x"].to_pylist() == [4]
    keyed.write({"id": [9, 4], "x": [99, 44]})
    expected = {0: 0, 1: 1, 2: 2, 4: 44, 5: 5, 6: 6, 7: 7, 8: 8, 9: 99, 20: 20}
    for _ in range(2):
        rows = keyed.scan().to_table().to_pydict()
        assert dict(zip(rows["id"], rows["x"], strict=True)) == expected
        keyed.compact()
    assert theirs(table.refresh()) == sorted(expected)
    # A delete of rows of old files does not hold for the rows that a compaction moved.
    commit_deletes(table, tmp_path, Deletes([(large.file_path, 0)]))
    assert ours() == sorted(expected)


def test_equality_deletes_are_a_typed_error(plain: SqlCatalog, tmp_path: Path) -> None:
    keyed = Table.create("t", key_schema={"id": pa.int64()})
    keyed.write({"id": [1, 2, 3]})
    table = plain.load_table("default.t")
    commit_deletes(table, tmp_path, Deletes(equality=pa.table({"id": [2]})))
    for use in (lambda: ours(), lambda: keyed.scan().to_table(), lambda: keyed.write({"id": [9]}), keyed.compact):
        with pytest.raises(UnsupportedError, match="equality deletes"):
            use()
    assert keyed.scan(asof=2).to_table()["id"].to_pylist() == [1, 2, 3]
