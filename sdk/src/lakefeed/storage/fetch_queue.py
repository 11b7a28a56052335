"""A queue of fetches that shared threads run ahead. It limits the running jobs and the bytes that they hold."""

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
"""Added to each deadline, because the error of a request that times out by itself says more."""


@dataclass(frozen=True)
class FetchFailure:
    """The error of an item, in place of its result."""

    error: BaseException


class Job(Generic[Item]):
    """Items that one thread works through one after the other. ``outcomes``: results, or `FetchFailure`."""

    def __init__(self, items: Sequence[Item], sizes: Sequence[int]) -> None:
        self.items = items
        self.sizes = sizes
        self.cost = sum(sizes)
        self.outcomes: list[Any] = []
        self.started = self.finished = self.abandoned = self.requests_finished = False
        self.deadline = inf


class FetchQueue(Generic[Item, Result]):
    """The jobs of one reader.

    At most ``workers`` run at a time. Started jobs hold at most ``budget`` bytes until released.

    A job that has finished its requests does not count as running while it processes what it fetched.

    The bytes of a job are counted from its start to its release, by their expected size until the real size is known. A
    job that the reader waits for starts regardless of the budget, and so does one that exceeds the budget if nothing
    else
    is held. One thread must wait for the jobs in the order in which they were added.
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
        """Adds a job for ``items`` (at least one), whose results are expected to have ``sizes`` bytes."""
        job = Job(items, sizes)
        with self._changed:
            self._waiting.append(job)
            self._start_waiting()
        return job

    def add_held(self, cost: int) -> Job[Item]:
        """Returns a finished job without items that holds ``cost`` bytes until it is released."""
        job: Job[Item] = Job([], [cost])
        job.started = job.finished = True
        with self._changed:
            self._held += cost
        return job

    def outcomes(self, job: Job[Item]) -> list[Any]:
        """Waits for a job and returns the results of its items, or `FetchFailure`.

        An item that exceeds its deadline fails with a FileError, and the items behind it continue in another thread.
        """
        outcomes: list[Any] = []
        whole = job
        while True:
            with self._changed:
                if not job.started:
                    self._waiting.remove(job)
                    self._start(job)
                if not job.finished:
                    self._wanted = job
                    self._changed.notify_all()  # the job may wait for budget
                    self._freed.notify_all()
                while not job.finished and (left := job.deadline + SLACK_SECONDS - monotonic()) > 0:
                    self._changed.wait(min(left, POLL_SECONDS))  # its deadline may have been set meanwhile
                self._wanted = None
                outcomes += job.outcomes
                if job.finished:
                    self._transfer_cost(job, whole)
                    return outcomes
                outcomes.append(FetchFailure(FileError(f"a file was not fetched within {self._timeout:g} seconds")))
                job = self._replace_hung(job, whole)

    def _replace_hung(self, job: Job[Item], whole: Job[Item]) -> Job[Item]:
        """Abandons a job. Returns a new job for the items behind the one that hangs."""
        behind = len(job.outcomes) + 1
        rest = Job(job.items[behind:], job.sizes[behind:])
        job.cost -= rest.cost
        self._held -= rest.cost
        self._waiting.appendleft(rest)
        self._abandon(job)
        self._transfer_cost(job, whole)
        return rest

    def _transfer_cost(self, job: Job[Item], whole: Job[Item]) -> None:
        """Moves the bytes of a job to ``whole``, the job that the reader will release."""
        if job is not whole:
            whole.cost += job.cost
            job.cost = 0

    def release(self, job: Job[Item]) -> None:
        """Releases the bytes of a job."""
        with self._changed:
            self._held -= job.cost
            job.cost = 0
            self._start_waiting()
            self._changed.notify_all()

    def close(self) -> None:
        """Starts no more jobs. The results of running jobs are dropped."""
        with self._changed:
            self._closed = True
            self._waiting.clear()
            self._changed.notify_all()
            self._freed.notify_all()

    @property
    def is_closed(self) -> bool:
        return self._closed

    def claim(self, job: Job[Item], more: int) -> None:
        """Adds bytes to a running job, or subtracts them. Waits for budget unless the reader waits for this job."""
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
            except BaseException as error:  # noqa: BLE001  # raised by the reader
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
        """Marks that a running job needs no more requests until its next item."""
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
        """Returns whether a job may run again.

        Jobs that wait for budget do not count while the reader waits for this one.
        """
        return self._running - (self._stuck if self._wanted is job else 0) < self._workers

    def _start_next(self) -> None:
        """Resumes a started job, or starts a new one."""
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
    """The progress of one item."""

    queue: FetchQueue[Item, Any]
    job: Job[Item]
    size: int

    def claim(self, size: int) -> None:
        if size != self.size:
            more, self.size = size - self.size, size
            self.queue.claim(self.job, more)

    def extend(self, seconds: float) -> None:
        if self.queue.is_closed:
            raise FileError("the reader has been closed")
        self.job.deadline = monotonic() + seconds

    def finish_requests(self) -> None:
        self.queue.finish_requests(self.job)
