"""Tables that other programs wrote are read as PyIceberg reads them, and writes to them lose nothing."""

from __future__ import annotations

import datetime as dt
import pickle
import uuid
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.manifest import (
    DataFileContent,
    ManifestContent,
    ManifestEntry,
    ManifestEntryStatus,
    ManifestWriterV2,
    write_manifest_list,
)
from pyiceberg.partitioning import PartitionField, PartitionSpec
from pyiceberg.schema import Schema
from pyiceberg.table.snapshots import Operation, Snapshot, Summary
from pyiceberg.table.update import AddSchemaUpdate, AddSnapshotUpdate, SetCurrentSchemaUpdate, SetSnapshotRefUpdate
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FixedType,
    FloatType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
    UUIDType,
)

from lakefeed import Dataset
from lakefeed.catalog import Lake, data_files
from lakefeed.errors import CommitConflictError, UnsupportedError, VersionNotFoundError
from tests.sdk.two_writers import NAME, add_file, add_partition, described, in_order, ours, theirs


@pytest.fixture
def plain(lake: Lake) -> Iterator[SqlCatalog]:
    """PyIceberg's own catalog on the same database."""
    lake.names()
    with SqlCatalog("lakefeed", uri=lake.settings.catalog_uri, warehouse=lake.settings.warehouse) as catalog:
        yield catalog


# ------------------------------------------------------------------------------------------ files without field ids


def test_columns_of_files_without_ids_are_found_by_the_name_mapping(plain: SqlCatalog, tmp_path: Path) -> None:
    rows = pa.table(
        {
            "x": [1, 2],
            "s": [{"a": 1, "b": "p"}, None],
            "l": [[{"a": 3}], []],
            "m": pa.array([[("k", {"a": 4})], []], pa.map_(pa.string(), pa.struct([("a", pa.int64())]))),
        }
    )
    table = plain.create_table(NAME, rows.schema)
    add_file(table, tmp_path, rows)
    first = ours(version=1)
    with table.update_schema() as update:
        update.rename_column("x", "y")
        update.rename_column(("s", "a"), "c")
        update.move_first(("s", "b"))
        update.add_column(("s", "d"), LongType())
        update.rename_column(("l", "element", "a"), "e")
        update.rename_column(("m", "value", "a"), "f")
    Dataset("t").rename_column("l", "k")
    assert ours() == theirs(plain)
    assert ours()[0]["y"] == 1
    assert {"b": "p", "c": 1, "d": None} in [row["s"] for row in ours()]
    assert ours(version=1) == first
    assert Dataset("t").filter("s.c == 1").select(["y"]).to_arrow().to_pylist() == [{"y": 1}]
    assert Dataset("t").filter("s.c is null").count() == 1
    Dataset("t").delete_rows("y == 2")
    assert ours() == theirs(plain)
    assert [row["m"] for row in ours()] == [[("k", {"f": 4})]]
    Dataset.from_dict({"y": [1]}).upsert_into("t", keys=["y"])
    assert ours() == theirs(plain)
    assert ours()[0]["k"] == [{"e": 3}]


def test_a_column_that_is_dropped_and_added_again_has_no_old_values(plain: SqlCatalog, tmp_path: Path) -> None:
    table = plain.create_table(NAME, pa.schema([("x", pa.int64()), ("y", pa.string())]))
    add_file(table, tmp_path, pa.table({"x": [1, 2], "y": ["a", "b"]}))
    Dataset("t").drop_column("y")
    Dataset("t").add_column("y", pa.string())
    assert ours() == theirs(plain) == [{"x": 1, "y": None}, {"x": 2, "y": None}]
    assert ours(version=1) == [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]
    Dataset("t").add_column("z", pa.int64())
    add_file(table, tmp_path, pa.table({"x": [3], "z": [5]}))
    Dataset.from_dict({"x": [1], "y": ["new"]}).upsert_into("t", keys=["x"])
    assert ours() == theirs(plain)
    assert {"x": 1, "y": "new", "z": None} in ours()
    assert {"x": 3, "y": None, "z": 5} in ours()


