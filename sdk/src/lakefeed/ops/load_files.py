"""LoadFiles: file columns become bytes or local paths."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from lakefeed.media import column_type, load_column, loaded_type
from lakefeed.plan import Node, Step
from lakefeed.storage import BlobStore

PORTION_ROWS = 256
"""Rows whose files are loaded at a time, at most: the first ones must not wait for thousands."""


@dataclass(frozen=True, eq=False, repr=False)
class LoadFiles(Step):
    """The named file columns as content; ``modes`` are (column, "bytes" | "path") pairs."""

    modes: tuple[tuple[str, Literal["bytes", "path"]], ...]
    store: BlobStore
    workers: int
    on_error: Literal["raise", "null"]
    timeout: float
    max_inflight_bytes: int = 256_000_000

    keeps_row_count: ClassVar[bool] = True
    portioned: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        modes = dict(self.modes)
        fields = []
        for field in self.child.schema:
            media = column_type(field)
            if field.name in modes and media is not None:
                field = pa.field(field.name, loaded_type(media, modes[field.name]), field.nullable)
            fields.append(field)
        return pa.schema(fields)

    def narrow(self, wanted: frozenset[str]) -> tuple[Node, frozenset[str]]:
        return replace(self, modes=tuple(item for item in self.modes if item[0] in wanted)), wanted

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return columns.isdisjoint(name for name, _ in self.modes)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, mode in self.modes:
            columns[name] = load_column(
                columns[name],
                column_type(self.child.schema.field(name)) or "file",
                mode,
                self.store,
                workers=self.workers,
                on_error=self.on_error,
                timeout=self.timeout,
            )
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=self.schema)

    def portions(self, batch: pa.RecordBatch) -> Iterator[pa.RecordBatch]:
        """Runs of rows whose files take ``max_inflight_bytes`` together, as far as the records tell, or one row."""
        sizes = sum(_sizes(batch.column(name)) for name, _ in self.modes)
        start, held = 0, 0
        for row, size in enumerate(np.broadcast_to(sizes, batch.num_rows).tolist()):
            if row > start and (held + size > self.max_inflight_bytes or row - start >= PORTION_ROWS):
                yield batch.slice(start, row - start)
                start, held = row, 0
            held += size
        yield batch.slice(start)

    def identity(self) -> dict[str, object]:
        return {"modes": self.modes, "on_error": self.on_error}

    def describe(self) -> str:
        return f"LoadFiles {', '.join(f'{name}={mode}' for name, mode in self.modes)}"


def _sizes(column: pa.Array[Any]) -> npt.NDArray[np.int64]:
    """Bytes of each cell's file, 0 where the record does not tell."""
    if not isinstance(column, pa.StructArray) or "size" not in column.type.names:
        return np.zeros(len(column), np.int64)
    sizes: npt.NDArray[np.int64] = column.field("size").fill_null(0).to_numpy(zero_copy_only=False)
    return sizes
