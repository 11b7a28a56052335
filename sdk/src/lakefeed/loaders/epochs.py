"""A plan as epochs: the feed of each epoch, and the steps that wait until a batch is drawn.

    late steps (row-local, one row out for each row in, and not cheap:      run on the rows of a batch only
        map, load_files)
    Slice                                                                  a range of places
    Shuffle                                                                the order
    the rest                                                               pieces

Anything else above the shuffle (a filter, map_batches) makes the whole plan run once into a spill for each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from lakefeed.ops import Shuffle, Slice
from lakefeed.optimize import bind_files, optimize
from lakefeed.plan import Node, Step
from lakefeed.plan.walk import nodes, transform
from lakefeed.run import LocalRunner
from lakefeed.run.epoch_reader import EpochReader
from lakefeed.run.partitions import Partitions
from lakefeed.run.step_chain import peel

ALWAYS = 0


@dataclass(frozen=True)
class _Parts:
    """What makes the pieces, the order over them, the range of its places, and the late steps (lowest first)."""

    below: Node
    shuffle: Shuffle | None
    places: tuple[int, int | None]
    late: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Epochs:
    """The epochs of a plan, epoch ``e`` shuffled with seed + e."""

    plan: Node
    runner: LocalRunner
    _held: dict[int, Partitions] = field(default_factory=dict, init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "plan", bind_files(self.plan))  # all epochs, and checkpoints, are about the same files

    @cached_property
    def _parts(self) -> _Parts:
        steps, base = peel(optimize(self.plan))
        late = _late(steps)
        middle = steps[: len(steps) - len(late)]
        below = middle[-1] if middle else base
        if isinstance(base, Shuffle):
            if not middle:
                return _over(base, (0, None), late)
            if len(middle) == 1 and isinstance(middle[0], Slice):
                return _over(base, (middle[0].start, middle[0].stop), late)
        return _Parts(below, None, (0, None), late)

    @property
    def late(self) -> tuple[Step, ...]:
        return self._parts.late

    @property
    def seed(self) -> int | None:
        """The seed of the topmost shuffle, before the epoch is added."""
        return next((node.seed + node.epoch for node in nodes(self.plan) if isinstance(node, Shuffle)), None)

    def rows(self, epoch: int) -> int:
        """Rows in an epoch. They differ between epochs where a filter stands above a range of shuffled rows."""
        start, stop = self.places(epoch)
        return stop - start

    def places(self, epoch: int) -> tuple[int, int]:
        """The range of the feed's places that make up an epoch."""
        start, stop = self._parts.places
        rows = sum(self._pieces(epoch).lengths)
        start = min(start, rows)
        return start, rows if stop is None else min(max(stop, start), rows)

    def feed(self, epoch: int) -> EpochReader:
        """The rows of one epoch."""
        shuffle, pieces = self._parts.shuffle, self._pieces(epoch)
        seed, window = (shuffle.seed + shuffle.epoch + epoch, shuffle.window) if shuffle else (None, None)
        return self.runner.ordered(pieces, seed, window)

    @cached_property
    def _stable(self) -> bool:
        """Whether the pieces are the same in every epoch: no other shuffle lies in them."""
        return not any(isinstance(node, Shuffle) for node in nodes(self._parts.below))

    def _pieces(self, epoch: int) -> Partitions:
        """The pieces of an epoch; those of the last one asked for are kept."""
        epoch = ALWAYS if self._stable else epoch
        found = self._held.get(epoch)
        if found is None:
            self._held.clear()
            found = self._held[epoch] = self._made(epoch)
        return found

    def _made(self, epoch: int) -> Partitions:
        parts = self._parts
        turned = transform(
            parts.below, lambda node: replace(node, epoch=node.epoch + epoch) if isinstance(node, Shuffle) else node
        )
        return self.runner.pieces(turned, resident=parts.shuffle is not None and parts.shuffle.window is None)


def _over(shuffle: Shuffle, places: tuple[int, int | None], late: tuple[Step, ...]) -> _Parts:
    """Late steps below the shuffle may wait as well: one row out for each row in."""
    steps, base = peel(shuffle.child)
    waiting = _late(steps)
    below = steps[: len(steps) - len(waiting)]
    return _Parts(below[-1] if below else base, shuffle, places, waiting + late)


def _late(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """The steps on top that may wait; those of them that only move columns come first where the rows are decoded."""
    count = 0
    while count < len(steps) and steps[-1 - count].row_local and steps[-1 - count].keeps_row_count:
        count += 1
    while count and steps[-count].vectorized:
        count -= 1
    return steps[len(steps) - count :]
