"""Rows of several batches, gathered in a given order.

Values of a fixed width (numbers, times, vectors of them) without nulls are moved by numpy, which is several times
faster than Arrow's gather of vectors. Text, bytes and lists of such values are moved as runs of bytes, also inside
structs (`lakefeed.plan.byte_runs`). All other values are moved by `lakefeed.plan.take_rows`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed._lazy import LazyModule
from lakefeed._rng import Indices
from lakefeed._units import MIB
from lakefeed.plan.row_bytes import fixed_width, ranges_by_bytes, row_width, selected_bytes
from lakefeed.plan.take_rows import FEW, take_rows, take_values
from lakefeed.run.rebatch import dictionary_errors, join_groups

if TYPE_CHECKING:
    from lakefeed.plan import byte_runs
    from lakefeed.plan.byte_runs import ByteRuns, Mask
else:
    byte_runs = LazyModule("lakefeed.plan.byte_runs")  # of text and lists only

Values: TypeAlias = npt.NDArray[Any]
Range: TypeAlias = tuple[int, int]
Sources: TypeAlias = Callable[[int], "Gatherable"]

GATHER_BYTES = 16 * MIB
"""Rows that are copied together at once."""
SMALL_BATCH_BYTES = MIB
"""Smaller batches are joined before rows are gathered from them."""
MEASURED_ROWS = 1 << 16
"""Rows that are measured at once."""

WORDS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""The types as which values of so many bytes are moved; wider values are moved as rows of bytes."""


class HeldColumn:
    """A column whose values are gathered several times."""

    def __init__(self, array: Any) -> None:
        self.array = array

    @cached_property
    def values(self) -> Values | None:
        """One value a row, of a width that numpy moves at once; None if the column has other values."""
        return _values(self.array)

    @cached_property
    def runs(self) -> ByteRuns | None:
        """The values as runs of bytes; None if the column has other values."""
        return byte_runs.byte_runs(self.array)

    @cached_property
    def valid(self) -> Mask | None:
        """A mask of the values that are not null; None if all are."""
        return np.asarray(self.array.is_valid()) if self.array.null_count else None

    @cached_property
    def fields(self) -> list[HeldColumn]:
        """The fields of structs."""
        return [HeldColumn(self.array.field(index)) for index in range(self.array.type.num_fields)]


class HeldRows:
    """A batch whose rows are gathered several times."""

    def __init__(self, rows: pa.RecordBatch) -> None:
        self.rows = rows

    @cached_property
    def columns(self) -> list[Any]:
        """The columns, which Arrow would wrap anew at each access."""
        return self.rows.columns

    @cached_property
    def held(self) -> list[HeldColumn]:
        """The columns, with their values as they are gathered."""
        return list(map(HeldColumn, self.columns))


_Picks: TypeAlias = list[tuple[HeldRows, Indices]]
_Parts: TypeAlias = list[tuple[HeldColumn, Indices]]


class Gatherable:
    """Consecutive rows, in one batch or several, that are gathered several times. Batches are held as they are."""

    def __init__(self, batches: Sequence[pa.RecordBatch]) -> None:
        self.batches = [HeldRows(batch) for batch in batches if batch.num_rows] or [HeldRows(batches[0])]
        self.ends = np.cumsum([batch.rows.num_rows for batch in self.batches], dtype=np.int64)

    @classmethod
    def of(cls, batches: Iterable[pa.RecordBatch], limit: int = SMALL_BATCH_BYTES) -> Gatherable:
        """Returns the rows of the batches; those of at most ``limit`` bytes together are copied into one."""
        return cls(list(join_groups(batches, limit)))

    @property
    def num_rows(self) -> int:
        return int(self.ends[-1])

    def find(self, row: int) -> tuple[HeldRows, int]:
        """Returns the batch that holds a row, and its number in the batch."""
        if len(self.batches) == 1:
            return self.batches[0], row
        number = int(np.searchsorted(self.ends, row, side="right"))
        batch = self.batches[number]
        return batch, row - (int(self.ends[number]) - batch.rows.num_rows)

    def pick(self, rows: Indices) -> Iterator[tuple[HeldRows, Indices, Indices | None]]:
        """Yields each batch that has some of these rows, its rows, and which of ``rows`` they are (None: all)."""
        if len(self.batches) == 1:
            yield self.batches[0], rows, None
            return
        numbers = np.searchsorted(self.ends, rows, side="right")
        for number, chosen in grouped_by(numbers):
            batch = self.batches[number]
            yield batch, rows[chosen] - (self.ends[number] - batch.rows.num_rows), chosen


