from __future__ import annotations

import pickle
from collections.abc import Callable

import pyarrow as pa
import pytest

from lakefeed.errors import ColumnNotFoundError, ExpressionError
from lakefeed.expr import And, Column, Compare, In, Literal, Or, parse, to_text

SCHEMA = pa.schema(
    {
        "x": pa.int64(),
        "small": pa.int8(),
        "score": pa.float64(),
        "f32": pa.float32(),
        "price": pa.decimal128(10, 2),
        "label": pa.string(),
        "kind": pa.dictionary(pa.int32(), pa.string()),
        "flag": pa.bool_(),
        "raw": pa.binary(),
        "day": pa.date32(),
        "date": pa.date32(),
        "ts": pa.timestamp("us"),
        "seconds": pa.timestamp("s"),
        "ns": pa.timestamp("ns"),
        "tz": pa.timestamp("us", "Europe/Berlin"),
        "clock": pa.time64("us"),
        "v": pa.list_(pa.float32()),
        "fixed": pa.list_(pa.float32(), 3),
        "image": pa.struct({"width": pa.int32(), "meta": pa.struct({"in": pa.string()})}),
        "boxes": pa.list_(pa.struct({"w": pa.int32()})),
        "two words": pa.int32(),
        "a.b": pa.int32(),
        "tick`": pa.int32(),
        "not": pa.int32(),
        "größe": pa.int32(),
    }
)

SAME = [
    ("score > 0.8 and label != None", "score > 0.8 and label is not null"),
    ("label = None or NULL == label", "label is null or label is null"),
    ("label IS NOT None", "label is not null"),
    ("1 < x <= 5", "x > 1 and x <= 5"),
    ("x = 1 AND x <> 2 Or NOT x == 3", "x == 1 and x != 2 or not x == 3"),
    ("flag and (flag and flag) or (flag or flag)", "flag and flag and flag or flag or flag"),
    ("flag and (flag or flag)", "flag and (flag or flag)"),
    ("not (flag or flag) and not not flag", "not (flag or flag) and not not flag"),
    ("x between 1 and 5 and flag", "x >= 1 and x <= 5 and flag"),
    ("x not between 1 and 5", "not (x >= 1 and x <= 5)"),
    ("not x in (1, 2,)", "x not in (1, 2)"),
    ("x in [1, 1, 2]", "x in (1, 2)"),
    ("label not like 'it''s%'", "label not like 'it''s%'"),
    ('label == "it\'s ""so"""', "label == 'it''s \"so\"'"),
    ("kind in ('a', null)", "kind in ('a', null)"),
    ("-x < -(5)", "0 - x < -5"),
    ("x - -1 > -9223372036854775808", "x - -1 > -9223372036854775808"),
    ("x - (x - 1) * 2 / (x % 3) > 0", "x - (x - 1) * 2 / (x % 3) > 0.0"),
    ("(x + 1) - 2 > 0", "x + 1 - 2 > 0"),
    ("x == 5.0 and x < 0.5 and x < 1e3", "x == 5 and x < 0.5 and x < 1000"),
    ("score == 5 and f32 == 0.1", "score == 5.0 and f32 == 0.1"),
    ("small < 300 and x < 1e40", "small < 300 and x < 1e+40"),
    ("price == 1.50 and price < .125", "price == 1.5 and price < 0.125"),
    ("day == '2024-02-29'", "day == date '2024-02-29'"),
    ("date >= date '2024-02-29'", "date >= date '2024-02-29'"),
    ("day < '2024-02-29T12:00'", "day < timestamp '2024-02-29T12:00:00'"),
    ("ts == timestamp '2024-02-29 12:00:00.500'", "ts == timestamp '2024-02-29T12:00:00.5'"),
    ("seconds < '2024-02-29T12:00:00.5'", "seconds < timestamp '2024-02-29T12:00:00.5'"),
    ("ns < '9999-12-31'", "ns < timestamp '2262-04-11T23:47:16.854775806'"),
    ("ns == '2024-02-29T00:00:00.000000001'", "ns == timestamp '2024-02-29T00:00:00.000000001'"),
    ("tz == '2024-02-29T12:00:00+01:00'", "tz == timestamp '2024-02-29T11:00:00+00:00'"),
    ("tz == '2024-02-29'", "tz == timestamp '2024-02-29T00:00:00+00:00'"),
    ("ts > day", "ts > day"),
    ("clock > '12:30'", "clock > '12:30:00'"),
    ("'2024-02-29' < date '2024-03-01'", "date '2024-02-29' < date '2024-03-01'"),
    ("v[0] > -1 and fixed[-1] < 2 and boxes[1].w = 3", "v[0] > -1.0 and fixed[-1] < 2.0 and boxes[1].w == 3"),
    ("image.width >= 512 and image.meta.in == 'a'", "image.width >= 512 and image.meta.`in` == 'a'"),
    ("`two words` = 1 and `a.b` = 2 and `tick``` = 3", "`two words` == 1 and `a.b` == 2 and `tick``` == 3"),
    ("`not` = 1 and größe > 2", "`not` == 1 and größe > 2"),
    ("(x > 1) == flag and (x > 1) is null", "(x > 1) == flag and (x > 1) is null"),
    ("flag == true and flag in (false) or TRUE", "flag == true and flag in (false) or true"),
    ("x\n>\t1", "x > 1"),
    ("x in ()", "x in ()"),
]


