"""Tasks of an enrichment: workers derive columns for parts of data files and write them into column files."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from pyiceberg.table import Table

from lakefeed.catalog.column_writer import write_column_file
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.staged_files import field_ids, remove_staged
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.compute.write_task import TableHandle
from lakefeed.errors import TransformError
from lakefeed.keyed.column_operations import values_in_groups
from lakefeed.keyed.enrichment_commit import FileColumns, pinned
from lakefeed.keyed.key_ranges import KeyRange
from lakefeed.keyed.pinned_table import PinnedTable
from lakefeed.keyed.projections import Tree
from lakefeed.keyed.scan_reader import ScanReader
from lakefeed.keyed.transaction_operations import Operation
from lakefeed.sources.iceberg_source import IcebergSource

Groups: TypeAlias = tuple[int, int]
"""The first row group of a part of a data file, and the one after its last."""


@dataclass(frozen=True)
class FilePart:
    """Row groups of a data file.

    Attributes:
        file: the data file.
        groups: the row groups.
        rows: the number of rows.
    """

    file: DataFileRef
    groups: Groups
    rows: int


@dataclass(frozen=True)
class DerivedPart:
    """The values of a part of a data file.

    Attributes:
        path: the data file.
        groups: the row groups.
        inputs: the column files that were read.
        operation: the column file; None if the part is a whole file without a row that was chosen.
        has_rows: a row was chosen.
    """

    path: str
    groups: Groups
    inputs: tuple[str, ...]
    operation: Operation | None
    has_rows: bool


@dataclass(frozen=True)
class FailedPart:
    """A part whose values could not be derived, and the error."""

    path: str
    groups: Groups
    error: Exception


@dataclass(frozen=True)
class EnrichmentPlan:
    """The columns to derive, for workers.

    Attributes:
        lake: the lake.
        handle: the table, with the new columns.
        base: the name, the version and the schema of the table whose rows get the columns.
        keys: the key columns.
        others: the states of the other tables.
        tree: the columns.
        where: the condition.
        names: the names of the columns.
        ranges: the ranges of the keys of rows to derive values for; None for all.
        always: column files are written even if no row is chosen.
    """

    lake: Lake
    handle: TableHandle
    base: tuple[str, DatasetVersion, int]
    keys: tuple[str, ...]
    others: tuple[dict[str, Any], ...]
    tree: Tree
    where: str | None
    names: tuple[str, ...]
    ranges: tuple[KeyRange, ...] | None
    always: bool

    def open(self) -> tuple[ScanReader, Table]:
        """Returns the reader and the table."""
        name, version, schema_id = self.base
        table = self.handle.open(self.lake)
        source = IcebergSource.of(self.lake, name, table, version, schema_id=schema_id)
        empty = PinnedTable(self.lake, name, version, schema_id, self.keys)
        others = tuple(PinnedTable.resumed(self.lake, state) for state in self.others)
        tables = (pinned(empty, version, schema_id, source), *others)
        return ScanReader(tables, self.tree, self.where), table

    def operation(self, table: Table, file: DataFileRef, columns: FileColumns, written: Any) -> Operation:
        """Returns the operation of a column file."""
        name, version, _ = self.base
        return Operation(
            "column_files",
            name,
            str(table.metadata.table_uuid),
            version.version,
            columns.names,
            written.record_count,
            (written,),
            file.path,
            columns.inputs,
            field_ids(table.schema(), columns.names),
            columns.schema,
        )


@dataclass(frozen=True)
class DeriveTask:
    """Derives the columns for some parts of data files."""

    plan: EnrichmentPlan
    parts: tuple[FilePart, ...]

    def __call__(self) -> list[DerivedPart | FailedPart]:
        """Writes the column files. A task that runs twice writes two sets of files, of which one is used.

        An error ends the part that it occurs in; the other parts are derived.
        """
        reader, table = self.plan.open()
        return [self._part(reader, table, part) for part in self.parts]

    def _part(self, reader: ScanReader, table: Table, part: FilePart) -> DerivedPart | FailedPart:
        plan, (first, stop) = self.plan, part.groups
        columns = FileColumns(reader, table, part.file, plan.names, range(first, stop), plan.ranges)
        try:
            written = write_column_file(plan.lake, table, part.file.path, columns.names, columns.values)
        except Exception as error:  # noqa: BLE001 - of the user's functions: the caller raises it
            return FailedPart(part.file.path, part.groups, sendable(error))
        # The other parts of a file may have rows; then it needs all of them.
        if not columns.chosen and not plan.always and part.rows == part.file.rows:
            remove_staged(table, [written.file_path])
            return DerivedPart(part.file.path, part.groups, columns.inputs, None, has_rows=False)
        operation = plan.operation(table, part.file, columns, written)
        return DerivedPart(part.file.path, part.groups, columns.inputs, operation, columns.chosen > 0)


@dataclass(frozen=True)
class JoinTask:
    """Writes the column files of the parts of a data file into one."""

    plan: EnrichmentPlan
    file: DataFileRef
    operations: tuple[Operation, ...]

    def __call__(self) -> list[DerivedPart | FailedPart]:
        """Writes the column file."""
        reader, table = self.plan.open()
        columns = FileColumns(reader, table, self.file, self.plan.names)
        sizes = reader.base.source.group_sizes(self.file)
        try:
            written = write_column_file(
                self.plan.lake,
                table,
                self.file.path,
                columns.names,
                lambda: values_in_groups(table.io, sizes, self.operations, columns.schema),
            )
        except Exception as error:  # noqa: BLE001 - the caller raises it
            return [FailedPart(self.file.path, (0, len(sizes)), sendable(error))]
        operation = self.plan.operation(table, self.file, columns, written)
        return [DerivedPart(self.file.path, (0, len(sizes)), columns.inputs, operation, has_rows=True)]


def sendable(error: Exception) -> Exception:
    """Returns an error that another process can read."""
    try:
        pickle.loads(pickle.dumps(error))
    except Exception as reason:  # noqa: BLE001 - of any class
        return TransformError(f"{type(error).__name__}: {error} (the error cannot be sent: {reason!s:.80})")
    return error


def cut_parts(file: DataFileRef, sizes: Sequence[int], covered: Sequence[Groups], most_rows: int) -> list[FilePart]:
    """Returns the parts of a data file that are left, each of at most ``most_rows`` rows or one row group.

    Args:
        file: the data file.
        sizes: the numbers of rows of its row groups.
        covered: the row groups that are done.
        most_rows: the most rows of a part.
    """
    done = {group for first, stop in covered for group in range(first, stop)}
    parts: list[FilePart] = []
    first, rows = 0, 0
    for group in range(len(sizes) + 1):
        ends = group == len(sizes) or group in done
        if rows and (ends or rows + sizes[group] > most_rows):
            parts.append(FilePart(file, (first, group), rows))
            rows = 0
        if not rows:
            first = group
        rows += 0 if ends else sizes[group]
    return parts


def group_parts(parts: Sequence[FilePart], most_rows: int) -> list[tuple[FilePart, ...]]:
    """Returns the parts in groups of about ``most_rows`` rows at most."""
    groups: list[list[FilePart]] = []
    rows = 0
    for part in parts:
        if not groups or rows + part.rows > most_rows:
            groups.append([])
            rows = 0
        groups[-1].append(part)
        rows += part.rows
    return [tuple(group) for group in groups]
