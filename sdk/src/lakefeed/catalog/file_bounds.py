"""The bounds of columns in data files, as manifests tell them, and an index of them. No file is opened."""

from __future__ import annotations

import datetime as dt
import struct
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final, NamedTuple

from pyiceberg import expressions as ice
from pyiceberg import types
from pyiceberg.conversions import from_bytes
from pyiceberg.types import IcebergType, NestedField

from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.expr import Bounds

WHOLE: Final = (types.IntegerType, types.LongType)
ORDERED: Final = (
    *WHOLE,
    types.BooleanType,
    types.DecimalType,
    types.DateType,
    types.TimestampType,
    types.TimestamptzType,
    types.StringType,
    types.BinaryType,
    types.FixedType,
    types.UUIDType,
    types.TimeType,
)
"""The types whose bounds compare like their values."""
EPOCH: Final = dt.datetime(1970, 1, 1)


class Span(NamedTuple):
    """The values from ``low`` to ``high``, as Iceberg stores them; None is unbounded."""

    low: Any = None
    high: Any = None


def stored_span(file: DataFileRef, field: NestedField) -> Span | None:
    """Returns bounds of the values of a column in a file; None if they are unknown, or have no order."""
    low, high = file.lower_bounds.get(field.field_id), file.upper_bounds.get(field.field_id)
    if low is None or high is None or not isinstance(field.field_type, ORDERED):
        return None
    if isinstance(field.field_type, WHOLE):  # they have four bytes in a column that became wider since
        return Span(*(int.from_bytes(each, "little", signed=True) for each in (low, high)))
    try:
        return Span(from_bytes(field.field_type, low), from_bytes(field.field_type, high))
    except (ValueError, struct.error):  # another program wrote them
        return None


def file_bounds(file: DataFileRef, field: NestedField | None) -> Bounds:
    """Returns bounds of the values of a column in a file, as values of Python; unknown ones without a column."""
    span = None if field is None else stored_span(file, field)
    if field is None or span is None:
        return Bounds()
    try:
        return Bounds(*(_python_value(each, field.field_type) for each in span))
    except OverflowError:  # Python has no times before the year 1 and after 9999
        return Bounds()


def _python_value(value: Any, kind: IcebergType) -> Any:
    match kind:
        case types.DateType():
            return EPOCH.date() + dt.timedelta(value)
        case types.TimestampType():
            return EPOCH + dt.timedelta(microseconds=value)
        case types.TimestamptzType():
            return EPOCH.replace(tzinfo=dt.UTC) + dt.timedelta(microseconds=value)
        case types.TimeType():
            return (EPOCH + dt.timedelta(microseconds=value)).time()
    return value


@dataclass(frozen=True)
class BoundsIndex:
    """The files of a version by their bounds of one column.

    Attributes:
        files: the files.
        unknown: the positions of files with unknown bounds.
        positions: those of the others, in the order of their lower bounds.
        spans: the bounds of these.
        reach: for each of these the highest upper bound up to it.
    """

    files: Sequence[DataFileRef]
    unknown: list[int]
    positions: list[int]
    spans: list[Span]
    reach: list[Any]

    @classmethod
    def of(cls, files: Sequence[DataFileRef], field: NestedField) -> BoundsIndex:
        """Returns the index of files by a column."""
        spans = {index: span for index, file in enumerate(files) if (span := stored_span(file, field)) is not None}
        positions = sorted(spans, key=lambda index: spans[index].low)
        ordered = [spans[index] for index in positions]
        unknown = [index for index in range(len(files)) if index not in spans]
        return cls(files, unknown, positions, ordered, list(accumulate((span.high for span in ordered), max)))

    def meeting(self, wanted: Span) -> list[DataFileRef]:
        """Returns the files that may hold a value of a span, in the order of the files."""
        first = 0 if wanted.low is None else bisect_left(self.reach, wanted.low)
        stop = len(self.spans)
        if wanted.high is not None:
            stop = bisect_right(self.spans, wanted.high, key=lambda span: span.low)
        inside = [
            self.positions[place]
            for place in range(first, stop)
            if wanted.low is None or self.spans[place].high >= wanted.low
        ]
        return [self.files[index] for index in sorted((*self.unknown, *inside))]


def span_of(condition: ice.BooleanExpression) -> tuple[NestedField, Span] | None:
    """Returns a column, and a span in which its values are wherever a bound condition is true; None without one."""
    known: tuple[NestedField, Span] | None = None
    for part in _parts(condition):
        if not isinstance(part, ice.BoundLiteralPredicate) or not isinstance(part.term, ice.BoundReference):
            continue
        field, span = part.term.field, _literal_span(part)
        if not isinstance(field.field_type, ORDERED) or span == Span():
            continue
        if known is None:
            known = field, span
        elif known[0].field_id == field.field_id:
            known = field, _intersection(known[1], span)
    return known


def _parts(condition: ice.BooleanExpression) -> Iterator[ice.BooleanExpression]:
    if isinstance(condition, ice.And):
        yield from _parts(condition.left)
        yield from _parts(condition.right)
    else:
        yield condition


def _literal_span(part: Any) -> Span:
    value = part.literal.value
    match part:
        case ice.BoundEqualTo():
            return Span(value, value)
        case ice.BoundGreaterThan() | ice.BoundGreaterThanOrEqual():
            return Span(low=value)
        case ice.BoundLessThan() | ice.BoundLessThanOrEqual():
            return Span(high=value)
    return Span()


def _intersection(one: Span, other: Span) -> Span:
    lows = [span.low for span in (one, other) if span.low is not None]
    highs = [span.high for span in (one, other) if span.high is not None]
    return Span(max(lows, default=None), min(highs, default=None))
