"""Tables whose metadata is lost or cannot be read, told from tables that are gone and from stores that are away."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol

from pyiceberg.exceptions import NoSuchNamespaceError, NoSuchTableError, ValidationError
from pyiceberg.table import Table
from pyiceberg.typedef import Identifier

from lakefeed.errors import DamagedDatasetError, FileError, LakefeedError

MISSING_TABLE_ERRORS: Final = (NoSuchTableError, NoSuchNamespaceError)
"""The errors of a catalog that has no table of that name."""

UNREADABLE_ERRORS: Final = (
    FileNotFoundError,
    NotADirectoryError,
    ValueError,  # what is not JSON, Avro or Parquet
    ValidationError,  # what is not metadata
    LookupError,
    ArithmeticError,
    EOFError,
    zlib.error,
)
"""What a reader of metadata raises where the file is not there, or holds something else."""


class TableLoader(Protocol):
    """A catalog, as far as tables are loaded from it."""

    def load_table(self, identifier: Identifier) -> Table:
        """Returns the table with its newest metadata, or raises NoSuchTableError."""


def load_table(tables: TableLoader, identifier: Identifier) -> Table:
    """The table with its newest metadata.

    Raises:
        NoSuchTableError: the catalog has none of that name.
        DamagedDatasetError: its metadata file is lost or cannot be read.
        FileError: its metadata file may not be read.
    """
    for last in (False, True):
        with damage_errors(".".join(identifier)):
            try:
                return tables.load_table(identifier)
            except FileNotFoundError:
                if last:
                    raise  # and not for the table being deleted, or written to, since the catalog was asked
    raise AssertionError("the second time returns or raises")


@contextmanager
def damage_errors(name: str, file: str = "metadata") -> Iterator[None]:
    """Raises DamagedDatasetError, or FileError, where ``file`` of the table ``name`` cannot be read."""
    try:
        yield
    except LakefeedError:
        raise
    except UNREADABLE_ERRORS as error:
        raise DamagedDatasetError(
            f"{name!r} is damaged, {file} is lost or cannot be read: {_reason(error)}. Restore the file from a backup, "
            f"or remove the dataset: Dataset({name!r}).delete(force=True)"
        ) from error
    except PermissionError as error:
        raise FileError(f"the metadata of {name!r} cannot be read: {error}") from error


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
