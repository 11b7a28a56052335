"""The interface of media types."""

from __future__ import annotations

import mimetypes
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, BinaryIO, Literal, TypeAlias

import pyarrow as pa

from lakefeed.media.handles import Handle
from lakefeed.storage.urls import suffix

TYPE_KEY = b"lakefeed.type"
HEAD_BYTES = 64  # enough for all magic numbers
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

_PYTHON_TYPES = mimetypes.MimeTypes()  # Python's own table, so that files of the machine cannot change a dataset


def head_of(value: pa.BinaryScalar | pa.LargeBinaryScalar) -> bytes:
    """Returns the first bytes of a binary value that is not null."""
    buffer = value.as_buffer()
    return buffer.slice(0, min(HEAD_BYTES, buffer.size)).to_pybytes()


def _no_sniff(head: bytes) -> str | None:
    return None


def _no_probe(stream: BinaryIO) -> Stats:
    return {}


@dataclass(frozen=True, eq=False)
class MediaType:
    """A type of file column. Immutable; its functions are thread-safe.

    Attributes:
        name: the name in the metadata of columns and in ``column_types``.
        handle: the class of cells in Python.
        default_mode: the mode of ``load_files="auto"``.
        stat_fields: the fields that ``probe`` fills, all nullable.
        content_types: the content types by file extension (lower case, with its dot). Inference uses the extensions.
        sniff: returns the content type that the first ``HEAD_BYTES`` bytes show, or None.
        probe: returns the statistics of an open file without decoding all of it. Raises FormatError if the file is
            broken, MissingDependencyError if the library that reads it is not installed.
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
        """Returns the content type by the first bytes, or else by the extension of the name."""
        # From the first dot on, so that names with equal extensions share one entry of the cache.
        name = (filename or "").rpartition("/")[2]
        return self.sniff(head) or _type_by_extensions(self, name[name.find(".", 1) :] if "." in name[1:] else "")


@lru_cache(4096)
def _type_by_extensions(kind: MediaType, extensions: str) -> str:
    extension = suffix(f"name{extensions}")
    by_name = kind.content_types.get(extension) or _PYTHON_TYPES.guess_type(f"name{extension}", strict=False)[0]
    return by_name or UNKNOWN_CONTENT
