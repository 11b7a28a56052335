"""The keys of input rows in memory, which find the rows of equal keys in other rows."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed.expr import Bounds
from lakefeed.expr.value_ranges import has_order, plain_value, plain_values

Positions = NDArray[np.int64]
Columns: TypeAlias = "Sequence[pa.Array[Any]]"

ABSENT = -1
"""The position of a key that is not there."""


def comparable(column: Any) -> Any:
    """Returns key values in a type that Arrow sorts and compares."""
    if isinstance(column, pa.ExtensionArray):
        return comparable(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return comparable(column.dictionary_decode())
    kind = column.type
    if pa.types.is_fixed_size_binary(kind):
        return column.cast(pa.binary())
    if pa.types.is_string_view(kind):
        return column.cast(pa.large_string())
    if pa.types.is_binary_view(kind):
        return column.cast(pa.large_binary())
    if pa.types.is_decimal(kind) and kind.bit_width < 128:
        return column.cast(pa.decimal128(kind.precision, kind.scale))
    return column


def has_kernels(kind: pa.DataType) -> bool:
    """Returns whether Arrow looks up values of a key column of this type, as `comparable` gives them."""
    return not pa.types.is_nested(kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind)


class InputKeys:
    """The keys of rows: one array for each key column, in storage types and without nulls.

    Rows are numbered by their positions in the input. Values that are equal have equal keys.
    """

    def __init__(self, columns: Columns) -> None:
        self._columns = [comparable(column) for column in columns]
        self._whole = whole_numbers(self._columns[0]) if len(columns) == 1 else None

    @cached_property
    def _uniques(self) -> list[Any]:
        """The distinct values of each key column."""
        return [column.unique() for column in self._columns]

    @cached_property
    def _steps(self) -> list[Positions]:
        """The sorted distinct codes of the first one, two, … columns together."""
        steps: list[Positions] = []
        self._encode(self._columns, steps)
        return steps

    def _encode(self, columns: Columns, learn: list[Positions] | None = None) -> Positions:
        """Returns a number for each row that is equal where the keys are; `ABSENT` for a key that is not here."""
        codes: Positions | None = None
        for index, (column, uniques) in enumerate(zip(columns, self._uniques, strict=True)):
            indices: Any = pc.index_in(column, value_set=uniques)
            inner: Positions = indices.fill_null(ABSENT).to_numpy(zero_copy_only=False).astype(np.int64)
            if codes is None:
                codes = inner
                continue
            joint = np.where((codes >= 0) & (inner >= 0), codes * len(uniques) + inner, ABSENT)
            if learn is not None:
                learn.append(np.unique(joint))
            steps = self._steps if learn is None else learn
            codes = _ranks(steps[index - 1], joint)
        assert codes is not None, "a key has columns"
        return codes

    @cached_property
    def _codes(self) -> Positions:
        """A number for each row, equal where the keys are."""
        if self._whole is not None:
            return self._whole
        _ = self._steps
        return self._encode(self._columns)

    @cached_property
    def _by_code(self) -> tuple[Positions, Positions]:
        """The sorted codes, and the positions of their rows."""
        if len(self._codes) < 2 or (self._codes[1:] >= self._codes[:-1]).all():
            return self._codes, np.arange(len(self._codes))
        order = np.argsort(self._codes, kind="stable")
        return self._codes[order], order

    def repeated(self) -> Positions:
        """Returns the positions of the first row of each key that several rows have."""
        codes, order = self._by_code
        same = np.flatnonzero(codes[1:] == codes[:-1])
        first = same[np.concatenate([[True], codes[same[1:]] != codes[same[:-1]]])] if len(same) else same
        positions: Positions = np.sort(order[first])
        return positions

    def sorted_positions(self) -> Positions:
        """Returns the positions of the rows in the order of their keys."""
        if self._whole is not None:
            return self._by_code[1]
        table = pa.table({f"k{index}": column for index, column in enumerate(self._columns)})
        order: Any = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
        positions: Positions = order.to_numpy().astype(np.int64)
        return positions

    def find(self, columns: Columns) -> tuple[Positions, Positions]:
        """Returns the positions of rows whose keys are here, and the positions of these keys. The keys are distinct."""
        columns = [comparable(column) for column in columns]
        if self._whole is not None:
            return self._find_whole(columns[0])
        codes, order = self._by_code
        given = self._encode(columns)
        places = np.flatnonzero(given >= 0)
        at = np.searchsorted(codes, given[places])
        hit = codes[np.minimum(at, len(codes) - 1)] == given[places]
        return places[hit], order[at[hit]]

    def _find_whole(self, column: pa.Array[Any]) -> tuple[Positions, Positions]:
        codes, order = self._by_code
        values = whole_numbers(column)
        assert values is not None, "the same type as the input"
        if not len(values):
            return values, values
        if not column.null_count and (values[1:] > values[:-1]).all():
            # Sorted rows: each key is looked up in them, not each of them in the keys.
            low, high = np.searchsorted(codes, [values[0], values[-1]])
            wanted = np.arange(low, min(high + 1, len(codes)))
            places = np.searchsorted(values, codes[wanted])
            hit = values[np.minimum(places, len(values) - 1)] == codes[wanted]
            return places[hit], order[wanted[hit]]
        at = np.minimum(np.searchsorted(codes, values), len(codes) - 1)
        hit = codes[at] == values
        if column.null_count:
            valid: Any = column.is_valid()
            hit &= valid.to_numpy(zero_copy_only=False)
        places = np.flatnonzero(hit)
        return places, order[at[places]]

    @cached_property
    def _first_values(self) -> list[Any]:
        """The sorted values of the first key column."""
        return sorted(set(plain_values(self._columns[0])))

    def may_be_in(self, bounds: Bounds) -> bool:
        """Returns whether a value of the first key column may lie within the bounds."""
        if bounds.only_nulls:
            return False
        values, kind = self._first_values, self._columns[0].type
        low, high = plain_value(bounds.min, kind), plain_value(bounds.max, kind)
        if not has_order(kind) or low is None or high is None:
            return True
        first, after = bisect_left(values, low), bisect_right(values, high)
        if first < after:
            return True
        # The upper bound of text or bytes may be the beginning of a value.
        return isinstance(high, str | bytes) and after < len(values) and bool(values[after].startswith(high))


def _ranks(known: Positions, codes: Positions) -> Positions:
    """Returns the positions of codes among the known (sorted) ones; `ABSENT` for others."""
    at = np.minimum(np.searchsorted(known, codes), len(known) - 1)
    ranks: Positions = np.where((codes >= 0) & (known[at] == codes), at, ABSENT)
    return ranks


def whole_numbers(column: pa.Array[Any]) -> Positions | None:
    """Returns the values of whole numbers, dates and times, with 0 for nulls; None for other types."""
    kind = column.type
    whole: Any = column
    if pa.types.is_date32(kind) or pa.types.is_time32(kind):
        whole = column.view(pa.int32())
    elif pa.types.is_timestamp(kind) or pa.types.is_time64(kind):
        whole = column.view(pa.int64())
    elif not pa.types.is_signed_integer(kind):
        return None
    numbers: Positions = whole.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64, copy=False)
    return numbers
