"""The work on the gathered rows of a batch, in this process or in a worker process.

Worker processes receive tasks. A task holds the rows of a batch, which the reading threads of the main process have
gathered. So each row group is decoded once for any number of workers, and a worker needs only the late steps of the
plan.
"""

from __future__ import annotations

import multiprocessing
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import count, islice
from multiprocessing.reduction import ForkingPickler
from pickle import PicklingError
from types import TracebackType
from typing import Any, NamedTuple

import pyarrow as pa
from torch.utils.data import Dataset

from lakefeed._typing import Ragged, Sparse
from lakefeed.errors import InvalidArgumentError, LakefeedError
from lakefeed.loaders.batch_failures import WorkerFailure, collate
from lakefeed.loaders.collate import Columns, tensors
from lakefeed.ops import Scan
from lakefeed.plan import Ahead, Failure, Node, Step
from lakefeed.run.step_chain import LateBatch, finish_ahead
from lakefeed.sources.memory_source import MemorySource
from lakefeed.storage.cache.blob_cache import CacheStatistics

_turns = count()


@dataclass(frozen=True)
class Task:
    """One batch of one iteration (``turn``), with rows of it or of later batches that the worker does not have yet."""

    turn: int
    number: int
    rows: tuple[tuple[int, bytes], ...]
    reported: bool = False
    """True if the batch must come as a `BatchReport`."""


class LeftOut:
    """Stands for a batch all of whose rows were skipped, which the training loop does not get."""


class FinishedBatch:
    """A batch (or `LeftOut`) that is handed over from a sampler to a dataset."""

    __slots__ = ("batch",)

    def __init__(self, batch: Any) -> None:
        self.batch = batch


@dataclass(frozen=True)
class Finish:
    """Turns rows into a batch of tensors: the ``late`` steps, then `tensors`, or the values of a single row.

    ``copy``: the rows share memory with others and must be copied. ``alone``: there are no other ranks, so a batch
    without rows is left out. ``arrow``: batches stay record batches, which nobody can change.
    """

    late: tuple[Step, ...]
    ragged: Ragged
    single: bool
    copy: bool = False
    alone: bool = True
    arrow: bool = False
    sparse: Sparse = "csr"

    def __call__(self, rows: pa.RecordBatch) -> Any:
        """Returns the batch of rows, if there are no late steps."""
        return self.convert(rows)

    def several(self, rows: pa.RecordBatch, ranges: Sequence[tuple[int, int]]) -> Iterator[Any]:
        """Returns the batch of each range of rows, if there are no late steps."""
        if self.arrow:
            return (rows.slice(start, stop - start) for start, stop in ranges)
        columns = Columns(rows, copy=self.copy, ragged="list" if self.single else self.ragged, sparse=self.sparse)
        return map(_first_row, columns.batches(ranges)) if self.single else columns.batches(ranges)

    def convert(self, rows: pa.RecordBatch) -> Any:
        """Returns the batch of rows that went through the late steps."""
        if self.arrow:
            return rows
        ragged = "list" if self.single else self.ragged
        batch = tensors(rows, copy=self.copy, ragged=ragged, sparse=self.sparse)
        return _first_row(batch) if self.single else batch


def _first_row(batch: dict[str, Any]) -> dict[str, Any]:
    return {name: column[0] for name, column in batch.items()}


class BatchReport(NamedTuple):
    """A batch (or `LeftOut`, or a failure) on its way to the loader.

    ``hits`` and ``misses``: the cached and the fetched files since the batch before. ``skipped``: the rows that were
    left out.
    """

    batch: Any
    hits: int = 0
    misses: int = 0
    skipped: Sequence[Failure] = ()
    failure: WorkerFailure | None = None


@dataclass(frozen=True)
class Collated:
    """``collate_fn``, which gets the batch alone."""

    function: Callable[[Any], Any]

    def __call__(self, batch: Any) -> Any:
        if not isinstance(batch, BatchReport):
            return collate(self.function, batch)
        if batch.failure is not None or isinstance(batch.batch, LeftOut):
            return batch
        try:
            return batch._replace(batch=collate(self.function, batch.batch))
        except LakefeedError as error:
            return batch._replace(batch=None, failure=WorkerFailure.of(error, whole=True))


