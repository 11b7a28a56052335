"""What every media type has: its columns, how it is recognised, how its statistics are read."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, TypeAlias

import pyarrow as pa

from lakefeed.media.handles import Handle
from lakefeed.storage.urls import suffix

TYPE_KEY = b"lakefeed.type"
HEAD_BYTES = 64  # enough for every magic number that is looked for
UNKNOWN_CONTENT = "application/octet-stream"

Mode: TypeAlias = Literal["bytes", "path"]
Stats: TypeAlias = Mapping[str, int | float | None]

COMMON_FIELDS = (
    pa.field("url", pa.string()),
    pa.field("sha256", pa.string()),
    pa.field("size", pa.int64()),
    pa.field("content_type", pa.string()),
    pa.field("filename", pa.string()),
)

_PYTHON_TYPES = mimetypes.MimeTypes()  # Python's own table: what this machine has installed must not change a dataset


def head_of(value: pa.BinaryScalar | pa.LargeBinaryScalar) -> bytes:
    """The first bytes of a binary value (not null), without a copy of the rest."""
    buffer = value.as_buffer()
    return buffer.slice(0, min(HEAD_BYTES, buffer.size)).to_pybytes()


def _no_sniff(head: bytes) -> str | None:
    return None


def _no_probe(stream: BinaryIO) -> Stats:
    return {}


@dataclass(frozen=True, eq=False)
class MediaType:
    """One kind of file column. A value without state; its functions are safe between threads.

    Attributes:
        name: what a column's metadata and ``column_types`` say.
        handle: the class of a cell in Python.
        default_mode: what ``load_files="auto"`` makes of a cell.
        stat_fields: the columns that ``probe`` fills, all nullable.
        content_types: the content type of each file extension (lower case, with its dot) that marks the type.
        sniff: the content type that the first ``HEAD_BYTES`` bytes show, or None.
        probe: the statistics of an open file; raises FormatError if it is broken, MissingDependencyError if the
            library that reads it is not installed. Never decodes a whole file.
    """

    name: str
    handle: type[Handle]
    default_mode: Mode = "bytes"
    stat_fields: tuple[pa.Field[Any], ...] = ()
    content_types: Mapping[str, str] = field(default_factory=dict)
    sniff: Callable[[bytes], str | None] = _no_sniff
    probe: Callable[[BinaryIO], Stats] = _no_probe

    @property
    def struct(self) -> pa.StructType:
        """The Arrow type of a cell."""
        return pa.struct([*COMMON_FIELDS, *self.stat_fields])

    def content_type(self, filename: str | None, head: bytes) -> str:
        """The content type: what the first bytes show goes before what the name claims."""
        ending = suffix(filename or "")
        claimed = self.content_types.get(ending) or _PYTHON_TYPES.guess_type(f"name{ending}", strict=False)[0]
        return self.sniff(head) or claimed or UNKNOWN_CONTENT
