"""The reader of the data files of a table: row groups, layouts and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from lakefeed.catalog.delete_files import Positions, RowSelection
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.version_files import DataFileRef
from lakefeed.expr import Bounds, Expr, evaluate, rename, roots
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.formats.row_filter import Selectivity
from lakefeed.plan import Fragment, Pushdown, project_schema
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.sources.column_projection import TableProjection
from lakefeed.sources.file_layout import FileLayout, columns_to_read

CACHED_LAYOUTS = 64


class DataFileReader:
    """Reads the data files of a table in one of its schemas.

    ``iceberg`` and ``schema`` are that schema in Iceberg and in Arrow. ``check_exists`` is called when a file is
    missing, and raises an error if the table was deleted. Thread-safe.
    """

    def __init__(self, table: Table, iceberg: Schema, schema: pa.Schema, check_exists: Callable[[], None]) -> None:
        self._io, self._schema, self._check_exists = table.io, schema, check_exists
        self._projection = TableProjection(table, iceberg)
        self._layouts: dict[tuple[str, Pushdown], FileLayout] = {}
        self._last_layout: tuple[str, Pushdown, FileLayout] | None = None
        self._selectivities: dict[Expr, Selectivity] = {}

    def fragments(
        self, index: int, file: DataFileRef, predicate: Expr | None, selection: RowSelection | None = None
    ) -> Iterator[Fragment]:
        """Yields the row groups of a file (with its index in the source) in which a selected row may match."""
        for part in self._open(file.path).footer().groups(self._file_predicate(file, predicate)):
            rows = part.rows
            if selection is not None:
                rows = selection.count(*self._group_range(file.path, part.key))
                if not rows:
                    continue
            yield Fragment((file.path, part.key, index), rows, part.size)

    def read(
        self, file: DataFileRef, fragment: Fragment, pushdown: Pushdown, selection: RowSelection | None = None
    ) -> Iterator[pa.RecordBatch]:
        """Reads the selected rows of a fragment; ``selection`` (None: all) is of the file."""
        _, group, _ = fragment.key
        layout = self._layout(file, pushdown)
        positions = None if selection is None else self._positions_in_group(file.path, group, selection)
        if positions is None and (layout.selective or not pushdown.exact):
            row_filter = layout.row_filter(group)
            batches = self._open(file.path).read(group, layout.leaves, fragment.start, fragment.stop, row_filter)
            return map(layout.cast, batches)
        whole = not fragment.start and fragment.stop in (None, fragment.rows)
        if positions is not None and layout.selective and whole:
            row_filter = layout.row_filter(group)
            if row_filter is not None:
                there = replace(row_filter, positions=positions)
                return map(layout.cast, self._open(file.path).read(group, layout.leaves, where=there))
        elif pushdown.exact:
            return self._read_matching(file, fragment, pushdown, selection)
        assert positions is not None, "only some rows of the file remain"
        batches = map(layout.cast, self._open(file.path).read(group, layout.leaves))
        return take_sorted(batches, positions[fragment.start : fragment.stop])

    def _read_matching(
        self, file: DataFileRef, fragment: Fragment, pushdown: Pushdown, selection: RowSelection | None
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows for which the predicate is true, evaluated after they are read."""
        predicate, names = pushdown.predicate, project_schema(self._schema, pushdown).names
        assert predicate is not None
        wider = replace(pushdown, columns=columns_to_read(self._schema, pushdown), exact=False)
        for batch in self.read(file, fragment, wider, selection):
            yield filter_by_mask(batch.select(names), evaluate(predicate, batch))

    def numbered_batches(
        self,
        file: DataFileRef,
        columns: tuple[str, ...] | None,
        predicate: Expr | None,
        groups: frozenset[int] | None = None,
    ) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Yields the rows of the row groups in which a row may match, with the position of the first row."""
        pushdown = Pushdown(columns)
        for fragment in self.fragments(0, file, predicate):
            if groups is not None and fragment.key[1] not in groups:
                continue
            position = int(self._group_range(file.path, fragment.key[1])[0])
            for batch in self.read(file, fragment, pushdown):
                yield position, batch
                position += batch.num_rows

    def column_bounds(self, file: DataFileRef, column: str) -> list[Bounds]:
        """Returns the statistics of a column in each row group of a file."""
        footer = self._open(file.path).footer()
        name = self._projection.columns(file, footer).by_path.get(column)
        bounds = footer.bounds((name,)) if name is not None else None
        return [Bounds()] * footer.metadata.num_row_groups if bounds is None else bounds

    def groups_of(self, file: DataFileRef, positions: Positions) -> frozenset[int]:
        """Returns the row groups of a file that have the rows at these positions."""
        starts = self._open(file.path).footer().starts
        return frozenset((np.unique(np.searchsorted(starts, positions, side="right")) - 1).tolist())

    def _open(self, path: str) -> ParquetFile:
        io = self._io
        location, opener = actual_location(io, path), lambda _: io.new_input(path).open()
        return ParquetFile(location, opener, immutable=True, missing=self._check_exists)

    def _file_predicate(self, file: DataFileRef, predicate: Expr | None) -> Expr | None:
        """Returns the predicate with the column names of the file."""
        if predicate is None:
            return None
        names = self._projection.columns(file, self._open(file.path).footer()).by_path
        return rename(predicate, {name: names[name] or f"\0{name}" for name in roots(predicate) if name in names})

    def _positions_in_group(self, path: str, group: int, selection: RowSelection) -> Positions | None:
        """Returns the selected positions in a row group, relative to its first row; None if all are."""
        begin, end = self._group_range(path, group)
        return None if selection.count(begin, end) == end - begin else selection.within(begin, end)

    def _group_range(self, path: str, group: int) -> tuple[int, int]:
        """Returns the positions of the first row of a row group and of the first row after it."""
        starts = self._open(path).footer().starts
        return starts[group], starts[group + 1]

    def _layout(self, file: DataFileRef, pushdown: Pushdown) -> FileLayout:
        """Returns the layout of a file, cached because every row group and epoch needs it."""
        last = self._last_layout
        # Hashing a long predicate is slow.
        if last is not None and last[0] == file.path and last[1] is pushdown:
            return last[2]
        layout = self._layouts.get((file.path, pushdown)) or self._new_layout(file, pushdown)
        self._last_layout = file.path, pushdown, layout
        return layout

    def _new_layout(self, file: DataFileRef, pushdown: Pushdown) -> FileLayout:
        predicate = pushdown.predicate
        selectivity = Selectivity() if predicate is None else self._selectivities.setdefault(predicate, Selectivity())
        columns = self._projection.columns(file, self._open(file.path).footer())
        layout = FileLayout(columns, self._schema, pushdown, selectivity)
        if len(self._layouts) >= CACHED_LAYOUTS:
            self._layouts.clear()
        self._layouts[file.path, pushdown] = layout
        return layout


def take_sorted(batches: Iterator[pa.RecordBatch], positions: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a stream at sorted positions."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(positions, [start, start + batch.num_rows])
        if high - low == batch.num_rows:
            yield batch
        elif low < high:
            yield take_rows(batch, positions[low:high] - start)
        start += batch.num_rows
