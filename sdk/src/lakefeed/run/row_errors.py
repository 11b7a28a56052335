"""The rows on which a function raised an error, as they are recorded while rows are written."""

from __future__ import annotations

import pickle
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

import pyarrow as pa

from lakefeed.errors import (
    CatalogUnavailableError,
    ConfigError,
    MissingDependencyError,
    StorageError,
    TransformError,
)
from lakefeed.media import column_type
from lakefeed.run.step_chain import SkippedRows
from lakefeed.storage.remote.outages import is_outage

OnRowError: TypeAlias = Literal["fail", "quarantine", "null"]

OF_THE_MACHINE = (StorageError, MemoryError, CatalogUnavailableError, ConfigError, MissingDependencyError)
"""Errors that say nothing about the row on which they are raised."""
OUTAGE_ROWS = 10
"""So many rows in succession that cannot reach something mean that it is away, not that the rows are bad."""
TRACEBACK_CHARS = 8_000
MESSAGE_CHARS = 2_000
KEY_CHARS = 200
KEY_NAMES = ("id", "uuid", "key")
FILE_FIELDS = ("filename", "url")


@dataclass(frozen=True)
class RowError:
    """An error of a row.

    Attributes:
        row: the position of the row in its input.
        error: the name of the error's class.
        message: the text of the error.
        traceback: the end of the traceback.
        key: the value that identifies the row, as text.
        file: the name or URL of the row's file.
    """

    row: int
    error: str
    message: str
    traceback: str
    key: str | None = None
    file: str | None = None

    @classmethod
    def of(cls, row: int, error: Exception, key: str | None = None, file: str | None = None) -> RowError:
        """Returns the record of an error."""
        wrapped = isinstance(error, TransformError) and isinstance(error.__cause__, Exception)
        cause = error.__cause__ if wrapped and error.__cause__ is not None else error
        text = "".join(traceback.format_exception(error))
        return cls(row, type(cause).__name__, str(cause)[:MESSAGE_CHARS], text[-TRACEBACK_CHARS:], key, file)


@dataclass
class Stop:
    """The end of the rows that may be written: the first rows that were not made, and the error.

    Attributes:
        row: the position of the first row that was not made.
        last: the position of the last row that may have raised the error.
        error: the error.
        details: the record of the error.
    """

    row: int
    last: int
    error: Exception
    details: RowError

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "error": _transferable(self.error, self.details)}


@dataclass
class RowErrors:
    """The errors of the rows of one input, in one pass or several.

    Attributes:
        policy: "fail" ends the rows before the first error. The others leave the row out, or replace it by nulls.
        limit: the number of errors after which the rows end; None for no limit.
        errors: the errors of rows that were left out or replaced, by position.
        stop: the end of the rows; None if all of them were made.
        skipped: counts the rows that a step of the function left out by itself, with its own ``on_error="skip"``.
    """

    policy: OnRowError
    limit: int | None = None
    errors: dict[int, RowError] = field(default_factory=dict)
    stop: Stop | None = None
    skipped: SkippedRows = field(default_factory=SkippedRows)
    _outage: list[tuple[int, Exception]] = field(default_factory=list)

    def clear(self) -> None:
        """Forgets everything, for another pass."""
        self.errors, self.stop, self._outage = {}, None, []
        self.skipped.clear()

    def copy(self) -> RowErrors:
        """Returns a record that later rows do not change."""
        copied = RowErrors(self.policy, self.limit)
        copied.add_all([self])
        return copied

    def begin_batch(self) -> None:
        """Is called before each batch of rows."""
        if self.policy == "null":  # nulls for the rows before may have been written
            self._outage = []

    def add(self, details: RowError, error: Exception, last: int | None = None) -> None:
        """Records the error of a row; with ``last``, of one of the rows up to that one.

        The rows end here if the policy is "fail", or if the error is not about the row.
        """
        row = details.row
        if self.policy == "fail" or isinstance(error, OF_THE_MACHINE):
            self._end(Stop(row, row if last is None else last, error, details))
            return
        self.errors[row] = details
        if self.limit is not None and len(self.errors) > self.limit:
            many = TransformError(f"more than {self.limit} rows failed, the last with {details.error}: {error}")
            many.__cause__ = error
            self._end(Stop(row, row, many, details))
        elif is_outage(error):
            self._note_outage(row, error)

    def add_all(self, others: Iterable[RowErrors]) -> None:
        """Adds what was recorded for other rows of the same input."""
        for other in others:
            self.errors.update(other.errors)
            self.skipped.add_report(*other.skipped.report())
            if other.stop is not None:
                self._end(other.stop)
        self._cut()

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Gives the rows other positions, those to which ``numbers`` maps theirs."""
        self.errors = {numbers[row]: error for row, error in self.errors.items()}
        if self.stop is not None:
            self.stop = replace(self.stop, row=numbers[self.stop.row], last=numbers[self.stop.last])

    def is_past_end(self, row: int) -> bool:
        """Returns whether the rows end at or before this position."""
        return self.stop is not None and self.stop.row <= row

    def _note_outage(self, row: int, error: Exception) -> None:
        if self._outage and self._outage[-1][0] != row - 1:
            self._outage = []
        self._outage.append((row, error))
        if len(self._outage) >= OUTAGE_ROWS:
            first, cause = self._outage[0]
            self._end(Stop(first, row, cause, self.errors[first]))

    def _end(self, stop: Stop) -> None:
        if self.stop is None or stop.row < self.stop.row:
            self.stop = stop
        self._cut()

    def _cut(self) -> None:
        if self.stop is not None:
            self.errors = {row: error for row, error in self.errors.items() if row < self.stop.row}


def key_column(schema: pa.Schema, name: str | None) -> str | None:
    """Returns the column that identifies a row: the named one, or else one with a usual name; None if there is none."""
    if name is not None:
        return name if name in schema.names else None
    lower = {column.lower(): column for column in reversed(schema.names)}
    usual = next((lower[each] for each in KEY_NAMES if each in lower), None)
    return usual or next((column for column in schema.names if column.lower().endswith("_id")), None)


def file_column(schema: pa.Schema) -> str | None:
    """Returns the first column that holds files; None if there is none."""
    return next((each.name for each in schema if column_type(each) is not None), None)


def names_of_row(batch: pa.RecordBatch, index: int, key: str | None) -> tuple[str | None, str | None]:
    """Returns the key and the file of a row as text."""
    column, file = key_column(batch.schema, key), file_column(batch.schema)
    value = None if column is None else batch.column(column)[index].as_py()
    cell = None if file is None else batch.column(file)[index].as_py()
    return None if value is None else f"{value}"[:KEY_CHARS], _file_name(cell)


def _file_name(cell: Any) -> str | None:
    if isinstance(cell, str):
        return cell
    if not isinstance(cell, Mapping):
        return None
    return next((cell[name] for name in FILE_FIELDS if isinstance(cell.get(name), str)), None)


def _transferable(error: Exception, details: RowError) -> Exception:
    """Returns the error, or its text where it cannot be sent to another process."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception:  # noqa: BLE001 - any error of the user's class
        return TransformError(f"{details.error}: {details.message}")
    return error
