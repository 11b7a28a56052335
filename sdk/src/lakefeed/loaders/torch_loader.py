"""Batches for PyTorch: exact, resumable, the same rows in the same order for any number of workers.

:mod:`lakefeed.plan.order` decides the position of every row, :mod:`lakefeed.loaders.world` shards them among ranks,
and :mod:`lakefeed.loaders.worker_tasks` turns the rows of a batch into tensors. This module combines them and counts
how far an epoch has come.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from functools import cached_property
from inspect import signature
from typing import Any
from weakref import WeakSet

import torch
from torch.utils.data import DataLoader

from lakefeed._rng import DrawnSeed
from lakefeed._typing import Ragged, Sparse
from lakefeed.errors import InvalidArgumentError, LakefeedError, quoted_list
from lakefeed.loaders.batch_failures import collate
from lakefeed.loaders.batch_positions import Batching
from lakefeed.loaders.collate import check_ragged, check_sparse
from lakefeed.loaders.epoch_cursor import EpochCursor, Iteration
from lakefeed.loaders.epochs import Epochs
from lakefeed.loaders.loader_state import LoaderState, PlanIdentity
from lakefeed.loaders.metrics import LoaderMetrics, Meter
from lakefeed.loaders.steps import EpochSampler, ShardedEpochSampler, Steps, check_complete
from lakefeed.loaders.worker_tasks import (
    BatchReport,
    BatchWork,
    Collated,
    Finish,
    FinishedBatch,
    LeftOut,
    check_portable,
    detached,
)
from lakefeed.plan import Step
from lakefeed.plan.walk import nodes
from lakefeed.run.prefetch import close_at_exit
from lakefeed.run.row_count import known_rows

OURS = frozenset({"batch_size", "sampler", "batch_sampler", "shuffle", "dataset"})
"""Arguments of a DataLoader that the plan decides."""


class TorchLoader(DataLoader[Any]):
    """A ``torch.utils.data.DataLoader`` over the epochs of a plan, with exact checkpoints.

    Each iteration is one epoch from its beginning, or from a loaded state; a completed epoch is followed by the next
    one (reshuffled), an abandoned iteration begins again where it began. The delivery of its last batch completes an
    epoch. An ``infinite`` loader goes on from epoch to epoch. ``state_dict()`` counts the batches that the caller has
    received, not those that are made ahead.

    Making one reads no rows. Rows are read, and counted where that takes reading, by what needs them first: an
    iteration, ``len()``, ``state_dict()`` or ``load_state_dict()``.

    ``dataset``, ``sampler``, ``batch_sampler``, ``batch_size`` and ``drop_last`` have the values that frameworks look
    for: ``len(loader.dataset)`` is the number of rows of the epoch over all ranks.
    """

    def __init__(self, dataset: BatchWork, batch_sampler: Any, infinite: bool = False, **settings: Any) -> None:
        self._sampler: EpochSampler = batch_sampler.sampler
        self._cursor: EpochCursor = self._sampler.cursor
        self._work = dataset
        self.infinite = infinite
        settings = {**settings, "sampler": None}
        # The finished batches are the samples, and the steps yield lists of one of them.
        super().__init__(dataset, batch_sampler=batch_sampler, **settings)
        batching = self._cursor.batching
        # torch refuses both beside a batch sampler; frameworks read them.
        vars(self).update(batch_size=batching.batch_size, drop_last=batching.drop_last, sampler=self._sampler)
        # Ranks are sharded here: accelerate must not do it again.
        self._is_accelerate_prepared = batching.world.world_size > 1

    def __len__(self) -> int:
        """Steps of a whole epoch, the same for every rank, also after a state was loaded.

        Raises:
            TypeError: the loader is infinite, or its rows are streamed, so that their number is unknown.
        """
        if self.infinite:
            raise TypeError("an infinite loader has no length")
        steps: int = len(self.batch_sampler)  # type: ignore[arg-type]  # torch takes any iterable; ours has a length
        return steps

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]  # a generator, so that early ends are seen
        return close_at_exit(self._epochs())

    def _epochs(self) -> Generator[Any]:
        while True:
            epoch, begin, batches = self._cursor.epoch, self._cursor.begin, 0
            for batch in self._one_epoch():
                batches += 1
                yield batch
            if not self.infinite:
                return
            if not batches and not begin:
                raise InvalidArgumentError(f"epoch {epoch} has no batch, so an infinite loader would never end")

    def _one_epoch(self) -> Generator[Any]:
        cursor, meter = self._cursor, self._cursor.meter
        iteration = self._sampler.due = cursor.start()
        # Without processes or pinning torch's own iterator would only add its overhead to each batch.
        plain = not (self.num_workers or self.pin_memory)
        drawn = iter(self.batch_sampler) if plain else None  # type: ignore[arg-type]
        batches: Iterator[Any]
        if drawn is None:
            self._work.prepare()
            with torch.device("cpu"):  # torch draws a seed, which it cannot where the default device is "meta"
                batches = super().__iter__()
        else:
            batches = _collated(drawn, self.collate_fn, iteration)
        if self.num_workers:
            _with_workers.add(batches)
        clock = time.perf_counter
        steps = 0
        try:
            begun = clock()
            for batch in batches:
                if isinstance(batch, BatchReport):
                    batch = self._received(batch, iteration, steps)
                iteration.position = iteration.positions.end(steps)
                if iteration.positions.is_last(steps):
                    cursor.complete(iteration)
                steps += 1
                if isinstance(batch, LeftOut):
                    continue
                meter.delivered(begun, clock())
                yield batch
                begun = clock()
            check_complete(iteration, steps)
            cursor.complete(iteration)
        except RuntimeError as error:
            if isinstance(error.__cause__, StopIteration):
                check_complete(iteration, steps)
            raise
        finally:
            # At once, not when the last reference goes: a kept traceback would keep threads and processes.
            if not (plain or self.persistent_workers):
                _end_workers(batches)
            if iteration.batches is not None:
                iteration.batches.close()

    def _received(self, report: BatchReport, iteration: Iteration, step: int) -> Any:
        """Returns the batch of a report, whose counts are added to those of the loader."""
        if report.failure is not None:
            raise report.failure.named(iteration.names, step)
        meter = self._cursor.meter
        meter.files.add(report.hits, report.misses)
        for _, error in report.skipped:
            if iteration.names is not None:
                iteration.names.name(error)
            meter.skipped.add(error)
        return report.batch

    @property
    def epoch(self) -> int:
        """The epoch that is, or will be, delivered. Once its last batch was delivered, it is the next one."""
        return self._cursor.epoch

    @property
    def metrics(self) -> LoaderMetrics:
        """The batches that were delivered, and the time that the training loop waited for them."""
        return self._cursor.meter.read()

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next: its effective seed is the shuffle's seed + ``epoch``.

        The epoch that is due anyway (after a completed one, or by a loaded state) keeps its position. A running
        iteration goes on with its own epoch, and no longer counts for ``state_dict()``.

        Raises:
            InvalidArgumentError: a negative epoch.
        """
        self._cursor.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position after the received batches: JSON values, under 1 KB, the same on every rank.

        Raises:
            InvalidArgumentError: another DataLoader draws the batches, so that nobody knows which were received.
        """
        cursor = self._cursor
        if cursor.iteration is not None and cursor.iteration.external:
            raise InvalidArgumentError(
                "another DataLoader (such as accelerate's) draws the batches of this loader ahead, so the position "
                "within the epoch is unknown; call state_dict() between epochs, resume with skip_first_batches, or "
                "iterate the loader itself"
            )
        stream = cursor.stream
        window = stream.window_at(cursor.position + cursor.epochs.shift)
        head = stream.head or stream.expected_head
        window_rows = cursor.epochs.bounded_window(cursor.epoch)
        return LoaderState(
            self._identity, cursor.rows(), cursor.epoch, cursor.position, head, window, window_rows
        ).to_json()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continues where ``state`` was taken: the rows not delivered yet, with any ranks, workers and batch size.

        Raises:
            StateMismatchError: the state belongs to other data or another plan; the message says what changed.
            InvalidArgumentError: fewer rows are left than there are ranks.
        """
        cursor = self._cursor
        epochs = cursor.epochs
        loaded = LoaderState.from_json(
            state, self._identity, epochs.rows, epochs.bounded_window, epochs.shuffles_stream
        )
        if loaded.position and cursor.positions(loaded.epoch, loaded.position).steps == 0:
            cursor.move(loaded.epoch + 1)  # states of older versions stand at the end of their epoch
        else:
            cursor.move(loaded.epoch, loaded.position, loaded.head, loaded.window)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self._cursor}>"

    def _identify(self) -> None:
        """Fixes the identity that checkpoints have: functions count in the state that they are in now."""
        _ = self._identity

    @cached_property
    def _identity(self) -> PlanIdentity:
        return PlanIdentity.of(self._cursor.epochs.plan, self._cursor.epochs.seed)


