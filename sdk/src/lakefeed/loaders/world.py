"""Ranks, and the sharding of an epoch among them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np

from lakefeed._rng import Indices, permutation
from lakefeed._validate import check_seed
from lakefeed.errors import InvalidArgumentError

Item = TypeVar("Item")


@dataclass(frozen=True)
class World:
    """Rank ``rank`` of ``world_size`` processes that train together.

    Raises:
        InvalidArgumentError: ``rank`` is not in ``range(world_size)``.

    Example:
        >>> World(rank=1, world_size=4)
        World(rank=1, world_size=4)
    """

    rank: int = 0
    world_size: int = 1

    def __post_init__(self) -> None:
        both = (self.rank, self.world_size)
        whole = all(hasattr(given, "__index__") and not isinstance(given, bool) for given in both)
        if not whole or self.world_size < 1 or not 0 <= self.rank < self.world_size:
            raise InvalidArgumentError(
                f"rank={self.rank!r}, world_size={self.world_size!r}: rank must be in range(world_size)"
            )
        # Positions are computed from them, and states hold positions: numbers of numpy are no JSON.
        object.__setattr__(self, "rank", int(self.rank))
        object.__setattr__(self, "world_size", int(self.world_size))

    @classmethod
    def from_environment(cls) -> World:
        """Returns the world of ``RANK`` and ``WORLD_SIZE``, set by launchers such as torchrun; else a world of one."""
        rank, size = os.environ.get("RANK", "0"), os.environ.get("WORLD_SIZE", "1")
        if not (rank.isdecimal() and size.isdecimal()):
            raise InvalidArgumentError(f"RANK={rank!r} and WORLD_SIZE={size!r} in the environment are no whole numbers")
        return cls(int(rank), int(size))

    @classmethod
    def from_torch(cls) -> World:
        """Returns the world of ``torch.distributed`` if it is initialized, else that of the environment.

        Example:
            >>> World.from_torch()
            World(rank=0, world_size=1)
        """
        # Not imported here: a process that has not imported it has no process group.
        distributed = sys.modules.get("torch.distributed")
        if distributed is None or not distributed.is_available() or not distributed.is_initialized():
            return cls.from_environment()
        return cls(distributed.get_rank(), distributed.get_world_size())

    def shards(self, shards: Sequence[Item], shuffle_seed: int | None = None) -> list[Item]:
        """Returns the shards of this rank: each rank gets every ``world_size``-th one.

        Args:
            shards: all shards, the same on every rank.
            shuffle_seed: permute the shards before, the same way on every rank. None keeps their order.

        Raises:
            InvalidArgumentError: the shards are not a list, or the seed is malformed.

        Example:
            >>> World(rank=1, world_size=2).shards(["a", "b", "c", "d", "e"])
            ['b', 'd']
        """
        if not isinstance(shards, list | tuple):
            raise InvalidArgumentError(f"shards must be a list of shards, as shards() returns it, got {shards!r:.80}")
        chosen = list(shards)
        if shuffle_seed is not None:
            chosen = [chosen[index] for index in permutation(len(chosen), check_seed(shuffle_seed)).tolist()]
        return chosen[self.rank :: self.world_size]


@dataclass(frozen=True)
class RankSharding:
    """The positions ``[begin, rows)`` of an epoch as batches, with the same number of steps for every rank.

    Each step takes the next ``world_size * batch_size`` positions, rank 0 first. The remainder at the end is spread
    over the ranks, so that all of them take the same number of steps and together see every row exactly once. Some of
    the last batches are therefore shorter; with ``batch_size`` 1 some of the last hold two rows. ``drop_last`` drops
    the remainder on all ranks.

    Raises:
        InvalidArgumentError: fewer rows remain than there are ranks, so that some rank would have no batch.
    """

    rows: int
    batch_size: int
    world: World
    drop_last: bool
    begin: int = 0

    def __post_init__(self) -> None:
        left = self.rows - self.begin
        if 0 < left < self.world.world_size and not self.drop_last:
            raise InvalidArgumentError(
                f"{left} rows are too few for {self.world.world_size} ranks: every rank needs at least one. Use fewer "
                "ranks, or drop_last=True to end the epoch here"
            )

    @cached_property
    def _tail(self) -> tuple[int, tuple[int, ...]]:
        """Full steps, and the rows of each shorter (or longer) step after them."""
        ranks, step = self.world.world_size, self.world.world_size * self.batch_size
        full, rest = divmod(self.rows - self.begin, step)
        if self.drop_last or not rest:
            return full, ()
        if rest >= ranks:
            return full, (rest,)
        # Too few for every rank: share them with the step before.
        together = step + rest
        return full - 1, (together,) if self.batch_size == 1 else (together - ranks, ranks)

    @property
    def steps(self) -> int:
        full, tail = self._tail
        return full + len(tail)

    def end(self, step: int) -> int:
        """The first place after step ``step`` (of all ranks)."""
        full, tail = self._tail
        a_step = self.batch_size * self.world.world_size
        if step < full:
            return self.begin + (step + 1) * a_step
        return self.begin + full * a_step + sum(tail[: step + 1 - full])

    def range(self, step: int) -> tuple[int, int]:
        """The places ``[start, stop)`` that this rank has at step ``step``."""
        ranks, rank = self.world.world_size, self.world.rank
        begin = self.end(step - 1) if step else self.begin
        share, more = divmod(self.end(step) - begin, ranks)
        start = begin + rank * share + min(rank, more)
        return start, start + share + (rank < more)

    def ranges(self, first: int, last: int) -> tuple[Indices, Indices]:
        """Starts and stops of `range` for the steps ``[first, last)``."""
        full, _ = self._tail
        steps = np.arange(first, max(min(last, full), first))
        starts = self.begin + (steps * self.world.world_size + self.world.rank) * self.batch_size
        rest = np.array([self.range(step) for step in range(max(first, full), last)], np.int64).reshape(-1, 2)
        return np.concatenate([starts, rest[:, 0]]), np.concatenate([starts + self.batch_size, rest[:, 1]])

    def touching(self, low: int, high: int) -> tuple[Indices, Indices]:
        """Starts and stops of what this rank has of the places ``[low, high)``, step by step."""
        full, _ = self._tail
        a_step = self.batch_size * self.world.world_size
        edge = self.begin + full * a_step
        first = min(max((low - self.begin) // a_step, 0), full)
        last = self.steps if high > edge else min(max(-(-(high - self.begin) // a_step), first), full)
        starts, stops = self.ranges(first, last)
        starts, stops = np.maximum(starts, low), np.minimum(stops, high)
        there = starts < stops
        return starts[there], stops[there]
