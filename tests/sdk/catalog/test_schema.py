"""Every Arrow type that a dataset accepts comes back as it went in; the others are refused by name."""

from __future__ import annotations

import datetime as dt
import decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed.catalog import Lake, cast, create, data_files, declared_schema, storage_schema
from lakefeed.catalog.durable import local_path
from lakefeed.catalog.schema import with_media
from lakefeed.errors import SchemaError, TypeMismatchError

D = decimal.Decimal
DAY = dt.date(2026, 2, 28)
NOON = dt.time(12, 0, 1)
NOW = dt.datetime(2026, 2, 28, 12, 0, 1)
AWARE = NOW.replace(tzinfo=dt.UTC)

EXACT: dict[str, tuple[pa.DataType, list[Any]]] = {
    "bool": (pa.bool_(), [True, False]),
    "int8": (pa.int8(), [-128, 127]),
    "int16": (pa.int16(), [-(2**15), 2**15 - 1]),
    "int32": (pa.int32(), [-(2**31), 2**31 - 1]),
    "int64": (pa.int64(), [-(2**63), 2**63 - 1]),
    "uint8": (pa.uint8(), [0, 255]),
    "uint16": (pa.uint16(), [0, 2**16 - 1]),
    "uint32": (pa.uint32(), [0, 2**32 - 1]),
    "uint64": (pa.uint64(), [0, 2**64 - 1]),
    "float16": (pa.float16(), [1.5, -0.25]),
    "float32": (pa.float32(), [1.5, float("inf")]),
    "float64": (pa.float64(), [0.1, -1e300]),
    "string": (pa.string(), ["", "ü" * 40]),
    "large_string": (pa.large_string(), ["a", "b"]),
    "string_view": (pa.string_view(), ["a", "longer than twelve bytes"]),
    "binary": (pa.binary(), [b"", b"\x00" * 40]),
    "large_binary": (pa.large_binary(), [b"a", b"b"]),
    "binary_view": (pa.binary_view(), [b"a", b"longer than twelve bytes"]),
    "fixed_size_binary": (pa.binary(3), [b"abc", b"def"]),
    "date32": (pa.date32(), [DAY, dt.date(1, 1, 1)]),
    "date64": (pa.date64(), [DAY, dt.date(1969, 12, 31)]),
    "time32[s]": (pa.time32("s"), [NOON, dt.time(0)]),
    "time32[ms]": (pa.time32("ms"), [NOON.replace(microsecond=1000), dt.time(0)]),
    "time64[us]": (pa.time64("us"), [NOON.replace(microsecond=1), dt.time(0)]),
    "time64[ns]": (pa.time64("ns"), [1, 86_399_999_999_999]),
    "timestamp[s]": (pa.timestamp("s"), [NOW, dt.datetime(1, 1, 1)]),
    "timestamp[ms]": (pa.timestamp("ms"), [NOW.replace(microsecond=1000), NOW]),
    "timestamp[us]": (pa.timestamp("us"), [NOW.replace(microsecond=1), NOW]),
    "timestamp[ns]": (pa.timestamp("ns"), [1, -1]),
    "timestamp[s, UTC]": (pa.timestamp("s", "UTC"), [AWARE, AWARE]),
    "timestamp[us, Berlin]": (pa.timestamp("us", "Europe/Berlin"), [AWARE, AWARE]),
    "timestamp[ns, offset]": (pa.timestamp("ns", "+02:00"), [1, -1]),
    "duration[s]": (pa.duration("s"), [1, -1]),
    "duration[ns]": (pa.duration("ns"), [1, -1]),
    "decimal32": (pa.decimal32(5, 2), [D("123.45"), D("-0.01")]),
    "decimal64": (pa.decimal64(12, 2), [D("123.45"), D("-0.01")]),
    "decimal128": (pa.decimal128(38, 10), [D("123.4500000000"), D("-1.0000000000")]),
    "decimal256": (pa.decimal256(30, 2), [D("123.45"), D("-0.01")]),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), ["a", "b"]),
    "ordered dictionary": (pa.dictionary(pa.int64(), pa.large_string(), ordered=True), ["a", "b"]),
    "dictionary of numbers": (pa.dictionary(pa.uint32(), pa.int64()), [1, 2]),
    "uuid": (pa.uuid(), [b"0" * 16, b"1" * 16]),
    "json": (pa.json_(), ['{"a": 1}', "[]"]),
    "tensor": (pa.fixed_shape_tensor(pa.float32(), (2, 2)), [[1, 2, 3, 4], [5, 6, 7, 8]]),
    "list": (pa.list_(pa.int8()), [[1, None], []]),
    "large_list": (pa.large_list(pa.uint16()), [[1], []]),
    "fixed_size_list": (pa.list_(pa.float32(), 2), [[1.0, None], [3.0, 4.0]]),
    "list of fixed": (pa.list_(pa.list_(pa.float16(), 2)), [[[1.0, 2.0], None], []]),
    "list of dictionary": (pa.list_(pa.dictionary(pa.int32(), pa.string())), [["a", "b"], ["a"]]),
    "list of tensor": (pa.list_(pa.fixed_shape_tensor(pa.float32(), (2,))), [[[1, 2]], []]),
    "struct": (
        pa.struct([("a", pa.uint8()), ("b", pa.struct([("c", pa.large_string()), ("d", pa.timestamp("ns"))]))]),
        [{"a": 255, "b": {"c": "x", "d": 1}}, {"a": None, "b": None}],
    ),
    "map": (pa.map_(pa.string(), pa.list_(pa.uint8(), 2)), [[("k", [1, 2])], []]),
    "list of struct": (pa.list_(pa.struct([("box", pa.list_(pa.int16(), 4))])), [[{"box": [1, 2, 3, 4]}], []]),
}


