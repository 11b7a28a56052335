"""Work done ahead by the shared threads: begun in order, bounded in what runs and in what is held."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import inf
from threading import Condition, RLock
from time import monotonic
from typing import Any, Generic, TypeVar

from lakefeed.errors import FileError
from lakefeed.storage.fetch import Progress
from lakefeed.storage.remote.fetch_threads import shared_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

POLL_SECONDS = 1.0
SLACK_SECONDS = 1.0
"""A request that ends by its own clock says better why."""


@dataclass(frozen=True)
class FetchFailure:
    """In place of a result: the error."""

    error: BaseException


class Job(Generic[Item]):
    """A few items that one thread works through, one after the other. ``outcomes``: results, or `Failed`."""

    def __init__(self, items: Sequence[Item], sizes: Sequence[int]) -> None:
        self.items = items
        self.sizes = sizes
        self.cost = sum(sizes)
        self.outcomes: list[Any] = []
        self.started = self.finished = self.abandoned = self.requests_finished = False
        self.deadline = inf


class FetchQueue(Generic[Item, Result]):
    """Jobs of one reader: at most ``workers`` run at a time; the begun take at most ``budget`` bytes until released.

    A job that rests does not count as running: it does what is left to do with what it has fetched.

    What is held counts from the beginning of a job to its release, by its expected size until the real one is known.
    A job that is waited for is let through in any case, and so is one that is larger than the budget when nothing else
    is held. Jobs are to be waited for in the order in which they were added, by one thread.
    """

    def __init__(self, work: Callable[[Item, Progress], Result], workers: int, budget: int, timeout: float) -> None:
        self._work = work
        self._workers = workers
        self._budget = budget
        self._timeout = timeout
        lock = RLock()
        self._changed = Condition(lock)
        self._freed = Condition(lock)
        self._resuming = 0
        self._stuck = 0
        self._waiting: deque[Job[Item]] = deque()
        self._wanted: Job[Item] | None = None
        self._running = 0
        self._held = 0
        self._closed = False

    def add(self, items: Sequence[Item], sizes: Sequence[int]) -> Job[Item]:
        """Work on ``items`` (not none), whose results are expected to take ``sizes`` bytes."""
        job = Job(items, sizes)
        with self._changed:
            self._waiting.append(job)
            self._start_waiting()
        return job

    def add_held(self, cost: int) -> Job[Item]:
        """A job without items that holds so many bytes until it is released."""
        job: Job[Item] = Job([], [cost])
        job.started = job.finished = True
        with self._changed:
            self._held += cost
        return job

    def outcomes(self, job: Job[Item]) -> list[Any]:
        """What became of the items: waits for it. An item that hangs becomes a FileError, and those behind it go on."""
        found: list[Any] = []
        whole = job
        while True:
            with self._changed:
                if not job.started:
                    self._waiting.remove(job)
                    self._start(job)
                if not job.finished:
                    self._wanted = job
                    self._changed.notify_all()  # it may have waited for room
                    self._freed.notify_all()
                while not job.finished and (left := job.deadline + SLACK_SECONDS - monotonic()) > 0:
                    self._changed.wait(min(left, POLL_SECONDS))  # its time may have begun meanwhile
                self._wanted = None
                found += job.outcomes
                if job.finished:
                    self._transfer_cost(job, whole)
                    return found
                found.append(FetchFailure(FileError(f"a file was not fetched within {self._timeout:g} seconds")))
                job = self._replace_hung(job, whole)

    def _replace_hung(self, job: Job[Item], whole: Job[Item]) -> Job[Item]:
        """Gives up on a job; a new one for what is behind the item that hangs."""
        behind = len(job.outcomes) + 1
        rest = Job(job.items[behind:], job.sizes[behind:])
        job.cost -= rest.cost
        self._held -= rest.cost
        self._waiting.appendleft(rest)
        self._abandon(job)
        self._transfer_cost(job, whole)
        return rest

    def _transfer_cost(self, job: Job[Item], whole: Job[Item]) -> None:
        """``whole`` is what will be released."""
        if job is not whole:
            whole.cost += job.cost
            job.cost = 0

    def release(self, job: Job[Item]) -> None:
        """What came of the job is no longer held."""
        with self._changed:
            self._held -= job.cost
            job.cost = 0
            self._start_waiting()
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing more is begun; what runs ends unheard."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            self._freed.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def claim(self, job: Job[Item], more: int) -> None:
        """A running job takes so many bytes more (or less): waits for room, unless it is the one that is waited for."""
        with self._changed:
            while more > 0 and self._is_full(job, more):
                job.deadline = inf
                self._stuck += 1
                self._freed.notify_all()
                self._changed.wait()
                self._stuck -= 1
            if not job.abandoned:
                job.cost += more
                self._held += more
            job.deadline = monotonic() + self._timeout
            if more < 0:
                self._start_waiting()
                self._changed.notify_all()

    def _is_full(self, job: Job[Item], more: int) -> bool:
        alone = self._held <= job.cost
        through = alone or self._wanted is job or job.abandoned or self._closed
        return not through and self._held + more > self._budget

    def _start_waiting(self) -> None:
        while self._waiting and self._running < self._workers and not self._closed:
            if self._held and self._held + self._waiting[0].cost > self._budget:
                return
            self._start(self._waiting.popleft())

    def _start(self, job: Job[Item]) -> None:
        job.started = True
        self._running += 1
        self._held += job.cost
        shared_threads().submit(lambda: self._run(job))

    def _run(self, job: Job[Item]) -> None:
        for item, size in zip(job.items, job.sizes, strict=True):
            if job.requests_finished:
                self._resume(job)
            if self._closed or job.abandoned:
                break
            job.deadline = monotonic() + self._timeout
            outcome: Any
            try:
                outcome = self._work(item, _ItemProgress(self, job, size))
            except BaseException as error:  # noqa: BLE001  # for whoever waits for it
                outcome = FetchFailure(error)
            with self._changed:
                if not job.abandoned:
                    job.outcomes.append(outcome)
            del outcome
        with self._changed:
            if job.abandoned:
                shared_threads().remove_spare()
                return
            job.finished = True
            self._finish(job)

    def finish_requests(self, job: Job[Item]) -> None:
        """A running job needs nothing of other machines until its next item."""
        with self._changed:
            if not (job.requests_finished or job.abandoned):
                job.requests_finished = True
                self._running -= 1
                self._start_next()

    def _resume(self, job: Job[Item]) -> None:
        with self._changed:
            job.deadline = inf
            self._resuming += 1
            while not (self._may_resume(job) or job.abandoned or self._closed):
                self._freed.wait()
            self._resuming -= 1
            if not job.abandoned:
                job.requests_finished = False
                self._running += 1

    def _may_resume(self, job: Job[Item]) -> bool:
        """Whether a job may run again; what waits for room is in nobody's way if that is where the room comes from."""
        return self._running - (self._stuck if self._wanted is job else 0) < self._workers

    def _start_next(self) -> None:
        """Somebody else may run: who has begun before who has not."""
        if self._resuming:
            self._freed.notify()
        else:
            self._start_waiting()

    def _abandon(self, job: Job[Item]) -> None:
        job.abandoned = True
        shared_threads().add_spare()
        self._finish(job)

    def _finish(self, job: Job[Item]) -> None:
        if not job.requests_finished:
            self._running -= 1
            self._start_next()
        self._changed.notify_all()


@dataclass
class _ItemProgress(Progress, Generic[Item]):
    """One item under way."""

    queue: FetchQueue[Item, Any]
    job: Job[Item]
    size: int

    def claim(self, size: int) -> None:
        if size != self.size:
            more, self.size = size - self.size, size
            self.queue.claim(self.job, more)

    def extend(self, seconds: float) -> None:
        if self.queue.is_closed:
            raise FileError("nobody waits for it any more")
        self.job.deadline = monotonic() + seconds

    def finish_requests(self) -> None:
        self.queue.finish_requests(self.job)
