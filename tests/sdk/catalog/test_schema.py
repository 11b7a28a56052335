"""Every Arrow type that a dataset accepts comes back as it went in; the others are refused by name."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed.catalog import Lake, cast, create, data_files, declared_schema, storage_schema
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.schema import with_media
from lakefeed.errors import SchemaError, TypeMismatchError
from tests.sdk.catalog.types import EXACT, column


def read(lake: Lake, name: str) -> pa.RecordBatch:
    """All rows through the lake's own path: files in order, cast to the declared schema."""
    table = lake.table(name)
    schema = declared_schema(table)
    batches = [
        cast(batch, schema)
        for file in data_files(lake, table)
        for batch in pq.ParquetFile(local_path(file.path)).iter_batches()
    ]
    return pa.Table.from_batches(batches, schema).combine_chunks().to_batches()[0]


def test_types_come_back_exactly_and_plain_pyiceberg_reads_them(lake: Lake) -> None:
    batch = pa.record_batch({name: column(kind, [values[0], values[-1]]) for name, (kind, values) in EXACT.items()})
    create(lake, "t", batch.schema, [batch])
    back, plain = read(lake, "t"), lake.table("t").scan().to_arrow()
    theirs = cast(plain.combine_chunks().to_batches()[0], batch.schema)
    for name, (kind, _) in EXACT.items():
        assert back.schema.field(name).type == kind, name
        assert back.column(name).equals(batch.column(name)), name
        # PyIceberg's reader turns a null list of structs into an empty one.
        assert name == "list of struct" or theirs.column(name).equals(batch.column(name)), name
    assert str(declared_schema(lake.table("t"))) == str(batch.schema)


def test_nanoseconds_are_stored_whole() -> None:
    assert storage_schema(pa.schema([("t", pa.timestamp("ns"))])).field("t").type == pa.int64()


def test_column_without_a_type_stays_one_also_within_others(lake: Lake) -> None:
    batch = pa.record_batch({"n": pa.nulls(2), "l": pa.array([[], None])})
    create(lake, "t", batch.schema, [batch])
    assert declared_schema(lake.table("t")) == pa.schema([("n", pa.null()), ("l", pa.list_(pa.null()))])
    assert read(lake, "t").to_pydict() == {"n": [None, None], "l": [[], None]}


def test_narrow_dictionary_indices_widen_because_appends_bring_new_values(lake: Lake) -> None:
    kind = pa.dictionary(pa.int8(), pa.string())
    batch = pa.record_batch({"x": pa.array(["a"]).cast(kind)})
    create(lake, "t", batch.schema, [batch])
    assert read(lake, "t").schema.field("x").type == pa.dictionary(pa.int32(), pa.string())


@pytest.mark.parametrize(
    "kind",
    [
        pa.month_day_nano_interval(),
        pa.decimal256(50, 2),
        pa.decimal128(5, -2),
        pa.list_view(pa.int32()),
        pa.run_end_encoded(pa.int32(), pa.int64()),
        pa.dense_union([pa.field("a", pa.int32())]),
        pa.struct([]),
        pa.list_(pa.int32(), 0),
        pa.list_(pa.struct([("deep", pa.month_day_nano_interval())])),
        pa.map_(pa.string(), pa.struct([])),
        pa.dictionary(pa.int32(), pa.decimal256(50, 2)),
        pa.list_(pa.dictionary(pa.int32(), pa.int64())),
    ],
    ids=str,
)
def test_type_that_cannot_be_kept_is_refused_by_name(lake: Lake, kind: pa.DataType) -> None:
    with pytest.raises(TypeMismatchError, match="'odd"):
        create(lake, "t", pa.schema([("fine", pa.int32()), ("odd", kind)]), [])
    assert lake.names() == []


@pytest.mark.parametrize(
    ("kind", "values"),
    [(pa.timestamp("s"), [2**60]), (pa.date64(), [86_400_001])],
    ids=["timestamp beyond microseconds", "date64 within a day"],
)
def test_value_that_would_be_lost_is_refused_and_leaves_nothing(
    lake: Lake, home: Any, kind: pa.DataType, values: list[int]
) -> None:
    batch = pa.record_batch({"when": pa.array(values, pa.int64()).cast(kind)})
    with pytest.raises(TypeMismatchError, match="'when'"):
        create(lake, "t", batch.schema, [batch])
    assert [path for path in home.rglob("*") if path.is_file() and path.name != "catalog.db"] == []


@pytest.mark.parametrize("schema", [pa.schema([]), pa.schema([("a", pa.int32()), ("a", pa.int32())])], ids=str)
def test_schema_that_is_none_is_refused(lake: Lake, schema: pa.Schema) -> None:
    with pytest.raises(SchemaError):
        create(lake, "t", schema, [])


@pytest.mark.parametrize("name", ["my col", "a.b", "ünï", "1x", "select", "a/b", "x" * 300, " "])
def test_odd_column_names_work_everywhere(lake: Lake, name: str) -> None:
    batch = pa.record_batch({name: pa.array([1, 2]), "other": pa.array([[1], None])})
    create(lake, "t", batch.schema, [batch])
    assert read(lake, "t").equals(batch)
    assert lake.table("t").scan().to_arrow().to_pydict() == batch.to_pydict()


def test_required_columns_stay_required(lake: Lake) -> None:
    schema = pa.schema([pa.field("x", pa.int64(), nullable=False)])
    create(lake, "t", schema, [pa.record_batch([pa.array([1])], schema=schema)])
    assert declared_schema(lake.table("t")) == schema


def test_field_metadata_is_kept_and_media_follow_the_table(lake: Lake) -> None:
    schema = pa.schema([pa.field("label", pa.int64(), metadata={"names": "cat,dog"}), ("img", pa.string())])
    create(lake, "t", with_media(schema, {"img": "image"}), [])
    back = declared_schema(lake.table("t"))
    assert back.field("label").metadata == {b"names": b"cat,dog"}
    assert back.field("img").metadata == {b"lakefeed.type": b"image"}


def test_cast_of_an_equal_batch_is_the_batch() -> None:
    batch = pa.record_batch({"x": [1, 2]})
    assert cast(batch, batch.schema) is batch


def test_cast_of_no_columns_keeps_the_rows() -> None:
    assert cast(pa.record_batch({"x": [1, 2]}), pa.schema([])).num_rows == 2


def test_cast_fills_missing_columns_and_orders_them() -> None:
    schema = pa.schema([("y", pa.string()), ("x", pa.int64())])
    assert cast(pa.record_batch({"x": [1]}), schema).to_pydict() == {"y": [None], "x": [1]}
