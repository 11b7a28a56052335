"""Every error lakefeed raises on purpose.

    LakefeedError
    ├── ConfigError                (ValueError)         invalid settings
    │   └── SharedWarehouseError                        another catalog owns the warehouse
    ├── InvalidArgumentError       (ValueError)         an argument outside what the call accepts
    │   ├── ConflictingPathsError                       a file and a folder of one path, or names that would meet
    │   ├── InvalidNameError                            a dataset name that breaks the naming rule
    │   └── CredentialsError                            a URL that would keep a secret in a table
    ├── DatasetNotFoundError       (LookupError)        the dataset does not exist
    │   ├── IndexNotFoundError                          the search index does not exist
    │   └── TreeNotFoundError      (ValueError)         the file tree does not exist
    ├── DatasetExistsError         (ValueError)         the dataset exists already
    ├── InUseError                 (ValueError)         others use what was to be deleted
    ├── TreeStateError             (ValueError)         a file tree is final, in progress, or has pending uploads
    ├── UnsavedDatasetError        (ValueError)         the operation needs a saved dataset
    ├── VersionNotFoundError       (LookupError)        the version does not exist
    │   └── TagNotFoundError                            the tag does not exist
    ├── TagExistsError             (ValueError)         the tag names another version
    ├── SchemaError                (ValueError)         columns or types that do not fit
    │   ├── ColumnNotFoundError    (LookupError)        the column does not exist
    │   ├── TypeMismatchError      (TypeError)          a value or column of the wrong type
    │   └── ValidationError                             a table differs from the declared features
    ├── ImmutableRecordError       (AttributeError)     a field of a saved record that never changes was set
    ├── RecordNotFoundError        (LookupError)        no record of the registry fits
    ├── MultipleRecordsError       (ValueError)         several records fit, and one was asked for
    ├── DuplicateKeyError          (ValueError)         rows share a key that must be unique
    ├── ExpressionError            (ValueError)         an expression cannot be parsed
    ├── RowIndexError              (IndexError)         a row of this index does not exist
    ├── SubscriptError             (TypeError)          a streamed dataset cannot be indexed
    ├── FormatError                (ValueError)         a file whose format is unknown or broken
    ├── TransformError             (ValueError)         a user function failed or returned a wrong value
    ├── FileError                  (OSError)            a referenced file cannot be used
    │   ├── MissingFileError       (FileNotFoundError)  the file does not exist
    │   ├── ChangedFileError                            the file changed between two reads
    │   ├── AccessDeniedError      (PermissionError)    the store refuses the credentials, or there are none
    │   ├── IntegrityError                              its content differs from the record
    │   ├── DamagedDatasetError                         metadata of a dataset is lost or cannot be read
    │   ├── RefusedTargetError                          the URL leads to a forbidden target
    │   ├── UnreachableError       (ConnectionError)    a store or server cannot be reached
    │   └── StorageError                                a disk or store failed to write
    │       └── StorageFullError                        it is full, or a quota is used up
    ├── CatalogUnavailableError    (ConnectionError)    the catalog's database cannot be reached
    ├── CommitError                (RuntimeError)       a commit failed; nothing of it is visible
    │   ├── CommitConflictError                         other writers kept winning
    │   └── FenceError                                  another run moved the fence first
    ├── ClosedError                (RuntimeError)       an object that was closed
    ├── StateMismatchError         (ValueError)         a checkpoint that belongs to other data or another plan
    ├── BudgetExceededError        (MemoryError)        more bytes than the caller allowed
    ├── MissingDependencyError     (ImportError)        an optional library that is not installed
    ├── PluginError                (ImportError)        a part of another package that cannot be loaded
    └── UnsupportedError           (NotImplementedError) this version does not support it

A message says what is wrong, what exists, and what to do.
"""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

MAX_QUOTED = 10


@dataclass(frozen=True)
class FailedRow:
    """The row that an error is about.

    ``number``: the position of the row in the dataset that the failing function reads; within the file if only that is
    known (``within_file``). None: unknown, and ``description`` stands in for it. ``values``: the value of the row's id
    and the names of its files, as text. ``batch``: ``number`` counts within this batch of a loader, which will replace
    it.
    """

    number: int | None
    values: str = ""
    file: str | None = None
    within_file: bool = False
    description: str = "a row"
    batch: int | None = None

    def __str__(self) -> str:
        row = self.description if self.number is None else f"row {self.number}"
        values = f" ({self.values})" if self.values else ""
        origin = "" if self.file is None else f" {'of' if self.within_file else 'from'} {self.file}"
        return f"{row}{values}{origin}"


