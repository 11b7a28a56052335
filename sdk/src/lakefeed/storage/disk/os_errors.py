"""Errors of the system as ours, with what was being done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lakefeed.errors import FileError, StorageError, StorageFullError
from lakefeed.storage.disk.disk_errors import FULL


@contextmanager
def reasons(what: str) -> Iterator[None]:
    """Raises FileError with ``what`` for any OSError that is not one of ours already; StorageError where space ran out.

    Example:
        >>> with reasons("cannot write"):
        ...     open("no/such/folder", "w")
        Traceback (most recent call last):
        lakefeed.errors.StorageError: cannot write: No such file or directory
    """
    try:
        yield
    except StorageError as error:
        raise error.prefixed(what) from None
    except FileError:
        raise
    except OSError as error:
        kind = StorageFullError if error.errno in FULL else StorageError
        raise kind(f"{what}: {error.strerror or error}", error.errno) from error
