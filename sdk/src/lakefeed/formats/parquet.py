"""Parquet: parts are row groups, pruned by their statistics, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import split_protocol

from lakefeed.expr import Bounds, Expr, can_match, paths
from lakefeed.formats.base import FilePart, opened, reaching, reading, stamp

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
    return ParquetFile(url, lambda url: opened(url, compression=None))


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
        key = (self.url, None if self.immutable else stamp(self.url))
        found = _footers.get(key)
        if found is None:
            found = self._read_footer()
            with _keeping:
                _footers[key] = found
                while len(_footers) > FOOTERS_CACHED:
                    _footers.pop(next(iter(_footers)))
        return found

    def _read_footer(self) -> pq.FileMetaData:
        with reaching(self.url), reading(self.url, "parquet"), self.opener(self.url) as file:
            return pq.read_metadata(file)

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
        with reaching(self.url), reading(self.url, "parquet"), self._opened(metadata) as file:
            if stop is None or stop >= metadata.row_group(group).num_rows:
                table = file.read_row_group(group, columns=names, use_threads=False)
                yield from (table.slice(start) if start else table).to_batches()
            else:
                rows = file.iter_batches(min(stop, SMALL_READ_ROWS), [group], names, use_threads=False)
                yield from within(rows, start, stop)

    @contextmanager
    def _opened(self, metadata: pq.FileMetaData) -> Iterator[pq.ParquetFile]:
        local = _local_path(self.url)
        if local is not None:
            with pq.ParquetFile(local, metadata=metadata, memory_map=True) as file:
                yield file
        else:
            with self.opener(self.url) as source, pq.ParquetFile(source, metadata=metadata, pre_buffer=True) as file:
                yield file


_footers: dict[tuple[str, object], pq.FileMetaData] = {}
_keeping = Lock()


def _local_path(url: str) -> str | None:
    """The plain path of a local URL, else None."""
    protocol, path = split_protocol(url)
    return path if protocol in (None, "file", "local") else None


def within(batches: Iterator[pa.RecordBatch], start: int, stop: int | None) -> Iterator[pa.RecordBatch]:
    """The rows ``[start, stop)`` of a stream, which is drawn from no further than that."""
    place = 0
    for batch in batches:
        low, high = max(start - place, 0), batch.num_rows if stop is None else min(stop - place, batch.num_rows)
        place += batch.num_rows
        if low < high:
            yield batch.slice(low, high - low)
        if stop is not None and place >= stop:
            return


def bounds(metadata: pq.FileMetaData, group: int, predicate: Expr) -> dict[tuple[str, ...], Bounds]:
    """The statistics of the columns that the predicate reads, as far as the file has them."""
    wanted = {".".join(map(str, path)): path for path in paths(predicate)}
    info = metadata.row_group(group)
    shown = [info.column(index).path_in_schema for index in range(info.num_columns)]
    found: dict[tuple[str, ...], Bounds] = {}
    for index in range(info.num_columns):
        path = wanted.get(shown[index])
        if path is None or shown.count(shown[index]) > 1:  # the column "a.b" and the field b of a look the same
            continue
        column = info.column(index)
        if column.is_stats_set and column.statistics is not None:
            found[tuple(map(str, path))] = _bounds(column.statistics, info.num_rows)
    return found


def _bounds(statistics: pq.Statistics, rows: int) -> Bounds:
    low, high = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    return Bounds(low, high, statistics.null_count, rows)
