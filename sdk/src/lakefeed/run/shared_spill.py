"""Rows on local disk that the ranks of one machine share: put there by one of them, gone with the last that uses them.

``<key>.arrow`` appears by a rename, so it is whole or not there. Whoever uses it holds a shared lock on it, and removes
it when done with it if nobody else does. For a process that was killed the system gives up the lock, and whoever spills
next removes what nobody uses. ``<key>.lock`` is there while somebody writes, opens or removes the rows.
"""

from __future__ import annotations

import mmap
import os
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import pyarrow as pa

from lakefeed.run.spill import SpilledRows, write_rows
from lakefeed.storage.disk.atomic_write import new_file
from lakefeed.storage.disk.disk_errors import discard, storage_errors
from lakefeed.storage.disk.locks import file_lock, lock_descriptor, unlock, unlock_and_close

ROWS, NEW, LOCK = ".arrow", ".new", ".lock"
PATIENCE_SECONDS = 1.0


def job() -> str:
    """Returns the identity that the ranks of a job on this machine share: their parent and their rendezvous."""
    meeting = f"{os.environ.get('MASTER_ADDR', '')}:{os.environ.get('MASTER_PORT', '')}"
    return f"{os.getppid()} {meeting}"


def shared_spill(
    make: Callable[[], Iterable[pa.RecordBatch]], schema: pa.Schema, directory: Path, key: str
) -> SpilledRows:
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
    path = directory / f"{key}{ROWS}"
    with _locked(path):
        descriptor = _in_use(path)
        if descriptor is None:
            descriptor = _made(make(), schema, path)
        rows = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    weakref.finalize(rows, _let_go, path, descriptor, os.getpid())
    return SpilledRows.of(rows)


def _made(batches: Iterable[pa.RecordBatch], schema: pa.Schema, path: Path) -> int:
    temporary = path.with_suffix(NEW)
    with new_file(temporary) as file:
        write_rows(file, batches, schema)
        descriptor = os.dup(file.fileno())
    try:
        with storage_errors(path):
            lock_descriptor(descriptor, shared=True)
            temporary.replace(path)
    except BaseException:
        os.close(descriptor)
        discard(temporary)
        raise
    return descriptor


def _in_use(path: Path) -> int | None:
    """The rows that others use, used by us too from now on; None if nobody does: what was left is removed."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
    except FileNotFoundError:
        return None
    if lock_descriptor(descriptor, timeout=0):
        path.unlink()
        os.close(descriptor)
        return None
    lock_descriptor(descriptor, shared=True)
    return descriptor


def _let_go(path: Path, descriptor: int, owner: int) -> None:
    """Done with the rows; a forked process, which has them from its parent, leaves them alone."""
    if os.getpid() != owner:
        return
    try:
        if not path.exists():
            return  # somebody has removed the folder, and no exception of a finalizer reaches anybody
        # Not without end: the collector of garbage may call this inside of what holds the lock.
        with suppress(BlockingIOError), _locked(path, PATIENCE_SECONDS):
            # Of forked processes too, which have the same lock.
            unlock(descriptor)
            if lock_descriptor(descriptor, timeout=0):
                discard(path)
    finally:
        unlock_and_close(descriptor)


def _sweep(directory: Path) -> None:
    """Removes what processes have left that were killed."""
    for key in {path.stem for path in directory.iterdir() if path.suffix in (ROWS, NEW, LOCK)}:
        path = directory / f"{key}{ROWS}"
        with suppress(BlockingIOError), _locked(path, 0):  # somebody is at it
            path.with_suffix(NEW).unlink(missing_ok=True)
            descriptor = _in_use(path)
            if descriptor is not None:
                os.close(descriptor)


def _locked(path: Path, timeout: float | None = None) -> AbstractContextManager[int]:
    """This process alone writes, opens or removes these rows. Raises: as `file_lock`."""
    return file_lock(path.with_suffix(LOCK), timeout=timeout, mode=0o600, temporary=True)
