"""Batches for PyTorch: exact, resumable, the same rows in the same order for any number of workers.

:mod:`lakefeed.plan.order` decides the position of every row, :mod:`lakefeed.loaders.world` shards them among ranks,
and :mod:`lakefeed.loaders.worker_tasks` turns the rows of a batch into tensors. This module combines them and counts
how far an epoch has come.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from functools import cached_property
from inspect import signature
from typing import Any

import pyarrow as pa
from torch.utils.data import DataLoader

from lakefeed._typing import Ragged
from lakefeed.errors import InvalidArgumentError, TransformError, quoted_list
from lakefeed.loaders.batch_positions import Batching, Places
from lakefeed.loaders.collate import check_ragged
from lakefeed.loaders.epochs import Epochs
from lakefeed.loaders.loader_state import LoaderState, PlanIdentity
from lakefeed.loaders.metrics import LoaderMetrics, Meter
from lakefeed.loaders.stream_sharding import StreamSharding
from lakefeed.loaders.worker_tasks import (
    BatchWork,
    Collated,
    Counted,
    Finish,
    ahead_of,
    check_portable,
    detached,
    tasks,
)
from lakefeed.run.epoch_reader import EpochReader, Range
from lakefeed.run.prefetch import background
from lakefeed.run.row_count import known_rows
from lakefeed.run.step_chain import run_whole
from lakefeed.run.stream_reader import StreamProgress, StreamReader

OURS = frozenset({"batch_size", "sampler", "batch_sampler", "shuffle", "dataset"})
"""What a DataLoader takes and a plan decides."""


class TorchLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` over the epochs of a plan, with exact checkpoints.

    Each iteration is one epoch from its beginning, or from a loaded state; a completed epoch is followed by the next
    one (reshuffled), an abandoned one begins again. An ``infinite`` one goes on from epoch to epoch. ``state_dict()``
    counts the batches that the caller has received, not those that are made ahead.

    Making one reads no rows. Rows are read, and counted where that takes reading, by what needs them first: an
    iteration, ``len()``, ``state_dict()`` or ``load_state_dict()``.

    Raises:
        InvalidArgumentError: an argument is wrong, or the rows are too few for the ranks, as far as their number is
            known without reading; else what reads first raises it.
    """

    def __init__(
        self,
        epochs: Epochs,
        batching: Batching,
        prefetch_batches: int,
        options: Mapping[str, Any],
        *,
        ragged: Ragged = "jagged",
        infinite: bool = False,
    ) -> None:
        settings = {"collate_fn": _unchanged, **{name: value for name, value in options.items() if value is not None}}
        _check(settings)
        check_ragged(ragged, epochs.plan.schema)
        self._epochs = epochs
        self._batching = batching
        self._infinite = infinite
        self._epoch = 0
        self._begin = 0
        """The place from which the next iteration starts."""
        self._progress = _Progress()
        self._meter = Meter()
        _check_ranks(epochs, batching)
        finish = Finish(detached(epochs.late), ragged, batching.batch_size is None)
        check_portable(finish, settings)
        self._steps = Steps(epochs, finish, prefetch_batches, settings.get("num_workers", 0), self._meter)
        if self._steps.counted:
            settings["collate_fn"] = Collated(settings["collate_fn"])
        # Work is what torch takes for a map-style dataset, and the steps are its sampler.
        super().__init__(BatchWork(finish), batch_size=None, sampler=self._steps, **settings)  # type: ignore[arg-type]

    def __len__(self) -> int:
        """Steps of the coming epoch, the same for every rank.

        Raises:
            TypeError: the loader is infinite, or its rows are streamed, so that their number is unknown.
        """
        if self._infinite:
            raise TypeError("an infinite loader has no length")
        rows = self._epochs.rows(self._epoch)
        if rows is None:
            raise TypeError(
                "the length of a stream is unknown before it ends; mapped(), cache() or save() keep its rows, whose "
                "number is known"
            )
        return self._batching.deal(rows, self._begin).steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that early ends are seen
        while True:
            epoch, begin, batches = self._epoch, self._begin, 0
            for batch in self._one_epoch():
                batches += 1
                yield batch
            if not self._infinite:
                return
            if not batches and not begin:
                raise InvalidArgumentError(f"epoch {epoch} has no batch, so an infinite loader would never end")

    def _one_epoch(self) -> Generator[Any]:
        epoch, begin = self._epoch, self._begin
        positions, meter = self._positions(epoch, begin), self._meter
        progress = self._progress = _Progress(begin, self._progress.stream if begin else StreamProgress())
        self._begin = 0
        self._steps.aim(epoch, positions, progress.stream)
        # Without processes or pinning torch's own iterator would only add its overhead to each batch.
        plain = not (self.num_workers or self.pin_memory)
        batches = map(self.collate_fn, self._steps) if plain else super().__iter__()
        made_here = self._steps.opened()
        clock = time.perf_counter
        try:
            begun = clock()
            for step, batch in enumerate(batches):
                progress.position = positions.end(step)
                meter.delivered(begun, clock())
                yield self._uncounted(batch) if self._steps.counted else batch
                begun = clock()
            if self._progress is progress:
                self._go(epoch + 1, 0)
        finally:
            # At once, not when the last reference goes: a kept traceback would keep threads and processes.
            if not (plain or self.persistent_workers):
                _end_workers(batches)
            if made_here is not None:
                made_here.close()

    def _uncounted(self, counted: Counted) -> Any:
        self._meter.files.add(counted.hits, counted.misses)
        return counted.batch

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, delivered."""
        return self._epoch

    @property
    def metrics(self) -> LoaderMetrics:
        """What was delivered so far, and how long the training loop waited for it."""
        return self._meter.read()

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
        progress = self._progress
        window = progress.stream.window_at(progress.position + self._epochs.shift)
        rows, head = self._epochs.rows(self._epoch), progress.stream.head or progress.stream.expected_head
        return LoaderState(self._identity, rows, self._epoch, progress.position, head, window).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken: the rows not delivered yet, with any ranks, workers and batch size.

        Raises:
            StateMismatchError: the state belongs to other data or another plan; the message says what changed.
            InvalidArgumentError: fewer rows are left than there are ranks.
        """
        loaded = LoaderState.from_json(state, self._identity, self._epochs.rows)
        self._positions(loaded.epoch, loaded.position)
        self._go(loaded.epoch, loaded.position, StreamProgress(None, loaded.head, deque([loaded.window])))

    def _go(self, epoch: int, position: int, stream: StreamProgress | None = None) -> None:
        self._epoch, self._begin, self._progress = epoch, position, _Progress(position, stream or StreamProgress())

    def _positions(self, epoch: int, begin: int) -> Places | StreamSharding:
        """Returns where the batches of this rank lie in the rest of an epoch."""
        places = self._epochs.places(epoch)
        if places is None:
            return StreamSharding(self._batching, begin, self._epochs.shift, self._meter.keep)
        start, stop = places
        return Places(self._batching.deal(stop - start, begin), start)

    @cached_property
    def _identity(self) -> PlanIdentity:
        return PlanIdentity.of(self._epochs.plan, self._epochs.seed)


