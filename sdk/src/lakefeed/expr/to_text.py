"""Expressions as text that parses to the same expression."""

from __future__ import annotations

import re
from typing import assert_never

from lakefeed.expr.comparison_types import kind
from lakefeed.expr.literals import format_value
from lakefeed.expr.nodes import And, Arithmetic, Column, Compare, Concat, Expr, In, IsNull, Like, Literal, Not, Or
from lakefeed.expr.tokens import WORDS

_BARE = re.compile(r"[^\W\d]\w*")
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2}


def to_text(expr: Expr) -> str:
    """Returns the expression as filter text, which ``parse`` turns back into the expression.

    Equal expressions have the same text.

    Example:
        >>> to_text(parse("1<x", pa.schema({"x": pa.int8()})))
        'x > 1'
    """
    match expr:
        case Column():
            return _column(expr)
        case Literal():
            return _literal(expr)
        case Arithmetic():
            return _arithmetic(expr)
        case Concat():
            right = f"({to_text(expr.right)})" if isinstance(expr.right, Concat) else to_text(expr.right)
            return f"{to_text(expr.left)} || {right}"
        case Compare():
            return f"{_operand(expr.left)} {expr.op} {_operand(expr.right)}"
        case In() | Like() | IsNull():
            return _test(expr, "")
        case Not():
            return _not(expr)
        case And():
            return " and ".join(f"({to_text(term)})" if isinstance(term, Or) else to_text(term) for term in expr.terms)
        case Or():
            return " or ".join(map(to_text, expr.terms))
        case _:
            assert_never(expr)


def quote_name(part: str) -> str:
    """Returns a name as filter text, in backticks where it would otherwise be read differently."""
    bare = _BARE.fullmatch(part) and part.lower() not in WORDS
    return part if bare else "`" + part.replace("`", "``") + "`"


def quote_string(value: str) -> str:
    """Returns the string in single quotes."""
    return "'" + value.replace("'", "''") + "'"


def _column(column: Column) -> str:
    root, *steps = column.path
    return quote_name(str(root)) + "".join(
        f"[{step}]" if isinstance(step, int) else f".{quote_name(step)}" for step in steps
    )


def _literal(literal: Literal) -> str:
    match kind(literal.type):
        case "string" | "time":
            return quote_string(format_value(literal))
        case "binary":
            return f"x'{format_value(literal)}'"
        case "date":
            return f"date '{format_value(literal)}'"
        case "timestamp" | "zoned":
            return f"timestamp '{format_value(literal)}'"
        case _:
            return format_value(literal)


def _arithmetic(expr: Arithmetic) -> str:
    strength = _STRENGTH[expr.op]
    left, right = to_text(expr.left), to_text(expr.right)
    if isinstance(expr.left, Arithmetic) and _STRENGTH[expr.left.op] < strength:
        left = f"({left})"
    if isinstance(expr.right, Arithmetic) and _STRENGTH[expr.right.op] <= strength:
        right = f"({right})"
    return f"{left} {expr.op} {right}"


def _operand(expr: Expr) -> str:
    return to_text(expr) if isinstance(expr, Column | Literal | Arithmetic | Concat) else f"({to_text(expr)})"


def _test(expr: In | Like | IsNull, negation: str) -> str:
    term = _operand(expr.term)
    match expr:
        case In():
            items = [_literal(value) for value in expr.values] + ["null"] * expr.nulls
            return f"{term} {negation}in ({', '.join(items)})"
        case Like():
            return f"{term} {negation}like {quote_string(expr.pattern)}"
        case IsNull():
            return f"{term} is {negation}null"
        case _:
            assert_never(expr)


def _not(expr: Not) -> str:
    term = expr.term
    if isinstance(term, In | Like | IsNull):
        return _test(term, "not ")
    return f"not ({to_text(term)})" if isinstance(term, And | Or) else f"not {to_text(term)}"