@pytest.mark.parametrize(("written", "canonical"), SAME)
def test_reads(written: str, canonical: str) -> None:
    expr = parse(written, SCHEMA)
    assert to_text(expr) == canonical
    assert parse(canonical, SCHEMA) == expr


WRONG = [
    ("", 0, "expected a column or a value, found the end"),
    ("x >", 3, "expected a column or a value, found the end"),
    ("x > and flag", 4, "expected a column or a value, found 'and'"),
    ("x > 1 and", 9, "expected a column or a value"),
    ("x > 5 6", 6, "expected an operator, `and`, `or` or the end, found '6'"),
    ("(x > 5", 6, "expected `)`, found the end"),
    ("x & 1", 2, "write `and`"),
    ("flag | flag", 5, "write `or`"),
    ("!flag", 0, "write `not`"),
    ("label == 'abc", 9, "the string that begins here is not closed"),
    ("`two words = 1", 0, "the name that begins here is not closed"),
    ("9lives > 1", 0, "in backticks"),
    ("x > 1.2.3", 4, "invalid number"),
    ("x > 1e400", 4, "out of the range of float64"),
    ("x not 5", 6, "expected `in`, `like` or `between`"),
    ("x is 5", 5, "expected `null` or `none`"),
    ("x in 5", 5, "expected a list in parentheses"),
    ("x in (1", 7, "expected `)`"),
    ("x in (1, x)", 9, "expected a literal comparable with int64"),
    ("x between 1 or 5", 12, "expected `and`"),
    ("x == not flag", 5, "found 'not'"),
    ("x > 1 is null", 6, "parentheses"),
    ("1 == x in (3)", 7, "parentheses"),
    ("x + 1", 0, "expected a condition, found `x + 1` of type int64"),
    ("label", 0, "expected a condition"),
    ("'a'", 0, "expected a condition"),
    ("flag and 5", 9, "expected a condition"),
    ("not x", 4, "expected a condition"),
    ("label > 5", 8, "string cannot be compared with the number 5"),
    ("x == 'a'", 5, "int64 cannot be compared with the string 'a'"),
    ("x == true", 5, "cannot be compared"),
    ("label == x", 6, "`label` of type string cannot be compared with `x` of type int64"),
    ("label in ('a', 5)", 15, "cannot be compared"),
    ("label + 1 > 2", 0, "expected a number, found `label`"),
    ("flag < true", 5, "no order"),
    ("flag + 1 > 2", 0, "expected a number"),
    ("x like 'a'", 0, "`like` needs a string"),
    ("label like x", 11, "needs a quoted pattern"),
    ("label like 'a\\'", 11, "must not end with a backslash"),
    ("x > null", 2, "use `is null`"),
    ("null == null", 8, "null has no type"),
    ("image == 5", 9, "cannot be compared"),
    ("image == image", 6, "cannot be compared"),
    ("image in ()", 0, "cannot be compared"),
    ("raw == 'a'", 7, "binary cannot be compared with the string"),
    ("tz > ts", 3, "cannot be compared"),
    ("ts > '2024-02-29T00:00:00Z'", 5, "write the timestamp without an offset"),
    ("day > '2024-02-29T00:00:00Z'", 6, "a date cannot be compared with a timestamp that has an offset"),
    ("day == '2024-02-30'", 7, "invalid date or timestamp '2024-02-30'"),
    ("day == 'soon'", 7, "write 2024-01-31 or 2024-01-31T12:30:00.5+02:00"),
    ("date '2024-02-29T12:00' < day", 5, "write `timestamp` before it"),
    ("ts == '2024-02-29T00:00:00.000000001'", 6, "at most 6 digits"),
    ("ts == '0001-01-01T00:00:00+10:00'", 6, "invalid date or timestamp"),
    ("clock > '25:00'", 8, "invalid time of day"),
    ("clock > 'noon'", 8, "invalid time of day"),
    ("fixed[3] > 1", 0, "fixed has 3 elements; index 3 is out of range"),
    ("v.a > 1", 0, "has no fields"),
    ("x.y > 1", 0, "has no fields"),
    ("x[0] > 1", 0, "has no elements"),
    ("v[a] > 1", 2, "expected the index of an element"),
    ("v[0 > 1", 4, "expected `]`"),
    ("image. > 1", 7, "expected the name of a field"),
]


