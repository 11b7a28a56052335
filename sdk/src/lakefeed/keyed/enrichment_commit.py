"""The columns that an enrichment derives, file by file, as an edit of the newest version."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pyarrow as pa
from pyiceberg.table import Table

from lakefeed.catalog.column_decisions import ColumnDecision
from lakefeed.catalog.column_union import unite_columns
from lakefeed.catalog.compatibility import cast
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.versions import DatasetVersion, resolve
from lakefeed.keyed.column_operations import use_staged_columns
from lakefeed.keyed.key_ranges import KeyRange
from lakefeed.keyed.keyed_commit import overlay, partial_structs
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.transaction_operations import Operation
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.column_values import columns_to_write, merge_values, read_whole_rows
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource


class NoRowsError(Exception):
    """No row is chosen, so there is nothing to commit."""


@dataclass(eq=False)
class DerivedColumns:
    """The columns of one enrichment.

    Attributes:
        reader: the scan that derives the columns.
        required: the enrichment ends with `NoRowsError` if it has no rows.
        ranges: derives values for rows of these ranges of keys only; None for all.
        parts: the values that workers have derived, for each data file by its path.
    """

    reader: ScanReader
    required: bool = True
    ranges: tuple[KeyRange, ...] | None = None
    parts: dict[str, DerivedFile] = field(default_factory=dict)
    moved: frozenset[str] = field(default_factory=frozenset)
    _schema_id: int = 0

    @property
    def names(self) -> tuple[str, ...]:
        """The columns."""
        return tuple(self.reader.schema.names)

    def decide(self, table: Table) -> ColumnDecision:
        """Returns the columns of the new version."""
        self._schema_id = table.metadata.current_schema_id
        decided = unite_columns(table, self.reader.schema, in_column_files=self.names)
        before = {each.name: each.field_id for each in table.schema().fields}
        after = {each.name: each.field_id for each in decided.table.schema().fields}
        self.moved = frozenset(name for name in self.names if before.get(name, after[name]) != after[name])
        return decided

    def newest(self, lake: Lake, table: Table) -> ScanReader:
        """Returns the reader of the newest version of the table, in the columns as they were before `decide`."""
        version, base = resolve(table), self.reader.base
        source = IcebergSource.of(lake, base.name, table, version, schema_id=self._schema_id)
        return replace(self.reader, tables=(pinned(base, version, self._schema_id, source), *self.reader.tables[1:]))

    def revise(self, draft: Draft) -> None:
        """Derives the columns for the files of the newest version that workers have not derived them for.

        Raises:
            NoRowsError: there are no rows.
        """
        chosen = False
        if draft.table.metadata.current_snapshot() is not None:
            reader = self.newest(draft.lake, draft.table)
            read_whole_rows(draft, reader.base.source)
            files = [FileColumns(reader, draft.table, file, self.names, ranges=self.ranges) for file in draft.files]
            derived = {file.file.path: self._derived(file) for file in files}
            with_rows = [file for file in files if self._has_rows(file, derived[file.file.path])]
            chosen = bool(with_rows)
            for file in files if self.moved and chosen else with_rows:
                file.add_to(draft, derived[file.file.path])
        if not chosen and self.required:
            raise NoRowsError

    def _derived(self, file: FileColumns) -> DerivedFile | None:
        """Returns what workers have derived for a file; None if the values that they read have changed since."""
        derived = self.parts.get(file.file.path)
        if derived is None or derived.inputs != file.inputs:
            return None
        return derived if all(each.columns == file.names for each in derived.operations) else None

    def _has_rows(self, file: FileColumns, derived: DerivedFile | None) -> bool:
        return file.has_rows() if derived is None else derived.has_rows


@dataclass(frozen=True)
class DerivedFile:
    """The values that workers have derived for a data file.

    Attributes:
        inputs: the column files that were read.
        operations: the column files, in the order of the rows; none if there is nothing to write.
        has_rows: a row was chosen.
    """

    inputs: tuple[str, ...]
    operations: tuple[Operation, ...]
    has_rows: bool


def pinned(base: PinnedTable, version: DatasetVersion, schema_id: int, source: IcebergSource) -> PinnedTable:
    """Returns a version of a table with its source."""
    table = PinnedTable(base.lake, base.name, version, schema_id, base.keys)
    table.__dict__["source"] = source
    return table


@dataclass(eq=False)
class FileColumns:
    """The derived columns of one file, or of some of its row groups.

    Attributes:
        reader: derives the columns.
        table: the table, with the columns.
        file: the data file.
        derived: the columns.
        groups: the row groups; None for all.
        ranges: the ranges of the keys of rows to derive values for; None for all.
        chosen: the number of rows that `values` has derived values for.
    """

    reader: ScanReader
    table: Table
    file: DataFileRef
    derived: tuple[str, ...]
    groups: range | None = None
    ranges: tuple[KeyRange, ...] | None = None
    chosen: int = 0

    def has_rows(self) -> bool:
        """Returns whether a row of the file is chosen."""
        if self.reader.where is None and not self.file.has_deletes and self.ranges is None:
            return self.file.rows > 0
        return any(len(self._chosen(position, rows)[0]) for position, rows in self._groups())

    def add_to(self, draft: Draft, derived: DerivedFile | None) -> None:
        """Writes the columns into a column file, or uses the one that a worker has written."""
        if derived is None or not derived.operations:
            draft.set_columns(self.file, self.names, (self.names, self.inputs), self.values)
            return
        use_staged_columns(draft, self.file, derived.operations, self.schema)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of the column file."""
        return columns_to_write(self.table, self.file, self.derived)

    @cached_property
    def inputs(self) -> tuple[str, ...]:
        """The column files whose values are read."""
        read = {*self.reader.columns_to_derive, *self.names}
        ids = {each.field_id for each in self.table.schema().fields if each.name in read}
        return tuple(sorted(each.path for each in self.file.columns if each.fields & ids))

    @cached_property
    def _stored(self) -> tuple[str, ...]:
        """Returns the columns whose stored values are needed."""
        present = set(self.reader.base.schema.names)
        return tuple(name for name in self.names if name in present)

    @cached_property
    def schema(self) -> pa.Schema:
        """The types of the columns."""
        declared = declared_schema(self.table)
        return pa.schema([declared.field(name) for name in self.names])

    def _groups(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        wanted = {*self.reader.columns_to_derive, *self._stored, *(() if self.ranges is None else self.reader.keys)}
        columns = tuple(name for name in self.reader.base.schema.names if name in wanted)
        for position, batches in self.reader.base.source.row_groups(self.file, columns, self.groups):
            yield position, joined(batches)

    def _live(self, position: int, rows: pa.RecordBatch) -> tuple[np.ndarray, pa.RecordBatch]:
        """Returns the rows of a row group that are not deleted and in the ranges, with their positions in it."""
        live = np.ones(rows.num_rows, np.bool_)
        if self.file.has_deletes:
            deleted = deleted_positions(self.table, self.file.path, self.file.deletes)
            live = np.isin(np.arange(rows.num_rows) + position, deleted, invert=True)
        if self.ranges is not None:
            live &= in_ranges(self.ranges, rows, self.reader.keys)
        positions = np.flatnonzero(live)
        return positions, rows if len(positions) == rows.num_rows else take_rows(rows, positions)

    def _chosen(self, position: int, rows: pa.RecordBatch) -> tuple[np.ndarray, pa.RecordBatch]:
        live, present = self._live(position, rows)
        chosen = self.reader.chosen(present)
        return live[chosen], present

    def values(self) -> Iterator[pa.RecordBatch]:
        """Yields the values, one batch for each row group."""
        self.chosen = 0
        for position, rows in self._groups():
            live, present = self._live(position, rows)
            positions, values = self.reader.derive(present)
            self.chosen += len(positions)
            yield self._merged(rows, live[positions], values)

    def _merged(self, rows: pa.RecordBatch, positions: np.ndarray, derived: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the columns of all rows: the derived values at their positions, the stored ones elsewhere."""
        stored = rows.select(list(self._stored))
        if partial_structs(derived.schema, self.schema):
            old = take_rows(cast(stored, self.schema), positions)
            pairs = zip(derived.schema.names, derived.columns, strict=True)
            columns = {name: overlay(self.schema.field(name), new, old.column(name)) for name, new in pairs}
            derived = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        return merge_values(stored, positions, derived, self.schema)


def in_ranges(ranges: Sequence[KeyRange], rows: pa.RecordBatch, keys: Sequence[str]) -> np.ndarray:
    """Returns which rows are in one of the ranges of keys."""
    inside = np.zeros(rows.num_rows, np.bool_)
    for each in ranges:
        mask = each.mask(rows, keys)
        if mask is None:
            return np.ones(rows.num_rows, np.bool_)
        inside |= mask.to_numpy(zero_copy_only=False)
    return inside
