"""Values of columns in staged column files, as a part of a commit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from pyiceberg.io import FileIO
from pyiceberg.table import Table

from lakefeed.catalog.column_decisions import ColumnDecision
from lakefeed.catalog.column_files import has_column_files
from lakefeed.catalog.column_union import unite_columns, united_field
from lakefeed.catalog.compatibility import cast
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import field_ids, read_staged_rows
from lakefeed.catalog.versions import resolve
from lakefeed.errors import CommitConflictError, quoted_list
from lakefeed.keyed.transaction_operations import Operation
from lakefeed.ops import Scan
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.column_values import read_whole_rows
from lakefeed.run.column_writes import ColumnWrite, FileWrite
from lakefeed.run.rebatch import joined
from lakefeed.run.upsert import Match, Upsert
from lakefeed.sources.iceberg_source import IcebergSource
from lakefeed.sources.memory_source import MemorySource

NOTHING = np.empty(0, np.int64)


@dataclass(eq=False)
class StagedColumns:
    """The column files of one transaction.

    A column file is used as it is if its data file is still there. The values for a data file that was merged or
    written again are assigned by key; rows that were deleted or written meanwhile get none.

    Attributes:
        operations: the operations that name them.
    """

    operations: list[Operation] = field(default_factory=list)
    _schema_id: int = 0
    _moved: frozenset[str] = frozenset()

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(dict.fromkeys(name for each in self.operations for name in each.columns))

    def decide(self, table: Table, incoming: pa.Schema | None, dropped: Sequence[str]) -> ColumnDecision:
        """Returns the columns of the new version.

        Raises:
            CommitConflictError: another writer has dropped a column that was there at the base of an operation.
        """
        if not self.operations:
            return unite_columns(table, incoming, dropped)
        self._schema_id = table.metadata.current_schema_id
        fields = {} if incoming is None else {each.name: each for each in incoming}
        for operation in self.operations:
            for each in operation.schema or ():
                fields[each.name] = united_field(fields[each.name], each) if each.name in fields else each
        decided = unite_columns(table, pa.schema(list(fields.values())), dropped, in_column_files=self.names)
        before = {each.name: each.field_id for each in table.schema().fields}
        after = {each.name: each.field_id for each in decided.table.schema().fields}
        self._moved = frozenset(name for name in self.names if before.get(name, after[name]) != after[name])
        return decided

    def revise(self, draft: Draft, name: str, keys: tuple[str, ...]) -> None:
        """Adds the column files to the newest version."""
        if draft.table.metadata.current_snapshot() is None:
            return
        by_columns = sorted(self.operations, key=lambda each: each.columns)
        for columns, group in groupby(by_columns, key=lambda each: each.columns):
            self._revise(draft, name, keys, columns, list(group))

    def _revise(
        self, draft: Draft, name: str, keys: tuple[str, ...], columns: tuple[str, ...], operations: list[Operation]
    ) -> None:
        present = {file.path: file for file in draft.files}
        newest = IcebergSource.of(draft.lake, name, draft.table, resolve(draft.table), schema_id=self._schema_id)
        read_whole_rows(draft, newest)
        lost = [each for each in operations if each.base_file not in present]
        for each in operations:
            if each.base_file in present:
                use_column_file(draft, present[each.base_file], each)
        if not lost and not self._moved.intersection(columns):
            return
        covered = {each.base_file for each in operations}
        write = self._by_key(draft, name, keys, columns, lost)
        source = write.newest(draft)
        since = write.written_since(draft, source)
        for file in draft.files:
            if file.path not in covered:
                match = write.match(source, file, since) if lost else Match(NOTHING, NOTHING)
                if self._moved.intersection(columns) or len(match.places):
                    part = FileWrite(write, draft, source, file, match)
                    draft.set_columns(file, part.names, part.digest, part.groups)

    def _by_key(
        self, draft: Draft, name: str, keys: tuple[str, ...], columns: tuple[str, ...], lost: list[Operation]
    ) -> ColumnWrite:
        """Returns the values for data files that are gone, by key."""
        given = pa.schema([draft.schema.field(each) for each in columns])
        schema = pa.schema([*(draft.schema.field(key) for key in keys), *given])
        parts = [part for each in lost for part in self._keyed_values(draft, name, keys, each, schema)]
        rows = pa.Table.from_batches(parts, schema)
        base = min((each.base for each in lost), default=0)
        upsert = Upsert.of(draft.lake.settings, Scan(MemorySource(rows)), keys, draft.schema, compare=False)
        return ColumnWrite(name, keys, given, base, upsert, self._schema_id)

    def _keyed_values(
        self, draft: Draft, name: str, keys: tuple[str, ...], operation: Operation, schema: pa.Schema
    ) -> Iterator[pa.RecordBatch]:
        """Yields keys and values of the rows of a data file at the base of an operation."""
        source, file = file_at_base(draft.lake, draft.table, name, operation)
        deleted = deleted_positions(draft.table, file.path, file.deletes)
        values = _Rows(read_staged_rows(draft.table.io, operation.paths, operation.schema or pa.schema([])))
        for position, batch in source.numbered_batches(file, keys):
            stored = values.take(batch.num_rows)
            columns = [*batch.select(list(keys)).columns, *stored.columns]
            rows = pa.RecordBatch.from_arrays(columns, names=[*keys, *stored.schema.names])
            live = np.isin(position + np.arange(batch.num_rows), deleted, invert=True)
            yield cast(take_rows(rows, np.flatnonzero(live)).select(schema.names), schema)


def file_at_base(lake: Lake, table: Table, name: str, operation: Operation) -> tuple[IcebergSource, DataFileRef]:
    """Returns the data file of an operation in the version at which it began, with the source of that version.

    Raises:
        CommitConflictError: the version is gone.
    """
    try:
        source = IcebergSource.of(lake, name, table, resolve(table, operation.base))
        return source, next(each for each in source.files if each.path == operation.base_file)
    except (LookupError, StopIteration):
        raise CommitConflictError(
            f"version {operation.base} of {name!r}, from which columns {quoted_list(operation.columns)} were derived, "
            f"is gone, or has no file {operation.base_file}; derive them again"
        ) from None


def use_column_file(draft: Draft, file: DataFileRef, operation: Operation) -> None:
    """Adds the column file of an operation to a data file.

    Raises:
        CommitConflictError: another writer has written one of the columns meanwhile.
    """
    ids = {each.field_id: each.name for each in draft.table.schema().fields}
    newer = {
        ids[number]
        for each in file.columns
        if each.path not in operation.inputs
        for number in each.fields
        if ids.get(number) in operation.columns
    }
    if newer:
        raise CommitConflictError(
            f"another writer has written columns {quoted_list(sorted(newer))} of {file.path} since version "
            f"{operation.base}; nothing was written. Derive them again"
        )
    schema = pa.schema([draft.schema.field(name) for name in operation.columns])
    use_staged_columns(draft, file, [operation], schema)


def use_staged_columns(draft: Draft, file: DataFileRef, operations: Sequence[Operation], schema: pa.Schema) -> None:
    """Adds the values of column files that follow one another to a data file: one file as it is, if it fits.

    Args:
        draft: the changes.
        file: the data file.
        operations: the column files, in the order of the rows.
        schema: the columns.
    """
    first, names = operations[0], operations[0].columns
    fits = len(operations) == 1 and has_column_files(draft.table)
    if fits and field_ids(draft.table.schema(), names) == first.field_ids:
        draft.use_columns(file, names, first.files[0])
        return
    key = tuple(each.id for each in operations)
    draft.set_columns(file, names, key, partial(staged_groups, draft, file, operations, schema))


def staged_groups(
    draft: Draft, file: DataFileRef, operations: Sequence[Operation], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yields the values of column files, one batch for each row group of their data file."""
    source = IcebergSource.of(draft.lake, draft.table.name()[-1], draft.table, resolve(draft.table))
    yield from values_in_groups(draft.table.io, source.group_sizes(file), operations, schema)


def values_in_groups(
    io: FileIO, sizes: Sequence[int], operations: Sequence[Operation], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yields the values of column files in batches of these sizes."""
    values = _Rows(
        batch for each in operations for batch in read_staged_rows(io, each.paths, each.schema or pa.schema([]))
    )
    for rows in sizes:
        yield cast(values.take(rows), schema)


class _Rows:
    """Rows that are taken from batches in any numbers."""

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._rest: pa.RecordBatch | None = None

    def take(self, rows: int) -> pa.RecordBatch:
        """Returns the next rows."""
        parts: list[pa.RecordBatch] = []
        missing = rows
        while missing or not parts:
            if self._rest is None or not self._rest.num_rows:
                batch: Any = next(self._batches, None)
                if batch is None:
                    break
                self._rest = batch
            part = self._rest.slice(0, missing)
            self._rest = self._rest.slice(part.num_rows)
            parts.append(part)
            missing -= part.num_rows
        return joined(parts)
