"""Rows into data files of a table: new ones, and a file without some of its rows."""

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
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.parquet_writer import WriteTarget, write_files
from lakefeed.catalog.schema import declared_schema, file_schema
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, SnapshotBuilder
from lakefeed.catalog.version_files import DataFileRef
from lakefeed.config import WriteSettings
from lakefeed.errors import UnsupportedError

# Turns rows into data files that a change is in charge of.
RowWriter: TypeAlias = Callable[
    [Lake, Table, pa.Schema, SnapshotBuilder, Iterable[pa.RecordBatch]], tuple[DataFile, ...]
]

REWRITTEN_SUFFIX = re.compile(r"\.r[0-9a-f]{32}$")


def check_writable(table: Table) -> None:
    """Passes where rows of the table can be written.

    Raises:
        UnsupportedError: it is partitioned, or of a later format version.
    """
    name, written = table.name()[-1], table.metadata.format_version
    if written > FORMAT_VERSION:
        raise UnsupportedError(
            f"{name!r} has Iceberg format version {written}; tables up to version {FORMAT_VERSION} can be written. "
            "Write to it with the program that made it, or save its rows as a new dataset"
        )
    if not table.spec().is_unpartitioned():
        raise UnsupportedError(f"{name!r} is partitioned; only tables without partitions are written")


def write_rows(
    lake: Lake, table: Table, declared: pa.Schema, ours: SnapshotBuilder, batches: Iterable[pa.RecordBatch]
) -> tuple[DataFile, ...]:
    """The rows in new data files that ``ours`` is in charge of; none for no rows."""
    files = write_prefixed_files(lake, table, declared, uuid.uuid4().hex, batches)
    ours.wrote(files)
    return tuple(files)


def write_prefixed_files(
    lake: Lake, table: Table, declared: pa.Schema, prefix: str, batches: Iterable[pa.RecordBatch]
) -> list[DataFile]:
    """The rows in new data files whose names begin with ``prefix``, which nothing names yet."""
    target = _target(table, declared, prefix, lake.settings.write)
    return write_files(target, _storage_batches(batches, declared, target.schema))


def rewrite_without(
    lake: Lake,
    table: Table,
    ours: SnapshotBuilder,
    file: DataFileRef,
    places: NDArray[np.int64],
    batches: Iterable[pa.RecordBatch],
) -> DataFile:
    """The rows of a file (``batches``) without those at ``places``, as a file that sorts where the old one did."""
    declared = declared_schema(table)
    location = _sibling_location(table, file.path)
    sizes = lake.settings.write.model_copy(update={"file_bytes": sys.maxsize})  # one file for one file
    target = replace(_target(table, declared, "", sizes), place=lambda _: location)
    (written,) = write_files(target, _drop_positions(_storage_batches(batches, declared, target.schema), places))
    ours.wrote([written])
    return written


def _target(table: Table, declared: pa.Schema, prefix: str, sizes: WriteSettings) -> WriteTarget:
    return WriteTarget(
        io=table.io,
        place=table.location_provider().new_data_location,
        prefix=prefix,
        schema=file_schema(declared, table.schema()),
        iceberg=table.schema(),
        spec_id=table.metadata.default_spec_id,
        properties=table.properties,
        sizes=sizes,
    )


def _sibling_location(table: Table, path: str) -> str:
    """A new location that the order of paths puts where ``path`` is."""
    folder, _, file = path.rpartition("/")
    stem = REWRITTEN_SUFFIX.sub("", file.removesuffix(".parquet"))
    name = f"{stem}.r{uuid.uuid4().hex}.parquet"
    own = path.startswith(table.metadata.location.rstrip("/") + "/")
    return f"{folder}/{name}" if own else table.location_provider().new_data_location(name)


def _drop_positions(batches: Iterable[pa.RecordBatch], places: NDArray[np.int64]) -> Iterator[pa.RecordBatch]:
    start = 0
    for batch in batches:
        low, high = np.searchsorted(places, [start, start + batch.num_rows])
        keep = np.ones(batch.num_rows, np.bool_)
        keep[places[low:high] - start] = False
        start += batch.num_rows
        yield batch if low == high else batch.filter(pa.array(keep))


def _storage_batches(
    batches: Iterable[pa.RecordBatch], declared: pa.Schema, target: pa.Schema
) -> Iterator[pa.RecordBatch]:
    seen: pa.Schema | None = None
    for batch in batches:
        if seen is None or not batch.schema.equals(seen):
            check_compatible(batch.schema, declared)
            seen = batch.schema
        yield cast_to_storage(batch, declared, target)
