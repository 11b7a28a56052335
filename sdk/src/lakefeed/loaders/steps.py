"""The batches of one rank as a batch sampler of PyTorch, so that any DataLoader over the dataset can draw them."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import pyarrow as pa
from torch.utils.data import DistributedSampler, Sampler, SequentialSampler

from lakefeed.errors import LakefeedError, TransformError
from lakefeed.loaders.batch_failures import RowNames
from lakefeed.loaders.batch_positions import Places
from lakefeed.loaders.epoch_cursor import EpochCursor, Iteration
from lakefeed.loaders.stream_sharding import StreamSharding
from lakefeed.loaders.worker_tasks import BatchReport, BatchWork, Finish, FinishedBatch, LeftOut, ahead_of, tasks
from lakefeed.run.epoch_reader import EpochReader, Range
from lakefeed.run.prefetch import background
from lakefeed.run.step_chain import LateBatch, SkippedRows, run_whole
from lakefeed.run.stream_reader import StreamReader

UNSIZED = (
    "the length of a stream is unknown before it ends; mapped(), cache() or save() keep its rows, whose number is known"
)


class EpochSampler(Sampler[int]):
    """The order of rows, as frameworks look at it: it is decided, and they only say which epoch comes.

    Args:
        dataset: of the loader.
        cursor: the position of the loader.
        finish: makes batches of rows.
        prefetch_batches: batches that are made ahead without worker processes.
        workers: worker processes.
        reported: whether batches of the loader's own iterations come as `BatchReport`, since PyTorch hands them on.
    """

    def __init__(
        self,
        dataset: BatchWork,
        cursor: EpochCursor,
        finish: Finish,
        prefetch_batches: int,
        workers: int,
        reported: bool,
    ) -> None:
        dataset.sampler = self
        self.work = dataset
        self.cursor = cursor
        self.finish = finish
        self.prefetch_batches = prefetch_batches
        self.workers = workers
        self.reported = reported
        self.due: Iteration | None = None
        """The iteration of the loader that draws next."""

    def __len__(self) -> int:
        return len(self.work)

    def repeated(self) -> EpochSampler:
        """Returns a sampler of the epoch that is due, again and again."""
        cursor = EpochCursor(self.cursor.epochs, self.cursor.batching, self.cursor.meter, repeats=True)
        cursor.epoch = self.cursor.epoch
        return type(self)(self.work, cursor, self.finish, self.prefetch_batches, self.workers, self.reported)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next, as a framework counts it."""
        self.cursor.set_framework_epoch(epoch)


class ShardedEpochSampler(EpochSampler, DistributedSampler[int]):
    """The order of rows that is sharded among ranks, so that frameworks do not shard it again."""

    def __len__(self) -> int:
        return EpochSampler.__len__(self)


