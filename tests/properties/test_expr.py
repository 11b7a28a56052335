"""Whatever the filter: Arrow and DuckDB agree, its text parses back, and pruning loses no row."""

from __future__ import annotations

import datetime as dt
import math
import pickle
import random
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any

import duckdb
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BooleanType,
    DateType,
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    ListType,
    LongType,
    NestedField,
    StringType,
    StructType,
    TimestampType,
    TimestamptzType,
    TimeType,
)

from lakefeed.expr import Bounds, Expr, can_match, evaluate, parse, rename, residual, to_text
from lakefeed.expr.to_iceberg import to_iceberg
from tests.sdk.expr.to_sql import to_sql

DAY = dt.date(2024, 2, 29)
NOON = dt.datetime(2024, 2, 29, 12, 0, 0, 500_000)

POOLS: dict[str, tuple[pa.DataType, list[Any]]] = {
    "x": (pa.int64(), [0, 1, -1, 5, 127, 2**53 + 1, 2**63 - 1, -(2**63)]),
    "i8": (pa.int8(), [0, 1, -1, 5, 127, -128]),
    "u64": (pa.uint64(), [0, 1, 5, 2**53 + 1, 2**63, 2**64 - 1]),
    "f": (pa.float64(), [0.0, -0.0, 0.5, -1.5, 5.0, 1e300, math.nan, math.inf, -math.inf, 2.0**53]),
    "f32": (pa.float32(), [0.0, -0.0, 0.1, -1.5, 5.0, math.nan, math.inf]),
    "d": (pa.decimal128(10, 2), [Decimal(0), Decimal("0.10"), Decimal("-1.50"), Decimal(5), Decimal("12345678.91")]),
    "s": (pa.string(), ["", "a", "ab", "it's", "é", "a%b", "a_b", "a\\b", "zz\nz", "\U0010ffff", "abcdef"]),
    "flag": (pa.bool_(), [True, False]),
    "day": (pa.date32(), [DAY, dt.date(1970, 1, 1), dt.date(1, 1, 1), dt.date(9999, 12, 31)]),
    "ts": (pa.timestamp("us"), [NOON, dt.datetime(2024, 2, 29), dt.datetime(1969, 12, 31, 23, 59, 59, 1)]),
    "ms": (pa.timestamp("ms"), [NOON, dt.datetime(2024, 2, 29)]),
    "ns": (pa.timestamp("ns"), [NOON, dt.datetime(2024, 2, 29)]),
    "tz": (pa.timestamp("us", "UTC"), [NOON.replace(tzinfo=dt.UTC), dt.datetime(2024, 2, 29, tzinfo=dt.UTC)]),
    "t": (pa.time64("us"), [dt.time(12), dt.time(0, 0, 0, 1)]),
    "v": (pa.list_(pa.float64()), [[], [0.5], [None, 5.0], [math.nan, 1.0]]),
    "w": (pa.list_(pa.int32(), 2), [[0, 5], [None, -1]]),
    'odd `"name': (pa.int32(), [0, 5]),
    "st": (
        pa.struct({"a": pa.int32(), "b": pa.string(), "n": pa.struct({"c": pa.float64()})}),
        [
            {"a": 5, "b": "ab", "n": {"c": 0.5}},
            {"a": None, "b": "é", "n": None},
            {"a": 0, "b": None, "n": {"c": math.nan}},
        ],
    ),
}
SCHEMA = pa.schema({name: of for name, (of, _) in POOLS.items()})

# What must never depend on chance.
EDGES = [
    "not f < 0.5",
    "not f >= 0.5",
    "not (f > 0.5 or f32 <= 0.1)",
    "f != f",
    "f != 0.5",
    "not f == 5",
    "f == 0.0 and f in (0.0, 5)",
    "f in (-0.0)",
    "f not in (0.5, 5)",
    "v[0] > st.n.c",
    "f32 == 0.1",
    "f32 < f",
    "x < 0.5",
    "x <= 4.5 and not x < -0.5",
    "x == 0.5",
    "i8 in (0.5, 5, 300)",
    "i8 < 300 and i8 > -1000",
    "u64 > x",
    "u64 == 18446744073709551615",
    "x in (5, null)",
    "x not in (5, null)",
    "not (x in ())",
    "x + 1 > x",
    "x % -1 == 0",
    "x / 0 is null",
    "-x > 0",
    "x % 5 < 0",
    "d < 0.125",
    "d + 0 == 0.1",
    "s > 'a' and s <= 'abcdef'",
    "s like 'a\\%%'",
    "s like '%\n_'",
    "s < '\U0010ffff'",
    "s || st.b == 'abab'",
    "not s || ('%' || s) like '%a\\%b_'",
    "s || 'x' > st.b || s || 'y' or s || st.b is null",
    "s || '' in ('a', 'ab') and 'a' || 'b' != s",
    "st.b is null",
    "not st.b is null",
    "st is not null and st.n is null",
    "st.n.c is null",
    "ns < day",
    "ns < '9999-12-31'",
    "ts == day",
    "day < '2024-02-29T12:00:00.5'",
    "ms < '2024-02-29T12:00:00.500001'",
    "tz >= '2024-02-29T13:00:00.5+01:00'",
    "flag",
    "not flag",
    "not (flag and x > 0) == (f > 0)",
    "true",
    "not true",
]
MANY = settings(max_examples=max(400, settings.default.max_examples))


