"""Batch: consecutive rows become rows of lists."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa

from lakefeed._validate import check_flag, is_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.plan import Input, Node


@dataclass(frozen=True, eq=False, repr=False)
class Batch(Node):
    """Combines every ``size`` rows into one row of lists; ``drop_last`` drops a shorter last one."""

    child: Node
    size: int
    drop_last: bool = False

    keeps_columns: ClassVar[bool] = True

    @classmethod
    def of(cls, child: Node, size: Any, drop_last: Any) -> Batch:
        """Returns the node of ``batch``.

        Raises:
            InvalidArgumentError: an argument is invalid.
        """
        if not is_whole(size) or size < 1:
            raise InvalidArgumentError(f"batch size must be a whole number of at least 1, got {size!r:.80}")
        return cls(child, int(size), check_flag(drop_last, "drop_last"))

    def output_schema(self) -> pa.Schema:
        return pa.schema([pa.field(field.name, pa.list_(field), False) for field in self.child.schema])

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        # A batch without columns would lose its number of rows.
        return self, wanted or frozenset(self.schema.names[:1])

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        pending: list[pa.RecordBatch] = []
        rows = 0
        for batch in inputs[0].batches():
            pending.append(batch)
            rows += batch.num_rows
            if rows >= self.size:
                table = pa.Table.from_batches(pending, self.child.schema).combine_chunks()
                whole = rows - rows % self.size
                yield self._group(table.slice(0, whole), whole)
                pending, rows = table.slice(whole).to_batches(), rows - whole
        if rows and not self.drop_last:
            yield self._group(pa.Table.from_batches(pending, self.child.schema), rows)

    def _group(self, table: pa.Table, rows: int) -> pa.RecordBatch:
        offsets = pa.array(np.append(np.arange(0, rows, self.size), rows).astype(np.int32))
        flat = table.combine_chunks()
        lists = []
        for field, column in zip(self.schema, flat.columns, strict=True):
            chunk = column.chunk(0) if column.num_chunks == 1 else pa.concat_arrays(column.chunks)
            lists.append(pa.ListArray.from_arrays(offsets, chunk, type=field.type))  # type: ignore[call-overload]  # older stubs
        return pa.RecordBatch.from_arrays(lists, schema=self.schema)

    def describe(self) -> str:
        return f"Batch {self.size}{' drop_last' if self.drop_last else ''}"
