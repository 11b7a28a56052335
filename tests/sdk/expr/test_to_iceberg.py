from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.catalog.sql import SqlCatalog
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.types import (
    BinaryType,
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
)

from lakefeed.expr import parse
from lakefeed.expr.to_iceberg import to_iceberg

ARROW = pa.schema(
    {
        "x": pa.int64(),
        "small": pa.uint8(),
        "big": pa.uint64(),
        "wrapped": pa.uint64(),
        "f": pa.float64(),
        "p": pa.decimal128(10, 2),
        "s": pa.string(),
        "b": pa.bool_(),
        "day": pa.date32(),
        "ts": pa.timestamp("ms"),
        "ns": pa.timestamp("ns"),
        "tz": pa.timestamp("us", "UTC"),
        "raw": pa.binary(),
        "st": pa.struct({"a": pa.int32(), "must": pa.string()}),
        "a.b": pa.int64(),
        "gone": pa.int64(),
    }
)
ICEBERG = Schema(
    NestedField(1, "x", LongType(), required=False),
    NestedField(2, "small", IntegerType(), required=False),
    NestedField(3, "big", DecimalType(20, 0), required=False),
    NestedField(4, "wrapped", LongType(), required=False),
    NestedField(5, "f", DoubleType(), required=False),
    NestedField(6, "p", DecimalType(10, 2), required=False),
    NestedField(7, "s", StringType(), required=False),
    NestedField(8, "b", BooleanType(), required=False),
    NestedField(9, "day", DateType(), required=False),
    NestedField(10, "ts", TimestampType(), required=False),
    NestedField(11, "ns", TimestampType(), required=False),
    NestedField(12, "tz", TimestamptzType(), required=False),
    NestedField(13, "raw", BinaryType(), required=False),
    NestedField(
        14,
        "st",
        StructType(
            NestedField(15, "a", IntegerType(), required=False), NestedField(16, "must", StringType(), required=True)
        ),
        required=False,
    ),
    NestedField(17, "a.b", LongType(), required=False),
)


@pytest.mark.parametrize(
    ("written", "lowered"),
    [
        ("x > 1", "GreaterThan(term=Reference(name='x'), literal=LongLiteral(1))"),
        ("not x > 1", "LessThanOrEqual(term=Reference(name='x'), literal=LongLiteral(1))"),
        ("x < 0.5", "LessThanOrEqual(term=Reference(name='x'), literal=LongLiteral(1))"),
        ("x > -0.5", "GreaterThanOrEqual(term=Reference(name='x'), literal=LongLiteral(-1))"),
        ("small < 300", "LessThan(term=Reference(name='small'), literal=LongLiteral(300))"),
        ("big == 7", "EqualTo(term=Reference(name='big'), literal=DecimalLiteral(Decimal('7')))"),
        ("p < 1.5", "LessThan(term=Reference(name='p'), literal=DecimalLiteral(Decimal('1.50')))"),
        ("f >= 0.5", "GreaterThanOrEqual(term=Reference(name='f'), literal=DoubleLiteral(0.5))"),
        ("b", "EqualTo(term=Reference(name='b'), literal=BooleanLiteral(True))"),
        ("not b", "EqualTo(term=Reference(name='b'), literal=BooleanLiteral(False))"),
        ("s like 'a\\%b%c'", "StartsWith(term=Reference(name='s'), literal=literal('a%b'))"),
        ("s is not null", "NotNull(term=Reference(name='s'))"),
        ("st.a == 5", "EqualTo(term=Reference(name='st.a'), literal=LongLiteral(5))"),
        ("st.a is null", "IsNull(term=Reference(name='st.a'))"),
        ("day == '1970-01-02'", "EqualTo(term=Reference(name='day'), literal=LongLiteral(1))"),
        ("ts > '1970-01-01T00:00:01'", "GreaterThan(term=Reference(name='ts'), literal=LongLiteral(1000000))"),
        ("ns > '1970-01-01T00:00:01'", "GreaterThanOrEqual(term=Reference(name='ns'), literal=LongLiteral(1000000))"),
        ("ns < '1970-01-01T00:00:00.000000001'", "LessThanOrEqual(term=Reference(name='ns'), literal=LongLiteral(1))"),
        ("tz < '1970-01-01'", "LessThan(term=Reference(name='tz'), literal=LongLiteral(0))"),
        ("x > 1 and x % 2 == 0", "GreaterThan(term=Reference(name='x'), literal=LongLiteral(1))"),
        ("not (x > 1 or x % 2 == 0)", "LessThanOrEqual(term=Reference(name='x'), literal=LongLiteral(1))"),
        ("true", "AlwaysTrue()"),
        ("x in ()", "AlwaysFalse()"),
        ("`a.b` > 1", "GreaterThan(term=Reference(name='a.b'), literal=LongLiteral(1))"),
    ],
)
def test_lowered(written: str, lowered: str) -> None:
    assert repr(to_iceberg(parse(written, ARROW), ICEBERG)) == lowered