class _Progress:
    """How far an iteration has come. Another epoch or state makes a new one, so that an older iteration's is lost."""

    __slots__ = ("position", "stream")

    def __init__(self, position: int = 0, stream: StreamProgress | None = None) -> None:
        self.position = position
        self.stream = stream or StreamProgress()


def _check(settings: Mapping[str, Any]) -> None:
    refused = sorted(OURS & settings.keys())
    if refused:
        raise InvalidArgumentError(
            f"to_torch does not take {quoted_list(refused)}: the order comes from shuffle(), the size from batch_size"
        )
    unknown = sorted(settings.keys() - signature(DataLoader.__init__).parameters.keys())
    if unknown:
        raise InvalidArgumentError(f"to_torch does not know {quoted_list(unknown)}, nor does torch's DataLoader")
    if not callable(settings["collate_fn"]):
        raise InvalidArgumentError(f"collate_fn={settings['collate_fn']!r:.80}: give a function of a batch")
    if not settings.get("in_order", True):
        raise InvalidArgumentError("to_torch does not take in_order=False: a checkpoint counts batches in their order")


def _check_ranks(epochs: Epochs, batching: Batching) -> None:
    """Passes where the rows suffice for the ranks, or where only reading tells how many there are."""
    rows = known_rows(epochs.plan) if batching.world.world_size > 1 else None
    if rows is not None:
        batching.deal(rows, 0)


