"""Statistics of one column, accumulated batch by batch."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakefeed.statistics.sketch import Distinct, Sample, hashes

SHARES = (0.05, 0.25, 0.5, 0.75, 0.95)
ORDERED = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_date,
    pa.types.is_time,
    pa.types.is_timestamp,
)


SIZE = "size"


def is_file_type(kind: pa.DataType) -> bool:
    """Returns whether a type is that of a column of files.

    Args:
        kind: the type.
    """
    return pa.types.is_struct(kind) and kind.get_field_index("sha256") >= 0


@dataclass(frozen=True)
class ColumnStatistics:
    """The statistics of a column.

    Attributes:
        nulls: the number of nulls.
        values: the number of other values.
        least: the least value, for types with an order.
        greatest: the greatest value, for types with an order.
        mean: the mean of numbers.
        distinct: the number of distinct values; None for nested types.
        exact: False if ``distinct`` is an estimate.
        quantiles: the quantiles of numbers at `SHARES`.
        fields: of a column of files, the statistics of their sizes in bytes and of what their kind has, such as the
            width and height of images.
        unreadable: the number of files of which only the size is known, because they cannot be read or were
            saved with ``stats=False``; None for other columns.
    """

    nulls: int = 0
    values: int = 0
    least: Any = None
    greatest: Any = None
    mean: float | None = None
    distinct: int | None = None
    exact: bool = True
    quantiles: tuple[float, ...] = ()
    fields: Mapping[str, ColumnStatistics] = field(default_factory=dict)
    unreadable: int | None = None


class Column:
    """Accumulates the statistics of a column. Its memory does not grow with the rows."""

    def __init__(self) -> None:
        self._nulls = self._values = 0
        self._least: Any = None
        self._greatest: Any = None
        self._total, self._numbers = 0.0, 0
        self._distinct: Distinct | None = Distinct()
        self._sample = Sample()
        self._fields: dict[str, Column] = {}
        self._unreadable: int | None = None

    def add(self, values: pa.Array[Any]) -> None:
        """Adds the values of a batch.

        Args:
            values: the values.
        """
        plain = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        present = len(plain) - plain.null_count
        self._nulls += plain.null_count
        self._values += present
        if is_file_type(plain.type):
            self._add_files(plain)
        if present:
            self._count(plain)
            self._order(plain)

    @property
    def statistics(self) -> ColumnStatistics:
        """The statistics of the values so far."""
        mean = self._total / self._numbers if self._numbers else None
        distinct = None if self._distinct is None or not self._values else self._distinct.count
        exact = self._distinct is None or self._distinct.exact
        quantiles = self._sample.quantiles(SHARES)
        fields = {name: column.statistics for name, column in self._fields.items()}
        extremes = (self._least, self._greatest)
        return ColumnStatistics(
            self._nulls, self._values, *extremes, mean, distinct, exact, quantiles, fields, self._unreadable
        )

    def _add_files(self, files: pa.Array[Any]) -> None:
        present = files.drop_null()
        names = [each.name for each in files.type if pa.types.is_integer(each.type) or pa.types.is_floating(each.type)]
        for name in names:
            self._fields.setdefault(name, Column()).add(pc.struct_field(present, name))
        if measured := [name for name in names if name != SIZE]:
            unknown = [pc.is_null(pc.struct_field(present, name)) for name in measured]
            number = pc.sum(functools.reduce(pc.and_, unknown)).as_py()
            self._unreadable = (self._unreadable or 0) + int(number or 0)

    def _count(self, values: pa.Array[Any]) -> None:
        digests = hashes(values)
        if digests is None:
            self._distinct = None
        elif self._distinct is not None:
            self._distinct.add(digests)

    def _order(self, values: pa.Array[Any]) -> None:
        kind = values.type
        if not any(is_kind(kind) for is_kind in ORDERED):
            return
        comparable = values.cast(pa.float64(), safe=False) if pa.types.is_float16(kind) else values
        extremes: dict[str, Any] = pc.min_max(comparable).as_py()  # type: ignore[assignment]
        self._least = min((v for v in (self._least, extremes["min"]) if v is not None), default=None)
        self._greatest = max((v for v in (self._greatest, extremes["max"]) if v is not None), default=None)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            numbers = values.drop_null().cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)
            known = numbers[~np.isnan(numbers)]
            self._total += float(known.sum())
            self._numbers += len(known)
            self._sample.add(known)
