"""Conflicts between the changes of one transaction, and between them and operations that it includes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyiceberg.table import Table

from lakefeed._validate import check_whole
from lakefeed.catalog.column_union import leaf_paths, unite_columns
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import check_present, is_inside, read_staged_rows
from lakefeed.catalog.versions import newest_or_empty, resolve
from lakefeed.errors import (
    CommitConflictError,
    DuplicateKeyError,
    InvalidArgumentError,
    SchemaError,
    VersionNotFoundError,
    quoted_list,
)
from lakefeed.keyed.column_operations import file_at_base
from lakefeed.keyed.key_matching import key_arrays, match_keys, one_batch, show_keys
from lakefeed.keyed.keyed_commit import KeyedCommit
from lakefeed.keyed.row_input import repeated_keys
from lakefeed.keyed.transaction_operations import Operation, check_operations
from lakefeed.run.input_keys import ABSENT
from lakefeed.run.spill import spill


def check_base(table: Table, base: Any) -> int:
    """Returns the number of the version at which a transaction begins.

    Raises:
        VersionNotFoundError: it does not exist.
    """
    number = check_whole(base, "base")
    if number == newest_or_empty(table).version:
        return number
    if number == 0:
        raise VersionNotFoundError(f"base=0: {table.name()[-1]!r} has versions; give the number of one of them")
    return resolve(table, number).version


# ------------------------------------------------------------------------------------------ within a transaction


def check_write(changes: KeyedCommit, written: pa.Table) -> None:
    """Checks that no other change concerns the same columns of the same keys.

    Raises:
        DuplicateKeyError: another write gives a column of a key a value, or the key is deleted.
        SchemaError: a column is dropped.
    """
    keys = list(changes.keys)
    leaves = set(leaf_paths(written.schema)) - set(keys)
    dropped = [path for path in changes.dropped if _is_written(path, leaves)]
    if dropped:
        raise SchemaError(f"this transaction drops {dropped}; write them in another one")
    given = one_batch(written.select(keys))
    for earlier in changes.writes:
        both = leaves & set(leaf_paths(earlier.schema))
        if both or not leaves:
            where = f"are written to {sorted(both) or 'the key'} in this transaction"
            _check_apart(changes, given, one_batch(earlier.select(keys)), where)
    for gone in changes.deletes:
        _check_apart(changes, given, one_batch(gone), "are written and deleted")


def check_deletes(changes: KeyedCommit, deleted: pa.Table) -> None:
    """Checks that no key is written.

    Raises:
        DuplicateKeyError: one is.
    """
    for write in changes.writes:
        _check_apart(
            changes, one_batch(deleted), one_batch(write.select(list(changes.keys))), "are written and deleted"
        )


def check_drops(changes: KeyedCommit, paths: Sequence[str]) -> None:
    """Checks that no column is written.

    Raises:
        SchemaError: one is.
    """
    written = {path for write in changes.writes for path in leaf_paths(write.schema)}
    written.update(changes.columns.names)
    both = [path for path in paths if _is_written(path, written)]
    if both:
        raise SchemaError(f"drop_columns: this transaction writes {both}; drop them in another one")


def check_compact(changes: KeyedCommit) -> None:
    """Checks that no column files are added, whose rows a compaction would write elsewhere.

    Raises:
        InvalidArgumentError: some are.
    """
    if changes.columns.operations:
        raise InvalidArgumentError(
            f"this transaction adds column files of {quoted_list(changes.columns.names)}; compact in another one"
        )


def _is_written(path: str, written: Any) -> bool:
    return any(f"{each}.".startswith(f"{path}.") for each in written)


def _check_apart(changes: KeyedCommit, given: pa.RecordBatch, earlier: pa.RecordBatch, where: str) -> None:
    keys = changes.keys
    if not given.num_rows or not earlier.num_rows:
        return
    places = match_keys(key_arrays(given, keys), key_arrays(earlier, keys))
    both = (places != ABSENT).nonzero()[0]
    if len(both):
        raise repeated_keys(show_keys(given, keys, both), f"keys {where}")


# ------------------------------------------------------------------------------------------ operations


def included(lake: Lake, base: int, changes: KeyedCommit, given: Any) -> KeyedCommit:
    """Returns the changes with those of operations.

    Args:
        lake: the lake.
        base: the version at which the transaction began.
        changes: the changes that there are.
        given: the operations.

    Raises:
        InvalidArgumentError, CommitConflictError, MissingFileError, DuplicateKeyError, SchemaError: see
            `Transaction.include`.
    """
    operations = check_operations(given)
    table = lake.table(changes.name)
    for operation in operations:
        _check_operation(table, changes.name, base, operation)
    more = changes.copied()
    for operation in operations:
        _include(lake, table, more, operation)
    return more


def _check_operation(table: Table, name: str, base: int, operation: Operation) -> None:
    if operation.table_uuid != str(table.metadata.table_uuid):
        raise InvalidArgumentError(
            f"operation {operation.id} ({operation.kind}) is of the table {operation.table!r} with the uuid "
            f"{operation.table_uuid}, not of {name!r} ({table.metadata.table_uuid})"
        )
    if operation.base < base:
        raise CommitConflictError(
            f"operation {operation.id} ({operation.kind}) of {name!r} began at version {operation.base}, this "
            f"transaction at version {base}. Make the operation again, or begin the transaction with "
            f"txn(base={operation.base}) to let the later commit win"
        )
    for file in operation.files:
        if not is_inside(table, file.file_path):
            raise InvalidArgumentError(
                f"operation {operation.id} names {file.file_path}, which is not in the folder of {name!r}"
            )
        check_present(table.io, file.file_path, file.file_size_in_bytes)


def _include(lake: Lake, table: Table, changes: KeyedCommit, operation: Operation) -> None:
    match operation.kind:
        case "rows":
            rows = _read(lake, table, operation)
            unite_columns(table, rows.schema)
            check_write(changes, rows)
            _check_column_files(lake, table, changes, rows, changes.columns.operations)
            changes.staged[len(changes.writes)] = operation
            changes.writes.append(rows)
        case "delete_keys":
            keys = _read(lake, table, operation)
            check_deletes(changes, keys)
            changes.staged_deletes[len(changes.deletes)] = operation
            changes.deletes.append(keys)
        case "drop_columns":
            check_drops(changes, operation.columns)
            changes.dropped += [path for path in operation.columns if path not in changes.dropped]
            unite_columns(table, None, changes.dropped)
        case "column_files":
            _include_columns(lake, table, changes, operation)
        case "compact":
            check_compact(changes)
            changes.compact = True


def _include_columns(lake: Lake, table: Table, changes: KeyedCommit, operation: Operation) -> None:
    if changes.compact:
        check_compact(replace(changes, columns=type(changes.columns)([operation])))
    dropped = [path for path in changes.dropped if _is_written(path, operation.columns)]
    if dropped:
        raise SchemaError(f"this transaction drops {dropped}; write them in another one")
    _, file = file_at_base(lake, table, changes.name, operation)
    if operation.rows != file.rows or operation.files[0].record_count != file.rows:
        raise InvalidArgumentError(
            f"operation {operation.id} has {operation.rows} rows for {file.path}, which has {file.rows}"
        )
    for other in changes.columns.operations:
        both = sorted(set(other.columns) & set(operation.columns))
        if both and other.base_file == operation.base_file:
            raise DuplicateKeyError(
                f"columns {quoted_list(both)} are written twice for the rows of {operation.base_file}, by operations "
                f"{other.id} and {operation.id}; include one of them"
            )
    unite_columns(table, operation.schema, in_column_files=operation.columns)
    for rows in changes.writes:
        _check_column_files(lake, table, changes, rows, [operation])
    changes.columns.operations.append(operation)


def _check_column_files(
    lake: Lake, table: Table, changes: KeyedCommit, rows: pa.Table, operations: Sequence[Operation]
) -> None:
    """Checks that rows have no values for columns and keys that column files have.

    Raises:
        DuplicateKeyError: they have.
    """
    names = set(rows.schema.names)
    for operation in operations:
        both = sorted(names & set(operation.columns))
        if both and rows.num_rows:
            source, file = file_at_base(lake, table, changes.name, operation)
            given = one_batch(rows.select(list(changes.keys)))
            for _, batch in source.numbered_batches(file, changes.keys):
                where = f"are written to {both} by rows and by a column file in this transaction"
                _check_apart(changes, batch.select(list(changes.keys)), given, where)


def _read(lake: Lake, table: Table, operation: Operation) -> pa.Table:
    schema = operation.schema or pa.schema([])
    batches = read_staged_rows(table.io, operation.paths, schema)
    return spill(batches, schema, lake.settings.cache / "spill").table