def _end_workers(batches: object) -> None:
    """Ends the worker processes of torch's iterator, which else live as long as the iterator."""
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()


class Steps:
    """The batches of one rank, one after the other: finished, or as tasks for worker processes."""

    def __init__(
        self,
        epochs: Epochs,
        finish: Finish,
        prefetch_batches: int,
        workers: int,
        meter: Meter,
    ) -> None:
        self._epochs = epochs
        self._finish = finish
        self._prefetch = prefetch_batches
        self._workers = workers
        self._meter = meter
        self._aim: tuple[int, Places | StreamSharding, StreamProgress] | None = None
        self._opened: Generator[Any] | None = None

    @property
    def counted(self) -> bool:
        """Whether worker processes count files, so that their batches come as `Counted`."""
        return bool(self._workers) and ahead_of(self._finish.late) is not None

    def aim(self, epoch: int, positions: Places | StreamSharding, progress: StreamProgress) -> None:
        """Sets the epoch and the positions of the next iteration."""
        self._aim = epoch, positions, progress

    def opened(self) -> Generator[Any] | None:
        """The iterator made last, once."""
        made, self._opened = self._opened, None
        return made

    def __iter__(self) -> Generator[Any]:
        assert self._aim is not None, "the loader sets it"
        self._opened = self._made(*self._aim)
        return self._opened

    def _made(self, epoch: int, positions: Places | StreamSharding, progress: StreamProgress) -> Generator[Any]:
        if isinstance(positions, Places) and not positions.deal.steps:
            return
        steps = 0
        with closing(self._batches(self._epochs.feed(epoch, progress), positions)) as batches:
            for batch in batches:
                steps += 1
                yield batch
        if isinstance(positions, Places) and steps != positions.deal.steps:
            raise TransformError(
                f"epoch {epoch} ended after {steps} of {positions.deal.steps} batches: a source has fewer rows than it "
                "says, or a function of the plan raised StopIteration"
            )

    def _batches(self, feed: EpochReader | StreamReader, positions: Places | StreamSharding) -> Generator[Any]:
        finish, late = replace(self._finish, copy=feed.lends), self._finish.late
        of_all_ranks = isinstance(positions, StreamSharding)
        parts = self._meter.metered(feed.parts(positions.first, positions.within), of_all_ranks=of_all_ranks)
        # What costs is done ahead: gathering, and the late steps if no worker does them. Functions of the user are all
        # called by one thread.
        one_thread = bool(late) and feed.runs_user_code
        gathered = background(parts, 0 if feed.prompt or one_thread else self._prefetch)
        if self._workers:
            ahead = self._workers if self.counted else 0
            return tasks(positions.cut(gathered, _slices, _same), ahead)
        if late:
            rows = positions.cut(gathered, _slices, _same)
            return background(_finished(run_whole(late, rows, self._meter.files), finish.made), self._prefetch)
        return positions.cut(gathered, finish.several, finish)


def _finished(batches: Generator[pa.RecordBatch], finish: Callable[[pa.RecordBatch], Any]) -> Generator[Any]:
    with closing(batches):
        for rows in batches:
            yield finish(rows)


def _slices(rows: pa.RecordBatch, ranges: Sequence[Range]) -> Iterable[pa.RecordBatch]:
    return (rows.slice(start, stop - start) for start, stop in ranges)


def _same(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows


def _unchanged(batch: Any) -> Any:
    return batch
