"""The bytes that rows of a batch take: a function of their values, not of how rows are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._rng import Indices

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


def selected_bytes(batch: pa.RecordBatch, rows: Indices) -> Indices:
    """Returns the bytes of the rows at these positions, shape ``(len(rows),)``; at least 1 for each.

    Only offsets are read, so it costs the same however large the batch is. A null may count with the bytes that lie
    under it.
    """
    total = np.zeros(len(rows), np.int64)
    for column in batch.columns:
        total += _span_bytes(column, rows, rows + 1)
    return np.maximum(total, 1)


def cut_by_bytes(batch: pa.RecordBatch, limit: int) -> Iterator[pa.RecordBatch]:
    """Yields slices of the batch of at most ``limit`` bytes, or of one row."""
    width = row_width(batch.schema)
    if batch.num_rows * width <= limit if width is not None else batch.nbytes <= limit:
        yield batch
        return
    sizes = selected_bytes(batch, np.arange(batch.num_rows))
    for start, stop in ranges_by_bytes(sizes, limit):
        yield batch.slice(start, stop - start)


def ranges_by_bytes(sizes: Indices, limit: int) -> Iterator[tuple[int, int]]:
    """Yields consecutive ranges of rows of these sizes: each of at most ``limit`` bytes, or of one row."""
    ends = np.cumsum(sizes)
    start, before = 0, 0
    while start < len(sizes):
        stop = max(int(np.searchsorted(ends, before + limit, side="right")), start + 1)
        yield start, stop
        start, before = stop, int(ends[stop - 1])


def fixed_width(kind: pa.DataType) -> int | None:
    """Returns the bytes that every value of the type takes; None if they differ, or are not whole."""
    if pa.types.is_fixed_size_list(kind):
        inner = fixed_width(kind.value_type)
        return None if inner is None else inner * kind.list_size
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)):
        return None
    return None if kind.bit_width % 8 else kind.bit_width // 8


def row_width(schema: pa.Schema) -> int | None:
    """Returns the bytes that every row takes; None if they differ."""
    widths = [fixed_width(kind) for kind in schema.types]
    known = [width for width in widths if width is not None]
    return sum(known) if len(known) == len(widths) else None


def _span_bytes(column: Any, low: Indices, high: Indices) -> Indices:
    """Returns the bytes of the values ``[low, high)`` of a column, for each pair of them."""
    kind = column.type
    width = fixed_width(kind)
    if width is not None:
        return (high - low) * width
    if isinstance(kind, pa.BaseExtensionType):
        return _span_bytes(column.storage, low, high)
    if pa.types.is_boolean(kind):
        return high - low
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return _between(view_lengths(column), low, high)
    if _has_binary_length(kind):
        offsets = binary_offsets(column)
        return np.asarray(offsets[high].astype(np.int64) - offsets[low], np.int64)
    if pa.types.is_struct(kind):
        fields = [_span_bytes(column.field(index), low, high) for index in range(kind.num_fields)]
        return np.asarray(np.sum([high - low, *fields], axis=0), np.int64)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind):
        offsets = list_offsets(column)
        return _span_bytes(_entries(column), offsets[low], offsets[high])
    if pa.types.is_fixed_size_list(kind):
        size, first = kind.list_size, column.offset
        return _span_bytes(column.values, (first + low) * size, (first + high) * size)
    if pa.types.is_run_end_encoded(kind):
        ends = np.asarray(column.run_ends).astype(np.int64) - column.offset
        runs = np.searchsorted(ends, np.arange(len(column)), side="right")
        return _between(selected_bytes(pa.record_batch([column.values], ["values"]), runs), low, high)
    return (high - low) * REFERENCE_BYTES


def _entries(column: Any) -> Any:
    if not pa.types.is_map(column.type):
        return column.values
    return pa.StructArray.from_arrays([column.keys, column.items], ["key", "value"])


def _between(sizes: Indices, low: Indices, high: Indices) -> Indices:
    before = np.concatenate([[0], np.cumsum(sizes)])
    return np.asarray(before[high] - before[low], np.int64)


def position_array(positions: Indices, valid: Any = None) -> pa.Array[Any]:
    """Returns positions as an Arrow array, null where ``valid`` is false. ``pyarrow.array`` would load pandas."""
    content: Any = np.ascontiguousarray(positions, np.int64)
    bits: Any = None if valid is None else np.packbits(valid, bitorder="little")
    buffers = [None if bits is None else pa.py_buffer(bits), pa.py_buffer(content)]
    array: pa.Array[Any] = pa.Array.from_buffers(pa.int64(), len(content), buffers)
    return array


def list_offsets(column: Any) -> Indices:
    """Returns the offsets of lists among the values of all lists. ``np.asarray`` would load pandas."""
    offsets = column.offsets
    return np.from_dlpack(offsets).astype(np.int64) if len(offsets) else np.empty(0, np.int64)


def binary_offsets(column: Any) -> Any:
    """Returns the offsets of a column of text or bytes, shape ``(len(column) + 1,)``."""
    large = pa.types.is_large_string(column.type) or pa.types.is_large_binary(column.type)
    kind = np.dtype(np.int64 if large else np.int32)
    buffer = column.buffers()[1]
    if not len(column) or buffer is None:
        return np.zeros(len(column) + 1, kind)
    return np.frombuffer(buffer, kind, len(column) + 1, column.offset * kind.itemsize)


def view_lengths(column: Any) -> Indices:
    """Returns the bytes of each value of a column of views of strings or bytes."""
    if not len(column):
        return np.empty(0, np.int64)
    words: Any = np.frombuffer(column.buffers()[1], np.int32, len(column) * 4, column.offset * 16)
    lengths = words[::4].astype(np.int64)
    return np.where(np.asarray(column.is_valid()), lengths, 0) if column.null_count else lengths


def _value_bytes(column: Any) -> Indices:
    kind = column.type
    width = fixed_width(kind)
    if width is not None:
        return np.full(len(column), width, np.int64)
    if isinstance(kind, pa.BaseExtensionType):
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
    offsets = list_offsets(column)
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
