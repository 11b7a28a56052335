"""Rows by their positions, in any order, in bounded memory.

Positions that ascend are read through once. Others are gathered where the rows, or those that are wanted, fit into the
budget. Otherwise rows are *rearranged* on disk: they are read in runs that fit, each run is written in the order wanted
and cut at the same positions as all others, and the rows between two cuts are put together from all runs. So all rows
are read and written once, in large parts. All parts are cut by bytes that are measured.
"""

from __future__ import annotations

import mmap
from bisect import bisect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed._units import KIB, MIB
from lakefeed.errors import RowIndexError
from lakefeed.plan.take_rows import detach_views
from lakefeed.run.gather import GATHER_BYTES, Gatherable, gather, gather_parts, measured_ranges
from lakefeed.run.partitions import Partitions
from lakefeed.run.spill import stream_writer
from lakefeed.storage.disk.disk_errors import scratch_file

PARTS_HELD = 5
MAX_PART_BYTES = 512 * MIB
LARGE_ROW_BYTES = 256 * KIB
"""Rows that are read from a disk as fast one by one as in their order."""
RELEASE_BYTES = 64 * MIB
NULL_ROWS = 8_192
"""Rows of nulls in one batch."""
INDEX_BYTES = 24
"""For each position that is wanted: itself, where it comes from, and where it goes."""
POSITIONS_AT_ONCE = 1 << 16
"""Positions of resident rows that are gathered together at most."""
Positions: TypeAlias = npt.NDArray[np.integer[Any]]

NO_ROW = -1
"""A position that stands for a row of nulls."""


