"""The rows of an index: a scan of the newest version of its table, which may have another name by now."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pyarrow as pa
from cachetools import LRUCache

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_columns import columns_digest
from lakefeed.catalog.versions import newest_or_empty, resolve
from lakefeed.errors import DatasetNotFoundError, UnsupportedError, VersionNotFoundError
from lakefeed.keyed.key_matching import one_batch
from lakefeed.keyed.pinned_table import PinnedTable, require_key
from lakefeed.keyed.projections import Tree
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.scan_state import load_tree
from lakefeed.keyed.table_lookup import find_table_or_successor
from lakefeed.run.touched_rows import touched_keys
from lakefeed.search.index_definition import IndexDefinition
from lakefeed.search.index_ledger import Position
from lakefeed.search.index_refresh import ChangedRows
from lakefeed.search.key_text import encode_keys
from lakefeed.sources.iceberg_source import IcebergSource

MOST_TOUCHED = 0.5
"""If a larger share of the rows changed, an index is built anew."""
BATCH_ROWS = 32_768
CACHED_TABLES = 16


@dataclass(frozen=True, eq=False)
class IndexedRows:
    """The rows of an index in one version of its table.

    Attributes:
        reader: the scan.
        fields: the columns of the fields.
        segments: the writers and readers of segments of these columns, by kind of index.
    """

    reader: ScanReader
    fields: Sequence[str]
    segments: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def newest(cls, lake: Lake, definition: IndexDefinition) -> IndexedRows:
        """Returns the rows of the newest version.

        Raises:
            DatasetNotFoundError: the table was dropped.
            ColumnNotFoundError: a column of the index was dropped or renamed.
        """
        name, table = _find_table(lake, definition)
        key = (lake.key, table.metadata_location, name, definition.to_json())
        with _newest_lock:
            rows = _newest.get(key)
        if rows is None:
            rows = cls._of_table(lake, name, table, definition)
            with _newest_lock:
                _newest[key] = rows
        return rows

    @classmethod
    def _of_table(cls, lake: Lake, name: str, table: Any, definition: IndexDefinition) -> IndexedRows:
        keys, version, schema_id = require_key(table, name), newest_or_empty(table), table.metadata.current_schema_id
        pinned = PinnedTable(lake, definition.table, version, schema_id, keys)
        pinned.__dict__["source"] = IcebergSource.of(lake, name, table, version, None, schema_id)
        return cls.of(pinned, load_tree(dict(definition.columns)), definition.where)

    @classmethod
    def of(cls, table: PinnedTable, tree: Tree, where: str | None) -> IndexedRows:
        """Returns the rows of a version of a table."""
        keys = ScanReader((table,), tree, where).key_tree()
        return cls(ScanReader((table,), {**keys, **tree}, where), list(tree))

    @property
    def table(self) -> PinnedTable:
        """The table."""
        return self.reader.base

    @cached_property
    def position(self) -> Position:
        """The version."""
        version = self.table.version
        columns = columns_digest(self.table.source.columns, self.reader.columns_to_derive)
        return Position(str(self.table.source.table.metadata.table_uuid), version.version, version.snapshot_id, columns)

    @cached_property
    def field_schema(self) -> pa.Schema:
        """The columns of the fields."""
        return pa.schema([self.reader.schema.field(name) for name in self.fields])

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows, in any order."""
        return self.reader.unordered()

    def changes(self, since: Position) -> ChangedRows | None:
        """Returns the rows that changed since an older version; None if all are to be read again."""
        keys = self._touched(since) if since.has_columns_of(self.position) else None
        if keys is None or keys.num_rows > max(MOST_TOUCHED * (self.table.source.count() or 0), BATCH_ROWS):
            return None
        slices = (keys.slice(start, BATCH_ROWS) for start in range(0, keys.num_rows, BATCH_ROWS))
        return ChangedRows(encode_keys(keys, self.table.keys), map(self.reader.take, slices))

    def _touched(self, since: Position) -> pa.RecordBatch | None:
        """Returns the distinct keys of the rows that changed; None if that cannot be told."""
        table, source = self.table, self.table.source
        if since.version == table.version.version == 0:
            return pa.RecordBatch.from_pylist([], table.key_schema)
        try:
            if since.version > table.version.version or (
                since.version and resolve(source.table, since.version).snapshot_id != since.snapshot_id
            ):
                return None
            columns, older, newer = self.reader.columns_to_derive, since.version or None, table.version.version
            batches = list(touched_keys(table.lake, source.name, older, newer, columns))
        except (VersionNotFoundError, UnsupportedError):
            return None
        rows = pa.Table.from_batches([batch.cast(table.key_schema) for batch in batches], table.key_schema)
        return one_batch(rows.group_by(list(table.keys)).aggregate([]).cast(table.key_schema))


_newest: LRUCache[tuple[str, ...], IndexedRows] = LRUCache(CACHED_TABLES)
"""The rows of tables by the location of their metadata, which never changes."""
_newest_lock = threading.Lock()


def _find_table(lake: Lake, definition: IndexDefinition) -> tuple[str, Any]:
    """Returns the name and the metadata of the table of an index, which may have been renamed, or created again."""
    match = find_table_or_successor(lake, definition.table, definition.table_uuid)
    if match is not None:
        return match
    raise DatasetNotFoundError(
        f"the table {definition.table!r} of the index {definition.name!r} was dropped; bring it back if it is in the "
        f"trash (Dataset.list_trash()), or remove the index with drop_index({definition.name!r})"
    )
