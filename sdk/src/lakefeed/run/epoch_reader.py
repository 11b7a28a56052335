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

from lakefeed._units import MIB
from lakefeed.config import ReadSettings
from lakefeed.formats.open_files import keep_files_open
from lakefeed.plan.order import InOrder, Order, Pool, Span
from lakefeed.run.gather import Gatherable, gathered
from lakefeed.run.partitions import Partitions
from lakefeed.run.prefetch import end
from lakefeed.run.rebatch import joined

GATHER_BYTES = 16 * MIB
"""Shuffled rows that are copied together at once."""

Range: TypeAlias = tuple[int, int]
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
                pools.turn(span.pool)
                if span.rows is None:
                    yield Part(
                        pools.held(span.pool.pieces[0]).rows,
                        tuple(((low, high), low - span.start) for low, high in ranges),
                    )
                else:
                    yield from self._mixed(pools, span, ranges)

    def _mixed(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[Part]:
        # One gather for many ranges: a gather for each would touch every piece again.
        for together in grouped(ranges, pools.gather_rows):
            places = np.concatenate([np.arange(low, high) for low, high in together])
            picks, arrange = span.picks(places)
            rows = gathered([(pools.held(pick.piece), pick.rows) for pick in picks], arrange)
            starts = accumulate((high - low for low, high in together), initial=0)
            yield Part(rows, tuple(zip(together, starts, strict=False)))


def grouped(ranges: Iterable[Range], rows: int) -> Iterator[list[Range]]:
    """The ranges in groups of about ``rows`` rows; a range that is longer is cut."""
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
        self._pool: Pool | None = None
        self.gather_rows = 1

    def turn(self, pool: Pool) -> None:
        """Makes ``pool`` the one in use: lets go of the one before, reads what is missing, and then ahead."""
        if self._pool is not None and pool.start == self._pool.start:
            return
        self._pool = pool
        self._ready.clear()
        if not self._ahead:
            self._ahead.append(next(self._upcoming))
        assert self._ahead.popleft().start == pool.start, "pools come in order"
        self._submit(pool.pieces)
        self._read_ahead()
        some = self.held(pool.pieces[0]).rows
        self.gather_rows = max(GATHER_BYTES * some.num_rows // max(some.nbytes, 1), 1)

    def held(self, index: int) -> Gatherable:
        """The rows of one piece of the pool in use."""
        if index not in self._ready:
            self._ready[index] = Gatherable(self._finished(index))
        return self._ready[index]

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
        batches = list(self._pieces.batches(index))
        return [joined(batches)] if batches else []

    def _finished(self, index: int) -> pa.RecordBatch:
        batches = self._under_way.pop(index).result()
        if not self._threaded:
            batches = list(self._pieces.stepped(index, batches))
        return self._pieces.items[index].whole(batches)

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *_: object) -> None:
        end(self._threads)
        self._pieces.forget()
