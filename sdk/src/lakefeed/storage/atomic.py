"""Files that appear whole or not at all: written aside, then renamed."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, TypeVar

READ_ONLY = 0o444

_T = TypeVar("_T")


@contextmanager
def aside(directory: Path) -> Iterator[tuple[Path, BinaryIO]]:
    """A new read-only file under ``directory``, open for writing; removed on exit unless it was moved away.

    Only a killed process leaves one behind, never under the name of anything that is read.
    """
    name = uuid.uuid4().hex
    # Spread out: under many fsyncs, one busy directory doubles the time of creating a file in it (measured, ext4).
    path = directory.joinpath(name[0], name)
    descriptor = with_directory(path.parent, lambda: os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, READ_ONLY))
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield path, stream
    finally:
        with suppress(FileNotFoundError):
            path.unlink()


def publish(temporary: Path, target: Path) -> None:
    """Move a file written aside to its name, over what may be there."""
    with_directory(target.parent, lambda: temporary.replace(target))


def sync_file(stream: BinaryIO) -> None:
    """Return once the bytes written to ``stream`` survive a power cut."""
    stream.flush()
    os.fsync(stream.fileno())


def sync_directories(directories: Iterable[Path]) -> None:
    """Return once the names in ``directories`` survive a power cut."""
    for directory in directories:
        descriptor = os.open(directory, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def with_directory(directory: Path, action: Callable[[], _T]) -> _T:
    """What ``action`` returns; the directory is made only when it turns out to be missing, which is rare."""
    try:
        return action()
    except FileNotFoundError:
        directory.mkdir(parents=True, exist_ok=True)
        return action()