def _rows(count: int) -> pa.RecordBatch:
    chance = random.Random(0)
    values = {name: [chance.choice([None, *pool]) for _ in range(count)] for name, (_, pool) in POOLS.items()}
    return pa.record_batch([pa.array(values[name], of) for name, (of, _) in POOLS.items()], SCHEMA)


ROWS = _rows(200)

INTEGERS = ["x", "i8", "u64", "st.a", "w[0]", "w[-1]", '`odd ``"name`']
FLOATS = ["f", "f32", "st.n.c", "v[0]", "v[-1]", "v[7]"]
NUMBER_LITERALS = ["0", "1", "-1", "5", "300", "0.5", "-1.5", "0.1", "5.0", "1e300", "-0.0", "9007199254740993"]
WIDE_LITERALS = [str(2**63 - 1), str(-(2**63)), str(2**64), "1e39", "12345678.912", "1e-7"]
STRING_LITERALS = ["''", "'a'", '"it\'s"', "'é'", "'abcdefg'", "'zz\nz'", "'\U0010ffff'"]
PATTERNS = ["''", "'%'", "'a%'", "'%b'", "'%b%'", "'a\\%%'", "'_'", "'a_b'", "'%z_z%'", "'a\\\\b'", "'__%'", "'ab'"]
DAYS = ["'2024-02-29'", "date '1970-01-01'", "'9999-12-31'", "timestamp '2024-02-29T12:00:00.5'"]
TIMES = ["'2024-02-29T12:00:00.5'", "timestamp '2024-02-29'", "date '1970-01-01'", "'1969-12-31 23:59:59.000001'"]
ZONED = ["'2024-02-29T13:00:00.5+01:00'", "timestamp '2024-02-29T12:00:00Z'", "'2024-02-29'"]
OF_KIND: list[tuple[list[str], list[str]]] = [
    (["s", "st.b"], STRING_LITERALS),
    (["day"], DAYS),
    (["ts", "ms", "ns"], [*TIMES, "day"]),
    (["tz"], ZONED),
    (["t"], ["'12:00'", "'00:00:00.000001'"]),
]
COMPARE = st.sampled_from(["==", "=", "!=", "<>", "<", "<=", ">", ">="])


def numbers() -> st.SearchStrategy[str]:
    leaf = st.sampled_from([*INTEGERS, *FLOATS, "d", *NUMBER_LITERALS])
    return st.recursive(
        leaf,
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from("+-*/%"), inner).map(lambda found: f"({' '.join(found)})"),
            inner.map("-{}".format),
        ),
        max_leaves=4,
    )


def comparisons() -> st.SearchStrategy[str]:
    literal = st.sampled_from(NUMBER_LITERALS + WIDE_LITERALS)
    column = st.sampled_from([*INTEGERS, *FLOATS, "d"])
    of_kind = st.sampled_from(OF_KIND).flatmap(
        lambda found: st.tuples(st.sampled_from(found[0]), COMPARE, st.sampled_from(found[0] + found[1]))
    )
    return st.one_of(
        st.tuples(column, COMPARE, literal),
        st.tuples(literal, COMPARE, column),
        st.tuples(numbers(), COMPARE, numbers()),
        st.tuples(numbers(), COMPARE, numbers(), COMPARE, literal),
        of_kind,
    ).map(" ".join)


