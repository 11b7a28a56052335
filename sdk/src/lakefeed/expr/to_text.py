"""Expressions as text that parses to the same expression."""

from __future__ import annotations

import re
from typing import assert_never

from lakefeed.expr.comparison_types import kind
from lakefeed.expr.literals import written
from lakefeed.expr.nodes import And, Arithmetic, Column, Compare, Concat, Expr, In, IsNull, Like, Literal, Not, Or
from lakefeed.expr.tokens import WORDS

_BARE = re.compile(r"[^\W\d]\w*")
_STRENGTH = {"+": 1, "-": 1, "*": 2, "/": 2, "%": 2}


def text(expr: Expr) -> str:
    """The expression as filter text, the same for equal expressions; ``parse`` gives the expression back.

    Example:
        >>> text(parse("1<x", pa.schema({"x": pa.int8()})))
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
            right = f"({text(expr.right)})" if isinstance(expr.right, Concat) else text(expr.right)
            return f"{text(expr.left)} || {right}"
        case Compare():
            return f"{_operand(expr.left)} {expr.op} {_operand(expr.right)}"
        case In() | Like() | IsNull():
            return _test(expr, "")
        case Not():
            return _not(expr)
        case And():
            return " and ".join(f"({text(term)})" if isinstance(term, Or) else text(term) for term in expr.terms)
        case Or():
            return " or ".join(map(text, expr.terms))
        case _:
            assert_never(expr)


def name(part: str) -> str:
    """A name as it is written in filter text: in backticks where it would mean something else."""
    bare = _BARE.fullmatch(part) and part.lower() not in WORDS
    return part if bare else "`" + part.replace("`", "``") + "`"


def quoted(value: str) -> str:
    """A string in single quotes."""
    return "'" + value.replace("'", "''") + "'"


def _column(column: Column) -> str:
    root, *steps = column.path
    return name(str(root)) + "".join(f"[{step}]" if isinstance(step, int) else f".{name(step)}" for step in steps)


def _literal(literal: Literal) -> str:
    match kind(literal.type):
        case "string" | "time":
            return quoted(written(literal))
        case "date":
            return f"date '{written(literal)}'"
        case "timestamp" | "zoned":
            return f"timestamp '{written(literal)}'"
        case _:
            return written(literal)


def _arithmetic(expr: Arithmetic) -> str:
    strength = _STRENGTH[expr.op]
    left, right = text(expr.left), text(expr.right)
    if isinstance(expr.left, Arithmetic) and _STRENGTH[expr.left.op] < strength:
        left = f"({left})"
    if isinstance(expr.right, Arithmetic) and _STRENGTH[expr.right.op] <= strength:
        right = f"({right})"
    return f"{left} {expr.op} {right}"


def _operand(expr: Expr) -> str:
    return text(expr) if isinstance(expr, Column | Literal | Arithmetic | Concat) else f"({text(expr)})"


def _test(expr: In | Like | IsNull, negation: str) -> str:
    term = _operand(expr.term)
    match expr:
        case In():
            items = [_literal(value) for value in expr.values] + ["null"] * expr.nulls
            return f"{term} {negation}in ({', '.join(items)})"
        case Like():
            return f"{term} {negation}like {quoted(expr.pattern)}"
        case IsNull():
            return f"{term} is {negation}null"
        case _:
            assert_never(expr)


def _not(expr: Not) -> str:
    term = expr.term
    if isinstance(term, In | Like | IsNull):
        return _test(term, "not ")
    return f"not ({text(term)})" if isinstance(term, And | Or) else f"not {text(term)}"
