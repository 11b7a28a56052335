"""The writer of Parquet data files, with bounded memory. A failure leaves no file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table.sorting import SortOrder
from pyiceberg.typedef import Record

from lakefeed.catalog.durability import sync_files, sync_folder
from lakefeed.catalog.encodings import writer_options
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.table_output import NewFile, discard_files
from lakefeed.config import WriteSettings
from lakefeed.storage.disk.disk_errors import storage_errors

MAX_SMALL_BATCHES = 512


@dataclass(frozen=True)
class WriteTarget:
    """The location and the layout of the data files of one write.

    Attributes:
        io: opens the files.
        new_location: returns the location for a file name.
        prefix: begins the names of all files of one commit and of no other. The files are numbered after it, so the
            order of their paths is the order of the rows.
        schema: the Arrow schema of the files (storage types with field ids).
        iceberg: the Iceberg schema.
        spec_id: the partition spec.
        properties: the table properties.
        sizes: the sizes of files and row groups.
        sort_order: the order of the rows; None if they have none.
    """

    io: FileIO
    new_location: Callable[[str], str]
    prefix: str
    schema: pa.Schema
    iceberg: Schema
    spec_id: int
    properties: dict[str, str]
    sizes: WriteSettings
    sort_order: SortOrder | None = None

    @property
    def sorting_columns(self) -> list[pq.SortingColumn]:
        """The sort order in terms of Parquet."""
        fields = self.sort_order.fields if self.sort_order is not None else ()
        names = (self.iceberg.find_field(field.source_id).name for field in fields)
        return [pq.SortingColumn(self.schema.get_field_index(name), nulls_first=True) for name in names]


def write_files(target: WriteTarget, batches: Iterable[pa.RecordBatch]) -> list[DataFile]:
    """Writes batches into data files and returns the files, in order; none if there are no rows.

    ``batches`` have the schema of the target. Holds one row group in memory. On any failure, also of the input, the
    files written so far are removed.
    """
    return write_row_groups(target, row_groups(batches, target.sizes))


def write_row_groups(target: WriteTarget, groups: Iterable[pa.Table]) -> list[DataFile]:
    """Writes row groups into data files, as `write_files`."""
    written: list[DataFile] = []
    open_file: _OpenFile | None = None
    try:
        for group in groups:
            if open_file is None:
                open_file = _OpenFile(target, len(written), group)
            open_file.write(group)
            if open_file.decoded_bytes >= target.sizes.file_bytes:
                written.append(open_file.finish())
                open_file = None
        if open_file is not None:
            written.append(open_file.finish())
        sync_files(actual_location(target.io, file.file_path) for file in written)
        if written:
            sync_folder(actual_location(target.io, written[-1].file_path))
    except BaseException:
        if open_file is not None:
            open_file.abandon()
        discard_files(target.io, (file.file_path for file in written))
        raise
    return written


def row_groups(batches: Iterable[pa.RecordBatch], sizes: WriteSettings) -> Iterator[pa.Table]:
    """Yields the rows of ``batches`` in tables of at most ``row_group_rows`` rows and ``row_group_bytes`` bytes."""
    group = _RowGroup()
    for batch in batches:
        rest = batch
        bytes_a_row = max(1.0, batch.nbytes / max(batch.num_rows, 1))
        while rest.num_rows:
            space = min(sizes.row_group_rows - group.rows, int((sizes.row_group_bytes - group.bytes) / bytes_a_row))
            if space < 1 and group.rows:
                yield group.take()
                continue
            space = max(space, 1)
            group.add(rest.slice(0, space), bytes_a_row)
            rest = rest.slice(space)
    if group.rows:
        yield group.take()


@dataclass
class _RowGroup:
    """Rows buffered for the next row group."""

    rows: int = 0
    bytes: float = 0.0
    merged: list[pa.RecordBatch] = field(default_factory=list)
    small: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, bytes_a_row: float) -> None:
        self.small.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.num_rows * bytes_a_row
        if len(self.small) >= MAX_SMALL_BATCHES:
            # Thousands of one-row batches take more memory than their rows.
            self.merged += pa.Table.from_batches(self.small).combine_chunks().to_batches()
            self.small = []

    def take(self) -> pa.Table:
        table = pa.Table.from_batches([*self.merged, *self.small])
        self.rows, self.bytes, self.merged, self.small = 0, 0.0, [], []
        return table


class _OpenFile:
    """One Parquet file being written."""

    def __init__(self, target: WriteTarget, index: int, first: pa.Table) -> None:
        self._target = target
        sizes = target.sizes
        basic = {"compression": sizes.compression, "store_decimal_as_integer": True}
        chosen = writer_options(first, sizes.compression) if sizes.encodings == "fast" else basic
        self._output = NewFile(target.io, target.new_location(f"{target.prefix}-{index:05d}.parquet"))
        self._footer: list[pq.FileMetaData] = []
        self._writer: pq.ParquetWriter | None = None
        self.decoded_bytes = 0
        try:
            with storage_errors(self._output.path):
                # The raw stream: a stream in Python would copy every byte.
                self._writer = pq.ParquetWriter(
                    self._output.open_stream(),
                    target.schema,
                    metadata_collector=self._footer,
                    sorting_columns=target.sorting_columns or None,
                    **chosen,
                )
        except BaseException:
            self.abandon()
            raise

    def write(self, group: pa.Table) -> None:
        assert self._writer is not None
        with storage_errors(self._output.path, group.nbytes):
            self._writer.write_table(group, row_group_size=group.num_rows)
        self.decoded_bytes += group.nbytes

    def finish(self) -> DataFile:
        assert self._writer is not None
        with storage_errors(self._output.path):
            self._writer.close()
            self._output.close()
            return self._data_file()

    def abandon(self) -> None:
        """Closes and removes the file. Raises nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.is_open = False  # else its finalizer writes a footer
        self._output.abandon()

    def _data_file(self) -> DataFile:
        from pyiceberg.io.pyarrow import (  # loads pandas
            compute_statistics_plan,
            data_file_statistics_from_parquet_metadata,
            parquet_path_to_id_mapping,
        )

        iceberg = self._target.iceberg
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=self._footer[0],
            stats_columns=compute_statistics_plan(iceberg, self._target.properties),
            parquet_column_mapping=parquet_path_to_id_mapping(iceberg),
        )
        _drop_invalid_bounds(statistics.column_aggregates.values())
        file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=self._output.location,
            file_format=FileFormat.PARQUET,
            partition=Record(),
            file_size_in_bytes=len(self._output),
            sort_order_id=self._target.sort_order.order_id if self._target.sort_order is not None else None,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        file.spec_id = self._target.spec_id
        return file


def _drop_invalid_bounds(aggregates: Iterable[Any]) -> None:
    """Removes upper bounds that are not valid text.

    PyIceberg truncates a bound and increments its last character, which may result in half of a surrogate pair.
    """
    for aggregate in aggregates:
        try:
            aggregate.max_as_bytes()
        except UnicodeEncodeError:
            aggregate.current_max = None
