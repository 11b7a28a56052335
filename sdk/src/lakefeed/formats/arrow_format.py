"""Arrow IPC files (Feather).

The parts of a file are its record batches. The streaming variant has no footer and is read from front to back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa
from cachetools import LRUCache, cached

from lakefeed.errors import FormatError
from lakefeed.expr import Expr
from lakefeed.formats.file_format import FilePart, Indexed, access_errors, content_errors, open_url
from lakefeed.storage.archives.streams import Stream
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import identity_at, is_local
from lakefeed.storage.urls import display_url

MAGIC = b"ARROW1"
OLD_FEATHER = b"FEA1"
FILES_CACHED = 4096


class Arrow(Indexed):
    """``.arrow``, ``.ipc`` and ``.feather`` files of both variants."""

    name: ClassVar[str] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".ipc", ".feather")

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        identities = Identities() if states is None else states
        return super().addressable(url, identities) and _batch_index(url, identities) is not None

    def index_schema(self, url: str, states: Identities) -> pa.Schema:
        with _open(url, None, states) as file:
            schema: pa.Schema = file.schema
            return schema

    def index_parts(self, url: str, predicate: Expr | None, states: Identities) -> Iterator[FilePart]:
        row_counts, size = _batch_index(url, states) or ((), 0)
        part_size = size // max(len(row_counts), 1)
        return (FilePart(index, count, part_size) for index, count in enumerate(row_counts))

    def read_part(
        self, url: str, key: int, columns: Sequence[str] | None, start: int, stop: int | None, states: Identities
    ) -> Iterator[pa.RecordBatch]:
        with _open(url, columns, states) as file:
            batch = file.get_batch(key)
            yield batch.slice(start, None if stop is None else stop - start)

    def head(self, stream: Stream) -> pa.Schema:
        with _open_stream(stream) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        with _open_stream(stream) as reader:
            for batch in reader:
                yield (batch if columns is None else batch.select(_present_columns(columns, batch)))


def _batch_index(url: str, states: Identities) -> tuple[tuple[int, ...], int] | None:
    """The row count of each batch of a file, and the size of the file in bytes; None for the streaming variant."""
    return _cached_index(url, states, identity_at(url, states))


@cached(LRUCache[Any, Any](FILES_CACHED), key=lambda url, states, identity: (url, identity), lock=Lock())
def _cached_index(url: str, states: Identities, identity: object) -> tuple[tuple[int, ...], int] | None:
    with open_url(url, None, states) as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
    # The number of rows is in the header of each batch, which is read together with one column.
    with _open(url, 0, states) as file:
        row_counts = tuple(file.get_batch(index).num_rows for index in range(file.num_record_batches))
    return row_counts, identity_at(url, states).size or 0


@contextmanager
def _open(url: str, columns: Sequence[str] | int | None, states: Identities) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """Opens a file to read some of its columns, by their names or by the index of one."""
    with access_errors(url), content_errors(url, Arrow.name), _open_source(url, states) as source:
        with pa.ipc.open_file(source) as reader:
            names = reader.schema.names
            if columns is None or not names:
                yield reader
                return
        source.seek(0)
        fields = [columns] if isinstance(columns, int) else [names.index(name) for name in columns if name in names]
        with pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)) as reader:
            yield reader


@contextmanager
def _open_source(url: str, states: Identities) -> Iterator[Any]:
    with open_url(url, None, states) as file:
        if not is_local(url):
            yield file
            return
        with pa.memory_map(file.name) as mapped:
            identity_at(url, states)  # the path may name another file by now
            yield mapped


@contextmanager
def _open_stream(stream: Stream) -> Iterator[Any]:
    """Opens the record batches of an open file of either variant."""
    source: Any = _PeekableFile(stream.file)
    start = source.peek(len(MAGIC) + 2)
    if start.startswith(OLD_FEATHER):
        raise FormatError(
            f"{display_url(stream.url)} has the first version of the Feather format, which is not "
            "supported; write it again"
        )
    if start.startswith(MAGIC):
        source.read(len(MAGIC) + 2)  # a stream follows, then the footer
    with pa.ipc.open_stream(source) as reader:
        yield reader


class _PeekableFile:
    """A file whose first bytes can be read without being consumed."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        self._ahead += self._file.read(size - len(self._ahead))
        return self._ahead

    def read(self, size: int) -> bytes:
        data, self._ahead = self._ahead[:size], self._ahead[size:]
        return data + self._file.read(size - len(data)) if len(data) < size else data

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _present_columns(columns: Sequence[str], batch: pa.RecordBatch) -> list[str]:
    names = frozenset(batch.schema.names)
    return [name for name in columns if name in names]
