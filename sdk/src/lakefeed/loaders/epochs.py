"""A plan as epochs: the feed of each epoch, and the steps that wait until a batch is drawn.

    late steps (row-local, one row out for each row in: map, load_files)   run on the rows of a batch only
    Slice                                                                  a range of places
    Shuffle                                                                the order
    the rest                                                               pieces

Anything else above the shuffle (a filter, map_batches) makes the whole plan run once into a spill for each epoch.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

from lakefeed.ops import Shuffle, Slice
from lakefeed.optimize import optimize
from lakefeed.plan import Node, Step
from lakefeed.plan.order import order
from lakefeed.plan.walk import nodes, transform
from lakefeed.run import Local
from lakefeed.run.chain import peel
from lakefeed.run.feed import Feed
from lakefeed.run.pieces import Pieces


@dataclass(frozen=True, eq=False)
class Epochs:
    """The epochs of a plan, epoch ``e`` shuffled with seed + e."""

    plan: Node
    runner: Local

    @cached_property
    def _parts(self) -> tuple[Node, tuple[int, int | None], Shuffle | None, tuple[Step, ...]]:
        """What makes the pieces, the range of places, the shuffle, and the late steps, lowest first."""
        steps, base = peel(optimize(self.plan))
        late = _late(steps)
        middle = steps[: len(steps) - len(late)]
        if not isinstance(base, Shuffle):
            return (middle[-1] if middle else base), (0, None), None, late
        if not middle:
            below, more = _split(base.child)
            return below, (0, None), base, more + late
        if len(middle) == 1 and isinstance(middle[0], Slice):
            below, more = _split(base.child)
            return below, (middle[0].start, middle[0].stop), base, more + late
        return middle[-1], (0, None), None, late

    @property
    def late(self) -> tuple[Step, ...]:
        return self._parts[3]

    @property
    def seed(self) -> int | None:
        """The seed of the shuffle that decides the order, before the epoch is added."""
        shuffles = [node for node in nodes(self.plan) if isinstance(node, Shuffle)]
        return shuffles[0].seed if shuffles else None

    @property
    def places(self) -> tuple[int, int]:
        """The range of the feed's places that make up the epoch."""
        start, stop = self._parts[1]
        rows = sum(self._pieces_of_every_epoch.lengths) if self._stable else sum(self._pieces(0).lengths)
        start = min(start, rows)
        return start, rows if stop is None else min(max(stop, start), rows)

    def feed(self, epoch: int) -> Feed:
        """The rows of one epoch."""
        shuffle = self._parts[2]
        pieces = self._pieces_of_every_epoch if self._stable else self._pieces(epoch)
        seed, window = (shuffle.seed + shuffle.epoch + epoch, shuffle.window) if shuffle else (None, None)
        return Feed(pieces, order(pieces.lengths, pieces.sizes, seed, window), self.runner.settings.read)

    @cached_property
    def _stable(self) -> bool:
        """Whether the pieces are the same in every epoch: no other shuffle lies in them."""
        return not any(isinstance(node, Shuffle) for node in nodes(self._parts[0]))

    @cached_property
    def _pieces_of_every_epoch(self) -> Pieces:
        return self._pieces(0)

    def _pieces(self, epoch: int) -> Pieces:
        below, _, shuffle, _ = self._parts
        turned = transform(
            below, lambda node: replace(node, epoch=node.epoch + epoch) if isinstance(node, Shuffle) else node
        )
        return self.runner.pieces(turned, resident=shuffle is not None and shuffle.window is None)


def _late(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    count = 0
    while count < len(steps) and steps[-1 - count].row_local and steps[-1 - count].keeps_row_count:
        count += 1
    return steps[len(steps) - count :]


def _split(plan: Node) -> tuple[Node, tuple[Step, ...]]:
    """A plan below a shuffle without its late steps, and these: one row out for each row in, so they may wait."""
    steps, base = peel(plan)
    late = _late(steps)
    return (steps[len(steps) - len(late) - 1] if len(late) < len(steps) else base), late
