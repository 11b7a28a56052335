"""Work done ahead in threads: results in order, bounded in what is held, nothing left behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from threading import Event, Semaphore, Thread, current_thread
from typing import Any, TypeVar

from lakefeed.config import ReadSettings

Task = TypeVar("Task")
Result = TypeVar("Result")


def read_ahead(
    tasks: Iterable[Task], work: Callable[[Task], Result], settings: ReadSettings, size: Callable[[Task], int]
) -> Generator[Result]:
    """``work(task)`` for each task, in order, done ahead in threads within the settings' bounds on threads and bytes.

    ``size``: bytes that a task's result will take. One task larger than the budget passes alone. It begins gently, one
    task at first and twice as many after each result, so that a caller who wants little causes little work. Closing
    the iterator (or an error in ``work``) cancels what has not begun and waits for what has.
    """
    waiting: deque[tuple[Future[Result], int]] = deque()
    upcoming = iter(tasks)
    threads, budget = settings.threads, settings.prefetch_bytes
    held, allowed = 0, 1
    following: Task | None = next(upcoming, None)
    with ThreadPoolExecutor(threads, thread_name_prefix="lakefeed-ahead") as pool:
        try:
            while following is not None or waiting:
                while following is not None and len(waiting) < allowed:
                    cost = size(following)
                    if waiting and held + cost > budget:
                        break
                    waiting.append((pool.submit(work, following), cost))
                    held += cost
                    following = next(upcoming, None)
                future, cost = waiting.popleft()
                result = future.result()
                allowed = min(allowed * 2, 2 * threads + 1)
                yield result
                held -= cost
                del result
        finally:
            for future, _ in waiting:
                future.cancel()


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
        if thread is not current_thread():  # a collected iterator may be closed by the very thread that it owns
            thread.join()