def test_files_without_ids_and_without_a_mapping_go_by_every_name_of_a_column(
    plain: SqlCatalog, tmp_path: Path
) -> None:
    table = plain.create_table(NAME, pa.schema([("x", pa.int64()), ("s", pa.struct([("a", pa.int64())]))]))
    add_file(table, tmp_path, pa.table({"x": [1], "s": [{"a": 2}], "more": [None]}).select(["x", "s"]))
    with table.refresh().transaction() as transaction:
        transaction.remove_properties("schema.name-mapping.default")
    with table.update_schema() as update:
        update.rename_column("x", "y")
        update.rename_column(("s", "a"), "b")
    assert ours() == [{"y": 1, "s": {"b": 2}}]


# ------------------------------------------------------------------------------------------ columns that files lack

PARTITIONED: list[tuple[str, Any, Any, Any]] = [
    ("text", StringType(), "eu", "eu"),
    ("int", IntegerType(), 7, 7),
    ("long", LongType(), 2**40, 2**40),
    ("bool", BooleanType(), True, True),
    ("float", FloatType(), 0.5, 0.5),
    ("date", DateType(), 19_000, dt.date(2022, 1, 8)),
    ("time", TimeType(), 3_600_000_000, dt.time(1)),
    ("timestamp", TimestampType(), 1_600_000_000_000_000, dt.datetime(2020, 9, 13, 12, 26, 40)),
    ("instant", TimestamptzType(), 1_600_000_000_000_000, dt.datetime(2020, 9, 13, 12, 26, 40, tzinfo=dt.UTC)),
    ("decimal", DecimalType(9, 2), Decimal("12.50"), Decimal("12.50")),
    ("uuid", UUIDType(), uuid.UUID(int=5), uuid.UUID(int=5)),
    ("binary", BinaryType(), b"ab", b"ab"),
    ("fixed", FixedType(3), b"abc", b"abc"),
]


def test_columns_of_the_partition_have_its_value(plain: SqlCatalog, tmp_path: Path) -> None:
    fields = [NestedField(2 + place, name, kind) for place, (name, kind, _, _) in enumerate(PARTITIONED)]
    spec = PartitionSpec(*(PartitionField(f.field_id, 1000 + f.field_id, IdentityTransform(), f.name) for f in fields))
    table = plain.create_table(NAME, Schema(NestedField(1, "x", LongType()), *fields), partition_spec=spec)
    add_partition(table, tmp_path, pa.table({"x": [1, 2]}), *(stored for _, _, stored, _ in PARTITIONED))
    add_partition(table, tmp_path, pa.table({"x": [3]}), *(None for _ in PARTITIONED))
    add_partition(table, tmp_path, pa.table({"x": [4], "text": ["own"]}), "us", *(None for _ in PARTITIONED[1:]))
    assert ours() == theirs(plain)
    (row,) = Dataset("t").filter("x == 1").to_arrow().to_pylist()
    assert row == {"x": 1, **{name: value for name, _, _, value in PARTITIONED}}
    expected = {"text == 'eu'": [1, 2], "int > 7": [], "date == '2022-01-08' and x > 1": [2], "text is null": [3]}
    for condition, found in expected.items():
        matching = Dataset("t").filter(condition)
        assert (matching.to_arrow()["x"].to_pylist(), matching.count()) == (found, len(found)), condition
        assert len(matching.select(["text"]).to_arrow()) == len(found), condition
    assert sorted(Dataset("t").cache().to_arrow()["int"].to_pylist(), key=str) == [7, 7, None, None]
    assert Dataset("t").added_since(2).to_arrow()["text"].to_pylist() == ["own"]
    assert Dataset("t").added_since(None, 1).to_arrow()["int"].to_pylist() == [7, 7]


def test_edits_keep_the_values_of_partitions(plain: SqlCatalog, tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "x", LongType()), NestedField(2, "region", StringType()))
    spec = PartitionSpec(PartitionField(2, 1000, IdentityTransform(), "region"))
    table = plain.create_table(NAME, schema, partition_spec=spec)
    add_partition(table, tmp_path, pa.table({"x": [1, 2]}), "eu")
    add_partition(table, tmp_path, pa.table({"x": [3, 4]}), "us")
    with table.update_spec() as update:
        update.remove_field("region")
    Dataset.from_dict({"x": [5], "region": ["new"]}).append_to("t")
    Dataset("t").delete_rows("x == 1")
    Dataset.from_dict({"x": [3], "region": ["moved"]}).upsert_into("t", keys=["x"])
    assert [tuple(row.values()) for row in ours()] == [(2, "eu"), (3, "moved"), (4, "us"), (5, "new")]
    assert ours() == theirs(plain)
    Dataset("t").restore(2)
    assert [tuple(row.values()) for row in ours()] == [(1, "eu"), (2, "eu"), (3, "us"), (4, "us")]
    Dataset("t").drop_column("region")
    Dataset("t").delete_rows("x == 4")
    assert ours() == theirs(plain) == [{"x": 1}, {"x": 2}, {"x": 3}]


