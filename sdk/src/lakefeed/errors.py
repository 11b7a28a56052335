"""Every error lakefeed raises on purpose.

    LakefeedError
    ├── ConfigError                (ValueError)         settings that cannot work
    │   └── SharedWarehouseError                        another catalog owns the warehouse
    ├── InvalidArgumentError       (ValueError)         an argument outside what the call accepts
    │   ├── InvalidNameError                            a dataset name that breaks the naming rule
    │   └── CredentialsError                            a URL that would keep a secret in a table
    ├── DatasetNotFoundError       (LookupError)        no dataset of that name
    ├── DatasetExistsError         (ValueError)         a dataset of that name exists already
    ├── UnsavedDatasetError        (ValueError)         asked of a derived dataset what only a saved one has
    ├── VersionNotFoundError       (LookupError)        the dataset has no such version
    │   └── TagNotFoundError                            no tag of that name
    ├── TagExistsError             (ValueError)         a tag that stands for another version
    ├── SchemaError                (ValueError)         columns or types that do not fit
    │   ├── ColumnNotFoundError    (LookupError)        no such column; near misses in the message
    │   └── TypeMismatchError      (TypeError)          a value or column of the wrong type
    ├── DuplicateKeyError          (ValueError)         rows that share a key which must be their own
    ├── ExpressionError            (ValueError)         filter text that cannot be read; caret at the place
    ├── RowIndexError              (IndexError)         a place where there is no row
    ├── SubscriptError             (TypeError)          dataset[…] of one whose rows are streamed
    ├── FormatError                (ValueError)         a file whose format is unknown or broken
    ├── TransformError             (ValueError)         a user function returned what it must not
    ├── FileError                  (OSError)            a referenced file cannot be used
    │   ├── MissingFileError       (FileNotFoundError)  it is not there
    │   ├── ChangedFileError                            it changed while it was read
    │   ├── AccessDeniedError      (PermissionError)    the store refuses the credentials, or there are none
    │   ├── IntegrityError                              its bytes are not those recorded
    │   ├── DamagedDatasetError                         metadata of a dataset is lost or cannot be read
    │   ├── RefusedTargetError                          it lies where no request may go
    │   ├── UnreachableError       (ConnectionError)    nobody can look now: a store or server is away, or refuses
    │   └── StorageError                                a disk or store did not take what was to be written
    │       └── StorageFullError                        it is full, or a quota is used up
    ├── CatalogUnavailableError    (ConnectionError)    the catalog's database cannot be reached
    ├── CommitError                (RuntimeError)       a commit did not land; nothing of it is visible
    │   ├── CommitConflictError                         other writers kept winning
    │   └── FenceError                                  another run has already moved the fence
    ├── StateMismatchError         (ValueError)         a checkpoint that belongs to other data or another plan
    ├── BudgetExceededError        (MemoryError)        more bytes than the caller allowed
    ├── MissingDependencyError     (ImportError)        an optional library that is not installed
    └── UnsupportedError           (NotImplementedError) a thing that this version does not do

A message says what was wrong, what exists, and what to do.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from typing import Self

MAX_QUOTED = 10


class LakefeedError(Exception):
    """Root of every error that lakefeed raises on purpose."""

    def __str__(self) -> str:
        # LookupError's relatives would print the repr of the message.
        return " ".join(str(arg) for arg in self.args)


class ConfigError(LakefeedError, ValueError):
    """Settings that cannot work."""


class SharedWarehouseError(ConfigError):
    """The warehouse belongs to another catalog, such as the original of this one; nothing was written or deleted."""


class InvalidArgumentError(LakefeedError, ValueError):
    """An argument outside what the call accepts."""


class InvalidNameError(InvalidArgumentError):
    """A dataset name that breaks the naming rule."""


class CredentialsError(InvalidArgumentError):
    """A URL to be saved holds credentials: a user and password, or what it is signed with."""


class DatasetNotFoundError(LakefeedError, LookupError):
    """No dataset of that name."""


class DatasetExistsError(LakefeedError, ValueError):
    """A dataset of that name exists already."""

    @classmethod
    def of(cls, name: str) -> DatasetExistsError:
        return cls(
            f'dataset {name!r} exists already: save with if_exists="append" to add these rows to it, with '
            'if_exists="new_version" to put them in place of its rows (older versions stay), or under another name'
        )


class UnsavedDatasetError(LakefeedError, ValueError):
    """Asked of a derived dataset what only a saved one has."""


class VersionNotFoundError(LakefeedError, LookupError):
    """The dataset has no such version."""


class TagNotFoundError(VersionNotFoundError):
    """No tag of that name; the message names those that exist."""


class TagExistsError(LakefeedError, ValueError):
    """A tag of that name stands for another version; it does not move unless told to."""


class SchemaError(LakefeedError, ValueError):
    """Columns or types that do not fit together."""


class ColumnNotFoundError(SchemaError, LookupError):
    """No such column; the message names the near misses."""

    @classmethod
    def of(cls, missing: str | Iterable[str], existing: Sequence[str], where: str = "") -> ColumnNotFoundError:
        names = [missing] if isinstance(missing, str) else list(missing)
        near = [hit for name in names for hit in difflib.get_close_matches(name, existing, n=3)]
        place = f" in {where}" if where else ""
        plural = "s" if len(names) > 1 else ""
        hint = f" Did you mean {quoted_list(near)}?" if near else ""
        return cls(f"no column{plural} {quoted_list(names)}{place}; the columns are {quoted_list(existing)}.{hint}")


class TypeMismatchError(SchemaError, TypeError):
    """A value or column of the wrong type."""


class DuplicateKeyError(LakefeedError, ValueError):
    """Rows that share a key which must be their own; the message shows keys."""


class ExpressionError(LakefeedError, ValueError):
    """Filter text that cannot be read; the message carries a caret at the place."""


class RowIndexError(LakefeedError, IndexError):
    """A place where there is no row."""


class SubscriptError(LakefeedError, TypeError):
    """``dataset[…]`` of a dataset whose rows are streamed; the message says what to call."""


class FormatError(LakefeedError, ValueError):
    """A file whose format is unknown or whose content is broken."""


class TransformError(LakefeedError, ValueError):
    """A user function returned what it must not."""


class FileError(LakefeedError, OSError):
    """A referenced file cannot be used."""


class MissingFileError(FileError, FileNotFoundError):
    """A referenced file is not there."""


class ChangedFileError(FileError):
    """A file changed between two reads of it; nothing that was made of it is saved."""


class AccessDeniedError(FileError, PermissionError):
    """A store refuses the credentials, has been given none, or lacks the bucket; the message names the settings."""


class IntegrityError(FileError):
    """A file's bytes are not those that were recorded."""