def predicates() -> st.SearchStrategy[str]:
    pools = [(INTEGERS + FLOATS + ["d"], NUMBER_LITERALS + WIDE_LITERALS + ["null"])]
    pools += [(columns, [one for one in literals if one != "day"]) for columns, literals in OF_KIND]
    member = st.sampled_from(pools).flatmap(
        lambda pool: st.tuples(
            st.sampled_from(pool[0]),
            st.sampled_from([" in ", " not in "]),
            st.lists(st.sampled_from(pool[1]), max_size=4).map(lambda items: f"({', '.join(items)})"),
        )
    )
    like = st.tuples(
        st.sampled_from(["s", "st.b"]), st.sampled_from([" like ", " not like "]), st.sampled_from(PATTERNS)
    )
    null = st.tuples(
        st.sampled_from([*map(_name, POOLS), "st.n", "st.n.c", "v[0]", "(x / 0)"]),
        st.sampled_from([" is null", " is not None", " == None", " != null"]),
    )
    between = st.tuples(
        numbers(), st.sampled_from([" between ", " not between "]), numbers(), st.just(" and "), numbers()
    )
    return st.one_of(member, like, null, between, st.sampled_from([("flag",), ("true",), ("flag != false",)])).map(
        "".join
    )


def filters() -> st.SearchStrategy[str]:
    return st.recursive(
        st.one_of(comparisons(), predicates()),
        lambda inner: st.one_of(
            st.tuples(inner, st.sampled_from([" and ", " or ", " AND ", " Or "]), inner).map("".join),
            inner.map("not ({})".format),
            inner.map("({})".format),
            inner.map("({}) is null".format),
            st.tuples(inner, st.sampled_from(["==", "!="]), inner).map(
                lambda found: f"({found[0]}) {found[1]} ({found[2]})"
            ),
        ),
        max_leaves=5,
    )


def _name(name: str) -> str:
    return name if name.isidentifier() else "`" + name.replace("`", "``") + "`"


def edges(test: Callable[..., None]) -> Callable[..., None]:
    for written in EDGES:
        test = example(written=written)(test)
    return test


@pytest.fixture(scope="module")
def duck() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'America/New_York'; SET threads = 1")
        table = pa.Table.from_batches([ROWS]).append_column("row", pa.array(range(ROWS.num_rows)))
        connection.register("rows", table)
        yield connection


@MANY
@edges
@given(written=filters())
def test_arrow_and_duckdb_give_the_same(duck: duckdb.DuckDBPyConnection, written: str) -> None:
    expr = parse(written, SCHEMA)
    by_sql = [value for (value,) in duck.sql(f"SELECT {to_sql(expr)} FROM rows ORDER BY row").fetchall()]
    assert evaluate(expr, ROWS).to_pylist() == by_sql


@given(filters(), st.integers(0, 5))
def test_a_slice_gives_the_slice(written: str, start: int) -> None:
    expr = parse(written, SCHEMA)
    assert evaluate(expr, ROWS.slice(start, 9)).to_pylist() == evaluate(expr, ROWS).to_pylist()[start : start + 9]


@MANY
@edges
@given(written=filters())
def test_text_parses_back(written: str) -> None:
    expr = parse(written, SCHEMA)
    assert parse(to_text(expr), SCHEMA) == expr
    assert to_text(parse(to_text(expr), SCHEMA)) == to_text(expr)


@given(filters())
def test_expressions_are_values(written: str) -> None:
    expr = parse(written, SCHEMA)
    copy = pickle.loads(pickle.dumps(expr))
    assert copy == expr
    assert hash(copy) == hash(expr)
    assert rename(rename(expr, {"x": "y", "st": "tt"}), {"y": "x", "tt": "st"}) == expr


@MANY
@edges
@given(written=filters())
def test_bounds_never_prune_a_match(written: str) -> None:
    expr = parse(written, SCHEMA)
    matches = _matches(expr)
    pruned = [group for group, stats in GROUPS.items() if not can_match(expr, stats)]
    assert not matches.intersection(pruned)


@pytest.mark.live
@MANY
@edges
@given(written=filters())
def test_what_bounds_leave_to_be_tested_decides(written: str) -> None:
    expr = parse(written, SCHEMA)
    wanted = _decided(expr)
    decided: dict[Expr | None, list[bool]] = {None: [True] * len(ROWS)}
    for (start, stop), stats in GROUPS.items():
        left = residual(expr, stats)
        if left not in decided:
            decided[left] = _decided(left)
        assert decided[left][start:stop] == wanted[start:stop]


@MANY
@edges
@given(written=filters())
def test_iceberg_never_prunes_a_match(written: str) -> None:
    expr = parse(written, SCHEMA)
    lowered = to_iceberg(expr, ICEBERG)
    if lowered is not None:
        files = _InclusiveMetricsEvaluator(ICEBERG, lowered)
        assert all(files.eval(FILES[group]) for group in _matches(expr))


