"""A run of steps over a stream of batches as one flat loop, so that thousands of steps do not nest."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass, field, replace
from threading import Lock

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices
from lakefeed.errors import LakefeedError
from lakefeed.plan import Ahead, Failure, Node, Step
from lakefeed.storage.cache.blob_cache import CacheStatistics
from lakefeed.storage.urls import display_url

logger = logging.getLogger(__name__)

MAX_REASONS = 3


class SkippedRows:
    """The number of rows that were left out, and the first reasons. Safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._reasons: list[str] = []
        self._logged = 0
        self.count = 0

    def add(self, error: LakefeedError) -> None:
        """Counts a row that was left out because of ``error``."""
        self.add_reason(str(error))

    def add_reason(self, reason: str) -> None:
        """Counts a row that was left out, with the reason as text."""
        with self._lock:
            self.count += 1
            if len(self._reasons) < MAX_REASONS:
                self._reasons.append(reason)

    def report(self) -> tuple[int, tuple[str, ...]]:
        """Returns the number of rows and the first reasons, for `add_report` in another process."""
        with self._lock:
            return self.count, tuple(self._reasons)

    def add_report(self, count: int, reasons: Sequence[str]) -> None:
        """Adds the rows of a `report`."""
        with self._lock:
            self.count += count
            self._reasons = [*self._reasons, *reasons][:MAX_REASONS]

    def clear(self) -> None:
        """Forgets all rows."""
        with self._lock:
            self.count = self._logged = 0
            self._reasons = []

    def log(self) -> None:
        """Logs a warning about the rows since the last one."""
        with self._lock:
            count, reasons = self.count - self._logged, self._reasons
            self._logged, self._reasons = self.count, []
        if count:
            logger.warning("%d rows failed and were skipped; the first: %s", count, "; ".join(reasons))

    def __reduce__(self) -> tuple[type[SkippedRows], tuple[()]]:
        return SkippedRows, ()  # another process counts its own


def peel(plan: Node) -> tuple[tuple[Step, ...], Node]:
    """The steps on top of a plan, lowest first, and the node that they stand on."""
    steps = []
    while isinstance(plan, Step):
        steps.append(plan)
        plan = plan.child
    return tuple(reversed(steps)), plan


def parted(plan: Node, through: tuple[type[Node], ...]) -> list[tuple[Node, list[int]]]:
    """The plan and the inputs of the nodes ``through`` that its steps lead to, each with the places of those below it.

    Parents come before their inputs.
    """
    walk: list[tuple[Node, list[int]]] = [(plan, [])]
    for node, places in walk:
        _, base = peel(node)
        for child in base.children if isinstance(base, through) else ():
            places.append(len(walk))
            walk.append((child, []))
    return walk


def run_chain(
    steps: Sequence[Step],
    batches: Iterable[pa.RecordBatch],
    offsets: Sequence[int] | None = None,
    skipped: SkippedRows | None = None,
) -> Generator[pa.RecordBatch]:
    """The batches after every step; ``offsets``: the place of the first row in each step's input (default 0).

    Stops drawing batches as soon as no later row can come out. Batches left without rows are dropped. What works ahead
    is given its rows in portions, ahead of their use. ``skipped`` counts the rows that steps leave out.
    """
    skipped = SkippedRows() if skipped is None else skipped
    places = list(offsets) if offsets is not None else [0] * len(steps)
    last = next((index for index in reversed(range(len(steps))) if steps[index].works_ahead), None)
    if last is not None:
        below = run_chain(steps[:last], batches, places[:last], skipped)
        batches = _ahead(steps[last], below, places[last], skipped)
        steps, places = steps[last + 1 :], places[last + 1 :]
    source = iter(batches)
    try:
        while not any(step.exhausted(position) for step, position in zip(steps, places, strict=True)):
            batch = next(source, None)
            if batch is None:
                return
            for index, step in enumerate(steps):
                if not batch.num_rows:
                    break
                rows = batch.num_rows
                if step.skips_rows:
                    batch, failures = step.skip_failures(batch, places[index])
                    for _, error in failures:
                        skipped.add(error)
                else:
                    batch = step.apply(batch, places[index])
                places[index] += rows
            if batch.num_rows:
                yield batch
    finally:
        if isinstance(source, Generator):
            source.close()