def column(kind: pa.DataType, values: list[Any]) -> pa.Array:
    """The values and a null; extension types from their storage."""
    storage = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind
    if isinstance(kind, pa.ListType) and isinstance(kind.value_type, pa.BaseExtensionType):
        return pa.array([*values, None], pa.list_(kind.value_type.storage_type)).cast(kind)
    array = pa.array([*values, None], storage)
    return kind.wrap_array(array) if isinstance(kind, pa.BaseExtensionType) else array


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


@pytest.mark.parametrize("case", EXACT)
def test_type_comes_back_exactly(lake: Lake, case: str) -> None:
    kind, values = EXACT[case]
    batch = pa.record_batch({"x": column(kind, values)})
    create(lake, "t", batch.schema, [batch])
    back = read(lake, "t")
    assert back.schema.field("x").type == kind
    assert back.column("x").equals(batch.column("x"))
    assert str(declared_schema(lake.table("t"))) == str(batch.schema)


# PyIceberg's reader turns a null list of structs into an empty one.
@pytest.mark.parametrize("case", [case for case in EXACT if case != "list of struct"])
def test_plain_pyiceberg_reads_every_type(lake: Lake, case: str) -> None:
    kind, values = EXACT[case]
    batch = pa.record_batch({"x": column(kind, values)})
    create(lake, "t", batch.schema, [batch])
    plain = lake.table("t").scan().to_arrow()
    assert cast(plain.combine_chunks().to_batches()[0], batch.schema).column("x").equals(batch.column("x"))


def test_nanoseconds_are_stored_whole() -> None:
    assert storage_schema(pa.schema([("t", pa.timestamp("ns"))])).field("t").type == pa.int64()


def test_column_without_a_type_becomes_a_nullable_string(lake: Lake) -> None:
    batch = pa.record_batch({"n": pa.nulls(2), "l": pa.array([[], None])})
    create(lake, "t", batch.schema, [batch])
    assert declared_schema(lake.table("t")) == pa.schema([("n", pa.string()), ("l", pa.list_(pa.string()))])
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
