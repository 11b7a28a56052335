"""`WriteTask`: a worker runs one part of a plan and writes its files. No table names them before the commit."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import NamedTuple

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata, TableMetadataUtil

from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_rows import write_prefixed_files
from lakefeed.media.cell_sources import CopyFiles
from lakefeed.plan.walk import FlatNode, rebuild
from lakefeed.run.guarded_steps import guard_of
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.row_errors import RowErrors
from lakefeed.run.step_chain import SkippedRows
from lakefeed.run.write_context import with_files_of_part


class WriteResult(NamedTuple):
    """The files that a worker wrote, and their rows; with guarded steps, the rows on which they raised.

    ``skipped``: the report of the rows that steps left out.
    """

    files: tuple[DataFile, ...]
    rows: int
    objects: tuple[str, ...] = ()
    errors: RowErrors | None = None
    skipped: tuple[int, tuple[str, ...]] = (0, ())


@dataclass(frozen=True)
class TableHandle:
    """A serializable reference to a table."""

    identifier: tuple[str, ...]
    metadata: str
    location: str

    @classmethod
    def of(cls, table: Table, snapshots: Collection[int] = ()) -> TableHandle:
        """Returns the reference; of the snapshots it has those with the ids ``snapshots``."""
        # Its history is not needed, and may be long.
        some = [each for each in table.metadata.snapshots if each.snapshot_id in snapshots]
        refs = {name: ref for name, ref in table.metadata.refs.items() if ref.snapshot_id in snapshots}
        history: dict[str, object] = {"snapshots": some, "snapshot_log": [], "metadata_log": [], "refs": refs}
        current = table.metadata.current_snapshot_id if refs else None
        bare: TableMetadata = table.metadata.model_copy(update={**history, "current_snapshot_id": current})
        return cls(tuple(table.name()), bare.model_dump_json(), str(table.metadata_location))

    def open(self, lake: Lake) -> Table:
        metadata = TableMetadataUtil.parse_raw(self.metadata)
        io = open_io(lake.catalog.properties, metadata.properties, self.location)
        return Table(self.identifier, metadata, self.location, io, lake.catalog)


@dataclass(frozen=True)
class WriteTask:
    """Writes the rows of ``plan`` as files of a table, with names that begin with ``prefix``."""

    lake: Lake
    plan: list[FlatNode]
    table: TableHandle
    declared: pa.Schema
    prefix: str
    types: Mapping[str, str]
    copy: CopyFiles
    stats: bool

    def __call__(self) -> WriteResult:
        """Writes the files. A task that runs twice writes two sets of files, of which one is used."""
        table, plan = self.table.open(self.lake), rebuild(self.plan)
        name = table.name()[-1]
        prefix, guard = f"{self.prefix}-{uuid.uuid4().hex[:8]}", guard_of(plan)
        skipped = SkippedRows() if guard is None else guard.errors.skipped
        if guard is not None:
            guard.errors.clear()
        with (
            with_files_of_part(self.lake, plan, self.types, self.copy, self.stats, name) as (typed, objects),
            closing(LocalRunner(self.lake.settings, skipped=skipped).batches(typed)) as batches,
        ):
            files = write_prefixed_files(self.lake, table, self.declared, prefix, batches)
        rows, errors = sum(file.record_count for file in files), None if guard is None else guard.errors
        return WriteResult(tuple(files), rows, tuple(sorted(objects())), errors, skipped.report())
