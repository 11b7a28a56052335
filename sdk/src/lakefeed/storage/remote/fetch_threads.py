"""A small pool of daemon threads that all fetches of a process share."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread

MAX_THREADS = 64
IDLE_SECONDS = 5.0


class FetchThreads:
    """Runs work in at most ``most`` daemon threads, which end after some idle time.

    Not concurrent.futures: the interpreter waits for its threads at exit, so a read that hangs would block the exit.
    """

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = Lock()
        self._alive = 0
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Runs ``work``, which must not raise, as soon as a thread is free."""
        with self._lock:
            self._work.put(work)
            if self._idle >= self._work.qsize() or self._alive >= self._most:
                return
            self._alive += 1
        Thread(target=self._run, name="lakefeed-files", daemon=True).start()

    def add_spare(self) -> None:
        """Allows one more thread, because one of them hangs."""
        with self._lock:
            self._most += 1

    def remove_spare(self) -> None:
        """Allows one thread fewer, because one that hung has continued."""
        with self._lock:
            self._most -= 1

    def _run(self) -> None:
        while True:
            with self._lock:
                self._idle += 1
            try:
                work = self._work.get(timeout=IDLE_SECONDS)
            except Empty:
                work = None
            with self._lock:
                self._idle -= 1
                if work is None and self._work.empty():
                    self._alive -= 1
                    return
            if work is not None:
                work()
            del work


_shared = FetchThreads()


def shared_threads() -> FetchThreads:
    """Returns the threads of this process."""
    return _shared


def _after_fork() -> None:
    """Gives a child threads of its own."""
    global _shared
    _shared = FetchThreads()


os.register_at_fork(after_in_child=_after_fork)
