"""What a file format is to the rest: a schema, fragments, a reader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import fsspec
import pyarrow as pa

from lakefeed.errors import MissingFileError
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


def opened(url: str) -> Any:
    """The file open for reading bytes, decompressed by its suffix.

    Raises:
        MissingFileError: it is not there.
    """
    try:
        return fsspec.open(url, "rb", compression="infer").open()
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {url!r}") from error


def stamp(url: str) -> tuple[Any, ...]:
    """What tells that a file is still the same one: its size and its modification time or entity tag."""
    fs, path = fsspec.core.url_to_fs(url)
    try:
        info = fs.info(path)
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {url!r}") from error
    return info.get("size"), info.get("mtime") or info.get("ETag") or info.get("LastModified")
