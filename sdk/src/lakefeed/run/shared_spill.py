"""Rows on local disk that the ranks of one machine share: put there by one of them, gone with the last that uses them.

``<key>.arrow`` appears by a rename, so it is whole or not there. Whoever uses it holds a shared lock on it, and removes
it when done with it if nobody else does. For a process that was killed the system gives up the lock, and whoever spills
next removes what nobody uses. ``<key>.lock`` is there while somebody writes, opens or removes the rows.
"""

from __future__ import annotations

import fcntl
import mmap
import os
import time
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from lakefeed.run.spill import mapped_rows, write_rows
from lakefeed.storage.disk.atomic_write import new_file
from lakefeed.storage.disk.disk_errors import close_lock, discard, storage_errors

ROWS, NEW, LOCK = ".arrow", ".new", ".lock"
PATIENCE_SECONDS = 1.0
TRY_SECONDS = 0.001


def job() -> str:
    """What the ranks of a job on this machine have in common: who started them, and where they meet."""
    meeting = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    return f"{os.getppid()} {meeting}"


def shared_spill(
    make: Callable[[], Iterable[pa.RecordBatch]], schema: pa.Schema, directory: Path, key: str
) -> pa.Table:
    """As `lakefeed.run.spill.spill`, for all that call it with this ``key`` while one of them uses the rows.

    Args:
        make: gives the rows; called by the first only, while the others wait.
        schema: theirs.
        directory: where the file is.
        key: what the rows are.
    """
    with storage_errors(directory):
        directory.mkdir(parents=True, exist_ok=True)
        _sweep(directory)
    place = directory / f"{key}{ROWS}"
    with _locked(place):
        descriptor = _in_use(place)
        if descriptor is None:
            descriptor = _made(make(), schema, place)
        rows = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    weakref.finalize(rows, _let_go, place, descriptor, os.getpid())
    return mapped_rows(rows)


def _made(batches: Iterable[pa.RecordBatch], schema: pa.Schema, place: Path) -> int:
    temporary = place.with_suffix(NEW)
    with new_file(temporary) as file:
        write_rows(file, batches, schema)
        descriptor = os.dup(file.fileno())
    try:
        with storage_errors(place):
            fcntl.flock(descriptor, fcntl.LOCK_SH)
            temporary.replace(place)
    except BaseException:
        os.close(descriptor)
        discard(temporary)
        raise
    return descriptor


def _in_use(place: Path) -> int | None:
    """The rows that others use, used by us too from now on; None if nobody does: what was left is removed."""
    try:
        descriptor = os.open(place, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if _alone(descriptor):
        place.unlink()
        os.close(descriptor)
        return None
    fcntl.flock(descriptor, fcntl.LOCK_SH)
    return descriptor


def _let_go(place: Path, descriptor: int, owner: int) -> None:
    """Done with the rows; a forked process, which has them from its parent, leaves them alone."""
    if os.getpid() != owner:
        return
    try:
        if not place.exists():
            return  # somebody has removed the folder, and no exception of a finalizer reaches anybody
        # Not without end: the collector of garbage may call this inside of what holds the lock.
        with suppress(BlockingIOError), _locked(place, PATIENCE_SECONDS):
            # Of forked processes too, which have the same lock.
            fcntl.flock(descriptor, fcntl.LOCK_UN)
            if _alone(descriptor):
                discard(place)
    finally:
        close_lock(descriptor)


def _alone(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _sweep(directory: Path) -> None:
    """Removes what processes have left that were killed."""
    for key in {path.stem for path in directory.iterdir() if path.suffix in (ROWS, NEW, LOCK)}:
        place = directory / f"{key}{ROWS}"
        with suppress(BlockingIOError), _locked(place, 0):  # somebody is at it
            place.with_suffix(NEW).unlink(missing_ok=True)
            used = _in_use(place)
            if used is not None:
                os.close(used)


@contextmanager
def _locked(place: Path, patience: float | None = None) -> Iterator[None]:
    """This process alone writes, opens or removes these rows.

    Raises:
        BlockingIOError: another one does, and did not end within ``patience`` seconds (None: it is waited for).
    """
    lock = place.with_suffix(LOCK)
    descriptor = _lock(lock, None if patience is None else time.monotonic() + patience)
    try:
        yield
    finally:
        discard(lock)  # who waits for it notices, and makes another
        close_lock(descriptor)


def _lock(lock: Path, until: float | None) -> int:
    while True:
        with storage_errors(lock):
            descriptor = os.open(lock, os.O_WRONLY | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if until is None else fcntl.LOCK_NB))
            if os.fstat(descriptor).st_nlink:
                return descriptor
        except BlockingIOError:
            if until is None or time.monotonic() >= until:
                os.close(descriptor)
                raise
            time.sleep(TRY_SECONDS)
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
