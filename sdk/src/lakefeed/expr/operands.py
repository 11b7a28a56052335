"""Operands to typed nodes: here it is decided what may stand beside what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from lakefeed.errors import ColumnNotFoundError
from lakefeed.expr import like as patterns
from lakefeed.expr import literals
from lakefeed.expr.comparison_types import NUMBERS, common, kernel_type, kind, orderable, plain
from lakefeed.expr.literals import Moment, Null, Number, Raw, Text, UnfitError
from lakefeed.expr.nodes import (
    FLIPPED,
    MAX_DEPTH,
    Arithmetic,
    ArithmeticOp,
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
    Path,
    dtype,
)
from lakefeed.expr.to_text import text


class MisfitError(ValueError):
    """What cannot stand at a place of the text."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


@dataclass(frozen=True)
class Operand:
    """What a piece of the text means: an expression, or a literal that has no type yet."""

    value: Expr | Raw
    at: int
    depth: int = 0
    compared: bool = False

    def __str__(self) -> str:
        if isinstance(self.value, Raw):
            return literals.described(self.value)
        return f"`{text(self.value)}` of type {dtype(self.value)}"


def built(expr: Expr, at: int, inside: Iterable[Operand], compared: bool = False) -> Operand:
    """The operand that an expression over other operands makes."""
    depth = 1 + max(operand.depth for operand in inside)
    if depth > MAX_DEPTH:
        raise MisfitError(at, f"nested more than {MAX_DEPTH} deep; split the filter, or use `in`")
    return Operand(expr, at, depth, compared)


def typed(operand: Operand) -> Expr:
    """The operand as an expression; a literal takes the type that its text suggests."""
    if not isinstance(operand.value, Raw):
        return operand.value
    try:
        return literals.default(operand.value)
    except UnfitError as error:
        raise MisfitError(operand.at, str(error)) from None


def condition(operand: Operand) -> Expr:
    """The operand where true or false is needed."""
    if isinstance(operand.value, Raw) or kind(dtype(operand.value)) != "bool":
        raise MisfitError(operand.at, f"expected a condition that is true or false, found {operand}")
    return operand.value


def number(operand: Operand) -> Expr:
    """The operand where a number is needed."""
    found = typed(operand)
    if kind(dtype(found)) not in NUMBERS:
        raise MisfitError(operand.at, f"expected a number, found {operand}")
    return found


def arithmetic(op: ArithmeticOp, left: Operand, right: Operand) -> Operand:
    return built(Arithmetic(op, number(left), number(right)), left.at, (left, right))


def concatenation(left: Operand, right: Operand) -> Operand:
    """Two texts joined."""
    sides = [typed(side) for side in (left, right)]
    for side, operand in zip(sides, (left, right), strict=True):
        if kind(dtype(side)) != "string":
            raise MisfitError(operand.at, f"`||` joins text, and here is {operand}; conditions are joined by `or`")
    return built(Concat(*sides), left.at, (left, right))


def negative(operand: Operand, at: int) -> Operand:
    """Minus the operand."""
    if isinstance(operand.value, Number):
        return Operand(operand.value.negated(), at)
    return replace(arithmetic("-", Operand(Number("0"), at), operand), at=at)


def comparison(left: Operand, op: CompareOp, right: Operand, at: int) -> Expr:
    """``left op right``; beside null, whether the other side is null."""
    if isinstance(left.value, Null) or isinstance(right.value, Null):
        return _with_null(left, op, right, at)
    first, second = _paired(left, right)
    if isinstance(first, Literal) and not isinstance(second, Literal):
        op, first, second = FLIPPED[op], second, first
    domain = common(dtype(first), dtype(second))
    if domain is None:
        raise MisfitError(_place(left, right, at), f"{left} cannot be compared with {right}")
    if op not in ("==", "!=") and not orderable(domain):
        raise MisfitError(at, f"{domain} has no order: use `==` or `!=`")
    return Compare(op, first, second)


def membership(operand: Operand, items: Sequence[Operand]) -> Expr:
    """Whether the operand equals one of the items."""
    term = typed(operand)
    if common(dtype(term), dtype(term)) is None:
        raise MisfitError(operand.at, f"{operand} cannot be compared with anything")
    found = [_item(term, item) for item in items if not isinstance(item.value, Null)]
    # A literal that had to keep a type of its own equals no value of the term's type.
    own = (dtype(term), kernel_type(dtype(term)))
    values = tuple(dict.fromkeys(literal for literal in found if literal.type in own))
    return In(term, values, nulls=len(found) < len(items))


