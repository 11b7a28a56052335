"""The threads of this process that fetch: few, shared, and of no consequence when the process ends."""

from __future__ import annotations

import os
from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread

MAX_THREADS = 64
IDLE_SECONDS = 5.0


class FetchThreads:
    """Runs work in at most ``most`` daemon threads, which end when there has been nothing to do for a while.

    Not concurrent.futures: its threads are waited for when the process ends, and a read that hangs would hang that.
    """

    def __init__(self, most: int = MAX_THREADS) -> None:
        self._most = most
        self._work: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._lock = Lock()
        self._alive = 0
        self._idle = 0

    def submit(self, work: Callable[[], None]) -> None:
        """Runs ``work``, which raises nothing, as soon as a thread is free."""
        with self._lock:
            self._work.put(work)
            if self._idle >= self._work.qsize() or self._alive >= self._most:
                return
            self._alive += 1
        Thread(target=self._run, name="lakefeed-files", daemon=True).start()

    def add_spare(self) -> None:
        """One of the threads hangs: another may take its place."""
        with self._lock:
            self._most += 1

    def remove_spare(self) -> None:
        """It hangs no more."""
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
    """The threads of this process."""
    return _shared


def _after_fork() -> None:
    """A child has none of its parent's threads."""
    global _shared
    _shared = FetchThreads()


os.register_at_fork(after_in_child=_after_fork)
