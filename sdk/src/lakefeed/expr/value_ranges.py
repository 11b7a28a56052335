"""Conditions that a column lies within values of Arrow arrays, of every type that has an order."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.expr.comparison_types import Kind, decoded_type, kernel_type, kind
from lakefeed.expr.nodes import Column, Compare, CompareOp, Expr, Literal, conjoin

DECIMAL_BITS = 128
"""Arrow has no kernels for narrower decimals."""
WITHOUT_ORDER: frozenset[Kind] = frozenset(("other", "float", "duration"))


def has_order(of: pa.DataType) -> bool:
    """Returns whether values of a type can be the ends of ranges. NaN has no place in an order, so floats cannot."""
    return kind(decoded_type(of)) not in WITHOUT_ORDER


def comparison(name: str, of: pa.DataType, op: CompareOp, value: Any) -> Compare:
    """Returns the comparison of a column with a Python value that is not null.

    Example:
        >>> comparison("at", pa.date32(), ">=", 7).right.value
        7
    """
    to = _ordered_type(of)
    return _compare(name, of, op, pa.array([value], to))


def between(name: str, of: pa.DataType, values: Any) -> Expr | None:
    """Returns the condition that a column lies between the least and the greatest of values; None without values."""
    to = _ordered_type(of)
    if len(values) == values.null_count:
        return None
    known = values if values.type == to else values.cast(to)
    ends: Any = pc.min_max(known)
    low, high = (pa.repeat(ends[end], 1) for end in ("min", "max"))
    return conjoin((_compare(name, of, ">=", low), _compare(name, of, "<=", high)))


def _ordered_type(of: pa.DataType) -> pa.DataType:
    """Returns the type in which Arrow orders values."""
    plain: Any = kernel_type(decoded_type(of))
    narrow = pa.types.is_decimal(plain) and plain.bit_width < DECIMAL_BITS
    return pa.decimal128(plain.precision, plain.scale) if narrow else plain


def plain_value(value: Any, to: pa.DataType) -> Any:
    """Returns a value as the number, text or bytes that is compared in a type; None if it does not fit the type.

    Times are numbers in the unit of the type.
    """
    if value is None or (type(value) in (int, bool) and _is_temporal(to)):
        return value
    try:
        return plain_values(pa.array([value], to))[0]
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, OverflowError, ValueError):
        return None


def plain_values(values: Any) -> list[Any]:
    """Returns the values as numbers, text or bytes. Times are numbers in the unit of the type."""
    of = values.type
    if pa.types.is_date32(of) or pa.types.is_time32(of):
        values = values.cast(pa.int32())
    elif _is_temporal(of):
        values = values.cast(pa.int64())
    plain: list[Any] = values.to_pylist()
    return plain


def _compare(name: str, of: pa.DataType, op: CompareOp, value: Any) -> Compare:
    return Compare(op, Column((name,), decoded_type(of)), Literal(plain_values(value)[0], value.type))


def _is_temporal(of: pa.DataType) -> bool:
    return kind(of) in ("date", "time", "timestamp", "zoned")
