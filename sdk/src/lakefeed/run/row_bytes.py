"""The bytes that each row of a batch takes: a function of its values alone, not of how rows are cut into batches."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._rng import Indices
from lakefeed.run.gather import fixed_width

REFERENCE_BYTES = 8
"""Counted for a value of a type without a known size (a dictionary's index, a union)."""


def row_bytes(batch: pa.RecordBatch) -> Indices:
    """Returns the bytes of the values of each row, shape ``(rows,)``.

    Example:
        >>> row_bytes(pa.record_batch({"x": pa.array([1, 2], pa.int32()), "t": ["a", "bcd"]})).tolist()
        [5, 7]
    """
    total = np.zeros(batch.num_rows, np.int64)
    for column in batch.columns:
        total += _value_bytes(column)
    return total


def _value_bytes(column: Any) -> Indices:
    kind = column.type
    width = fixed_width(kind)
    if width is not None:
        return np.full(len(column), width, np.int64)
    if isinstance(kind, pa.ExtensionType):
        return _value_bytes(column.storage)
    if pa.types.is_boolean(kind):
        return np.ones(len(column), np.int64)
    if _has_binary_length(kind):
        return np.asarray(pc.binary_length(_without_views(column)).fill_null(0), np.int64)
    if pa.types.is_struct(kind):
        fields = [_value_bytes(column.field(index)) for index in range(kind.num_fields)]
        return np.asarray(np.sum([np.zeros(len(column), np.int64), *fields], axis=0), np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        return _list_bytes(column)
    if pa.types.is_fixed_size_list(kind):
        values = _value_bytes(column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size))
        return np.asarray(values.reshape(len(column), kind.list_size).sum(axis=1), np.int64)
    return np.full(len(column), REFERENCE_BYTES, np.int64)


def _list_bytes(column: Any) -> Indices:
    # The offsets of a null may span values that are not its own; these are not counted.
    lengths = np.asarray(column.value_lengths().fill_null(0), np.int64) if not pa.types.is_map(column.type) else None
    offsets = np.asarray(column.offsets, np.int64)
    if lengths is None:
        valid = np.asarray(column.is_valid())
        lengths = np.where(valid, np.diff(offsets), 0)
    values = column.values.slice(int(offsets[0]), int(offsets[-1] - offsets[0])) if len(offsets) else column.values
    before = np.concatenate([[0], np.cumsum(_value_bytes(values))])
    starts = offsets[:-1] - offsets[0]
    return np.asarray(before[starts + lengths] - before[starts], np.int64)


def _has_binary_length(kind: pa.DataType) -> bool:
    return any(
        test(kind)
        for test in (
            pa.types.is_string,
            pa.types.is_large_string,
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_string_view,
            pa.types.is_binary_view,
        )
    )


def _without_views(column: Any) -> Any:
    if pa.types.is_string_view(column.type):
        return column.cast(pa.large_string())
    return column.cast(pa.large_binary()) if pa.types.is_binary_view(column.type) else column
