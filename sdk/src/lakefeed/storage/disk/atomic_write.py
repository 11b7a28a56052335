"""Files that appear complete or not at all. They are written under a temporary name and then renamed."""

from __future__ import annotations

import io
import os
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import count
from mmap import mmap
from pathlib import Path
from typing import BinaryIO, TypeVar, cast

from lakefeed.storage.disk.disk_errors import DiskFile, close_unflushed, discard, storage_errors

READ_ONLY = 0o444
STAGING_FOLDERS = 16
MAX_WRITEV_PIECES = 1_024  # POSIX promises no more

_T = TypeVar("_T")
_process = uuid.uuid4().hex
_numbers = count()


@contextmanager
def staged_file(directory: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """Yields the path of a new read-only file under ``directory`` and a stream to it.

    Removes the file on exit unless it was moved.

    A killed process leaves the file behind under its temporary name, which nothing reads.
    """
    name = uuid.uuid4().hex
    # Several folders: under many fsyncs, one busy directory doubles the time of creating a file in it (ext4).
    path = directory.joinpath(name[0], name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with storage_errors(path):
        descriptor = with_directory(path.parent, lambda: os.open(path, flags, READ_ONLY))
    stream = cast(BinaryIO, io.BufferedWriter(DiskFile(descriptor, "wb", str(path))))
    try:
        yield path, stream
        stream.close()
    except BaseException:
        close_unflushed(stream)
        discard(path)
        raise
    with storage_errors(path), suppress(FileNotFoundError):
        path.unlink()


@contextmanager
def new_file(path: Path) -> Iterator[BinaryIO]:
    """Yields a stream to a new file at ``path``, open for writing and reading. Removes the file if the block fails."""
    with storage_errors(path):
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)
    stream = cast(BinaryIO, io.BufferedRandom(DiskFile(descriptor, "r+b", str(path))))
    try:
        yield stream
        stream.close()
    except BaseException:
        close_unflushed(stream)
        discard(path)
        raise


def write_atomically(target: str, data: bytes | mmap, staging: str, times: tuple[int, int]) -> None:
    """Creates or replaces ``target`` with a read-only file of ``data``.

    ``times`` are those of access and change (ns).

    Does the same as `staged_file` and `publish` with fewer system calls, for many small files.
    """
    number = next(_numbers)
    folder = f"{staging}/{number % STAGING_FOLDERS:x}"
    temporary = f"{folder}/{_process}{number:x}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with storage_errors(target, len(data)):
        descriptor = with_directory(folder, lambda: os.open(temporary, flags, READ_ONLY))
        try:
            try:
                _write_all(descriptor, data)
                os.utime(descriptor, ns=times)
            finally:
                os.close(descriptor)
            with_directory(target.rpartition("/")[0], lambda: os.rename(temporary, target))  # noqa: PTH104
        except BaseException:
            discard(temporary)
            raise


def publish(temporary: Path, target: Path) -> None:
    """Moves a staged file to ``target`` and replaces a file that is there."""
    with storage_errors(target):
        with_directory(target.parent, lambda: temporary.replace(target))


def sync_file(stream: BinaryIO) -> None:
    """Flushes ``stream`` to the disk, so that its bytes survive a power cut."""
    stream.flush()
    with storage_errors(_path_of(stream)):
        os.fsync(stream.fileno())


def sync_directories(directories: Iterable[Path]) -> None:
    """Flushes ``directories`` to the disk, so that the names in them survive a power cut."""
    for directory in directories:
        with storage_errors(directory):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def write_pieces(stream: BinaryIO, pieces: Sequence[bytes | memoryview]) -> None:
    """Writes byte strings one after the other to a file without joining them in memory."""
    stream.flush()
    descriptor = stream.fileno()
    for start in range(0, len(pieces), MAX_WRITEV_PIECES):
        chunk = pieces[start : start + MAX_WRITEV_PIECES]
        size = sum(map(len, chunk))
        with storage_errors(_path_of(stream), size):
            written = os.writev(descriptor, chunk)
            if written < size:  # interrupted, or more than one call takes
                _write_all(descriptor, memoryview(b"".join(chunk))[written:])


def _path_of(stream: BinaryIO) -> str:
    raw = getattr(stream, "raw", stream)
    return str(raw.path if isinstance(raw, DiskFile) else stream.name)


def _write_all(descriptor: int, data: bytes | mmap | memoryview) -> None:
    left = memoryview(data)
    while len(left) and (written := os.write(descriptor, left)) < len(left):  # one call takes at most 2 GiB
        left = left[written:]


def with_directory(directory: str | Path, action: Callable[[], _T]) -> _T:
    """Returns the result of ``action``. If ``directory`` is missing, creates it and repeats the action."""
    try:
        return action()
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        return action()


def _after_fork() -> None:
    """Gives a child names of its own."""
    global _process
    _process = uuid.uuid4().hex


os.register_at_fork(after_in_child=_after_fork)
