"""Values of varying length as runs of bytes, which are gathered from several arrays with one copy.

Text, bytes, and lists of values of a fixed width are such runs. The runs of several arrays become one array of views,
in the order of the result; Arrow copies what the views show. So each value is moved once, however many arrays there
are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.plan.row_bytes import binary_offsets, fixed_width, list_offsets, position_array

Mask: TypeAlias = npt.NDArray[np.bool_]

VIEW_WORDS = 4
"""The 32-bit words of a view: the length, the first four bytes (or the whole of a short value), buffer and offset."""
INLINE_BYTES = 12
"""Values of at most so many bytes lie in their view."""
MIN_MEAN_BYTES = 64
"""The mean bytes of a run from which views are faster than a gather for each array."""
MAX_BUFFER_BYTES = (1 << 31) - 1
NO_BYTES = pa.py_buffer(bytes(1)).slice(0, 0)
"""An empty buffer with an address: Arrow takes no array of bytes without one."""
_TEXT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())
_LARGE = (pa.large_string(), pa.large_binary())


@dataclass(frozen=True, eq=False)
class ByteRuns:
    """The values of an array, each of which is a run of bytes.

    Attributes:
        data: the bytes of all values.
        bounds: value n is the bytes ``[bounds[n], bounds[n + 1])``; shape ``(values + 1,)``.
        valid: whether each value is not null; None if all are.
    """

    data: pa.Buffer
    bounds: Indices
    valid: Mask | None

    @property
    def are_long(self) -> bool:
        """True if views are faster than a gather for each array."""
        return int(self.bounds[-1] - self.bounds[0]) >= MIN_MEAN_BYTES * (len(self.bounds) - 1)


def byte_runs(column: Any) -> ByteRuns | None:
    """Returns the values of text, bytes or lists as runs of bytes.

    None: the array has another type, or its lists hold null values or values without a fixed width.
    """
    kind = column.type
    if kind in _TEXT:
        data, bounds = column.buffers()[2], binary_offsets(column).astype(np.int64)
    elif is_list(kind):
        width = fixed_width(kind.value_type)
        values = _plain_values(column.values)
        if not width or values is None:
            return None
        data = None if values.buffers()[1] is None else values.buffers()[1].slice(_first_byte(values))
        bounds = list_offsets(column) * width
    else:
        return None
    if len(bounds) != len(column) + 1:  # an empty array may lack its only offset
        bounds = np.zeros(len(column) + 1, np.int64)
    valid = np.asarray(column.is_valid()) if column.null_count else None
    return ByteRuns(data if data is not None and data.size else NO_BYTES, bounds, valid)


def take_runs(runs: ByteRuns, kind: pa.DataType, rows: Indices, valid: Mask | None) -> pa.Array[Any]:
    """Returns the values at ``rows`` as an array of the type; null where ``valid`` is false (None: it never is)."""
    count = len(runs.bounds) - 1
    lists: Any = pa.Array.from_buffers(pa.large_binary(), count, [None, _buffer(runs.bounds), runs.data])
    selected = lists.take(position_array(rows, valid))
    return _as_type(selected, kind, valid)


def gather_runs(parts: Sequence[tuple[ByteRuns, Indices]], order: Indices, kind: pa.DataType) -> pa.Array[Any] | None:
    """Returns values of several arrays as one array of the type.

    Args:
        parts: arrays and the rows to take of each.
        order: the n-th value of the result is row ``order[n]`` of those of all parts in succession.
        kind: the type of the arrays.

    Returns:
        The array; None where another way is faster, or where a view cannot show a value.
    """
    if not all(runs.are_long and runs.data.size <= MAX_BUFFER_BYTES for runs, _ in parts):
        return None
    starts = np.concatenate([runs.bounds[rows] for runs, rows in parts])
    lengths = np.concatenate([runs.bounds[rows + 1] for runs, rows in parts]) - starts
    views = np.zeros((len(lengths), VIEW_WORDS), np.int32)
    views[:, 0] = lengths
    views[:, 2] = np.repeat(np.arange(len(parts)), [len(rows) for _, rows in parts])
    views[:, 3] = starts
    _write_short_values(views, parts, starts, lengths)
    data = [runs.data for runs, _ in parts]
    ordered = _buffer(np.take(views, order, axis=0))
    shown: Any = pa.Array.from_buffers(pa.binary_view(), len(order), [None, ordered, *data])
    return _as_type(shown.cast(pa.large_binary()), kind, _ordered_validity(parts, order))


def _write_short_values(
    views: npt.NDArray[np.int32], parts: Sequence[tuple[ByteRuns, Indices]], starts: Indices, lengths: Indices
) -> None:
    """Writes the bytes of short values into their views."""
    if not (lengths <= INLINE_BYTES).any():
        return
    inline = views.view(np.uint8)[:, -INLINE_BYTES:]
    steps, first = np.arange(INLINE_BYTES), 0
    for runs, rows in parts:
        short = first + np.flatnonzero(lengths[first : first + len(rows)] <= INLINE_BYTES)
        first += len(rows)
        data = np.frombuffer(memoryview(runs.data), np.uint8) if runs.data.size else np.zeros(1, np.uint8)
        values = data[np.minimum(starts[short, None] + steps, len(data) - 1)]
        inline[short] = np.where(steps < lengths[short, None], values, 0)


def _ordered_validity(parts: Sequence[tuple[ByteRuns, Indices]], order: Indices) -> Mask | None:
    if all(runs.valid is None for runs, _ in parts):
        return None
    masks = [np.ones(len(rows), np.bool_) if runs.valid is None else runs.valid[rows] for runs, rows in parts]
    return np.concatenate(masks)[order]


def _as_type(binary: Any, kind: Any, valid: Mask | None) -> pa.Array[Any]:
    """Returns large binaries as values of the type, without a copy of the bytes."""
    rows = len(binary)
    _, ends, data = binary.buffers()
    bounds = np.frombuffer(ends, np.int64, rows + 1) if rows else np.zeros(1, np.int64)
    data = pa.py_buffer(b"") if data is None else data
    bitmap = None if valid is None else validity_bitmap(valid)
    if kind in _TEXT:
        array: pa.Array[Any] = pa.Array.from_buffers(kind, rows, [bitmap, _offsets(bounds, kind), data])
        return array
    bounds = bounds // (fixed_width(kind.value_type) or 1)
    values = plain_array(kind.value_type, int(bounds[-1]), data)
    lists: pa.Array[Any] = pa.Array.from_buffers(kind, rows, [bitmap, _offsets(bounds, kind)], children=[values])
    return lists


def _offsets(bounds: Indices, kind: pa.DataType) -> pa.Buffer:
    """Returns the buffer of offsets of an array of the type.

    Raises:
        ArrowInvalid: the values are too many for the offsets of the type.
    """
    large = kind in _LARGE or pa.types.is_large_list(kind)
    width = np.int64 if large else np.int32
    if int(bounds[-1]) > np.iinfo(width).max:
        raise pa.ArrowInvalid(f"offset overflow: {int(bounds[-1])} values or bytes in one array of type {kind}")
    return _buffer(np.ascontiguousarray(bounds, width))


def plain_array(kind: pa.DataType, rows: int, data: pa.Buffer) -> pa.Array[Any]:
    """Returns an array of values of a fixed width, without nulls, whose bytes are ``data``."""
    if pa.types.is_fixed_size_list(kind):
        values = plain_array(kind.value_type, rows * kind.list_size, data)
        lists: pa.Array[Any] = pa.Array.from_buffers(kind, rows, [None], children=[values])
        return lists
    array: pa.Array[Any] = pa.Array.from_buffers(kind, rows, [None, data])
    return array


def validity_bitmap(valid: Mask) -> pa.Buffer:
    """Returns the buffer of an array that says which of its values are not null."""
    return _buffer(np.packbits(valid, bitorder="little"))


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(values)


def is_list(kind: pa.DataType) -> bool:
    """Returns whether the type is that of lists of varying length."""
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _plain_values(values: Any) -> Any | None:
    """Returns the values inside vectors; None if any is null."""
    while not values.null_count and pa.types.is_fixed_size_list(values.type):
        values = values.flatten()
    return None if values.null_count else values


def _first_byte(values: Any) -> int:
    return int(values.offset * (fixed_width(values.type) or 1))
