"""What differs between two versions, counted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import pyarrow as pa

from lakefeed.catalog.changes import SchemaChanges, schema_changes
from lakefeed.catalog.fit import cast
from lakefeed.catalog.schema import snapshot_schema, storage_schema
from lakefeed.catalog.versions import find
from lakefeed.errors import ColumnNotFoundError
from lakefeed.ops import Project, Scan
from lakefeed.run.count import count_rows
from lakefeed.run.local import Local
from lakefeed.sources.iceberg import IcebergSource, Since
from lakefeed.sql import Rows, partners


@dataclass(frozen=True)
class Changes:
    """What version ``to_version`` has against ``from_version`` (None: against nothing).

    ``added`` and ``removed`` count rows that only the one or the other has; with a key, a row whose key both have
    counts as ``changed`` instead (None without a key). Rows compare under the columns of ``to_version``.
    """

    from_version: int | None
    to_version: int
    added: int
    removed: int
    changed: int | None = None
    schema: SchemaChanges = field(default_factory=SchemaChanges)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.schema)


def changes(source: IcebergSource, from_version: int | None, keys: tuple[str, ...]) -> Changes:
    """How the rows of ``source`` differ from those of an older version; only files that one of them lacks are read.

    Raises:
        ColumnNotFoundError: a key that is no column of the newer version.
    """
    missing = [key for key in keys if key not in source.schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, source.schema.names)
    runner = Local(source.lake.settings)
    gained, lost = _part(source, from_version, "gained"), _part(source, from_version, "lost")
    added, removed = (count_rows(runner, Scan(part)) for part in (gained, lost))
    schema = schema_changes(source.table, _schema_id(source, from_version), source.iceberg.schema_id)
    if not keys:
        return Changes(from_version, source.version.version, added, removed, None, schema)
    new, old, both = 0, 0, 0
    if added and removed:
        new, old, both = partners(source.lake.settings, _keys(runner, gained, keys), _keys(runner, lost, keys))
    return Changes(from_version, source.version.version, added - new, removed - old, both, schema)


def _part(source: IcebergSource, from_version: int | None, what: Literal["gained", "lost"]) -> IcebergSource:
    since = Since(from_version, what)
    return IcebergSource.of(source.lake, source.name, source.table, source.version, since, source.schema_id)


def _schema_id(source: IcebergSource, version: int | None) -> int | None:
    if version is None:
        return None
    return snapshot_schema(source.table, find(source.table, version).snapshot_id).schema_id


def _keys(runner: Local, source: IcebergSource, keys: tuple[str, ...]) -> Rows:
    """The keys of the rows, as they are stored: types that any engine can compare."""
    stored = storage_schema(pa.schema([source.schema.field(key) for key in keys]))
    return Rows(stored, lambda: (cast(batch, stored) for batch in runner.batches(Project(Scan(source), keys))))
