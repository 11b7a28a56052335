from __future__ import annotations

import datetime as dt
import math
from decimal import Decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed.errors import ColumnNotFoundError
from lakefeed.expr import evaluate, parse

NAN = math.nan
BIG = 2**63 - 1


def run(written: str, **columns: pa.Array[Any] | list[Any]) -> list[bool | None]:
    batch = pa.record_batch(columns)
    found = evaluate(parse(written, batch.schema), batch)
    assert found.type == pa.bool_()
    assert isinstance(found, pa.BooleanArray)
    return found.to_pylist()


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("x > 1", [False, True, None]),
        ("not x > 1", [True, False, None]),
        ("x > 1 or true", [True, True, True]),
        ("x > 1 and false", [False, False, False]),
        ("x > 1 and true", [False, True, None]),
        ("x is null", [False, False, True]),
        ("x is not null", [True, True, False]),
        ("x in (1, 7)", [True, False, None]),
        ("x in (1, null)", [True, None, None]),
        ("x not in (1, null)", [False, None, None]),
        ("x not in ()", [True, True, None]),
        ("x between 1 and 4", [True, False, None]),
        ("1 <= x < 5", [True, False, None]),
        ("5 == 5", [True, True, True]),
        ("'a' in ('a', 'b') and 'abc' like 'a%'", [True, True, True]),
        ("1 / 0 is null", [True, True, True]),
        ("9223372036854775807 + 1 is null", [True, True, True]),
        ("5.5 % 2 == 1.5", [True, True, True]),
    ],
)
def test_three_valued_logic(written: str, expected: list[bool | None]) -> None:
    assert run(written, x=[1, 5, None]) == expected


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("f == f", [True, False, True, None]),
        ("f != f", [False, True, False, None]),
        ("f > 0", [True, False, False, None]),
        ("not f > 0", [False, True, True, None]),
        ("f in (0.0)", [False, False, True, None]),
        ("f not in (1.5)", [False, True, True, None]),
    ],
)
def test_nan_equals_nothing(written: str, expected: list[bool | None]) -> None:
    for of in (pa.float16(), pa.float32(), pa.float64()):
        assert (
            run(written, f=pa.array(np.array([1.5, NAN, -0.0, 0]), mask=np.array([0, 0, 0, 1], bool)).cast(of))
            == expected
        )


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("x < 0.5", [True, False, True]),
        ("x > -0.5", [True, True, False]),
        ("x == 1.0", [False, True, False]),
        ("x != 0.5", [True, True, True]),
        ("x < 300", [True, True, True]),
        ("x <= 1e30", [True, True, True]),
        ("x in (0, 0.5, 300)", [True, False, False]),
    ],
)
def test_small_integers_beside_other_numbers(written: str, expected: list[bool]) -> None:
    assert run(written, x=pa.array([0, 1, -128], pa.int8())) == expected


def test_large_integers_are_compared_exactly() -> None:
    unsigned, signed = pa.array([2**64 - 1, 2**63, 1], pa.uint64()), pa.array([-1, BIG, 1])
    assert run("u > x", u=unsigned, x=signed) == [True, True, False]
    assert run("u == x", u=unsigned, x=signed) == [False, False, True]
    assert run("x < 9223372036854775808 and x != 9007199254740992", x=[BIG, 2**53 + 1]) == [True, True]


def test_narrow_floats_take_literals_in_their_precision() -> None:
    assert run("f == 0.1 and f <= 0.1", f=pa.array([0.1], pa.float32())) == [True]
    assert run("f == 0.1", f=pa.array(np.array([0.1], np.float16))) == [True]
    assert run("f < 1e300", f=pa.array([math.inf, 1.0], pa.float32())) == [False, True]


