"""Expressions as DuckDB SQL that selects the same rows as `evaluate`: an oracle for tests."""

from __future__ import annotations

from typing import Any, assert_never

import pyarrow as pa

from lakefeed.expr.comparison_types import NS_MAX, kind, last_in_ns, may_overflow
from lakefeed.expr.literals import format_value
from lakefeed.expr.nodes import (
    FLIPPED,
    And,
    Arithmetic,
    Column,
    Compare,
    CompareOp,
    Concat,
    Expr,
    In,
    IsNull,
    Like,
    Literal,
    Not,
    Or,
    dtype,
)
from lakefeed.expr.to_text import quote_string

_TYPES = {
    "bool": "BOOLEAN",
    "string": "VARCHAR",
    "binary": "BLOB",
    "date": "DATE",
    "zoned": "TIMESTAMPTZ",
    "duration": "INTERVAL",
}
_NUMBERS = {
    pa.int8(): "TINYINT",
    pa.int16(): "SMALLINT",
    pa.int32(): "INTEGER",
    pa.int64(): "BIGINT",
    pa.uint8(): "UTINYINT",
    pa.uint16(): "USMALLINT",
    pa.uint32(): "UINTEGER",
    pa.uint64(): "UBIGINT",
    pa.float16(): "FLOAT",
    pa.float32(): "FLOAT",
    pa.float64(): "DOUBLE",
}
_TIMESTAMPS = {"s": "TIMESTAMP_S", "ms": "TIMESTAMP_MS", "us": "TIMESTAMP", "ns": "TIMESTAMP_NS"}


def to_sql(expr: Expr) -> str:
    """Returns the expression in DuckDB's SQL, with quoted identifiers and typed literals.

    It agrees with `evaluate` on nulls, overflow, division by zero and NaN. DuckDB takes NaN as the greatest value and
    equal to itself, so a comparison of floats whose right side may be NaN tests ``isnan`` first.
    It differs where DuckDB's types do: DuckDB holds timestamps with a time zone in microseconds, has no float16 and
    no decimal wider than 38 digits, and does not distinguish column names that differ in case alone.
    """
    match expr:
        case Column():
            return _column(expr)
        case Literal():
            return _literal(expr)
        case Arithmetic():
            return _arithmetic(expr)
        case Concat():
            return f"({to_sql(expr.left)} || {to_sql(expr.right)})"
        case Compare():
            return _compare(expr)
        case In():
            return _in(expr)
        case Like():
            return f"({to_sql(expr.term)} LIKE {quote_string(expr.pattern)} ESCAPE '\\')"
        case IsNull():
            return f"({to_sql(expr.term)} IS NULL)"
        case Not():
            return f"(NOT {to_sql(expr.term)})"
        case And():
            return f"({' AND '.join(map(to_sql, expr.terms))})"
        case Or():
            return f"({' OR '.join(map(to_sql, expr.terms))})"
        case _:
            assert_never(expr)


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column(column: Column) -> str:
    root, *steps = column.path
    found = _identifier(str(root))
    for step in steps:
        # "a"."b" could be a column of a table a; DuckDB counts elements from 1, and from the end from -1.
        found = (
            f"({found})[{step + (step >= 0)}]"
            if isinstance(step, int)
            else f"struct_extract({found}, {quote_string(step)})"
        )
    return found


def _literal(literal: Literal) -> str:
    value = format_value(literal)
    match kind(literal.type):
        case "bool":
            return value.upper()
        case "string":
            return quote_string(value)
        case _:
            return f"CAST({quote_string(value)} AS {_sql_type(literal.type)})"


def _sql_type(of: Any) -> str:
    match kind(of):
        case "decimal":
            return f"DECIMAL({of.precision}, {of.scale})"
        case "timestamp":
            return _TIMESTAMPS[of.unit]
        case "time":
            return "TIME_NS" if of.unit == "ns" else "TIME"
        case "int" | "float":
            return _NUMBERS[of]
        case other:
            return _TYPES.get(other, "")


def _as(expr: Expr, to: pa.DataType) -> str:
    of, value = dtype(expr), to_sql(expr)
    if _sql_type(of) == _sql_type(to):
        return value
    cast = f"CAST({value} AS {_sql_type(to)})"
    if not may_overflow(of, to):
        return cast
    last, end = last_in_ns(of), _literal(Literal(NS_MAX, to))
    before, after = f"{value} < {_literal(Literal(-last, of))}", f"{value} > {_literal(Literal(last, of))}"
    return f"(CASE WHEN {before} THEN {_literal(Literal(-NS_MAX, to))} WHEN {after} THEN {end} ELSE {cast} END)"


def _compare(expr: Compare) -> str:
    op, left, right = expr.op, _as(expr.left, expr.domain), _as(expr.right, expr.domain)
    if kind(expr.domain) != "float":
        return _infix(left, op, right)
    if op in (">", ">="):
        op, left, right = FLIPPED[op], right, left
        return _float(left, op, right, maybe_nan=True)
    return _float(left, op, right, maybe_nan=not isinstance(expr.right, Literal))


def _infix(left: str, op: CompareOp, right: str) -> str:
    return f"({left} {_SQL_OPS.get(op, op)} {right})"


def _float(left: str, op: CompareOp, right: str, maybe_nan: bool) -> str:
    """For ``== != < <=``, where DuckDB differs from IEEE only if the right side is NaN."""
    plain = _infix(left, op, right)
    if not maybe_nan:
        return plain
    # With itself a value compares equal, NaN too, and null stays null.
    return f"(CASE WHEN isnan({right}) THEN {left} {'=' if op == '!=' else '<>'} {left} ELSE {plain} END)"


def _in(expr: In) -> str:
    term = to_sql(expr.term)
    items = [_literal(value) for value in expr.values] + ["NULL"] * expr.nulls
    return f"({term} IN ({', '.join(items)}))" if items else f"({term} <> {term})"


def _arithmetic(expr: Arithmetic) -> str:
    if not pa.types.is_integer(expr.type):
        left, right = _as(expr.left, expr.type), _as(expr.right, expr.type)
        return f"({left} {expr.op} nullif({right}, 0))" if expr.op in ("/", "%") else f"({left} {expr.op} {right})"
    left, right = _bigint(expr.left), _bigint(expr.right)
    if expr.op == "%":
        # In HUGEINT, because the smallest BIGINT % -1 overflows in DuckDB.
        return f"CAST(CAST({left} AS HUGEINT) % nullif({right}, 0) AS BIGINT)"
    return f"TRY({left} {expr.op} {right})"


def _bigint(expr: Expr) -> str:
    of = dtype(expr)
    if of == pa.int64():
        return to_sql(expr)
    return f"TRY_CAST({to_sql(expr)} AS BIGINT)"


_SQL_OPS = {"==": "=", "!=": "<>"}
