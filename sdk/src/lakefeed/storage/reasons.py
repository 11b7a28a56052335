"""Errors of the system as ours, with what was being done."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from lakefeed.errors import FileError


@contextmanager
def reasons(what: str) -> Iterator[None]:
    """Raises FileError with ``what`` for any OSError that is not one of ours already.

    Example:
        >>> with reasons("cannot write"):
        ...     open("no/such/folder", "w")
        Traceback (most recent call last):
        lakefeed.errors.FileError: cannot write: No such file or directory
    """
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"{what}: {error.strerror or error}") from error
