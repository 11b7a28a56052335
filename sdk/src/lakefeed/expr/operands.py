"""Rules for which operands may be combined; they turn operands into typed nodes."""

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
    """An operand is not valid at ``offset`` in the text."""

    def __init__(self, offset: int, message: str) -> None:
        super().__init__(message)
        self.offset = offset


@dataclass(frozen=True)
class Operand:
    """The meaning of a part of the text: an expression, or a literal without a type."""

    value: Expr | RawLiteral
    offset: int
    depth: int = 0
    compared: bool = False

    def __str__(self) -> str:
        if isinstance(self.value, RawLiteral):
            return literals.describe_literal(self.value)
        return f"`{to_text(self.value)}` of type {dtype(self.value)}"


def make_operand(expr: Expr, offset: int, inside: Iterable[Operand], compared: bool = False) -> Operand:
    """Returns the operand for an expression over the operands ``inside``.

    Raises:
        OperandError: the expression is nested too deeply.
    """
    depth = 1 + max(operand.depth for operand in inside)
    if depth > MAX_DEPTH:
        raise OperandError(offset, f"nested more than {MAX_DEPTH} levels; split the filter, or use `in`")
    return Operand(expr, offset, depth, compared)


def to_expression(operand: Operand) -> Expr:
    """Returns the operand as an expression; a literal takes the type that its text suggests."""
    if not isinstance(operand.value, RawLiteral):
        return operand.value
    try:
        return literals.infer_literal(operand.value)
    except IncompatibleLiteralError as error:
        raise OperandError(operand.offset, str(error)) from None


def to_condition(operand: Operand) -> Expr:
    """Returns the operand as a condition.

    Raises:
        OperandError: the operand is not a condition.
    """
    if isinstance(operand.value, RawLiteral) or kind(dtype(operand.value)) != "bool":
        raise OperandError(operand.offset, f"expected a condition, found {operand}")
    return operand.value


def to_number(operand: Operand) -> Expr:
    """Returns the operand as a number.

    Raises:
        OperandError: the operand is not a number.
    """
    expr = to_expression(operand)
    if kind(dtype(expr)) not in NUMBERS:
        raise OperandError(operand.offset, f"expected a number, found {operand}")
    return expr


def arithmetic(op: ArithmeticOp, left: Operand, right: Operand) -> Operand:
    """Returns ``left op right``."""
    return make_operand(Arithmetic(op, to_number(left), to_number(right)), left.offset, (left, right))


def concatenation(left: Operand, right: Operand) -> Operand:
    """Returns two texts joined."""
    sides = [to_expression(side) for side in (left, right)]
    for side, operand in zip(sides, (left, right), strict=True):
        if kind(dtype(side)) != "string":
            raise OperandError(operand.offset, f"`||` joins texts, found {operand}; join conditions with `or`")
    return make_operand(Concat(*sides), left.offset, (left, right))


def negative(operand: Operand, offset: int) -> Operand:
    """Returns the negated operand."""
    if isinstance(operand.value, Number):
        return Operand(operand.value.negated(), offset)
    return replace(arithmetic("-", Operand(Number("0"), offset), operand), offset=offset)


def comparison(left: Operand, op: CompareOp, right: Operand, offset: int) -> Expr:
    """Returns ``left op right``; beside null, a test for null."""
    if isinstance(left.value, Null) or isinstance(right.value, Null):
        return _null_test(left, op, right, offset)
    first, second = _pair(left, right)
    if isinstance(first, Literal) and not isinstance(second, Literal):
        op, first, second = FLIPPED[op], second, first
    domain = common_type(dtype(first), dtype(second))
    if domain is None:
        raise OperandError(_error_offset(left, right, offset), f"{left} cannot be compared with {right}")
    if op not in ("==", "!=") and not is_orderable(domain):
        raise OperandError(offset, f"{domain} has no order; use `==` or `!=`")
    return Compare(op, first, second)


def membership(operand: Operand, items: Sequence[Operand]) -> Expr:
    """Returns the test whether the operand equals one of the items."""
    term = to_expression(operand)
    if common_type(dtype(term), dtype(term)) is None:
        raise OperandError(operand.offset, f"{operand} cannot be compared with anything")
    literal_items = [_list_item(term, item) for item in items if not isinstance(item.value, Null)]
    # A literal of another type equals no value of the term's type.
    own = (dtype(term), kernel_type(dtype(term)))
    values = tuple(dict.fromkeys(literal for literal in literal_items if literal.type in own))
    return In(term, values, nulls=len(literal_items) < len(items))


def like(operand: Operand, pattern: Operand) -> Expr:
    """Returns the test whether the operand matches the pattern."""
    term = to_expression(operand)
    if kind(dtype(term)) != "string":
        raise OperandError(operand.offset, f"`like` needs a string, found {operand}")
    if not isinstance(pattern.value, Text):
        raise OperandError(pattern.offset, f"`like` needs a quoted pattern, found {pattern}")
    try:
        patterns.parse_pattern(pattern.value.text)
    except ValueError as error:
        raise OperandError(pattern.offset, str(error)) from None
    return Like(term, pattern.value.text)


def column(schema: pa.Schema, path: Path) -> Column:
    """Returns the column, struct field or list element at a path.

    Raises:
        ColumnNotFoundError: the column or field does not exist.
        IncompatibleLiteralError: a type on the path has no fields or elements.
    """
    root = str(path[0])
    index = schema.get_field_index(root)
    if index < 0:
        raise _missing_error(root, schema.names, "", path)
    data_type = decoded_type(schema.field(index).type)
    for depth, step in enumerate(path[1:], start=1):
        data_type = decoded_type(_child_type(data_type, step, to_text(Column(path[:depth], data_type))))
    return Column(path, data_type)


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
        raise IncompatibleLiteralError(f"{where} has {outer.list_size} elements; index {index} is out of range")
    return outer.value_type  # type: ignore[no-any-return]  # narrowed by predicates that the stubs do not combine


def _missing_error(name: str, existing: Sequence[str], where: str, path: Path) -> ColumnNotFoundError:
    dotted = ".".join(map(str, path))
    error = ColumnNotFoundError.of(name, existing, where)
    return ColumnNotFoundError(f"{error} Write `{dotted}` in backticks.") if dotted in existing else error


def _pair(left: Operand, right: Operand) -> tuple[Expr, Expr]:
    """Returns both sides typed; a literal takes its type from the other side."""
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
        raise OperandError(operand.offset, f"`{to_text(beside)}`: {error}") from None


def _null_test(left: Operand, op: CompareOp, right: Operand, offset: int) -> Expr:
    if op not in ("==", "!="):
        raise OperandError(offset, "null cannot be ordered; use `is null` or `is not null`")
    is_null = IsNull(to_expression(right if isinstance(left.value, Null) else left))
    return is_null if op == "==" else Not(is_null)


def _list_item(term: Expr, item: Operand) -> Literal:
    literal = _coerce(item, term)
    fits = isinstance(item.value, RawLiteral) or (isinstance(literal, Literal) and kind(dtype(term)) == "bool")
    if not fits or not isinstance(literal, Literal):
        raise OperandError(item.offset, f"expected a literal comparable with {dtype(term)}, found {item}")
    return literal


def _error_offset(left: Operand, right: Operand, offset: int) -> int:
    literal = next((side for side in (right, left) if isinstance(side.value, Literal | RawLiteral)), None)
    return offset if literal is None else literal.offset
