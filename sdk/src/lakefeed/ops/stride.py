"""Stride: every n-th row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from lakefeed.plan import Node, Step


@dataclass(frozen=True, eq=False, repr=False)
class Stride(Step):
    """Row ``first`` and every ``every``-th after it."""

    first: int
    every: int

    keeps_columns: ClassVar[bool] = True
    positional: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.child.schema

    def fields_read(self) -> tuple[()]:
        return ()

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return self, wanted

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return batch.take(np.arange((self.first - offset) % self.every, batch.num_rows, self.every))

    def kept(self, offset: int, rows: int) -> int:
        return len(range((self.first - offset) % self.every, rows, self.every))

    def describe(self) -> str:
        return f"Stride {self.first} of {self.every}"
