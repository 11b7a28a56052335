"""A source of a version of a dataset in the lake, or of the changes in a range of versions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed import sql
from lakefeed.catalog import (
    column_files,
    column_rules,
    damaged_tables,
    deltas,
    file_bounds,
    schema,
    table_identity,
    version_files,
    version_numbers,
    versions,
)
from lakefeed.catalog.compatibility import cast
from lakefeed.catalog.file_access import LocalAccess, TableAccess
from lakefeed.catalog.file_refs import DataFileRef, Delta, Positions, RowSelection
from lakefeed.catalog.properties import FIRST_NAME
from lakefeed.catalog.scan_plan import ScanPlan
from lakefeed.catalog.table_columns import with_former_ids
from lakefeed.errors import DamagedDatasetError, VersionNotFoundError
from lakefeed.expr import Bounds, Expr
from lakefeed.plan import Fragment, Lineage, Origin, PlainSource, Pushdown, cut_fragments
from lakefeed.sources.data_file_reader import DataFileReader

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from lakefeed.catalog.lake import Lake
    from lakefeed.catalog.plan_cache import PlanKey
    from lakefeed.catalog.table_columns import TableColumns
    from lakefeed.catalog.versions import DatasetVersion

CACHED_PLANS = 16
CACHED_FRAGMENTS = 4096
UNPICKLED_ATTRIBUTES = ("table", "_reader", "_planned_fragments")
"""The attributes that are not pickled."""


@dataclass(frozen=True)
class Since:
    """Restricts a source to the changes after ``version`` (None: from the beginning) up to the version that is read.

    ``change``: "added" or "removed" are the rows that each version in between added or removed. "gained" or "lost" are
    the rows that the last version has more or less than ``version``, regardless of the versions in between.
    """

    version: int | None
    change: Literal["added", "removed", "gained", "lost"] = "added"


@dataclass(frozen=True, eq=False)
class IcebergSource(PlainSource):
    """The rows of one snapshot in total row order: (version that wrote them, file within it, position in the file).

    ``schema_id``: the schema of the table in which rows are read (None: that of the snapshot). ``plan_key``: the key
    under which the plan of the scan is cached (None: it is not). Row groups are fragments.
    """

    lake: Lake
    name: str
    version: DatasetVersion
    since: Since | None = None
    schema_id: int | None = None
    plan_key: PlanKey | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        lake: Lake,
        name: str,
        table: Table,
        version: DatasetVersion,
        since: Since | None = None,
        schema_id: int | None = None,
        plan_key: PlanKey | None = None,
    ) -> IcebergSource:
        """Returns the source with table metadata that the caller has just loaded."""
        source = cls(lake, name, version, since, schema_id, plan_key)
        source.__dict__.update(table=table, first_name=table.properties.get(FIRST_NAME, name))
        return source

    @classmethod
    def of_plan(cls, lake: Lake, name: str, plan: ScanPlan, access: LocalAccess) -> IcebergSource:
        """Returns the source of a cached plan. It loads the table only for what the plan does not have."""
        source = cls(lake, name, plan.version, None, plan.schema_id)
        source.__dict__.update(columns=plan.columns, deltas=(Delta(plan.files),), local_access=access)
        source.__dict__["first_name"] = name if plan.first_name is None else plan.first_name
        return source

    @classmethod
    def of_delta(cls, lake: Lake, name: str, table: Table, delta: Delta) -> IcebergSource:
        """Returns the source of a delta, with the columns of the current version."""
        source = cls.of(lake, name, table, versions.resolve(table))
        source.__dict__["deltas"] = (delta,)
        return source

    @cached_property
    def table(self) -> Table:
        """Returns the table's metadata. It may be newer than the snapshot, which never changes."""
        table = self.lake.table(self.name)
        if self._snapshot_id is not None and table.metadata.snapshot_by_id(self._snapshot_id) is None:
            raise self._gone_error()
        if self._snapshot_id is not None and self.since is not None:
            number = version_numbers.number_of_snapshot(table, self._snapshot_id)
            if number != self.version.version:
                raise VersionNotFoundError(
                    f"version {self.version.version} of {self.name!r} has the number {number} now, for another program "
                    "has expired older snapshots; say again since which version rows are to be read"
                )
        return table

    @property
    def _snapshot_id(self) -> int | None:
        """Returns the snapshot; None for a table without any."""
        return self.version.snapshot_id if self.version.version else None

    def _gone_error(self) -> VersionNotFoundError:
        return table_identity.missing_version_error(self.lake, self.name, self.version)

    @cached_property
    def _reader(self) -> DataFileReader:
        check = partial(_check_exists, self.lake, self.name, self.version)
        return DataFileReader(self.name, self.local_access or TableAccess(self.table.io), self.columns, check)

    @cached_property
    def local_access(self) -> LocalAccess | None:
        """Returns the access to files without the table; None if the table opens them."""
        return None

    @cached_property
    def columns(self) -> TableColumns:
        """Returns the columns of the schema in which rows are read."""
        own, former = self._columns_of_versions
        return former if self.since is not None and self.since.change == "lost" else own

    @cached_property
    def _columns_of_versions(self) -> tuple[TableColumns, TableColumns]:
        """Returns the columns, and those by which files of the version are read that it is compared with."""
        own, since = column_rules.table_columns(self.table, self._snapshot_id, self.schema_id), self.since
        if since is None or since.version is None or since.change not in ("gained", "lost"):
            return own, own
        older = versions.find_snapshot(self.table, since.version, self._snapshot)
        return own, with_former_ids(own, column_rules.table_columns(self.table, older.snapshot_id, None))

    @property
    def schema(self) -> pa.Schema:
        return self.columns.declared

    @cached_property
    def iceberg(self) -> Schema:
        """Returns the Iceberg schema."""
        of_snapshot = schema.snapshot_schema(self.table, self._snapshot_id)
        return of_snapshot if self.schema_id is None else self.table.schemas()[self.schema_id]

    @property
    def identity(self) -> str:
        return f"{self.first_name}@v{self.version.version}#{self.version.snapshot_id}{self._variant}"

    @cached_property
    def first_name(self) -> str:
        """The first name of the dataset, so that states of loaders stay valid when it is renamed."""
        return self.table.properties.get(FIRST_NAME, self.name)

    @property
    def _variant(self) -> str:
        """Returns text for the restriction to changes and another schema; empty for the snapshot as written."""
        since = "" if self.since is None else f"+since-v{self.since.version or 0}"
        if self.since is not None and self.since.change != "added":
            since += f"-{self.since.change}"
        return since if self._changed_schema_id is None else f"{since}+schema{self._changed_schema_id}"

    @property
    def _changed_schema_id(self) -> int | None:
        """Returns the schema that is read, if the columns changed since the version was written."""
        same = self._snapshot_id is not None and self.schema_id == self.columns.schema_id
        return None if same else self.schema_id

    @property
    def location(self) -> str:
        return self.name if self.since is None else f"{self.name}+since-v{self.since.version or 0}"

    @property
    def lineage(self) -> Lineage:
        origin = Origin(
            self.name,
            self.version.table_uuid or str(self.table.metadata.table_uuid),
            self.version.snapshot_id,
            self.version.version,
            None if self.since is None else self.since.version or 0,
            self._changed_schema_id,
        )
        return Lineage((origin,), {name: frozenset([(self.name, name)]) for name in self.schema.names})

    @property
    def immutable(self) -> bool:
        return True

    @property
    def mirror_key(self) -> str:
        return f"{self.name}/{self.version.snapshot_id}{self._variant}"

    @cached_property
    def deltas(self) -> tuple[Delta, ...]:
        """Returns the deltas that make up the rows, one for each commit if a range of versions is read."""
        deltas_of_rows = self._deltas_of_rows()
        if not deltas_of_rows or self.since is None or self.since.change in ("gained", "lost"):
            return deltas_of_rows  # their files have the column files of their versions
        return version_files.with_last_columns_of(self.table, self._snapshot, deltas_of_rows)

    def _deltas_of_rows(self) -> tuple[Delta, ...]:
        since, last = self.since, self.version.version
        if self._snapshot_id is None:
            return ()
        if since is None:
            return (Delta(self._planned_files()),)
        if since.change == "added":
            return deltas.added_rows(self.table, since.version, last, self._snapshot)
        if since.change == "removed":
            return deltas.removed_rows(self.table, since.version, last, self._snapshot)
        older = versions.find_snapshot(self.table, since.version, self._snapshot) if since.version is not None else None
        return (deltas.net_rows(self.table, older, self._snapshot)[0 if since.change == "gained" else 1],)

    def _planned_files(self) -> tuple[DataFileRef, ...]:
        """Returns the data files of the snapshot, and caches the plan of the scan."""
        files = version_files.data_files(self.lake, self.table, self._snapshot_id)
        if self.plan_key is not None:
            plan = ScanPlan(self.version, self.schema_id, self.columns, files, self.first_name)
            self.lake.cache_plan(self.plan_key, plan, version_files.manifest_lists(self.table, self._snapshot))
        return files

    @property
    def _snapshot(self) -> Snapshot:
        snapshot = self.table.metadata.snapshot_by_id(self.version.snapshot_id)
        if snapshot is None:
            raise self._gone_error()
        return snapshot

    @cached_property
    def files(self) -> tuple[DataFileRef, ...]:
        """Returns the data files, in row order.

        Raises:
            DamagedDatasetError: metadata is lost or damaged.
            VersionNotFoundError: the version no longer exists.
        """
        try:
            with damaged_tables.damage_errors(self.name):
                return tuple(chain.from_iterable(delta.files for delta in self.deltas))
        except DamagedDatasetError:
            _check_exists(self.lake, self.name, self.version)
            raise

    @cached_property
    def row_selections(self) -> dict[int, RowSelection]:
        """Returns the rows that are read, by the index of files of which only some are.

        For deltas it compares the rows of files, so it reads them. For delete files it reads only these.
        """
        with_deletes = ((index, file) for index, file in enumerate(self.files) if file.has_deletes)
        selected = {index: self._reader.select_rows(file) for index, file in with_deletes}
        first = 0
        for delta in self.deltas:
            if delta.less:
                remaining = self._remaining_positions(delta)
                for index, (file, positions) in enumerate(zip(delta.files, remaining, strict=True), first):
                    selected[index] = RowSelection(file.rows, positions)
            first += len(delta.files)
        return selected

    @cached_property
    def _has_removed_rows(self) -> bool:
        """Returns whether rows of the files may have been removed."""
        return self._needs_comparison or any(file.has_deletes for file in self.files)

    def _selection(self, index: int) -> RowSelection | None:
        return self.row_selections.get(index) if self._has_removed_rows else None

    def _rows_in(self, index: int, file: DataFileRef) -> int:
        selection = self._selection(index)
        return file.rows if selection is None else len(selection)

    @cached_property
    def _needs_comparison(self) -> bool:
        return any(delta.less for delta in self.deltas)

    @property
    def exact_identity(self) -> bool:
        return True

    @property
    def ranged(self) -> bool:
        return True

    @property
    def nested(self) -> bool:
        return True

    @property
    def selective(self) -> bool:
        return True

    def count(self) -> int | None:
        return (
            None if self._needs_comparison else sum(self._rows_in(index, file) for index, file in enumerate(self.files))
        )

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Row positions count before pruning, so a range and a predicate cannot be pushed together.
        hint = pushdown.predicate if pushdown.rows is None else None
        cached = self._planned_fragments.get(hint) if hint is not None else None
        if cached is not None:
            yield from cached
            return
        planned: list[Fragment] = []
        for index, file, start, stop in self._files_to_read(pushdown):
            for fragment in self._cut_file(index, file, hint, start, stop):
                if len(planned) <= CACHED_FRAGMENTS:
                    planned.append(fragment)
                yield fragment
        if hint is not None and len(planned) <= CACHED_FRAGMENTS:
            if len(self._planned_fragments) >= CACHED_PLANS:
                self._planned_fragments.clear()
            self._planned_fragments[hint] = tuple(planned)

    @cached_property
    def _planned_fragments(self) -> dict[Expr, tuple[Fragment, ...]]:
        """Returns the cache of fragments by predicate; a snapshot never changes, and every epoch plans again."""
        return {}

    def _files_to_read(self, pushdown: Pushdown) -> Iterator[tuple[int, DataFileRef, int, int | None]]:
        """Yields the files in which rows may be wanted, each with its range of rows."""
        start, stop = pushdown.rows or (0, None)
        position = 0
        for index, file in self.matching_files(pushdown.predicate if pushdown.rows is None else None):
            if stop is not None and position >= stop:
                return
            rows = self._rows_in(index, file)
            if position + rows > start:
                yield index, file, max(start - position, 0), None if stop is None else stop - position
            position += rows

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        _, _, index = fragment.key
        return self._reader.read(self.files[index], fragment, pushdown, self._selection(index))

    def read_steps(self, fragment: Fragment, pushdown: Pushdown, *, deleted: bool = False) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one fragment like `read`, in the batches in which they are decoded, without a copy.

        With ``deleted``, rows that delete files list are included (see `live_mask`).
        """
        _, _, index = fragment.key
        selection = None if deleted else self._selection(index)
        return self._reader.read(self.files[index], fragment, pushdown, selection, steps=True)

    def live_mask(self, fragment: Fragment) -> NDArray[np.bool_] | None:
        """Returns which rows of a row group no delete file lists; None if it lists none of them."""
        path, group, index = fragment.key
        selection = self._selection(index)
        return None if selection is None else self._reader.selection_mask(path, group, selection)

    def numbered_batches(
        self,
        file: DataFileRef,
        columns: tuple[str, ...] | None = None,
        predicate: Expr | None = None,
        groups: frozenset[int] | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields all rows of one file in batches, each with the position of its first row.

        Rows that delete files list are included. With a predicate, row groups in which no row can match are skipped,
        and with ``groups``, all others.
        """
        return self._reader.numbered_batches(file, columns, predicate, groups)

    def row_groups(
        self, file: DataFileRef, columns: tuple[str, ...] | None = None, groups: range | None = None
    ) -> Iterator[tuple[int, list[pa.RecordBatch]]]:
        """Yields the rows of each row group of a file, with the position of the first row.

        Rows that delete files list are included. With ``groups``, other row groups are left out.
        """
        position = 0
        for fragment in self._reader.fragments(0, file, None):
            if groups is None or fragment.key[1] in groups:
                yield position, list(self._reader.read(file, fragment, Pushdown(columns)))
            assert fragment.rows is not None, "a row group knows its rows"
            position += fragment.rows

    def fragments_of_file(self, index: int, predicate: Expr | None) -> Iterator[Fragment]:
        """Yields the row groups of one file in which a row may match."""
        return self._cut_file(index, self.files[index], predicate, 0, None)

    def file_bounds(self, file: DataFileRef, column: str) -> Bounds:
        """Returns the bounds of a column in a file, as far as its manifest tells them. The file is not opened."""
        return file_bounds.file_bounds(file, self.iceberg.as_struct().field_by_name(column))

    def group_bounds(self, file: DataFileRef, column: str) -> list[Bounds]:
        """Returns the statistics of a column in each row group of a file."""
        return self._reader.column_bounds(file, column)

    def group_sizes(self, file: DataFileRef) -> list[int]:
        """Returns the numbers of rows of the row groups of a file."""
        return self._reader.group_sizes(file)

    def groups_of(self, file: DataFileRef, positions: Positions) -> frozenset[int]:
        """Returns the row groups of a file that have the rows at these positions."""
        return self._reader.groups_of(file, positions)

    def read_file(self, file: DataFileRef) -> Iterator[pa.RecordBatch]:
        """Yields all rows of one file, including those that delete files list."""
        return (batch for _, batch in self.numbered_batches(file))

    def live_batches(self, file: DataFileRef) -> Iterator[pa.RecordBatch]:
        """Yields the rows of one file without those that delete files list."""
        if not file.has_deletes:
            return self.read_file(file)
        selection = self._reader.select_rows(file)
        fragments = self._reader.fragments(0, file, None, selection)
        return (batch for each in fragments for batch in self._reader.read(file, each, Pushdown(), selection))

    def describe(self, pushdown: Pushdown) -> str:
        since = "" if self.since is None else f" {self.since.change} since v{self.since.version or 0}"
        head = f"{self.name} v{self.version.version}{since} (snapshot {self.version.snapshot_id}"
        if self._needs_comparison:
            others = {file.path for delta in self.deltas for file in (*delta.less, *delta.moved)}
            return f"{head}, rows of {len(self.files)} files less those of {len(others)} others)"
        read = list(self._files_to_read(pushdown))
        counts = [self._rows_in(index, file) for index, file in enumerate(self.files)]
        rows = sum((counts[i] if stop is None else min(stop, counts[i])) - start for i, _, start, stop in read)
        return f"{head}, {len(read)} of {len(self.files)} files, {rows} of {sum(counts)} rows)"

    def matching_files(self, predicate: Expr | None) -> Iterable[tuple[int, DataFileRef]]:
        """Returns the files in which a row may match, with their indices."""
        if predicate is None or self.since is not None or self._snapshot_id is None:
            return enumerate(self.files)
        from lakefeed.expr.to_iceberg import to_iceberg

        row_filter = to_iceberg(predicate, self.iceberg)
        if row_filter is None:
            return enumerate(self.files)
        matching = version_files.data_files(self.lake, self.table, self._snapshot_id, row_filter, self.iceberg)
        paths = {file.path for file in matching}
        return ((index, file) for index, file in enumerate(self.files) if file.path in paths)

    def _cut_file(
        self, index: int, file: DataFileRef, predicate: Expr | None, start: int, stop: int | None
    ) -> Iterator[Fragment]:
        whole = None if (start, stop) == (0, None) else (start, stop)
        return cut_fragments(self._reader.fragments(index, file, predicate, self._selection(index)), whole)

    def _remaining_positions(self, delta: Delta) -> Iterator[Positions]:
        """Yields the positions of the remaining rows for each file of the delta."""
        from lakefeed.sql.file_difference import remaining_positions

        own, former = self._columns_of_versions
        less = own if self.columns is former else former
        rows_of, less_of = (partial(self._comparable_rows, each) for each in (self.columns, less))
        return remaining_positions(self.lake.settings, self.table, delta, rows_of, less_of)

    def _comparable_rows(self, columns: TableColumns, files: tuple[DataFileRef, ...]) -> sql.QueryTable:
        """Returns rows in their storage types, which every engine can compare."""
        stored = schema.storage_schema(self.schema)
        plain = IcebergSource.of(self.lake, self.name, self.table, self.version, None, self.schema_id)
        plain.__dict__["columns"] = columns
        return sql.QueryTable(
            stored, lambda: (cast(batch, stored) for file in files for batch in plain.live_batches(file))
        )

    def __getstate__(self) -> dict[str, Any]:
        # The table holds connections. The files are pickled, so that workers need not plan again.
        return {name: value for name, value in self.__dict__.items() if name not in UNPICKLED_ATTRIBUTES}


def _check_exists(lake: Lake, name: str, version: DatasetVersion) -> None:
    """Raises an error if the dataset was deleted, or the version has expired, so that files are missing."""
    table = lake.table(name)
    snapshot = table.metadata.snapshot_by_id(version.snapshot_id) if version.version else None
    same = str(table.metadata.table_uuid) == version.table_uuid
    if not same or (version.version and snapshot is None):
        raise table_identity.missing_version_error(lake, name, version) from None
    if snapshot is not None:
        column_files.require_column_snapshot(table, snapshot)
