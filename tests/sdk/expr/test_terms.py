"""Terms are another way to write expressions: they parse to the trees of the text."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Dataset, Term, col, lit
from lakefeed.catalog.lake import Lake
from lakefeed.errors import ColumnNotFoundError, ExpressionError, InvalidArgumentError
from lakefeed.expr import parse, parse_value, to_text

SCHEMA = pa.schema(
    {
        "x": pa.int64(),
        "f": pa.float64(),
        "s": pa.string(),
        "b": pa.bool_(),
        "d": pa.date32(),
        "t": pa.timestamp("us"),
        "v": pa.list_(pa.int64()),
        "a": pa.struct({"b": pa.int64(), "my name": pa.string()}),
        "select": pa.int64(),
        "p.q": pa.int64(),
    }
)
X, F, S, B = col("x"), col("f"), col("s"), col("b")
CONDITIONS: list[tuple[Term, str]] = [
    (X > 1, "x > 1"),
    (X > 1, "x > 1"),
    (lit(3) != X, "x != 3"),
    (col("a.b") == col("v")[-1], "a.b == v[-1]"),
    (col("a")["my name"] == "it's", "a.`my name` == 'it''s'"),
    (col("select") >= col("`p.q`"), "select >= `p.q`"),
    ((X > 1) & (F < 0.5) & B, "x > 1 and f < 0.5 and b"),
    ((X > 1) | (F < 0.5) & ~B, "x > 1 or f < 0.5 and not b"),
    (((X > 1) | B) & ~(F.is_null() | B), "(x > 1 or b) and not (f is null or b)"),
    (~(X == 1), "not x == 1"),
    ((X > 1) == B, "(x > 1) == b"),
    (X - (F - 1) * 2 > -1, "x - (f - 1) * 2 > -1"),
    ((X - 1) - 1 == 0, "x - 1 - 1 == 0"),
    (10 - X % 3 + 2 / (F + 1) > 3 * -X, "10 - x % 3 + 2 / (f + 1) > 3 * -x"),
    (-(X + 1) < 2, "-(x + 1) < 2"),
    (X.is_in([1, None, 3]), "x in (1, null, 3)"),
    (~S.is_in(["a", "b'c"]), "s not in ('a', 'b''c')"),
    (X.between(1, F + 1), "x between 1 and f + 1"),
    (~X.between(1, 2), "not x between 1 and 2"),
    (S.is_not_null(), "s is not null"),
    (S.like("a_%"), "s like 'a_%'"),
    (S.starts_with("50%"), "s like '50\\%%'"),
    (S.ends_with("_x"), "s like '%\\_x'"),
    (S.contains("\\"), "s like '%\\\\%'"),
    (S.concat("-").concat(S) == "a-a", "s || '-' || s == 'a-a'"),
    (S.concat(S.concat("!")) == "a", "s || (s || '!') == 'a'"),
    (X == None, "x is null"),  # noqa: E711  # a term
    (float("nan") == X if False else np.int32(3) == X, "x == 3"),
    (Decimal("1.50") == F, "f == 1.50"),
    (F > 1e-7, "f > 1e-07"),
    (B == True, "b == true"),  # noqa: E712  # a term
    (col("d") == dt.date(2024, 1, 31), "d == date '2024-01-31'"),
    (col("t") < dt.datetime(2024, 1, 31, 12, 30), "t < timestamp '2024-01-31T12:30:00'"),
    (col("t") < pd.Timestamp("2024-01-31 12:30"), "t < timestamp '2024-01-31T12:30:00'"),
    (col("t") < np.datetime64("2024-01-31T12:30"), "t < timestamp '2024-01-31T12:30'"),
    (col("t") == pd.NaT, "t is null"),
]


@pytest.mark.parametrize(("term", "text"), CONDITIONS, ids=[text for _, text in CONDITIONS])
def test_a_term_is_the_expression_of_its_text(term: Term, text: str) -> None:
    tree = parse(text, SCHEMA)
    assert parse(str(term), SCHEMA) == tree
    assert parse(to_text(tree), SCHEMA) == tree
    assert str(pickle.loads(pickle.dumps(term))) == str(term)


numbers = st.recursive(
    st.one_of(st.sampled_from([(X, "x"), (F, "f")]), st.integers(-9, 9).map(lambda value: (lit(value), f"({value})"))),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+-*/%"), inner).map(
            lambda t: (_apply(t[1], t[0][0], t[2][0]), f"({t[0][1]} {t[1]} {t[2][1]})")
        ),
        inner.map(lambda t: (-t[0], f"(-{t[1]})")),
    ),
    max_leaves=6,
)
conditions = st.recursive(
    st.tuples(numbers, st.sampled_from(["==", "!=", "<", "<=", ">", ">="]), numbers).map(
        lambda t: (_apply(t[1], t[0][0], t[2][0]), f"({t[0][1]} {t[1]} {t[2][1]})")
    ),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda t: (t[0][0] & t[1][0], f"({t[0][1]} and {t[1][1]})")),
        st.tuples(inner, inner).map(lambda t: (t[0][0] | t[1][0], f"({t[0][1]} or {t[1][1]})")),
        inner.map(lambda t: (~t[0], f"(not {t[1]})")),
    ),
    max_leaves=5,
)


def _apply(op: str, left: Any, right: Any) -> Any:
    return eval(f"left {op} right", {"left": left, "right": right})  # the operators of Python, by name


@given(conditions)
def test_parentheses_stand_where_they_are_needed(both: tuple[Term, str]) -> None:
    term, text = both
    try:
        expected = parse(text, SCHEMA)
    except ExpressionError:
        with pytest.raises(ExpressionError):
            parse(str(term), SCHEMA)
        return
    assert parse(str(term), SCHEMA) == expected


def test_datasets_take_terms_wherever_they_take_text(lake: Lake) -> None:
    data = Dataset.from_dict({"x": [1, 2, 3], "s": ["a", "b", None]})
    assert data.filter((X > 1) & S.is_not_null()).to_arrow() == data.filter("x > 1 and s is not null").to_arrow()
    assert data.with_column("y", X * 2).to_arrow()["y"].to_pylist() == [2, 4, 6]
    assert data.with_column("y", X > 1).to_arrow()["y"].to_pylist() == [False, True, True]
    assert "x > 1" in data.filter(X > 1).explain()
    data.save("t")
    assert Dataset("t").delete_rows(X == 2).version == 2
    assert Dataset("t").to_arrow()["x"].to_pylist() == [1, 3]
    with pytest.raises(ColumnNotFoundError, match="'y'"):
        data.filter(col("y") > 1)
    with pytest.raises(ExpressionError, match="cannot be compared"):
        data.filter(X == S)


def test_mistakes_are_errors_at_once() -> None:
    with pytest.raises(TypeError, match="`x > 1` is unknown before rows are read; write `&`"):
        bool(X > 1)
    with pytest.raises(TypeError):
        assert 1 < X < 3
    with pytest.raises(TypeError):
        list(col("v"))  # type: ignore[call-overload]
    for wrong in (float("nan"), float("inf"), dt.timedelta(1), [1], object()):
        with pytest.raises(InvalidArgumentError):
            _ = wrong == X
    for call in (
        lambda: col(""),
        lambda: col(3),
        lambda: X.is_in("abc"),
        lambda: X.is_in(3),
        lambda: S.like(3),
        lambda: col("v")[1.5],
    ):  # type: ignore[arg-type, index]
        with pytest.raises(InvalidArgumentError):
            call()
    assert len({X, col("x"), F}) == 3


def test_long_chains_are_flat() -> None:
    term = X == 0
    for value in range(1, 3_000):
        term = term | (value == X)
    assert len(parse(str(term), SCHEMA).terms) == 3_000  # type: ignore[union-attr]
    assert parse_value(str(sum((col("x") for _ in range(60)), lit(0))), SCHEMA)
