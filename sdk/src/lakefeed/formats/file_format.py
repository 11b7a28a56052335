"""The interface of file formats, and the base class of formats that are read from front to back."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, TypeVar

import pyarrow as pa

from lakefeed._typing import Block
from lakefeed._units import MIB
from lakefeed.errors import FormatError, SchemaError, quoted_list
from lakefeed.expr import Expr
from lakefeed.storage.archives import streams, url_chains
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import PART_AHEAD_BYTES, access_errors, consistent_file, identity_at
from lakefeed.storage.urls import display_url

if TYPE_CHECKING:
    from lakefeed.storage.archives.streams import Stream

__all__ = [
    "SCHEMA_ADVICE",
    "Divided",
    "FilePart",
    "Format",
    "Indexed",
    "Streamed",
    "access_errors",
    "content_errors",
    "file_stamp",
    "open_url",
    "read_lines",
    "require_columns",
]

Item = TypeVar("Item")

SCHEMA_ADVICE = "; if the types were guessed wrong, say which they are: from_file(…, schema=pa.schema({…}))"
READ_BYTES = MIB


@dataclass(frozen=True)
class FilePart:
    """A part of a file that is read at once. ``rows`` is None if unknown; ``size`` is its approximate decoded size."""

    key: int
    rows: int | None
    size: int = 0


class Format(Protocol):
    """A file format. Stateless and thread-safe. Most formats are `Streamed`.

    ``states`` holds the states that files must be in. The state of a file that is read for the first time is added.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    has_row_counts: ClassVar[bool]
    """True if the parts of `addressable` files have row counts."""

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        """Returns whether each part of this file can be read on its own."""

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        """Returns the schema without reading the whole file."""

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        """Raises if the beginning of the file shows that it does not have the columns of ``schema``."""

    def parts(self, url: str, predicate: Expr | None, states: Identities | None = None) -> Iterator[FilePart]:
        """Yields the parts in row order. Parts in which no row can match ``predicate`` may be left out."""

    def read(
        self,
        url: str,
        part: FilePart,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        start: int,
        stop: int | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows ``[start, stop)`` of a part with the ``columns`` of ``schema``; None for all.

        With ``strict``, a column that the file has and ``schema`` lacks is an error where the reader sees it.
        Otherwise it is left out.
        """

    def blocks(
        self,
        url: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Generator[Block] | None:
        """Yields the parts of a file that is not addressable; see `lakefeed.plan.Source.blocks`."""


class Streamed:
    """A format that reads a file from front to back. A subclass defines ``name``, ``suffixes``, `head` and `rows`.

    Files in archives and compressed files are read by this class.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    has_row_counts: ClassVar[bool] = False
    kind: ClassVar[str] = ""
    """The name of the format in messages; empty for ``name``."""

    def head(self, stream: Stream) -> pa.Schema:
        """Returns the schema of an open file. Should read only the beginning."""
        raise NotImplementedError(type(self).__name__)

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows of an open file; see `Format.read`."""
        raise NotImplementedError(type(self).__name__)

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        return False

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        return self.first_head(url, states)

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        with closing(self.all_rows(url, schema, None, strict=False, states=states)) as batches:
            next(batches, None)

    def parts(self, url: str, predicate: Expr | None, states: Identities | None = None) -> Iterator[FilePart]:
        yield FilePart(0, None)

    def read(
        self,
        url: str,
        part: FilePart,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        start: int,
        stop: int | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Iterator[pa.RecordBatch]:
        return self.all_rows(url, schema, columns, strict=strict, states=states)

    def blocks(
        self,
        url: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Generator[Block] | None:
        return None

    def first_head(self, url: str, states: Identities | None = None) -> pa.Schema:
        """Returns the schema of the first file that the URL names."""
        with closing(streams.open_streams(url, states)) as opened:
            stream = next(opened)
            with content_errors(stream.url, self.kind or self.name, SCHEMA_ADVICE):
                return self.head(stream)

    def all_rows(
        self,
        url: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        *,
        strict: bool,
        states: Identities | None = None,
    ) -> Generator[pa.RecordBatch]:
        """Yields the rows of every file that the URL names."""
        return self._all(url, states, lambda stream: self.rows(stream, schema, columns, strict))

    def _all(self, url: str, states: Identities | None, read: Callable[[Stream], Iterator[Item]]) -> Generator[Item]:
        """Yields the items of every file that the URL names."""
        with closing(streams.open_streams(url, states)) as opened:
            for stream in opened:
                try:
                    with content_errors(stream.url, self.kind or self.name, SCHEMA_ADVICE):
                        yield from read(stream)
                except FormatError as error:
                    opened.throw(error)  # raises it, or an error that says that the file changed


class Indexed(Streamed):
    """A format whose files say where their parts are and how many rows these have, such as Parquet.

    A subclass defines `index_schema`, `index_parts` and `read_part` for files that stand by themselves. Files in
    archives are read from front to back, with `head` and `rows`.
    """

    has_row_counts: ClassVar[bool] = True

    def index_schema(self, url: str, states: Identities) -> pa.Schema:
        """Returns the schema of an addressable file."""
        raise NotImplementedError(type(self).__name__)

    def index_parts(self, url: str, predicate: Expr | None, states: Identities) -> Iterator[FilePart]:
        """Yields the parts of an addressable file; see `Format.parts`."""
        raise NotImplementedError(type(self).__name__)

    def read_part(
        self, url: str, key: int, columns: Sequence[str] | None, start: int, stop: int | None, states: Identities
    ) -> Iterator[pa.RecordBatch]:
        """Yields the rows ``[start, stop)`` of a part of an addressable file; see `Format.read`."""
        raise NotImplementedError(type(self).__name__)

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        return url_chains.parse_chain(url).is_plain

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        states = _states(states)
        return self.index_schema(url, states) if self.addressable(url, states) else super().schema(url, states)

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        require_columns(url, self.schema(url, states).names, schema.names)

    def parts(self, url: str, predicate: Expr | None, states: Identities | None = None) -> Iterator[FilePart]:
        states = _states(states)
        if not self.addressable(url, states):
            return super().parts(url, predicate, states)
        return self.index_parts(url, predicate, states)

    def read(
        self,
        url: str,
        part: FilePart,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        start: int,
        stop: int | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Iterator[pa.RecordBatch]:
        if part.rows is None:
            return super().read(url, part, schema, columns, start, stop, strict=strict, states=states)
        return self.read_part(url, part.key, columns, start, stop, _states(states))


class Divided(Streamed):
    """A format of text whose blocks are decoded independently, so that several threads decode a file.

    A subclass defines `parts_of` instead of `rows`.
    """

    def parts_of(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[Block]:
        """Yields the parts of an open file. Reads it in the thread of the caller."""
        raise NotImplementedError(type(self).__name__)

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, strict: bool
    ) -> Iterator[pa.RecordBatch]:
        for part in self.parts_of(stream, schema, columns, strict):
            yield from part()

    def blocks(
        self,
        url: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        *,
        strict: bool = True,
        states: Identities | None = None,
    ) -> Generator[Block] | None:
        def blocks_of(stream: Stream) -> Iterator[Block]:
            for part in self.parts_of(stream, schema, columns, strict):
                yield partial(self._decode, part, stream.url)

        return self._all(url, states, blocks_of)

    def _decode(self, part: Block, url: str) -> Sequence[pa.RecordBatch]:
        with content_errors(url, self.kind or self.name, SCHEMA_ADVICE):
            return part()


@contextmanager
def open_url(url: str, compression: str | None = "infer", states: Identities | None = None) -> Iterator[Any]:
    """Opens the first file that a URL names; with ``compression=None`` the bytes at the URL itself.

    Raises:
        MissingFileError: the file does not exist, or is a folder.
        FileError: the file cannot be read.
    """
    plain = compression != "infer"
    with consistent_file(url, PART_AHEAD_BYTES, states) if plain else streams.open_stream(url, states) as file:
        yield file


def _states(states: Identities | None) -> Identities:
    return Identities() if states is None else states


def require_columns(url: str, names: Sequence[str], required: Sequence[str]) -> None:
    """Raises SchemaError if a file lacks some of the ``required`` columns."""
    missing = [name for name in required if name not in names]
    if missing:
        raise SchemaError(f"{display_url(url)} has no columns {quoted_list(missing)}; it has {quoted_list(names)}")


CONTENT_ERRORS = (
    pa.ArrowException, EOFError, UnicodeDecodeError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


@contextmanager
def content_errors(url: str, format_name: str, advice: str = "") -> Iterator[None]:
    """Raises `FormatError` for errors about malformed content."""
    try:
        yield
    except CONTENT_ERRORS as error:
        hint = advice if isinstance(error, pa.ArrowInvalid) else ""
        raise FormatError(f"{display_url(url)} cannot be read as {format_name}: {error}{hint}") from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        # Arrow raises OSError without errno for malformed content.
        raise FormatError(f"{display_url(url)} cannot be read as {format_name}: {error}") from error


def file_stamp(url: str, states: Identities | None = None) -> tuple[Any, ...]:
    """Returns what identifies the state of a file: its size and its modification time or entity tag."""
    return identity_at(url_chains.parse_chain(url).base, states).stamp


def read_lines(file: Any) -> Iterator[bytes]:
    """Yields the lines of an open file."""
    rest = b""
    while chunk := file.read(READ_BYTES):
        *complete, rest = (rest + chunk).split(b"\n")
        yield from complete
    if rest:
        yield rest
