"""One at a time, between the threads of all processes that share a folder: as many locks as there are names."""

from __future__ import annotations

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Condition, Lock
from time import monotonic, sleep

from lakefeed.storage.disk.atomic_write import with_directory

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
"""Whoever holds a name for so long is taken for stuck."""
LONGEST_NAP_SECONDS = 0.1
SPAN = 1 << 62


class _Turns:
    """The names of one folder that this process holds, each a byte of one file that is locked.

    Such locks are of the process, and go when it closes the file anywhere: it stays open, and between its threads
    ``held`` decides.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = Condition()
        self._held: set[int] = set()
        self._descriptor: int | None = None
        self._opening = Lock()

    def take(self, place: int) -> None:
        ends = monotonic() + PATIENCE_SECONDS
        with self._changed:
            while place in self._held and self._changed.wait(ends - monotonic()):
                pass
            self._held.add(place)

    def give(self, place: int) -> None:
        with self._changed:
            self._held.discard(place)
            self._changed.notify_all()

    def lock(self, place: int) -> int | None:
        """The descriptor of the file in which the byte is now locked; None where there can be no locks."""
        ends, nap = monotonic() + PATIENCE_SECONDS, 0.001
        try:
            descriptor = self._opened()
            while monotonic() < ends:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, place)
                except (BlockingIOError, PermissionError):
                    # By asking: a thread that blocks for ever could not be told from one whose server hangs.
                    sleep(nap)
                    nap = min(nap * 2, LONGEST_NAP_SECONDS)
                else:
                    return descriptor
        except OSError as error:  # a disk that is full or read-only: several may do the same
            logger.debug("no locks in %s: %s", self._path, error)
        return None

    def _opened(self) -> int:
        with self._opening:
            # Removed by somebody: another is made, and the old one left open, for it may still be in use.
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                how = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = with_directory(self._path.parent, lambda: os.open(self._path, how, 0o666))
            return self._descriptor


_turns: dict[Path, _Turns] = {}


@contextmanager
def named_lock(folder: Path, name: bytes) -> Iterator[None]:
    """A context in which nobody else holds ``name`` (eight bytes or more, of a hash); waits for them, ten minutes.

    Example:
        >>> with named_lock(Path("cache"), b"12345678"):
        ...     pass
    """
    turns = _turns.get(folder) or _turns.setdefault(folder, _Turns(folder / "turns"))
    place = int.from_bytes(name[:8], "big") % SPAN
    turns.take(place)
    try:
        descriptor = turns.lock(place)
        try:
            yield
        finally:
            if descriptor is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, place)
    finally:
        turns.give(place)


def _after_fork() -> None:
    """A child holds none of its parent's locks."""
    _turns.clear()


os.register_at_fork(after_in_child=_after_fork)