class DamagedDatasetError(FileError):
    """A metadata file or a manifest of a dataset is lost or cannot be read."""


class RefusedTargetError(FileError):
    """A URL leads where no request may go: link-local addresses, denied hosts, another scheme than it names."""


class UnreachableError(FileError, ConnectionError):
    """Nobody can look now: a store or server is away or refuses, so nothing is known of what is in it."""


class StorageError(FileError):
    """A disk or store did not take data that was to be written; nothing refers to that data.

    ``errno`` is that of the system (None where the store has none), ``filename`` the file or folder that was written,
    ``free_bytes`` the free space of its file system at that moment (None where it is not known).
    """

    def __init__(
        self, message: str = "", errno: int | None = None, filename: str | None = None, free_bytes: int | None = None
    ) -> None:
        super().__init__(message)
        self.errno = errno
        self.strerror = None if errno is None else os.strerror(errno)
        self.filename = filename
        self.free_bytes = free_bytes

    def prefixed(self, context: str) -> Self:
        """The same error with ``context`` before its message, unless it is there."""
        message, own = str(self), f"cannot write {self.filename!r}: "
        if message.startswith(own):  # the context says what failed: the path goes to the end
            message = f"{message.removeprefix(own)} ({self.filename})"
        text = message if message.startswith(context) else f"{context}: {message}"
        return type(self)(text, self.errno, self.filename, self.free_bytes)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...], dict[str, object]]:
        return type(self), (str(self), self.errno, self.filename, self.free_bytes), dict(self.__dict__)


class StorageFullError(StorageError):
    """A disk is full, or a quota is used up.

    ``remaining_objects`` names the objects that the save had added to the blob store and that could not be removed at
    once: a note of the error says why, and a collection of garbage removes them.
    """

    remaining_objects: tuple[str, ...] = ()


class CatalogUnavailableError(LakefeedError, ConnectionError):
    """The catalog's database cannot be reached, or refuses; a write that it interrupts may have landed or not."""


class CommitError(LakefeedError, RuntimeError):
    """A commit did not land; nothing of it is visible."""


class CommitConflictError(CommitError):
    """Other writers kept winning until the retries were used up."""


class FenceError(CommitError):
    """Another run has already moved the fence; these rows were not written."""


class StateMismatchError(LakefeedError, ValueError):
    """A checkpoint that belongs to other data or to another plan."""


class BudgetExceededError(LakefeedError, MemoryError):
    """More bytes than the caller allowed."""

    def __new__(cls, *args: object) -> Self:
        # MemoryError's own refuses; Dask makes what was raised anew with it.
        return Exception.__new__(cls, *args)


class MissingDependencyError(LakefeedError, ImportError):
    """An optional library that is not installed."""


class UnsupportedError(LakefeedError, NotImplementedError):
    """A thing that this version of lakefeed does not do."""


def quoted_list(names: Iterable[object], most: int = MAX_QUOTED) -> str:
    """The names quoted and joined, cut after ``most`` with a count of the rest.

    Example:
        >>> listed(["a", "b"])
        "'a', 'b'"
    """
    items = [str(name) for name in names]
    shown = ", ".join(repr(name) for name in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "") if items else "(none)"
