"""Writes batches to Parquet files with bounded memory; whatever fails leaves no file behind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyiceberg.io import FileIO
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
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
    """Where data files go and what they look like.

    ``place`` turns a file name into a location; ``prefix`` is the same for all files of one commit and for no other,
    and the files are numbered after it, so that the order of paths is the order of writing.
    """

    io: FileIO
    place: Callable[[str], str]
    prefix: str
    schema: pa.Schema
    iceberg: Schema
    spec_id: int
    properties: dict[str, str]
    sizes: WriteSettings


def write_files(target: WriteTarget, batches: Iterable[pa.RecordBatch]) -> list[DataFile]:
    """The data files that hold ``batches``, in order; none for no rows.

    ``batches`` have the target's schema (storage types). Memory holds one row group, however long the input.
    On any failure, in the input too, the files written so far are removed.
    """
    written: list[DataFile] = []
    open_file: _OpenFile | None = None
    try:
        for group in row_groups(batches, target.sizes):
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
    """The rows of ``batches`` in tables of the size of a row group: at most so many rows, about so many bytes."""
    group = _RowGroup()
    for batch in batches:
        rest = batch
        bytes_a_row = max(1.0, batch.nbytes / max(batch.num_rows, 1))
        while rest.num_rows:
            room = min(sizes.row_group_rows - group.rows, int((sizes.row_group_bytes - group.bytes) / bytes_a_row))
            if room < 1 and group.rows:
                yield group.take()
                continue
            room = max(room, 1)
            group.add(rest.slice(0, room), bytes_a_row)
            rest = rest.slice(room)
    if group.rows:
        yield group.take()


@dataclass
class _RowGroup:
    """Rows that wait to become a row group."""

    rows: int = 0
    bytes: float = 0.0
    merged: list[pa.RecordBatch] = field(default_factory=list)
    small: list[pa.RecordBatch] = field(default_factory=list)

    def add(self, batch: pa.RecordBatch, bytes_a_row: float) -> None:
        self.small.append(batch)
        self.rows += batch.num_rows
        self.bytes += batch.num_rows * bytes_a_row
        if len(self.small) >= MAX_SMALL_BATCHES:
            # Thousands of one-row batches weigh more than their rows.
            self.merged += pa.Table.from_batches(self.small).combine_chunks().to_batches()
            self.small = []

    def take(self) -> pa.Table:
        table = pa.Table.from_batches([*self.merged, *self.small])
        self.rows, self.bytes, self.merged, self.small = 0, 0.0, [], []
        return table


class _OpenFile:
    """One Parquet file being written."""

    def __init__(self, target: WriteTarget, index: int, first: pa.Table) -> None:
        """``first``: the row group by which the encodings are chosen."""
        self._target = target
        sizes = target.sizes
        basic = {"compression": sizes.compression, "store_decimal_as_integer": True}
        chosen = writer_options(first, sizes.compression) if sizes.encodings == "fast" else basic
        self._output = NewFile(target.io, target.place(f"{target.prefix}-{index:05d}.parquet"))
        self._footer: list[pq.FileMetaData] = []
        self._writer: pq.ParquetWriter | None = None
        self.decoded_bytes = 0
        try:
            with storage_errors(self._output.path):
                # Without Python in between: it would copy every byte.
                self._writer = pq.ParquetWriter(
                    self._output.opened(), target.schema, metadata_collector=self._footer, **chosen
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
            return self._described()

    def abandon(self) -> None:
        """Closes and removes the file; raises nothing."""
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.is_open = False  # it would write a footer when it goes
        self._output.abandon()

    def _described(self) -> DataFile:
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
            sort_order_id=None,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        file.spec_id = self._target.spec_id
        return file


def _drop_invalid_bounds(aggregates: Iterable[Any]) -> None:
    """Leaves out upper bounds that are not text.

    PyIceberg cuts a bound and counts its last character up, which may give half of a surrogate pair.
    """
    for aggregate in aggregates:
        try:
            aggregate.max_as_bytes()
        except UnicodeEncodeError:
            aggregate.current_max = None
