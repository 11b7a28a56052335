"""Locks between threads and processes: of files, and of names in a folder.

A lock ends with the process that holds it, even if that process is killed. A forked child holds no lock of its parent.
"""

from __future__ import annotations

import errno
import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Condition, Lock
from time import monotonic, sleep

from lakefeed.storage.disk.atomic_write import with_directory
from lakefeed.storage.disk.disk_errors import discard, storage_errors

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 600.0
"""The time for which a named lock is waited for. Its holder is assumed to be stuck after that."""
MIN_POLL_SECONDS = 0.001
MAX_POLL_SECONDS = 0.1
MAX_OFFSET = 1 << 62

_held: set[int] = set()
"""The descriptors of the files that `file_lock` holds in this process."""


# ------------------------------------------------------------------------------------------------- files


@contextmanager
def file_lock(
    path: Path, *, shared: bool = False, timeout: float | None = None, mode: int = 0o666, temporary: bool = False
) -> Iterator[int]:
    """Holds the lock of a file, which is created if it is missing. Also excludes other threads of this process.

    Args:
        path: the file. Its folder is created if it is missing.
        shared: let others hold shared locks at the same time.
        timeout: the seconds to wait for other holders; None waits without limit.
        mode: the permissions of a new file.
        temporary: remove the file when the lock ends. A process that waits for it creates another one.

    Yields:
        The descriptor of the file, open for reading and writing.

    Raises:
        BlockingIOError: others held the lock for ``timeout`` seconds.
        StorageError: the file cannot be created.
    """
    descriptor = _open_locked(path, shared, timeout, mode)
    owner = os.getpid()
    _held.add(descriptor)
    try:
        yield descriptor
    finally:
        if os.getpid() == owner:
            _held.discard(descriptor)
            if temporary:
                discard(path)
            unlock_and_close(descriptor)


def lock_descriptor(descriptor: int, *, shared: bool = False, timeout: float | None = None) -> bool:
    """Locks an open file, or changes its lock to a shared or exclusive one.

    A duplicate of the descriptor, also that of a forked child, has the same lock.

    Args:
        descriptor: the open file.
        shared: let others hold shared locks at the same time.
        timeout: the seconds to wait for other holders; 0 tries once, None waits without limit.

    Returns:
        Whether the file is locked.
    """
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    if timeout is None:
        fcntl.flock(descriptor, operation)
        return True
    end, pause = monotonic() + timeout, MIN_POLL_SECONDS
    while True:
        try:
            fcntl.flock(descriptor, operation | fcntl.LOCK_NB)
        except BlockingIOError:
            left = end - monotonic()
            if left <= 0:
                return False
            sleep(min(pause, left))
            pause = min(pause * 2, MAX_POLL_SECONDS)
        else:
            return True


def unlock(descriptor: int) -> None:
    """Ends the lock of an open file, also for duplicates of the descriptor in forked processes."""
    fcntl.flock(descriptor, fcntl.LOCK_UN)


def unlock_and_close(descriptor: int) -> None:
    """Ends the lock of an open file and closes the file. Raises nothing."""
    with suppress(OSError):
        try:
            unlock(descriptor)
        finally:
            os.close(descriptor)


def _open(path: Path, mode: int) -> int:
    flags = os.O_RDWR | os.O_CREAT
    try:
        return os.open(path, flags, mode)  # most often without the cost of the context below
    except OSError:
        with storage_errors(path):
            return with_directory(path.parent, lambda: os.open(path, flags, mode))


def _open_locked(path: Path, shared: bool, timeout: float | None, mode: int) -> int:
    end = None if timeout is None else monotonic() + timeout
    while True:
        descriptor = _open(path, mode)
        try:
            left = None if end is None else max(end - monotonic(), 0.0)
            if not lock_descriptor(descriptor, shared=shared, timeout=left):
                raise BlockingIOError(errno.EAGAIN, "another thread or process holds the lock", str(path))
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # the file was removed meanwhile: others lock a new one


# ------------------------------------------------------------------------------------------------- names


class _NamedLocks:
    """The locks of one folder that this process holds. Each is a byte of one file, which is locked.

    The system ends such locks when the process closes the file anywhere. So the file stays open, and ``_offsets``
    excludes the threads of the process.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._changed = Condition()
        self._offsets: set[int] = set()
        self._descriptor: int | None = None
        self._opening = Lock()

    def acquire_in_process(self, offset: int) -> None:
        end = monotonic() + PATIENCE_SECONDS
        with self._changed:
            while offset in self._offsets and self._changed.wait(end - monotonic()):
                pass
            self._offsets.add(offset)

    def release_in_process(self, offset: int) -> None:
        with self._changed:
            self._offsets.discard(offset)
            self._changed.notify_all()

    def lock_byte(self, offset: int) -> int | None:
        """Returns the descriptor of the file in which the byte is locked; None where the file cannot be locked."""
        end, pause = monotonic() + PATIENCE_SECONDS, MIN_POLL_SECONDS
        try:
            descriptor = self._open()
            while monotonic() < end:
                try:
                    fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, offset)
                except (BlockingIOError, PermissionError):
                    # Polled: a thread that blocks in the system cannot be told from one whose server hangs.
                    sleep(pause)
                    pause = min(pause * 2, MAX_POLL_SECONDS)
                else:
                    return descriptor
        except OSError as error:  # on a full or read-only disk, several processes may do the same work
            logger.debug("no locks in %s: %s", self._path, error)
        return None

    def _open(self) -> int:
        with self._opening:
            # A removed file is replaced. Its descriptor stays open, because locks in it may be held.
            if self._descriptor is None or not os.fstat(self._descriptor).st_nlink:
                flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
                self._descriptor = with_directory(self._path.parent, lambda: os.open(self._path, flags, 0o666))
            return self._descriptor


_named_locks: dict[Path, _NamedLocks] = {}


@contextmanager
def named_lock(folder: Path, name: bytes) -> Iterator[None]:
    """Holds the lock ``name`` of a folder. Waits at most ``PATIENCE_SECONDS`` for the thread or process that holds it.

    Where the folder cannot be written to, only threads of this process exclude one another.

    Args:
        folder: the folder that processes share.
        name: eight bytes or more of a hash.

    Example:
        >>> with named_lock(Path("cache"), b"12345678"):
        ...     pass
    """
    locks = _named_locks.get(folder) or _named_locks.setdefault(folder, _NamedLocks(folder / "turns"))
    offset = int.from_bytes(name[:8], "big") % MAX_OFFSET
    locks.acquire_in_process(offset)
    try:
        descriptor = locks.lock_byte(offset)
        try:
            yield
        finally:
            if descriptor is not None:
                fcntl.lockf(descriptor, fcntl.LOCK_UN, 1, offset)
    finally:
        locks.release_in_process(offset)


def _after_fork() -> None:
    _named_locks.clear()
    for descriptor in _held:
        with suppress(OSError):
            os.close(descriptor)
    _held.clear()


os.register_at_fork(after_in_child=_after_fork)
