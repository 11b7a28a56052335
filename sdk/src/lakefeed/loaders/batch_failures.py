"""Names of the rows of batches that fail, as positions in the dataset."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from lakefeed.errors import FailedRow, LakefeedError, RowMessage
from lakefeed.ops.row_failures import function_error, is_about_row
from lakefeed.plan import name_of
from lakefeed.storage.urls import display_url

NAMED_ROWS = 8


class LocatesRows(Protocol):
    """The rows of an epoch."""

    def locate(self, position: int) -> tuple[int | None, str | None]:
        """Returns the row of the dataset at a position of the epoch, and its file, as far as they are known."""


class LocatesSteps(Protocol):
    """The batches of an epoch."""

    def positions_of(self, step: int) -> tuple[int, int]:
        """Returns the positions ``[start, stop)`` of the rows of a step."""


@dataclass(frozen=True)
class RowNames:
    """The rows of one rank's batches in one epoch, as rows of the dataset."""

    feed: LocatesRows
    batches: LocatesSteps

    def name(self, error: LakefeedError) -> None:
        """Lets the row of an error, which counts in a batch, count in the dataset."""
        row = error.failed_row
        if row is None or row.batch is None or row.number is None:
            return
        start, _ = self.batches.positions_of(row.batch)
        number, file = self.feed.locate(start + row.number)
        description = f"the row at position {start + row.number} of the stream"
        file = display_url(file) if row.file is None and file is not None else row.file
        error.name_row(replace(row, number=number, file=file, description=description, batch=None))

    def name_batch(self, error: LakefeedError, step: int) -> None:
        """Names the rows of a batch in an error about the whole batch."""
        row = error.failed_row
        if row is not None:
            error.name_row(replace(row, description=f"rows {self._rows(step)}"))

    def _rows(self, step: int) -> str:
        start, stop = self.batches.positions_of(step)
        numbers = [self.feed.locate(position)[0] for position in range(start, min(stop, start + NAMED_ROWS))]
        if None in numbers:
            return f"at the positions {start} to {stop - 1} of the stream"
        more = stop - start - len(numbers)
        return ", ".join(map(str, numbers)) + (f" and {more} more" if more else "")


@dataclass(frozen=True)
class WorkerFailure:
    """An error in a worker process, with its traceback as text. ``whole``: it is about a batch, not about a row."""

    error: LakefeedError
    text: str
    whole: bool = False

    @classmethod
    def of(cls, error: LakefeedError, *, whole: bool = False) -> WorkerFailure:
        """Returns the failure of an error that was caught."""
        return cls(error, "".join(traceback.format_exception(error)), whole)

    def named(self, names: RowNames | None, step: int) -> LakefeedError:
        """Returns the error to raise in the main process."""
        error = self.error
        if names is not None and self.whole:
            names.name_batch(error, step)
        elif names is not None:
            names.name(error)
        message = error.args[0]
        if isinstance(message, RowMessage):
            error.args = (replace(message, rest=f"{message.rest}\n\nIn a worker process:\n{self.text}"),)
        return error


def collate(function: Callable[[Any], Any], batch: Any) -> Any:
    """Returns ``function(batch)``.

    Raises:
        TransformError: the function failed, with the error as its cause.
    """
    try:
        return function(batch)
    except Exception as error:
        if not is_about_row(error):
            raise
        rows = FailedRow(None, _ids(batch), description="the rows of a batch")
        failure = function_error(f"collate_fn {name_of(function)}", rows, error)
        if failure is error:
            raise
        raise failure from error


def _ids(batch: Any) -> str:
    """Returns the first ids of the rows of a batch as text, if it has them."""
    if not isinstance(batch, Mapping) or "id" not in batch:
        return ""
    values = batch["id"][:NAMED_ROWS]
    return f"id={values.tolist() if hasattr(values, 'tolist') else values!r}"