@dataclass
class LateBatch:
    """The rows of one batch of a loader while they go through the late steps.

    ``number``: of the batch. ``origins``: the index that each row had in the batch as it was planned, None where no row
    was left out. ``failures``: the rows that were left out, by that index.
    """

    number: int
    rows: pa.RecordBatch
    origins: Indices | None = None
    failures: list[Failure] = field(default_factory=list)

    def run(self, step: Step) -> LateBatch:
        """Returns the batch after a step.

        Raises:
            LakefeedError: as the step; its row is one of this batch.
        """
        try:
            rows, failures = step.skip_failures(self.rows, 0) if step.skips_rows else (step.apply(self.rows, 0), [])
        except LakefeedError as error:
            self.name_row(error)
            raise
        return self.left_with(rows, failures)

    def left_with(self, rows: pa.RecordBatch, failures: Sequence[Failure]) -> LateBatch:
        """Returns the batch with the rows that a step has made, and has left out."""
        if not failures:
            return LateBatch(self.number, rows, self.origins, self.failures)
        for _, error in failures:
            self.name_row(error)
        origins = np.arange(self.rows.num_rows) if self.origins is None else self.origins
        gone = [index for index, _ in failures]
        failed = [(int(origins[index]), error) for index, error in failures]
        return LateBatch(self.number, rows, np.delete(origins, gone), self.failures + failed)

    def name_row(self, error: LakefeedError) -> None:
        """Lets the row of an error count in the batch as it was planned."""
        row = error.failed_row
        if row is not None and row.number is not None:
            index = row.number if self.origins is None else int(self.origins[row.number])
            error.name_row(replace(row, number=index, batch=self.number))


def run_whole(
    steps: Sequence[Step], batches: Iterable[pa.RecordBatch], tally: CacheStatistics | None = None
) -> Generator[LateBatch]:
    """Each batch after every step, one for one and none of them cut: for row-local steps that at most skip rows.

    What works ahead (`load_files`) has begun with the batches to come when one is given out, so batches are drawn
    before they are needed: as many rows again as were given out, or at least one batch. ``tally`` counts its files.
    """
    late = _numbered(batches)
    for step in steps:
        late = _ahead_whole(step, late, tally) if step.works_ahead else _applied(step, late)
    with closing(late):
        yield from late


def _numbered(batches: Iterable[pa.RecordBatch]) -> Generator[LateBatch]:
    with closing(batches) if isinstance(batches, Generator) else nullcontext():
        for number, batch in enumerate(batches):
            yield LateBatch(number, batch)


def _applied(step: Step, batches: Generator[LateBatch]) -> Generator[LateBatch]:
    with closing(batches):
        for batch in batches:
            yield batch.run(step)


def _ahead_whole(step: Step, batches: Generator[LateBatch], tally: CacheStatistics | None) -> Generator[LateBatch]:
    waiting: deque[tuple[LateBatch, Callable[[], pa.RecordBatch]]] = deque()
    with closing(batches), closing(step.ahead(tally)) as ahead:
        for batch in batches:
            while waiting and not ahead.room(batch.rows.num_rows):
                yield finish_ahead(ahead, *waiting.popleft())
            waiting.append((batch, ahead.start(batch.rows)))
        while waiting:
            yield finish_ahead(ahead, *waiting.popleft())


def finish_ahead(ahead: Ahead, batch: LateBatch, finish: Callable[[], pa.RecordBatch]) -> LateBatch:
    """Returns a batch whose work ahead was started, once it is finished; ``finish`` as `Ahead.start` returned it.

    Raises:
        LakefeedError: as the step; its row is one of this batch.
    """
    try:
        rows = finish()
    except LakefeedError as error:
        batch.name_row(error)
        raise
    return batch.left_with(rows, ahead.failures)


def _ahead(
    step: Step, batches: Generator[pa.RecordBatch], position: int, skipped: SkippedRows
) -> Generator[pa.RecordBatch]:
    waiting: deque[Callable[[], pa.RecordBatch]] = deque()
    with closing(batches), closing(step.ahead()) as ahead:

        def finished() -> pa.RecordBatch:
            rows = waiting.popleft()()
            for _, error in ahead.failures:
                skipped.add(error)
            return rows

        for batch in batches:
            for portion in ahead.portions(batch):
                while waiting and not ahead.room(portion.num_rows):
                    yield finished()
                waiting.append(ahead.start(portion, position))
                position += portion.num_rows
        while waiting:
            yield finished()


def name_file(
    batches: Generator[pa.RecordBatch], file: Callable[[], str | None], *, within_file: bool = False
) -> Generator[pa.RecordBatch]:
    """Yields the batches; where they fail because of a row, the error names the file that is being read.

    ``within_file``: the positions of the rows count in that file.
    """
    with closing(batches):
        try:
            yield from batches
        except LakefeedError as error:
            row, name = error.failed_row, file()
            if row is not None and row.file is None and name is not None:
                error.name_row(replace(row, file=display_url(name), within_file=within_file))
            raise