@pytest.mark.parametrize(
    "written",
    [
        "x != 1",
        "not x == 1",
        "x not in (1)",
        "x > 1 or x % 2 == 0",
        "not (x > 1 and x % 2 == 0)",
        "x > small",
        "x + 1 > 2",
        "not f < 0.5",
        "f != 0.5",
        "p < 0.125",
        "s like '%a'",
        "s not like 'a%'",
        "wrapped > 5",
        "st is null",
        "st.must is null",
        "raw == raw",
        "gone > 1",
        "(x > 1) == b",
    ],
)
def test_not_lowered(written: str) -> None:
    assert to_iceberg(parse(written, ARROW), ICEBERG) is None


def test_long_lists_become_ranges() -> None:
    lowered = to_iceberg(parse(f"x in ({', '.join(map(str, range(500)))})", ARROW), ICEBERG)
    assert repr(lowered).count("OrEqual") == 2


def test_five_thousand_terms_stay_shallow() -> None:
    lowered = to_iceberg(parse(" or ".join(f"x == {number}" for number in range(5000)), ARROW), ICEBERG)
    assert lowered is not None
    assert repr(lowered).count("EqualTo") == 5000


@pytest.fixture
def table(tmp_path: Path) -> Table:
    """Two files: x 0..9 without NaN, and x 10..19 with NaN and nulls."""
    catalog = SqlCatalog("test", uri=f"sqlite:///{tmp_path}/catalog.db", warehouse=f"file://{tmp_path}")
    catalog.create_namespace("n")
    first, second = (_rows(start) for start in (0, 10))
    created = catalog.create_table("n.t", first.schema)
    created.append(first)
    created.append(second)
    catalog.close()
    return created


def _rows(start: int) -> pa.Table:
    numbers = range(start, start + 10)
    return pa.table(
        {
            "x": list(numbers),
            "f": [float("nan") if start and number == 15 else float(number) for number in numbers],
            "s": [None if start and number == 15 else f"{number:02} {'long ' * 10}" for number in numbers],
            "day": [dt.date(2024, 1, 1) + dt.timedelta(days=number) for number in numbers],
            "st": [{"a": number} if number != 15 else None for number in numbers],
        }
    )


@pytest.mark.parametrize(
    ("written", "files"),
    [
        ("x < 10", 1),
        ("x >= 9", 2),
        ("not x < 10", 1),
        ("x in (3, 30)", 1),
        ("f > 9.5", 1),
        ("not f < 100", 2),
        ("s is null", 1),
        ("s like '1%'", 1),
        ("s > '09 long'", 2),
        ("st.a is null", 1),
        ("x between 3 and 4 or day > '2030-01-01'", 1),
        ("day >= '2024-01-11'", 1),
        ("x > 100", 0),
    ],
)
def test_files_that_cannot_match_are_left_out(table: Table, written: str, files: int) -> None:
    lowered = to_iceberg(parse(written, table.schema().as_arrow()), table.schema())
    scan = table.scan() if lowered is None else table.scan(row_filter=lowered)
    assert len(list(scan.plan_files())) == files
