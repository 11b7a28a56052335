"""FileColumns: columns of paths, URLs or bytes become file columns; their files are stored or referenced."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import pyarrow as pa

from lakefeed.media import store_column, typed_schema
from lakefeed.plan import Step
from lakefeed.storage import BlobStore


@dataclass(frozen=True, eq=False, repr=False)
class FileColumns(Step):
    """Turns the named columns into records of their media type; ``copy`` says which files are stored."""

    types: tuple[tuple[str, str], ...]
    store: BlobStore
    copy: Literal["auto"] | bool
    stats: bool

    keeps_columns: ClassVar[bool] = True
    keeps_row_count: ClassVar[bool] = True

    def output_schema(self) -> pa.Schema:
        return typed_schema(self.child.schema, dict(self.types))

    def passes_filter(self, columns: frozenset[str]) -> bool:
        return columns.isdisjoint(name for name, _ in self.types)

    def apply(self, batch: pa.RecordBatch, offset: int) -> pa.RecordBatch:
        columns = dict(zip(batch.schema.names, batch.columns, strict=True))
        for name, media in self.types:
            columns[name] = store_column(
                columns[name], media, self.store, copy=self.copy, stats=self.stats, column_name=name, first_row=offset
            )
        return pa.RecordBatch.from_arrays(list(columns.values()), schema=self.schema)

    def identity(self) -> dict[str, object]:
        return {"types": self.types, "copy": self.copy, "stats": self.stats}

    def describe(self) -> str:
        return f"FileColumns {', '.join(f'{name}:{media}' for name, media in self.types)}"