@dataclass(frozen=True, eq=False)
class RandomAccessReader:
    """Takes rows of ``partitions`` within about ``budget`` bytes; larger results go through ``directory``."""

    partitions: Partitions
    budget: int
    directory: Path
    gaps: bool = False

    def rows(self, positions: Indices) -> Iterator[pa.RecordBatch]:
        """Yields the rows at ``positions``, in that order, as often as named.

        Args:
            positions: of the rows; with ``gaps``, `NO_ROW` gives a row of nulls.

        Raises:
            RowIndexError: a position before the first or after the last row.
        """
        ends = np.cumsum(self.partitions.lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        outside = positions[(positions < (NO_ROW if self.gaps else 0)) | (positions >= total)]
        if len(outside):
            raise RowIndexError(
                f"there is no row {int(outside[0])}: there are {total} rows, and positions count from 0"
            )
        if not len(positions):
            return
        if self._ascend(positions):
            yield from self._released(self._ascending(positions, ends))
        elif self._cheap():
            yield from self._released(self._gathered_from_memory(positions, ends))
        elif len(positions) * self._row_bytes <= self.budget:
            yield from self._gathered(positions, ends)
        else:
            yield from self._rearranged(positions, ends)

    def _ascending(self, positions: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        partition_of = self._piece_of(positions, ends)
        edges = np.flatnonzero(np.diff(partition_of)) + 1
        held, rows = NO_ROW, self._nulls(1)
        first = partition_of[np.concatenate([[0], edges])].tolist()
        for mine, partition in zip(np.split(positions, edges), first, strict=True):
            if partition == NO_ROW:
                for start in range(0, len(mine), NULL_ROWS):
                    yield self._null_batch(min(NULL_ROWS, len(mine) - start))
                continue
            if partition != held:
                held, rows = partition, self._piece(partition)
            row_of = mine - (ends[partition] - self.partitions.lengths[partition])
            yield from gather_parts(lambda _, rows=rows: rows, np.zeros(len(mine), np.int64), row_of, self._limit)  # type: ignore[misc]  # a default binds the loop's value

    def _ascend(self, positions: Indices) -> bool:
        rows = positions[positions != NO_ROW] if self.gaps else positions
        return bool(np.all(rows[1:] >= rows[:-1]))

    def _gathered_from_memory(self, positions: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        """Gathers some after the others: it costs nothing to read a partition again."""
        for start in range(0, len(positions), POSITIONS_AT_ONCE):
            some = positions[start : start + POSITIONS_AT_ONCE]
            partition_of = self._piece_of(some, ends)
            opened = {partition: self._piece(partition) for partition in np.unique(partition_of).tolist()}
            first = ends - np.asarray(self.partitions.lengths)
            row_of = np.where(partition_of == NO_ROW, 0, some - first[partition_of])
            yield from gather_parts(opened.__getitem__, partition_of, row_of, self._limit)

    def _released(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Yields the batches, and gives the memory of the mapped rows that they come from back from time to time."""
        size = 0
        for batch in batches:
            yield batch
            size += batch.nbytes
            if self.partitions.mapped > self.budget and size > RELEASE_BYTES:
                self.partitions.release()
                size = 0

    def _gathered(self, positions: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        """Reads all rows that are wanted, then gathers them."""
        partition_of = self._piece_of(positions, ends)
        by_partition = np.argsort(partition_of, kind="stable")
        rows = Gatherable.of(self._ascending(positions[by_partition], ends))
        yield from gather_parts(
            lambda _: rows, np.zeros(len(by_partition), np.int64), _inverse(by_partition), self._limit
        )

    def _rearranged(self, positions: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        order = np.argsort(positions, kind="stable")
        edges = np.searchsorted(positions, [0, *ends], sorter=order).tolist()
        wanted: Positions = order.astype(_narrow(len(positions)))
        del order
        # At hand at once: a part, rows taken of it, the rows before those, and numbers for each position.
        part = max(self.budget - INDEX_BYTES * len(positions), self.budget // 2) // PARTS_HELD
        part = min(max(part, 1), MAX_PART_BYTES)
        with scratch_file(self.directory) as file:
            runs = _Runs(file, len(positions), max(part // self._row_bytes, 1), part)
            if edges[0]:
                runs.add(wanted[: edges[0]], self._nulls(1), np.zeros(edges[0], np.int64))
            for stretch in self._read(edges, ends, part):
                row_of = positions[wanted[stretch.begin : stretch.end]] - stretch.start
                source = np.zeros(len(row_of), np.int64)
                for low, high in measured_ranges(lambda _, rows=stretch.rows: rows, source, row_of, part):  # type: ignore[misc]  # a default binds the loop's value
                    runs.add(wanted[stretch.begin + low : stretch.begin + high], stretch.rows, row_of[low:high])
                del stretch
                self.partitions.release()
                _release()
            yield from runs.arranged()

    def _read(self, edges: list[int], ends: Indices, part: int) -> Iterator[_Stretch]:
        """Yields consecutive rows of about ``part`` bytes; ``edges``: how many are wanted before each partition."""
        held: list[pa.RecordBatch] = []
        size = start = 0
        begin = edges[0]
        for partition, end in enumerate(ends.tolist()):
            low, high = edges[partition], edges[partition + 1]
            if low == high and not held:
                start = end
            elif self.partitions.lengths[partition]:
                batches = self._batches(partition)
                held += batches
                size += sum(batch.nbytes for batch in batches)
            if held and size >= part:
                rows, held = Gatherable.of(held), []
                yield _Stretch(start, begin, high, rows)
                del rows
                size, start, begin = 0, end, high
        if held:
            yield _Stretch(start, begin, edges[-1], Gatherable.of(held))

    def _piece_of(self, positions: Indices, ends: Indices) -> Indices:
        return np.where(positions == NO_ROW, NO_ROW, np.searchsorted(ends, positions, side="right"))

    def _piece(self, index: int) -> Gatherable:
        return self._nulls(1) if index == NO_ROW else Gatherable.of(self._batches(index))

    def _batches(self, index: int) -> list[pa.RecordBatch]:
        batches = list(self.partitions.batches(index))
        if not self.gaps:
            return batches
        return [pa.RecordBatch.from_arrays(batch.columns, schema=self._schema) for batch in batches]

    def _nulls(self, rows: int) -> Gatherable:
        return Gatherable([self._null_batch(rows)])

    def _null_batch(self, rows: int) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.nulls(rows, field.type) for field in self._schema], schema=self._schema)

    @cached_property
    def _schema(self) -> pa.Schema:
        schema = self.partitions.schema
        return pa.schema([field.with_nullable(True) for field in schema]) if self.gaps else schema

    def _cheap(self) -> bool:
        """Returns whether any order of reading is cheap: rows are in memory, mapped and fit into it, or large."""
        return self.partitions.resident and (
            self.partitions.mapped <= self.budget or self._row_bytes >= LARGE_ROW_BYTES
        )

    @property
    def _limit(self) -> int:
        """The bytes of a batch."""
        return min(GATHER_BYTES, max(self.budget, 1))

    @cached_property
    def _row_bytes(self) -> int:
        """The bytes of a row on average, of the fragments' sizes or of the first rows."""
        size, rows = sum(self.partitions.sizes) + self.partitions.mapped, sum(self.partitions.lengths)
        if not size:
            first = next(index for index, length in enumerate(self.partitions.lengths) if length)
            batches = self._batches(first)
            size, rows = sum(batch.nbytes for batch in batches), sum(batch.num_rows for batch in batches)
        return max(size // max(rows, 1), 1)


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows from position ``start`` on.

    Of the positions wanted, in the order of rows, it has ``[begin, end)``.
    """

    start: int
    begin: int
    end: int
    rows: Gatherable


@dataclass
class _Runs:
    """Rows on disk, a run after the other, each in the order wanted and cut every ``step`` positions of the result."""

    file: BinaryIO
    total: int
    step: int
    part: int
    _cuts: list[list[tuple[int, int, Positions]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cuts = [[] for _ in range(-(-self.total // self.step))]

    def add(self, positions: Positions, rows: Gatherable, row_of: Positions) -> None:
        """Writes one run: row ``row_of[n]`` of ``rows`` belongs at ``positions[n]`` of the result."""
        order = np.argsort(positions, kind="stable")
        positions, chosen = positions[order], row_of[order].astype(np.int64)
        numbers = positions // self.step
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        source = np.zeros(len(chosen), np.int64)
        for start, stop in measured_ranges(lambda _: rows, source, chosen, min(self.part, GATHER_BYTES)):
            selected = gather(lambda _: rows, source[start:stop], chosen[start:stop])
            within = [start, *(edge for edge in edges[bisect(edges, start) :] if edge < stop), stop]
            for low, high in pairwise(within):
                self._cuts[int(numbers[low])].append(
                    (*self._write(selected.slice(low - start, high - low)), positions[low:high])
                )

    def _write(self, rows: pa.RecordBatch) -> tuple[int, int]:
        begin = self.file.tell()
        with stream_writer(self.file, rows.schema) as writer:
            writer.write_batch(detach_views(rows))
        return begin, self.file.tell() - begin

    def arranged(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows, in the order wanted."""
        self.file.flush()
        mapping = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        buffer = pa.py_buffer(mapping)
        limit = min(self.part, GATHER_BYTES)
        for cuts in self._cuts:
            order = np.argsort(np.concatenate([positions for *_, positions in cuts]))
            rows = self._together(buffer, cuts)
            yield from gather_parts(lambda _, rows=rows: rows, np.zeros(len(order), np.int64), order, limit)  # type: ignore[misc]  # a default binds the loop's value
            del rows
            mapping.madvise(mmap.MADV_DONTNEED)
            _release()

    def _together(self, mapped: pa.Buffer, cuts: Sequence[tuple[int, int, Positions]]) -> Gatherable:
        batches: list[pa.RecordBatch] = []
        for begin, length, _ in cuts:
            batches += pa.ipc.open_stream(mapped.slice(begin, length))
        return Gatherable.of(batches, self.part)


def _release() -> None:
    """Gives memory that Arrow has freed back to the system, instead of keeping it for later."""
    pa.default_memory_pool().release_unused()


def _inverse(order: Indices) -> Indices:
    inverse = np.empty(len(order), np.int64)
    inverse[order] = np.arange(len(order))
    return inverse


def _narrow(count: int) -> type[np.uint32 | np.int64]:
    """Half the memory for the numbers below ``count``, as long as they fit."""
    return np.uint32 if count < 1 << 32 else np.int64
