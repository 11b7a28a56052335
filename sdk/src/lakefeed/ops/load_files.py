"""LoadFiles: file columns become bytes or local paths."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import pyarrow as pa

from lakefeed.media import column_type, load_column, loaded_type
from lakefeed.plan import Node, Step
from lakefeed.storage import BlobStore


@dataclass(frozen=True, eq=False, repr=False)
class LoadFiles(Step):
    """The named file columns as content; ``modes`` are (column, "bytes" | "path") pairs."""

    modes: tuple[tuple[str, Literal["bytes", "path"]], ...]
    store: BlobStore
    workers: int
    on_error: Literal["raise", "null"]
    timeout: float

    keeps_row_count: ClassVar[bool] = True

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

    def identity(self) -> dict[str, object]:
        return {"modes": self.modes, "on_error": self.on_error}

    def describe(self) -> str:
        return f"LoadFiles {', '.join(f'{name}={mode}' for name, mode in self.modes)}"
