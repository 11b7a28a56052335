"""The reader of the data files of a table: row groups, layouts and rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed.catalog import column_files, position_lists
from lakefeed.catalog.file_access import FileAccess
from lakefeed.catalog.file_refs import DataFileRef, Positions, RowSelection
from lakefeed.catalog.table_columns import TableColumns, field_id
from lakefeed.errors import DamagedDatasetError
from lakefeed.expr import Bounds, Expr, evaluate, rename, roots
from lakefeed.formats.parquet_format import ParquetFile
from lakefeed.formats.row_filter import Selectivity
from lakefeed.plan import Fragment, Pushdown, project_schema
from lakefeed.plan.take_rows import filter_by_mask, take_rows, take_sorted
from lakefeed.sources.column_projection import TableProjection
from lakefeed.sources.file_layout import FileLayout, columns_to_read

CACHED_LAYOUTS = 64
CACHED_FILES = 4_096


@dataclass(frozen=True)
class SplitColumns:
    """The files that have the wanted columns of a data file and its column files.

    Attributes:
        first: files with columns that the predicate reads; all if there is no predicate.
        later: files with the other columns, which are read only if a row matches.
        schema: all of these columns.
        decisive: those that the predicate reads.
        names: the columns that are delivered.
    """

    first: list[tuple[DataFileRef, Pushdown]]
    later: list[tuple[DataFileRef, Pushdown]]
    schema: pa.Schema
    decisive: pa.Schema
    names: list[str]


def _divided(names: tuple[str, ...], decisive: set[str]) -> list[tuple[str, ...]]:
    """Returns the names of the decisive columns, and those of the others, where there are any."""
    parts = tuple(name for name in names if name in decisive), tuple(name for name in names if name not in decisive)
    return [part for part in parts if part]


class DataFileReader:
    """Reads the data files of a table in one of its schemas.

    ``name`` is that of the dataset, for messages, and ``columns`` are those of the schema. ``check_exists`` is called
    when a file is missing, and raises an error if the table was deleted. Thread-safe.
    """

    def __init__(self, name: str, access: FileAccess, columns: TableColumns, check_exists: Callable[[], None]) -> None:
        self._name, self._columns = name, columns
        self._access, self._schema, self._check_exists = access, columns.declared, check_exists
        self._projection = TableProjection(columns)
        self._layouts: dict[tuple[str, Pushdown], FileLayout] = {}
        self._last_layouts: dict[str, tuple[Pushdown, FileLayout]] = {}
        self._files: dict[str, ParquetFile] = {}
        self._last_split: tuple[DataFileRef, Pushdown, SplitColumns | None] | None = None
        self._selectivities: dict[Expr, Selectivity] = {}

    def fragments(
        self, index: int, file: DataFileRef, predicate: Expr | None, selection: RowSelection | None = None
    ) -> Iterator[Fragment]:
        """Yields the row groups of a file (with its index in the source) in which a selected row may match."""
        matching = self._matching_in_columns(file, predicate)
        for part in self._open(file.path).footer().groups(self._file_predicate(file, predicate)):
            rows = part.rows
            if matching is not None and part.key not in matching:
                continue
            if selection is not None:
                rows = selection.count(*self._group_range(file.path, part.key))
                if not rows:
                    continue
            yield Fragment((file.path, part.key, index), rows, part.size + self._column_bytes(file, part.key))

    def read(
        self,
        file: DataFileRef,
        fragment: Fragment,
        pushdown: Pushdown,
        selection: RowSelection | None = None,
        *,
        steps: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Reads the selected rows of a fragment.

        Args:
            file: the file.
            fragment: the fragment.
            pushdown: the columns, and the condition.
            selection: the rows of the file that are selected; None for all.
            steps: yields batches as they are decoded. Otherwise a row group without unselected rows is one batch.
        """
        if file.columns or file.unaligned:
            split = self._split(file, pushdown)
            if split is not None:
                return self._read_parts(split, fragment, pushdown, selection, steps)
        _, group, _ = fragment.key
        layout = self._layout(file, pushdown)
        begin, end = (0, 0) if selection is None else self._group_range(file.path, group)
        if selection is not None and selection.count(begin, end) == end - begin:
            selection = None
        if selection is None and (layout.selective or not pushdown.exact):
            row_filter = layout.row_filter(group)
            batches = self._open(file.path).read(
                group, layout.leaves, fragment.start, fragment.stop, row_filter, steps=steps
            )
            return map(layout.cast, batches)
        whole = not fragment.start and fragment.stop in (None, fragment.rows)
        if selection is not None and layout.selective and whole:
            row_filter = layout.row_filter(group)
            if row_filter is not None:
                there = replace(row_filter, positions=selection.within(begin, end))
                return map(layout.cast, self._open(file.path).read(group, layout.leaves, where=there))
        elif pushdown.exact:
            return self._read_matching(file, fragment, pushdown, selection, steps)
        assert selection is not None, "only some rows of the file remain"
        most = whole and 2 * selection.count(begin, end) > end - begin
        batches = map(layout.cast, self._open(file.path).read(group, layout.leaves, steps=steps or not most))
        if most:
            return take_most(batches, selection.mask(begin, end))
        return take_sorted(batches, selection.within(begin, end)[fragment.start : fragment.stop])

    # ------------------------------------------------------------------ column files

    @cached_property
    def _column_ids(self) -> Mapping[str, int]:
        """Returns the ids of the columns, by name."""
        return {each.name: field_id(each) or 0 for each in self._columns.stored}

    def _split(self, file: DataFileRef, pushdown: Pushdown) -> SplitColumns | None:
        """Returns the files that have the wanted columns; None if one file has all. The last answer is kept.

        Raises:
            UnsupportedError: a column is in column files, and the rows are not assigned to them.
        """
        last = self._last_split
        if last is not None and last[0] is file and last[1] is pushdown:
            return last[2]
        wanted = columns_to_read(self._schema, pushdown)
        names = tuple(self._schema.names) if wanted is None else wanted
        if file.unaligned and not self._columns.in_column_files.isdisjoint(self._column_ids[name] for name in names):
            raise column_files.unaligned_error(self._name)
        decisive = set(names)
        if pushdown.exact and pushdown.predicate is not None:
            decisive &= roots(pushdown.predicate)
        parts: list[tuple[DataFileRef, Pushdown]] = []
        elsewhere: set[str] = set()
        plain = replace(pushdown, predicate=None, exact=False)
        files = [(DataFileRef(each.path, each.rows, each.size, each.sequence), each.fields) for each in file.columns]
        for part, fields in files:
            inside = tuple(name for name in names if self._column_ids[name] in fields)
            elsewhere |= set(inside)
            parts += [(part, replace(plain, columns=each)) for each in _divided(inside, decisive)]
        split = None
        if elsewhere:
            rest = tuple(name for name in names if name not in elsewhere)
            own = replace(file, columns=())
            parts = [(own, replace(plain, columns=each)) for each in _divided(rest, decisive)] + parts
            first = [part for part in parts if decisive.issuperset(part[1].columns or ())]
            later = [part for part in parts if not decisive.issuperset(part[1].columns or ())]
            schema = project_schema(self._schema, replace(pushdown, columns=wanted))
            read_first = pa.schema([field for field in schema if field.name in decisive])
            split = SplitColumns(first, later, schema, read_first, project_schema(self._schema, pushdown).names)
        self._last_split = file, pushdown, split
        return split

    def _read_parts(
        self,
        split: SplitColumns,
        fragment: Fragment,
        pushdown: Pushdown,
        selection: RowSelection | None,
        steps: bool,
    ) -> Iterator[pa.RecordBatch]:
        """Yields the selected rows of a fragment whose columns are in several files."""

        def stream(part: tuple[DataFileRef, Pushdown]) -> Iterator[pa.RecordBatch]:
            return self.read(part[0], fragment, part[1], selection, steps=steps)

        predicate, names, streams = pushdown.predicate, split.names, [stream(part) for part in split.first]
        exact = predicate is not None and pushdown.exact
        if predicate is not None and exact and split.first and split.later:
            known = list(side_by_side(streams, split.decisive))
            masks: Iterator[Any] = (evaluate(predicate, batch) for batch in known)
            if not any(mask.true_count for mask in masks):
                return
            streams = [iter(known)]
        streams += [stream(part) for part in split.later]
        for batch in side_by_side(streams, split.schema):
            if predicate is None or not exact:
                yield batch if batch.schema.names == names else batch.select(names)
            else:
                yield filter_by_mask(batch.select(names), evaluate(predicate, batch))

    def _matching_in_columns(self, file: DataFileRef, predicate: Expr | None) -> frozenset[int] | None:
        """Returns the row groups in which a row may match by the statistics of the column files; None for all."""
        if predicate is None or not file.columns:
            return None
        matching: frozenset[int] | None = None
        for each in file.columns:
            part = DataFileRef(each.path, each.rows, each.size, each.sequence)
            newer = frozenset(self._column_ids.values()) - each.fields
            inside = self._open(each.path).footer().groups(self._file_predicate(part, predicate, newer))
            groups = frozenset(group.key for group in inside)
            matching = groups if matching is None else matching & groups
        return matching

    def _column_bytes(self, file: DataFileRef, group: int) -> int:
        """Returns the decoded bytes of the columns of a row group that are in column files."""
        metadata = (self._open(each.path).footer().metadata for each in file.columns)
        return sum(each.row_group(group).total_byte_size for each in metadata)

    # ------------------------------------------------------------------ one file

    def _read_matching(
        self, file: DataFileRef, fragment: Fragment, pushdown: Pushdown, selection: RowSelection | None, steps: bool
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows for which the predicate is true, evaluated after they are read."""
        predicate, names = pushdown.predicate, project_schema(self._schema, pushdown).names
        assert predicate is not None
        wider = replace(pushdown, columns=columns_to_read(self._schema, pushdown), exact=False)
        for batch in self.read(file, fragment, wider, selection, steps=steps):
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

    def group_sizes(self, file: DataFileRef) -> list[int]:
        """Returns the numbers of rows of the row groups of a file."""
        metadata = self._open(file.path).footer().metadata
        return [metadata.row_group(index).num_rows for index in range(metadata.num_row_groups)]

    def groups_of(self, file: DataFileRef, positions: Positions) -> frozenset[int]:
        """Returns the row groups of a file that have the rows at these positions."""
        starts = self._open(file.path).footer().starts
        return frozenset((np.unique(np.searchsorted(starts, positions, side="right")) - 1).tolist())

    def select_rows(self, file: DataFileRef) -> RowSelection:
        """Returns the rows of a data file that are read. Reads only its delete files.

        Raises:
            DamagedDatasetError: a delete file is missing or invalid.
        """
        try:
            return position_lists.PositionLists(self._access, self._name.rpartition(".")[2]).select_rows(file)
        except DamagedDatasetError:
            self._check_exists()
            raise

    def _open(self, path: str) -> ParquetFile:
        file = self._files.get(path)
        if file is None:
            access = self._access
            location, missing = access.actual(path), self._check_exists
            file = ParquetFile(location, lambda _: access.open(path), immutable=True, missing=missing)
            if len(self._files) >= CACHED_FILES:
                self._files.clear()
            self._files[path] = file
        return file

    def _file_predicate(
        self, file: DataFileRef, predicate: Expr | None, elsewhere: frozenset[int] = frozenset()
    ) -> Expr | None:
        """Returns the predicate with the column names of the file. Columns whose values are elsewhere get no name."""
        if predicate is None:
            return None
        names = dict(self._projection.columns(file, self._open(file.path).footer()).by_path)
        newer = elsewhere.union(*(each.fields for each in file.columns))
        if newer:
            names |= {name: None for name, number in self._column_ids.items() if number in newer}
        return rename(predicate, {name: names[name] or f"\0{name}" for name in roots(predicate) if name in names})

    def selection_mask(self, path: str, group: int, selection: RowSelection) -> NDArray[np.bool_] | None:
        """Returns which rows of a row group are selected; None if all are."""
        begin, end = self._group_range(path, group)
        return None if selection.count(begin, end) == end - begin else selection.mask(begin, end)

    def _group_range(self, path: str, group: int) -> tuple[int, int]:
        """Returns the positions of the first row of a row group and of the first row after it."""
        starts = self._open(path).footer().starts
        return starts[group], starts[group + 1]

    def _layout(self, file: DataFileRef, pushdown: Pushdown) -> FileLayout:
        """Returns the layout of a file, cached because every row group and epoch needs it."""
        last = self._last_layouts.get(file.path)
        # Hashing a long predicate is slow.
        if last is not None and last[0] is pushdown:
            return last[1]
        layout = self._layouts.get((file.path, pushdown)) or self._new_layout(file, pushdown)
        if len(self._last_layouts) >= CACHED_LAYOUTS:
            self._last_layouts.clear()
        self._last_layouts[file.path] = pushdown, layout
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


def side_by_side(streams: Sequence[Iterator[pa.RecordBatch]], schema: pa.Schema) -> Iterator[pa.RecordBatch]:
    """Yields the columns of streams that have equally many rows, in the order of a schema."""
    held, names = [next(stream, None) for stream in streams], schema.names
    while held[0] is not None:
        rows = min(batch.num_rows for batch in held if batch is not None)
        columns: dict[str, pa.Array[Any]] = {}
        for place, batch in enumerate(held):
            assert batch is not None, "a column file has as many rows as its data file"
            whole = rows == batch.num_rows
            columns |= zip(batch.schema.names, (batch if whole else batch.slice(0, rows)).columns, strict=True)
            held[place] = next(streams[place], None) if whole else batch.slice(rows)
        yield pa.RecordBatch.from_arrays([columns[name] for name in names], schema=schema)
    assert all(batch is None for batch in held), "a column file has as many rows as its data file"


def take_most(batches: Iterator[pa.RecordBatch], mask: NDArray[np.bool_]) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a stream for which the mask is true. It is fast where most rows are taken."""
    wanted, start = pa.array(mask), 0
    for batch in batches:
        if any(map(pa.types.is_nested, batch.schema.types)):
            yield take_rows(batch, np.flatnonzero(mask[start : start + batch.num_rows]))
        else:
            yield filter_by_mask(batch, wanted.slice(start, batch.num_rows))
        start += batch.num_rows