def like(operand: Operand, pattern: Operand) -> Expr:
    """Whether the operand matches the pattern."""
    term = typed(operand)
    if kind(dtype(term)) != "string":
        raise MisfitError(operand.at, f"`like` takes a string, not {operand}")
    if not isinstance(pattern.value, Text):
        raise MisfitError(pattern.at, f"`like` takes a quoted pattern, not {pattern}")
    try:
        patterns.parts(pattern.value.text)
    except ValueError as error:
        raise MisfitError(pattern.at, str(error)) from None
    return Like(term, pattern.value.text)


def column(schema: pa.Schema, path: Path) -> Column:
    """The column, struct field or list element at a path.

    Raises:
        ColumnNotFoundError: the path leads nowhere.
        UnfitError: the path goes into what has no inside.
    """
    root = str(path[0])
    index = schema.get_field_index(root)
    if index < 0:
        raise _missing(root, schema.names, "", path)
    found = plain(schema.field(index).type)
    for depth, step in enumerate(path[1:], start=1):
        found = plain(_inside(found, step, text(Column(path[:depth], found))))
    return Column(path, found)


def _inside(outer: Any, step: str | int, where: str) -> pa.DataType:
    if isinstance(step, int):
        return _element(outer, step, where)
    if not pa.types.is_struct(outer):
        raise UnfitError(f"{where} is {outer} and has no fields")
    index = outer.get_field_index(step)
    if index < 0:
        raise _missing(step, [field.name for field in outer], where, ())
    return outer.field(index).type  # type: ignore[no-any-return]  # a struct's field, whose type the stubs lose


def _element(outer: Any, index: int, where: str) -> pa.DataType:
    fixed = pa.types.is_fixed_size_list(outer)
    if not (fixed or pa.types.is_list(outer) or pa.types.is_large_list(outer)):
        raise UnfitError(f"{where} is {outer} and has no elements")
    if fixed and not -outer.list_size <= index < outer.list_size:
        raise UnfitError(f"{where} has {outer.list_size} elements, counted from 0, and none at {index}")
    return outer.value_type  # type: ignore[no-any-return]  # narrowed by predicates that the stubs do not combine


def _missing(name: str, existing: Sequence[str], where: str, path: Path) -> ColumnNotFoundError:
    dotted = ".".join(map(str, path))
    error = ColumnNotFoundError.of(name, existing, where)
    return ColumnNotFoundError(f"{error} Write `{dotted}` in backticks.") if dotted in existing else error


def _paired(left: Operand, right: Operand) -> tuple[Expr, Expr]:
    """Both sides typed; a literal takes its type from the other side."""
    if isinstance(left.value, Raw) and isinstance(right.value, Raw):
        return _paired_literals(left, right)
    if isinstance(left.value, Raw):
        return _coerced(left, typed(right)), typed(right)
    return typed(left), _coerced(right, typed(left)) if isinstance(right.value, Raw) else typed(right)


def _paired_literals(left: Operand, right: Operand) -> tuple[Expr, Expr]:
    if isinstance(left.value, Text) and isinstance(right.value, Moment):
        return _coerced(left, typed(right)), typed(right)
    if isinstance(left.value, Moment) and isinstance(right.value, Text):
        return typed(left), _coerced(right, typed(left))
    return typed(left), typed(right)


def _coerced(operand: Operand, beside: Expr) -> Expr:
    if not isinstance(operand.value, Raw):
        return operand.value
    try:
        return literals.coerce(operand.value, dtype(beside))
    except UnfitError as error:
        raise MisfitError(operand.at, f"`{text(beside)}`: {error}") from None


def _with_null(left: Operand, op: CompareOp, right: Operand, at: int) -> Expr:
    if op not in ("==", "!="):
        raise MisfitError(at, "nothing is less or greater than null; use `is null` or `is not null`")
    found = IsNull(typed(right if isinstance(left.value, Null) else left))
    return found if op == "==" else Not(found)


def _item(term: Expr, item: Operand) -> Literal:
    found = _coerced(item, term)
    fits = isinstance(item.value, Raw) or (isinstance(found, Literal) and kind(dtype(term)) == "bool")
    if not fits or not isinstance(found, Literal):
        raise MisfitError(item.at, f"expected a literal that is compared with {dtype(term)}, found {item}")
    return found


def _place(left: Operand, right: Operand, at: int) -> int:
    literal = next((side for side in (right, left) if isinstance(side.value, Literal | Raw)), None)
    return at if literal is None else literal.at
