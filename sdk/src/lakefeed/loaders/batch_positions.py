"""The positions of one rank's batches in an epoch, and rows cut into batches."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar

import pyarrow as pa

from lakefeed._validate import check_flag, is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.loaders.world import RankSharding, World
from lakefeed.run.epoch_reader import Part, Range
from lakefeed.run.rebatch import joined

Batch = TypeVar("Batch")
Several: TypeAlias = Callable[[pa.RecordBatch, Sequence[Range]], Iterable[Batch]]
One: TypeAlias = Callable[[pa.RecordBatch], Batch]

STEPS_AT_ONCE = 4_096


@dataclass(frozen=True)
class Batching:
    """The division of an epoch: rows of a batch (None: single rows), the rank, and whether to drop the remainder."""

    batch_size: int | None
    world: World
    drop_last: bool

    @classmethod
    def of(cls, batch_size: int | None, drop_last: Any, world: Any, rank: int, world_size: int) -> Batching:
        """Returns the division of an epoch, with checked arguments. Give either ``world``, or rank and world size."""
        if batch_size is not None and (not is_whole(batch_size) or batch_size < 1):
            raise InvalidArgumentError(
                f"batch_size must be a number of rows of at least 1, or None for single rows, got {batch_size!r}"
            )
        batch_size = None if batch_size is None else int(batch_size)
        if world is None:
            return cls(batch_size, World(rank, world_size), check_flag(drop_last, "drop_last"))
        if not isinstance(world, World):
            raise InvalidArgumentError(f"world must be a World, such as World.from_torch(), got {world!r:.80}")
        if (rank, world_size) not in ((0, 1), (world.rank, world.world_size)):
            raise InvalidArgumentError(
                f"rank={rank!r}, world_size={world_size!r} and world={world!r}: give one of them"
            )
        return cls(batch_size, world, check_flag(drop_last, "drop_last"))

    def deal(self, rows: int, begin: int) -> RankSharding:
        """Returns the sharding of the positions ``[begin, rows)``.

        Raises:
            InvalidArgumentError: there are too few rows, or the ranks cannot get equally many single rows.
        """
        ranks = self.world.world_size
        if self.batch_size is None and (rows - begin) % ranks and not self.drop_last:
            raise InvalidArgumentError(
                f"{rows - begin} single rows cannot be dealt to {ranks} ranks in the same number of steps; use "
                "batch_size=1 (some of the last batches then hold two rows), or drop_last=True"
            )
        return RankSharding(rows, self.batch_size or 1, self.world, self.drop_last, begin)


@dataclass(frozen=True)
class Places:
    """The places of one rank's batches; places of the deal are places of the feed less ``shift``."""

    deal: RankSharding
    shift: int

    @property
    def steps(self) -> int:
        """The steps of this rank."""
        return self.deal.steps

    def is_last(self, step: int) -> bool:
        """Returns whether no step follows."""
        return step == self.deal.steps - 1

    @property
    def first(self) -> int:
        """The first place of the first batch."""
        return self.deal.range(0)[0] + self.shift

    def stops(self) -> Iterator[int]:
        """The place after each batch."""
        for first in range(0, self.deal.steps, STEPS_AT_ONCE):
            _, stops = self.deal.ranges(first, min(first + STEPS_AT_ONCE, self.deal.steps))
            yield from (stops + self.shift).tolist()

    def within(self, low: int, high: int) -> Iterable[Range]:
        """The parts of ``[low, high)`` that are in a batch."""
        starts, stops = self.deal.touching(low - self.shift, high - self.shift)
        return zip((starts + self.shift).tolist(), (stops + self.shift).tolist(), strict=True)

    def cut(self, parts: Generator[Part], several: Several[Batch], one: One[Batch]) -> Generator[Batch]:
        """Yields the batches: ``several`` of one part at a time, or ``one`` of several parts."""
        return cut(parts, self.stops(), several, one)

    def positions_of(self, step: int) -> tuple[int, int]:
        """Returns the positions of the reader ``[start, stop)`` of the rows of a step of this rank."""
        start, stop = self.deal.range(step)
        return start + self.shift, stop + self.shift

    def end(self, step: int) -> int:
        """Returns the first position of the epoch after a step of all ranks."""
        return self.deal.end(step)


def cut(parts: Generator[Part], stops: Iterator[int], several: Several[Batch], one: One[Batch]) -> Generator[Batch]:
    """The rows up to each of the places ``stops``: ``several`` of one part at a time, or ``one`` of more parts."""
    due = next(stops, None)
    held: list[pa.RecordBatch] = []
    with closing(parts):
        for part in parts:
            whole: list[Range] = []
            for (start, stop), row in part.ranges:
                if stop == due and not held:
                    whole.append((row, row + stop - start))
                    due = next(stops, None)
                    continue
                if whole:
                    yield from several(part.rows, whole)
                    whole = []
                held.append(part.rows.slice(row, stop - start))
                if stop == due:
                    rows, held = joined(held), []
                    yield one(rows)
                    due = next(stops, None)
            if whole:
                yield from several(part.rows, whole)
            if due is None:
                return
