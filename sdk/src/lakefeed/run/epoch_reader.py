"""A feed: the rows of pieces in the order of an epoch, from any place on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed._units import MIB
from lakefeed.config import ReadSettings
from lakefeed.formats.open_files import keep_files_open
from lakefeed.plan.order import InOrder, Order, Pool, Span
from lakefeed.run.gather import Gatherable, gather, measure, measured_groups
from lakefeed.run.gather import Range as Range
from lakefeed.run.partitions import Partitions
from lakefeed.run.prefetch import end
from lakefeed.run.rebatch import join_groups

JOIN_BYTES = 128 * MIB
"""Batches are joined into larger ones up to this size, and left apart beyond."""
RELEASE_BYTES = 64 * MIB
"""After so many bytes of mapped rows were read, their memory is given back."""

Wanted: TypeAlias = Callable[[int, int], Iterable[Range]]


def all_ranges(start: int, stop: int) -> Iterable[Range]:
    """The ranges of places that are wanted of ``[start, stop)``: all."""
    return [(start, stop)]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows at hand together, and which of them belong to which places: ``(range of places, row of its first)``."""

    rows: pa.RecordBatch
    ranges: tuple[tuple[Range, int], ...]


@dataclass(frozen=True, eq=False)
class EpochReader:
    """The rows of ``pieces`` in ``order``."""

    pieces: Partitions
    order: Order
    settings: ReadSettings

    @property
    def lends(self) -> bool:
        """Whether the batches may share memory with the source (a caller's table, a read-only map)."""
        return self.pieces.shared and isinstance(self.order, InOrder)

    @property
    def runs_user_code(self) -> bool:
        """Whether reading calls functions that may not expect several threads."""
        return self.pieces.runs_user_code

    @property
    def prompt(self) -> bool:
        """Whether a part costs its caller nothing: it is a piece as it stands, made ahead in threads."""
        return isinstance(self.order, InOrder) and not self.pieces.runs_user_code

    def batches(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[tuple[Range, pa.RecordBatch]]:
        """The rows of every wanted range of places from ``start`` on, in order, with the range. See `parts`."""
        with closing(self.parts(start, wanted)) as parts:
            for part in parts:
                for (low, high), row in part.ranges:
                    yield (low, high), part.rows.slice(row, high - low)

    def parts(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[Part]:
        """The rows of every wanted range of places from ``start`` on, in order, many ranges at a time.

        ``wanted(low, high)`` names the ranges that the caller needs of ``[low, high)`` (ascending, apart, not empty),
        so that a rank gathers its own rows only, and decodes no piece of which it needs none. A wide range may come in
        several parts. Every piece is decoded once, ahead of its use.
        """
        with _Pools(self, start, wanted) as pools:
            for span in self.order.spans(start):
                ranges = list(wanted(max(span.start, start), span.stop))
                if not ranges:
                    continue
                pools.enter(span.pool)
                yield from (
                    self._in_order(pools, span, ranges) if span.rows is None else self._mixed(pools, span, ranges)
                )

    def _in_order(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[Part]:
        start = span.start
        for batch in pools.batches(span.pool.pieces[0]):
            stop = start + batch.num_rows
            mine = [(max(low, start), min(high, stop)) for low, high in ranges if low < stop and high > start]
            if mine:
                yield Part(batch, tuple(((low, high), low - start) for low, high in mine))
            start = stop

    def _mixed(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[Part]:
        def measure_rows(positions: Indices) -> Indices:
            return measure(pools.source, *pools.locate(span, positions))

        # One gather for many ranges: a gather for each would touch every piece again.
        for together in measured_groups(ranges, self.pieces.schema, measure_rows):
            positions = np.concatenate([np.arange(low, high) for low, high in together])
            rows = gather(pools.source, *pools.locate(span, positions))
            pools.release([rows])
            starts = accumulate((high - low for low, high in together), initial=0)
            yield Part(rows, tuple(zip(together, starts, strict=False)))


class _Pools:
    """The decoded pieces of the pool in use, and pieces of the pools to come decoded ahead."""

    def __init__(self, feed: EpochReader, start: int, wanted: Wanted) -> None:
        self._pieces = feed.pieces
        self._sizes = feed.pieces.sizes
        self._settings = feed.settings
        self._threads = ThreadPoolExecutor(
            feed.settings.threads, thread_name_prefix="lakefeed-feed", initializer=keep_files_open
        )
        self._threaded = not feed.pieces.runs_user_code
        self._upcoming = (
            pool
            for pool in feed.order.upcoming(start)
            if next(iter(wanted(max(pool.start, start), pool.stop)), None) is not None
        )
        self._ahead: deque[Pool] = deque()
        self._under_way: dict[int, Future[list[pa.RecordBatch]]] = {}
        self._ready: dict[int, Gatherable] = {}
        self._starts: Indices | None = None
        self._unreleased = 0
        self._pool: Pool | None = None

    def enter(self, pool: Pool) -> None:
        """Makes ``pool`` the one in use: forgets the one before, reads what is missing, and then ahead."""
        if self._pool is not None and pool.start == self._pool.start:
            return
        self._pool = pool
        self._ready.clear()
        self._starts = None
        if not self._ahead:
            self._ahead.append(next(self._upcoming))
        assert self._ahead.popleft().start == pool.start, "pools come in order"
        self._submit(pool.pieces)
        self._read_ahead()

    def batches(self, piece: int) -> list[pa.RecordBatch]:
        """Returns the rows of a piece that is read in order."""
        batches = self._finished(piece)
        self.release(batches)
        return batches

    def release(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Counts rows that were read, and gives the memory of mapped rows back from time to time."""
        if self._pieces.on_disk:
            self._unreleased += sum(batch.nbytes for batch in batches)
            if self._unreleased > RELEASE_BYTES:
                self._pieces.release()
                self._unreleased = 0

    def locate(self, span: Span, positions: Indices) -> tuple[Indices, Indices]:
        """Returns the source of each position of a shuffled span of the pool in use, and its row there."""
        assert span.pieces is not None, "a span in order is a slice of its piece"
        assert span.rows is not None
        pieces, rows = span.pieces[positions - span.start], span.rows[positions - span.start]
        if self._pieces.resident:
            return pieces, rows
        if self._starts is None:
            self._starts = self._join(span.pool.pieces)
        return np.zeros(len(rows), np.int64), self._starts[pieces] + rows

    def source(self, number: int) -> Gatherable:
        """Returns a source that `locate` has named: all pieces of the pool joined, or a resident piece."""
        if number not in self._ready:
            self._ready[number] = Gatherable.of(self._finished(number))
        return self._ready[number]

    def _join(self, pieces: tuple[int, ...]) -> Indices:
        """Joins the pieces of the pool, so that a gather meets few batches. Returns the first row of each piece."""
        starts = np.zeros(max(pieces) + 1, np.int64)
        lengths = [self._pieces.items[piece].rows for piece in pieces]
        starts[list(pieces)] = np.cumsum([0, *lengths[:-1]])
        self._ready[0] = Gatherable.of((batch for piece in pieces for batch in self._finished(piece)), JOIN_BYTES)
        return starts

    def _submit(self, pieces: Iterable[int]) -> None:
        for piece in pieces:
            if piece not in self._under_way:
                self._under_way[piece] = self._threads.submit(self._read, piece)

    def _read_ahead(self) -> None:
        """Begins the next pool, and more of them as long as the threads would else have nothing to do."""
        pieces = sum(len(pool.pieces) for pool in self._ahead)
        held = sum(self._sizes[piece] for pool in self._ahead for piece in pool.pieces)
        while pieces <= self._settings.threads:
            pool = next(self._upcoming, None)
            if pool is None:
                return
            self._ahead.append(pool)
            pieces += len(pool.pieces)
            held += sum(self._sizes[piece] for piece in pool.pieces)
            if held > self._settings.prefetch_bytes:
                return  # begun when its turn comes
            self._submit(pool.pieces)

    def _read(self, index: int) -> list[pa.RecordBatch]:
        if not self._threaded:
            return list(self._pieces.raw(index))
        batches = self._pieces.batches(index)
        return list(batches) if self._pieces.resident else list(join_groups(batches, JOIN_BYTES))

    def _finished(self, index: int) -> list[pa.RecordBatch]:
        batches: Iterable[pa.RecordBatch] = self._under_way.pop(index).result()
        if not self._threaded:
            batches = self._pieces.stepped(index, batches)
        return self._pieces.items[index].checked(batches)

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._threads)
        self._pieces.forget()