class BatchWork(Dataset[Any]):
    """The work of a worker as a map-style dataset of torch: `Task` to batch.

    In the main process batches come finished and pass through. Its length is the number of rows.

    Args:
        finish: makes batches of rows.
        rows: returns the rows of the epoch; None of a stream.
    """

    def __init__(self, finish: Finish, rows: Callable[[], int | None] | None = None) -> None:
        self._finish = finish
        self._rows = rows
        self.sampler: Any = None
        """The sampler of the loader; worker processes do not get it."""
        late = finish.late
        self._first = ahead_of(late)
        self._rest = late if self._first is None else late[late.index(self._first) + 1 :]
        self._before = () if self._first is None else late[: late.index(self._first)]
        self._turn = -1
        self._tally = CacheStatistics()
        self._ahead: Ahead | None = None
        self._waiting: dict[int, Callable[[], LateBatch]] = {}

    def __len__(self) -> int:
        """Returns the rows of the epoch, over all ranks."""
        rows = None if self._rows is None else self._rows()
        if rows is None:
            raise TypeError("the number of rows of a stream is unknown before it ends")
        return rows

    def prepare(self) -> None:
        """Imports what the late steps run with, before processes are forked."""
        for step in self._finish.late:
            step.prepare()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_rows": None, "sampler": None}

    def __getitems__(self, items: Sequence[Any]) -> Any:
        """Returns the batch of the only item: torch's way to read many at once, which takes any value for a batch."""
        (item,) = items
        return self[item]

    def __getitem__(self, task: Any) -> Any:
        if isinstance(task, FinishedBatch):
            return task.batch
        if not isinstance(task, Task):
            raise TypeError(
                f"the dataset of a lakefeed loader has batches, not row {task!r:.40}: iterate the loader, give the "
                "plain DataLoader its batch_sampler, or read rows with mapped()"
            )
        if task.turn != self._turn:
            self._begin(task.turn)
        for number, rows in task.rows:
            self._waiting[number] = self._begun(number, rows)
        try:
            late = self._waiting.pop(task.number)()
        except LakefeedError as error:
            if not task.reported or error.failed_row is None:
                raise
            return BatchReport(None, failure=WorkerFailure.of(error))
        empty = self._finish.alone and not late.rows.num_rows and (task.reported or self._finish.single)
        batch = LeftOut() if empty else self._finish.convert(late.rows)
        return BatchReport(batch, *self._tally.reset(), late.failures) if task.reported else batch

    def _begun(self, number: int, message: bytes) -> Callable[[], LateBatch]:
        late = LateBatch(number, pa.ipc.open_stream(message).read_next_batch())
        ahead = self._ahead
        if ahead is None:
            return lambda: _applied(self._rest, late)
        before = _applied(self._before, late)
        loaded = ahead.start(before.rows)
        return lambda: _applied(self._rest, finish_ahead(ahead, before, loaded))

    def _begin(self, turn: int) -> None:
        """Forgets what an abandoned iteration has left."""
        if self._turn < 0:
            _silence_lost_receivers()
        if self._ahead is not None:
            self._ahead.close()
        self._turn, self._waiting = turn, {}
        self._ahead = None if self._first is None else self._first.ahead(self._tally)


def _silence_lost_receivers() -> None:
    """Prints no traceback in a worker if the main process ends while it takes over a shared tensor.

    A thread of `multiprocessing.resource_sharer` hands the file of the tensor over. It reports a connection that the
    other side has closed, for example after Ctrl-C, to `sys.excepthook`, which gets nothing else from a thread.
    """
    if multiprocessing.parent_process() is None:
        return
    report = sys.excepthook

    def report_others(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if threading.current_thread() is threading.main_thread() or not issubclass(kind, ConnectionError | EOFError):
            report(kind, error, trace)

    sys.excepthook = report_others


def ahead_of(late: Sequence[Step]) -> Step | None:
    """The step of which workers begin the next batch while they are at one: no function of the user comes before."""
    first = next((step for step in late if step.works_ahead or step.runs_user_code), None)
    return first if first is not None and first.works_ahead else None


def tasks(batches: Generator[pa.RecordBatch], ahead: int, reported: bool = False) -> Generator[Task]:
    """The batches as work for other processes: each task comes with the rows of the one ``ahead`` places after it.

    torch gives every n-th task to the same one of n workers, so that is the worker's next.
    """
    turn, drawn = next(_turns), 0
    with closing(batches):
        numbered = enumerate(batches)
        first = deque(islice(numbered, ahead))
        drawn = len(first)
        for number in count():
            rows = [first.popleft()] if first else []
            following = next(numbered, None)
            if following is not None:
                rows.append(following)
                drawn += 1
            if number >= drawn:
                return
            yield Task(turn, number, tuple((place, _message(batch)) for place, batch in rows), reported)


def _message(rows: pa.RecordBatch) -> bytes:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write_batch(rows)
    return sink.getvalue().to_pybytes()


def _applied(steps: Sequence[Step], late: LateBatch) -> LateBatch:
    for step in steps:
        late = late.run(step)
    return late


def detached(steps: Sequence[Step]) -> tuple[Step, ...]:
    """The steps without the plan below them, which may be large."""
    below: Node = Scan(MemorySource(steps[0].child.schema.empty_table())) if steps else None  # type: ignore[assignment]
    rebased: list[Step] = []
    for step in steps:
        rebased.append(step.with_children((below,)))
        below = rebased[-1]
    return tuple(rebased)


def check_portable(finish: Finish, options: Mapping[str, Any]) -> None:
    """Checks that worker processes that are not forked can receive the functions.

    Raises:
        InvalidArgumentError: a function cannot be sent to another process.
    """
    context = options.get("multiprocessing_context")
    method = (
        multiprocessing.get_context(context).get_start_method()
        if isinstance(context, str | None)
        else (context.get_start_method())
    )
    if not options.get("num_workers") or method == "fork":
        return
    functions = [(f"the function of {type(step).__name__.lower()}", vars(step)) for step in finish.late]
    given = [(name, options[name]) for name in ("collate_fn", "worker_init_fn") if options.get(name) is not None]
    for argument, value in functions + given:
        try:
            ForkingPickler.dumps(value)
        except (PicklingError, AttributeError, TypeError) as error:
            raise InvalidArgumentError(
                f"{argument} cannot be sent to worker processes that are started by {method!r}: {error}. Define the "
                "function at the top level of a module instead of as a lambda or inside another function, use "
                'num_workers=0, or multiprocessing_context="fork"'
            ) from error