def create_loader(
    epochs: Epochs,
    batching: Batching,
    prefetch_batches: int,
    options: Mapping[str, Any],
    *,
    ragged: Ragged = "jagged",
    sparse: Sparse = "csr",
    infinite: bool = False,
    arrow: bool = False,
) -> TorchLoader:
    """Returns a loader over the epochs of a plan. With ``arrow`` its batches are record batches.

    Raises:
        InvalidArgumentError: an argument is wrong, or the rows are too few for the ranks, as far as their number is
            known without reading; else what reads first raises it.
    """
    settings = {"collate_fn": _unchanged, **{name: value for name, value in options.items() if value is not None}}
    _check(settings)
    check_ragged(ragged, epochs.plan.schema)
    check_sparse(sparse, epochs.plan.schema)
    _check_ranks(epochs, batching)
    _check_seeds(epochs, batching)
    _check_skipping(epochs, batching)
    alone = batching.world.world_size == 1
    finish = Finish(detached(epochs.late), ragged, batching.batch_size is None, alone=alone, arrow=arrow, sparse=sparse)
    check_portable(finish, settings)
    cursor = EpochCursor(epochs, batching, Meter(epochs.runner.skipped))
    dataset = BatchWork(finish, cursor.rows)
    kind = ShardedEpochSampler if batching.world.world_size > 1 else EpochSampler
    workers = settings.get("num_workers", 0)
    sampler = kind(dataset, cursor, finish, prefetch_batches, workers, bool(workers or settings.get("pin_memory")))
    if sampler.reported:
        settings["collate_fn"] = Collated(settings["collate_fn"])
    loader = TorchLoader(dataset, Steps(sampler), infinite, **settings)
    functions = any(isinstance(node, Step) and node.runs_user_code for node in nodes(epochs.plan))
    if functions or epochs.iterates_user_code:
        loader._identify()  # before the functions run: they may change their own state
    return loader


