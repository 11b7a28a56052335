"""A partition: rows that are read at once, in order, with the steps above them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import pyarrow as pa

from lakefeed.errors import TransformError
from lakefeed.ops import Scan
from lakefeed.plan import RESIDENT, Fragment, Step
from lakefeed.run.step_chain import SkippedRows, name_file, run_chain


class Reading(Protocol):
    """The origin of a partition's rows. `raw` may be called from several threads at once, `made` may not."""

    @property
    def rows(self) -> int:
        """The number of rows that are read."""

    @property
    def size(self) -> int:
        """About the decoded bytes of the rows; 0 if they are in memory, or mapped."""

    @property
    def shared(self) -> bool:
        """True if the rows may be in memory that others read too (a caller's table, a read-only map)."""

    @property
    def runs_user_code(self) -> bool:
        """True if `made` calls functions of the user."""

    def raw(self) -> Iterator[Any]:
        """Reads, and yields the raw rows for `decode`."""

    @property
    def file(self) -> str | None:
        """The file that holds the rows; None if there is none, or more than one."""

    def decode(self, raw: Iterable[Any]) -> Iterator[pa.RecordBatch]:
        """Yields the rows in order."""


@dataclass(frozen=True)
class Stored:
    """A fragment of a source."""

    scan: Scan
    fragment: Fragment
    width: int | None = None
    """The bytes of each row if all rows have the same size, else None."""

    @property
    def rows(self) -> int:
        return self.fragment.length or 0

    @property
    def size(self) -> int:
        if self.width is None or self.fragment.size == RESIDENT:
            return self.fragment.size
        return max((self.fragment.length or 0) * self.width, 1)

    @property
    def shared(self) -> bool:
        return self.fragment.size == RESIDENT and not self.fragment.private

    @property
    def runs_user_code(self) -> bool:
        return False

    @property
    def file(self) -> str | None:
        return self.fragment.file

    def raw(self) -> Iterator[pa.RecordBatch]:
        return self.scan.source.read(self.fragment, self.scan.pushdown)

    def decode(self, raw: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        return iter(raw)


@dataclass(frozen=True)
class Partition:
    """Rows that are read and go through the steps.

    ``offsets``: the position of the first row in the input of each step. ``rows``: the number of output rows.
    """

    reading: Reading
    steps: tuple[Step, ...]
    offsets: tuple[int, ...]
    rows: int

    @property
    def size(self) -> int:
        return self.reading.size

    @property
    def shared(self) -> bool:
        return self.reading.shared

    @property
    def runs_user_code(self) -> bool:
        return self.reading.runs_user_code or any(step.runs_user_code for step in self.steps)

    def stepped(self, raw: Iterable[Any], skipped: SkippedRows | None = None) -> Iterator[pa.RecordBatch]:
        """Yields the rows in order, made of the raw rows. ``skipped`` counts those that steps leave out."""
        rows = run_chain(self.steps, self.reading.decode(raw), self.offsets, skipped)
        return name_file(rows, lambda: self.reading.file)

    def checked(self, batches: Iterable[pa.RecordBatch]) -> list[pa.RecordBatch]:
        """Returns the batches of the partition, those without rows left out.

        Raises:
            TransformError: they have another number of rows than was counted.
        """
        filled = [batch for batch in batches if batch.num_rows]
        rows = sum(batch.num_rows for batch in filled)
        if rows != self.rows:
            raise TransformError(
                f"a part of the data gave {self.rows} rows when they were counted and {rows} now: a source changed "
                "while it was read, or a filter or map_batches function does not give the same rows every time"
            )
        return filled
