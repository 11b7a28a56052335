"""The columns that an enrichment derives, file by file, as an edit of the newest version."""

from __future__ import annotations

from collections.abc import Iterator
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
from lakefeed.catalog.versions import resolve
from lakefeed.keyed.keyed_commit import overlay, partial_structs
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.column_values import columns_to_write, merge_values
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
    """

    reader: ScanReader
    required: bool = True
    _schema_id: int = 0
    _moved: frozenset[str] = field(default_factory=frozenset)

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
        self._moved = frozenset(name for name in self.names if before.get(name, after[name]) != after[name])
        return decided

    def revise(self, draft: Draft) -> None:
        """Derives the columns for the files of the newest version.

        Raises:
            NoRowsError: there are no rows.
        """
        chosen = False
        if draft.table.metadata.current_snapshot() is not None:
            version = resolve(draft.table)
            base = self.reader.base
            source = IcebergSource.of(draft.lake, base.name, draft.table, version, schema_id=self._schema_id)
            pinned = PinnedTable(base.lake, base.name, version, self._schema_id, base.keys)
            pinned.__dict__["source"] = source
            reader = replace(self.reader, tables=(pinned, *self.reader.tables[1:]))
            parts = [FileColumns(reader, draft, file, self.names) for file in draft.files]
            with_rows = [part for part in parts if part.has_rows()]
            chosen = bool(with_rows)
            for part in parts if self._moved and chosen else with_rows:
                part.write()
        if not chosen and self.required:
            raise NoRowsError


@dataclass(eq=False)
class FileColumns:
    """The derived columns of one file."""

    reader: ScanReader
    draft: Draft
    file: DataFileRef
    derived: tuple[str, ...]

    def has_rows(self) -> bool:
        """Returns whether a row of the file is chosen."""
        if self.reader.where is None and not self.file.has_deletes:
            return self.file.rows > 0
        return any(len(self.reader.chosen(self._live(position, rows)[1])) for position, rows in self._groups())

    def write(self) -> None:
        """Writes the columns into a column file."""
        self.draft.set_columns(self.file, self.names, self.names, self._values)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of the column file."""
        return columns_to_write(self.draft.table, self.file, self.derived)

    @cached_property
    def _stored(self) -> tuple[str, ...]:
        """Returns the columns whose stored values are needed."""
        present = set(self.reader.base.schema.names)
        return tuple(name for name in self.names if name in present)

    @cached_property
    def _schema(self) -> pa.Schema:
        return pa.schema([self.draft.schema.field(name) for name in self.names])

    def _groups(self) -> Iterator[tuple[int, pa.RecordBatch]]:
        wanted = {*self.reader.columns_to_derive, *self._stored}
        columns = tuple(name for name in self.reader.base.schema.names if name in wanted)
        for position, batches in self.reader.base.source.row_groups(self.file, columns):
            yield position, joined(batches)

    def _live(self, position: int, rows: pa.RecordBatch) -> tuple[np.ndarray, pa.RecordBatch]:
        """Returns the positions, in a row group, of the rows that are not deleted, and the rows."""
        positions = np.arange(rows.num_rows)
        if not self.file.has_deletes:
            return positions, rows
        deleted = deleted_positions(self.draft.table, self.file.path, self.file.deletes)
        live = np.flatnonzero(np.isin(positions + position, deleted, invert=True))
        return live, take_rows(rows, live)

    def _values(self) -> Iterator[pa.RecordBatch]:
        for position, rows in self._groups():
            live, present = self._live(position, rows)
            positions, values = self.reader.derive(present)
            yield self._merged(rows, live[positions], values)

    def _merged(self, rows: pa.RecordBatch, positions: np.ndarray, derived: pa.RecordBatch) -> pa.RecordBatch:
        """Returns the columns of all rows: the derived values at their positions, the stored ones elsewhere."""
        stored = rows.select(list(self._stored))
        if partial_structs(derived.schema, self._schema):
            old = take_rows(cast(stored, self._schema), positions)
            pairs = zip(derived.schema.names, derived.columns, strict=True)
            columns = {name: overlay(self._schema.field(name), new, old.column(name)) for name, new in pairs}
            derived = pa.RecordBatch.from_arrays(list(columns.values()), names=list(columns))
        return merge_values(stored, positions, derived, self._schema)
