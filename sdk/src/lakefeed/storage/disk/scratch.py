"""Folders of one process: gone when it is done with them, or when another process finds that it died."""

from __future__ import annotations

import fcntl
import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from lakefeed.storage.disk.disk_errors import close_lock, discard, storage_errors

LOCK_SUFFIX = ".lock"


@contextmanager
def scratch_folder(place: Path, prefix: str) -> Iterator[Path]:
    """A new, empty folder under ``place`` that nobody else may read; removed on exit, unless it was moved away.

    A process that was killed leaves its folder behind, but no longer holds the lock beside it: the next call with this
    prefix removes it.
    """
    with storage_errors(place):
        place.mkdir(parents=True, exist_ok=True)
        _sweep(place, prefix)
        lock, descriptor = _own_lock(place, prefix)
    folder = lock.with_name(lock.name.removesuffix(LOCK_SUFFIX))
    try:
        with storage_errors(folder):
            folder.mkdir(0o700)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        discard(lock)
        close_lock(descriptor)


def _own_lock(place: Path, prefix: str) -> tuple[Path, int]:
    """A new file that this process holds locked, and its descriptor."""
    while True:
        lock = place / f"{prefix}{uuid.uuid4().hex}{LOCK_SUFFIX}"
        descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.fstat(descriptor).st_nlink:
                return lock, descriptor
        except BlockingIOError:
            pass
        except BaseException:
            discard(lock)
            os.close(descriptor)
            raise
        os.close(descriptor)  # swept away before it was locked


def _sweep(place: Path, prefix: str) -> None:
    """Removes the folders of processes that died."""
    for lock in place.glob(f"{prefix}*{LOCK_SUFFIX}"):
        with suppress(OSError):  # its owner is alive, or just removed it
            descriptor = os.open(lock, os.O_WRONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(lock.with_name(lock.name.removesuffix(LOCK_SUFFIX)), ignore_errors=True)
                lock.unlink(missing_ok=True)
            finally:
                os.close(descriptor)
