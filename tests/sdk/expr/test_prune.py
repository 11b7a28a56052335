from __future__ import annotations

import datetime as dt
import io
import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed.expr import Bounds, can_match, merge_bounds, parse, residual

SCHEMA = pa.schema(
    {
        "x": pa.int64(),
        "u": pa.uint64(),
        "f": pa.float64(),
        "p": pa.decimal128(10, 2),
        "s": pa.string(),
        "b": pa.bool_(),
        "day": pa.date32(),
        "ns": pa.timestamp("ns"),
        "tz": pa.timestamp("us", "UTC"),
        "half": pa.float16(),
        "st": pa.struct({"a": pa.int64()}),
        "v": pa.list_(pa.int64()),
    }
)
FOUR = Bounds(min=2, max=5, null_count=0, rows=4)


def matches(written: str, **stats: Bounds) -> bool:
    return can_match(parse(written, SCHEMA), {tuple(name.split("__")): bounds for name, bounds in stats.items()})


@pytest.mark.parametrize(
    "written",
    [
        "x < 2",
        "x <= 1",
        "x > 5",
        "x >= 5.5",
        "x == 6",
        "6 < x",
        "x in (0, 1, 6)",
        "x in ()",
        "x between 6 and 9",
        "1 < x < 2",
        "not x <= 5",
        "not (x >= 2 and x <= 5)",
        "not (x != 7)",
        "x is null",
        "x == null",
        "x == 3 and x > 5",
        "x > 5 or x < 2",
        "false",
        "not true",
        "x > 18446744073709551616",
    ],
)
def test_no_row_can_match(written: str) -> None:
    assert not matches(written, x=FOUR)
    assert matches(f"not ({written})", x=FOUR)
    assert matches(f"({written}) or f > 1", x=FOUR)
    assert not matches(f"({written}) and f > 1", x=FOUR)


@pytest.mark.parametrize(
    "written",
    [
        "x < 3",
        "x == 2",
        "x != 2",
        "x in (1, 3)",
        "x > 4.5",
        "not x < 5",
        "x is not null",
        "x % 2 == 9",
        "x > f",
        "x + 9 < x",
    ],
)
def test_a_row_may_match(written: str) -> None:
    assert matches(written, x=FOUR)


def test_what_is_unknown_may_match() -> None:
    assert matches("x > 5 and st.a > 1 and v[0] > 1 and x is null and s like 'a%'")
    assert matches("x > 5", x=Bounds())
    assert matches("x > 5 and x is null", x=Bounds(min=2))
    assert matches("x > 5", x=Bounds(min="a", max="b"))
    assert matches("x > 5", x=Bounds(min=9, max=1))
    assert matches("half > 5", half=Bounds(min=b"12", max=b"13"))
    assert matches("u > 5", u=Bounds(min=-1, max=1))


def test_only_nulls_match_nothing_but_null() -> None:
    nothing = Bounds(null_count=3, rows=3)
    assert not matches("x > 5", x=nothing)
    assert not matches("not x > 5", x=nothing)
    assert not matches("x in (1, 2)", x=nothing)
    assert not matches("s like '%'", s=nothing)
    assert not matches("b or not b", b=nothing)
    assert not matches("x is not null", x=nothing)
    assert matches("x is null", x=nothing)


def test_one_value_alone_excludes_its_negation() -> None:
    alone = Bounds(min=5, max=5, null_count=1, rows=9)
    for written in ("x != 5", "not x == 5", "x not in (5, 6)", "not (x >= 5)"):
        assert not matches(written, x=alone)


def test_nan_hides_from_the_bounds() -> None:
    ones = Bounds(min=1.0, max=1.0, null_count=0, rows=2)
    for written in ("f != 1", "not f == 1", "not f < 5", "not f > 0", "f not in (1.0)", "f != f", "not f <= x"):
        assert matches(written, f=ones, x=FOUR)
    for written in ("f == 2", "f < 1", "f > 1", "f in (0.0, 2.0)", "not f != 2"):
        assert not matches(written, f=ones)
    assert matches("f > 5", f=Bounds(min=math.nan, max=math.nan))
    assert matches("f == 0.0 and f in (-0.0)", f=Bounds(min=-0.0, max=-0.0))


def test_text_bounds_may_be_cut() -> None:
    cut = Bounds(min="ab", max="cd", null_count=0, rows=2)
    for written in (
        "s > 'cd'",
        "s == 'cdz'",
        "s in ('cdz')",
        "s like 'cdz%'",
        "s != 'ab'",
        "not s == 'ab'",
        "s like 'a%'",
    ):
        assert matches(written, s=cut)
    for written in ("s > 'ce'", "s < 'ab'", "s == 'a'", "s in ('a', 'cf')", "s like 'cf%'", "s like 'aa%'"):
        assert not matches(written, s=cut)
    same = Bounds(min="ab", max="ab", null_count=0, rows=2)
    assert matches("s != 'ab'", s=same)
    for highest in ("\U0010ffff", "\ud7ff", "a\U0010ffff"):
        assert matches(f"s == '{highest}z'", s=Bounds(min="", max=highest))


def test_bounds_of_any_python_type() -> None:
    day = dt.date(2024, 2, 29)
    for low, high in ((day, day), (19782, 19782), (pa.scalar(day), pa.scalar(day))):
        assert matches("day == '2024-02-29'", day=Bounds(low, high))
        assert not matches("day != '2024-02-29'", day=Bounds(low, high))
        assert not matches("day > '2024-02-29T00:00:01'", day=Bounds(low, high))
    assert not matches("p > 1.5", p=Bounds(Decimal("0.10"), Decimal("1.50")))
    assert not matches("s > 'c'", s=Bounds(b"a", b"b"))
    assert not matches("not b", b=Bounds(True, True))
    assert not matches("x > 5", x=Bounds(pa.scalar(1), pa.scalar(5)))


