"""Read-only files whose time of modification says that nobody has changed them since they were written."""

from __future__ import annotations

import errno
import os
import stat
import time
import unicodedata
from collections.abc import Callable
from pathlib import Path
from typing import Final

SEAL_EPOCH_NS: Final = 978_307_200 * 10**9  # 2001-01-01: not the time of a new file
UNKNOWN_SIZE: Final = -1
READ_ONLY: Final = 0o444
READ_AND_EXECUTE: Final = 0o555
NO_LINKS: Final = frozenset(
    {errno.EMLINK, errno.EXDEV, errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOENT}
)
"""Errors of a hard link after which a copy is made: too many links, another file system, or one without links."""


def mode_of(executable: bool) -> int:
    """Returns the permissions of a sealed file."""
    return READ_AND_EXECUTE if executable else READ_ONLY


def write_sealed(path: str, executable: bool, fill: Callable[[Callable[[bytes], object]], int]) -> None:
    """Creates a sealed file. ``fill`` passes the bytes to the function that it is given, and returns their number.

    Raises:
        FileExistsError: there is something at the path.
        OSError: the file cannot be written. It is removed.
    """
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        with open(descriptor, "wb", closefd=False) as stream:
            size = fill(stream.write)
        os.fchmod(descriptor, mode_of(executable))
        os.utime(descriptor, ns=(time.time_ns(), SEAL_EPOCH_NS + size))
    except BaseException:
        os.unlink(path)  # noqa: PTH108 - creating a Path costs more than the call
        raise
    finally:
        os.close(descriptor)


def is_sealed(status: os.stat_result, size: int, executable: bool) -> bool:
    """Returns whether a file is as it was sealed, with this size, or with any for `UNKNOWN_SIZE`."""
    right = stat.S_ISREG(status.st_mode) and stat.S_IMODE(status.st_mode) == mode_of(executable)
    return right and size in (status.st_size, UNKNOWN_SIZE) and status.st_mtime_ns == SEAL_EPOCH_NS + status.st_size


def link_sealed(source: str, target: str, size: int, executable: bool) -> bool:
    """Makes a sealed file appear at another path too. Returns False if it is not sealed, or cannot be linked."""
    try:
        if not is_sealed(os.lstat(source), size, executable):
            return False
        os.link(source, target, follow_symlinks=False)
    except OSError as error:
        if error.errno in NO_LINKS:
            return False
        raise
    return True


def folds_names(folder: Path) -> bool:
    """Returns whether names that differ in capitals or in the form of accents are one file in a new, empty folder."""
    name = "a\u00e9"
    (folder / name).touch()
    try:
        return (folder / name.upper()).exists() or (folder / unicodedata.normalize("NFD", name)).exists()
    finally:
        (folder / name).unlink()
