"""Writes of columns by key: the values go into column files, and the rows stay as they are."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakefeed.catalog.column_decisions import ColumnDecision
from lakefeed.catalog.column_union import unite_columns
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.versions import DatasetVersion, resolve
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError
from lakefeed.ops import Project, Scan
from lakefeed.plan import Node
from lakefeed.run.column_alignment import align_columns
from lakefeed.run.column_values import columns_to_write, merge_values, read_whole_rows
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.rebatch import joined
from lakefeed.run.save import Writing
from lakefeed.run.upsert import Match, Upsert
from lakefeed.run.write_context import write_context
from lakefeed.sources.iceberg_source import IcebergSource, Since

Positions = NDArray[np.int64]


def write_columns(
    lake: Lake, plan: Node, name: str, columns: tuple[str, ...], version: int, writing: Writing
) -> DatasetVersion:
    """Writes values of columns for the rows with the keys of a plan, which was derived from a version.

    A row that was deleted since gets no value, and a row that was written since keeps the value that it has.

    Args:
        lake: the lake.
        plan: the key columns and the columns. Other columns are not written.
        name: the dataset, which has a key.
        columns: the columns.
        version: the version that the values were derived from.
        writing: how to write.

    Returns:
        The new version; the newest one if no row gets a value and there is no fence.

    Raises:
        InvalidArgumentError: the dataset has no key.
        ColumnNotFoundError: the plan lacks a key column, or one of the columns.
        DuplicateKeyError, SchemaError: a key occurs twice, or is null.
        TypeMismatchError: a type does not fit that of the column.
    """
    keys = key_columns(lake.table(name))
    if not keys:
        raise InvalidArgumentError(f"{name!r} has no key, so nothing tells which row a value belongs to")
    missing = [each for each in (*keys, *columns) if each not in plan.schema.names]
    if missing:
        raise ColumnNotFoundError.of(missing, plan.schema.names, f"the columns to write to {name!r}")
    align_columns(lake, name)
    target = declared_schema(lake.table(name))
    given = pa.schema([plan.schema.field(each) for each in columns])
    write = ColumnWrite(name, keys, given, version, Upsert(lake.settings, plan, keys, target, compare=False))
    with write_context(lake) as before_commit:
        return edit(lake, name, write.revise, **writing.action, before_commit=before_commit, decide=write.decide)


@dataclass(eq=False)
class ColumnWrite:
    """The values to write, and what is known of files, which never change."""

    name: str
    keys: tuple[str, ...]
    given: pa.Schema
    version: int
    rows: Upsert
    _schema_id: int = 0
    _moved: bool = False
    _matches: dict[str, Match] = field(default_factory=dict)

    def decide(self, table: Table) -> ColumnDecision:
        """Returns the columns of the new version."""
        self._schema_id = table.metadata.current_schema_id
        if not self.rows.rows.num_rows:
            return unite_columns(table, None)
        decided = unite_columns(table, self.given, in_column_files=self.given.names)
        before = {each.name: each.field_id for each in table.schema().fields}
        after = {each.name: each.field_id for each in decided.table.schema().fields}
        self._moved = any(before.get(name, after[name]) != after[name] for name in self.given.names)
        return decided

    def revise(self, draft: Draft) -> None:
        """Writes the values into column files of the newest version."""
        if not self.rows.rows.num_rows or draft.table.metadata.current_snapshot() is None:
            return
        source = self.newest(draft)
        read_whole_rows(draft, source)
        written_since = self.written_since(draft, source)
        for file in draft.files:
            match = self.match(source, file, written_since)
            if self._moved or len(match.places):
                columns = FileWrite(self, draft, source, file, match)
                draft.set_columns(file, columns.names, columns.digest, columns.groups)

    def values(self, positions: Positions) -> pa.RecordBatch:
        """Returns the values of the given rows at these positions."""
        if not len(positions):
            return pa.RecordBatch.from_pylist([], schema=self.given)
        return self.rows.given_rows(positions, tuple(self.given.names))

    def match(self, source: IcebergSource, file: DataFileRef, written_since: Positions) -> Match:
        """Returns the rows of a file that get values."""
        if file.path not in self._matches:
            self._matches[file.path] = self.rows.look_into(source, file)
        match = self._matches[file.path]
        deleted = deleted_positions(source.table, file.path, file.deletes)
        return match.only(
            np.isin(match.places, deleted, invert=True) & np.isin(match.given, written_since, invert=True)
        )

    def newest(self, draft: Draft) -> IcebergSource:
        """Returns the source of the newest version."""
        newest = resolve(draft.table)
        return IcebergSource.of(draft.lake, self.name, draft.table, newest, schema_id=self._schema_id)

    def written_since(self, draft: Draft, source: IcebergSource) -> Positions:
        """Returns the positions, among the given rows, of keys that were written after the version."""
        if source.version.version <= self.version:
            return np.empty(0, np.int64)
        since = IcebergSource.of(
            draft.lake, self.name, draft.table, source.version, Since(self.version), self._schema_id
        )
        plan = Project(Scan(since), self.keys)
        with closing(LocalRunner(draft.lake.settings).batches(plan)) as batches:
            return self.rows.given_keys(batches)


@dataclass(eq=False)
class FileWrite:
    """The values to write for one file."""

    write: ColumnWrite
    draft: Draft
    source: IcebergSource
    file: DataFileRef
    match: Match

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The columns of the column file."""
        return columns_to_write(self.draft.table, self.file, self.write.given.names)

    @property
    def digest(self) -> bytes:
        """Tells the values from others for the file."""
        return hashlib.sha256(self.match.places.tobytes() + self.match.given.tobytes()).digest()

    def groups(self) -> Iterator[pa.RecordBatch]:
        """Yields the values, one batch for each row group."""
        schema = pa.schema([self.draft.schema.field(name) for name in self.names])
        stored = tuple(name for name in self.source.schema.names if name in self.names)
        order = np.argsort(self.match.places, kind="stable")
        places, given = self.match.places[order], self.match.given[order]
        for place, batches in self.source.row_groups(self.file, stored or self.write.keys[:1]):
            rows = joined(batches)
            low, high = np.searchsorted(places, [place, place + rows.num_rows])
            new = self.write.values(given[low:high])
            yield merge_values(rows.select(list(stored)), places[low:high] - place, new, schema)
