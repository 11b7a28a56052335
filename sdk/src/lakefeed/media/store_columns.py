"""Stores file columns: contents are written to the blob store, and cells become media records."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Self

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.errors import InvalidArgumentError
from lakefeed.media.cell_sources import CopyFiles, FileColumn, StoredContent
from lakefeed.media.contents import ContentWriter, PendingContents, Progress
from lakefeed.media.file_column_types import require_file_column, typed_schema
from lakefeed.media.foreign_columns import NO_FOREIGN_COLUMNS, ForeignColumns
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_statistics import PendingStatistics, StatisticsReader
from lakefeed.media.probes import Probes
from lakefeed.storage.blobs.blob_store import BlobStore
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.cache.file_fingerprints import FileFingerprints

GROUP_ROWS = 4_096
GROUP_BYTES = 32 * MIB
GROUPS_AHEAD = 2  # groups that are stored while earlier ones are probed


@dataclass
class FileColumnWriter:
    """Stores the files of batches and replaces the cells of file columns by media records.

    Contents in memory are always stored. Existing records pass through. A record with a ``url`` and without ``sha256``
    is treated as that URL or path.

    Attributes:
        types: the media types by column.
        blobs: the writer of the blob store.
        fingerprints: the fingerprints of files that earlier saves stored.
        copy: ``"auto"`` stores local files and keeps remote URLs as references (``url`` only, other fields null). True
            stores remote files too. False opens no file; local paths become absolute ``file://`` URLs.
        stats: whether to record statistics. A file that cannot be read as its type has none; a log line counts them.
        progress: called with the size of each stored content in bytes.
        foreign: the columns that must not name files of this machine.
    """

    types: Mapping[str, str]
    blobs: BlobWriter
    fingerprints: FileFingerprints
    copy: CopyFiles = "auto"
    stats: bool = True
    progress: Progress = lambda size: None
    foreign: ForeignColumns = NO_FOREIGN_COLUMNS

    def batches(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, first_row: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """Yields the batches with records in their file columns, rows in order.

        The contents that the records name are durable after the blob writer is flushed.

        Args:
            batches: the rows to store.
            schema: the schema of ``batches``.
            first_row: the number of the first row, for messages.

        Raises:
            MissingFileError: a local file does not exist; the message names column, row and path.
            FileError: a file cannot be read, or is not a regular file.
            RefusedTargetError: rows from another machine name a file of this machine.
            UnsupportedError: ``copy`` is True and the URL scheme is not supported.
        """
        typed = typed_schema(schema, self.types)
        with ExitStack() as stack:
            contents = stack.enter_context(ContentWriter(self.blobs, self.fingerprints, self.progress))
            statistics = StatisticsReader(stack.enter_context(Probes()), self.fingerprints) if self.stats else None
            reading: deque[_RowGroup] = deque()
            waiting: deque[_RowGroup] = deque()
            for batch in _regroup_rows(batches):
                reading.append(self._begin(batch, contents, first_row))
                first_row += batch.num_rows
                if len(reading) > 1:
                    waiting.append(reading.popleft().store(contents, statistics))
                if len(waiting) > GROUPS_AHEAD:
                    yield waiting.popleft().finish(typed)
            while reading:
                waiting.append(reading.popleft().store(contents, statistics))
            while waiting:
                yield waiting.popleft().finish(typed)

    def _begin(self, batch: pa.RecordBatch, contents: ContentWriter, first_row: int) -> _RowGroup:
        columns = {
            name: FileColumn(batch.column(name), name, media, self.copy, first_row)
            for name, media in self.types.items()
        }
        for column in columns.values():
            digests = column.digests
            self.blobs.protect(digests)
            column.require(self.blobs.find_missing(digests))
            self.foreign.check(column.references)
        sources = [source for column in columns.values() for source in column.sources]
        return _RowGroup(batch, columns, contents.begin(sources))


@dataclass
class _RowGroup:
    """Rows whose files are being read, then stored, then probed."""

    batch: pa.RecordBatch
    columns: Mapping[str, FileColumn]
    pending: PendingContents
    contents: dict[str, tuple[list[StoredContent], PendingStatistics | None]] = field(default_factory=dict)

    def store(self, writer: ContentWriter, statistics: StatisticsReader | None) -> Self:
        """Waits until the contents are stored, and starts to read their statistics."""
        stored = iter(writer.finish(self.pending))
        for name, column in self.columns.items():
            own = list(islice(stored, len(column.sources)))
            self.contents[name] = (
                own,
                statistics.begin(column.kind, own, column.sources) if statistics is not None else None,
            )
        return self

    def finish(self, schema: pa.Schema) -> pa.RecordBatch:
        arrays: dict[str, pa.Array[Any]] = dict(zip(self.batch.schema.names, self.batch.columns, strict=True))
        for name, (stored, pending) in self.contents.items():
            stats = pending.wait() if pending is not None else [{}] * len(stored)
            arrays[name] = self.columns[name].records(stored, stats)
        return pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema)


def check_copy(copy: CopyFiles) -> CopyFiles:
    """Returns ``copy_files``, or raises InvalidArgumentError."""
    if copy not in ("auto", True, False):
        raise InvalidArgumentError(f'copy_files must be "auto", True or False, got {copy!r}')
    return copy


def store_column(
    column: pa.Array[Any],
    media: str,
    store: BlobStore,
    *,
    copy: CopyFiles,
    stats: bool,
    column_name: str,
    first_row: int = 0,
) -> pa.StructArray:
    """Stores one column and returns its media records. All blobs that they name are durable on return.

    Args:
        column: paths, URLs, contents or media records.
        media: the name of the media type.
        store: the blob store.
        copy: see `FileColumnWriter`.
        stats: whether to record statistics.
        column_name: the name of the column, for messages.
        first_row: the number of the first row, for messages.

    Raises:
        InvalidArgumentError: the media type or ``copy`` is unknown.
        TypeMismatchError: the column cannot hold files.
        MissingFileError: a file does not exist.
        FileError: a file cannot be read.
        UnsupportedError: the URL scheme is not supported.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.txt").write_text("hello")
        >>> column = store_column(pa.array(["a.txt", None]), "file", BlobStore("blobs", Path("cache")),
        ...                       copy="auto", stats=True, column_name="doc")
        >>> column[0]["filename"].as_py(), column[0]["size"].as_py(), column[1].as_py()
        ('a.txt', 5, None)
    """
    check_copy(copy)
    require_file_column(pa.field(column_name, column.type))
    media_type(media)
    file_column = FileColumn(column, column_name, media, copy, first_row)
    if not file_column.sources:
        return file_column.records([], [])
    batch = pa.record_batch([column], names=[column_name])
    with store.open_writer() as blobs:
        writer = FileColumnWriter({column_name: media}, blobs, FileFingerprints(store.cache_dir), copy, stats)
        batches = list(writer.batches([batch], batch.schema, first_row))
        blobs.flush()
    chunks = [batch.column(0) for batch in batches]
    records = pa.concat_arrays(chunks) if chunks else pa.array([], media_type(media).struct)
    assert isinstance(records, pa.StructArray), "records"
    return records


def _regroup_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields the rows in batches of about ``GROUP_ROWS`` rows or ``GROUP_BYTES``."""
    small: list[pa.RecordBatch] = []
    rows = size = 0
    for batch in batches:
        for start in range(0, batch.num_rows, GROUP_ROWS):
            part = batch.slice(start, GROUP_ROWS)
            small.append(part)
            rows, size = rows + part.num_rows, size + part.nbytes
            if rows >= GROUP_ROWS or size >= GROUP_BYTES:
                yield _combine_batches(small)
                small, rows, size = [], 0, 0
    if small:
        yield _combine_batches(small)


def _combine_batches(batches: Sequence[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
