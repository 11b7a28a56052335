"""Batches for PyTorch: exact, resumable, the same rows in the same order for any number of workers.

The place of every row is decided by :mod:`lakefeed.plan.order`, the deal to ranks by :mod:`lakefeed.loaders.world`;
what is here turns places into batches of tensors and counts how far an epoch has come.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lakefeed.errors import InvalidArgumentError, listed
from lakefeed.loaders.collate import tensors
from lakefeed.loaders.epochs import Epochs
from lakefeed.loaders.state import LoaderState, PlanIdentity
from lakefeed.loaders.world import Deal, World
from lakefeed.run.feed import Feed, Range
from lakefeed.run.prefetch import background
from lakefeed.run.rebatch import joined

Collate = Callable[[dict[str, Any]], Any]
OURS = frozenset({"batch_size", "sampler", "batch_sampler", "shuffle", "dataset"})


@dataclass(frozen=True, eq=False)
class Batching:
    """How an epoch is cut: rows a batch (None: single rows), for which rank, and whether the remainder is left out."""

    batch_size: int | None
    world: World
    drop_last: bool

    def deal(self, rows: int, begin: int) -> Deal:
        return Deal(rows, self.batch_size or 1, self.world, self.drop_last, begin)


class TorchLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` over an epoch of a plan, with exact checkpoints.

    Each iteration is one epoch from its beginning, or from a loaded state; a completed epoch is followed by the next
    one (reshuffled), an abandoned one begins again. ``state_dict()`` counts the batches that the caller has received,
    not those that workers have made ahead.
    """

    def __init__(self, epochs: Epochs, batching: Batching, prefetch_batches: int, options: Mapping[str, Any]) -> None:
        refused = sorted(OURS & options.keys())
        if refused:
            raise InvalidArgumentError(
                f"to_torch does not take {listed(refused)}: the order comes from shuffle(), the size from batch_size"
            )
        self._epochs = epochs
        self._batching = batching
        start, stop = epochs.places
        self._rows = stop - start
        self._resume: int | None = None
        self._position = 0
        self._steps = Steps(epochs, batching, prefetch_batches if not options.get("num_workers") else 0)
        settings = {"collate_fn": _unchanged, **{name: value for name, value in options.items() if value is not None}}
        batching.deal(self._rows, 0)
        super().__init__(self._steps, batch_size=None, **settings)

    def __len__(self) -> int:
        """Steps of the coming epoch, the same for every rank."""
        return self._batching.deal(self._rows, self._resume or 0).steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that early ends are seen
        begin, self._resume = self._resume or 0, None
        deal = self._batching.deal(self._rows, begin)
        self._steps.aim(self.epoch, begin)
        self._position = begin
        batches = super().__iter__()
        for step, batch in enumerate(batches):
            self._position = deal.end(step)
            yield batch
        self.set_epoch(self.epoch + 1)

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, delivered."""
        return self._steps.epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next: its effective seed is the shuffle's seed + ``epoch``.

        Raises:
            InvalidArgumentError: a negative epoch.
        """
        if epoch < 0:
            raise InvalidArgumentError(f"set_epoch({epoch}): an epoch is a whole number from 0 on")
        if epoch != self.epoch:
            self._resume, self._position = None, 0
            self._steps.aim(epoch, 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands after the batches received so far: JSON values, under 1 KB, the same on every rank."""
        return LoaderState(self._identity(), self._epochs.seed, self.epoch, self._position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken: the rows not delivered yet, with any ranks, workers and batch size.

        Raises:
            StateMismatchError: the state belongs to other data or another plan; the message says what changed.
        """
        loaded = LoaderState.from_json(state, self._identity(), self._epochs.seed)
        self._steps.aim(loaded.epoch, loaded.position)
        self._resume = self._position = loaded.position

    def _identity(self) -> PlanIdentity:
        return PlanIdentity.of(self._epochs.plan, self._rows)


class Steps(IterableDataset[Any]):
    """The batches of one rank, one after the other; worker ``w`` of ``n`` makes every ``n``-th."""

    def __init__(self, epochs: Epochs, batching: Batching, prefetch_batches: int) -> None:
        self._epochs = epochs
        self._batching = batching
        self._prefetch = prefetch_batches
        # Shared, so that persistent workers see the epoch that the main process has come to.
        self._aim = torch.zeros(2, dtype=torch.int64).share_memory_()  # type: ignore[no-untyped-call]  # torch's

    @property
    def epoch(self) -> int:
        return int(self._aim[0])

    def aim(self, epoch: int, begin: int) -> None:
        """The epoch and place from which the next iteration starts."""
        self._aim[0], self._aim[1] = epoch, begin

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        return background(self._batches(first, every), self._prefetch)

    def _batches(self, first: int, every: int) -> Iterator[Any]:
        feed = self._epochs.feed(self.epoch)
        shift, stop = self._epochs.places
        deal = self._batching.deal(stop - shift, int(self._aim[1]))
        mine = _Mine(deal, first, every, shift)
        copy = feed.pieces.resident and self._epochs.seed is None
        for _, batch in _whole(feed, mine):
            for step in self._epochs.late:
                batch = step.apply(batch, 0)
            made = tensors(batch, copy=copy)
            yield made if self._batching.batch_size else {name: column[0] for name, column in made.items()}


@dataclass(frozen=True)
class _Mine:
    """The places of the batches that one worker of one rank makes, as places of the feed."""

    deal: Deal
    first: int
    every: int
    shift: int

    def places(self, step: int) -> Range:
        start, stop = self.deal.range(step)
        return start + self.shift, stop + self.shift

    @property
    def steps(self) -> range:
        return range(self.first, self.deal.steps, self.every)

    def within(self, low: int, high: int) -> list[Range]:
        """The parts of ``[low, high)`` that are in a batch of this worker."""
        found = []
        for step in self.steps[self._from(low) :]:
            start, stop = self.places(step)
            if start >= high:
                break
            found.append((max(start, low), min(stop, high)))
        return [(start, stop) for start, stop in found if start < stop]

    def _from(self, low: int) -> int:
        """An index into ``steps`` at or before the first whose batch reaches ``low``."""
        a_step = self.deal.batch_size * self.deal.world.world_size
        passed = (low - self.shift - self.deal.begin) // a_step
        # The last two steps may be of another size, so look from a little before.
        return max(passed // self.every - 2, 0)


def _whole(feed: Feed, mine: _Mine) -> Iterator[tuple[int, pa.RecordBatch]]:
    """(step, its rows as one batch) for every step of this worker."""
    if not mine.steps:
        return
    steps = iter(mine.steps)
    step = next(steps)
    held: list[pa.RecordBatch] = []
    due = mine.places(step)
    with closing(feed.batches(mine.places(mine.steps[0])[0], mine.within)) as parts:
        for (_, stop), part in parts:
            held.append(part)
            if stop == due[1]:
                yield step, joined(held)
                held = []
                following = next(steps, None)
                if following is None:
                    return
                step, due = following, mine.places(following)


def _unchanged(batch: Any) -> Any:
    return batch