def _decided(expr: Expr) -> list[bool]:
    return [value is True for value in evaluate(expr, ROWS).to_pylist()]


def _matches(expr: Expr) -> set[tuple[int, int]]:
    """The groups of rows in which one matches."""
    found = evaluate(expr, ROWS).to_pylist()
    return {(start, stop) for start, stop in GROUPS if True in found[start:stop]}


# ------------------------------------------------------------------------------------------- statistics of a batch

LEAVES: list[tuple[str, ...]] = [*((name,) for name in POOLS if name not in ("v", "w", "st"))]
LEAVES += [("st", "a"), ("st", "b"), ("st", "n", "c")]
CUT = 2


def _leaf(batch: pa.RecordBatch, path: tuple[str, ...]) -> list[Any]:
    values = batch.column(path[0]).to_pylist()
    for step in path[1:]:
        values = [None if value is None else value[step] for value in values]
    return values


def _cut(value: Any, up: bool) -> Any:
    if not isinstance(value, str) or len(value) <= CUT:
        return value
    return value[: CUT - 1] + chr(ord(value[CUT - 1]) + 1) if up else value[:CUT]


def _bounds(values: list[Any]) -> Bounds:
    present = [value for value in values if value is not None]
    ordered = [value for value in present if value == value]
    low, high = (min(ordered), max(ordered)) if ordered else (None, None)
    return Bounds(_cut(low, up=False), _cut(high, up=True), len(values) - len(present), len(values))


def _stats(batch: pa.RecordBatch) -> dict[tuple[str, ...], Bounds]:
    return {path: _bounds(_leaf(batch, path)) for path in LEAVES}


GROUPS = {(row, row + size): _stats(ROWS.slice(row, size)) for size in (1, 2, 3) for row in range(0, 150, size)}


STORED: dict[pa.DataType, IcebergType] = {
    pa.int8(): IntegerType(),
    pa.int32(): IntegerType(),
    pa.int64(): LongType(),
    pa.uint64(): DecimalType(20, 0),
    pa.float32(): FloatType(),
    pa.float64(): DoubleType(),
    pa.decimal128(10, 2): DecimalType(10, 2),
    pa.string(): StringType(),
    pa.bool_(): BooleanType(),
    pa.date32(): DateType(),
    pa.timestamp("us"): TimestampType(),
    pa.timestamp("ms"): TimestampType(),
    pa.timestamp("ns"): TimestampType(),
    pa.timestamp("us", "UTC"): TimestamptzType(),
    pa.time64("us"): TimeType(),
}


def _stored(of: Any, ids: Iterator[int]) -> IcebergType:
    if pa.types.is_struct(of):
        return StructType(*(_stored_field(field, ids) for field in of))
    if pa.types.is_list(of) or pa.types.is_fixed_size_list(of):
        return ListType(next(ids), STORED[of.value_type], element_required=False)
    return STORED[of]


def _stored_field(field: Any, ids: Iterator[int]) -> NestedField:
    return NestedField(next(ids), field.name, _stored(field.type, ids), required=False)


_ids = iter(range(1, 100))
ICEBERG = Schema(*(_stored_field(field, _ids) for field in SCHEMA))


def _data_file(stats: dict[tuple[str, ...], Bounds]) -> DataFile:
    lower: dict[int, bytes] = {}
    upper: dict[int, bytes] = {}
    nulls: dict[int, int] = {}
    counts: dict[int, int] = {}
    for path, bounds in stats.items():
        field = ICEBERG.find_field(".".join(path))
        of: Any = field.field_type
        nulls[field.field_id], counts[field.field_id] = bounds.null_count or 0, bounds.rows or 0
        if bounds.min is not None:
            lower[field.field_id] = to_bytes(of, _physical(bounds.min, of))
            upper[field.field_id] = to_bytes(of, _physical(bounds.max, of))
    return DataFile.from_args(
        record_count=max(counts.values()),
        value_counts=counts,
        null_value_counts=nulls,
        nan_value_counts={},
        lower_bounds=lower,
        upper_bounds=upper,
    )


def _physical(value: Any, of: IcebergType) -> Any:
    return Decimal(value).quantize(Decimal(1).scaleb(-of.scale)) if isinstance(of, DecimalType) else value


FILES = {group: _data_file(stats) for group, stats in GROUPS.items()}
