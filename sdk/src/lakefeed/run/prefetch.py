"""Work done ahead in threads: results in order, bounded in what is held, nothing left behind.

They are daemon threads, so that the interpreter does not wait at its end for one that waits for a server. When the
interpreter ends, they stop after the work that they have begun, and consumers do the rest themselves: iterators also
work in ``atexit`` handlers and in threads that outlive the main one.
"""

from __future__ import annotations

import atexit
import os
import sys
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import suppress
from enum import Enum, auto
from functools import partial
from queue import Empty, SimpleQueue
from threading import Event, Lock, Semaphore, Thread, current_thread
from time import monotonic
from typing import Any, Generic, TypeVar
from weakref import WeakSet

from lakefeed.config import ReadSettings
from lakefeed.formats.open_files import keep_files_open

Task = TypeVar("Task")
Result = TypeVar("Result")
Iteration = TypeVar("Iteration", bound=Generator[Any])

GRACE_SECONDS = 0.5
"""The time in which threads that are no longer wanted may end. Ctrl-C waits no longer."""
SHORT_GRACE_SECONDS = 0.05
"""The time for the next threads, which probably wait for the same server or disk."""
SAME_REASON_SECONDS = 5.0
EXIT_SECONDS = 0.2
"""The time in which threads may end when the interpreter ends."""


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
    waiting: deque[tuple[Work[Result], int]] = deque()
    allowed, held = (threads if eager else 1), size(first)
    pool = WorkerThreads(threads, "lakefeed-ahead", keep_files_open)

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
            ahead, cost = waiting.popleft()
            result = ahead.result()
    finally:
        pool.end()


def background(items: Iterator[Result], depth: int) -> Generator[Result]:
    """The items, made up to ``depth`` ahead in one thread; closing the iterator ends the thread. ``depth`` 0: as is."""
    if depth <= 0:
        yield from items
        return
    ready: SimpleQueue[tuple[_State, Any]] = SimpleQueue()
    room: SimpleQueue[None] = SimpleQueue()  # not a Semaphore: its lock may be held where the collector closes this
    for _ in range(depth):
        room.put(None)
    unwanted = Event()

    def make() -> None:
        handed_over = False
        try:
            while True:
                room.get()
                if unwanted.is_set():
                    return
                if is_exiting():
                    handed_over = True
                    ready.put((_State.HANDED_OVER, None))
                    return
                ready.put((_State.ITEM, next(items)))
        except StopIteration:
            ready.put((_State.END, None))
        except BaseException as error:  # noqa: BLE001  # raised again where the items are consumed
            ready.put((_State.END, error))
        finally:
            if not handed_over and isinstance(items, Generator):
                items.close()

    thread = Thread(target=make, name="lakefeed-background", daemon=True)
    if not start(thread):
        yield from items
        return
    interrupt = Interrupt(partial(room.put, None))
    try:
        while True:
            state, value = ready.get()
            if state is not _State.ITEM:
                break
            room.put(None)
            yield value
            del value
        if state is _State.HANDED_OVER:
            yield from items
        elif value is not None:
            try:
                raise value
            finally:
                del value  # it holds this frame: without the cycle both go at once
    finally:
        del interrupt
        unwanted.set()
        room.put(None)
        wait_for([thread])


class _State(Enum):
    """The item that a thread hands over: an item, the end (perhaps with an error), or the rest of the iterator."""

    ITEM = auto()
    END = auto()
    HANDED_OVER = auto()


class Work(Generic[Result]):
    """Work for a thread. If no thread has begun it when the pool ends, whoever asks for the result does it."""

    def __init__(self, function: Callable[[], Result], is_ended: Callable[[], bool]) -> None:
        self._function: Callable[[], Result] | None = function
        self._is_ended = is_ended
        self._claimed = Lock()
        self._done = Event()
        self._value: Any = None
        self._error: BaseException | None = None

    def run(self) -> None:
        """Does the work, unless somebody else has begun it."""
        if not self._claimed.acquire(blocking=False):
            return
        function, self._function = self._function, None
        try:
            assert function is not None, "it is done once"
            self._value = function()
        except BaseException as error:  # noqa: BLE001  # raised again where the result is taken
            self._error = error
        finally:
            self._done.set()

    def result(self) -> Result:
        """Returns the result, once. Raises the error of the function."""
        if self._is_ended():
            self.run()
        while not self._done.wait(EXIT_SECONDS):
            if self._is_ended():
                self.run()
        error, value = self._error, self._value
        self._error = self._value = None
        if error is None:
            result: Result = value
            return result
        try:
            raise error
        finally:
            del error  # it holds this frame: without the cycle both go at once