def _collated(
    drawn: Iterator[list[FinishedBatch]], function: Callable[[Any], Any], iteration: Iteration
) -> Generator[Any]:
    for step, (item,) in enumerate(drawn):
        if function is _unchanged or isinstance(item.batch, LeftOut):
            yield item.batch
            continue
        try:
            batch = collate(function, item.batch)
        except LakefeedError as error:
            if iteration.names is not None:
                iteration.names.name_batch(error, step)
            raise
        yield batch


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


def _check_skipping(epochs: Epochs, batching: Batching) -> None:
    """Raises if a rank could have no row to give for a step, because its only row was skipped."""
    skips = any(step.skips_rows for step in epochs.late)
    if skips and batching.batch_size is None and batching.world.world_size > 1:
        raise InvalidArgumentError(
            'with on_error="skip" a rank may have no row for a step that all ranks must take; use batch_size=1, whose '
            "batch then has no rows, or skip the rows before: mapped(), cache() or save()"
        )


def _check_seeds(epochs: Epochs, batching: Batching) -> None:
    """Raises if several ranks would each draw a seed of their own, and so have rows twice and others not at all."""
    if batching.world.world_size == 1:
        return
    for node in nodes(epochs.plan):
        if any(isinstance(value, DrawnSeed) for value in node.identity().values()):
            raise InvalidArgumentError(
                f"{type(node).__name__.lower()} has no seed, so each of the {batching.world.world_size} ranks would "
                "draw its own: rows would come twice or not at all. Give it the same seed on all ranks, such as seed=0"
            )


_with_workers: WeakSet[Iterator[Any]] = WeakSet()
"""The iterators of torch that have worker processes."""


def _end_all_workers(owner: int) -> None:
    """Ends worker processes before multiprocessing kills them, which leaves their sockets in the temporary folder."""
    if os.getpid() == owner:
        for batches in list(_with_workers):
            _end_workers(batches)


atexit.register(_end_all_workers, os.getpid())


def _end_workers(batches: object) -> None:
    """Ends the worker processes of torch's iterator, which else live as long as the iterator."""
    end = getattr(batches, "_shutdown_workers", None)
    if end is not None:
        end()


def _unchanged(batch: Any) -> Any:
    return batch
