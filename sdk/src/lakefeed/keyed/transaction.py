"""Transactions: several writes that become visible as one version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import pyarrow as pa

from lakefeed._typing import ColumnTypes
from lakefeed._validate import check_flag, list_names
from lakefeed.catalog.column_union import leaf_paths, unite_columns
from lakefeed.catalog.edit_commit import edit
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.snapshot_builder import BeforeCommit
from lakefeed.catalog.staged_files import unmark_staged
from lakefeed.catalog.versions import newest_or_empty
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, SchemaError, TypeMismatchError
from lakefeed.keyed import write_conflicts
from lakefeed.keyed.key_matching import key_arrays, one_batch, repeated_positions, show_keys, sorted_by_key
from lakefeed.keyed.keyed_commit import KeyedCommit, iterate
from lakefeed.keyed.pinned_table import require_key
from lakefeed.keyed.row_input import (
    check_key_names,
    check_keys_present,
    check_structs,
    nested,
    plan_of_rows,
    push_down_nulls,
    repeated_keys,
)
from lakefeed.keyed.staging import stage_changes
from lakefeed.keyed.transaction_operations import Operation, check_path, load_dumps, write_dump
from lakefeed.media import check_column_types, typed_columns
from lakefeed.ops import Project, Scan, Sort
from lakefeed.plan import Node
from lakefeed.plan.arrays import exact_array
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.save import Writing, choose_types, types_of_old
from lakefeed.run.spill import spill
from lakefeed.run.write_context import with_files, write_context
from lakefeed.sources.memory_source import MemorySource

if TYPE_CHECKING:
    from lakefeed.keyed.keyed_table import Table
    from lakefeed.keyed.table_snapshot import Snapshot

Status = Literal["open", "committed", "aborted", "taken"]

SORTED_IN_MEMORY = 4
"""Rows of up to this part of the memory budget are sorted in memory."""


class Transaction:
    """Writes to one table that become visible together, as one version.

    As a context manager it commits at the end of the block, and aborts if the block raises. The rows of a write are
    on local disk until the commit. Not thread-safe.

    Example:
        >>> table = Table.create("transacted", key_schema={"id": pa.int64()})
        >>> with table.txn() as txn:
        ...     txn.write({"id": [1, 2], "x": [10, 20]})
        ...     txn.write({"id": [1], "y": ["a"]})
        >>> table.scan().to_table().to_pylist()
        [{'id': 1, 'x': 10, 'y': 'a'}, {'id': 2, 'x': 20, 'y': None}]
    """

    def __init__(
        self,
        table: Table,
        *,
        compare: bool = False,
        column_types: ColumnTypes | Literal["auto"] | None = "auto",
        writing: Writing | None = None,
        base: int | None = None,
    ) -> None:
        self._table, self._column_types = table, column_types
        if column_types is not None and not (isinstance(column_types, str) and column_types == "auto"):
            check_column_types(column_types)
        self._writing = writing or Writing()
        stored = table.lake.table(table.identifier)
        self._base = newest_or_empty(stored).version if base is None else write_conflicts.check_base(stored, base)
        self._changes = KeyedCommit(table.lake.settings, table.identifier, require_key(stored, table.identifier))
        self._changes.compare = check_flag(compare, "compare")
        self._changes.table_uuid = str(stored.metadata.table_uuid)
        self._status: Status = "open"
        self._files = ExitStack()
        self._checks: list[BeforeCommit] = []

    @property
    def status(self) -> Status:
        """The state: "open", "committed", "aborted" or "taken"."""
        return self._status

    def is_empty(self) -> bool:
        """Returns whether there is nothing to commit."""
        changes = self._changes
        rows = changes.writes or changes.deletes or changes.columns.operations
        return not (rows or changes.dropped or changes.compact)

    def write(self, rows: Any, push_down_nulls: bool = False) -> None:
        """Writes rows: an existing key gets the values of the columns that the rows have, a new key is a new row.

        Args:
            rows: as in `Table.write`.
            push_down_nulls: as in `Table.write`.

        Raises:
            DuplicateKeyError: a key occurs twice in the rows, or an earlier write of this transaction has given it a
                value of one of these columns.
            SchemaError, TypeMismatchError: as in `Table.write`.
        """
        self._require_open()
        check_flag(push_down_nulls, "push_down_nulls")
        target = declared_schema(self._table.lake.table(self._table.identifier))
        plan = plan_of_rows(rows, target, "write")
        check_key_names(plan.schema, self._changes.keys, "write")
        written = self._staged(plan, push_down_nulls)
        unite_columns(self._table.lake.table(self._table.identifier), written.schema)
        write_conflicts.check_write(self._changes, written)
        if written.num_rows or set(leaf_paths(written.schema)) - set(leaf_paths(target)):
            self._changes.writes.append(written)

    def writeback(self, scan: Any, *, shards: Sequence[Any] | None = None) -> None:
        """Writes the rows of a scan, whose columns include the key.

        Args:
            scan: a scan, of this table or of others with the same key.
            shards: writes only the rows of these shards.

        Raises:
            DuplicateKeyError, SchemaError: as `write`.
        """
        from lakefeed.keyed.keyed_scan import Scan as KeyedScan

        if not isinstance(scan, KeyedScan):
            raise InvalidArgumentError(f"writeback takes a scan, got {scan!r:.80}")
        self.write(scan.with_keys().to_record_batches(shards=shards), push_down_nulls=True)

    def delete_keys(self, keys: Any) -> None:
        """Deletes the rows of these keys. Keys that the table lacks change nothing.

        Args:
            keys: rows as in `Table.write` with the key columns only. For a key of one column also a list of values.

        Raises:
            SchemaError: these are not the key columns.
            DuplicateKeyError: this transaction writes one of the keys.
        """
        self._require_open()
        schema, names = self._table.key_schema, self._changes.keys
        plan = plan_of_rows(_key_rows(keys, schema), schema, "delete_keys")
        if sorted(plan.schema.names) != sorted(names):
            raise SchemaError(
                f"delete_keys takes the key columns {list(names)} and no others, got columns {plan.schema.names}"
            )
        rows = LocalRunner(self._table.lake.settings).batches(Project(plan, names))
        with closing(rows):
            batch = one_batch(pa.Table.from_batches(list(rows), Project(plan, names).schema))
        check_keys_present(batch, names, 0)
        try:
            fitted = pa.Table.from_batches([batch]).cast(schema)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise TypeMismatchError(f"delete_keys: the keys do not fit {schema}: {error}") from None
        write_conflicts.check_deletes(self._changes, fitted)
        if fitted.num_rows:
            self._changes.deletes.append(fitted)

    def drop_columns(self, column_paths: Sequence[str]) -> None:
        """Drops columns, all or none of them. Older versions keep them.

        Args:
            column_paths: names of columns; dots lead into structs.

        Raises:
            ColumnNotFoundError: the table lacks one of them.
            SchemaError: one is a key column, or this transaction writes it.
        """
        self._require_open()
        paths = list_names(column_paths)
        if not paths or isinstance(column_paths, str):
            raise InvalidArgumentError(f"column_paths must be a list of column names, got {column_paths!r:.80}")
        write_conflicts.check_drops(self._changes, paths)
        unite_columns(self._table.lake.table(self._table.identifier), None, [*self._changes.dropped, *paths])
        self._changes.dropped += [path for path in paths if path not in self._changes.dropped]

    def compact(self) -> None:
        """Writes the rows that are there before the transaction again, as `Table.compact` does."""
        self._require_open()
        write_conflicts.check_compact(self._changes)
        self._changes.compact = True

    # ------------------------------------------------------------------ operations

    def take(self) -> list[Operation]:
        """Returns the changes as operations, for `include` in another process. The transaction is then unusable.

        The rows are in files that no version names yet. Garbage collections keep them, and files that they refer to,
        for seven days.
        """
        self._require_open()
        operations = self._operations()
        self._end("taken")
        return operations

    def include(self, ops: Sequence[Operation]) -> None:
        """Adds operations that `take` has returned, here or in another process: all of them, or none.

        Args:
            ops: the operations.

        Raises:
            InvalidArgumentError: an operation is of another table.
            CommitConflictError: an operation began at an older version than this transaction; see `Table.txn`.
            MissingFileError: a file is gone.
            DuplicateKeyError: a column is written twice for one key or one file, or a key is written and deleted.
            SchemaError: a column is written and dropped.
            TypeMismatchError: types do not fit together.
        """
        self._require_open()
        self._changes = write_conflicts.included(self._table.lake, self._base, self._changes, ops)

    def dump(self, txn_dump: str | Path) -> None:
        """Writes the changes to a file as operations, one a line of JSON. The transaction stays open.

        Args:
            txn_dump: the path of the file; one that exists is replaced.

        Raises:
            StorageError: the file cannot be written.
        """
        self._require_open()
        check_path(txn_dump, "txn_dump")
        write_dump(txn_dump, self._operations())

    @staticmethod
    def load_dumps(*txn_dump: str | Path) -> list[Operation]:
        """Returns the operations of dumps, each once.

        Args:
            txn_dump: the paths of the files.

        Raises:
            MissingFileError: a file does not exist.
            FormatError: a file is not a dump.
        """
        return load_dumps(txn_dump)

    def _operations(self) -> list[Operation]:
        return stage_changes(self._table.lake, self._base, self._changes)

    # ------------------------------------------------------------------ the end

    def commit(
        self, *, txn_dump: str | Path | None = None, compact: bool = False, idempotency_key: str | None = None
    ) -> Snapshot | None:
        """Makes the changes visible as one version.

        Args:
            txn_dump: first write the changes to this file, as `dump` does. If the commit fails, `load_dumps` has them.
            compact: also merge all files, as `compact` does.
            idempotency_key: if the table has a version with this key, that version is returned, for example that of a
                commit whose answer was lost.

        Returns:
            The new version; None if there is nothing to commit.

        Raises:
            CommitConflictError: other writers kept winning, or have changed the key. Nothing was written.
        """
        self._require_open()
        if idempotency_key is not None:
            self._writing = replace(
                self._writing, idempotency_key=Writing.of({"idempotency_key": idempotency_key}).idempotency_key
            )
        if check_flag(compact, "compact"):
            self.compact()
        if txn_dump is not None:
            self.dump(txn_dump)
        if self.is_empty() and self._writing.fence is None:
            self._end("committed")
            return None
        try:
            version = self._commit()
        except BaseException as error:
            self._end("aborted", error)
            raise
        unmark_staged(self._table.lake, self._changes.operation_ids)
        self._end("committed")
        return self._table.snapshot(version.version)

    def _commit(self) -> Any:
        lake = self._table.lake
        align_columns(lake, self._table.identifier)
        with write_context(lake) as alive:

            def before_commit() -> None:
                for check in (alive, *self._checks):
                    check()

            return edit(
                lake,
                self._table.identifier,
                self._changes.revise,
                **self._writing.action,
                before_commit=before_commit,
                decide=self._changes.decide,
            )

    def abort(self) -> None:
        """Forgets the changes. Nothing of them is visible."""
        self._require_open()
        self._end("aborted")

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._status != "open":
            return
        if kind is None:
            self.commit()
        else:
            self._end("aborted", error)

    def __repr__(self) -> str:
        return f"<Transaction {self._status} on {self._table.identifier!r}>"

    def _end(self, status: Status, error: BaseException | None = None) -> None:
        self._status = status
        self._changes = KeyedCommit(self._changes.settings, self._changes.name, self._changes.keys)
        self._files.__exit__(None if error is None else type(error), error, None)

    def _require_open(self) -> None:
        if self._status == "taken":
            raise InvalidArgumentError(
                "the operations of this transaction were taken; include them in another one, which txn() begins"
            )
        if self._status != "open":
            raise InvalidArgumentError(f"this transaction is {self._status}; begin another one with txn()")

    # ------------------------------------------------------------------ rows

    def _staged(self, plan: Node, pushed: bool) -> pa.Table:
        """Returns the rows with stored files, sorted by key, checked."""
        lake, keys = self._table.lake, self._changes.keys
        plan = self._with_files(plan)
        runner = LocalRunner(lake.settings)

        def checked() -> Iterator[pa.RecordBatch]:
            with closing(runner.batches(plan)) as batches:
                for first, batch in iterate(batches):
                    whole = push_down_nulls(batch) if pushed else batch
                    check_structs(whole, first)
                    check_keys_present(whole, keys, first)
                    yield whole

        rows = nested(spill(checked(), plan.schema, lake.settings.cache / "spill").table)
        if rows.nbytes * SORTED_IN_MEMORY <= lake.settings.sql.memory_bytes:
            ordered = pa.Table.from_batches([sorted_by_key(one_batch(rows), keys)])
        else:
            node = Sort.of(Scan(MemorySource(rows)), keys, False, lake.settings)
            ordered = spill(runner.batches(node), node.schema, lake.settings.cache / "spill").table
        given = one_batch(ordered.select(list(keys)))
        repeated = repeated_positions(key_arrays(given, keys))
        if len(repeated):
            raise repeated_keys(show_keys(given, keys, repeated), "the rows have keys")
        return ordered

    def _with_files(self, plan: Node) -> Node:
        """Returns the plan with records of stored files in its file columns."""
        lake, name, writing = self._table.lake, self._table.identifier, self._writing
        types = types_of_old(lake, plan, name)
        known = set(declared_schema(lake.table(name)).names)
        new = [each for each in plan.schema.names if each not in known]
        if new:
            fresh = Project(plan, tuple(new))
            given = self._column_types
            chosen = given if given is None or isinstance(given, str) else {k: v for k, v in given.items() if k in new}
            types |= typed_columns(fresh.schema) | choose_types(LocalRunner(lake.settings), fresh, chosen)
        if not types:
            return plan
        context = with_files(lake, plan, types, writing.copy_files, writing.stats, name)
        typed, check = self._files.enter_context(context)
        self._checks.append(check)
        return typed


def _key_rows(keys: Any, schema: pa.Schema) -> Any:
    """Returns the keys as rows; a list of plain values is a column."""
    plain = isinstance(keys, list | tuple | pa.Array | pa.ChunkedArray) and len(schema) == 1
    if plain and not isinstance(keys, pa.StructArray) and not (isinstance(keys, list | tuple) and _are_rows(keys)):
        try:
            return pa.table(
                {schema.names[0]: exact_array(keys, schema.types[0]) if isinstance(keys, list | tuple) else keys}
            )
        except (pa.ArrowInvalid, pa.ArrowTypeError, TypeError, OverflowError, ValueError) as error:
            raise SchemaError(f"delete_keys: {keys!r:.80} are not keys of type {schema.types[0]}: {error}") from None
    return keys


def _are_rows(keys: Sequence[Any]) -> bool:
    return bool(keys) and all(isinstance(each, dict) for each in keys)


def check_columns_exist(names: Sequence[str], schema: pa.Schema) -> None:
    """Checks that a schema has these columns.

    Raises:
        ColumnNotFoundError: it lacks one.
    """
    missing = [name for name in names if name not in schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, schema.names)
