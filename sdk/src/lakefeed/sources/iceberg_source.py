"""A version of a dataset in the lake, or what a range of versions added."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import chain
from typing import Any, Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed import sql
from lakefeed.catalog.compatibility import cast
from lakefeed.catalog.damaged_tables import intact
from lakefeed.catalog.delete_files import deleted_places, places_left
from lakefeed.catalog.deltas import Delta, added_rows, net_rows, removed_rows
from lakefeed.catalog.file_io import actual
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import declared_schema, snapshot_schema, storage_schema
from lakefeed.catalog.table_identity import gone, uuid_of
from lakefeed.catalog.version_files import DataFileRef, data_files
from lakefeed.catalog.version_numbers import number_of_snapshot
from lakefeed.catalog.versions import DatasetVersion, find, resolve
from lakefeed.errors import DamagedDatasetError, VersionNotFoundError
from lakefeed.expr import Expr, evaluate, rename, roots, to_iceberg
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.formats.row_filter import Selectivity
from lakefeed.plan import Fragment, Lineage, Origin, Plain, Pushdown, cut, projected
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.sources.column_projection import FileProjection, TableProjection
from lakefeed.sources.file_layout import FileLayout, columns_to_read

CACHED_PLANS = 16
CACHED_FRAGMENTS = 4096
CACHED_LAYOUTS = 64
UNPICKLED_ATTRIBUTES = ("table", "_odds", "_layouts", "_last_layout", "_planned_before", "_projection")
"""What a source is not pickled with."""


@dataclass(frozen=True)
class Since:
    """Only what changed after ``version`` (None: from the beginning) up to the version that is read.

    ``what``: rows that the versions in between "added" or "removed", commit by commit; or those that the last version
    has "gained" or "lost" against ``version``, whatever happened in between.
    """

    version: int | None
    what: Literal["added", "removed", "gained", "lost"] = "added"


@dataclass(frozen=True, eq=False)
class IcebergSource(Plain):
    """The rows of one snapshot in total row order: (version that wrote them, file within it, place in the file).

    ``schema_id``: read them as a schema of the table has it (None: as the snapshot's). Row groups are fragments.
    """

    lake: Lake
    name: str
    version: DatasetVersion
    since: Since | None = None
    schema_id: int | None = None

    @classmethod
    def of(
        cls,
        lake: Lake,
        name: str,
        table: Table,
        version: DatasetVersion,
        since: Since | None = None,
        schema_id: int | None = None,
    ) -> IcebergSource:
        """The source, with the metadata that the caller has just loaded."""
        source = cls(lake, name, version, since, schema_id)
        source.__dict__["table"] = table
        return source

    @classmethod
    def of_rows(cls, lake: Lake, name: str, table: Table, delta: Delta) -> IcebergSource:
        """The rows of a delta, under the columns of the current version."""
        source = cls.of(lake, name, table, resolve(table))
        source.__dict__["deltas"] = (delta,)
        return source

    @cached_property
    def table(self) -> Table:
        """The table's metadata; whatever it is now, the snapshot in it has not changed."""
        table = self.lake.table(self.name)
        if self._snapshot_id is not None and table.metadata.snapshot_by_id(self._snapshot_id) is None:
            raise self._gone()
        if self._snapshot_id is not None and self.since is not None:
            number = number_of_snapshot(table, self._snapshot_id)
            if number != self.version.version:
                raise VersionNotFoundError(
                    f"version {self.version.version} of {self.name!r} has the number {number} now, for another program "
                    "has expired older snapshots; say again since which version rows are to be read"
                )
        return table

    @property
    def _snapshot_id(self) -> int | None:
        """The snapshot; None for a table to which nothing was ever written."""
        return self.version.snapshot_id if self.version.version else None

    def _gone(self) -> VersionNotFoundError:
        return gone(self.lake, self.name, self.version)

    def _check_there(self) -> None:
        """Raises where a file is missing because the dataset was deleted, which may have been made again."""
        if not self.version.table_uuid or uuid_of(self.lake, self.name) != self.version.table_uuid:
            raise self._gone() from None

    @cached_property
    def schema(self) -> pa.Schema:
        return declared_schema(self.table, self._snapshot_id, self.schema_id)

    @cached_property
    def iceberg(self) -> Schema:
        """The schema as Iceberg has it."""
        of_snapshot = snapshot_schema(self.table, self._snapshot_id)
        return of_snapshot if self.schema_id is None else self.table.schemas()[self.schema_id]

    @property
    def identity(self) -> str:
        return f"{self.name}@v{self.version.version}#{self.version.snapshot_id}{self._variant}"

    @property
    def _variant(self) -> str:
        """Text for the rows and the columns of the snapshot that are read; empty for all of them as written."""
        since = "" if self.since is None else f"+since-v{self.since.version or 0}"
        if self.since is not None and self.since.what != "added":
            since += f"-{self.since.what}"
        return since if self._evolved is None else f"{since}+schema{self._evolved}"

    @property
    def _evolved(self) -> int | None:
        """The schema that is read, where the columns have changed since the version was written."""
        same = self._snapshot_id is not None and self.schema_id == self._schema_of_snapshot
        return None if same else self.schema_id

    @property
    def location(self) -> str:
        return self.name if self.since is None else f"{self.name}+since-v{self.since.version or 0}"

    @property
    def lineage(self) -> Lineage:
        origin = Origin(
            self.name,
            str(self.table.metadata.table_uuid),
            self.version.snapshot_id,
            self.version.version,
            None if self.since is None else self.since.version or 0,
            self._evolved,
        )
        return Lineage((origin,), {name: frozenset([(self.name, name)]) for name in self.schema.names})

    @property
    def immutable(self) -> bool:
        return True

    @property
    def mirror_key(self) -> str:
        return f"{self.name}/{self.version.snapshot_id}{self._variant}"

    @cached_property
    def _schema_of_snapshot(self) -> int:
        return snapshot_schema(self.table, self._snapshot_id).schema_id

    @cached_property
    def deltas(self) -> tuple[Delta, ...]:
        """What the rows are, commit by commit where a range of versions is read."""
        since, last = self.since, self.version.version
        if self._snapshot_id is None:
            return ()
        if since is None:
            return (Delta(data_files(self.lake, self.table, self._snapshot_id)),)
        if since.what == "added":
            return added_rows(self.table, since.version, last, self._snapshot)
        if since.what == "removed":
            return removed_rows(self.table, since.version, last, self._snapshot)
        older = find(self.table, since.version, self._snapshot) if since.version is not None else None
        return (net_rows(self.table, older, self._snapshot)[0 if since.what == "gained" else 1],)

    @property
    def _snapshot(self) -> Snapshot:
        found = self.table.metadata.snapshot_by_id(self.version.snapshot_id)
        if found is None:
            raise self._gone()
        return found

    @cached_property
    def files(self) -> tuple[DataFileRef, ...]:
        """The data files, in row order."""
        try:
            with intact(self.name):
                return tuple(chain.from_iterable(delta.files for delta in self.deltas))
        except DamagedDatasetError:
            self._check_there()
            raise

    @cached_property
    def kept(self) -> dict[int, NDArray[np.int64]]:
        """The places of the rows that count, for files (by index) of which others hold rows too; this reads them.

        Also for files of which rows were deleted by delete files; this reads only those.
        """
        found: dict[int, NDArray[np.int64]] = {}
        first = 0
        for delta in self.deltas:
            if delta.less:
                found.update(zip(range(first, first + len(delta.files)), self._less(delta), strict=True))
            first += len(delta.files)
        return {**self._undeleted(), **found}

    def _undeleted(self) -> dict[int, NDArray[np.int64]]:
        found = {}
        for snapshot_id in {file.deletes_in for file in self.files if file.deletes_in is not None}:
            snapshot = self.table.metadata.snapshot_by_id(snapshot_id)
            if snapshot is None:
                raise self._gone()
            deleted = deleted_places(self.table, snapshot)
            for index, file in enumerate(self.files):
                if file.deletes_in == snapshot_id and file.path in deleted:
                    found[index] = places_left(file.rows, file.sequence, deleted[file.path])
        return found

    @cached_property
    def _partial(self) -> bool:
        """Whether some rows of the files may not count."""
        return self._compared or any(file.has_deletes for file in self.files)

    def _rows_in(self, index: int, file: DataFileRef) -> int:
        return len(self.kept[index]) if self._partial and index in self.kept else file.rows

    @cached_property
    def _compared(self) -> bool:
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
        return None if self._compared else sum(self._rows_in(index, file) for index, file in enumerate(self.files))

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        # Places count before pruning, so a range and a predicate are not pushed together.
        hint = pushdown.predicate if pushdown.rows is None else None
        known = self._planned_before.get(hint) if hint is not None else None
        if known is not None:
            yield from known
            return
        found: list[Fragment] = []
        for index, file, start, stop in self._touched(pushdown):
            for fragment in self._cut(index, file, hint, start, stop):
                if len(found) <= CACHED_FRAGMENTS:
                    found.append(fragment)
                yield fragment
        if hint is not None and len(found) <= CACHED_FRAGMENTS:
            if len(self._planned_before) >= CACHED_PLANS:
                self._planned_before.clear()
            self._planned_before[hint] = tuple(found)

    @cached_property
    def _planned_before(self) -> dict[Expr, tuple[Fragment, ...]]:
        """The fragments in which a row may match, by predicate: a snapshot never changes, and epochs are many."""
        return {}

    def _touched(self, pushdown: Pushdown) -> Iterator[tuple[int, DataFileRef, int, int | None]]:
        """The files in which rows may be wanted, each with the range of its rows."""
        start, stop = pushdown.rows or (0, None)
        place = 0
        for index, file in self.matching(pushdown.predicate if pushdown.rows is None else None):
            if stop is not None and place >= stop:
                return
            rows = self._rows_in(index, file)
            if place + rows > start:
                yield index, file, max(start - place, 0), None if stop is None else stop - place
            place += rows

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        _, _, index = fragment.key
        return self._read(self.files[index], fragment, pushdown, self.kept.get(index) if self._partial else None)

    def _read(
        self, file: DataFileRef, fragment: Fragment, pushdown: Pushdown, kept: NDArray[np.int64] | None
    ) -> Iterator[pa.RecordBatch]:
        _, group, _ = fragment.key
        layout = self._layout(file, pushdown)
        if kept is None and (layout.selective or not pushdown.exact):
            where = layout.where(group)
            batches = self._file(file.path).read(group, layout.leaves, fragment.start, fragment.stop, where)
            return map(layout.fit, batches)
        if pushdown.exact:
            return self._selected(file, fragment, pushdown, kept)
        assert kept is not None, "the rows of a part of a file"
        batches = map(layout.fit, self._file(file.path).read(group, layout.leaves))
        return _take_sorted(batches, self._kept_in(file.path, group, kept)[fragment.start : fragment.stop])

    def _selected(
        self, file: DataFileRef, fragment: Fragment, pushdown: Pushdown, kept: NDArray[np.int64] | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows for which the predicate is true, found after they were read."""
        predicate, names = pushdown.predicate, projected(self.schema, pushdown).names
        assert predicate is not None
        wider = replace(pushdown, columns=columns_to_read(self.schema, pushdown), exact=False)
        for batch in self._read(file, fragment, wider, kept):
            yield filter_by_mask(batch.select(names), evaluate(predicate, batch))

    def rows_of(
        self, file: DataFileRef, columns: tuple[str, ...] | None = None, predicate: Expr | None = None
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """All rows of one file, in batches with the place of their first row; without groups that cannot match."""
        pushdown = Pushdown(columns)
        for fragment in self._groups(0, file, predicate):
            place = int(self._span(file.path, fragment.key[1])[0])
            for batch in self._read(file, fragment, pushdown, None):
                yield place, batch
                place += batch.num_rows

    def whole(self, file: DataFileRef) -> Iterator[pa.RecordBatch]:
        """All rows of one file."""
        return (batch for _, batch in self.rows_of(file))

    def describe(self, pushdown: Pushdown) -> str:
        since = "" if self.since is None else f" {self.since.what} since v{self.since.version or 0}"
        head = f"{self.name} v{self.version.version}{since} (snapshot {self.version.snapshot_id}"
        if self._compared:
            others = {file.path for delta in self.deltas for file in (*delta.less, *delta.moved)}
            return f"{head}, rows of {len(self.files)} files less those of {len(others)} others)"
        read = list(self._touched(pushdown))
        counts = [self._rows_in(index, file) for index, file in enumerate(self.files)]
        rows = sum((counts[i] if stop is None else min(stop, counts[i])) - start for i, _, start, stop in read)
        return f"{head}, {len(read)} of {len(self.files)} files, {rows} of {sum(counts)} rows)"

    def matching(self, predicate: Expr | None) -> Iterable[tuple[int, DataFileRef]]:
        """The files in which a row may match, with their indices."""
        whole = self.since is None and self._snapshot_id is not None
        row_filter = to_iceberg(predicate, self.iceberg) if predicate is not None and whole else None
        if row_filter is None:
            return enumerate(self.files)
        found = data_files(self.lake, self.table, self._snapshot_id, row_filter, self.iceberg)
        paths = {file.path for file in found}
        return ((index, file) for index, file in enumerate(self.files) if file.path in paths)

    def _cut(
        self, index: int, file: DataFileRef, predicate: Expr | None, start: int, stop: int | None
    ) -> Iterator[Fragment]:
        whole = None if (start, stop) == (0, None) else (start, stop)
        counted = self._partial and index in self.kept
        return cut(self._kept_fragments(index, file) if counted else self._groups(index, file, predicate), whole)

    def _groups(self, index: int, file: DataFileRef, predicate: Expr | None) -> Iterator[Fragment]:
        """The row groups of a file, without those in which no row can match."""
        footer = self._file(file.path).footer()
        for part in footer.groups(self._in_file(file, predicate)):
            yield Fragment((file.path, part.key, index), part.rows, part.size)

    def _in_file(self, file: DataFileRef, predicate: Expr | None) -> Expr | None:
        """The predicate with the names that its columns have in the file."""
        if predicate is None:
            return None
        names = self._columns(file).by_path
        return rename(predicate, {name: names[name] or f"\0{name}" for name in roots(predicate) if name in names})

    # ------------------------------------------------------------------ rows that others hold too

    def _less(self, delta: Delta) -> Iterator[NDArray[np.int64]]:
        """For each file of the delta, the places of the rows that are left."""
        less = self._comparable(delta.less)
        if delta.moved:
            gone = sql.subtract_rows(self.lake.settings, less, self._comparable(delta.moved))
            less = sql.QueryTable(less.schema, partial(_take_from_table, less, gone))
        left = sql.subtract_rows(self.lake.settings, self._comparable(delta.files), less)
        first = 0
        for file in delta.files:
            low, high = np.searchsorted(left, [first, first + file.rows])
            yield left[low:high] - first
            first += file.rows

    def _comparable(self, files: tuple[DataFileRef, ...]) -> sql.QueryTable:
        """Rows as they are stored: types that any engine can compare."""
        stored = storage_schema(self.schema)
        plain = IcebergSource.of(self.lake, self.name, self.table, self.version, None, self.schema_id)
        return sql.QueryTable(
            stored, lambda: (cast(batch, stored) for file in files for _, batch in plain.rows_of(file))
        )

    def _kept_fragments(self, index: int, file: DataFileRef) -> Iterator[Fragment]:
        for part in self._file(file.path).footer().groups(None):
            rows = len(self._kept_in(file.path, part.key, self.kept[index]))
            if rows:
                yield Fragment((file.path, part.key, index), rows, part.size)

    def _kept_in(self, path: str, group: int, kept: NDArray[np.int64]) -> NDArray[np.int64]:
        """Of places in a file those in one row group, counted from its first row."""
        begin, end = self._span(path, group)
        low, high = np.searchsorted(kept, [begin, end])
        return kept[low:high] - begin

    def _span(self, path: str, group: int) -> tuple[int, int]:
        """The places of the first row of a row group and of the first one after it."""
        footer = self._file(path).footer().metadata
        rows = [footer.row_group(number).num_rows for number in range(footer.num_row_groups)]
        return sum(rows[:group]), sum(rows[: group + 1])

    # ------------------------------------------------------------------ one file

    def _file(self, path: str) -> ParquetFile:
        io = self.table.io
        place, opener = actual(io, path), lambda _: io.new_input(path).open()
        return ParquetFile(place, opener, immutable=True, missing=self._check_there)

    @cached_property
    def _projection(self) -> TableProjection:
        return TableProjection(self.table, self.iceberg)

    def _columns(self, file: DataFileRef) -> FileProjection:
        return self._projection.columns(file, self._file(file.path).footer())

    def _layout(self, file: DataFileRef, pushdown: Pushdown) -> FileLayout:
        """How a file is read; of some it is known, because row groups are read one after the other, and epochs too."""
        last = self.__dict__.get("_last_layout")
        # A long predicate takes long to be hashed.
        if last is not None and last[0] == file.path and last[1] is pushdown:
            known: FileLayout = last[2]
            return known
        found = self._layouts.get((file.path, pushdown)) or self._new_layout(file, pushdown)
        self.__dict__["_last_layout"] = file.path, pushdown, found
        return found

    def _new_layout(self, file: DataFileRef, pushdown: Pushdown) -> FileLayout:
        odds = Selectivity() if pushdown.predicate is None else self._odds.setdefault(pushdown.predicate, Selectivity())
        found = FileLayout(self._columns(file), self.schema, pushdown, odds)
        if len(self._layouts) >= CACHED_LAYOUTS:
            self._layouts.clear()
        self._layouts[file.path, pushdown] = found
        return found

    @cached_property
    def _layouts(self) -> dict[tuple[str, Pushdown], FileLayout]:
        return {}

    @cached_property
    def _odds(self) -> dict[Expr, Selectivity]:
        return {}

    def __getstate__(self) -> dict[str, Any]:
        # The table holds connections; the files are kept, so that a worker need not plan again.
        return {name: value for name, value in self.__dict__.items() if name not in UNPICKLED_ATTRIBUTES}


def _take_from_table(rows: sql.QueryTable, places: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    return _take_sorted(iter(rows.batches()), places)


def _take_sorted(batches: Iterator[pa.RecordBatch], places: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """The rows at these places (sorted) of a stream."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(places, [start, start + batch.num_rows])
        if low < high:
            yield take_rows(batch, places[low:high] - start)
        start += batch.num_rows
