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
    lane = FetchQueue(gate, workers=3, budget=1_000, timeout=5.0)
    jobs = [lane.add([n], [1]) for n in range(10)]
    soon(lambda: len(gate.begun) == 3)
    gate.go.set()
    assert [lane.outcomes(job) for job in jobs] == [[n * 10] for n in range(10)]
    assert gate.most <= 3
    assert sorted(gate.begun[:3]) == [0, 1, 2]


def test_what_is_finished_counts_until_it_is_released(gate: Gate) -> None:
    gate.go.set()
    lane = FetchQueue(gate, workers=8, budget=30, timeout=5.0)
    jobs = [lane.add([n], [10]) for n in range(6)]
    assert lane.outcomes(jobs[0]) == [0]
    assert lane.outcomes(jobs[2]) == [20]
    time.sleep(0.05)
    assert sorted(gate.begun) == [0, 1, 2]
    lane.release(jobs[0])
    soon(lambda: sorted(gate.begun) == [0, 1, 2, 3])
    assert lane.outcomes(jobs[4]) == [40], "what is waited for is begun in any case"
    lane.close()


def test_one_that_is_larger_than_the_budget_passes_alone(gate: Gate) -> None:
    gate.go.set()
    lane = FetchQueue(gate, workers=8, budget=5, timeout=5.0)
    jobs = [lane.add([n], [10]) for n in range(4)]
    for n, job in enumerate(jobs):
        assert lane.outcomes(job) == [n * 10]
        assert sorted(gate.begun) == list(range(n + 1))
        lane.release(job)


def test_sizes_that_become_known_wait_for_room() -> None:
    claimed: list[int] = []

    def work(item: int, progress: Progress) -> int:
        progress.claim(50)
        claimed.append(item)
        return item

    lane = FetchQueue(work, workers=8, budget=110, timeout=0.2)
    jobs = [lane.add([n], [1]) for n in range(6)]
    soon(lambda: len(claimed) == 2)
    time.sleep(1.6)  # who waits for room is not late
    assert len(claimed) == 2
    for n, job in enumerate(jobs):
        assert lane.outcomes(job) == [n]
        lane.release(job)
    assert lane._held == 0


def test_what_hangs_is_given_up_and_the_rest_goes_on() -> None:
    go = threading.Event()

    def work(item: int, progress: Progress) -> int:
        if item == 1:
            go.wait(20)
        if item == 2:
            raise FileError("broken")
        return item

    lane = FetchQueue(work, workers=1, budget=100, timeout=0.1)
    together, alone = lane.add([0, 1, 2, 3], [1] * 4), lane.add([4], [1])
    first, hung, broken, last = lane.outcomes(together)
    assert (first, last, lane.outcomes(alone)) == (0, 3, [4])
    assert isinstance(hung, FetchFailure)
    assert isinstance(broken, FetchFailure)
    assert str(hung.error) == "a file was not fetched within 0.1 seconds"
    lane.release(together)
    lane.release(alone)
    assert lane._held == 0
    go.set()


def test_a_closed_lane_begins_nothing_more(gate: Gate) -> None:
    lane = FetchQueue(gate, workers=2, budget=100, timeout=5.0)
    for n in range(10):
        lane.add([n], [1])
    soon(lambda: len(gate.begun) == 2)
    lane.close()
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

    lane = FetchQueue(work, workers=1, budget=1_000, timeout=5.0)
    first, *others = [lane.add([n, n + 10], [1, 1]) for n in range(3)]
    for _ in range(3):
        assert fetched.acquire(timeout=5)
    assert begun == [0, 1, 2]
    go.set()
    assert [lane.outcomes(job) for job in (first, *others)] == [[n, n + 10] for n in range(3)]
    assert lane._running == 0
    lane.close()


def test_a_job_that_is_waited_for_goes_on_while_others_wait_for_room() -> None:
    def work(item: int, progress: Progress) -> int:
        progress.claim(60)
        progress.finish_requests()
        return item

    lane = FetchQueue(work, workers=2, budget=100, timeout=5.0)
    jobs = [lane.add([n, n + 10, n + 20], [1, 1, 1]) for n in range(6)]
    for n, job in enumerate(jobs):
        assert lane.outcomes(job) == [n, n + 10, n + 20]
        lane.release(job)
    assert (lane._held, lane._running) == (0, 0)
    lane.close()