def test_a_column_with_an_initial_default_has_it_in_older_files(plain: SqlCatalog, tmp_path: Path) -> None:
    schema = Schema(NestedField(1, "x", LongType()), NestedField(2, "s", StructType(NestedField(3, "a", LongType()))))
    table = plain.create_table(NAME, schema)
    table.append(pa.table({"x": [1], "s": [{"a": 2}]}))
    number = NestedField(5, "d", IntegerType(), required=True, initial_default=9, write_default=9)
    inner = StructType(NestedField(3, "a", LongType()), NestedField(6, "b", StringType(), initial_default="z"))
    evolved = Schema(schema.fields[0], number, NestedField(2, "s", inner), schema_id=1)
    plain.commit_table(table, (), (AddSchemaUpdate(schema_=evolved), SetCurrentSchemaUpdate(schema_id=-1)))
    assert ours() == theirs(plain) == [{"x": 1, "d": 9, "s": {"a": 2, "b": "z"}}]
    assert Dataset("t").filter("d == 9").select(["x"]).count() == 1


def test_types_that_were_widened_and_columns_in_another_order(plain: SqlCatalog, tmp_path: Path) -> None:
    inner = pa.struct([("i", pa.int32()), ("f", pa.float32())])
    rows = pa.table(
        {
            "i": pa.array([1, None], pa.int32()),
            "f": pa.array([0.1, 2.5], pa.float32()),
            "d": pa.array([Decimal("1.25"), None], pa.decimal128(5, 2)),
            "s": pa.array([{"i": 1, "f": 0.5}, None], inner),
            "l": pa.array([[1, None], None], pa.list_(pa.int32())),
        }
    )
    table = plain.create_table(NAME, rows.schema)
    table.append(rows)
    add_file(table, tmp_path, rows)
    with table.update_schema() as update:
        update.update_column("i", LongType())
        update.update_column("f", DoubleType())
        update.update_column("d", DecimalType(12, 2))
        update.update_column(("s", "i"), LongType())
        update.update_column(("s", "f"), DoubleType())
        update.update_column(("l", "element"), LongType())
        update.move_first("d")
        update.move_after(("s", "i"), ("s", "f"))
    assert ours() == theirs(plain)
    assert Dataset("t").schema.names == ["d", "i", "f", "s", "l"]
    assert Dataset("t").filter("i == 1 and d == 1.25 and s.i == 1").count() == 2
    Dataset("t").delete_rows("i is null")
    assert ours() == theirs(plain)


def test_timestamps_of_the_old_type_keep_their_century(plain: SqlCatalog, tmp_path: Path) -> None:
    times = [dt.datetime(1, 1, 1), dt.datetime(1600, 5, 5, 1, 2, 3, 456_789), dt.datetime(9999, 12, 31), None]
    rows = pa.table({"t": pa.array(times, pa.timestamp("us")), "l": [[time] for time in times], "x": [1, 2, 3, 4]})
    path = tmp_path / "old.parquet"
    pq.write_table(rows, path, use_deprecated_int96_timestamps=True)
    read = Dataset.from_file(str(path))
    assert read.schema.field("t").type == pa.timestamp("us")
    assert read.to_arrow().to_pylist() == rows.to_pylist()
    assert read.filter("t < '1700-01-01T00:00:00'").to_arrow()["x"].to_pylist() == [1, 2]
    table = plain.create_table(NAME, rows.schema)
    add_partition(table, tmp_path, rows, old_timestamps=True)
    Dataset.from_file(str(path)).append_to("t")
    assert ours() == in_order([*rows.to_pylist(), *rows.to_pylist()])
    with table.refresh().update_schema() as update:
        update.rename_column("t", "time")
    assert {row["time"] for row in ours()} == set(times)


# ------------------------------------------------------------------------------------------ delete files, no snapshot