def test_decimals() -> None:
    prices = pa.array([Decimal("1.50"), Decimal("0.12"), None], pa.decimal128(10, 2))
    assert run("p == 1.5", p=prices) == [True, False, None]
    assert run("p < 0.125", p=prices) == [False, True, None]
    assert run("p in (1.50, 0.125)", p=prices) == [True, False, None]
    assert run("p * 2 == 3", p=prices) == [True, False, None]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("x + 1 > 0", [True, None, False, None]),
        ("x * 2 > 0", [True, None, None, None]),
        ("x - 1 > 0", [False, True, None, None]),
        ("x % 3 == 1", [True, True, False, None]),
        ("x % -1 == 0", [True, True, True, None]),
        ("x % 0 is null", [True, True, True, True]),
        ("x / 2 == 0.5", [True, False, False, None]),
        ("x / (x - x) is null", [True, True, True, True]),
    ],
)
def test_arithmetic_gives_null_where_there_is_no_result(written: str, expected: list[bool | None]) -> None:
    assert run(written, x=[1, BIG, -(2**63), None]) == expected


def test_unsigned_integers_beyond_int64_have_no_arithmetic() -> None:
    assert run("u + 0 > 0", u=pa.array([1, 2**64 - 1], pa.uint64())) == [True, None]


def test_remainders_have_the_sign_of_the_left_side() -> None:
    assert run("x % 3 == -1", x=[-7, 7]) == [True, False]
    assert run("f % 2.0 == -1.5", f=[-5.5, 5.5]) == [True, False]


def test_structs_null_at_any_level() -> None:
    of = pa.struct({"b": pa.int64(), "n": pa.struct({"c": pa.string()})})
    rows = [{"b": 1, "n": {"c": "x"}}, {"b": None, "n": None}, None]
    masked = pa.StructArray.from_arrays([pa.array([5, 5])], names=["b"], mask=pa.array([False, True]))
    assert run("a.b == 1", a=pa.array(rows, of)) == [True, None, None]
    assert run("a.n.c == 'x'", a=pa.array(rows, of)) == [True, None, None]
    assert run("a is null", a=pa.array(rows, of)) == [False, False, True]
    assert run("a.b == 5", a=masked) == [True, None]


@pytest.mark.parametrize("of", [pa.list_(pa.int64()), pa.large_list(pa.int64())])
def test_list_elements(of: pa.DataType) -> None:
    lists = pa.array([[9], [1, 2], [], None, [None, 3]], of).slice(1)
    assert run("v[0] == 1", v=lists) == [True, None, None, None]
    assert run("v[1] >= 2", v=lists) == [True, None, None, True]
    assert run("v[-1] == 2", v=lists) == [True, None, None, False]
    assert run("v[-2] == 1", v=lists) == [True, None, None, None]


def test_fixed_size_list_elements() -> None:
    lists = pa.array([[9, 9], [1, 2], None, [None, 3]], pa.list_(pa.int64(), 2)).slice(1)
    assert run("v[0] == 1", v=lists) == [True, None, None]
    assert run("v[-1] == 3", v=lists) == [False, None, True]


@pytest.mark.parametrize(
    "of", [pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string())]
)
def test_strings_of_every_type(of: pa.DataType) -> None:
    column = pa.array(["a", "it's", None]).cast(of)
    assert run("s == 'a'", s=column) == [True, False, None]
    assert run("s in ('it''s', 'z')", s=column) == [False, True, None]
    assert run("s like '%''_'", s=column) == [False, True, None]
    assert run("s >= 'b'", s=column) == [False, True, None]


@pytest.mark.parametrize(
    ("pattern", "matching"),
    [
        ("ab", "ab"),
        ("", ""),
        ("%", "|ab|abc|a.c|a%c|a\nc|xabx"),
        ("a%", "ab|abc|a.c|a%c|a\nc"),
        ("%c", "abc|a.c|a%c|a\nc"),
        ("%b%", "ab|abc|xabx"),
        ("a_c", "abc|a.c|a%c|a\nc"),
        ("a.c", "a.c"),
        ("a\\%c", "a%c"),
        ("_%_b%", "xabx"),
        ("%%b", "ab"),
    ],
)
def test_like(pattern: str, matching: str) -> None:
    words = ["", "ab", "abc", "a.c", "a%c", "a\nc", "xabx"]
    found = run(f"s like '{pattern}'", s=words)
    assert [word for word, yes in zip(words, found, strict=True) if yes] == matching.split("|")