def test_nanoseconds_lost_by_datetime_are_given_back() -> None:
    cut = Bounds(dt.datetime(2024, 2, 29), dt.datetime(2024, 2, 29))
    assert matches("ns > '2024-02-29T00:00:00'", ns=cut)
    assert matches("ns == '2024-02-29T00:00:00.000000999'", ns=cut)
    assert not matches("ns > '2024-02-29T00:00:00.000001'", ns=cut)


def test_zones_are_instants() -> None:
    plus_one = dt.timezone(dt.timedelta(hours=1))
    bounds = Bounds(dt.datetime(2024, 2, 29, 13, tzinfo=plus_one), dt.datetime(2024, 2, 29, 12))
    assert matches("tz == '2024-02-29T12:00:00'", tz=bounds)
    assert not matches("tz > '2024-02-29T12:00:01'", tz=bounds)


@pytest.mark.parametrize("written", ["st.a > 5", "st.a in (9)", "st.a is null", "not st.a <= 5"])
def test_struct_fields(written: str) -> None:
    assert not matches(written, st__a=FOUR)


def test_large_lists_are_searched_not_scanned() -> None:
    expr = parse(f"x in ({', '.join(map(str, range(0, 20_000, 10)))})", SCHEMA)
    assert can_match(expr, {("x",): Bounds(min=11, max=20)})
    assert not can_match(expr, {("x",): Bounds(min=11, max=19)})
    assert not can_match(expr, {("x",): Bounds(min=30_000, max=30_001)})


def test_the_statistics_of_parquet() -> None:
    stats = dict(
        _written(x=[2, None], f=[1.0, math.nan], s=["b", "c"], ns=[dt.datetime(2024, 2, 29)], st=[{"a": 3}, None])
    )
    assert stats[("x",)] == Bounds(2, 2, 1, 2)
    matching = ["x == 2 and f != f and s > 'a'", "ns == '2024-02-29'", "st.a == 3", "st.a is null", "x is null"]
    pruned = ["x == 3", "f > 1", "s < 'b'", "ns < '2024-02-29'", "st.a == 4", "s is null"]
    assert [written for written in matching + pruned if can_match(parse(written, SCHEMA), stats)] == matching


def test_a_hull_knows_no_more_than_its_parts() -> None:
    assert merge_bounds([Bounds(1, 3, 0, 10), Bounds(2, 7, 4, 5)]) == Bounds(1, 7, 4, 15)
    assert merge_bounds([Bounds(1, 3, 0, 10), Bounds(None, None, 5, 5)]) == Bounds(1, 3, 5, 15)
    for part in (Bounds(), Bounds(5, 1, 0, 9), Bounds(math.nan, math.nan, 0, 9), Bounds("a", "b", 0, 9)):
        around = merge_bounds([Bounds(1, 3, 0, 9), part])
        assert (around.min, around.max) == (None, None)
    assert merge_bounds([Bounds(1, 3), Bounds(1, 3, 0, 9)]) == Bounds(1, 3)


def test_a_hull_of_texts_that_are_cut() -> None:
    # "ab" may stand for "abz", which is beyond "abc".
    around = merge_bounds([Bounds("aa", "ab", 0, 9), Bounds("aa", "abc", 0, 9)])
    assert can_match(parse("s == 'abz'", SCHEMA), {("s",): around})
    assert not can_match(parse("s == 'ad'", SCHEMA), {("s",): around})


def _written(**columns: list[Any]) -> list[tuple[tuple[str, ...], Bounds]]:
    rows = max(map(len, columns.values()))
    table = pa.table({name: pa.array((v * rows)[:rows], SCHEMA.field(name).type) for name, v in columns.items()})
    file = io.BytesIO()
    pq.write_table(table, file)
    group = pq.read_metadata(file).row_group(0)
    found = [group.column(index) for index in range(group.num_columns)]
    return [(tuple(c.path_in_schema.split(".")), _of(c.statistics, rows)) for c in found if c.statistics is not None]


def _of(statistics: pq.Statistics, rows: int) -> Bounds:
    return Bounds(statistics.min, statistics.max, statistics.null_count, rows)


@pytest.mark.parametrize(
    ("written", "left"),
    [
        ("x >= 2 and x <= 5", None),
        ("x >= 2 and x < 5", "x < 5"),
        ("x != 9 and s = 'a' and x in (2, 3)", "s == 'a' and x in (2, 3)"),
        ("not (x < 2 or x > 5)", None),
        ("x is not null", None),
        ("u > 1", "u > 1"),  # a null among them
        ("f >= 0", "f >= 0"),  # or NaN
        ("x + 1 > 0", "x + 1 > 0"),  # nothing is known of sums
        ("st.a < 9 and v[0] < 9", "v[0] < 9"),
        ("x in (2, null) or x > 5", "x in (2, null) or x > 5"),
        ("day = '2024-01-01'", "day == '2024-01-01'"),  # no statistics
    ],
)
def test_what_is_left_to_be_tested(written: str, left: str | None) -> None:
    one_null = Bounds(min=2, max=5, null_count=1, rows=4)
    stats = {("x",): FOUR, ("u",): one_null, ("f",): FOUR, ("st", "a"): FOUR, ("v",): FOUR, ("s",): FOUR}
    found = residual(parse(written, SCHEMA), stats)
    assert found == (None if left is None else parse(left, SCHEMA))


def test_what_is_left_is_the_condition_itself_where_nothing_is_known() -> None:
    condition = parse("x > 2 and s = 'a'", SCHEMA)
    assert residual(condition, {}) is condition
