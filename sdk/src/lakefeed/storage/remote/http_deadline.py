"""Deadlines of requests, which also end those whose server sends a byte now and then for ever."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from math import inf
from threading import Event, Lock, RLock, Thread, get_ident
from time import monotonic, sleep
from typing import Any

from lakefeed.errors import RefusedTargetError

TICK_SECONDS = 0.1


class RequestDeadline:
    """Ends a request whose server does not continue within ``seconds``, and keeps the denied hosts of the request."""

    def __init__(self, seconds: float, denied: Sequence[str]) -> None:
        self.seconds = seconds
        self.denied = tuple(denied)
        self.expired = False
        self.refusal: RefusedTargetError | None = None
        self.sock: Any = None
        self._due = monotonic() + seconds
        self._lock = RLock()  # the garbage collector may call `stop` inside of `check`

    def restart(self) -> None:
        """Sets the deadline to ``seconds`` from now."""
        self._due = monotonic() + self.seconds

    def pause(self) -> None:
        """Removes the deadline while nothing is expected from the server."""
        self._due = inf

    def check(self, now: float) -> None:
        """Ends the connection if the deadline is over."""
        with suppress(OSError), self._lock:
            sock = self.sock
            if sock is not None and now > self._due:
                self.expired = True
                # Not that of ssl, which forgets the connection while another thread reads from it.
                socket.socket.shutdown(sock, socket.SHUT_RDWR)

    def start(self) -> None:
        """Starts to watch the deadline."""
        _active[id(self)] = self
        if not _needed.is_set():
            _needed.set()
        if _watcher is None:
            _start_watcher()

    def stop(self) -> None:
        """Stops to watch the deadline. The connection may serve other requests from now on."""
        _active.pop(id(self), None)
        with self._lock:
            self.sock = None

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Makes this the deadline of new connections of this thread while the block sends a request."""
        before = deadlines_by_thread.get(get_ident())
        deadlines_by_thread[get_ident()] = self
        try:
            yield
        finally:
            if before is None:
                del deadlines_by_thread[get_ident()]
            else:
                deadlines_by_thread[get_ident()] = before


deadlines_by_thread: dict[int, RequestDeadline] = {}
"""The deadlines of the requests that are being sent, by thread."""
_active: dict[int, RequestDeadline] = {}
"""The deadlines that are watched."""
_needed = Event()


_watcher: Thread | None = None
_starting = Lock()


def _start_watcher() -> None:
    global _watcher
    with _starting:
        if _watcher is None:
            _watcher = Thread(target=_watch, name="lakefeed-web-deadline", daemon=True)
            _watcher.start()


def _watch() -> None:
    while True:
        _needed.wait()
        sleep(TICK_SECONDS)
        now = monotonic()
        for deadline in list(_active.values()):
            deadline.check(now)
        if not _active:
            _needed.clear()
            if _active:
                _needed.set()


def _after_fork() -> None:
    """Gives a child a thread of its own."""
    global _needed, _watcher, _starting
    _needed, _watcher, _starting = Event(), None, Lock()
    deadlines_by_thread.clear()
    _active.clear()


os.register_at_fork(after_in_child=_after_fork)
