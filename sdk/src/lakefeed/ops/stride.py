"""Stride: every n-th row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._validate import is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Node, Step


@dataclass(frozen=True, eq=False, repr=False)
class Stride(Step):
    """Row ``first`` and every ``every``-th row after it."""

    first: int
    every: int

    keeps_columns: ClassVar[bool] = True
    positional: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, index: int, count: int) -> Stride:
        """Returns the node of ``shard`` for an unknown number of rows.

        Raises:
            InvalidArgumentError: the shard is out of range.
        """
        check_shard(index, count)
        return cls(child, int(index), int(count))

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return batch.take(np.arange((self.first - offset) % self.every, batch.num_rows, self.every))

    def count_kept(self, offset: int, rows: int) -> int:
        return len(range((self.first - offset) % self.every, rows, self.every))

    def describe(self) -> str:
        return f"Stride {self.first} of {self.every}"


def shard_range(rows: int, index: int, count: int) -> tuple[int, int]:
    """Returns the row range of one of ``count`` contiguous shards, whose sizes differ by at most one row.

    Raises:
        InvalidArgumentError: the shard is out of range.
    """
    check_shard(index, count)
    return rows * index // count, rows * (index + 1) // count


def check_shard(index: int, count: int) -> None:
    """Checks the index of a shard.

    Raises:
        InvalidArgumentError: the shard is out of range.
    """
    if not is_whole(count) or count < 1 or not is_whole(index) or not 0 <= index < count:
        raise InvalidArgumentError(f"shard needs 0 <= index < count, got index={index!r}, count={count!r}")
