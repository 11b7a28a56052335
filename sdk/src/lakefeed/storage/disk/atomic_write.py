"""Files that appear whole or not at all: written aside, then renamed."""

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
    """A new read-only file under ``directory``, open for writing; removed on exit unless it was moved away.

    Only a killed process leaves one behind, never under the name of anything that is read.
    """
    name = uuid.uuid4().hex
    # Spread out: under many fsyncs, one busy directory doubles the time of creating a file in it (measured, ext4).
    path = directory.joinpath(name[0], name)
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with storage_errors(path):
        descriptor = with_directory(path.parent, lambda: os.open(path, how, READ_ONLY))
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
    """A new file at ``path``, open for writing and reading; removed where the block fails, or closing the file."""
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


def write_atomically(target: str, data: bytes | mmap, aside: str, times: tuple[int, int]) -> None:
    """Makes ``target`` a read-only file of ``data`` that was used and modified at ``times`` (ns), over what is there.

    As `aside` and `publish`, in as few calls as that takes: this is done for many small files.
    """
    number = next(_numbers)
    place = f"{aside}/{number % STAGING_FOLDERS:x}"
    temporary = f"{place}/{_process}{number:x}"
    how = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    with storage_errors(target, len(data)):
        descriptor = with_directory(place, lambda: os.open(temporary, how, READ_ONLY))
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
    """Move a file written aside to its name, over what may be there."""
    with storage_errors(target):
        with_directory(target.parent, lambda: temporary.replace(target))


def sync_file(stream: BinaryIO) -> None:
    """Return once the bytes written to ``stream`` survive a power cut."""
    stream.flush()
    with storage_errors(_path_of(stream)):
        os.fsync(stream.fileno())


def sync_directories(directories: Iterable[Path]) -> None:
    """Return once the names in ``directories`` survive a power cut."""
    for directory in directories:
        with storage_errors(directory):
            descriptor = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)


def write_pieces(stream: BinaryIO, pieces: Sequence[bytes]) -> None:
    """Writes the pieces one behind the other to a file, without joining them in memory first."""
    stream.flush()
    descriptor = stream.fileno()
    for start in range(0, len(pieces), MAX_WRITEV_PIECES):
        some = pieces[start : start + MAX_WRITEV_PIECES]
        size = sum(map(len, some))
        with storage_errors(_path_of(stream), size):
            written = os.writev(descriptor, some)
            if written < size:  # it was interrupted, or more than goes at once
                _write_all(descriptor, memoryview(b"".join(some))[written:])


def _path_of(stream: BinaryIO) -> str:
    """The path of an open file."""
    raw = getattr(stream, "raw", stream)
    return str(raw.place if isinstance(raw, DiskFile) else stream.name)


def _write_all(descriptor: int, data: bytes | mmap | memoryview) -> None:
    left = memoryview(data)
    while len(left) and (written := os.write(descriptor, left)) < len(left):  # one write takes 2 GiB at most
        left = left[written:]


def with_directory(directory: str | Path, action: Callable[[], _T]) -> _T:
    """What ``action`` returns; the directory is made only when it turns out to be missing, which is rare."""
    try:
        return action()
    except FileNotFoundError:
        os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        return action()


def _after_fork() -> None:
    """A child writes under names of its own."""
    global _process
    _process = uuid.uuid4().hex


os.register_at_fork(after_in_child=_after_fork)
