"""The position of a loader: the epoch that comes next, and the row of it from which the next iteration starts."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

from lakefeed._validate import is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.loaders.batch_failures import RowNames
from lakefeed.loaders.batch_positions import Batching, Places
from lakefeed.loaders.epochs import Epochs
from lakefeed.loaders.metrics import Meter
from lakefeed.loaders.stream_sharding import StreamSharding
from lakefeed.run.stream_reader import StreamProgress, Window


@dataclass(eq=False)
class Iteration:
    """One pass through the rest of an epoch.

    ``position``: the first position of the epoch that was not delivered. ``external``: the batches are drawn by a
    DataLoader that is not ours, so that nobody knows which of them the training loop has received.
    """

    epoch: int
    positions: Places | StreamSharding
    position: int
    stream: StreamProgress = field(default_factory=StreamProgress)
    external: bool = False
    batches: Generator[Any] | None = None
    """The steps, once they are drawn."""
    names: RowNames | None = None
    """The names of the rows, once they are read."""


class EpochCursor:
    """The epoch that a loader delivers, and how far it has come.

    An iteration that was abandoned begins again where it began. The delivery of the last batch ends the epoch.

    Args:
        epochs: the epochs of the plan.
        batching: how they are cut.
        meter: counts what is read.
        repeats: whether the same epoch comes again and again, whatever a framework chooses.
    """

    def __init__(self, epochs: Epochs, batching: Batching, meter: Meter, repeats: bool = False) -> None:
        self._repeats = repeats
        self.epochs = epochs
        self.batching = batching
        self.meter = meter
        self.epoch = 0
        self.begin = 0
        """The position from which the next iteration starts."""
        self.iteration: Iteration | None = None
        """The iteration that counts: a newer one, another epoch or a loaded state takes its place."""
        self._head: str | None = None
        self._window = Window()
        self._loaded = False
        self._epochs_ahead = 0
        """The epoch less the number that a framework has for it."""

    def __str__(self) -> str:
        """Returns the epoch, the position in it and the division, without reading rows."""
        world, rows = self.batching.world, self.batching.batch_size
        batches = "single rows" if rows is None else f"batches of {rows}"
        rank = f", rank {world.rank} of {world.world_size}" if world.world_size > 1 else ""
        return f"{batches}{rank}, epoch {self.epoch}, row {self.position}"

    def start(self, *, external: bool = False) -> Iteration:
        """Starts an iteration through the rest of the epoch."""
        positions = self.positions(self.epoch, self.begin)
        self.iteration = Iteration(self.epoch, positions, self.begin, self._stream(), external)
        return self.iteration

    def complete(self, iteration: Iteration) -> None:
        """Ends the epoch of an iteration, if it is the one that counts."""
        if self.iteration is iteration:
            self.move(iteration.epoch + (not self._repeats))

    def move(self, epoch: int, begin: int = 0, head: str | None = None, window: Window | None = None) -> None:
        """Sets the epoch and the position of it from which the next iteration starts."""
        self.epoch, self.begin, self.iteration = epoch, begin, None
        self._head, self._window = head, window or Window()
        self._loaded = bool(begin)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next. The epoch that is due anyway keeps its position.

        Raises:
            InvalidArgumentError: a negative epoch.
        """
        if not is_whole(epoch) or epoch < 0:
            raise InvalidArgumentError(f"set_epoch({epoch!r}): an epoch is a whole number from 0 on")
        if epoch != self.epoch:
            self.move(int(epoch))

    def set_framework_epoch(self, epoch: int) -> None:
        """Chooses the epoch as a framework counts it, which may begin at 0 after a state was loaded."""
        if self._repeats:
            return
        if self._loaded:
            self._epochs_ahead = self.epoch - epoch
            self._loaded = False
        self.set_epoch(max(epoch + self._epochs_ahead, 0))

    @property
    def position(self) -> int:
        """The first position of the epoch that was not delivered."""
        return self.begin if self.iteration is None else self.iteration.position

    @property
    def stream(self) -> StreamProgress:
        """The facts about a stream that a checkpoint needs."""
        return self._stream() if self.iteration is None else self.iteration.stream

    def rows(self) -> int | None:
        """Returns the rows of the whole epoch over all ranks; None if they are streamed and only reading tells."""
        return self.epochs.rows(self.epoch)

    def steps(self) -> int | None:
        """Returns the steps of the whole epoch, wherever the next iteration starts; None if only reading tells."""
        rows = self.rows()
        return None if rows is None else self.batching.deal(rows, 0).steps

    def positions(self, epoch: int, begin: int) -> Places | StreamSharding:
        """Returns where the batches of this rank lie in the rest of an epoch."""
        places = self.epochs.places(epoch)
        if places is None:
            return StreamSharding(self.batching, begin, self.epochs.shift, self.meter.keep)
        start, stop = places
        return Places(self.batching.deal(stop - start, begin), start)

    def _stream(self) -> StreamProgress:
        return StreamProgress(None, self._head, deque([self._window])) if self.begin else StreamProgress()
