"""Parquet files. Their parts are row groups, which are pruned by their statistics."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from threading import Lock
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from cachetools import LRUCache

from lakefeed._units import MIB
from lakefeed.errors import FormatError
from lakefeed.expr import Expr
from lakefeed.formats.file_format import FilePart, Indexed, access_errors, content_errors, open_url
from lakefeed.formats.open_files import reuse_open_file
from lakefeed.formats.parquet_footer import INT96_UNIT, Footer
from lakefeed.formats.row_filter import RowFilter
from lakefeed.storage.archives import streams
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import check_unchanged, identity_at
from lakefeed.storage.urls import split_protocol

if TYPE_CHECKING:
    from lakefeed.storage.archives.streams import Stream

FOOTERS_CACHED = 4096
SMALL_READ_ROWS = 8192
BATCH_ROWS = 65_536
DECODED_BYTES = MIB
"""Bytes that are decoded at a time. They fit the processor's cache and bound the memory beside the rows."""
MEASURED_COLUMNS = 64
"""The sizes of up to so many columns are looked up; of more columns that of all is used."""


class Parquet(Indexed):
    """``.parquet`` files. A file in an archive is copied to local disk first."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")

    def index_schema(self, url: str, states: Identities) -> pa.Schema:
        return _parquet_file(url, states).footer().schema

    def index_parts(self, url: str, predicate: Expr | None, states: Identities) -> Iterator[FilePart]:
        return _parquet_file(url, states).footer().groups(predicate)

    def read_part(
        self, url: str, key: int, columns: Sequence[str] | None, start: int, stop: int | None, states: Identities
    ) -> Iterator[pa.RecordBatch]:
        return _parquet_file(url, states).read(key, columns, start, stop)

    def head(self, stream: Stream) -> pa.Schema:
        with streams.spool(stream.file) as copy, pq.ParquetFile(copy, coerce_int96_timestamp_unit=INT96_UNIT) as file:
            return file.schema_arrow

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        names = None if columns is None else list(columns)
        with streams.spool(stream.file) as copy, pq.ParquetFile(copy, coerce_int96_timestamp_unit=INT96_UNIT) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=names, use_threads=False)


def _parquet_file(url: str, states: Identities) -> ParquetFile:
    return ParquetFile(url, lambda url: open_url(url, compression=None, states=states), states=states)


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file and the function that opens it.

    Attributes:
        url: the URL or path of the file.
        opener: opens the file at ``url``.
        immutable: the file never changes, so its state is not checked.
        missing: called if the file does not exist; may raise an error that says why.
        states: the states that files must be in, so that footer and row groups belong together.
    """

    url: str
    opener: Callable[[str], Any]
    immutable: bool = False
    missing: Callable[[], None] = lambda: None
    states: Identities = field(default_factory=Identities, compare=False, repr=False)

    def footer(self) -> Footer:
        """Returns the footer. It is cached as long as the file does not change.

        Raises:
            MissingFileError: the file does not exist.
            ChangedFileError: the file has changed.
            FormatError: the file is not Parquet.
        """
        key = (self.url, None if self.immutable else identity_at(self.url, self.states))
        with _lock:
            footer = _footers.get(key)
        if footer is None:
            footer = Footer(self._read_footer())
            with _lock:
                _footers[key] = footer
        return footer

    def _read_footer(self) -> pq.FileMetaData:
        with access_errors(self.url), content_errors(self.url, "parquet"), self._source(None) as file:
            return pq.read_metadata(file)

    def _source(self, local: str | None) -> Any:
        try:
            return self.opener(self.url) if local is None else pa.OSFile(local, "r")
        except FileNotFoundError:
            self.missing()
            raise

    def read(
        self,
        group: int,
        columns: Sequence[str] | None,
        start: int = 0,
        stop: int | None = None,
        where: RowFilter | None = None,
        *,
        steps: bool = False,
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows ``[start, stop)`` of one row group. A range that ends early stops the decoding there.

        Args:
            group: the index of the row group.
            columns: names, or dotted paths of fields; None for all.
            start: the first row.
            stop: the row after the last; None for the end.
            steps: yields the batches in which all rows of the group are decoded, instead of one.
            where: yields only the rows that match. Columns that the filter does not read are decoded only if a row
                matches. Text columns of the filter may be dictionaries, and its extra columns may be in the batches.

        Raises:
            MissingFileError: the file does not exist.
            ChangedFileError: the file has changed.
            FormatError: the file is broken.
        """
        footer, names = self.footer(), None if columns is None else list(columns)
        batches = self._batches(footer, group, names, start, stop, where, steps)
        if self.immutable:
            yield from batches
            return
        try:
            for batch in batches:
                identity_at(self.url, self.states)
                yield batch
        except FormatError:
            identity_at(self.url, self.states)  # the file may have changed while it was read
            raise

    def _batches(
        self,
        footer: Footer,
        group: int,
        names: list[str] | None,
        start: int,
        stop: int | None,
        where: RowFilter | None,
        steps: bool,
    ) -> Iterator[pa.RecordBatch]:
        to_end = stop is None or stop >= footer.metadata.row_group(group).num_rows
        with access_errors(self.url), content_errors(self.url, "parquet"):
            if where is not None and to_end and not start:
                yield from self._read_filtered(footer, group, names, where)
                return
            if where is not None and names is not None:
                names += chain.from_iterable(where.extra_columns.values())
            batches = self._read_range(footer, group, names, start, None if to_end else stop, steps)
            yield from batches if where is None else map(where.filter_batch, batches)

    def _read_range(
        self, footer: Footer, group: int, names: list[str] | None, start: int, stop: int | None, steps: bool
    ) -> Iterator[pa.RecordBatch]:
        with self._opened(footer) as (file, source):
            if stop is None and steps and names != []:
                rows = file.iter_batches(_rows_of_a_step(footer, group, names), [group], names, use_threads=False)
                yield from slice_rows(rows, start, None)
                check_unchanged(source)
            elif stop is None:
                table = _decode_row_group(file, footer, group, names)
                check_unchanged(source)
                yield from (table.slice(start) if start else table).to_batches()
            else:
                rows = file.iter_batches(min(stop, SMALL_READ_ROWS), [group], names, use_threads=False)
                yield from slice_rows(rows, start, stop)
                check_unchanged(source)

    def _read_filtered(
        self, footer: Footer, group: int, names: list[str] | None, where: RowFilter
    ) -> Iterator[pa.RecordBatch]:
        first, rest = where.steps(footer, group, footer.schema.names if names is None else names)
        with self._opened(footer, where.dictionaries(footer, group)) as (file, _):
            table = file.read_row_group(group, columns=first, use_threads=False)
            mask = where.mask(table)
            if mask is None:
                return
            if rest:
                others = file.read_row_group(group, columns=rest, use_threads=False)
                names = [*table.column_names, *others.column_names]
                table = pa.Table.from_arrays([*table.columns, *others.columns], names)
            yield from where.filter_table(table, mask)

    def _opened(
        self, footer: Footer, dictionaries: Sequence[str] = ()
    ) -> AbstractContextManager[tuple[pq.ParquetFile, Any]]:
        # The footer identifies the state of the file.
        return reuse_open_file((footer, *dictionaries), partial(self._open, footer, list(dictionaries)))

    @contextmanager
    def _open(self, footer: Footer, dictionaries: list[str]) -> Iterator[tuple[pq.ParquetFile, Any]]:
        local = _local_path(self.url)
        # Not memory-mapped: page faults take longer than copying the parts that are read.
        with self._source(local) as source:
            file = pq.ParquetFile(
                source,
                metadata=footer.metadata,
                read_dictionary=dictionaries,
                pre_buffer=local is None,
                coerce_int96_timestamp_unit=INT96_UNIT,
            )
            yield file, source


def _decode_row_group(file: pq.ParquetFile, footer: Footer, group: int, columns: list[str] | None) -> pa.Table:
    """Decodes a row group in small steps, which takes half the memory and no more time."""
    rows = _rows_of_a_step(footer, group, columns)
    if columns == [] or rows >= footer.metadata.row_group(group).num_rows:
        return file.read_row_group(group, columns=columns, use_threads=False)
    return pa.Table.from_batches(file.iter_batches(rows, [group], columns, use_threads=False)).combine_chunks()


def _rows_of_a_step(footer: Footer, group: int, columns: list[str] | None) -> int:
    """Returns the number of rows of a row group that have about `DECODED_BYTES` in these columns."""
    info = footer.metadata.row_group(group)
    size = info.total_byte_size
    if columns is not None and len(columns) <= MEASURED_COLUMNS:
        indices = {index for name in columns for index in footer.stored.get(name, ())}
        size = sum(info.column(index).total_uncompressed_size for index in indices)
    return max(info.num_rows * DECODED_BYTES // max(size, 1), 1)


_footers: MutableMapping[tuple[str, object], Footer] = LRUCache(FOOTERS_CACHED)
_lock = Lock()


def _local_path(url: str) -> str | None:
    """Returns the path of a local URL, else None."""
    protocol, path = split_protocol(url)
    return path if protocol in (None, "file", "local") else None


def slice_rows(batches: Iterator[pa.RecordBatch], start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    """Yields the rows ``[start, stop)`` of a stream. Reads no batch after the one with the last row."""
    offset = 0
    for batch in batches:
        low, high = max(start - offset, 0), batch.num_rows if stop is None else min(stop - offset, batch.num_rows)
        offset += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if stop is not None and offset >= stop:
            return
