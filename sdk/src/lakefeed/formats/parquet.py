"""Parquet: parts are row groups, pruned by their statistics, read one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from fsspec.core import split_protocol

from lakefeed.expr import Bounds, Expr, can_match, paths
from lakefeed.formats.base import FilePart, Streamed, opened, reaching, reading, require_columns, stamp
from lakefeed.storage.chains import parse_chain
from lakefeed.storage.streams import Stream, spooled

FOOTERS_CACHED = 4096
SMALL_READ_ROWS = 8192
BATCH_ROWS = 65_536


class Parquet(Streamed):
    """``.parquet`` files. One in an archive is copied to local disk while it is read."""

    name: ClassVar[str] = "parquet"
    suffixes: ClassVar[tuple[str, ...]] = (".parquet", ".pq")
    counted: ClassVar[bool] = True

    def addressable(self, url: str) -> bool:
        return parse_chain(url).plain

    def schema(self, url: str) -> pa.Schema:
        return _file(url).footer().schema.to_arrow_schema() if self.addressable(url) else super().schema(url)

    def check(self, url: str, schema: pa.Schema) -> None:
        require_columns(url, self.schema(url), schema)

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        return _file(url).groups(predicate) if self.addressable(url) else super().parts(url, predicate)

    def read(
        self,
        url: str,
        part: FilePart,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        start: int,
        stop: int | None,
        *,
        exact: bool = True,
    ) -> Iterator[pa.RecordBatch]:
        if part.rows is None:
            return super().read(url, part, schema, columns, start, stop, exact=exact)
        return _file(url).read(part.key, columns, start, stop)

    def head(self, stream: Stream) -> pa.Schema:
        with spooled(stream.file) as copy, pq.ParquetFile(copy) as file:
            return file.schema_arrow

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        names = None if columns is None else list(columns)
        with spooled(stream.file) as copy, pq.ParquetFile(copy) as file:
            yield from file.iter_batches(BATCH_ROWS, columns=names, use_threads=False)


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
    wanted = {path for path in paths(predicate) if all(isinstance(step, str) for step in path)}
    info = metadata.row_group(group)
    leaves = _leaves(metadata.schema.to_arrow_schema())
    found: dict[tuple[str, ...], Bounds] = {}
    for index in range(info.num_columns if len(leaves) == info.num_columns else 0):
        path = leaves[index]
        if path is None or path not in wanted:
            continue
        column = info.column(index)
        if column.is_stats_set and column.statistics is not None:
            found[path] = _bounds(column.statistics, info.num_rows)
    return found


def _leaves(fields: Iterable[pa.Field[Any]], above: tuple[str, ...] = ()) -> list[tuple[str, ...] | None]:
    """The path of each column that is stored, in the order in which they are; None for what lies inside lists and maps.

    Names alone do not tell: a column "a.b" and the field b of a struct a are both stored as "a.b".
    """
    found: list[tuple[str, ...] | None] = []
    for field in fields:
        kind = field.type
        inner = [kind.field(place) for place in range(kind.num_fields)]
        if not inner or isinstance(kind, pa.DictionaryType):
            found.append((*above, field.name))
        elif isinstance(kind, pa.StructType):
            found += _leaves(inner, (*above, field.name))
        else:
            found += [None] * len(_leaves(inner))
    return found


def _bounds(statistics: pq.Statistics, rows: int) -> Bounds:
    try:
        low, high = (statistics.min, statistics.max) if statistics.has_min_max else (None, None)
    except (pa.ArrowException, ArithmeticError, ImportError, ValueError):
        low = high = None  # no Python value can be made of it: nanoseconds without pandas, years beyond 9999
    return Bounds(low, high, statistics.null_count, rows)