def test_dates_and_timestamps() -> None:
    noon = dt.datetime(2024, 2, 29, 12)
    assert run("d == '2024-02-29' and d < '2024-02-29T00:00:01'", d=[noon.date()]) == [True]
    assert run("t >= '2024-02-29' and t == '2024-02-29T12:00:00'", t=[noon]) == [True]
    assert run("t > d", t=[noon], d=[noon.date()]) == [True]
    for unit in ("s", "ms", "us", "ns"):
        column = pa.array([noon], pa.timestamp(unit))
        assert run("t == '2024-02-29 12:00' and t < '2024-02-29T12:00:00.000001'", t=column) == [True]
        assert run("t < '9999-12-31' and t > '0001-01-01'", t=column) == [True]


def test_time_zones_are_instants() -> None:
    for zone in ("UTC", "Europe/Berlin"):
        column = pa.array([dt.datetime(2024, 2, 29, 12, tzinfo=dt.UTC)], pa.timestamp("us", zone))
        assert run("t == '2024-02-29T13:00:00+01:00' and t == '2024-02-29T12:00'", t=column) == [True]


def test_times_beyond_nanoseconds_count_as_the_last_or_first() -> None:
    ns = pa.array([dt.datetime(2024, 2, 29)] * 3, pa.timestamp("ns"))
    days = [dt.date(9999, 12, 31), dt.date(1, 1, 1), None]
    assert run("t < d", t=ns, d=days) == [True, False, None]


def test_the_batch_may_have_other_encodings_and_more_columns() -> None:
    expr = parse("s == 'a' and x > 1", pa.schema({"s": pa.string(), "x": pa.int64()}))
    s = pa.array(["a", "b"])
    for other in (s.cast(pa.large_string()), s.dictionary_encode(), pa.compute.run_end_encode(s)):
        batch = pa.record_batch({"y": [0, 0], "x": pa.array([2, 2], pa.int32()), "s": other})
        assert evaluate(expr, batch).to_pylist() == [True, False]


def test_a_missing_column_is_named() -> None:
    expr = parse("x > 1", pa.schema({"x": pa.int64()}))
    with pytest.raises(ColumnNotFoundError, match="'x' in the batch"):
        evaluate(expr, pa.record_batch({"y": [1]}))


def test_no_rows_and_no_columns() -> None:
    assert run("x > 1 and 1 < 2", x=pa.array([], pa.int64())) == []
    assert run("1 < 2", x=pa.array([], pa.int64())) == []


@pytest.mark.live
def test_five_thousand_terms() -> None:
    written = " or ".join(f"x == {number}" for number in range(0, 10_000, 2))
    assert run(written, x=[4, 5, 9_998, None]) == [True, False, True, None]


@pytest.mark.parametrize(
    "written",
    [
        "s == 'a'",
        "s != 'a' and x > 1",
        "not (s < 'b') or x is null",
        "s is null",
        "s is not null",
        "s in ('a', null)",
        "s like '%b%'",
        "s == 'b' or s is null",
        "s < t",
        "true or s == 'a'",
    ],
)
def test_dictionaries_are_their_values(written: str) -> None:
    values = ["a", None, "b", "abc", "a", None, "b", "b"] * 40
    texts, other, x = pa.array(values), pa.array(values[::-1]), pa.array([1, None, 3, 4, 5, 6, 7, 8] * 40)
    plain = run(written, s=texts, t=other, x=x)
    assert run(written, s=texts.dictionary_encode(), t=other, x=x) == plain
    narrow = pa.DictionaryArray.from_arrays(pa.array([0, None, 1, 2] * 80, pa.int8()), pa.array(["a", "b", None]))
    assert run(written, s=narrow, t=texts, x=x) == run(written, s=narrow.dictionary_decode(), t=texts, x=x)
