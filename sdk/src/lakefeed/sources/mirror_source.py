"""Rows kept in a local folder by ``cache()``: what a scan or a whole plan gave."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lakefeed.catalog.compatibility import cast
from lakefeed.errors import ColumnNotFoundError
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.plan import Fragment, InParts, Lineage, Pushdown, cut


@dataclass(frozen=True, eq=False)
class MirrorSource(InParts):
    """The rows of one Parquet file whose row groups are the fragments of what it mirrors.

    So the rows have the same fragments of the same sizes, hence the same shuffled order, as where they came from, and
    a checkpoint fits both. The file may hold fewer columns than ``schema``: those that the plan above asks for.
    """

    path: Path
    schema: pa.Schema
    columns: frozenset[str]
    identity: str
    name: str
    origin: Lineage
    parts: tuple[tuple[int, int], ...]
    """Rows and bytes of each fragment."""

    @property
    def location(self) -> str:
        return self.name

    @property
    def lineage(self) -> Lineage:
        return self.origin

    @property
    def immutable(self) -> bool:
        return True

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        hint = pushdown.predicate if pushdown.rows is None else None
        found = (Fragment(part.key, *self.parts[part.key]) for part in self._file.footer().groups(hint))
        return cut(found, pushdown.rows)

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        names = self.schema.names if pushdown.columns is None else pushdown.columns
        missing = [name for name in names if name not in self.columns]
        if missing:
            raise ColumnNotFoundError.of(missing, sorted(self.columns), f"the cache at {self.path.parent}")
        schema = pa.schema([field for field in self.schema if field.name in names])
        for batch in self._file.read(fragment.key, schema.names, fragment.start, fragment.stop):
            yield cast(batch.select(schema.names), schema)

    def describe(self, pushdown: Pushdown) -> str:
        return f"cache of {self.identity} ({self.count()} rows)"

    @property
    def _file(self) -> ParquetFile:
        return ParquetFile(str(self.path), open_file, immutable=True)


def open_file(path: str) -> object:
    """The local file, open for reading."""
    return Path(path).open("rb")
