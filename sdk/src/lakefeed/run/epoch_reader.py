"""Reads the rows of partitions in the order of an epoch, from any position on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
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
from lakefeed.plan.order import InOrder, Order, Pool, Span, WholePartitions
from lakefeed.run.gather import Gatherable, gather, measure, measured_groups
from lakefeed.run.gather import Range as Range
from lakefeed.run.partitions import Partitions
from lakefeed.run.prefetch import Work, WorkerThreads
from lakefeed.run.rebatch import join_groups

JOIN_BYTES = 128 * MIB
"""Batches are joined up to this size."""
RELEASE_BYTES = 64 * MIB
"""After so many bytes of mapped rows were read, their memory is given back."""

Wanted: TypeAlias = Callable[[int, int], Iterable[Range]]


def all_ranges(start: int, stop: int) -> Iterable[Range]:
    """Returns all of ``[start, stop)`` as the wanted ranges of positions."""
    return [(start, stop)]


@dataclass(frozen=True, eq=False)
class Part:
    """Rows, and the positions that they belong to: ``(range of positions, row of the first one)``."""

    rows: pa.RecordBatch
    ranges: tuple[tuple[Range, int], ...]


@dataclass(frozen=True, eq=False)
class EpochReader:
    """The rows of ``partitions`` in ``order``."""

    partitions: Partitions
    order: Order
    settings: ReadSettings
    numbering: tuple[Order, Sequence[int]] | None = None
    """The order and the lengths of the partitions before the rows were put on disk in their order."""

    def locate(self, position: int) -> tuple[int | None, str | None]:
        """Returns the row at a position of the epoch, counted in the order of the partitions, and its file."""
        order, lengths = self.numbering or (self.order, self.partitions.lengths)
        span = next(order.spans(position))
        partition, row = span.pool.partitions[0], position - span.start
        if span.partitions is not None and span.rows is not None:
            partition, row = int(span.partitions[row]), int(span.rows[row])
        file = None if self.numbering else self.partitions.items[partition].reading.file
        return sum(lengths[:partition]) + row, file

    @property
    def lends(self) -> bool:
        """True if the batches may share memory with the source (a caller's table, a read-only map)."""
        return self.partitions.shared and isinstance(self.order, InOrder | WholePartitions)

    @property
    def runs_user_code(self) -> bool:
        """True if reading calls functions of the user, which may not be thread-safe."""
        return self.partitions.runs_user_code

    @property
    def prompt(self) -> bool:
        """True if a part is ready without work: a partition in order, decoded ahead in threads."""
        return isinstance(self.order, InOrder) and not self.partitions.runs_user_code

    def batches(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[tuple[Range, pa.RecordBatch]]:
        """Yields the rows of every wanted range of positions from ``start`` on, in order, with the range."""
        with closing(self.parts(start, wanted)) as parts:
            for part in parts:
                for (low, high), row in part.ranges:
                    yield (low, high), part.rows.slice(row, high - low)

    def parts(self, start: int = 0, wanted: Wanted = all_ranges) -> Generator[Part]:
        """Yields the rows of every wanted range of positions from ``start`` on, in order, many ranges at a time.

        ``wanted(low, high)`` returns the ranges that the caller needs of ``[low, high)``: ascending, disjoint, not
        empty. So a rank gathers only its own rows, and decodes only partitions that hold some. A wide range may come
        in several parts. Every partition is decoded once, ahead of its use.
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
        for batch in pools.batches(span.pool.partitions[0]):
            stop = start + batch.num_rows
            mine = [(max(low, start), min(high, stop)) for low, high in ranges if low < stop and high > start]
            if mine:
                yield Part(batch, tuple(((low, high), low - start) for low, high in mine))
            start = stop

    def _mixed(self, pools: _Pools, span: Span, ranges: list[Range]) -> Iterator[Part]:
        def measure_rows(positions: Indices) -> Indices:
            return measure(pools.source, *pools.locate(span, positions))

        # One gather for many ranges: a gather for each would touch every partition again.
        for together in measured_groups(ranges, self.partitions.schema, measure_rows):
            positions = np.concatenate([np.arange(low, high) for low, high in together])
            rows = gather(pools.source, *pools.locate(span, positions))
            pools.release([rows])
            starts = accumulate((high - low for low, high in together), initial=0)
            yield Part(rows, tuple(zip(together, starts, strict=False)))


class _Pools:
    """The decoded partitions of the pool in use, and partitions of the pools to come decoded ahead."""

    def __init__(self, feed: EpochReader, start: int, wanted: Wanted) -> None:
        self._partitions = feed.partitions
        self._sizes = feed.partitions.sizes
        self._settings = feed.settings
        self._threads = WorkerThreads(feed.settings.threads, "lakefeed-feed", keep_files_open)
        self._threaded = not feed.partitions.runs_user_code
        self._upcoming = (
            pool
            for pool in feed.order.upcoming(start)
            if next(iter(wanted(max(pool.start, start), pool.stop)), None) is not None
        )
        self._ahead: deque[Pool] = deque()
        self._under_way: dict[int, Work[list[pa.RecordBatch]]] = {}
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
        self._submit(pool.partitions)
        self._read_ahead()

    def batches(self, partition: int) -> list[pa.RecordBatch]:
        """Returns the rows of a partition that is read in order."""
        batches = self._finished(partition)
        self.release(batches)
        return batches

    def release(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Counts rows that were read, and gives the memory of mapped rows back from time to time."""
        if self._partitions.on_disk:
            self._unreleased += sum(batch.nbytes for batch in batches)
            if self._unreleased > RELEASE_BYTES:
                self._partitions.release()
                self._unreleased = 0

    def locate(self, span: Span, positions: Indices) -> tuple[Indices, Indices]:
        """Returns the source of each position of a shuffled span of the pool in use, and its row there."""
        assert span.partitions is not None, "a span in order is a slice of its partition"
        assert span.rows is not None
        partitions, rows = span.partitions[positions - span.start], span.rows[positions - span.start]
        if self._partitions.resident:
            return partitions, rows
        if self._starts is None:
            self._starts = self._join(span.pool.partitions)
        return np.zeros(len(rows), np.int64), self._starts[partitions] + rows

    def source(self, number: int) -> Gatherable:
        """Returns a source that `locate` has named: all partitions of the pool joined, or a resident partition."""
        if number not in self._ready:
            self._ready[number] = Gatherable.of(self._finished(number))
        return self._ready[number]

    def _join(self, partitions: tuple[int, ...]) -> Indices:
        """Joins the partitions of the pool, so that a gather reads few batches. Returns the first row of each."""
        starts = np.zeros(max(partitions) + 1, np.int64)
        lengths = [self._partitions.items[partition].rows for partition in partitions]
        starts[list(partitions)] = np.cumsum([0, *lengths[:-1]])
        batches = (batch for partition in partitions for batch in self._finished(partition))
        self._ready[0] = Gatherable.of(batches, JOIN_BYTES)
        return starts

    def _submit(self, partitions: Iterable[int]) -> None:
        for partition in partitions:
            if partition not in self._under_way:
                self._under_way[partition] = self._threads.submit(self._read, partition)

    def _read_ahead(self) -> None:
        """Starts the next pool, and more pools while threads would be idle."""
        partitions = sum(len(pool.partitions) for pool in self._ahead)
        held = sum(self._sizes[partition] for pool in self._ahead for partition in pool.partitions)
        while partitions <= self._settings.threads:
            pool = next(self._upcoming, None)
            if pool is None:
                return
            self._ahead.append(pool)
            partitions += len(pool.partitions)
            held += sum(self._sizes[partition] for partition in pool.partitions)
            if held > self._settings.prefetch_bytes:
                return  # begun when its turn comes
            self._submit(pool.partitions)

    def _read(self, index: int) -> list[pa.RecordBatch]:
        if not self._threaded:
            return list(self._partitions.raw(index))
        batches = self._partitions.batches(index)
        return list(batches) if self._partitions.resident else list(join_groups(batches, JOIN_BYTES))

    def _finished(self, index: int) -> list[pa.RecordBatch]:
        batches: Iterable[pa.RecordBatch] = self._under_way.pop(index).result()
        if not self._threaded:
            batches = self._partitions.stepped(index, batches)
        return self._partitions.items[index].checked(batches)

    def __enter__(self) -> _Pools:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.end()
        self._partitions.forget()
