"""M45: work done ahead is begun in order and bounded in what is held, not only in what runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from lakefeed.errors import FileError
from lakefeed.storage.fetch import Progress
from lakefeed.storage.fetch_queue import FetchFailure, FetchQueue
from lakefeed.storage.remote.fetch_threads import FetchThreads


class Gate:
    """Work that waits until it is let go, and tells what has begun."""

    def __init__(self) -> None:
        self.begun: list[int] = []
        self.running = self.most = 0
        self.go = threading.Event()
        self.lock = threading.Lock()

    def __call__(self, item: int, progress: Progress) -> int:
        with self.lock:
            self.begun.append(item)
            self.running += 1
            self.most = max(self.most, self.running)
        self.go.wait(20)
        with self.lock:
            self.running -= 1
        return item * 10


@pytest.fixture
def gate() -> Iterator[Gate]:
    gate = Gate()
    yield gate
    gate.go.set()


def soon(condition: object, seconds: float = 5.0) -> None:
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:  # type: ignore[operator]
        time.sleep(0.005)
    assert condition()  # type: ignore[operator]


def test_no_more_than_the_workers_run_and_in_order(gate: Gate) -> None:
    queue = FetchQueue(gate, workers=3, budget=1_000, timeout=5.0)
    jobs = [queue.add([n], [1]) for n in range(10)]
    soon(lambda: len(gate.begun) == 3)
    gate.go.set()
    assert [queue.outcomes(job) for job in jobs] == [[n * 10] for n in range(10)]
    assert gate.most <= 3
    assert sorted(gate.begun[:3]) == [0, 1, 2]


def test_what_is_finished_counts_until_it_is_released(gate: Gate) -> None:
    gate.go.set()
    queue = FetchQueue(gate, workers=8, budget=30, timeout=5.0)
    jobs = [queue.add([n], [10]) for n in range(6)]
    assert queue.outcomes(jobs[0]) == [0]
    assert queue.outcomes(jobs[2]) == [20]
    time.sleep(0.05)
    assert sorted(gate.begun) == [0, 1, 2]
    queue.release(jobs[0])
    soon(lambda: sorted(gate.begun) == [0, 1, 2, 3])
    assert queue.outcomes(jobs[4]) == [40], "what is waited for is begun in any case"
    queue.close()


def test_one_that_is_larger_than_the_budget_passes_alone(gate: Gate) -> None:
    gate.go.set()
    queue = FetchQueue(gate, workers=8, budget=5, timeout=5.0)
    jobs = [queue.add([n], [10]) for n in range(4)]
    for n, job in enumerate(jobs):
        assert queue.outcomes(job) == [n * 10]
        assert sorted(gate.begun) == list(range(n + 1))
        queue.release(job)


@pytest.mark.live
def test_sizes_that_become_known_wait_for_room() -> None:
    claimed: list[int] = []

    def work(item: int, progress: Progress) -> int:
        progress.claim(50)
        claimed.append(item)
        return item

    queue = FetchQueue(work, workers=8, budget=110, timeout=0.2)
    jobs = [queue.add([n], [1]) for n in range(6)]
    soon(lambda: len(claimed) == 2)
    time.sleep(1.6)  # who waits for room is not late
    assert len(claimed) == 2
    for n, job in enumerate(jobs):
        assert queue.outcomes(job) == [n]
        queue.release(job)
    assert queue._held == 0


def test_what_hangs_is_given_up_and_the_rest_goes_on() -> None:
    go = threading.Event()

    def work(item: int, progress: Progress) -> int:
        if item == 1:
            go.wait(20)
        if item == 2:
            raise FileError("broken")
        return item

    queue = FetchQueue(work, workers=1, budget=100, timeout=0.1)
    together, alone = queue.add([0, 1, 2, 3], [1] * 4), queue.add([4], [1])
    first, hung, broken, last = queue.outcomes(together)
    assert (first, last, queue.outcomes(alone)) == (0, 3, [4])
    assert isinstance(hung, FetchFailure)
    assert isinstance(broken, FetchFailure)
    assert str(hung.error) == "a file was not fetched within 0.1 seconds"
    queue.release(together)
    queue.release(alone)
    assert queue._held == 0
    go.set()


def test_a_closed_lane_begins_nothing_more(gate: Gate) -> None:
    queue = FetchQueue(gate, workers=2, budget=100, timeout=5.0)
    for n in range(10):
        queue.add([n], [1])
    soon(lambda: len(gate.begun) == 2)
    queue.close()
    gate.go.set()
    time.sleep(0.05)
    assert len(gate.begun) == 2


def test_the_threads_of_all_are_bounded() -> None:
    threads, go = FetchThreads(most=4), threading.Event()
    lock, running, done = threading.Lock(), [0, 0], []

    def work() -> None:
        with lock:
            running[0] += 1
            running[1] = max(running)
        go.wait(10)
        with lock:
            running[0] -= 1
            done.append(1)

    for _ in range(20):
        threads.submit(work)
    soon(lambda: running[0] == 4)
    go.set()
    soon(lambda: len(done) == 20)
    assert running[1] == 4


def test_what_rests_lets_others_run_and_goes_on_before_them() -> None:
    begun: list[int] = []
    fetched, go = threading.Semaphore(0), threading.Event()

    def work(item: int, progress: Progress) -> int:
        begun.append(item)
        if item < 10:
            progress.finish_requests()
            fetched.release()
            go.wait(20)
        return item

    queue = FetchQueue(work, workers=1, budget=1_000, timeout=5.0)
    first, *others = [queue.add([n, n + 10], [1, 1]) for n in range(3)]
    for _ in range(3):
        assert fetched.acquire(timeout=5)
    assert begun == [0, 1, 2]
    go.set()
    assert [queue.outcomes(job) for job in (first, *others)] == [[n, n + 10] for n in range(3)]
    assert queue._running == 0
    queue.close()


def test_a_job_that_is_waited_for_goes_on_while_others_wait_for_room() -> None:
    def work(item: int, progress: Progress) -> int:
        progress.claim(60)
        progress.finish_requests()
        return item

    queue = FetchQueue(work, workers=2, budget=100, timeout=5.0)
    jobs = [queue.add([n, n + 10, n + 20], [1, 1, 1]) for n in range(6)]
    for n, job in enumerate(jobs):
        assert queue.outcomes(job) == [n, n + 10, n + 20]
        queue.release(job)
    assert (queue._held, queue._running) == (0, 0)
    queue.close()
