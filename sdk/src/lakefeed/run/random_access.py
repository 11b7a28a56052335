"""Rows by their places, in any order, in bounded memory.

Places that ascend are read through once. Others are gathered where the rows, or what is wanted of them, fit into the
budget. What does not is *rearranged* on disk: rows are read in runs that fit, each run is written in the order wanted
and cut at the same places as all others, and what lies between two cuts is put together from all runs. So everything
is read and written once, in large parts.
"""

from __future__ import annotations

import mmap
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
from lakefeed._units import MIB
from lakefeed.errors import RowIndexError
from lakefeed.run.partitions import Partitions
from lakefeed.run.rebatch import joined
from lakefeed.run.spill import stream_writer
from lakefeed.storage.disk.disk_errors import scratch_file

GATHER_BYTES = 16 * MIB
PARTS_HELD = 5
INDEX_BYTES = 24
"""For each place that is wanted: itself, where it comes from, and where it goes."""
Places: TypeAlias = npt.NDArray[np.integer[Any]]

NO_ROW = -1
"""A place that stands for a row of nulls."""


@dataclass(frozen=True, eq=False)
class RandomAccessReader:
    """Takes rows from ``pieces``, holding about ``budget`` bytes of them; what is larger goes through ``directory``."""

    pieces: Partitions
    budget: int
    directory: Path
    gaps: bool = False

    def rows(self, places: Indices) -> Iterator[pa.RecordBatch]:
        """The rows at ``places``, in that order, as often as named; with ``gaps``, `NO_ROW` gives a row of nulls.

        Raises:
            RowIndexError: a place before the first or after the last row.
        """
        ends = np.cumsum(self.pieces.lengths, dtype=np.int64)
        total = int(ends[-1]) if len(ends) else 0
        outside = places[(places < (NO_ROW if self.gaps else 0)) | (places >= total)]
        if len(outside):
            raise RowIndexError(f"there is no row {int(outside[0])}: there are {total} rows, and places count from 0")
        if not len(places):
            return
        if self._ascend(places):
            yield from self._ascending(places, ends)
        elif self._cheap() or len(places) * self._row_bytes <= self.budget:
            yield from self._gathered(places, ends)
        else:
            yield from self._rearranged(places, ends)

    def _ascending(self, places: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        piece_of = np.where(places == NO_ROW, NO_ROW, np.searchsorted(ends, places, side="right"))
        edges = np.flatnonzero(np.diff(piece_of)) + 1
        held, batch = NO_ROW, self._nulls(0)
        for mine, which in zip(np.split(places, edges), piece_of[np.concatenate([[0], edges])].tolist(), strict=True):
            if which == NO_ROW:
                yield self._nulls(len(mine))
                continue
            if which != held:
                held, batch = which, self._piece(which)
            yield batch.take(mine - (ends[which] - self.pieces.lengths[which]))

    def _ascend(self, places: Indices) -> bool:
        taken = places[places != NO_ROW] if self.gaps else places
        return bool(np.all(taken[1:] >= taken[:-1]))

    def _gathered(self, places: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        """Everything wanted at once, or a part after the other where reading again costs nothing."""
        step = max(GATHER_BYTES // self._row_bytes, 1) if self.pieces.resident else len(places)
        for start in range(0, len(places), step):
            some = places[start : start + step]
            piece_of = np.searchsorted(ends, some, side="right")
            by_piece = np.argsort(np.where(some == NO_ROW, NO_ROW, piece_of), kind="stable")
            yield joined(list(self._ascending(some[by_piece], ends))).take(_inverse(by_piece))

    def _rearranged(self, places: Indices, ends: Indices) -> Iterator[pa.RecordBatch]:
        order = np.argsort(places, kind="stable")
        edges = np.searchsorted(places, [0, *ends], sorter=order).tolist()
        wanted: Places = order.astype(_narrow(len(places)))
        del order
        # What is at hand at once: a part, rows taken of it, the rows before those, and numbers for each place.
        part = max(self.budget - INDEX_BYTES * len(places), self.budget // 2) // PARTS_HELD
        rows = max(part // self._row_bytes, 1)
        with scratch_file(self.directory) as file:
            runs = _Runs(file, len(places), rows)
            if edges[0]:
                runs.add(wanted[: edges[0]], self._nulls(1), np.zeros(edges[0], np.int64))
            for stretch in self._read(edges, ends, part):
                for low in range(stretch.begin, stretch.end, rows):
                    some = wanted[low : min(low + rows, stretch.end)]
                    runs.add(some, stretch.rows, places[some] - stretch.start)
                del stretch
                _release()
            yield from runs.arranged()

    def _read(self, edges: list[int], ends: Indices, part: int) -> Iterator[_Stretch]:
        """Stretches of consecutive rows of about ``part`` bytes; ``edges``: how many are wanted before each piece."""
        held: list[pa.RecordBatch] = []
        size = start = place = begin = 0
        begin = edges[0]
        for piece, end in enumerate(ends.tolist()):
            low, high = edges[piece], edges[piece + 1]
            if low == high and not held:
                start = end
            elif self.pieces.lengths[piece]:
                held.append(self._piece(piece))
                size += held[-1].nbytes
            place = end
            if held and size >= part:
                whole, held = joined(held), []
                yield _Stretch(start, begin, high, whole)
                del whole
                size, start, begin = 0, place, high
        if held:
            yield _Stretch(start, begin, edges[-1], joined(held))

    def _piece(self, index: int) -> pa.RecordBatch:
        batch = joined(list(self.pieces.batches(index)))
        return pa.RecordBatch.from_arrays(batch.columns, schema=self._schema) if self.gaps else batch

    def _nulls(self, rows: int) -> pa.RecordBatch:
        return pa.RecordBatch.from_arrays([pa.nulls(rows, field.type) for field in self._schema], schema=self._schema)

    @cached_property
    def _schema(self) -> pa.Schema:
        schema = self.pieces.schema
        return pa.schema([field.with_nullable(True) for field in schema]) if self.gaps else schema

    def _cheap(self) -> bool:
        """Whether any order of reading is cheap: the rows are in memory, or mapped and fit into it."""
        return self.pieces.resident and self.pieces.mapped <= self.budget

    @cached_property
    def _row_bytes(self) -> int:
        """What a row takes, about: of the fragments' sizes, or of the first rows."""
        size, rows = sum(self.pieces.sizes) + self.pieces.mapped, sum(self.pieces.lengths)
        if not size:
            some = next(index for index, length in enumerate(self.pieces.lengths) if length)
            batch = self._piece(some)
            size, rows = batch.nbytes, batch.num_rows
        return max(size // max(rows, 1), 1)


@dataclass(frozen=True)
class _Stretch:
    """Consecutive rows from place ``start`` on; of what is wanted, in the order of rows, it has ``[begin, end)``."""

    start: int
    begin: int
    end: int
    rows: pa.RecordBatch


@dataclass
class _Runs:
    """Rows on disk, a run after the other, each in the order wanted and cut every ``step`` places of the result."""

    file: BinaryIO
    total: int
    step: int
    _cuts: list[list[tuple[int, int, Places]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._cuts = [[] for _ in range(-(-self.total // self.step))]

    def add(self, places: Places, rows: pa.RecordBatch, which: Places) -> None:
        """Writes one run: of ``rows`` those that ``which`` names belong at ``places`` of the result."""
        order = np.argsort(places, kind="stable")
        places, taken = places[order], rows.take(which[order].astype(np.int64))
        numbers = places // self.step
        edges = [0, *(np.flatnonzero(np.diff(numbers)) + 1).tolist(), len(numbers)]
        for low, high in pairwise(edges):
            begin = self.file.tell()
            with stream_writer(self.file, rows.schema) as writer:
                writer.write_batch(taken.slice(low, high - low))
            self._cuts[int(numbers[low])].append((begin, self.file.tell() - begin, places[low:high]))

    def arranged(self) -> Iterator[pa.RecordBatch]:
        """All rows, in the order wanted."""
        self.file.flush()
        mapped = pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        for cuts in self._cuts:
            places = np.concatenate([places for *_, places in cuts])
            yield self._together(mapped, cuts).take(np.argsort(places))
            _release()

    def _together(self, mapped: pa.Buffer, cuts: Sequence[tuple[int, int, Places]]) -> pa.RecordBatch:
        batches: list[pa.RecordBatch] = []
        for begin, length, _ in cuts:
            batches += pa.ipc.open_stream(mapped.slice(begin, length))
        return joined(batches)


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
