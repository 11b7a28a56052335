"""Errors of damaged tables, whose metadata is lost or unreadable, as opposed to missing tables and stores."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, ValidationError

from lakefeed.errors import DamagedDatasetError, FileError, LakefeedError

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier

MISSING_TABLE_ERRORS: Final = (NoSuchTableError, NoSuchNamespaceError)
"""Errors of a catalog for a table that does not exist."""

UNREADABLE_ERRORS: Final = (
    FileNotFoundError,
    NotADirectoryError,
    IsADirectoryError,
    ValueError,  # invalid JSON, Avro or Parquet
    ValidationError,  # invalid metadata
    LookupError,
    ArithmeticError,
    EOFError,
    zlib.error,
    gzip.BadGzipFile,
)
"""Errors of reading a metadata file that is missing or invalid."""


class TableLoader(Protocol):
    """Loads tables. Catalogs have this method."""

    def load_table(self, identifier: Identifier) -> Table:
        """Returns the table with its newest metadata. Raises NoSuchTableError if there is none."""


def load_table(tables: TableLoader, identifier: Identifier) -> Table:
    """Returns the table with its newest metadata.

    Raises:
        NoSuchTableError: the catalog has no table of that name.
        DamagedDatasetError: its metadata file is missing or invalid.
        FileError: permission to read its metadata file is denied.
    """
    for last in (False, True):
        with damage_errors(".".join(identifier)):
            try:
                return tables.load_table(identifier)
            except FileNotFoundError:
                if last:
                    raise  # the first time, the table may have been written or deleted since the catalog was read
    raise AssertionError("the second time returns or raises")


@contextmanager
def damage_errors(name: str, file: str = "metadata") -> Iterator[None]:
    """Raises DamagedDatasetError or FileError if the block cannot read ``file`` of the table ``name``."""
    try:
        yield
    except LakefeedError:
        raise
    except UNREADABLE_ERRORS as error:
        raise DamagedDatasetError(
            f"{name!r} is damaged: {file} is missing or invalid: {_reason(error)}. Restore the file from a backup, or "
            f"remove the dataset with Dataset({name!r}).delete(force=True)"
        ) from error
    except PermissionError as error:
        raise FileError(f"cannot read the metadata of {name!r}: {error}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
