"""Errors of the operating system as typed errors, and temporary files whose failed writes raise them."""

from __future__ import annotations

import errno
import io
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, cast

from lakefeed.config import Settings
from lakefeed.errors import ConfigError, FileError, StorageError, StorageFullError

if TYPE_CHECKING:
    from typing_extensions import Buffer

logger = logging.getLogger(__name__)

FULL_ERRNO: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
READ_ONLY_ERRNO: Final = frozenset({errno.EACCES, errno.EPERM, errno.EROFS})

SMALL_BYTES: Final = 1 << 16

ADVICE: Final = {
    errno.ENOSPC: "free space there, or choose another folder",
    errno.EDQUOT: "free space there, or have the quota raised",
    errno.EFBIG: "raise the limit on the size of files",
    errno.EACCES: "give this user the right to write there",
    errno.EPERM: "give this user the right to write there",
    errno.EROFS: "mount it for writing, or choose another folder",
}


@contextmanager
def storage_errors(path: str | os.PathLike[str], size: int | None = None) -> Iterator[None]:
    """Raises StorageError for any OSError of the block that is not a FileError already.

    Put only calls that write into the block, because rows from elsewhere may raise an OSError of their own.

    Args:
        path: the path that is written to.
        size: the number of bytes that are written, if it is known.

    Raises:
        StorageError: a write failed. The message names the path, the reason and the free space.

    Example:
        >>> with storage_errors("no/such/folder"):
        ...     open("no/such/folder/file", "w")
        Traceback (most recent call last):
        lakefeed.errors.StorageError: cannot write 'no/such/folder': No such file or directory
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise storage_error(error, path, size) from None


@contextmanager
def wrap_os_errors(action: str) -> Iterator[None]:
    """Raises StorageError, with ``action`` before its message, for any OSError but a FileError of another kind.

    Example:
        >>> with wrap_os_errors("cannot write"):
        ...     open("no/such/folder", "w")
        Traceback (most recent call last):
        lakefeed.errors.StorageError: cannot write: No such file or directory
    """
    try:
        yield
    except StorageError as error:
        raise error.prefixed(action) from None
    except FileError:
        raise
    except OSError as error:
        kind = StorageFullError if error.errno in FULL_ERRNO else StorageError
        raise kind(f"{action}: {error.strerror or error}", error.errno) from error


def storage_error(
    error: OSError, path: str | os.PathLike[str], size: int | None = None, reason: str | None = None
) -> StorageError:
    """Returns the error of a failed write to ``path``.

    Call it before anything is removed, because it reads the free space.
    """
    location = os.fspath(path).removeprefix("file://")
    number = error.errno
    if reason is None:
        reason = os.strerror(number) if number in ADVICE else error.strerror or str(error)
    free, inodes = (None, None) if number is None else _free(location)
    kind = StorageFullError if number in FULL_ERRNO else StorageError
    parts = [f"cannot write {location!r}: {reason}"]
    if free is not None and number in FULL_ERRNO:
        parts.append(f"its file system has {free:,} bytes free{' but no free inode' if free and inodes == 0 else ''}")
        if size is not None:
            parts.append(f"{size:,} bytes were to be written")
    if number in READ_ONLY_ERRNO and _is_in_cache(location):
        parts.append("set $LAKEFEED_CACHE_DIR to a folder that this user can write to")
    elif number in ADVICE:
        parts.append(ADVICE[number])
    return kind("; ".join(parts), number, location, free)


def _is_in_cache(path: str) -> bool:
    try:
        return Path(path).is_relative_to(Settings.load().cache)
    except ConfigError:
        return False


def is_full(path: str | os.PathLike[str]) -> bool:
    """Returns whether the file system of a path has no space for another small file."""
    free, inodes = _free(os.fspath(path))
    return (free is not None and free < SMALL_BYTES) or inodes == 0


def _free(location: str) -> tuple[int | None, int | None]:
    """Returns the free bytes and inodes of the file system of a path, which need not exist."""
    if "://" in location:
        return None, None
    path = Path(location).absolute()
    for folder in (path, *path.parents):
        try:
            status = os.statvfs(folder)
        except OSError:
            continue
        return status.f_bavail * status.f_frsize, status.f_favail if status.f_files else None
    return None, None


class DiskFile(io.FileIO):
    """A local file whose failed writes raise StorageError. ``path`` is its name in the message."""

    def __init__(self, descriptor: int, mode: str, path: str) -> None:
        self.path = path
        super().__init__(descriptor, mode)

    def write(self, data: Buffer) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise storage_error(error, self.path, memoryview(data).nbytes) from None

    def close(self) -> None:
        if self.closed:
            return
        with storage_errors(self.path):
            super().close()


@contextmanager
def scratch_file(directory: str | os.PathLike[str] | None = None) -> Iterator[BinaryIO]:
    """Yields a nameless file in ``directory`` (None: the system's folder for temporary files).

    The file goes on exit.

    Raises:
        StorageError: the file cannot be created or, later, written.
    """
    stream = open_scratch(directory)
    try:
        yield stream
    finally:
        close_unflushed(stream)


def open_scratch(directory: str | os.PathLike[str] | None = None) -> BinaryIO:
    """Returns a file as `scratch_file` does, which the caller closes."""
    with storage_errors(directory if directory is not None else "the folder for temporary files"):
        if directory is not None:
            os.makedirs(directory, exist_ok=True)  # noqa: PTH103
        folder = os.fspath(directory) if directory is not None else tempfile.gettempdir()
        file = tempfile.TemporaryFile(dir=folder, buffering=0, prefix="lakefeed-")  # noqa: SIM115 - closed below
        try:
            descriptor = os.dup(file.fileno())
        finally:
            close_unflushed(cast(BinaryIO, file))  # the file is empty: errors of closing it can be ignored
    return cast(BinaryIO, io.BufferedRandom(DiskFile(descriptor, "r+b", folder)))


def close_unflushed(stream: BinaryIO) -> None:
    """Closes a file without writing its buffer. Raises nothing."""
    with suppress(OSError):
        getattr(stream, "raw", stream).close()


@contextmanager
def cleanup_errors(path: str | os.PathLike[str], level: int = logging.WARNING) -> Iterator[None]:
    """Logs errors of the block, which closes or removes the rest of a failed write, instead of raising them."""
    try:
        yield
    except FileNotFoundError:
        return
    except Exception as error:  # noqa: BLE001 - must not hide the error that ended the write
        logger.log(level, "%s, which nothing refers to, could not be cleaned up: %s", os.fspath(path), error)


def discard(path: str | os.PathLike[str]) -> None:
    """Removes the file of a failed write. Raises nothing."""
    with cleanup_errors(path):
        os.unlink(path)  # noqa: PTH108
