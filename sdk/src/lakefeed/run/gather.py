"""Rows of several batches put together in a given order.

Values of a fixed width (numbers, moments, vectors of them) without nulls are moved by numpy, which is several times
faster than Arrow's own gather of vectors; whatever else there is goes through Arrow.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.plan.take_rows import take_values

Values: TypeAlias = npt.NDArray[Any]

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""What a value of so many bytes is moved as; wider ones are rows of bytes."""


class Gatherable:
    """A batch whose rows are gathered from many times."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.rows = rows
        self._values: dict[int, Values | None] = {}

    def values(self, column: int) -> Values | None:
        """One value a row, of a width that numpy moves at once; None if they are not like that."""
        if column not in self._values:
            self._values[column] = _values(self.rows.column(column))
        return self._values[column]


def gathered(sources: Sequence[tuple[Gatherable, Indices]], arrange: Indices) -> pa.RecordBatch:
    """The rows at these places of each source (one after the other), then arranged: the n-th is ``arrange[n]``."""
    schema = sources[0][0].rows.schema
    columns = [_column(sources, index, kind, arrange) for index, kind in enumerate(schema.types)]
    if not columns:
        # A batch without columns still has rows.
        return pa.RecordBatch.from_arrays([pa.nulls(len(arrange))], ["rows"]).select([])
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(
    sources: Sequence[tuple[Gatherable, Indices]], index: int, kind: pa.DataType, arrange: Indices
) -> pa.Array[Any]:
    found = [source.values(index) for source, _ in sources]
    plain = [values for values in found if values is not None]
    if len(plain) < len(found):
        parts = [take_values(source.rows.column(index), places) for source, places in sources]
        return take_values(parts[0] if len(parts) == 1 else pa.concat_arrays(parts), arrange)
    mixed = np.empty((len(arrange), *plain[0].shape[1:]), plain[0].dtype)
    start = 0
    for values, (_, places) in zip(plain, sources, strict=True):
        # "clip" writes straight to ``out``; no place lies outside.
        np.take(values, places, axis=0, out=mixed[start : start + len(places)], mode="clip")
        start += len(places)
    # Arrow's allocator keeps memory that was freed at hand; the pages of a new numpy array would have to be mapped.
    buffer = pa.allocate_buffer(mixed.nbytes)
    arranged = np.frombuffer(memoryview(buffer), mixed.dtype).reshape(mixed.shape)
    np.take(mixed, arrange, axis=0, out=arranged, mode="clip")
    return _array(kind, len(arrange), buffer)


def _values(column: Any) -> Values | None:
    kind, rows = column.type, len(column)
    width = _width(kind)
    if width is None:
        return None
    while not column.null_count and pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    if column.null_count:
        return None
    data, first = column.buffers()[1], column.offset * (_width(column.type) or 0)
    held = np.frombuffer(data, np.uint8, rows * width, first) if rows else np.empty(0, np.uint8)
    return held.view(WORDS[width]) if width in WORDS else held.reshape(rows, width)


def fixed_width(kind: pa.DataType) -> int | None:
    """Bytes that every value of the type takes; None if they differ, or are no whole number."""
    if pa.types.is_fixed_size_list(kind):
        inner = fixed_width(kind.value_type)
        return None if inner is None else inner * kind.list_size
    if not (pa.types.is_primitive(kind) or pa.types.is_decimal(kind) or pa.types.is_fixed_size_binary(kind)):
        return None
    return None if kind.bit_width % 8 else kind.bit_width // 8


def row_width(schema: pa.Schema) -> int | None:
    """Bytes that every row takes; None if they differ."""
    widths = [fixed_width(kind) for kind in schema.types]
    known = [width for width in widths if width is not None]
    return sum(known) if len(known) == len(widths) else None


def _width(kind: pa.DataType) -> int | None:
    return fixed_width(kind) or None


def _array(kind: pa.DataType, rows: int, buffer: pa.Buffer) -> pa.Array[Any]:
    if pa.types.is_fixed_size_list(kind):
        values = _array(kind.value_type, rows * kind.list_size, buffer)
        return pa.Array.from_buffers(kind, rows, [None], children=[values])
    return pa.Array.from_buffers(kind, rows, [None, buffer])
