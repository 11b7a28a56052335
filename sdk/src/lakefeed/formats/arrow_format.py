"""Arrow IPC files (also called Feather): parts are record batches, read one at a time.

The streaming variant, which has no table of contents, is read from front to back.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import Any, ClassVar

import pyarrow as pa

from lakefeed.errors import FormatError
from lakefeed.expr import Expr
from lakefeed.formats.file_format import FilePart, StreamedFormat, content_errors, open_url, reaching, require_columns
from lakefeed.storage.archives.streams import Stream
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import identity_at, is_local
from lakefeed.storage.urls import shown

MAGIC = b"ARROW1"
OLD_FEATHER = b"FEA1"
FILES_CACHED = 4096


class Arrow(StreamedFormat):
    """``.arrow``, ``.ipc`` and ``.feather`` files, of both variants."""

    name: ClassVar[str] = "arrow"
    suffixes: ClassVar[tuple[str, ...]] = (".arrow", ".ipc", ".feather")
    counted: ClassVar[bool] = True

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        return parse_chain(url).plain and _batch_index(url, _identities(states)) is not None

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        seen = _identities(states)
        if not self.addressable(url, seen):
            return super().schema(url, seen)
        with _open(url, None, seen) as file:
            schema: pa.Schema = file.schema
            return schema

    def head(self, stream: Stream) -> pa.Schema:
        with _open_stream(stream) as reader:
            schema: pa.Schema = reader.schema
            return schema

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        with _open_stream(stream) as reader:
            for batch in reader:
                yield (batch if columns is None else batch.select(_present_columns(columns, batch)))

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        require_columns(url, self.schema(url, states).names, schema.names)

    def parts(self, url: str, predicate: Expr | None, states: Identities | None = None) -> Iterator[FilePart]:
        seen = _identities(states)
        if not self.addressable(url, seen):
            return super().parts(url, predicate, seen)
        rows, size = _batch_index(url, seen) or ((), 0)
        each = size // max(len(rows), 1)
        return (FilePart(place, count, each) for place, count in enumerate(rows))

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
        states: Identities | None = None,
    ) -> Iterator[pa.RecordBatch]:
        if part.rows is None:
            yield from super().read(url, part, schema, columns, start, stop, exact=exact, states=states)
            return
        with _open(url, columns, _identities(states)) as file:
            batch = file.get_batch(part.key)
            yield batch.slice(start, None if stop is None else stop - start)


def _identities(states: Identities | None) -> Identities:
    return Identities() if states is None else states


_indexes: dict[tuple[str, object], tuple[tuple[int, ...], int] | None] = {}
_lock = Lock()


def _batch_index(url: str, states: Identities) -> tuple[tuple[int, ...], int] | None:
    """The rows of each batch of a file, and its bytes; None for the variant that has no table of contents."""
    key = (url, identity_at(url, states))
    if key not in _indexes:
        found = _read_index(url, states)
        with _lock:
            _indexes[key] = found
            while len(_indexes) > FILES_CACHED:
                _indexes.pop(next(iter(_indexes)))
    return _indexes[key]


def _read_index(url: str, states: Identities) -> tuple[tuple[int, ...], int] | None:
    with open_url(url, None, states) as file:
        if file.read(len(MAGIC)) != MAGIC:
            return None
    # The number of rows stands in each batch's own header; one column is read with it.
    with _open(url, 0, states) as file:
        rows = tuple(file.get_batch(place).num_rows for place in range(file.num_record_batches))
    return rows, identity_at(url, states).size or 0


@contextmanager
def _open(url: str, columns: Sequence[str] | int | None, states: Identities) -> Iterator[pa.ipc.RecordBatchFileReader]:
    """The file, of which only some columns (or the one at a place) are read."""
    with reaching(url), content_errors(url, Arrow.name), _open_source(url, states) as source:
        with pa.ipc.open_file(source) as whole:
            names = whole.schema.names
            if columns is None or not names:
                yield whole
                return
        source.seek(0)
        fields = [columns] if isinstance(columns, int) else [names.index(name) for name in columns if name in names]
        with pa.ipc.open_file(source, options=pa.ipc.IpcReadOptions(included_fields=fields)) as some:
            yield some


@contextmanager
def _open_source(url: str, states: Identities) -> Iterator[Any]:
    with open_url(url, None, states) as file:
        if not is_local(url):
            yield file
            return
        with pa.memory_map(file.name) as mapped:
            identity_at(url, states)  # the path may lead to another file than a moment ago
            yield mapped


@contextmanager
def _open_stream(stream: Stream) -> Iterator[Any]:
    """The batches of an open file of either variant."""
    source: Any = _PeekableFile(stream.file)
    begin = source.peek(len(MAGIC) + 2)
    if begin.startswith(OLD_FEATHER):
        raise FormatError(
            f"{shown(stream.url)} is of the first version of Feather, which is out of use; write it again"
        )
    if begin.startswith(MAGIC):
        source.read(len(MAGIC) + 2)  # what follows is a stream, and then the table of contents
    with pa.ipc.open_stream(source) as reader:
        yield reader


class _PeekableFile:
    """A file of which the beginning can be looked at."""

    closed = False

    def __init__(self, file: Any) -> None:
        self._file = file
        self._ahead = b""

    def peek(self, size: int) -> bytes:
        self._ahead += self._file.read(size - len(self._ahead))
        return self._ahead

    def read(self, size: int) -> bytes:
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        return taken + self._file.read(size - len(taken)) if len(taken) < size else taken

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.closed = True


def _present_columns(columns: Sequence[str], batch: pa.RecordBatch) -> list[str]:
    names = frozenset(batch.schema.names)
    return [name for name in columns if name in names]