class DeleteManifest(ManifestWriterV2):
    """PyIceberg reads delete files, but does not write them."""

    def content(self) -> ManifestContent:
        return ManifestContent.DELETES

    @property
    def _meta(self) -> dict[str, str]:
        return {**super()._meta, "content": "deletes"}


def delete_by_file(plain: SqlCatalog, folder: Path, rows: pa.Table, by: list[int] | None = None) -> None:
    """A commit of one delete file: of places in files, or of values of the columns ``by``."""
    table = plain.load_table(NAME)
    metadata, parent = table.metadata, table.current_snapshot()
    assert parent is not None
    content = DataFileContent.POSITION_DELETES if by is None else DataFileContent.EQUALITY_DELETES
    file = described(folder, rows, content=content, equality_ids=by)
    key, number = metadata.new_snapshot_id(), metadata.next_sequence_number()
    places = [table.io.new_output(f"{metadata.location}/metadata/{kind}-{key}.avro") for kind in ("deletes", "snap")]
    with DeleteManifest(metadata.spec(), metadata.schema(), places[0], key, "gzip") as manifest:
        manifest.add(ManifestEntry.from_args(status=ManifestEntryStatus.ADDED, data_file=file))
    with write_manifest_list(2, places[1], key, parent.snapshot_id, number, "gzip") as listed:
        listed.add_manifests([*parent.manifests(table.io), manifest.to_manifest_file()])
    snapshot = Snapshot(
        snapshot_id=key, parent_snapshot_id=parent.snapshot_id, manifest_list=places[1].location,
        sequence_number=number, summary=Summary(Operation.DELETE), schema_id=metadata.current_schema_id,
    )  # fmt: skip
    updates = (
        AddSnapshotUpdate(snapshot=snapshot),
        SetSnapshotRefUpdate(ref_name="main", type="branch", snapshot_id=key),  # type: ignore[call-arg]  # aliased
    )
    plain.commit_table(table, (), updates)


def test_rows_that_delete_files_name_are_not_read(plain: SqlCatalog, tmp_path: Path) -> None:
    table = plain.create_table(NAME, pa.schema([("x", pa.int64()), ("s", pa.string())]))
    table.append(pa.table({"x": range(6), "s": list("abcdef")}))
    (path,) = (task.file.file_path for task in table.scan().plan_files())
    add_file(table, tmp_path, pa.table({"x": [10, 11], "s": ["k", "l"]}))
    delete_by_file(plain, tmp_path, pa.table({"file_path": [path] * 3, "pos": [0, 3, 5]}))
    delete_by_file(plain, tmp_path, pa.table({"file_path": [path] * 2, "pos": [1, 3]}))
    with table.refresh().update_schema() as update:
        update.rename_column("s", "z")
    dataset = Dataset("t")
    assert ours() == theirs(plain)
    assert [row["x"] for row in dataset] == [2, 4, 10, 11]
    assert (len(dataset), dataset.filter("x > 3").count(), dataset.filter("x == 3").count()) == (4, 3, 0)
    assert dataset.filter("z == 'e'").select(["x"]).to_arrow().to_pylist() == [{"x": 4}]
    assert dataset.take([1, 2]).to_arrow()["x"].to_pylist() == [4, 10]
    assert sorted(row["x"] for row in dataset.shuffle(seed=1)) == [2, 4, 10, 11]
    assert dataset.cache().to_arrow()["x"].to_pylist() == [2, 4, 10, 11]
    assert Dataset("t", version=3).to_arrow()["x"].to_pylist() == [1, 2, 4, 10, 11]
    assert [row["x"] for row in dataset.delete_rows("x == 2")] == [4, 10, 11]
    assert ours() == theirs(plain)
    assert Dataset("t").removed_since(2).to_arrow()["x"].to_pylist() == [0, 3, 5, 1, 2]
    assert [version.total_records for version in Dataset("t").list_versions()] == [3, 4, 5, 8, 6]
    assert [version.net_records for version in Dataset("t").list_versions()] == [-1, -1, -3, 2, 6]
    restored = Dataset("t").restore(3)
    assert (ours(), len(restored), [row["x"] for row in restored]) == (theirs(plain), 5, [1, 2, 4, 10, 11])


