"""Batches for PyTorch: exact, resumable, the same rows in the same order for any number of workers.

The place of every row is decided by :mod:`lakefeed.plan.order`, the deal to ranks by :mod:`lakefeed.loaders.world`;
what is here turns places into batches of tensors and counts how far an epoch has come.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property
from inspect import signature
from typing import Any, TypeAlias

import torch
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from lakefeed.errors import InvalidArgumentError, listed
from lakefeed.loaders.collate import Columns, cuts_lightly, tensors
from lakefeed.loaders.epochs import Epochs
from lakefeed.loaders.state import LoaderState, PlanIdentity
from lakefeed.loaders.world import Deal, World
from lakefeed.plan import Step
from lakefeed.run.feed import Part, Range
from lakefeed.run.prefetch import background
from lakefeed.run.rebatch import joined

OURS = frozenset({"batch_size", "sampler", "batch_sampler", "shuffle", "dataset"})
"""What a DataLoader takes and a plan decides."""


@dataclass(frozen=True, eq=False)
class Batching:
    """How an epoch is cut: rows a batch (None: single rows), for which rank, and whether the remainder is left out."""

    batch_size: int | None
    world: World
    drop_last: bool

    def deal(self, rows: int, begin: int) -> Deal:
        """The places ``[begin, rows)`` dealt.

        Raises:
            InvalidArgumentError: there are too few rows, or single rows do not come out even.
        """
        ranks = self.world.world_size
        if self.batch_size is None and (rows - begin) % ranks and not self.drop_last:
            raise InvalidArgumentError(
                f"{rows - begin} single rows cannot be dealt to {ranks} ranks in the same number of steps; use "
                "batch_size=1 (some of the last batches then hold two rows), or drop_last=True"
            )
        return Deal(rows, self.batch_size or 1, self.world, self.drop_last, begin)


class TorchLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` over an epoch of a plan, with exact checkpoints.

    Each iteration is one epoch from its beginning, or from a loaded state; a completed epoch is followed by the next
    one (reshuffled), an abandoned one begins again. ``state_dict()`` counts the batches that the caller has received,
    not those that workers have made ahead.
    """

    def __init__(self, epochs: Epochs, batching: Batching, prefetch_batches: int, options: Mapping[str, Any]) -> None:
        settings = {"collate_fn": _unchanged, **{name: value for name, value in options.items() if value is not None}}
        _check(settings)
        self._epochs = epochs
        self._batching = batching
        self._epoch = 0
        self._begin = 0
        """The place from which the next iteration starts."""
        self._position = 0
        self._turn: object = None
        """The iteration whose batches count; another epoch or state ends its turn."""
        self._deal(0, 0)
        self._steps = Steps(
            epochs,
            batching,
            prefetch_batches if not settings.get("num_workers") else 0,
            shared=bool(settings.get("persistent_workers")),
        )
        super().__init__(self._steps, batch_size=None, **settings)

    def __len__(self) -> int:
        """Steps of the coming epoch, the same for every rank."""
        return self._deal(self._epoch, self._begin).steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that early ends are seen
        epoch, begin = self._epoch, self._begin
        deal = self._deal(epoch, begin)
        turn = self._turn = object()
        self._position, self._begin = begin, 0
        self._steps.aim(epoch, begin)
        # Without processes or pinning torch's own iterator would only add its overhead to each batch.
        plain = not (self.num_workers or self.pin_memory)
        batches = map(self.collate_fn, self._steps) if plain else super().__iter__()
        made_here = self._steps.opened()
        try:
            for step, batch in enumerate(batches):
                if self._turn is turn:
                    self._position = deal.end(step)
                yield batch
            if self._turn is turn:
                self._go(epoch + 1, 0)
        finally:
            # At once, not when the last reference goes: a kept traceback would keep threads and processes.
            if made_here is not None:
                made_here.close()
            elif not self.persistent_workers:
                _end_workers(batches)

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, delivered."""
        return self._epoch

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next: its effective seed is the shuffle's seed + ``epoch``.

        The epoch that is due anyway (after a completed one, or by a loaded state) keeps its place. A running iteration
        goes on with its own epoch, and no longer counts for ``state_dict()``.

        Raises:
            InvalidArgumentError: a negative epoch.
        """
        if not hasattr(epoch, "__index__") or isinstance(epoch, bool) or epoch < 0:
            raise InvalidArgumentError(f"set_epoch({epoch!r}): an epoch is a whole number from 0 on")
        if epoch != self._epoch:
            self._go(int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """Where the epoch stands after the batches received so far: JSON values, under 1 KB, the same on every rank."""
        return LoaderState(self._identity, self._epochs.rows(self._epoch), self._epoch, self._position).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken: the rows not delivered yet, with any ranks, workers and batch size.

        Raises:
            StateMismatchError: the state belongs to other data or another plan; the message says what changed.
            InvalidArgumentError: fewer rows are left than there are ranks.
        """
        loaded = LoaderState.from_json(state, self._identity, self._epochs.rows)
        self._deal(loaded.epoch, loaded.position)
        self._go(loaded.epoch, loaded.position)

    def _go(self, epoch: int, place: int) -> None:
        self._turn = None
        self._epoch, self._begin, self._position = epoch, place, place

    def _deal(self, epoch: int, begin: int) -> Deal:
        return self._batching.deal(self._epochs.rows(epoch), begin)

    @cached_property
    def _identity(self) -> PlanIdentity:
        return PlanIdentity.of(self._epochs.plan, self._epochs.seed)


def _check(settings: Mapping[str, Any]) -> None:
    refused = sorted(OURS & settings.keys())
    if refused:
        raise InvalidArgumentError(
            f"to_torch does not take {listed(refused)}: the order comes from shuffle(), the size from batch_size"
        )
    unknown = sorted(settings.keys() - signature(DataLoader.__init__).parameters.keys())
    if unknown:
        raise InvalidArgumentError(f"to_torch does not know {listed(unknown)}, nor does torch's DataLoader")
    if not callable(settings["collate_fn"]):
        raise InvalidArgumentError(f"collate_fn={settings['collate_fn']!r:.80}: give a function of a batch")
    if not settings.get("in_order", True):
        raise InvalidArgumentError("to_torch does not take in_order=False: a checkpoint counts batches in their order")


def _end_workers(batches: object) -> None:
    """Ends the worker processes of torch's iterator, which else live as long as the iterator."""
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()


class Steps(IterableDataset[Any]):
    """The batches of one rank, one after the other; worker ``w`` of ``n`` makes every ``n``-th.

    ``shared``: worker processes outlive an iteration, so they have to see what the main process aims at.
    """

    def __init__(self, epochs: Epochs, batching: Batching, prefetch_batches: int, *, shared: bool) -> None:
        self._epochs = epochs
        self._batching = batching
        self._prefetch = prefetch_batches
        self._aim = torch.zeros(2, dtype=torch.int64)
        if shared:
            self._aim.share_memory_()  # type: ignore[no-untyped-call]  # torch's
        self._opened: Generator[Any] | None = None

    def aim(self, epoch: int, begin: int) -> None:
        """The epoch and place from which the next iteration starts."""
        self._aim[0], self._aim[1] = epoch, begin

    def opened(self) -> Generator[Any] | None:
        """The iterator made last in this process, once."""
        made, self._opened = self._opened, None
        return made

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        first, every = (worker.id, worker.num_workers) if worker is not None else (0, 1)
        epoch, begin = self._aim.tolist()
        made = self._batches(epoch, begin, first, every)
        if worker is None:
            self._opened = made
        return made

    def _batches(self, epoch: int, begin: int, first: int, every: int) -> Generator[Any]:
        feed = self._epochs.feed(epoch)
        shift, stop = self._epochs.places(epoch)
        mine = _Mine(self._batching.deal(stop - shift, begin), first, every, shift)
        if not mine.steps:
            return
        parts = feed.parts(mine.places(mine.steps[0])[0], mine.within)
        cut = _Cut(self._epochs.late, feed.lends)
        stops = (mine.places(step)[1] for step in mine.steps)
        # What costs is done ahead: gathering always, making batches only where it takes more than a few slices.
        light = not self._epochs.late and cuts_lightly(feed.pieces.schema)
        if light:
            ahead = cut.batches(background(parts, 0 if feed.prompt else self._prefetch), stops)
        else:
            ahead = background(cut.batches(parts, stops), self._prefetch)
        with closing(ahead):
            for batch in ahead:
                yield batch if self._batching.batch_size else {name: column[0] for name, column in batch.items()}


_Rows: TypeAlias = tuple[Part, int, int]
"""The rows ``[start, stop)`` of a part."""


@dataclass(frozen=True, eq=False)
class _Cut:
    """Makes batches of parts. ``late``: steps that wait for a batch."""

    late: Sequence[Step]
    copy: bool

    def batches(self, parts: Generator[Part], stops: Iterator[int]) -> Generator[dict[str, Any]]:
        """The rows up to each of the places ``stops``, after the late steps, as tensors."""
        due: int | None = next(stops)
        held: list[_Rows] = []
        with closing(parts):
            for part in parts:
                columns = None if self.late else Columns(part.rows, copy=self.copy)
                for (start, stop), row in part.ranges:
                    if stop != due or held or columns is None:
                        held.append((part, row, row + stop - start))
                    if stop == due:
                        yield self._joined(held) if held or columns is None else columns.batch(row, row + stop - start)
                        held, due = [], next(stops, None)
                        if due is None:
                            return

    def _joined(self, held: Sequence[_Rows]) -> dict[str, Any]:
        batch = joined([part.rows.slice(start, stop - start) for part, start, stop in held])
        for step in self.late:
            batch = step.apply(batch, 0)
        return tensors(batch, copy=self.copy)


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

    def within(self, low: int, high: int) -> Iterator[Range]:
        """The parts of ``[low, high)`` that are in a batch of this worker."""
        for step in self.steps[self._from(low) :]:
            start, stop = self.places(step)
            if start >= high:
                return
            if max(start, low) < min(stop, high):
                yield max(start, low), min(stop, high)

    def _from(self, low: int) -> int:
        """An index into ``steps`` at or before the first whose batch reaches ``low``."""
        a_step = self.deal.batch_size * self.deal.world.world_size
        passed = (low - self.shift - self.deal.begin) // a_step
        # The last two steps may be of another size, so look from a little before.
        return max(passed // self.every - 2, 0)


def _unchanged(batch: Any) -> Any:
    return batch
