"""Columns in column files, after another program has written rows of the table anew.

Such a program reads and writes only the columns that it sees. The column files of the files that it removed are still
there, so their values are assigned to its rows by the key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed.catalog.column_files import column_owner, unaligned_error
from lakefeed.catalog.column_schema import column_file_ids
from lakefeed.catalog.compatibility import cast_to_storage
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.edit_commit import Draft, edit
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import COLUMN_BRANCH
from lakefeed.catalog.schema import storage_schema
from lakefeed.catalog.table_key import key_columns
from lakefeed.catalog.version_files import files_of
from lakefeed.catalog.versions import resolve, version_of
from lakefeed.plan.take_rows import take_rows, take_values
from lakefeed.run.column_values import read_whole_rows
from lakefeed.run.input_keys import ABSENT, InputKeys
from lakefeed.run.rebatch import joined
from lakefeed.sources.iceberg_source import IcebergSource


def align_columns(lake: Lake, name: str) -> None:
    """Assigns the values of column files to rows that another program wrote anew, if there are any, as one version.

    Rows of a key get the values that the row of the key had. Other rows have nulls.

    Raises:
        UnsupportedError: the table has no key.
    """
    table = lake.table(name)
    snapshot = table.metadata.current_snapshot()
    if snapshot is None or COLUMN_BRANCH not in table.metadata.refs:
        return
    if any(file.unaligned for file in files_of(table, snapshot)):
        edit(lake, name, partial(_align, name))


def _align(name: str, draft: Draft) -> None:
    table = draft.table
    snapshot, keys = table.metadata.current_snapshot(), key_columns(table)
    if snapshot is None:
        return
    unaligned = [file for file in draft.files if file.unaligned]
    if unaligned and not keys:
        raise unaligned_error(name)
    schema_id = table.metadata.current_schema_id
    newest = IcebergSource.of(draft.lake, name, table, resolve(table), schema_id=schema_id)
    before = version_of(column_owner(table, snapshot), table)
    older = IcebergSource.of(draft.lake, name, table, before, schema_id=schema_id)
    read_whole_rows(draft, newest)
    present = {file.path for file in draft.files}
    lost = [file for file in older.files if file.path not in present]
    ids = column_file_ids(table)
    names = [field.name for field in table.schema().fields if field.field_id in ids]
    for file in unaligned:
        draft.set_columns(
            file, names, tuple(each.path for each in lost), partial(_groups, newest, older, file, lost, keys, names)
        )


def _groups(
    newest: IcebergSource,
    older: IcebergSource,
    file: DataFileRef,
    lost: Sequence[DataFileRef],
    keys: tuple[str, ...],
    names: list[str],
) -> Iterator[pa.RecordBatch]:
    """Yields the columns for each row group of a file."""
    for _, batches in newest.row_groups(file, keys):
        rows = joined(batches)
        index = InputKeys(_stored_keys(rows, newest, keys))
        positions = np.full(rows.num_rows, ABSENT, np.int64)
        parts: list[pa.RecordBatch] = []
        count = 0
        for each in lost:
            for old in _live_rows(older, each, index, (*keys, *names)):
                inside, given = index.find(_stored_keys(old, older, keys))
                positions[given] = count + np.arange(len(inside))
                count += len(inside)
                parts.append(take_rows(old.select(names), inside))
        indices: Any = pa.array(positions, mask=positions == ABSENT)
        schema = pa.schema([older.schema.field(name) for name in names])
        values = joined(parts) if count else pa.RecordBatch.from_pylist([], schema=schema)
        columns = [take_values(column, indices) for column in values.columns]
        yield pa.RecordBatch.from_arrays(columns, names=names)


def _live_rows(
    source: IcebergSource, file: DataFileRef, index: InputKeys, columns: tuple[str, ...]
) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a file that are not deleted, of the row groups that may have one of the keys."""
    groups = frozenset(g for g, bounds in enumerate(source.group_bounds(file, columns[0])) if index.may_be_in(bounds))
    deleted = deleted_positions(source.table, file.path, file.deletes)
    for place, batch in source.numbered_batches(file, columns, groups=groups):
        live = np.isin(place + np.arange(batch.num_rows), deleted, invert=True)
        yield batch if live.all() else take_rows(batch, np.flatnonzero(live))


def _stored_keys(batch: pa.RecordBatch, source: IcebergSource, keys: tuple[str, ...]) -> list[pa.Array[Any]]:
    declared = pa.schema([source.schema.field(key) for key in keys])
    return cast_to_storage(batch.select(list(keys)), declared, storage_schema(declared)).columns
