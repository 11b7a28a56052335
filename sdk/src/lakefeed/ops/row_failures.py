"""Errors of functions and files, with the name of the row for which they came."""

from __future__ import annotations

import sys
from functools import lru_cache
from operator import attrgetter
from typing import Any

import pyarrow as pa

from lakefeed.errors import FailedRow, LakefeedError, RowMessage, StorageError, TransformError
from lakefeed.media import column_type
from lakefeed.storage.urls import display_url

ID_NAMES = ("id", "uuid", "key")
"""Names of a column that identifies a row, the most likely one first; a name that ends in ``_id`` does so too."""
FILE_FIELDS = ("filename", "url")
VALUE_CHARS = 80
TYPES_CACHED = 256


def failed_row(batch: pa.RecordBatch, index: int, offset: int) -> FailedRow:
    """Returns the name of a row of a batch whose first row has the position ``offset``."""
    return FailedRow(offset + index, ", ".join(f"{name}={text}" for name, text in _identifiers(batch, index)))


def function_error(function: str, row: FailedRow, error: Exception) -> LakefeedError:
    """Returns the error to raise for an error that a user function raised for a row.

    Errors of this package keep their type. Any other error becomes a `TransformError` that is also of the type of that
    error, so that ``except KeyError`` catches a KeyError of the function.
    """
    if isinstance(error, LakefeedError):
        if error.failed_row is None:
            error.args = (RowMessage(f"{error}; {function} failed for", row),)
        return error
    if isinstance(error, StopIteration):
        reason = "it raised StopIteration, which ends no rows; raise another error, or filter them out"
    else:
        reason = f"{type(error).__name__}: {error}"
    return _error_like(type(error), (RowMessage(f"{function} failed for", row, f": {reason}"),), vars(error))


def _error_like(kind: type[Exception], args: tuple[Any, ...], attributes: dict[str, Any]) -> TransformError:
    """Returns a `TransformError` that is also a ``kind``, where Python can make one."""
    combined = _combined_type(kind)  # type: ignore[arg-type]  # mypy: a class would not be hashable
    try:
        error: TransformError = TransformError() if combined is TransformError else kind.__new__(combined)
    except TypeError:  # its constructor has arguments of its own
        error = TransformError()
    error.__dict__.update(attributes)
    error.args = args
    return error


@lru_cache(TYPES_CACHED)
def _combined_type(kind: type[Exception]) -> type[TransformError]:
    if issubclass(TransformError, kind) or issubclass(kind, StopIteration) or not _is_importable(kind):
        return TransformError

    def reduce(error: TransformError) -> tuple[Any, ...]:
        return _error_like, (kind, error.args, error.__dict__)

    members = {"__reduce__": reduce, "__module__": TransformError.__module__, "__doc__": TransformError.__doc__}
    try:
        return type(TransformError.__name__, (TransformError, kind), members)
    except TypeError:  # the types cannot be combined
        return TransformError


def _is_importable(kind: type) -> bool:
    """Returns whether another process that imports the module of a type has the type."""
    try:
        return attrgetter(kind.__qualname__)(sys.modules[kind.__module__]) is kind
    except (AttributeError, KeyError):
        return False


def is_about_row(error: Exception) -> bool:
    """Returns whether an error may be one of a row: a full disk or memory is not."""
    return not isinstance(error, StorageError | MemoryError)


def _identifiers(batch: pa.RecordBatch, index: int) -> list[tuple[str, str]]:
    """Returns the id of a row, and the names of its files, as text."""
    names = sorted((rank, name) for name in batch.schema.names if (rank := _rank(name)) is not None)
    cells: list[tuple[str, Any]] = [(name, batch.column(name)[index].as_py()) for _, name in names[:1]]
    identifiers = [(name, f"{value!r:.{VALUE_CHARS}}") for name, value in cells if value is not None]
    for field in batch.schema:
        if column_type(field) is not None and (file := _file_name(batch.column(field.name)[index].as_py())):
            identifiers.append((field.name, display_url(file)))
    return identifiers


def _rank(name: str) -> int | None:
    lower = name.lower()
    if lower in ID_NAMES:
        return ID_NAMES.index(lower)
    return len(ID_NAMES) if lower.endswith("_id") else None


def _file_name(cell: Any) -> str | None:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, dict):
        return None
    return next((cell[name] for name in FILE_FIELDS if isinstance(cell.get(name), str)), None)
