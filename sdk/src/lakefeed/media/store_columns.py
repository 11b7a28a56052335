"""File columns on their way into a table: contents go to the blob store, cells become records."""

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
GROUPS_AHEAD = 2  # whose files are stored while those of the one before are probed


@dataclass
class FileColumnWriter:
    """What stores the file columns ``types`` (column -> media type) of batches.

    ``copy``: ``"auto"`` stores local files and keeps remote URLs as references (``url`` only, everything else null);
    True stores remote files too; False opens nothing: a local path is kept as an absolute ``file://`` URL, unchecked.
    Contents in memory are stored in any case. Records pass through; one that has a ``url`` but no ``sha256`` is treated
    as that URL or path. ``stats``: whether to record statistics; a file that cannot be read as its type has none, and
    a log line counts these. ``foreign``: the columns in which no path of this machine may stand.
    """

    types: Mapping[str, str]
    saving: BlobWriter
    seen: FileFingerprints
    copy: CopyFiles = "auto"
    stats: bool = True
    progress: Progress = lambda size: None
    foreign: ForeignColumns = NO_FOREIGN_COLUMNS

    def batches(
        self, batches: Iterable[pa.RecordBatch], schema: pa.Schema, first_row: int = 0
    ) -> Iterator[pa.RecordBatch]:
        """The batches with records in their file columns, rows in order; ``schema`` is that of the batches given.

        What the records name is durable once the saving has been flushed.

        Raises:
            MissingFileError: a local file is not there; the message names column, row and path.
            FileError: a file cannot be read, or is no regular file.
            RefusedTargetError: rows of other machines name a file of this one.
            UnsupportedError: ``copy=True`` and a URL that this version cannot fetch.
        """
        typed = typed_schema(schema, self.types)
        with ExitStack() as stack:
            contents = stack.enter_context(ContentWriter(self.saving, self.seen, self.progress))
            statistics = StatisticsReader(stack.enter_context(Probes()), self.seen) if self.stats else None
            reading: deque[_RowGroup] = deque()
            waiting: deque[_RowGroup] = deque()
            for batch in _regroup_rows(batches):
                reading.append(self._begun(batch, contents, first_row))
                first_row += batch.num_rows
                if len(reading) > 1:
                    waiting.append(reading.popleft().stored(contents, statistics))
                if len(waiting) > GROUPS_AHEAD:
                    yield waiting.popleft().finished(typed)
            while reading:
                waiting.append(reading.popleft().stored(contents, statistics))
            while waiting:
                yield waiting.popleft().finished(typed)

    def _begun(self, batch: pa.RecordBatch, contents: ContentWriter, first_row: int) -> _RowGroup:
        columns = {
            name: FileColumn(batch.column(name), name, media, self.copy, first_row)
            for name, media in self.types.items()
        }
        for column in columns.values():
            kept = column.kept
            self.saving.keep(kept)
            column.require(self.saving.missing(kept))
            self.foreign.check(column.named)
        sources = [source for column in columns.values() for source in column.sources]
        return _RowGroup(batch, columns, contents.begin(sources))


@dataclass
class _RowGroup:
    """Rows of which the files are being read; then their contents are stored, and their statistics on their way."""

    batch: pa.RecordBatch
    columns: Mapping[str, FileColumn]
    putting: PendingContents
    found: dict[str, tuple[list[StoredContent], PendingStatistics | None]] = field(default_factory=dict)

    def stored(self, contents: ContentWriter, statistics: StatisticsReader | None) -> Self:
        """Waits until the contents are stored, and begins to find their statistics."""
        stored = iter(contents.finish(self.putting))
        for name, column in self.columns.items():
            own = list(islice(stored, len(column.sources)))
            self.found[name] = own, statistics.ask(column.kind, own) if statistics is not None else None
        return self

    def finished(self, schema: pa.Schema) -> pa.RecordBatch:
        arrays: dict[str, pa.Array[Any]] = dict(zip(self.batch.schema.names, self.batch.columns, strict=True))
        for name, (stored, known) in self.found.items():
            stats = known.wait() if known is not None else [{}] * len(stored)
            arrays[name] = self.columns[name].finished(stored, stats)
        return pa.RecordBatch.from_arrays(list(arrays.values()), schema=schema)


def check_copy(copy: CopyFiles) -> CopyFiles:
    """Raises InvalidArgumentError for what ``copy_files`` cannot be."""
    if copy not in ("auto", True, False):
        raise InvalidArgumentError(f'copy_files is {copy!r}; it is "auto", True or False')
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
    """One column as records of its media type, as `Storing` says; every blob that they name is durable on return.

    Raises:
        InvalidArgumentError: no such media type, or no such way to copy.
        TypeMismatchError: the column cannot hold files.
        MissingFileError, FileError, UnsupportedError: a file cannot be had.

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
    alone = FileColumn(column, column_name, media, copy, first_row)
    if not alone.sources:
        return alone.finished([], [])
    batch = pa.record_batch([column], names=[column_name])
    with store.saving() as saving:
        storing = FileColumnWriter({column_name: media}, saving, FileFingerprints(store.cache_dir), copy, stats)
        found = list(storing.batches([batch], batch.schema, first_row))
        saving.flush()
    kind = media_type(media).struct
    parts = [part.column(0) for part in found]
    whole = pa.concat_arrays(parts) if parts else pa.array([], kind)
    assert isinstance(whole, pa.StructArray), "records"
    return whole


def _regroup_rows(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The rows in batches that are worth the trouble, and not too large to be held a few at a time."""
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