@dataclass(frozen=True)
class RowMessage:
    """A message about a row, which is named between ``text`` and ``rest``. The row becomes known step by step."""

    text: str
    row: FailedRow
    rest: str = ""

    def __str__(self) -> str:
        return f"{self.text} {self.row}{self.rest}"


class LakefeedError(Exception):
    """Root of every error that lakefeed raises on purpose."""

    @property
    def failed_row(self) -> FailedRow | None:
        """The row that the error is about, if it is about one."""
        message = self.args[0] if self.args else None
        return message.row if isinstance(message, RowMessage) else None

    def name_row(self, row: FailedRow) -> None:
        """Replaces the row of the message, or adds it."""
        message = self.args[0] if self.args else None
        known = message if isinstance(message, RowMessage) else RowMessage(f"{self};", row)
        self.args = (RowMessage(known.text, row, known.rest),)

    def __str__(self) -> str:
        # LookupError's relatives would print the repr of the message.
        return " ".join(str(arg) for arg in self.args)

    def _render_traceback_(self) -> list[str]:
        """Returns the lines that IPython shows, in a notebook or at its prompt, in place of the whole traceback."""
        from lakefeed._notebook_traceback import short_traceback

        return short_traceback(self)


class ConfigError(LakefeedError, ValueError):
    """Settings that cannot work."""


class SharedWarehouseError(ConfigError):
    """The warehouse belongs to another catalog, such as the original of this one. Nothing was written or deleted."""


class InvalidArgumentError(LakefeedError, ValueError):
    """An argument outside what the call accepts."""


class ConflictingPathsError(InvalidArgumentError):
    """A path is a file and a folder, or two names are one on the target file system. The message names both."""


class InvalidNameError(InvalidArgumentError):
    """A dataset name that breaks the naming rule."""


class CredentialsError(InvalidArgumentError):
    """A URL that would be saved holds credentials: a user and password, or a signature."""


class DatasetNotFoundError(LakefeedError, LookupError):
    """The dataset does not exist."""


class IndexNotFoundError(DatasetNotFoundError):
    """The search index does not exist. The message lists those that exist."""


class TreeNotFoundError(DatasetNotFoundError, ValueError):
    """The file tree does not exist, or several fit. The message lists those that exist."""


