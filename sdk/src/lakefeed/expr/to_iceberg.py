"""The lowering of expressions to PyIceberg expressions that are true wherever they are, for skipping files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Context, Decimal
from fractions import Fraction
from typing import TYPE_CHECKING, Any, assert_never

import pyarrow as pa

from lakefeed.expr.comparison_types import NS_PER_UNIT, kind, ns_per_unit
from lakefeed.expr.like import literal_prefix
from lakefeed.expr.nodes import (
    NEGATED,
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

if TYPE_CHECKING:
    from pyiceberg.expressions import BooleanExpression
    from pyiceberg.schema import Schema

MAX_IN_VALUES = 200  # PyIceberg does not evaluate longer `in` lists


@dataclass(frozen=True)
class _LiteralRange:
    """Values in Iceberg's unit not above and not below a literal; ``is_exact`` where both equal the literal."""

    floor: Any
    ceiling: Any
    is_exact: bool


def to_iceberg(expr: Expr, iceberg_schema: Schema) -> BooleanExpression | None:
    """Returns a PyIceberg expression that is true for every row for which ``expr`` is, and perhaps for others.

    It serves to skip files; the rows of other files still have to be filtered. It is None where no file can be skipped.

    Example:
        >>> from pyiceberg.schema import NestedField, Schema
        >>> from pyiceberg.types import LongType
        >>> columns = Schema(NestedField(1, "x", LongType()), NestedField(2, "y", LongType()))
        >>> to_iceberg(parse("x > 1 and y % 2 = 0", pa.schema({"x": pa.int64(), "y": pa.int64()})), columns)
        GreaterThan(term=Reference(name='x'), literal=LongLiteral(1))
    """
    return _lower(expr, False, iceberg_schema)


def _lower(expr: Expr, negated: bool, schema: Schema) -> BooleanExpression | None:
    """Returns an expression that is true wherever ``expr`` is true, or false where ``negated``."""
    match expr:
        case And() | Or():
            return _junction(expr, negated, schema)
        case Not():
            return _lower(expr.term, not negated, schema)
        case Literal():
            return _constant(bool(expr.value) != negated)
        case Column():
            return _compare(Compare("==", expr, Literal(not negated, pa.bool_())), schema)
        case Compare():
            return _not(expr, schema) if negated else _compare(expr, schema)
        case In():
            return None if negated else _in(expr, schema)
        case Like():
            return None if negated else _like(expr, schema)
        case IsNull():
            return _is_null(expr, negated, schema)
        case Arithmetic() | Concat():
            return None
        case _:
            assert_never(expr)


def _junction(expr: And | Or, negated: bool, schema: Schema) -> BooleanExpression | None:
    lowered = [_lower(term, negated, schema) for term in expr.terms]
    terms = [term for term in lowered if term is not None]
    if isinstance(expr, And) != negated:
        return _join_terms(_expressions().And, terms)
    return _join_terms(_expressions().Or, terms) if len(terms) == len(lowered) else None


def _not(expr: Compare, schema: Schema) -> BooleanExpression | None:
    # A value that is not less than a number may be NaN, which bounds do not count.
    if pa.types.is_floating(expr.domain):
        return None
    return _compare(Compare(NEGATED[expr.op], expr.left, expr.right), schema)


def _join_terms(join: Any, terms: Sequence[BooleanExpression]) -> BooleanExpression | None:
    if len(terms) < 2:
        return terms[0] if terms else None
    joined: BooleanExpression = join(*terms)
    return joined


def _constant(value: bool) -> BooleanExpression:
    constant: BooleanExpression = _expressions().AlwaysTrue() if value else _expressions().AlwaysFalse()
    return constant


def _compare(expr: Compare, schema: Schema) -> BooleanExpression | None:
    field = _field(expr.left, schema)
    if field is None or not isinstance(expr.right, Literal) or expr.op == "!=":
        return None
    value_range = _literal_range(dtype(expr.left), expr.right, field.type)
    return None if value_range is None else _range_test(expr.op, field, value_range, schema)


def _range_test(op: CompareOp, field: _Field, value_range: _LiteralRange, schema: Schema) -> BooleanExpression | None:
    ice = _expressions()
    exact = {"==": ice.EqualTo, "<": ice.LessThan, ">": ice.GreaterThan}
    if value_range.is_exact and op in exact:
        return _if_bindable(exact[op](field.name, value_range.floor), schema)
    above = (
        _if_bindable(ice.GreaterThanOrEqual(field.name, value_range.floor), schema) if op in ("==", ">", ">=") else None
    )
    below = (
        _if_bindable(ice.LessThanOrEqual(field.name, value_range.ceiling), schema) if op in ("==", "<", "<=") else None
    )
    return _join_terms(ice.And, [side for side in (above, below) if side is not None])


