"""Conform: columns by name, in the form of another schema."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa

from lakefeed.ops.common_schema import conform_batch, select_fields
from lakefeed.plan import Node, Step


@dataclass(frozen=True, eq=False, repr=False)
class Conform(Step):
    """The columns of ``result`` in its order, null where the input lacks them; for one of several inputs."""

    result: pa.Schema

    keeps_columns: ClassVar[bool] = True
    keeps_row_count: ClassVar[bool] = True
    vectorized: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return self.result

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return replace(self, result=select_fields(self.result, tuple(wanted))), wanted & frozenset(
            self.child.schema.names
        )

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return columns <= frozenset(self.child.schema.names)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        return conform_batch(batch, self.result)

    def describe(self) -> str:
        return f"Conform [{', '.join(self.result.names)}]"