class InUseError(LakefeedError, ValueError):
    """Others use what was to be deleted. ``users`` names them."""

    def __init__(self, message: str = "", users: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.users = users


class TreeStateError(LakefeedError, ValueError):
    """A file tree is final, is still in progress, or has pending uploads, so that the call is not possible."""


class DatasetExistsError(LakefeedError, ValueError):
    """A dataset of that name exists already."""

    @classmethod
    def of(cls, name: str) -> DatasetExistsError:
        return cls(
            f'dataset {name!r} exists already: save with if_exists="append" to add these rows to it, with '
            'if_exists="new_version" to put them in place of its rows (older versions stay), or under another name'
        )


class UnsavedDatasetError(LakefeedError, ValueError):
    """The operation needs a saved dataset, and this one is derived or was never saved."""


class VersionNotFoundError(LakefeedError, LookupError):
    """The version does not exist."""


class TagNotFoundError(VersionNotFoundError):
    """The tag does not exist. The message lists the existing tags."""


class TagExistsError(LakefeedError, ValueError):
    """The tag names another version, and tags move only with ``move=True``."""


class SchemaError(LakefeedError, ValueError):
    """Columns or types do not fit together."""


class ColumnNotFoundError(SchemaError, LookupError):
    """The column does not exist. The message suggests similar names."""

    @classmethod
    def of(cls, missing: str | Iterable[str], existing: Sequence[str], where: str = "") -> ColumnNotFoundError:
        names = [missing] if isinstance(missing, str) else list(missing)
        near = [hit for name in names for hit in difflib.get_close_matches(name, existing, n=3)]
        location = f" in {where}" if where else ""
        plural = "s" if len(names) > 1 else ""
        hint = f" Did you mean {quoted_list(near)}?" if near else ""
        return cls(f"no column{plural} {quoted_list(names)}{location}; the columns are {quoted_list(existing)}.{hint}")


class TypeMismatchError(SchemaError, TypeError):
    """A value or column has the wrong type."""


class ValidationError(SchemaError):
    """A table differs from the declared features. ``problems`` lists all; the message shows the first ones."""

    def __init__(self, message: str = "", problems: tuple[object, ...] = ()) -> None:
        super().__init__(message)
        self.problems = problems

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (str(self), self.problems)


class ImmutableRecordError(LakefeedError, AttributeError):
    """A field of a saved record was set that never changes. The message names those that may change."""


class RecordNotFoundError(LakefeedError, LookupError):
    """No record of the registry fits. The message names similar ones."""


class MultipleRecordsError(LakefeedError, ValueError):
    """Several records fit, and one was asked for. The message names the first."""


class DuplicateKeyError(LakefeedError, ValueError):
    """Rows share a key that must be unique. The message shows keys."""


class ExpressionError(LakefeedError, ValueError):
    """An expression or query cannot be parsed or bound. The message marks the position."""


class RowIndexError(LakefeedError, IndexError):
    """A row of this index does not exist."""


class SubscriptError(LakefeedError, TypeError):
    """A streamed dataset cannot be indexed. The message names the method to call."""


class FormatError(LakefeedError, ValueError):
    """The format of a file is unknown, or its content is broken."""


class TransformError(LakefeedError, ValueError):
    """A user function raised an error, which is the cause, or returned a value of the wrong kind."""


class FileError(LakefeedError, OSError):
    """A referenced file cannot be used."""


class MissingFileError(FileError, FileNotFoundError):
    """A referenced file does not exist."""


class ChangedFileError(FileError):
    """A file changed between two reads. Nothing that was made of it is saved."""


class AccessDeniedError(FileError, PermissionError):
    """A store refuses the credentials, got none, or lacks the bucket. The message names the settings."""


class IntegrityError(FileError):
    """The content of a file differs from the recorded content."""


class DamagedDatasetError(FileError):
    """A metadata file or manifest of a dataset is lost or unreadable."""


class RefusedTargetError(FileError):
    """A URL leads to a forbidden target: a link-local address, a denied host, or another scheme than it names."""


class UnreachableError(FileError, ConnectionError):
    """A store or server cannot be reached or refuses the request, so the state of its content is unknown."""


class StorageError(FileError):
    """A disk or store failed to write data. Nothing refers to that data.

    ``errno`` is that of the system (None if the store has none). ``filename`` is the file or folder that was written.
    ``free_bytes`` is the free space of its file system at that moment (None if unknown).
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
        """Returns the same error with ``context`` before its message, unless the message begins with it."""
        message, own = str(self), f"cannot write {self.filename!r}: "
        if message.startswith(own):  # the context says what failed: the path goes to the end
            message = f"{message.removeprefix(own)} ({self.filename})"
        text = message if message.startswith(context) else f"{context}: {message}"
        return type(self)(text, self.errno, self.filename, self.free_bytes)

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...], dict[str, object]]:
        return type(self), (*self.args[:1], self.errno, self.filename, self.free_bytes), dict(self.__dict__)


class StorageFullError(StorageError):
    """A disk is full, or a quota is used up.

    ``remaining_objects`` names the objects that the save had added to the blob store and that could not be removed at
    once: a note of the error says why, and a collection of garbage removes them.
    """

    remaining_objects: tuple[str, ...] = ()


class CatalogUnavailableError(LakefeedError, ConnectionError):
    """The catalog's database cannot be reached or refuses. A write that it interrupts may or may not be committed."""


class CommitError(LakefeedError, RuntimeError):
    """A commit failed. Nothing of it is visible."""


class CommitConflictError(CommitError):
    """Other writers kept winning until the retries were used up."""


class FenceError(CommitError):
    """Another run moved the fence first. These rows were not written."""


class ClosedError(LakefeedError, RuntimeError):
    """The object was closed. The message says how to open another one."""


class StateMismatchError(LakefeedError, ValueError):
    """A checkpoint belongs to other data or another plan."""


class BudgetExceededError(LakefeedError, MemoryError):
    """The rows take more bytes than the caller allowed."""

    def __new__(cls, *args: object) -> Self:
        # MemoryError's own refuses; Dask makes what was raised anew with it.
        return Exception.__new__(cls, *args)


class MissingDependencyError(LakefeedError, ImportError):
    """An optional library is not installed."""


class PluginError(LakefeedError, ImportError):
    """A part that another package declares as an entry point cannot be loaded. The message names the package."""


class UnsupportedError(LakefeedError, NotImplementedError):
    """This version of lakefeed does not support the operation."""


def quoted_list(names: Iterable[object], most: int = MAX_QUOTED) -> str:
    """Returns the names quoted and joined. After ``most`` names it gives the number of the others.

    Example:
        >>> quoted_list(["a", "b"])
        "'a', 'b'"
    """
    items = [str(name) for name in names]
    shown = ", ".join(repr(name) for name in items[:most])
    return shown + (f" and {len(items) - most} more" if len(items) > most else "") if items else "(none)"
