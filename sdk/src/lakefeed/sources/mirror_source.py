"""A source of rows that ``cache()`` keeps in a local folder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from lakefeed.catalog.compatibility import cast
from lakefeed.errors import ColumnNotFoundError
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.plan import Fragment, Lineage, PartsSource, Pushdown, cut_fragments


@dataclass(frozen=True, eq=False)
class MirrorSource(PartsSource):
    """The rows of one Parquet file whose row groups are the fragments of its origin.

    The fragments and their sizes equal those of the origin. So a shuffle has the same order, and checkpoints are valid
    for both. The file may have fewer columns than ``schema``: those that the plan above reads.
    """

    path: Path
    schema: pa.Schema
    columns: frozenset[str]
    identity: str
    name: str
    origin: Lineage
    parts: tuple[tuple[int, int], ...]
    """The rows and bytes of each fragment."""

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
        fragments = (Fragment(part.key, *self.parts[part.key]) for part in self._file.footer().groups(hint))
        return cut_fragments(fragments, pushdown.rows)

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
    """Returns the local file, open for reading."""
    return Path(path).open("rb")
