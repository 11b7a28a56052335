"""The epochs of a plan: a reader for each epoch, and the steps that wait until a batch is drawn.

    late steps (row-local, one row out for each row in (or none where       run on the rows of a batch only
        rows that fail are skipped), and not cheap: map, load_files)
    Slice                                                                  a range of positions
    Shuffle                                                                the order
    the rest                                                               partitions

Rows that cannot be addressed by position (a CSV file, a filter above a shuffle) are streamed in each epoch; those below
a global shuffle are put on disk first.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property

from lakefeed.ops import MapBatches, Shuffle, Slice
from lakefeed.optimize import bind_files, optimize
from lakefeed.plan import Node, Step
from lakefeed.plan.walk import nodes, sources, transform
from lakefeed.run import LocalRunner
from lakefeed.run.epoch_reader import EpochReader
from lakefeed.run.partitions import Partitions
from lakefeed.run.row_count import known_rows
from lakefeed.run.step_chain import peel
from lakefeed.run.stream_reader import StreamProgress, StreamReader

ALWAYS = 0


@dataclass(frozen=True)
class _Parts:
    """The plan of the partitions, their order, the range of its positions, and the late steps (lowest first)."""

    below: Node
    shuffle: Shuffle | None
    places: tuple[int, int | None]
    late: tuple[Step, ...]


@dataclass(frozen=True, eq=False)
class Epochs:
    """The epochs of a plan, epoch ``e`` shuffled with seed + e."""

    plan: Node
    runner: LocalRunner
    _held: dict[int, Partitions | None] = field(default_factory=dict, init=False, repr=False)

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

    @cached_property
    def lends_arrays(self) -> bool:
        """True if batches may share memory with arrays that a function of the user returned and still holds."""
        return self._parts.shuffle is None and any(isinstance(node, MapBatches) for node in nodes(self._parts.below))

    @cached_property
    def iterates_user_code(self) -> bool:
        """True if a source must be iterated in the thread of the consumer."""
        return any(source.runs_user_code for source in sources(self._parts.below))

    @property
    def seed(self) -> int | None:
        """The seed of the topmost shuffle, before the epoch is added."""
        return next((node.seed + node.epoch for node in nodes(self.plan) if isinstance(node, Shuffle)), None)

    def rows(self, epoch: int) -> int | None:
        """Returns the rows in an epoch, None if they are streamed and only reading tells.

        They differ between epochs where a filter stands above a range of shuffled rows.
        """
        places = self.places(epoch)
        return None if places is None else places[1] - places[0]

    def places(self, epoch: int) -> tuple[int, int] | None:
        """Returns the range of the reader's positions that make up an epoch; None if only reading tells its end."""
        partitions = self._partitions(epoch)
        rows = known_rows(self._parts.below) if partitions is None else sum(partitions.lengths)
        if rows is None:
            return None
        start, stop = self._parts.places
        start = min(start, rows)
        return start, rows if stop is None else min(max(stop, start), rows)

    def shuffles_stream(self, epoch: int) -> bool:
        """Returns whether the rows of an epoch are streamed and shuffled in windows."""
        return self._parts.shuffle is not None and self._partitions(epoch) is None

    def bounded_window(self, epoch: int) -> int | None:
        """Returns the rows of a window of the shuffle, if they are fewer than asked for: rows are large."""
        shuffle, partitions = self._parts.shuffle, self._partitions(epoch)
        if shuffle is None or partitions is None or shuffle.window is None:
            return None
        window = partitions.bounded_window(shuffle.window, shuffle.window_bytes)
        return None if window == shuffle.window else window

    @property
    def shift(self) -> int:
        """The position of the reader at which every epoch of a stream begins."""
        return self._parts.places[0]

    def feed(self, epoch: int, progress: StreamProgress | None = None) -> EpochReader | StreamReader:
        """Returns the rows of one epoch; a stream records its ``progress``."""
        self.runner.track(self.plan, epoch)
        shuffle, partitions = self._parts.shuffle, self._partitions(epoch)
        seed = shuffle.seed + shuffle.epoch + epoch if shuffle else None
        window = shuffle.window if shuffle else None
        if partitions is not None:
            arrangement = shuffle.arrangement if shuffle else "mixed"
            return self.runner.ordered(partitions, seed, self.bounded_window(epoch) or window, arrangement)
        stop, window_bytes = self._parts.places[1], shuffle.window_bytes if shuffle else None
        return StreamReader(
            self._below(epoch), self.runner, seed, window or 1, window_bytes, stop, progress or StreamProgress()
        )

    @cached_property
    def _stable(self) -> bool:
        """True if the partitions are the same in every epoch, because no other shuffle is below."""
        return not any(isinstance(node, Shuffle) for node in nodes(self._parts.below))

    def _partitions(self, epoch: int) -> Partitions | None:
        """Returns the partitions of an epoch, those of the last epoch from memory. None: the rows are streamed."""
        epoch = ALWAYS if self._stable else epoch
        if epoch not in self._held:
            self._held.clear()
            shuffle, below = self._parts.shuffle, self._below(epoch)
            is_global = shuffle is not None and shuffle.window is None
            self._held[epoch] = (
                self.runner.partitions(below, resident=True) if is_global else self.runner.addressable(below)
            )
        return self._held[epoch]

    def _below(self, epoch: int) -> Node:
        """Returns the plan below the shuffle, its own shuffles in the epoch."""
        return transform(
            self._parts.below,
            lambda node: replace(node, epoch=node.epoch + epoch) if isinstance(node, Shuffle) else node,
        )


def _over(shuffle: Shuffle, places: tuple[int, int | None], late: tuple[Step, ...]) -> _Parts:
    """Returns the parts over a shuffle. Late steps below it wait as well, because they keep the row count."""
    steps, base = peel(shuffle.child)
    waiting = _late(steps)
    below = steps[: len(steps) - len(waiting)]
    return _Parts(below[-1] if below else base, shuffle, places, waiting + late)


def _late(steps: tuple[Step, ...]) -> tuple[Step, ...]:
    """Returns the topmost steps that may wait, without leading steps that only move columns."""
    count = 0
    while count < len(steps) and _may_wait(steps[-1 - count]):
        count += 1
    while count and steps[-count].vectorized:
        count -= 1
    return steps[len(steps) - count :]


def _may_wait(step: Step) -> bool:
    """Returns whether a step may run once a batch is drawn: the batch is then as planned, or has fewer rows."""
    return step.row_local and (step.keeps_row_count or step.skips_rows)
