"""The keys of the rows that changed between two versions, and the rows of which a column file changed a value."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.table import Table

from lakefeed.catalog.compatibility import cast_to_storage
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.schema import snapshot_schema, storage_schema
from lakefeed.catalog.table_columns import field_id
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.touched_files import PatchedFile, touched_files
from lakefeed.catalog.versions import resolve, version_of
from lakefeed.errors import InvalidArgumentError, SchemaError
from lakefeed.ops import Project, Scan
from lakefeed.plan.equality import equal_values
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.local_runner import LocalRunner
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource


def touched_keys(
    lake: Lake, name: str, from_version: int | None, to_version: int | None = None, columns: Sequence[str] | None = None
) -> Iterator[pa.RecordBatch]:
    """Yields the keys of the rows that differ between two versions of a keyed table, for example to refresh an index.

    To refresh an index, remove the entries of these keys, look the keys up in ``to_version``, and add the rows that
    are there. Rows that were added, removed or written again are told whichever column they changed; rows of which
    column files (an enrichment, or a write of derived columns) changed a value are told exactly. A key may come more
    than once. Merges, compactions and versions without changes tell nothing. Only the files that changed are read: of
    added and removed rows the key, of column files ``columns``.

    Args:
        lake: the lake.
        name: the table.
        from_version: the older version, exclusive; None tells the keys of all rows.
        to_version: the newer version, inclusive; None for the newest.
        columns: the columns that matter; None for all. One that ``to_version`` lacks is ignored.

    Yields:
        Batches of the key columns of ``to_version``, in the order of the key schema.

    Raises:
        InvalidArgumentError: the dataset has no key, or ``from_version`` is newer than ``to_version``.
        VersionNotFoundError: a version does not exist, or has expired; then build the index anew.
        UnsupportedError: a version has equality deletes of another program, or its column files are not aligned.
    """
    table = lake.table(name)
    keys = key_columns(table)
    if not keys:
        raise InvalidArgumentError(f"{name!r} has no key, so nothing tells which rows changed; see Dataset.added_since")
    touched = touched_files(table, from_version, to_version)
    if not touched:
        return
    version = resolve(table, to_version)
    schema_id = table.metadata.current_schema_id
    if to_version is not None:
        schema_id = snapshot_schema(table, version.snapshot_id).schema_id
    keys = key_columns(table, table.schemas()[schema_id])
    runner = LocalRunner(lake.settings)
    for delta in (*touched.gained, *touched.lost):
        source = IcebergSource.of(lake, name, table, version, None, schema_id)
        source.__dict__["deltas"] = (delta,)
        with closing(runner.batches(Project(Scan(source), keys))) as batches:
            yield from (batch for batch in batches if batch.num_rows)
    for patched in touched.patched:
        yield from PatchedRows(lake, name, table, patched, schema_id, columns).keys(keys)


def count_patched_rows(source: IcebergSource, patched: Iterable[PatchedFile]) -> int:
    """Returns the number of rows of which column files changed a value. Reads only the changed columns.

    Args:
        source: the newer version, with the columns that are compared.
        patched: the files with other column files.
    """
    number = source.iceberg.schema_id
    return sum(PatchedRows(source.lake, source.name, source.table, each, number).count() for each in patched)


@dataclass(frozen=True, eq=False)
class PatchedRows:
    """The rows of a file with other column files than before.

    Attributes:
        lake: the lake.
        name: the dataset.
        table: the table.
        patched: the file.
        schema_id: the Iceberg schema with the columns that are compared.
        columns: the columns that are compared; None for all.
    """

    lake: Lake
    name: str
    table: Table
    patched: PatchedFile
    schema_id: int
    columns: Sequence[str] | None = None

    @cached_property
    def _older(self) -> IcebergSource:
        return IcebergSource.of(self.lake, self.name, self.table, version_of(self.patched.older, self.table))

    @cached_property
    def _newer(self) -> IcebergSource:
        version = version_of(self.patched.newer, self.table)
        return IcebergSource.of(self.lake, self.name, self.table, version, None, self.schema_id)

    @cached_property
    def _pairs(self) -> list[tuple[str | None, str]]:
        """Returns the compared columns: the name in the older version, if it has the column, and in the newer one."""
        older = self._older.columns.stored
        by_id, by_name = {field_id(each): each for each in older}, {each.name: each for each in older}
        before, after = _column_paths(self.patched.before), _column_paths(self.patched.after)
        pairs: list[tuple[str | None, str]] = []
        for each in self._newer.columns.stored:
            number = field_id(each)
            old = by_id.get(number) or by_name.get(each.name)
            same = old is not None and (field_id(old), before.get(field_id(old))) == (number, after.get(number))
            if not same and (self.columns is None or each.name in self.columns):
                pairs.append((None if old is None else old.name, each.name))
        return pairs

    def count(self) -> int:
        """Returns the number of rows of which a value changed."""
        return sum(len(positions) for _, positions in self._changed_positions())

    def keys(self, keys: tuple[str, ...]) -> Iterator[pa.RecordBatch]:
        """Yields the keys of the rows of which a value changed."""
        groups = self._newer.row_groups(self.patched.after, keys)
        for (_, batches), (_, positions) in zip(groups, self._changed_positions(), strict=True):
            if len(positions):
                yield take_rows(joined(batches).select(list(keys)), positions)

    def _changed_positions(self) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """Yields for each row group the position of its first row, and the positions inside it of the changed rows."""
        before, after = self.patched.before, self.patched.after
        old_names = tuple(name for name, _ in self._pairs if name is not None)
        new_names = tuple(name for _, name in self._pairs)
        deleted = np.union1d(
            deleted_positions(self.table, after.path, after.deletes),
            deleted_positions(self.table, before.path, before.deletes),
        )
        if not new_names:
            first = self._newer.schema.names[:1]
            yield from ((at, np.empty(0, np.int64)) for at, _ in self._newer.row_groups(after, tuple(first)))
            return
        older = self._older.row_groups(before, old_names or tuple(self._older.schema.names[:1]))
        for (at, new), (_, old) in zip(self._newer.row_groups(after, new_names), older, strict=True):
            rows = joined(new)
            differs = self._differences(joined(old), rows)
            differs &= np.isin(at + np.arange(rows.num_rows), deleted, invert=True)
            yield at, np.flatnonzero(differs)

    def _differences(self, old: pa.RecordBatch, new: pa.RecordBatch) -> NDArray[np.bool_]:
        differs = np.zeros(new.num_rows, np.bool_)
        for before, after in self._pairs:
            declared = pa.schema([self._newer.schema.field(after)])
            stored = storage_schema(declared)
            (values,) = cast_to_storage(new.select([after]), declared, stored).columns
            if before is None:
                differs |= ~values.is_null().to_numpy(zero_copy_only=False)
                continue
            given = pa.RecordBatch.from_arrays([old.column(before)], names=[after])
            try:
                (earlier,) = cast_to_storage(given, declared, stored).columns
            except SchemaError:  # a column of another type, so every value is another one
                return np.ones(new.num_rows, np.bool_)
            differs |= ~equal_values(earlier, values)
        return differs


def _column_paths(file: DataFileRef) -> dict[int | None, str]:
    """Returns the paths of the column files, by the ids of their columns."""
    return {number: each.path for each in file.columns for number in each.fields}