@pytest.mark.parametrize(("written", "at", "reason"), WRONG)
def test_says_what_is_wrong_and_points_there(written: str, at: int, reason: str) -> None:
    with pytest.raises(ExpressionError) as caught:
        parse(written, SCHEMA)
    message, shown, caret = str(caught.value).split("\n")
    assert reason in message
    assert shown == f"    {written}"
    assert caret == " " * (4 + at) + "^"


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("scor > 1", "Did you mean 'score'?"),
        ("image.widht > 1", "no column 'widht' in image; the columns are 'width', 'meta'. Did you mean 'width'?"),
        ("image.meta.x == 'a'", "no column 'x' in image.meta"),
        ("boxes[0].h == 1", "no column 'h' in boxes[0]"),
        ("flag and a.b > 1", "Write `a.b` in backticks."),
    ],
)
def test_unknown_columns(written: str, reason: str) -> None:
    with pytest.raises(ColumnNotFoundError) as caught:
        parse(written, SCHEMA)
    assert reason in str(caught.value)
    assert str(caught.value).endswith("^")


def test_a_long_text_is_shown_around_the_place() -> None:
    written = " or ".join(["flag"] * 500) + " or\nnope or " + " or ".join(["flag"] * 500)
    with pytest.raises(ColumnNotFoundError) as caught:
        parse(written, SCHEMA)
    _, shown, caret = str(caught.value).split("\n")
    assert shown[len(caret) - 1 :].startswith("nope or flag")
    assert len(shown) < 120


def test_literals_take_the_type_of_the_column() -> None:
    assert parse("small < 5", SCHEMA) == Compare("<", Column(("small",), pa.int8()), Literal(5, pa.int8()))
    assert parse("small < 300", SCHEMA) == Compare("<", Column(("small",), pa.int8()), Literal(300, pa.int64()))
    assert parse("kind == 'a'", SCHEMA) == Compare("==", Column(("kind",), pa.string()), Literal("a", pa.string()))


def test_literals_that_equal_no_value_leave_the_list() -> None:
    assert parse("small in (1, 300, 0.5)", SCHEMA) == In(Column(("small",), pa.int8()), (Literal(1, pa.int8()),))


def test_five_thousand_terms() -> None:
    expr = parse(" or ".join(f"x == {number}" for number in range(5000)), SCHEMA)
    assert isinstance(expr, Or)
    assert len(expr.terms) == 5000
    assert parse(to_text(expr), SCHEMA) == expr


def test_and_and_or_do_not_nest_in_themselves() -> None:
    expr = parse("flag and (flag and (flag and x > 1 < score))", SCHEMA)
    assert isinstance(expr, And)
    assert len(expr.terms) == 5


DEEP = {
    "parentheses": lambda depth: "(" * depth + "flag" + ")" * depth,
    "negations": lambda depth: "not " * depth + "flag",
    "signs": lambda depth: "x < " + "-" * depth + "x",
    "sums": lambda depth: "x < x" + " + 1" * depth,
    "mixed": lambda depth: "(flag or (flag and " * (depth // 2) + "flag" + "))" * (depth // 2),
}


@pytest.mark.parametrize("write", DEEP.values(), ids=DEEP)
def test_depth_is_bounded(write: Callable[[int], str]) -> None:
    expr = parse(write(40), SCHEMA)
    assert parse(to_text(expr), SCHEMA) == pickle.loads(pickle.dumps(expr))
    with pytest.raises(ExpressionError, match="levels; split the filter"):
        parse(write(5000), SCHEMA)


def test_only_short_texts_are_remembered() -> None:
    long = "x in (" + ", ".join(map(str, range(1000))) + ")"
    assert parse("x > 41 and x < 43", SCHEMA) is parse("x > 41 and x < 43", SCHEMA)
    assert parse(long, SCHEMA) == parse(long, SCHEMA)
    assert parse(long, SCHEMA) is not parse(long, SCHEMA)
    assert parse("x > 41", SCHEMA) != parse("x > 41", pa.schema({"x": pa.float64()}))
