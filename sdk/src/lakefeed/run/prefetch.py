"""Work done ahead in threads: results in order, bounded in what is held, nothing left behind."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from threading import Event, Thread
from typing import Any, TypeVar

from lakefeed.config import ReadSettings

Task = TypeVar("Task")
Result = TypeVar("Result")

POLL_SECONDS = 0.1
"""How long a thread with nothing to do waits before it looks whether it is still wanted."""


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
                allowed = min(allowed * 2, threads + 1)
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
    ready: Queue[tuple[bool, Any]] = Queue(maxsize=depth)
    ended = Event()

    def offer(entry: tuple[bool, Any]) -> bool:
        while not ended.is_set():
            try:
                ready.put(entry, timeout=POLL_SECONDS)
                return True
            except Full:
                continue
        return False

    def make() -> None:
        try:
            for item in items:
                if not offer((True, item)):
                    break
            else:
                offer((False, None))
        except BaseException as error:  # noqa: BLE001  # raised again where the items are consumed
            offer((False, error))
        finally:
            if isinstance(items, Generator):
                items.close()

    thread = Thread(target=make, name="lakefeed-background", daemon=True)
    thread.start()
    try:
        while True:
            more, value = ready.get()
            if more:
                yield value
            elif value is None:
                return
            else:
                raise value
    finally:
        ended.set()
        thread.join()
