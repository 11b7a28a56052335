"""Concatenate: the rows of several inputs, one after the other."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import pyarrow as pa

from lakefeed.ops.common_schema import common_schema, conform_batch, select_fields
from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Concatenate(Node):
    """All rows of the first input, then all of the second, and so on."""

    inputs: tuple[Node, ...]
    fill: bool = False
    columns: tuple[str, ...] | None = None
    """The output columns (None: all); inputs that cannot be narrowed may have more."""

    keeps_columns: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return common_schema(
            "concatenate", [select_fields(node.schema, self.columns) for node in self.inputs], self.fill
        )

    def narrow_each(self, wanted: frozenset[str]) -> tuple[Node, tuple[frozenset[str] | None, ...]]:
        columns = tuple(name for name in self.schema.names if name in wanted) or tuple(self.schema.names[:1])
        below = tuple(frozenset(columns) & frozenset(node.schema.names) for node in self.inputs)
        return replace(self, columns=columns), below

    def identity(self) -> dict[str, object]:
        return {"inputs": len(self.inputs), "fill": self.fill}

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return all(columns <= frozenset(node.schema.names) for node in self.inputs)

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        for rows in inputs:
            for batch in rows.batches():
                yield conform_batch(batch, self.schema)

    def describe(self) -> str:
        return f"Concatenate {len(self.inputs)} inputs{' fill' if self.fill else ''}"
