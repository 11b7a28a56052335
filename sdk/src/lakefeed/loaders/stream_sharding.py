"""Shards a stream among ranks while its end is unknown: the same batches as if the number of rows were known."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from typing import Generic, TypeVar

import pyarrow as pa

from lakefeed.loaders.batch_positions import Batching, One, Several
from lakefeed.loaders.world import RankSharding
from lakefeed.run.epoch_reader import Part, Range
from lakefeed.run.rebatch import joined

Batch = TypeVar("Batch")


@dataclass(frozen=True)
class _Rows:
    """Rows that were read and belong to the positions ``[start, stop)``; ``row``: the first of them in ``batch``."""

    start: int
    stop: int
    batch: pa.RecordBatch
    row: int

    def split(self, position: int) -> tuple[_Rows, _Rows]:
        """Returns the rows before a position, and those from it on."""
        return replace(self, stop=position), replace(self, start=position, row=self.row + position - self.start)


class StreamSharding:
    """The positions of an epoch from ``begin`` on, sharded among ranks as `RankSharding` does.

    A step is full, for every rank, once a row for each rank is read beyond it (with ``drop_last``: a further step).
    So every rank reads that much ahead, the remainder at the end is spread over the ranks, all of them take the same
    number of steps, and the last one is known to be the last when it is delivered.
    """

    def __init__(self, batching: Batching, begin: int, shift: int, keep: Callable[[pa.RecordBatch, int], None]) -> None:
        self._batching = batching
        self._keep = keep
        self._begin = begin
        self._shift = shift
        self._step_rows = batching.world.world_size * (batching.batch_size or 1)
        self._rows_ahead = self._step_rows if batching.drop_last else batching.world.world_size
        self._whole: RankSharding | None = None
        """The sharding of the whole epoch, once its end is known."""

    @property
    def first(self) -> int:
        """The position of the reader from which rows are needed."""
        return self._begin + self._shift

    @property
    def steps(self) -> int | None:
        """The steps of this rank, None before the end of the stream."""
        return None if self._whole is None else self._whole.steps

    def is_last(self, step: int) -> bool:
        """Returns whether no step follows. Once a step is delivered, that is known."""
        return self._whole is not None and step == self._whole.steps - 1

    def end(self, step: int) -> int:
        """Returns the first position after a step that was delivered."""
        if self._whole is not None:
            return self._whole.end(step)
        return self._begin + (step + 1) * self._step_rows

    def positions_of(self, step: int) -> tuple[int, int]:
        """Returns the positions of the reader ``[start, stop)`` of the rows of a step of this rank that was made."""
        deal = self._whole or self._sharding(self._begin + (step + 1) * self._step_rows)
        start, stop = deal.range(step)
        return start + self._shift, stop + self._shift

    def within(self, low: int, high: int) -> list[Range]:
        """Returns the ranges of positions to read of ``[low, high)``: all, since the end of the stream is unknown."""
        return [(low, high)]

    def cut(self, parts: Generator[Part], several: Several[Batch], one: One[Batch]) -> Generator[Batch]:
        """Yields this rank's batches: ``several`` of one part at a time, or ``one`` of several parts.

        Raises:
            InvalidArgumentError: the stream has fewer rows than there are ranks.
        """
        held: deque[_Rows] = deque()
        cutter = _Cutter(several, one, self._keep)
        position = self._begin
        with closing(parts):
            for part in parts:
                for (start, stop), row in part.ranges:
                    held.append(_Rows(start - self._shift, stop - self._shift, part.rows, row))
                    position = stop - self._shift
                full = (position - self._begin - self._rows_ahead) // self._step_rows
                if full > 0:
                    yield from cutter.cut(held, self._sharding(self._begin + full * self._step_rows))
        self._whole = self._batching.deal(position, self._begin)
        yield from cutter.cut(held, self._whole)

    def _sharding(self, rows: int) -> RankSharding:
        """Returns the sharding of so many full steps."""
        return RankSharding(rows, self._batching.batch_size or 1, self._batching.world, False, self._begin)


class _Cutter(Generic[Batch]):
    """Cuts rows into the batches of one rank, step by step."""

    def __init__(self, several: Several[Batch], one: One[Batch], keep: Callable[[pa.RecordBatch, int], None]) -> None:
        self._several = several
        self._one = one
        self._keep = keep
        self._step = 0
        self._begun: list[pa.RecordBatch] = []
        """The first rows of a batch, of which the others are still to come."""

    def cut(self, held: deque[_Rows], sharding: RankSharding) -> Iterator[Batch]:
        """Yields the batches of the rows before the end of ``sharding``, and removes these rows."""
        while held and held[0].start < sharding.rows:
            rows = held.popleft()
            if rows.stop > sharding.rows:
                rows, rest = rows.split(sharding.rows)
                held.appendleft(rest)
            yield from self._batches(rows, sharding)

    def _batches(self, rows: _Rows, sharding: RankSharding) -> Iterator[Batch]:
        whole: list[Range] = []
        starts, stops = sharding.touching(rows.start, rows.stop)
        self._keep(rows.batch, int((stops - starts).sum()))
        for start, stop in zip(starts.tolist(), stops.tolist(), strict=True):
            low, high = rows.row + start - rows.start, rows.row + stop - rows.start
            last = stop == sharding.range(self._step)[1]
            self._step += last
            if last and not self._begun:
                whole.append((low, high))
                continue
            if whole:
                yield from self._several(rows.batch, whole)
                whole = []
            self._begun.append(rows.batch.slice(low, high - low))
            if last:
                batch, self._begun = joined(self._begun), []
                yield self._one(batch)
        if whole:
            yield from self._several(rows.batch, whole)
