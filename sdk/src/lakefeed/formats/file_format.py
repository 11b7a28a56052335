"""What a file format is to the rest: a schema, fragments, a reader."""

from __future__ import annotations

import gzip
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.errors import FormatError, SchemaError, quoted_list
from lakefeed.expr import Expr
from lakefeed.storage.archives.streams import Stream, opened_stream, streams
from lakefeed.storage.archives.url_chains import parse_chain
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.remote.retrying_file import PART_AHEAD_BYTES, identity_at, reaching, steady
from lakefeed.storage.urls import shown

__all__ = [
    "SCHEMA_ADVICE",
    "FilePart",
    "Format",
    "StreamedFormat",
    "content_errors",
    "file_stamp",
    "open_url",
    "reaching",
    "read_lines",
    "require_columns",
]

SCHEMA_ADVICE = "; if the types were guessed wrong, say which they are: from_file(…, schema=pa.schema({…}))"
READ_BYTES = MIB


@dataclass(frozen=True)
class FilePart:
    """A part of a file that is read at once: ``rows`` (None: unknown) rows of about ``size`` bytes decoded."""

    key: int
    rows: int | None
    size: int = 0


class Format(Protocol):
    """One file format. Stateless; its functions may be called from several threads. Most are `Streamed`.

    ``states``: the states in which files have to be; that of a file which is read for the first time is recorded.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    counted: ClassVar[bool]
    """Whether parts know their row counts, of files that are `addressable`."""

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        """Whether any part of this file can be read by itself."""

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        """The schema, without reading the whole file."""

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        """Raises if the file cannot give the columns of ``schema``, as far as its beginning tells."""

    def parts(self, url: str, predicate: Expr | None, states: Identities | None = None) -> Iterator[FilePart]:
        """The parts in row order; those in which no row can match may be left out."""

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
        """The rows ``[start, stop)`` of a part, streamed, as ``columns`` of ``schema``.

        ``exact``: a column of the file that ``schema`` lacks is an error, as far as it is seen; else it is left out.
        """


class StreamedFormat:
    """A format that reads a file from front to back. A new one says its names, ``head`` and ``rows``.

    Files in archives and behind compressions come for free.
    """

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    counted: ClassVar[bool] = False
    kind: ClassVar[str] = ""
    """What messages call it, if not by its name."""

    def head(self, stream: Stream) -> pa.Schema:
        """The schema of an open file, of which it should read no more than the beginning."""
        raise NotImplementedError(type(self).__name__)

    def rows(
        self, stream: Stream, schema: pa.Schema, columns: Sequence[str] | None, exact: bool
    ) -> Iterator[pa.RecordBatch]:
        """The rows of an open file; see `Format.read`."""
        raise NotImplementedError(type(self).__name__)

    def addressable(self, url: str, states: Identities | None = None) -> bool:
        return False

    def schema(self, url: str, states: Identities | None = None) -> pa.Schema:
        return self.first_head(url, states)

    def check(self, url: str, schema: pa.Schema, states: Identities | None = None) -> None:
        with closing(self.all_rows(url, schema, None, exact=False, states=states)) as batches:
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
        exact: bool = True,
        states: Identities | None = None,
    ) -> Iterator[pa.RecordBatch]:
        return self.all_rows(url, schema, columns, exact=exact, states=states)

    def first_head(self, url: str, states: Identities | None = None) -> pa.Schema:
        """The schema of the (first) file."""
        with closing(streams(url, states)) as found:
            stream = next(found)
            with content_errors(stream.url, self.kind or self.name, SCHEMA_ADVICE):
                return self.head(stream)

    def all_rows(
        self,
        url: str,
        schema: pa.Schema,
        columns: Sequence[str] | None,
        *,
        exact: bool,
        states: Identities | None = None,
    ) -> Generator[pa.RecordBatch]:
        """The rows of every file that the URL leads to."""
        with closing(streams(url, states)) as found:
            for stream in found:
                try:
                    with content_errors(stream.url, self.kind or self.name, SCHEMA_ADVICE):
                        yield from self.rows(stream, schema, columns, exact)
                except FormatError as error:
                    found.throw(error)  # to where it is known whether the file changed, which raises in any case


@contextmanager
def open_url(url: str, compression: str | None = "infer", states: Identities | None = None) -> Iterator[Any]:
    """The (first) file that a URL leads to, open for reading; with ``compression=None`` the bytes at the URL itself.

    Raises:
        MissingFileError: it is not there, or a folder.
        FileError: it may not be read.
    """
    with opened_stream(url, states) if compression == "infer" else steady(url, PART_AHEAD_BYTES, states) as file:
        yield file


def require_columns(url: str, names: Sequence[str], wanted: Sequence[str]) -> None:
    """Raises SchemaError where a file lacks columns that it must have."""
    missing = [name for name in wanted if name not in names]
    if missing:
        raise SchemaError(f"{shown(url)} has no columns {quoted_list(missing)}; it has {quoted_list(names)}")


CONTENT_ERRORS = (
    pa.ArrowException, EOFError, UnicodeDecodeError, gzip.BadGzipFile, lzma.LZMAError, tarfile.TarError, zlib.error,
    zipfile.BadZipFile,
)  # fmt: skip


@contextmanager
def content_errors(url: str, form: str, advice: str = "") -> Iterator[None]:
    """Errors of content that is not what the format says, as `FormatError`."""
    try:
        yield
    except CONTENT_ERRORS as error:
        hint = advice if isinstance(error, pa.ArrowInvalid) else ""
        raise FormatError(f"{shown(url)} cannot be read as {form}: {error}{hint}") from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        # So Arrow says that the bytes inside a file make no sense.
        raise FormatError(f"{shown(url)} cannot be read as {form}: {error}") from error


def file_stamp(url: str, states: Identities | None = None) -> tuple[Any, ...]:
    """What tells that a file is still the same one: its size and its modification time or entity tag."""
    return identity_at(parse_chain(url).base, states).stamp


def read_lines(file: Any) -> Iterator[bytes]:
    """The lines of an open file."""
    rest = b""
    while piece := file.read(READ_BYTES):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
    if rest:
        yield rest
