"""What a file format is to the rest: a schema, fragments, a reader."""

from __future__ import annotations

import gzip
import lzma
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import fsspec
import pyarrow as pa

from lakefeed.errors import FileError, FormatError, MissingFileError
from lakefeed.expr import Expr


@dataclass(frozen=True)
class FilePart:
    """A part of a file that is read at once: ``rows`` (None: unknown) rows of about ``size`` bytes decoded."""

    key: int
    rows: int | None
    size: int = 0


class Format(Protocol):
    """One file format. Stateless; `read` may be called from several threads."""

    name: ClassVar[str]
    suffixes: ClassVar[tuple[str, ...]]
    counted: ClassVar[bool]
    """Whether parts know their row counts."""

    def schema(self, url: str) -> pa.Schema:
        """The schema, without reading the whole file."""

    def parts(self, url: str, predicate: Expr | None) -> Iterator[FilePart]:
        """The parts in row order; those in which no row can match may be left out."""

    def read(
        self, url: str, part: FilePart, schema: pa.Schema, columns: Sequence[str] | None, start: int, stop: int | None
    ) -> Iterator[pa.RecordBatch]:
        """The rows ``[start, stop)`` of a part, streamed, as ``columns`` of ``schema``."""


def opened(url: str, compression: str | None = "infer") -> Any:
    """The file open for reading bytes, decompressed by its suffix.

    Raises:
        MissingFileError: it is not there, or a folder.
        FileError: it may not be read.
    """
    with reaching(url):
        return fsspec.open(url, "rb", compression=compression).open()


@contextmanager
def reaching(url: str) -> Iterator[None]:
    """Errors of getting at a file as ours."""
    try:
        yield
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {url!r}") from error
    except IsADirectoryError as error:
        raise MissingFileError(f"{url!r} is a folder; name its files, such as {url.rstrip('/') + '/*'!r}") from error
    except PermissionError as error:
        raise FileError(f"{url!r} may not be read: {error}") from error


BROKEN = (pa.ArrowException, EOFError, gzip.BadGzipFile, lzma.LZMAError, zlib.error, UnicodeDecodeError)


@contextmanager
def reading(url: str, form: str, advice: str = "") -> Iterator[None]:
    """Errors of content that is not what the format says, as `FormatError`."""
    try:
        yield
    except BROKEN as error:
        raise FormatError(f"{url!r} cannot be read as {form}: {error}{advice}") from error
    except OSError as error:
        if type(error) is not OSError or error.errno is not None:
            raise
        # So Arrow says that the bytes inside a file make no sense.
        raise FormatError(f"{url!r} cannot be read as {form}: {error}{advice}") from error


def stamp(url: str) -> tuple[Any, ...]:
    """What tells that a file is still the same one: its size and its modification time or entity tag."""
    fs, path = fsspec.core.url_to_fs(url)
    with reaching(url):
        info = fs.info(path)
    return info.get("size"), info.get("mtime") or info.get("ETag") or info.get("LastModified")
