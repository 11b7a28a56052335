"""StoreFiles: stores the files of file columns before rows are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from lakefeed.media import typed_schema
from lakefeed.media.store_columns import FileColumnWriter
from lakefeed.plan import Node
from lakefeed.plan.node import Input


@dataclass(frozen=True, eq=False, repr=False)
class StoreFiles(Node):
    """The columns of ``storing`` as records. Their contents are durable once the last row has been read.

    The node belongs to one save and runs once.
    """

    child: Node
    storing: FileColumnWriter

    keeps_columns: ClassVar[bool] = True
    keeps_row_count: ClassVar[bool] = True
    keeps_order: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return typed_schema(self.child.schema, self.storing.types)

    def execute(self, inputs: Sequence[Input]) -> Iterator[pa.RecordBatch]:
        yield from self.storing.batches(inputs[0].batches(), self.child.schema)
        self.storing.blobs.flush()

    def identity(self) -> dict[str, object]:
        return {"types": tuple(self.storing.types.items()), "copy": self.storing.copy, "stats": self.storing.stats}

    def describe(self) -> str:
        return f"StoreFiles {', '.join(f'{name}:{media}' for name, media in self.storing.types.items())}"
