"""The writer of column files."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import DataFile
from pyiceberg.schema import Schema
from pyiceberg.table import Table

from lakefeed.catalog.column_files import path_digest
from lakefeed.catalog.compatibility import cast, cast_to_storage
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.parquet_writer import WriteTarget, write_row_groups
from lakefeed.catalog.schema import declared_schema, file_schema


def write_column_file(
    lake: Lake, table: Table, path: str, names: Sequence[str], groups: Callable[[], Iterable[pa.RecordBatch]]
) -> DataFile:
    """Writes the values of some columns for all rows of a data file. Nothing refers to the column file yet.

    Args:
        lake: the lake.
        table: the table; it has the columns.
        path: the path of the data file.
        names: the columns.
        groups: returns the values, one batch for each row group of the data file.
    """
    declared = pa.schema([field for field in declared_schema(table) if field.name in names])
    iceberg = Schema(*(field for field in table.schema().fields if field.name in names))
    folder, _, _ = path.rpartition("/")
    name = f"{path_digest(path)}.c{uuid.uuid4().hex}.parquet"
    own = path.startswith(table.metadata.location.rstrip("/") + "/")
    location = f"{folder}/{name}" if own else table.location_provider().new_data_location(name)
    target = WriteTarget(
        io=table.io,
        new_location=lambda _: location,
        prefix="",
        schema=file_schema(declared, iceberg),
        iceberg=iceberg,
        spec_id=table.metadata.default_spec_id,
        properties={},  # the statistics tell which columns the file has, whatever the table says of statistics
        sizes=lake.settings.write.model_copy(update={"file_bytes": sys.maxsize}),
    )

    def stored() -> Iterator[pa.Table]:
        for batch in groups():
            yield pa.Table.from_batches([cast_to_storage(batch, declared, target.schema)])

    (written,) = write_row_groups(target, stored())
    return written


def with_values(
    groups: Iterable[pa.RecordBatch], values: Iterable[pa.RecordBatch], schema: pa.Schema
) -> Iterator[pa.RecordBatch]:
    """Yields rows, row group by row group, with the columns of ``values`` in place of their own."""
    for rows, new in zip(groups, values, strict=True):
        columns = {**_columns(rows), **_columns(new)}
        names = [name for name in schema.names if name in columns]
        yield cast(pa.RecordBatch.from_arrays([columns[name] for name in names], names=names), schema)


def _columns(batch: pa.RecordBatch) -> dict[str, Any]:
    return dict(zip(batch.schema.names, batch.columns, strict=True))