def gather(sources: Sources, source_of: Indices, row_of: Indices) -> pa.RecordBatch:
    """Returns rows as one batch; the n-th is row ``row_of[n]`` of source ``source_of[n]``. There is at least one."""
    picks, positions = _pick(sources, source_of, row_of)
    if len(picks) == 1:
        batch, rows = picks[0]
        columns = [_take(column, rows) for column in batch.held]
        return pa.RecordBatch.from_arrays(columns, schema=batch.rows.schema) if columns else take_rows(batch.rows, rows)
    schema = picks[0][0].rows.schema
    order = _inverse(positions)
    if not len(schema):
        # A batch without columns still has rows.
        return pa.RecordBatch.from_arrays([pa.nulls(len(order))], ["rows"]).select([])
    columns = [
        _gather_column([(batch.held[index], rows) for batch, rows in picks], kind, order)
        for index, kind in enumerate(schema.types)
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def gather_parts(
    sources: Sources, source_of: Indices, row_of: Indices, limit: int | None = None
) -> Iterator[pa.RecordBatch]:
    """Yields rows as `gather`, in batches of at most ``limit`` bytes (None: `GATHER_BYTES`), or of one row."""
    for start, stop in measured_ranges(sources, source_of, row_of, limit):
        yield gather(sources, source_of[start:stop], row_of[start:stop])


def measured_ranges(
    sources: Sources, source_of: Indices, row_of: Indices, limit: int | None = None
) -> Iterator[tuple[int, int]]:
    """Yields ranges of the rows of at most ``limit`` bytes, or of one row."""
    for low in range(0, len(row_of), MEASURED_ROWS):
        high = low + MEASURED_ROWS
        sizes = measure(sources, source_of[low:high], row_of[low:high])
        for start, stop in ranges_by_bytes(sizes, limit or GATHER_BYTES):
            yield low + start, low + stop


def measure(sources: Sources, source_of: Indices, row_of: Indices) -> Indices:
    """Returns the bytes of each row, shape ``(len(row_of),)``."""
    if not len(row_of):
        return np.empty(0, np.int64)
    width = row_width(sources(int(source_of[0])).batches[0].rows.schema)
    if width is not None:
        return np.full(len(row_of), max(width, 1), np.int64)
    picks, positions = _pick(sources, source_of, row_of)
    sizes = np.empty(len(row_of), np.int64)
    sizes[positions] = np.concatenate([selected_bytes(batch.rows, rows) for batch, rows in picks])
    return sizes


def measured_groups(
    ranges: Iterable[Range], schema: pa.Schema, measure_rows: Callable[[Indices], Indices], limit: int | None = None
) -> Iterator[list[Range]]:
    """Yields ranges of positions in groups of at most ``limit`` bytes, or of one row; a range that is larger is cut.

    Args:
        ranges: ascending and apart.
        schema: of the rows.
        measure_rows: returns the bytes of the rows at these positions.
        limit: bytes; None: `GATHER_BYTES`.
    """
    width, limit = row_width(schema), limit or GATHER_BYTES
    if width is not None:
        yield from _groups_of_rows(ranges, max(limit // max(width, 1), 1))
        return
    for some in _groups_of_rows(ranges, MEASURED_ROWS):
        ends = np.cumsum(measure_rows(np.concatenate([np.arange(low, high) for low, high in some])))
        group: list[Range] = []
        row = before = 0
        for low, high in some:
            while low < high:
                fits = int(np.searchsorted(ends, before + limit, side="right")) - row
                if group and fits < high - low:
                    yield group
                    group, before = [], int(ends[row - 1])
                    continue
                count = min(max(fits, 1), high - low)
                group.append((low, low + count))
                low, row = low + count, row + count
        if group:
            yield group


def _groups_of_rows(ranges: Iterable[Range], rows: int) -> Iterator[list[Range]]:
    """Yields the ranges in groups of at most ``rows`` rows; a range that is longer is cut."""
    group: list[Range] = []
    held = 0
    for start, stop in ranges:
        for low in range(start, stop, rows):
            high = min(low + rows, stop)
            if group and held + high - low > rows:
                yield group
                group, held = [], 0
            group.append((low, high))
            held += high - low
    if group:
        yield group


def grouped_by(numbers: Indices) -> Iterator[tuple[int, Indices]]:
    """Yields each number in ascending order, with the positions that have it, ascending."""
    if not len(numbers):
        return
    few = int(numbers.max()) <= np.iinfo(np.int16).max
    order = np.argsort(numbers.astype(np.int16) if few else numbers, kind="stable")  # 16 bits: a radix sort
    ordered = numbers[order]
    edges = [0, *(np.flatnonzero(ordered[1:] != ordered[:-1]) + 1).tolist(), len(ordered)]
    for low, high in pairwise(edges):
        yield int(ordered[low]), order[low:high]


def _pick(sources: Sources, source_of: Indices, row_of: Indices) -> tuple[_Picks, Indices]:
    """Returns the rows of each batch, and the positions of all these rows in the result, in the same order."""
    picks: _Picks = []
    positions: list[Indices] = []
    first = int(source_of[0])
    groups = [(first, None)] if bool((source_of == first).all()) else grouped_by(source_of)
    for number, mine in groups:
        rows = row_of if mine is None else row_of[mine]
        for batch, chosen, which in sources(number).pick(rows):
            picks.append((batch, chosen))
            whole = np.arange(len(rows)) if mine is None else mine
            positions.append(whole if which is None else whole[which])
    return picks, positions[0] if len(positions) == 1 else np.concatenate(positions)


def _take(column: HeldColumn, rows: Indices) -> pa.Array[Any]:
    kind, values = column.array.type, column.values
    if _is_struct(kind):
        valid = None if column.valid is None else column.valid[rows]
        return _struct(kind, [_take(field, rows) for field in column.fields], valid)
    if values is None:
        if byte_runs.is_list(kind) and len(rows) * FEW >= len(column.array) and column.runs is not None:
            return byte_runs.take_runs(column.runs, kind, rows, None if column.valid is None else column.valid[rows])
        return take_values(column.array, rows)
    # Arrow's allocator keeps memory that was freed at hand; the pages of a new numpy array would have to be mapped.
    buffer = pa.allocate_buffer(len(rows) * values.itemsize * math.prod(values.shape[1:]))
    target = np.frombuffer(memoryview(buffer), values.dtype).reshape(len(rows), *values.shape[1:])
    np.take(values, rows, axis=0, out=target, mode="clip")
    return _array(kind, len(rows), buffer)


def _gather_column(parts: _Parts, kind: pa.DataType, order: Indices) -> pa.Array[Any]:
    """Returns the rows of the parts as one array; the n-th is row ``order[n]`` of all parts in succession."""
    if _is_struct(kind):
        return _gather_structs(parts, kind, order)
    plain = [(column.values, rows) for column, rows in parts if column.values is not None]
    if len(plain) == len(parts):
        return _gather_values(plain, kind, order)
    runs = [(column.runs, rows) for column, rows in parts if column.runs is not None]
    gathered = byte_runs.gather_runs(runs, order, kind) if len(runs) == len(parts) else None
    if gathered is not None:
        return gathered
    with dictionary_errors([kind]):
        if _mostly_taken(parts, len(order)):
            starts = np.cumsum([0, *(len(column.array) for column, _ in parts[:-1])])
            rows = np.concatenate([rows + start for (_, rows), start in zip(parts, starts, strict=True)])
            return take_values(pa.concat_arrays([column.array for column, _ in parts]), rows[order])
        return take_values(pa.concat_arrays([take_values(column.array, rows) for column, rows in parts]), order)


def _mostly_taken(parts: _Parts, count: int) -> bool:
    """Returns whether to copy the arrays whole costs less than to take the rows of each before they are arranged."""
    arrays = [column.array for column, _ in parts]
    return sum(map(len, arrays)) <= 2 * count and sum(array.nbytes for array in arrays) <= 2 * GATHER_BYTES


def _gather_structs(parts: _Parts, kind: pa.DataType, order: Indices) -> pa.Array[Any]:
    fields = [
        _gather_column([(column.fields[index], rows) for column, rows in parts], kind.field(index).type, order)
        for index in range(kind.num_fields)
    ]
    if all(column.valid is None for column, _ in parts):
        return _struct(kind, fields, None)
    masks = [np.ones(len(rows), np.bool_) if column.valid is None else column.valid[rows] for column, rows in parts]
    return _struct(kind, fields, np.concatenate(masks)[order])


def _gather_values(parts: list[tuple[Values, Indices]], kind: pa.DataType, order: Indices) -> pa.Array[Any]:
    first, _ = parts[0]
    mixed = np.empty((len(order), *first.shape[1:]), first.dtype)
    start = 0
    for values, rows in parts:
        # "clip" writes straight to ``out``; no row lies outside.
        np.take(values, rows, axis=0, out=mixed[start : start + len(rows)], mode="clip")
        start += len(rows)
    buffer = pa.allocate_buffer(mixed.nbytes)
    arranged = np.frombuffer(memoryview(buffer), mixed.dtype).reshape(mixed.shape)
    np.take(mixed, order, axis=0, out=arranged, mode="clip")
    return _array(kind, len(order), buffer)


def _is_struct(kind: pa.DataType) -> bool:
    return pa.types.is_struct(kind) and kind.num_fields > 0


def _struct(kind: pa.DataType, fields: list[pa.Array[Any]], valid: Mask | None) -> pa.Array[Any]:
    bitmap = None if valid is None else byte_runs.validity_bitmap(valid)
    array: pa.Array[Any] = pa.Array.from_buffers(kind, len(fields[0]), [bitmap], children=fields)
    return array


def _values(column: Any) -> Values | None:
    kind, rows = column.type, len(column)
    width = fixed_width(kind)
    if not width:
        return None
    while not column.null_count and pa.types.is_fixed_size_list(column.type):
        column = column.flatten()
    if column.null_count:
        return None
    data, first = column.buffers()[1], column.offset * (fixed_width(column.type) or 0)
    held = np.frombuffer(data, np.uint8, rows * width, first) if rows else np.empty(0, np.uint8)
    return held.view(WORDS[width]) if width in WORDS else held.reshape(rows, width)


def _array(kind: pa.DataType, rows: int, buffer: pa.Buffer) -> pa.Array[Any]:
    if pa.types.is_fixed_size_list(kind):
        values = _array(kind.value_type, rows * kind.list_size, buffer)
        return pa.Array.from_buffers(kind, rows, [None], children=[values])
    return pa.Array.from_buffers(kind, rows, [None, buffer])


def _inverse(order: Indices) -> Indices:
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return inverse
