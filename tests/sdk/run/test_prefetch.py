from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from lakefeed.config import ReadSettings
from lakefeed.run.prefetch import background, read_ahead

TWO = ReadSettings(threads=2, prefetch_bytes=100)


def ours() -> list[str]:
    found = [thread.name for thread in threading.enumerate() if thread.name.startswith("lakefeed")]
    # Those of the process stay, once another test has read files.
    return [
        name for name in found if not name.startswith(("lakefeed-arrays", "lakefeed-files", "lakefeed-web-deadline"))
    ]


@pytest.fixture(autouse=True)
def no_thread_stays() -> Iterator[None]:
    yield
    assert ours() == []


def counted(upto: int, made: list[int]) -> Iterator[int]:
    for number in range(upto):
        made.append(number)
        yield number


def settled(made: list[int], count: int) -> bool:
    deadline = time.monotonic() + 10
    while len(made) < count and time.monotonic() < deadline:
        time.sleep(0.001)
    time.sleep(0.02)
    return len(made) == count


def test_results_come_in_the_order_of_the_tasks() -> None:
    def work(task: int) -> int:
        time.sleep(0.001 * (task % 3))
        return task * 2

    assert list(read_ahead(range(20), work, TWO, lambda _: 1)) == [task * 2 for task in range(20)]


def test_a_caller_who_wants_one_result_causes_one_piece_of_work() -> None:
    made: list[int] = []
    results = read_ahead(range(100), lambda task: made.append(task), TWO, lambda _: 1)
    next(results)
    assert made == [0]
    results.close()


def test_the_caller_does_the_first_piece_and_little_work_needs_no_thread() -> None:
    def work(_: int) -> bool:
        return threading.current_thread() is threading.main_thread()

    assert list(read_ahead(range(4), work, TWO, lambda _: 1)) == [True, False, False, False]
    assert list(read_ahead([0], lambda _: len(ours()), TWO, lambda _: 1)) == [0]
    assert list(read_ahead([], work, TWO, lambda _: 1)) == []


def test_eager_begins_with_a_piece_for_each_thread() -> None:
    begun = threading.Barrier(2, timeout=10)
    results = read_ahead(range(2), lambda _: begun.wait() >= 0, TWO, lambda _: 1, eager=True)
    assert list(results) == [True, True], "both were under way at once"


def test_eager_keeps_to_the_budget() -> None:
    made: list[int] = []
    results = read_ahead(range(9), made.append, ReadSettings(threads=8, prefetch_bytes=100), lambda _: 60, eager=True)
    next(results)
    assert made == [0]
    results.close()


def test_bytes_in_flight_are_bounded() -> None:
    flying, most = 0, 0
    lock = threading.Lock()

    def work(_: int) -> None:
        nonlocal flying, most
        with lock:
            flying += 1
            most = max(most, flying)

    for _ in read_ahead(range(50), work, ReadSettings(threads=8, prefetch_bytes=100), lambda _: 40):
        with lock:
            flying -= 1
    assert most <= 2


def test_one_task_beyond_the_budget_passes_alone() -> None:
    assert list(read_ahead(range(3), str, TWO, lambda _: 1000)) == ["0", "1", "2"]


def test_an_error_comes_out_in_its_place_and_ends_the_work() -> None:
    results = read_ahead([1, 0, 2], lambda task: 1 / task, TWO, lambda _: 1)
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_closing_begins_nothing_more() -> None:
    made: list[int] = []
    results = read_ahead(counted(1000, made), lambda task: task, TWO, lambda _: 1)
    assert [next(results), next(results)] == [0, 1]
    results.close()
    assert len(made) < 10


@pytest.mark.parametrize("depth", [0, 1, 3])
def test_background_gives_the_items_in_order(depth: int) -> None:
    assert list(background(iter(range(10)), depth)) == list(range(10))


def test_background_makes_no_more_than_its_depth_ahead() -> None:
    made: list[int] = []
    items = background(counted(100, made), 3)
    assert next(items) == 0
    assert settled(made, 4)
    items.close()


def test_background_raises_what_making_raised_after_what_was_made() -> None:
    def broken() -> Iterator[int]:
        yield 1
        raise KeyError("broken")

    items = background(broken(), 2)
    assert next(items) == 1
    with pytest.raises(KeyError):
        next(items)


def test_closing_is_quick_and_closes_the_items() -> None:
    closed = threading.Event()

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 1
        finally:
            closed.set()

    items = background(endless(), 2)
    next(items)
    begun = time.monotonic()
    items.close()
    assert closed.is_set()
    assert time.monotonic() - begun < 0.05


def test_a_dropped_iterator_ends_its_thread() -> None:
    items = background(iter(range(100)), 2)
    next(items)
    del items
    gc.collect()
    assert ours() == []


def test_an_error_leaves_no_cycle_behind() -> None:
    class Big:
        pass

    made: list[weakref.ref[Big]] = []

    def broken() -> Iterator[Big]:
        big = Big()
        made.append(weakref.ref(big))
        yield big
        raise KeyError("broken")

    gc.collect()
    gc.disable()
    try:
        with pytest.raises(KeyError):
            for _ in background(broken(), 2):
                pass
        del _
        assert made[0]() is None
    finally:
        gc.enable()