class WorkerThreads:
    """At most ``most`` threads, which are started as they are needed.

    Args:
        most: the number of threads.
        name: of the threads.
        initialize: called first in each thread.
    """

    def __init__(self, most: int, name: str, initialize: Callable[[], None]) -> None:
        self._most = most
        self._name = name
        self._initialize = initialize
        self._queue: SimpleQueue[Work[Any] | None] = SimpleQueue()
        self._idle = Semaphore(0)
        self._ended = False
        self.threads: list[Thread] = []
        _pools.add(self)

    def submit(self, function: Callable[..., Result], *arguments: Any) -> Work[Result]:
        """Returns ``function(*arguments)`` as work that begins once a thread is idle."""
        work = Work(partial(function, *arguments), self._is_ended)
        if self._is_ended():
            return work
        self._queue.put(work)
        if not self._idle.acquire(blocking=False) and len(self.threads) < self._most:
            thread = Thread(target=self._run, name=f"{self._name}_{len(self.threads)}", daemon=True)
            if start(thread):
                self.threads.append(thread)
            elif not self.threads:
                self._ended = True
        return work

    def stop(self) -> None:
        """Lets the threads end after the work that they have begun."""
        self._ended = True
        for _ in self.threads:
            self._queue.put(None)

    def end(self) -> None:
        """Drops the work that no thread has begun, and waits for the rest for a bounded time."""
        self._ended = True
        try:
            while True:
                self._queue.get_nowait()
        except Empty:
            self.stop()
        wait_for(self.threads)

    def _is_ended(self) -> bool:
        return self._ended

    def _run(self) -> None:
        self._initialize()
        while True:
            try:
                work = self._queue.get_nowait()
            except Empty:
                self._idle.release()
                work = self._queue.get()
            if work is None or self._ended:
                return
            work.run()
            del work


_pools: WeakSet[WorkerThreads] = WeakSet()
_threads: WeakSet[Thread] = WeakSet()
_interrupts: WeakSet[Interrupt] = WeakSet()
_unfinished: WeakSet[Generator[Any]] = WeakSet()
_exiting = False
_gave_up = -SAME_REASON_SECONDS
"""When threads did not end in time."""


class Interrupt:
    """Calls a function when the interpreter ends, as long as this object is held."""

    def __init__(self, function: Callable[[], None]) -> None:
        self.function = function
        _interrupts.add(self)


def is_exiting() -> bool:
    """Returns whether the interpreter is about to end, so that threads should start nothing more."""
    return _exiting


def start(thread: Thread) -> bool:
    """Starts a daemon thread. Returns False if the interpreter, or the system, starts no more threads."""
    if _exiting:
        return False
    try:
        thread.start()
    except RuntimeError:
        return False
    _threads.add(thread)
    return True


def wait_for(threads: Iterable[Thread]) -> None:
    """Waits for threads that are about to end; for a bounded time, since who waits may be what they wait for.

    An iterator that nobody closed is closed by the garbage collector: perhaps in one of its own threads, perhaps in
    the middle of `threading`, whose lock an ending thread needs.
    """
    global _gave_up
    if sys.is_finalizing():
        return  # daemon threads have stopped for ever
    now = monotonic()
    deadline = now + (SHORT_GRACE_SECONDS if now - _gave_up < SAME_REASON_SECONDS else GRACE_SECONDS)
    for thread in threads:
        if thread is not current_thread():
            thread.join(max(deadline - monotonic(), 0))
            if thread.is_alive():
                _gave_up = monotonic()


def _exit() -> None:
    """Lets the threads end before the interpreter takes itself apart below them."""
    global _exiting
    _exiting = True
    for pool in list(_pools):
        pool.stop()
    for interrupt in list(_interrupts):
        interrupt.function()
    deadline = monotonic() + EXIT_SECONDS
    for thread in list(_threads):
        if thread is not current_thread():
            thread.join(max(deadline - monotonic(), 0))


def close_at_exit(iterator: Iteration) -> Iteration:
    """Returns the generator, which `close_unfinished` closes unless something has closed it before."""
    _unfinished.add(iterator)
    return iterator


def close_unfinished() -> None:
    """Closes the iterators that nobody finished: the last thing that happens before the interpreter takes itself apart.

    Python sets the names of modules to None at its end. A generator that is closed after that, such as one that a
    prompt holds, cannot compare an exception with the classes that its ``except`` clauses name.
    """
    for iterator in list(_unfinished):
        with suppress(ValueError):  # a daemon thread runs it
            iterator.close()


def _after_fork() -> None:
    """A child has none of the threads."""
    _threads.clear()


atexit.register(_exit)
os.register_at_fork(after_in_child=_after_fork)