def _in(expr: In, schema: Schema) -> BooleanExpression | None:
    if not expr.values:
        return _constant(False)
    field = _field(expr.term, schema)
    if field is None:
        return None
    ranges = [_literal_range(dtype(expr.term), value, field.type) for value in expr.values]
    known = [value_range for value_range in ranges if value_range is not None]
    if len(known) < len(ranges):
        return None
    if len(known) <= MAX_IN_VALUES and all(value_range.is_exact for value_range in known):
        return _if_bindable(_expressions().In(field.name, [value_range.floor for value_range in known]), schema)
    span = _LiteralRange(
        min(value_range.floor for value_range in known),
        max(value_range.ceiling for value_range in known),
        is_exact=False,
    )
    return _range_test("==", field, span, schema)


def _like(expr: Like, schema: Schema) -> BooleanExpression | None:
    field, start = _field(expr.term, schema), literal_prefix(expr.pattern)
    if field is None or not start or _literal_range(pa.string(), Literal(start, pa.string()), field.type) is None:
        return None
    return _if_bindable(_expressions().StartsWith(field.name, start), schema)


def _is_null(expr: IsNull, negated: bool, schema: Schema) -> BooleanExpression | None:
    field = _field(expr.term, schema)
    if field is None or not field.type.is_primitive:
        return None
    if not negated and field.required and field.nested:
        # It is null where its optional struct is null, which PyIceberg ignores.
        return None
    return _if_bindable((_expressions().NotNull if negated else _expressions().IsNull)(field.name), schema)


@dataclass(frozen=True)
class _Field:
    """A field by its full name."""

    name: str
    type: Any
    required: bool
    nested: bool


def _field(term: Expr, schema: Schema) -> _Field | None:
    """Returns the field of a column; None for other terms, and where its full name is ambiguous."""
    if not isinstance(term, Column):
        return None
    inside: Any = schema.as_struct()
    field: Any = None
    for step in term.path:
        field = inside.field_by_name(step) if inside.is_struct and isinstance(step, str) else None
        if field is None:
            return None
        inside = field.field_type
    name = ".".join(map(str, term.path))
    same = schema.find_field(name).field_id == field.field_id
    return _Field(name, field.field_type, field.required, nested=len(term.path) > 1) if same else None


def _if_bindable(predicate: Any, schema: Schema) -> BooleanExpression | None:
    """Returns the predicate if PyIceberg can compare its literals with the field, else None."""
    try:
        predicate.bind(schema, case_sensitive=True)
    except (TypeError, ValueError):
        return None
    bindable: BooleanExpression = predicate
    return bindable


def _expressions() -> Any:
    # Imported late because it is slow. Untyped, because mypy needs pydantic's plugin for the constructors.
    from pyiceberg import expressions

    return expressions


def _literal_range(column: pa.DataType, literal: Literal, stored: Any) -> _LiteralRange | None:
    """Returns the position of the literal among the stored values; None if they are ordered unlike the column's."""
    from pyiceberg import types as ice

    value: Any = literal.value
    match kind(column), stored:
        case "bool", ice.BooleanType():
            return _exact_range(value)
        case "string", ice.StringType():
            return _exact_range(value)
        case "int", ice.IntegerType() | ice.LongType() if column != pa.uint64():
            return _LiteralRange(math.floor(value), math.ceil(value), is_exact=value == math.floor(value))
        case "int" | "decimal", ice.DecimalType():
            return _decimal(value, stored)
        case "float", ice.FloatType() | ice.DoubleType() if literal.type == column:
            return _exact_range(value)
        case "binary", ice.BinaryType() | ice.FixedType() | ice.UUIDType():
            return _exact_range(value)
        case "date", ice.DateType() if literal.type == pa.date32():
            return _exact_range(value)
        case ("timestamp", ice.TimestampType()) | ("zoned", ice.TimestamptzType()) | ("time", ice.TimeType()):
            return _microseconds(value, literal.type, column)
        case "timestamp" | "zoned" | "time", ice.LongType():  # they are stored in the unit of the column
            exact = Fraction(value) * ns_per_unit(literal.type) / ns_per_unit(column)
            return _LiteralRange(math.floor(exact), math.ceil(exact), is_exact=exact.denominator == 1)
    return None


def _exact_range(value: Any) -> _LiteralRange:
    return _LiteralRange(value, value, is_exact=True)


def _decimal(value: Any, stored: Any) -> _LiteralRange | None:
    if isinstance(value, float):
        return None
    scaled = Decimal(value).quantize(Decimal(1).scaleb(-stored.scale), context=Context(prec=80))
    return _exact_range(scaled) if scaled == value else None


def _microseconds(value: int, of: Any, column: Any) -> _LiteralRange:
    ns = value * ns_per_unit(of)
    floor, rest = divmod(ns, NS_PER_UNIT["us"])
    # Nanoseconds are stored as microseconds, rounded: a strict comparison would lose the rest.
    return _LiteralRange(floor, floor + (rest > 0), is_exact=rest == 0 and column.unit != "ns")
