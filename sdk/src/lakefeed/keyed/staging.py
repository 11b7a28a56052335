"""The changes of a transaction as operations, with their rows in files that no version names yet."""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
from pyiceberg.table import Table

from lakefeed.catalog.column_union import leaf_paths, unite_columns
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.staged_files import field_ids, has_all_columns, mark_staged, write_staged_rows
from lakefeed.keyed.keyed_commit import KeyedCommit
from lakefeed.keyed.transaction_operations import Kind, Operation


def stage_changes(lake: Lake, base: int, changes: KeyedCommit) -> list[Operation]:
    """Returns the changes of a transaction as operations. Rows that are not in files yet are written.

    Args:
        lake: the lake.
        base: the version at which the transaction began.
        changes: the changes. They get the operations of their rows.
    """
    stage = _Stage(lake, lake.table(changes.name), base, changes.name)
    for index, keys in enumerate(changes.deletes):
        if index not in changes.staged_deletes:
            changes.staged_deletes[index] = stage.rows("delete_keys", keys)
    for index, rows in enumerate(changes.writes):
        if index not in changes.staged:
            changes.staged[index] = stage.rows("rows", rows)
    operations = [*changes.staged_deletes.values(), *changes.staged.values(), *changes.columns.operations]
    if changes.dropped:
        operations.append(stage.plain("drop_columns", changes.dropped))
    if changes.compact:
        operations.append(stage.plain("compact"))
    return operations


class _Stage:
    """Writes the rows of operations on one table."""

    def __init__(self, lake: Lake, table: Table, base: int, name: str) -> None:
        self._lake, self._table, self._base, self._name = lake, table, base, name

    def plain(self, kind: Kind, columns: Sequence[str] = ()) -> Operation:
        """Returns an operation without rows."""
        return Operation(kind, self._name, str(self._table.metadata.table_uuid), self._base, tuple(columns))

    def rows(self, kind: Kind, rows: pa.Table) -> Operation:
        """Returns the operation of rows, which are written now."""
        uuid = str(self._table.metadata.table_uuid)
        after = unite_columns(self._table, rows.schema if kind == "rows" else None).table
        files = write_staged_rows(self._lake, after, rows.schema, rows.to_batches()) if rows.num_rows else ()
        names = rows.schema.names
        ids = field_ids(after.schema(), names) if has_all_columns(rows.schema, declared_schema(after)) else ()
        columns = tuple(leaf_paths(rows.schema))
        operation = Operation(
            kind, self._name, uuid, self._base, columns, rows.num_rows, files, field_ids=ids, schema=rows.schema
        )
        mark_staged(self._lake, operation.id, operation.paths)
        return operation
