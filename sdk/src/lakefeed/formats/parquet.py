"""Parquet: parts are row groups, pruned by their statistics, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import split_protocol

from lakefeed.errors import FormatError, MissingFileError
from lakefeed.expr import Bounds, Expr, can_match, paths
from lakefeed.formats.base import FilePart, stamp

FOOTERS_CACHED = 4096
SMALL_READ_ROWS = 8192


class Parquet:
    """``.parquet`` files."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    counted: ClassVar[bool] = True

    def schema(self, url: str) -> pa.Schema:
        return _file(url).footer().schema.to_arrow_schema()

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        return _file(url).groups(predicate)

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        return _file(url).read(part.key, columns, start, stop)


def _file(url: str) -> ParquetFile:
    return ParquetFile(url, lambda url: fsspec.open(url, "rb").open())


@dataclass(frozen=True)
class ParquetFile:
    """A Parquet file and how to open it. An ``immutable`` one is never asked whether it changed."""

    url: str
    opener: Callable[[str], Any]
    immutable: bool = False

    def footer(self) -> pq.FileMetaData:
        """The footer, kept for the next call as long as the file is the same one.

        Raises:
            MissingFileError: there is no such file.
            FormatError: it is not Parquet.
        """
        mark = None if self.immutable else stamp(self.url)
        key = (self.url, mark)
        found = _footers.get(key)
        if found is None:
            found = _footers[key] = self._read_footer()
            while len(_footers) > FOOTERS_CACHED:
                _footers.pop(next(iter(_footers)), None)
        return found

    def _read_footer(self) -> pq.FileMetaData:
        try:
            with self.opener(self.url) as file:
                return pq.read_metadata(file)
        except FileNotFoundError as error:
            raise MissingFileError(f"there is no file {self.url!r}") from error
        except pa.ArrowInvalid as error:
            raise FormatError(f"{self.url!r} cannot be read as parquet: {error}") from error

    def groups(self, predicate: Expr | None) -> Iterator[FilePart]:
        """The row groups in which a row may match."""
        metadata = self.footer()
        for group in range(metadata.num_row_groups):
            if predicate is None or can_match(predicate, bounds(metadata, group, predicate)):
                info = metadata.row_group(group)
                yield FilePart(group, info.num_rows, info.total_byte_size)

    def read(self, group: int, columns: Sequence[str] | None, start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
        """The rows ``[start, stop)`` of one row group; a range that ends early stops the decoding there."""
        metadata, names = self.footer(), None if columns is None else list(columns)
        local = _local_path(self.url)
        source = local if local is not None else self.opener(self.url)
        with pq.ParquetFile(source, metadata=metadata, memory_map=local is not None, pre_buffer=local is None) as file:
            if stop is None or stop >= metadata.row_group(group).num_rows:
                table = file.read_row_group(group, columns=names, use_threads=False)
                yield from (table.slice(start) if start else table).to_batches()
            else:
                rows = file.iter_batches(min(stop, SMALL_READ_ROWS), [group], names, use_threads=False)
                yield from _first(rows, start, stop)


_footers: dict[tuple[str, object], pq.FileMetaData] = {}


def _local_path(url: str) -> str | None:
    """The plain path of a local URL, else None."""
    protocol, path = split_protocol(url)
    return path if protocol in (None, "file", "local") else None


def _first(batches: Iterator[pa.RecordBatch], start: int, stop: int) -> Iterator[pa.RecordBatch]:
    place = 0
    for batch in batches:
        low, high = max(start - place, 0), min(stop - place, batch.num_rows)
        place += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if place >= stop:
            return


def bounds(metadata: pq.FileMetaData, group: int, predicate: Expr) -> dict[tuple[str, ...], Bounds]:
    """The statistics of the columns that the predicate reads, as far as the file has them."""
    wanted = {".".join(map(str, path)): path for path in paths(predicate)}
    info = metadata.row_group(group)
    found: dict[tuple[str, ...], Bounds] = {}
    for index in range(info.num_columns):
        column = info.column(index)
        path = wanted.get(column.path_in_schema)
        if path is not None and column.is_stats_set and column.statistics is not None:
            found[tuple(map(str, path))] = _bounds(column.statistics, info.num_rows)
    return found


def _bounds(statistics: pq.Statistics, rows: int) -> Bounds:
    low, high = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    return Bounds(low, high, statistics.null_count, rows)
