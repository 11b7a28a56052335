from __future__ import annotations

import pickle

import pyarrow as pa
import pytest

from lakefeed.expr import And, Compare, Or, conjoin, conjuncts, dtype, evaluate, parse, paths, rename, roots, to_text

SCHEMA = pa.schema({"x": pa.int64(), "y": pa.int64(), "s": pa.struct({"b": pa.int8()}), "v": pa.list_(pa.int8())})
EVERYTHING = "x + 1 > y and (s.b in (1, 2) or v[0] is not null) and not x < y and true"


def test_what_an_expression_reads() -> None:
    expr = parse(EVERYTHING, SCHEMA)
    assert roots(expr) == {"x", "y", "s", "v"}
    assert paths(expr) == {("x",), ("y",), ("s", "b"), ("v", 0)}
    assert roots(parse("true", SCHEMA)) == frozenset()


def test_conjuncts_and_conjoin_undo_each_other() -> None:
    expr = parse(EVERYTHING, SCHEMA)
    assert len(conjuncts(expr)) == 4
    assert conjoin(conjuncts(expr)) == expr
    assert conjoin([]) is None
    assert conjoin([conjuncts(expr)[0]]) == conjuncts(expr)[0]


def test_conjoin_flattens() -> None:
    one, two = parse("x > 1 and y > 1", SCHEMA), parse("x < 9 and y < 9", SCHEMA)
    joined = conjoin([one, two])
    assert isinstance(joined, And)
    assert to_text(joined) == "x > 1 and y > 1 and x < 9 and y < 9"


def test_rename_changes_top_level_names_everywhere() -> None:
    renamed = rename(parse(EVERYTHING, SCHEMA), {"x": "a", "s": "x", "v": "in"})
    assert to_text(renamed) == "a + 1 > y and (x.b in (1, 2) or `in`[0] is not null) and not a < y and true"


@pytest.mark.parametrize("cached", [False, True])
def test_expressions_are_values(cached: bool) -> None:
    expr = parse(EVERYTHING, SCHEMA)
    if cached:
        evaluate(expr, pa.RecordBatch.from_pylist([], SCHEMA))
    copy = pickle.loads(pickle.dumps(expr))
    assert copy == expr == parse(EVERYTHING, SCHEMA)
    assert hash(copy) == hash(expr)
    assert len(pickle.dumps(expr)) == len(pickle.dumps(parse(EVERYTHING, SCHEMA)))


@pytest.mark.parametrize(
    ("term", "of"), [("x", pa.int64()), ("s.b", pa.int8()), ("x / 2", pa.float64()), ("s.b + v[0]", pa.int64())]
)
def test_types(term: str, of: pa.DataType) -> None:
    comparison = parse(f"{term} > 1", SCHEMA)
    assert isinstance(comparison, Compare)
    assert dtype(comparison) == pa.bool_()
    assert dtype(comparison.left) == of


@pytest.mark.live
def test_large_expressions_are_hashed_and_compared() -> None:
    written = " or ".join(f"x == {number}" for number in range(5000))
    expr = parse(written, SCHEMA)
    assert isinstance(expr, Or)
    assert hash(expr) == hash(parse(written, SCHEMA))
    assert pickle.loads(pickle.dumps(rename(expr, {"x": "y"}))) == parse(written.replace("x", "y"), SCHEMA)
