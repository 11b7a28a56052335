"""Pruning by statistics: finds row groups in which no row can match.

For every part of an expression two outcomes are computed: "may be true" and "may be false". Each errs towards yes, and
``not`` swaps them. So negations need no special rules, and unknown bounds never prune.
"""

from __future__ import annotations

import datetime as dt
import math
from bisect import bisect_left
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias, assert_never

import pyarrow as pa

from lakefeed.expr.comparison_types import NS_PER_DAY, NS_PER_UNIT, kernel_type, kind, ns_per_unit
from lakefeed.expr.like import literal_prefix
from lakefeed.expr.nodes import (
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
    children,
    conjoin,
    conjuncts,
    dtype,
)

_EPOCH = dt.datetime(1970, 1, 1)
_ROUNDING_STEPS = 4


@dataclass(frozen=True)
class Bounds:
    """The statistics of a column in some rows; None means unknown.

    Args:
        min: not above the smallest value that is neither null nor NaN.
        max: not below the greatest such value, or for text the beginning of a value not below it.
        null_count: the number of nulls.
        rows: the number of rows.

    ``min`` and ``max`` are Python values, Arrow scalars, or integers in the unit of the column's type.
    """

    min: Any = None
    max: Any = None
    null_count: int | None = None
    rows: int | None = None

    @property
    def only_nulls(self) -> bool:
        return self.rows is not None and self.null_count is not None and self.null_count >= self.rows


def merge_bounds(parts: Sequence[Bounds]) -> Bounds:
    """Returns the bounds of the rows of all parts together.

    Example:
        >>> merge_bounds([Bounds(1, 3, 0, 10), Bounds(2, 7, 1, 10)])
        Bounds(min=1, max=7, null_count=1, rows=20)
    """
    nulls, rows = [part.null_count for part in parts], [part.rows for part in parts]
    spans = [(part.min, part.max) for part in parts if not part.only_nulls]
    low, high = _enclosing_range(spans)
    return Bounds(low, high, _sum_known(nulls), _sum_known(rows))


def _enclosing_range(spans: Sequence[tuple[Any, Any]]) -> tuple[Any, Any]:
    # Contradictory bounds (such as NaN) are unknown, and so is their union with others.
    try:
        if not spans or not all(low <= high for low, high in spans):
            return None, None
        low, high = min(low for low, _ in spans), max(high for _, high in spans)
    except TypeError:
        return None, None
    if isinstance(high, str | bytes):
        # A truncated bound stands for larger values than a longer one with the same beginning.
        high = min((end for _, end in spans if high.startswith(end)), key=len)
    return low, high


def _sum_known(counts: Sequence[int | None]) -> int | None:
    known = [count for count in counts if count is not None]
    return sum(known) if len(known) == len(counts) else None


@dataclass(frozen=True)
class _Interval:
    """Values between two ordinals; None is unbounded."""

    low: Any = None
    high: Any = None

    @property
    def single(self) -> bool:
        return self.low is not None and self.low == self.high


Stats: TypeAlias = Mapping[tuple[str, ...], Bounds]
_Outcomes: TypeAlias = tuple[bool, bool]
_ANY: _Outcomes = (True, True)
_NEITHER: _Outcomes = (False, False)


def can_match(expr: Expr, stats: Stats) -> bool:
    """Returns whether a row with such bounds may make the expression true.

    Args:
        expr: a condition.
        stats: bounds by the path of a column or struct field; missing paths are unknown.

    Example:
        >>> can_match(parse("x > 9", pa.schema({"x": pa.int8()})), {("x",): Bounds(min=0, max=5)})
        False
    """
    return _outcomes(expr, stats)[0]


def residual(expr: Expr, stats: Stats) -> Expr | None:
    """Returns the terms of the expression that a row with such bounds may not fulfil.

    It is None where all rows make the expression true, and the expression itself where nothing is known.

    Example:
        >>> schema = pa.schema({"x": pa.int8(), "y": pa.int8()})
        >>> left = residual(parse("x > 9 and y > 9", schema), {("x",): Bounds(10, 20, null_count=0)})
        >>> left == parse("y > 9", schema)
        True
    """
    terms = conjuncts(expr)
    left = [term for term in terms if _outcomes(term, stats)[1] or _may_be_null(term, stats)]
    return expr if len(left) == len(terms) else conjoin(left)