def test_equality_deletes_are_refused_with_advice(plain: SqlCatalog, tmp_path: Path) -> None:
    table = plain.create_table(NAME, pa.schema([("x", pa.int64())]))
    table.append(pa.table({"x": [1, 2]}))
    delete_by_file(plain, tmp_path, pa.table({"x": [1]}), by=[1])
    for read in (lambda: Dataset("t").to_arrow(), lambda: len(Dataset("t")), lambda: next(iter(Dataset("t")))):
        with pytest.raises(UnsupportedError, match=r"version 2 of 't' has equality deletes .* Compact the table"):
            read()
    assert Dataset("t", version=1).to_arrow()["x"].to_pylist() == [1, 2]
    assert [version.version for version in Dataset("t").list_versions()] == [2, 1]


def test_a_table_that_was_never_written_has_no_rows(plain: SqlCatalog) -> None:
    plain.create_table(NAME, pa.schema([("x", pa.int64()), ("s", pa.string())]))
    dataset = Dataset("t")
    assert (len(dataset), dataset.to_arrow().num_rows, dataset.schema.names) == (0, 0, ["x", "s"])
    assert (dataset.list_versions(), dataset.metadata["snapshots"]) == ([], [])
    small = dataset.filter("x > 1").select(["s"])
    assert (small.count(), pickle.loads(pickle.dumps(small)).to_arrow().num_rows) == (0, 0)
    assert dataset.added_since().count() == dataset.cache().count() == dataset.shuffle(seed=1).count() == 0
    with pytest.raises(VersionNotFoundError, match="nothing was written"):
        _ = dataset.version
    Dataset.from_dict({"x": [5], "s": ["a"]}).append_to("t")
    assert (small.count(), Dataset("t").count(), Dataset("t").version) == (0, 1, 1)
    with pytest.raises(CommitConflictError):
        small.overwrite("t")


def test_files_under_hashed_paths_are_in_the_order_of_writing(lake: Lake) -> None:
    chunks = [pa.table({"x": [number]}) for number in range(8)]
    Dataset.from_arrow(chunks[0]).save("t")
    lake.table("t").transaction().set_properties(**{"write.object-storage.enabled": "true"}).commit_transaction()
    with pytest.MonkeyPatch.context() as settings:
        settings.setenv("LAKEFEED__WRITE__FILE_BYTES", "1")
        settings.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "1")
        Dataset.from_arrow(pa.concat_tables(chunks[1:])).append_to("t")
    assert len({file.path.rsplit("/", 1)[0] for file in data_files(lake, lake.table("t"))}) > 2
    assert Dataset("t").to_arrow()["x"].to_pylist() == list(range(8))
    Dataset("t").delete_rows("x == 3")
    assert Dataset("t").to_arrow()["x"].to_pylist() == [0, 1, 2, 4, 5, 6, 7]


def test_a_file_that_a_table_names_twice_is_edited_twice(plain: SqlCatalog, lake: Lake, tmp_path: Path) -> None:
    table = plain.create_table("default.twice", Schema(NestedField(1, "id", LongType(), required=False)))
    path = str(tmp_path / "rows.parquet")
    pq.write_table(pa.table({"id": [1, 2, 3]}), path)
    table.add_files([path])
    table.add_files([path], check_duplicate_files=False)

    def ids(version: int | None = None) -> list[int]:
        found: list[int] = sorted(Dataset("twice", version=version).to_arrow()["id"].to_pylist())
        return found

    assert ids() == [1, 1, 2, 2, 3, 3]
    assert Dataset("twice").delete_rows("id == 1").version == 3
    assert ids() == [2, 2, 3, 3] == sorted(plain.load_table("default.twice").scan().to_arrow()["id"].to_pylist())
    assert Dataset("twice").removed_since(2).to_arrow()["id"].to_pylist() == [1, 1]
    assert Dataset("twice").added_since(2).count() == 0
    assert (Dataset("twice").changes(1).added, Dataset("twice").changes(1).removed) == (2, 1)
    assert (Dataset("twice").changes(1, 2).added, Dataset("twice").changes(1, 2).removed) == (3, 0)
    Dataset("twice").restore(2)
    assert ids() == [1, 1, 2, 2, 3, 3]
    Dataset("twice").restore(1)
    assert ids() == [1, 2, 3] == ids(1)
    Dataset("twice").restore(2)
    assert ids() == [1, 1, 2, 2, 3, 3]
    Dataset.from_dict({"id": [9]}).overwrite("twice")
    assert ids() == [9]
    assert [version.total_records for version in Dataset("twice").list_versions()] == [1, 6, 3, 6, 4, 6, 3]
