"""Slice: a contiguous range of rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed._validate import check_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Node, Step

MAX_ROW = 2**62
"""Beyond the end of any dataset; the sum of two fits in 64 bits."""


@dataclass(frozen=True, eq=False, repr=False)
class Slice(Step):
    """Rows ``[start, stop)``; ``stop`` None means to the end. A range past the end is clamped."""

    start: int
    stop: int | None

    keeps_columns: ClassVar[bool] = True
    positional: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, start: int, stop: int | None) -> Slice:
        """Returns the node of ``slice``.

        Raises:
            InvalidArgumentError: an argument is not a whole number of at least 0, or ``stop`` is less than ``start``.
        """
        check_whole(start, "slice")
        if stop is not None and check_whole(stop, "slice") < start:
            raise InvalidArgumentError(f"slice({start}, {stop}): stop must not be less than start")
        return cls(child, min(int(start), MAX_ROW), None if stop is None else min(int(stop), MAX_ROW))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        low, high = self._clamp(offset, batch.num_rows)
        return batch.slice(low - offset, high - low)

    def count_kept(self, offset: int, rows: int) -> int:
        low, high = self._clamp(offset, rows)
        return high - low

    def exhausted(self, offset: int) -> bool:
        return self.stop is not None and offset >= self.stop

    def _clamp(self, offset: int, rows: int) -> tuple[int, int]:
        end = offset + rows
        low = min(max(self.start, offset), end)
        high = end if self.stop is None else min(max(self.stop, low), end)
        return low, high

    def describe(self) -> str:
        return f"Slice [{self.start}, {'end' if self.stop is None else self.stop})"
