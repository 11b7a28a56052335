"""Counts of the differences between two versions."""

from __future__ import annotations

import html
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

import pyarrow as pa

from lakefeed import ops, sql
from lakefeed.catalog import compatibility, schema, touched_files, versions
from lakefeed.catalog.schema_changes import SchemaChanges, schema_changes
from lakefeed.errors import ColumnNotFoundError, UnsupportedError
from lakefeed.run import local_runner, row_count, touched_rows
from lakefeed.sources import iceberg_source

if TYPE_CHECKING:
    from lakefeed.run.local_runner import LocalRunner
    from lakefeed.sources.iceberg_source import IcebergSource
    from lakefeed.sql import QueryTable


@dataclass(frozen=True)
class Changes:
    """The differences of version ``to_version`` from ``from_version`` (None: from an empty dataset).

    ``added`` and ``removed`` count rows that only the one or the other has; with a key, a row whose key both have
    counts as ``changed`` instead (None without a key), also if an enrichment changed it. Rows compare under the columns
    of ``to_version``.
    """

    from_version: int | None
    to_version: int
    added: int
    removed: int
    changed: int | None = None
    schema: SchemaChanges = field(default_factory=SchemaChanges)
    make_rows: Callable[[], Any] | None = field(default=None, repr=False, compare=False)

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.schema)

    def rows(self) -> Any:  # a Dataset, which this layer does not know
        """Returns the rows that differ, as a `Dataset`, which streams.

        Its columns are ``change`` ("added", "removed" or "changed"), ``before`` and ``after``: structs of the columns
        of ``to_version``, null on the side that lacks the row. A column that the older version lacks is null in
        ``before``. Without keys no row is changed. Of several rows of one key, each before meets each after.

        Raises:
            UnsupportedError: `Dataset.changes` did not make this object.

        Example:
            >>> _ = Dataset.from_dict({"id": [1, 2], "x": [10, 20]}).save("corrected")
            >>> _ = Dataset.from_dict({"id": [2, 3], "x": [21, 30]}).upsert_into("corrected", keys="id")
            >>> for row in Dataset("corrected").changes(1, 2, keys="id").rows().rows():
            ...     print(row["change"], row["before"], row["after"])
            changed {'id': 2, 'x': 20} {'id': 2, 'x': 21}
            added None {'id': 3, 'x': 30}
        """
        if self.make_rows is None:
            raise UnsupportedError("only the result of Dataset.changes(…) can tell its rows")
        return self.make_rows()

    def __str__(self) -> str:
        return "\n".join(self._lines())

    def _repr_html_(self) -> str:
        """Returns the counts and the changes of columns for notebooks."""
        title, *others = map(html.escape, self._lines())
        return f"<div><b>{title}</b>{''.join(f'<br>{line}' for line in others)}</div>"

    def _lines(self) -> list[str]:
        """Returns the counts, then a line for each column that changed."""
        start = "nothing" if self.from_version is None else f"v{self.from_version}"
        changed = "" if self.changed is None else f" ~{self.changed:,}"
        columns = self.schema
        return [
            f"{start} -> v{self.to_version}: +{self.added:,} -{self.removed:,}{changed} rows",
            *(f"+ column {name}: {kind}" for name, kind in columns.added.items()),
            *(f"- column {name}: {kind}" for name, kind in columns.dropped.items()),
            *(f"~ column {old} -> {new}" for old, new in columns.renamed.items()),
            *(f"~ column {name}: {old} -> {new}" for name, (old, new) in columns.retyped.items()),
        ]


def changes(source: IcebergSource, from_version: int | None, keys: tuple[str, ...]) -> Changes:
    """Returns the differences of ``source`` from an older version. Reads only files that one of them lacks.

    Raises:
        ColumnNotFoundError: the newer version lacks a key column.
    """
    missing = [key for key in keys if key not in source.schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, source.schema.names)
    runner = local_runner.LocalRunner(source.lake.settings)
    gained, lost = changed_part(source, from_version, "gained"), changed_part(source, from_version, "lost")
    added, removed = (row_count.count_rows(runner, ops.Scan(part)) for part in (gained, lost))
    columns = schema_changes(source.table, _schema_id(source, from_version), source.iceberg.schema_id)
    derived = rows_derived_anew(source, from_version)
    if not keys:
        return Changes(from_version, source.version.version, added + derived, removed + derived, None, columns)
    new, old, both = 0, 0, 0
    if added and removed:
        new, old, both = sql.count_common_rows(
            source.lake.settings, _keys(runner, gained, keys), _keys(runner, lost, keys)
        )
    return Changes(from_version, source.version.version, added - new, removed - old, both + derived, columns)


def rows_derived_anew(source: IcebergSource, from_version: int | None) -> int:
    """Returns the number of rows of which only column files changed a value."""
    if from_version is None or not source.version.version:
        return 0
    older = versions.find_snapshot(source.table, from_version)
    newer = versions.find_snapshot(source.table, source.version.version)
    return touched_rows.count_patched_rows(source, touched_files.patched_files(source.table, older, newer))


def changed_part(
    source: IcebergSource, from_version: int | None, direction: Literal["gained", "lost"]
) -> IcebergSource:
    """Returns the rows that ``source`` has more, or less, than an older version."""
    since = iceberg_source.Since(from_version, direction)
    return iceberg_source.IcebergSource.of(
        source.lake, source.name, source.table, source.version, since, source.schema_id
    )


def _schema_id(source: IcebergSource, version: int | None) -> int | None:
    if version is None:
        return None
    return schema.snapshot_schema(source.table, versions.find_snapshot(source.table, version).snapshot_id).schema_id


def _keys(runner: LocalRunner, source: IcebergSource, keys: tuple[str, ...]) -> QueryTable:
    """The keys of the rows, as they are stored: types that any engine can compare."""
    stored = schema.storage_schema(pa.schema([source.schema.field(key) for key in keys]))
    return sql.QueryTable(
        stored,
        lambda: (compatibility.cast(batch, stored) for batch in runner.batches(ops.Project(ops.Scan(source), keys))),
    )
