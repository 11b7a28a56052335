"""Work done ahead in threads: results in order, bounded in what is held, nothing left behind."""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, TypeVar

from lakefeed.config import ReadSettings
from lakefeed.formats.open_files import keep_files_open

Task = TypeVar("Task")
Result = TypeVar("Result")

GRACE_SECONDS = 2.0


def read_ahead(
    tasks: Iterable[Task],
    work: Callable[[Task], Result],
    settings: ReadSettings,
    size: Callable[[Task], int],
    *,
    eager: bool = False,
) -> Generator[Result]:
    """``work(task)`` for each task, in order, done ahead in threads within the settings' bounds on threads and bytes.

    ``size``: bytes that a task's result will take. One task larger than the budget passes alone. It begins gently, one
    task at first and twice as many after each result, so that a caller who wants little causes little work; ``eager``:
    with one for each thread beside it, where the first results may be empty. The caller does the first one, so that
    little work waits for no thread. Closing the iterator (or an error in ``work``) cancels what has not begun and waits
    for what has.
    """
    upcoming = iter(tasks)
    threads, budget = settings.threads, settings.prefetch_bytes
    first = next(upcoming, None)
    if first is None:
        return
    following: Task | None = next(upcoming, None)
    if following is None:
        yield work(first)
        return
    waiting: deque[tuple[Future[Result], int]] = deque()
    allowed, held = (threads if eager else 1), size(first)
    pool = ThreadPoolExecutor(threads, thread_name_prefix="lakefeed-ahead", initializer=keep_files_open)

    def fill(ahead: int) -> None:
        nonlocal following, held
        while following is not None and len(waiting) < ahead:
            cost = size(following)
            if held and held + cost > budget:
                return
            waiting.append((pool.submit(work, following), cost))
            held += cost
            following = next(upcoming, None)

    try:
        fill(threads if eager else 0)
        result, cost = work(first), size(first)
        while True:
            allowed = min(allowed * 2, 2 * threads + 1)
            yield result
            held -= cost
            del result
            fill(allowed)
            if not waiting:
                return
            future, cost = waiting.popleft()
            result = future.result()
    finally:
        end(pool)


def background(items: Iterator[Result], depth: int) -> Generator[Result]:
    """The items, made up to ``depth`` ahead in one thread; closing the iterator ends the thread. ``depth`` 0: as is."""
    if depth <= 0:
        yield from items
        return
    ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()
    room = Semaphore(depth)
    unwanted = Event()

    def make() -> None:
        try:
            while room.acquire() and not unwanted.is_set():
                ready.put((True, next(items)))
        except StopIteration:
            ready.put((False, None))
        except BaseException as error:  # noqa: BLE001  # raised again where the items are consumed
            ready.put((False, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = Thread(target=make, name="lakefeed-background", daemon=True)
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if not more:
                break
            room.release()
            yield value
            del value
        if value is not None:
            try:
                raise value
            finally:
                del value  # it holds this frame: without the cycle both go at once
    finally:
        unwanted.set()
        room.release()
        _await([thread])


def end(pool: ThreadPoolExecutor) -> None:
    """Cancels what a pool has not begun, and waits for what it has."""
    if sys.is_finalizing():
        return  # the interpreter has waited for the threads and taken the modules apart
    pool.shutdown(wait=False, cancel_futures=True)
    _await(list(pool._threads))


def _await(threads: Iterable[Thread]) -> None:
    """Waits for threads that are about to end; for a bounded time, since who waits may be what they wait for.

    An iterator that nobody closed is closed by the garbage collector: perhaps in one of its own threads, perhaps in
    the middle of `threading`, whose lock an ending thread needs.
    """
    for thread in threads:
        if thread is not current_thread():
            thread.join(GRACE_SECONDS)