class Steps:
    """Yields one list with one item for each batch: the finished batch, or a task for a worker process.

    An iteration that the loader has not announced is one of another DataLoader (`accelerate.prepare`, a plain one): it
    delivers the rest of the epoch, and its last batch ends the epoch.
    """

    batch_size = 1
    drop_last = False

    def __init__(self, sampler: Any, batch_size: int = 1, drop_last: bool = False) -> None:
        # Lightning puts a sampler without a shuffle in place of ours where every epoch must have the same batches.
        unshuffled = isinstance(sampler, SequentialSampler) and isinstance(sampler.data_source, BatchWork)
        self.sampler: EpochSampler = sampler.data_source.sampler.repeated() if unshuffled else sampler

    def __len__(self) -> int:
        steps = self.sampler.cursor.steps()
        if steps is None:
            raise TypeError(UNSIZED)
        return steps

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch to deliver next, as a framework counts it."""
        self.sampler.set_epoch(epoch)

    def __iter__(self) -> Generator[list[Any]]:
        # With the first item, not now: torch makes two iterators of a batch sampler and draws from the second.
        sampler = self.sampler
        due, sampler.due = sampler.due, None
        batches = self._external() if due is None else self._drawn(due, sampler.reported)
        if due is not None:
            due.batches = batches
        with closing(batches):
            yield from batches

    def _external(self) -> Generator[list[Any]]:
        cursor = self.sampler.cursor
        iteration = cursor.start(external=True)
        with closing(self._drawn(iteration, False)) as batches:
            for step, batch in enumerate(batches):
                if iteration.positions.is_last(step):
                    cursor.complete(iteration)
                if not (isinstance(batch[0], FinishedBatch) and isinstance(batch[0].batch, LeftOut)):
                    yield batch
        cursor.complete(iteration)

    def _drawn(self, iteration: Iteration, reported: bool) -> Generator[list[Any]]:
        positions = iteration.positions
        if isinstance(positions, Places) and not positions.deal.steps:
            return
        feed = self.sampler.cursor.epochs.feed(iteration.epoch, iteration.stream)
        iteration.names = names = RowNames(feed, positions)
        try:
            with closing(self._batches(feed, positions, names, reported)) as batches:
                for batch in batches:
                    yield [batch]
        except LakefeedError as error:
            names.name(error)
            raise
        finally:
            self.sampler.cursor.meter.skipped.log()

    def _batches(
        self, feed: EpochReader | StreamReader, positions: Places | StreamSharding, names: RowNames, reported: bool
    ) -> Generator[Any]:
        sampler = self.sampler
        late, meter = sampler.finish.late, sampler.cursor.meter
        finish = replace(sampler.finish, copy=feed.lends or sampler.cursor.epochs.lends_arrays)
        of_all_ranks = isinstance(positions, StreamSharding)
        parts = meter.metered(feed.parts(positions.first, positions.within), of_all_ranks=of_all_ranks)
        # Functions of the user are called by the thread of the training loop; all else that costs is done ahead.
        here = feed.prompt or feed.runs_user_code or sampler.cursor.epochs.iterates_user_code
        gathered = background(parts, 0 if here else sampler.prefetch_batches)
        if sampler.workers:
            ahead = sampler.workers if ahead_of(late) is not None else 0
            return tasks(positions.cut(gathered, _slices, _same), ahead, reported)
        if late:
            rows = positions.cut(gathered, _slices, _same)
            depth = 0 if any(step.runs_user_code for step in late) else sampler.prefetch_batches
            batches = background(_finished(run_whole(late, rows, meter.files), finish, names, meter.skipped), depth)
        else:
            batches = _handed_over(positions.cut(gathered, finish.several, finish))
        return _reported(batches) if reported else batches


def check_complete(iteration: Iteration, steps: int) -> None:
    """Checks that an iteration that has ended had all its steps.

    Raises:
        TransformError: it ended early.
    """
    planned = iteration.positions.steps
    if steps != planned:
        raise TransformError(
            f"epoch {iteration.epoch} ended after {steps} of {'its' if planned is None else planned} batches: a source "
            "has fewer rows than it says, or a function (of the plan, a source or collate_fn) raised StopIteration"
        )


def _finished(
    batches: Generator[LateBatch], finish: Finish, names: RowNames, skipped: SkippedRows
) -> Generator[FinishedBatch]:
    with closing(batches):
        for late in batches:
            for _, error in late.failures:
                names.name(error)
                skipped.add(error)
            empty = finish.alone and not late.rows.num_rows
            yield FinishedBatch(LeftOut() if empty else finish.convert(late.rows))


def _reported(batches: Generator[FinishedBatch]) -> Generator[FinishedBatch]:
    with closing(batches):
        for finished in batches:
            yield FinishedBatch(BatchReport(finished.batch))


def _handed_over(batches: Generator[Any]) -> Generator[FinishedBatch]:
    with closing(batches):
        for batch in batches:
            yield FinishedBatch(batch)


def _slices(rows: pa.RecordBatch, ranges: Sequence[Range]) -> Iterable[pa.RecordBatch]:
    return (rows.slice(start, stop - start) for start, stop in ranges)


def _same(rows: pa.RecordBatch) -> pa.RecordBatch:
    return rows
