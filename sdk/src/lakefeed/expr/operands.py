"""Operands to typed nodes: here it is decided what may stand beside what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from lakefeed.errors import ColumnNotFoundError
from lakefeed.expr import like as patterns
from lakefeed.expr import literals
from lakefeed.expr.comparison_types import NUMBERS, common_type, decoded_type, is_orderable, kernel_type, kind
from lakefeed.expr.literals import IncompatibleLiteralError, Moment, Null, Number, RawLiteral, Text
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
from lakefeed.expr.to_text import to_text


class OperandError(ValueError):
    """What cannot stand at a place of the text."""

    def __init__(self, at: int, what: str) -> None:
        super().__init__(what)
        self.at = at


@dataclass(frozen=True)
class Operand:
    """What a piece of the text means: an expression, or a literal that has no type yet."""

    value: Expr | RawLiteral
    at: int
    depth: int = 0
    compared: bool = False

    def __str__(self) -> str:
        if isinstance(self.value, RawLiteral):
            return literals.describe_literal(self.value)
        return f"`{to_text(self.value)}` of type {dtype(self.value)}"


def make_operand(expr: Expr, at: int, inside: Iterable[Operand], compared: bool = False) -> Operand:
    """The operand that an expression over other operands makes."""
    depth = 1 + max(operand.depth for operand in inside)
    if depth > MAX_DEPTH:
        raise OperandError(at, f"nested more than {MAX_DEPTH} deep; split the filter, or use `in`")
    return Operand(expr, at, depth, compared)


def to_expression(operand: Operand) -> Expr:
    """The operand as an expression; a literal takes the type that its text suggests."""
    if not isinstance(operand.value, RawLiteral):
        return operand.value
    try:
        return literals.infer_literal(operand.value)
    except IncompatibleLiteralError as error:
        raise OperandError(operand.at, str(error)) from None


def to_condition(operand: Operand) -> Expr:
    """The operand where true or false is needed."""
    if isinstance(operand.value, RawLiteral) or kind(dtype(operand.value)) != "bool":
        raise OperandError(operand.at, f"expected a condition that is true or false, found {operand}")
    return operand.value


def to_number(operand: Operand) -> Expr:
    """The operand where a number is needed."""
    found = to_expression(operand)
    if kind(dtype(found)) not in NUMBERS:
        raise OperandError(operand.at, f"expected a number, found {operand}")
    return found


def arithmetic(op: ArithmeticOp, left: Operand, right: Operand) -> Operand:
    return make_operand(Arithmetic(op, to_number(left), to_number(right)), left.at, (left, right))


def concatenation(left: Operand, right: Operand) -> Operand:
    """Two texts joined."""
    sides = [to_expression(side) for side in (left, right)]
    for side, operand in zip(sides, (left, right), strict=True):
        if kind(dtype(side)) != "string":
            raise OperandError(operand.at, f"`||` joins text, and here is {operand}; conditions are joined by `or`")
    return make_operand(Concat(*sides), left.at, (left, right))


def negative(operand: Operand, at: int) -> Operand:
    """Minus the operand."""
    if isinstance(operand.value, Number):
        return Operand(operand.value.negated(), at)
    return replace(arithmetic("-", Operand(Number("0"), at), operand), at=at)


def comparison(left: Operand, op: CompareOp, right: Operand, at: int) -> Expr:
    """``left op right``; beside null, whether the other side is null."""
    if isinstance(left.value, Null) or isinstance(right.value, Null):
        return _null_test(left, op, right, at)
    first, second = _pair(left, right)
    if isinstance(first, Literal) and not isinstance(second, Literal):
        op, first, second = FLIPPED[op], second, first
    domain = common_type(dtype(first), dtype(second))
    if domain is None:
        raise OperandError(_error_offset(left, right, at), f"{left} cannot be compared with {right}")
    if op not in ("==", "!=") and not is_orderable(domain):
        raise OperandError(at, f"{domain} has no order: use `==` or `!=`")
    return Compare(op, first, second)


def membership(operand: Operand, items: Sequence[Operand]) -> Expr:
    """Whether the operand equals one of the items."""
    term = to_expression(operand)
    if common_type(dtype(term), dtype(term)) is None:
        raise OperandError(operand.at, f"{operand} cannot be compared with anything")
    found = [_list_item(term, item) for item in items if not isinstance(item.value, Null)]
    # A literal that had to keep a type of its own equals no value of the term's type.
    own = (dtype(term), kernel_type(dtype(term)))
    values = tuple(dict.fromkeys(literal for literal in found if literal.type in own))
    return In(term, values, nulls=len(found) < len(items))


def like(operand: Operand, pattern: Operand) -> Expr:
    """Whether the operand matches the pattern."""
    term = to_expression(operand)
    if kind(dtype(term)) != "string":
        raise OperandError(operand.at, f"`like` takes a string, not {operand}")
    if not isinstance(pattern.value, Text):
        raise OperandError(pattern.at, f"`like` takes a quoted pattern, not {pattern}")
    try:
        patterns.parse_pattern(pattern.value.text)
    except ValueError as error:
        raise OperandError(pattern.at, str(error)) from None
    return Like(term, pattern.value.text)


def column(schema: pa.Schema, path: Path) -> Column:
    """The column, struct field or list element at a path.

    Raises:
        ColumnNotFoundError: the path leads nowhere.
        IncompatibleLiteralError: the path goes into what has no inside.
    """
    root = str(path[0])
    index = schema.get_field_index(root)
    if index < 0:
        raise _missing_error(root, schema.names, "", path)
    found = decoded_type(schema.field(index).type)
    for depth, step in enumerate(path[1:], start=1):
        found = decoded_type(_child_type(found, step, to_text(Column(path[:depth], found))))
    return Column(path, found)


def _child_type(outer: Any, step: str | int, where: str) -> pa.DataType:
    if isinstance(step, int):
        return _element_type(outer, step, where)
    if not pa.types.is_struct(outer):
        raise IncompatibleLiteralError(f"{where} is {outer} and has no fields")
    index = outer.get_field_index(step)
    if index < 0:
        raise _missing_error(step, [field.name for field in outer], where, ())
    return outer.field(index).type  # type: ignore[no-any-return]  # a struct's field, whose type the stubs lose


def _element_type(outer: Any, index: int, where: str) -> pa.DataType:
    fixed = pa.types.is_fixed_size_list(outer)
    if not (fixed or pa.types.is_list(outer) or pa.types.is_large_list(outer)):
        raise IncompatibleLiteralError(f"{where} is {outer} and has no elements")
    if fixed and not -outer.list_size <= index < outer.list_size:
        raise IncompatibleLiteralError(f"{where} has {outer.list_size} elements, counted from 0, and none at {index}")
    return outer.value_type  # type: ignore[no-any-return]  # narrowed by predicates that the stubs do not combine


def _missing_error(name: str, existing: Sequence[str], where: str, path: Path) -> ColumnNotFoundError:
    dotted = ".".join(map(str, path))
    error = ColumnNotFoundError.of(name, existing, where)
    return ColumnNotFoundError(f"{error} Write `{dotted}` in backticks.") if dotted in existing else error


def _pair(left: Operand, right: Operand) -> tuple[Expr, Expr]:
    """Both sides typed; a literal takes its type from the other side."""
    if isinstance(left.value, RawLiteral) and isinstance(right.value, RawLiteral):
        return _pair_literals(left, right)
    if isinstance(left.value, RawLiteral):
        return _coerce(left, to_expression(right)), to_expression(right)
    return to_expression(left), _coerce(right, to_expression(left)) if isinstance(
        right.value, RawLiteral
    ) else to_expression(right)


def _pair_literals(left: Operand, right: Operand) -> tuple[Expr, Expr]:
    if isinstance(left.value, Text) and isinstance(right.value, Moment):
        return _coerce(left, to_expression(right)), to_expression(right)
    if isinstance(left.value, Moment) and isinstance(right.value, Text):
        return to_expression(left), _coerce(right, to_expression(left))
    return to_expression(left), to_expression(right)


def _coerce(operand: Operand, beside: Expr) -> Expr:
    if not isinstance(operand.value, RawLiteral):
        return operand.value
    try:
        return literals.coerce_literal(operand.value, dtype(beside))
    except IncompatibleLiteralError as error:
        raise OperandError(operand.at, f"`{to_text(beside)}`: {error}") from None


def _null_test(left: Operand, op: CompareOp, right: Operand, at: int) -> Expr:
    if op not in ("==", "!="):
        raise OperandError(at, "nothing is less or greater than null; use `is null` or `is not null`")
    found = IsNull(to_expression(right if isinstance(left.value, Null) else left))
    return found if op == "==" else Not(found)


def _list_item(term: Expr, item: Operand) -> Literal:
    found = _coerce(item, term)
    fits = isinstance(item.value, RawLiteral) or (isinstance(found, Literal) and kind(dtype(term)) == "bool")
    if not fits or not isinstance(found, Literal):
        raise OperandError(item.at, f"expected a literal that is compared with {dtype(term)}, found {item}")
    return found


def _error_offset(left: Operand, right: Operand, at: int) -> int:
    literal = next((side for side in (right, left) if isinstance(side.value, Literal | RawLiteral)), None)
    return at if literal is None else literal.at
