"""Writers of data files of a table."""

from __future__ import annotations

import re
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table

from lakefeed.catalog.compatibility import cast_to_storage, check_compatible
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.parquet_writer import WriteTarget, write_files
from lakefeed.catalog.schema import declared_schema, file_schema
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, SnapshotBuilder
from lakefeed.config import WriteSettings
from lakefeed.errors import UnsupportedError

RowWriter: TypeAlias = Callable[
    [Lake, Table, pa.Schema, SnapshotBuilder, Iterable[pa.RecordBatch]], tuple[DataFile, ...]
]
"""Writes rows into data files and registers them with the snapshot builder."""

SORTED_GROUP_ROWS = 32_768
REWRITTEN_SUFFIX = re.compile(r"\.r[0-9a-f]{32}$")


def check_writable(table: Table) -> None:
    """Checks that rows can be written to the table.

    Raises:
        UnsupportedError: the table is partitioned, or has a later format version.
    """
    name, format_version = table.name()[-1], table.metadata.format_version
    if format_version > FORMAT_VERSION:
        raise UnsupportedError(
            f"{name!r} has Iceberg format version {format_version}; lakefeed writes tables up to version "
            f"{FORMAT_VERSION}. Write to it with the program that created it, or save its rows as a new dataset"
        )
    if not table.spec().is_unpartitioned():
        raise UnsupportedError(f"{name!r} is partitioned; lakefeed writes only unpartitioned tables")


def write_rows(
    lake: Lake, table: Table, declared: pa.Schema, builder: SnapshotBuilder, batches: Iterable[pa.RecordBatch]
) -> tuple[DataFile, ...]:
    """Writes rows into new data files and registers them with ``builder``. Returns none if there are no rows."""
    files = write_prefixed_files(lake, table, declared, uuid.uuid4().hex, batches)
    builder.track_files(files)
    return tuple(files)


def write_sorted_rows(
    lake: Lake, table: Table, declared: pa.Schema, builder: SnapshotBuilder, batches: Iterable[pa.RecordBatch]
) -> tuple[DataFile, ...]:
    """Writes rows, which are in the sort order of the table, as `write_rows`. The files say that they are sorted."""
    target = sorted_target(lake, table, declared, uuid.uuid4().hex)
    files = write_files(target, _storage_batches(batches, declared, target.schema))
    builder.track_files(files)
    return tuple(files)


def sorted_target(lake: Lake, table: Table, declared: pa.Schema, prefix: str) -> WriteTarget:
    """Returns the location and the layout of data files whose rows are in the sort order of the table."""
    target = _target(table, declared, prefix, _small_groups(lake.settings.write))
    order = table.metadata.sort_order_by_id(table.metadata.default_sort_order_id)
    return target if order is None or order.is_unsorted else replace(target, sort_order=order)


def _small_groups(sizes: WriteSettings) -> WriteSettings:
    """Returns sizes with small row groups, because a lookup of a key decodes the whole one."""
    return sizes.model_copy(update={"row_group_rows": min(sizes.row_group_rows, SORTED_GROUP_ROWS)})


def write_prefixed_files(
    lake: Lake, table: Table, declared: pa.Schema, prefix: str, batches: Iterable[pa.RecordBatch]
) -> list[DataFile]:
    """Writes rows into new data files whose names begin with ``prefix``. Nothing refers to them yet."""
    target = _target(table, declared, prefix, lake.settings.write)
    return write_files(target, _storage_batches(batches, declared, target.schema))


def rewrite_without(
    lake: Lake,
    table: Table,
    builder: SnapshotBuilder,
    file: DataFileRef,
    positions: NDArray[np.int64],
    batches: Iterable[pa.RecordBatch],
) -> DataFile:
    """Writes the rows of a file (``batches``) without those at ``positions``. The new path sorts like the old one."""
    declared = declared_schema(table)
    location = _sibling_location(table, file.path)
    sizes = lake.settings.write.model_copy(update={"file_bytes": sys.maxsize})  # so that one file becomes one file
    order = table.metadata.sort_order_by_id(table.metadata.default_sort_order_id)
    ordered = order is not None and not order.is_unsorted and file.sort_order_id == order.order_id
    if ordered:
        sizes = _small_groups(sizes)
    target = replace(_target(table, declared, "", sizes), new_location=lambda _: location)
    target = replace(target, sort_order=order) if ordered else target
    (written,) = write_files(target, _drop_positions(_storage_batches(batches, declared, target.schema), positions))
    builder.track_files([written])
    return written


def _target(table: Table, declared: pa.Schema, prefix: str, sizes: WriteSettings) -> WriteTarget:
    return WriteTarget(
        io=table.io,
        new_location=table.location_provider().new_data_location,
        prefix=prefix,
        schema=file_schema(declared, table.schema()),
        iceberg=table.schema(),
        spec_id=table.metadata.default_spec_id,
        properties=table.properties,
        sizes=sizes,
    )


def _sibling_location(table: Table, path: str) -> str:
    """Returns a new location that sorts where ``path`` does."""
    folder, _, file = path.rpartition("/")
    stem = REWRITTEN_SUFFIX.sub("", file.removesuffix(".parquet"))
    name = f"{stem}.r{uuid.uuid4().hex}.parquet"
    own = path.startswith(table.metadata.location.rstrip("/") + "/")
    return f"{folder}/{name}" if own else table.location_provider().new_data_location(name)


def _drop_positions(batches: Iterable[pa.RecordBatch], positions: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        low, high = np.searchsorted(positions, [start, start + batch.num_rows])
        keep = np.ones(batch.num_rows, np.bool_)
        keep[positions[low:high] - start] = False
        start += batch.num_rows
        yield batch if low == high else batch.filter(pa.array(keep))


def _storage_batches(
    batches: Iterable[pa.RecordBatch], declared: pa.Schema, target: pa.Schema
) -> Iterator[pa.RecordBatch]:
    checked: pa.Schema | None = None
    for batch in batches:
        if checked is None or not batch.schema.equals(checked):
            check_compatible(batch.schema, declared)
            checked = batch.schema
        yield cast_to_storage(batch, declared, target)