def _may_be_null(expr: Expr, stats: Stats) -> bool:
    match expr:
        case Literal() | IsNull():
            return False
        case Column():
            bounds = _bounds_of(expr, stats)
            return bounds is None or bounds.null_count != 0
        case Arithmetic() | Concat():
            return True
        case In():
            return expr.nulls or _may_be_null(expr.term, stats)
        case Compare() | Like() | Not() | And() | Or():
            return any(_may_be_null(child, stats) for child in children(expr))
        case _:
            assert_never(expr)


def _outcomes(expr: Expr, stats: Stats) -> _Outcomes:
    """Returns whether the expression may be true, and whether it may be false."""
    match expr:
        case Literal():
            return bool(expr.value), not expr.value
        case Column():
            return _compare_intervals("==", _interval(expr, pa.bool_(), stats), _Interval(True, True))
        case Compare():
            return _compare(expr, stats)
        case In():
            return _in(expr, _interval(expr.term, expr.domain, stats))
        case Like():
            return _like(expr, _interval(expr.term, kernel_type(dtype(expr.term)), stats))
        case IsNull():
            return _is_null(expr, stats)
        case Not():
            true, false = _outcomes(expr.term, stats)
            return false, true
        case And():
            outcomes = [_outcomes(term, stats) for term in expr.terms]
            return all(true for true, _ in outcomes), any(false for _, false in outcomes)
        case Or():
            outcomes = [_outcomes(term, stats) for term in expr.terms]
            return any(true for true, _ in outcomes), all(false for _, false in outcomes)
        case Arithmetic() | Concat():
            return _ANY
        case _:
            assert_never(expr)


def _compare(expr: Compare, stats: Stats) -> _Outcomes:
    left, right = _interval(expr.left, expr.domain, stats), _interval(expr.right, expr.domain, stats)
    true, false = _compare_intervals(expr.op, left, right)
    if kind(expr.domain) != "float" or left is None or right is None:
        return true, false
    # Bounds do not count NaN, which makes every comparison false and `!=` true.
    return (True, false) if expr.op == "!=" else (true, True)


def _compare_intervals(op: CompareOp, left: _Interval | None, right: _Interval | None) -> _Outcomes:
    if left is None or right is None:
        return _NEITHER
    match op:
        case "<":
            return _may_be_less(left, right), _may_reach(right, left)
        case "<=":
            return _may_reach(left, right), _may_be_less(right, left)
        case ">" | ">=":
            return _compare_intervals("<" if op == ">" else "<=", right, left)
        case "==":
            apart = left.single and right.single and left.low == right.low
            return _may_reach(left, right) and _may_reach(right, left), not apart
        case "!=":
            equal, unequal = _compare_intervals("==", left, right)
            return unequal, equal
        case _:
            assert_never(op)


def _may_be_less(left: _Interval, right: _Interval) -> bool:
    return left.low is None or right.high is None or bool(left.low < right.high)


def _may_reach(left: _Interval, right: _Interval) -> bool:
    return left.low is None or right.high is None or bool(left.low <= right.high)


def _in(expr: In, span: _Interval | None) -> _Outcomes:
    if span is None:
        return _NEITHER

    def key(value: Any) -> Any:
        return _ordinal(value, dtype(expr.term), expr.domain)

    index = 0 if span.low is None else bisect_left(expr.ordered, span.low, key=key)
    inside = index < len(expr.ordered) and (span.high is None or bool(key(expr.ordered[index]) <= span.high))
    always = inside and span.single and kind(expr.domain) != "float"
    return inside, not always


def _like(expr: Like, span: _Interval | None) -> _Outcomes:
    if span is None:
        return _NEITHER
    start = literal_prefix(expr.pattern)
    low_fits = span.low is None or span.low[: len(start)] <= start
    return low_fits and (span.high is None or span.high >= start), True


def _is_null(expr: IsNull, stats: Stats) -> _Outcomes:
    bounds = _bounds_of(expr.term, stats)
    if bounds is None:
        return _ANY
    return bounds.null_count is None or bounds.null_count > 0, not bounds.only_nulls


def _bounds_of(term: Expr, stats: Stats) -> Bounds | None:
    names = tuple(step for step in term.path if isinstance(step, str)) if isinstance(term, Column) else ()
    return stats.get(names) if isinstance(term, Column) and names == term.path else None


def _interval(term: Expr, domain: pa.DataType, stats: Stats) -> _Interval | None:
    """Returns the interval of the term's values as ordinals of the domain; None if all are null."""
    if isinstance(term, Literal):
        value = _ordinal(term.value, term.type, domain)
        return _widen(_Interval(value, value), term.type, domain)
    bounds = _bounds_of(term, stats)
    if bounds is None:
        return _Interval()
    if bounds.only_nulls:
        return None
    of = dtype(term)
    low, high = _ordinal(bounds.min, of, domain), _ordinal(bounds.max, of, domain)
    if low is not None and (_impossible(low, of) or (high is not None and low > high)):
        return _Interval()
    return _widen(_Interval(low, _upper_ordinal(high, bounds.max, of)), of, domain)


