"""What may be appended to what: widening yes, narrowing no, and always with the column's name."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pytest

from lakefeed.catalog import Lake, append, cast, check_compatible, create
from lakefeed.catalog.compatibility import cast_to_storage
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError
from tests.sdk.catalog.types import EXACT, column


def one(kind: pa.DataType) -> pa.Schema:
    return pa.schema([("x", kind)])


WIDENING: list[tuple[pa.DataType, pa.DataType]] = [
    (pa.int8(), pa.int64()),
    (pa.uint8(), pa.int16()),
    (pa.uint32(), pa.uint64()),
    (pa.int32(), pa.float64()),
    (pa.int16(), pa.float32()),
    (pa.int64(), pa.decimal128(20, 0)),
    (pa.float16(), pa.float32()),
    (pa.float32(), pa.float64()),
    (pa.string(), pa.large_string()),
    (pa.large_string(), pa.string()),
    (pa.string(), pa.dictionary(pa.int32(), pa.string())),
    (pa.dictionary(pa.int8(), pa.string()), pa.string()),
    (pa.binary(3), pa.binary()),
    (pa.date32(), pa.date64()),
    (pa.timestamp("s"), pa.timestamp("ns")),
    (pa.timestamp("us", "UTC"), pa.timestamp("us", "Europe/Berlin")),
    (pa.time32("s"), pa.time64("us")),
    (pa.duration("s"), pa.duration("ms")),
    (pa.decimal128(5, 2), pa.decimal128(10, 4)),
    (pa.null(), pa.struct([("a", pa.int8())])),
    (pa.list_(pa.int8()), pa.large_list(pa.int32())),
    (pa.list_(pa.float32()), pa.list_(pa.float32(), 2)),
    (pa.list_(pa.float32(), 2), pa.list_(pa.float64())),
    (pa.struct([("a", pa.int8())]), pa.struct([("b", pa.string()), ("a", pa.int16())])),
    (pa.map_(pa.string(), pa.int8()), pa.map_(pa.string(), pa.int64())),
    (pa.list_(pa.float32(), 4), pa.fixed_shape_tensor(pa.float32(), (2, 2))),
]

NARROWING: list[tuple[pa.DataType, pa.DataType]] = [
    (pa.int64(), pa.int32()),
    (pa.int8(), pa.uint64()),
    (pa.uint64(), pa.int64()),
    (pa.int64(), pa.float64()),
    (pa.int32(), pa.float32()),
    (pa.int64(), pa.decimal128(10, 0)),
    (pa.float64(), pa.float32()),
    (pa.float64(), pa.int64()),
    (pa.string(), pa.int64()),
    (pa.int64(), pa.string()),
    (pa.string(), pa.binary()),
    (pa.bool_(), pa.int8()),
    (pa.int64(), pa.timestamp("us")),
    (pa.date32(), pa.timestamp("us")),
    (pa.timestamp("ns"), pa.timestamp("us")),
    (pa.timestamp("us"), pa.timestamp("us", "UTC")),
    (pa.time64("ns"), pa.time64("us")),
    (pa.decimal128(10, 4), pa.decimal128(10, 2)),
    (pa.list_(pa.int64()), pa.list_(pa.int32())),
    (pa.list_(pa.float32(), 3), pa.list_(pa.float32(), 2)),
    (pa.int64(), pa.list_(pa.int64())),
    (pa.string(), pa.struct([("a", pa.string())])),
    (pa.struct([("a", pa.int64())]), pa.struct([("a", pa.int8())])),
    (pa.map_(pa.string(), pa.int64()), pa.map_(pa.string(), pa.int8())),
]


def label(kind: Any) -> str:
    return str(kind)


@pytest.mark.parametrize(("given", "declared"), WIDENING, ids=label)
def test_widening_fits(given: pa.DataType, declared: pa.DataType) -> None:
    check_compatible(one(given), one(declared))
    values = pa.nulls(2, given)
    assert cast(pa.record_batch({"x": values}), one(declared)).column("x").null_count == 2


@pytest.mark.parametrize(("given", "declared"), NARROWING, ids=label)
def test_narrowing_is_refused_by_name(given: pa.DataType, declared: pa.DataType) -> None:
    with pytest.raises(TypeMismatchError, match="'x"):
        check_compatible(one(given), one(declared))


@pytest.mark.parametrize("case", EXACT)
def test_what_fits_comes_back_unchanged_or_is_refused_by_value(case: str) -> None:
    kind, values = EXACT[case]
    given = pa.record_batch({"x": column(kind, values)})
    for declared, _ in EXACT.values():
        try:
            check_compatible(given.schema, one(declared))
            fitted = cast(given, one(declared))
        except SchemaError as error:
            refused = str(error)
            if "Unsupported cast" in refused:
                pytest.fail(refused)
            continue
        assert fitted.schema == one(declared)
        if not pa.types.is_decimal(declared):  # Arrow rescales no decimal that was widened
            assert cast(fitted, given.schema).column("x").equals(given.column("x"))


def test_tensors_of_another_shape_are_refused() -> None:
    with pytest.raises(TypeMismatchError, match="'x'"):
        check_compatible(
            one(pa.fixed_shape_tensor(pa.float32(), (2, 3))), one(pa.fixed_shape_tensor(pa.float32(), (3, 2)))
        )


def test_unknown_column_names_the_near_misses() -> None:
    with pytest.raises(ColumnNotFoundError, match=r"'labl'.*Did you mean 'label'"):
        check_compatible(pa.schema([("labl", pa.int64())]), pa.schema([("label", pa.int64())]))


def test_unknown_nested_field_is_refused() -> None:
    with pytest.raises(ColumnNotFoundError, match="'b' in column 'x'"):
        check_compatible(one(pa.struct([("b", pa.int8())])), one(pa.struct([("a", pa.int8())])))


def test_required_column_must_be_there_and_have_no_nulls() -> None:
    declared = pa.schema([pa.field("x", pa.int64(), nullable=False), ("y", pa.int64())])
    with pytest.raises(SchemaError, match="required column 'x' is missing"):
        check_compatible(pa.schema([("y", pa.int64())]), declared)
    with pytest.raises(SchemaError, match="required column 'x' has 1 null"):
        cast(pa.record_batch({"x": pa.array([1, None])}), declared)


def test_doubled_column_is_refused() -> None:
    with pytest.raises(SchemaError, match="duplicate column names: 'x'"):
        check_compatible(pa.schema([("x", pa.int64()), ("x", pa.int64())]), one(pa.int64()))


def test_list_of_the_wrong_length_is_told_by_value() -> None:
    declared = one(pa.list_(pa.float32(), 2))
    with pytest.raises(TypeMismatchError, match="'x'"):
        cast_to_storage(pa.record_batch({"x": pa.array([[1.0]], pa.list_(pa.float32()))}), declared, declared)


def test_append_widens_and_fills_missing_columns(lake: Lake) -> None:
    create(lake, "t", pa.schema([("x", pa.int64()), ("y", pa.string())]), [])
    batch = pa.record_batch({"x": pa.array([1, 2], pa.uint8())})
    append(lake, "t", [batch], schema=batch.schema)
    assert lake.table("t").scan().to_arrow().to_pydict() == {"x": [1, 2], "y": [None, None]}


def test_append_checks_the_schema_before_it_reads(lake: Lake) -> None:
    create(lake, "t", one(pa.int32()), [])

    def never() -> Any:
        pytest.fail("the batches were read")
        yield

    with pytest.raises(TypeMismatchError, match="'x'"):
        append(lake, "t", never(), schema=one(pa.int64()))


def test_batches_that_break_their_own_schema_are_refused(lake: Lake) -> None:
    create(lake, "t", one(pa.int32()), [])
    with pytest.raises(TypeMismatchError, match="'x'"):
        append(lake, "t", [pa.record_batch({"x": pa.array([1], pa.int64())})], schema=one(pa.int32()))
    assert lake.table("t").scan().to_arrow().num_rows == 0


REQUIRED = pa.field("inner", pa.int64(), nullable=False)


@pytest.mark.parametrize(
    ("declared", "fine", "broken"),
    [
        (pa.list_(REQUIRED), [[1], None, []], [[1, None]]),
        (pa.large_list(REQUIRED), [[1], None, []], [[1, None]]),
        (pa.list_(REQUIRED, 2), [[1, 2], None], [[1, None]]),
        (pa.struct([REQUIRED]), [{"inner": 1}, None], [{"inner": None}]),
        (pa.map_(pa.string(), REQUIRED), [[("a", 1)], None], [[("a", None)]]),
        (pa.list_(pa.struct([REQUIRED])), [[{"inner": 1}], [None], None], [[{"inner": None}]]),
        (pa.struct([("a", pa.list_(REQUIRED))]), [{"a": [1]}, {"a": None}], [{"a": [None]}]),
    ],
    ids=label,
)
def test_required_values_inside_others(lake: Lake, declared: pa.DataType, fine: list[Any], broken: list[Any]) -> None:
    create(lake, "t", one(declared), [])

    def loose(kind: pa.DataType) -> pa.DataType:
        if isinstance(kind, pa.StructType):
            return pa.struct([(field.name, loose(field.type)) for field in kind])
        if isinstance(kind, pa.MapType):
            return pa.map_(kind.key_type, loose(kind.item_type))
        return pa.list_(loose(kind.value_type)) if pa.types.is_nested(kind) else kind

    append(lake, "t", [pa.record_batch({"x": pa.array(fine, loose(declared))})], schema=one(loose(declared)))
    batch = pa.record_batch({"x": pa.array(broken, loose(declared))})
    with pytest.raises(SchemaError, match="'x"):
        append(lake, "t", [batch], schema=batch.schema)
    assert lake.table("t").scan().count() == len(fine)