def _impossible(low: Any, of: pa.DataType) -> bool:
    # Bounds of unsigned integers that were ordered as signed ones.
    return pa.types.is_unsigned_integer(of) and low < 0


def _widen(span: _Interval, of: pa.DataType, domain: pa.DataType) -> _Interval:
    """Returns the interval widened by some units in the last index where a decimal becomes a float, which rounds."""
    if kind(of) != "decimal" or kind(domain) != "float":
        return span
    low, high = span.low, span.high
    for _ in range(_ROUNDING_STEPS):
        low = None if low is None else math.nextafter(low, -math.inf)
        high = None if high is None else math.nextafter(high, math.inf)
    return _Interval(low, high)


def _upper_ordinal(high: Any, bound: Any, of: pa.DataType) -> Any:
    """Returns an upper bound that holds although the stored one may be truncated (text, nanoseconds)."""
    if isinstance(high, str):
        return _string_after(high)
    if isinstance(high, bytes):
        return _bytes_after(high)
    if isinstance(bound, dt.datetime | dt.time) and high is not None:
        return high + NS_PER_UNIT["us"] - 1
    return high


def _bytes_after(value: bytes) -> bytes | None:
    """Returns bytes above all that begin with ``value``; None if there are none."""
    trimmed = value.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else None


def _string_after(text: str) -> str | None:
    """Returns a string above every string that begins with ``text``; None if there is none."""
    trimmed = text.rstrip("\U0010ffff")
    # Skip the surrogates, which valid strings do not contain.
    following = 0xE000 if trimmed[-1:] == "\ud7ff" else ord(trimmed[-1]) + 1 if trimmed else 0
    return trimmed[:-1] + chr(following) if trimmed else None


def _ordinal(value: Any, of: pa.DataType, domain: pa.DataType) -> Any:
    """Returns the value in the order of the domain, times in nanoseconds; None where it is unknown."""
    if isinstance(value, pa.Scalar):
        temporal = kind(value.type) in _TEMPORAL
        value, of = (value.value, value.type) if temporal else (value.as_py(), of)  # type: ignore[attr-defined]  # temporal scalars have it
    try:
        return None if value is None else _ORDINALS[kind(domain)](value, of)
    except (TypeError, ValueError, ArithmeticError):
        return None


def _instances_of(*accepted: type) -> Callable[[Any, Any], Any]:
    def ordinal(value: Any, of: Any) -> Any:
        return value if isinstance(value, accepted) and not isinstance(value, bool) else None

    return ordinal


def _whole(value: Any, of: Any) -> int | None:
    """Returns a whole number, which may be stored as a decimal."""
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _text(value: Any, of: Any) -> Any:
    return value.decode() if isinstance(value, bytes) else _instances_of(str)(value, of)


def _float(value: Any, of: Any) -> float | None:
    # float() would also parse bytes.
    number = float(value) if isinstance(value, int | float | Decimal) else math.nan
    return None if math.isnan(number) else number


def _ns(value: Any, of: Any) -> int | None:
    if isinstance(value, int):
        return int(value) * ns_per_unit(of)
    if isinstance(value, dt.datetime):
        naive = value if value.tzinfo is None else value.astimezone(dt.UTC).replace(tzinfo=None)
        return (naive - _EPOCH) // dt.timedelta(microseconds=1) * NS_PER_UNIT["us"]
    if isinstance(value, dt.date):
        return (value - _EPOCH.date()).days * NS_PER_DAY
    if isinstance(value, dt.time):
        seconds = value.hour * 3600 + value.minute * 60 + value.second
        return seconds * NS_PER_UNIT["s"] + value.microsecond * NS_PER_UNIT["us"]
    return None


_TEMPORAL = ("date", "timestamp", "zoned", "time")
_ORDINALS: dict[str, Callable[[Any, Any], Any]] = {
    "bool": lambda value, of: value if isinstance(value, bool) else None,
    "int": _whole,
    "decimal": _instances_of(int, Decimal),
    "float": _float,
    "string": _text,
    "binary": _instances_of(bytes),
    "duration": lambda value, of: None,
    "other": lambda value, of: None,
    **dict.fromkeys(_TEMPORAL, _ns),
}
