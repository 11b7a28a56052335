"""Compressions: their decompressors, and their detection from the first bytes of a file."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from typing import Any

import pyarrow as pa

DECOMPRESSORS: dict[str, Callable[[Any], Any]] = {
    "gzip": lambda file: gzip.GzipFile(fileobj=file),
    "bz2": bz2.BZ2File,
    "xz": lzma.LZMAFile,
    "zstd": lambda file: pa.CompressedInputStream(file, "zstd"),
    "lz4": lambda file: pa.CompressedInputStream(file, "lz4"),
}
"""Functions that open a compressed file, by the name of the compression. They read all streams of a file."""

_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ": "xz",
    b"\x5d\x00\x00\x80": "xz",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\x04\x22\x4d\x18": "lz4",
}
_BZ2, _BZ2_BLOCK = b"BZh", b"1AY&SY"


def detect_compression(first: bytes) -> str | None:
    """Returns the compression that the first bytes of a file show; None if they show none.

    Example:
        >>> detect_compression(gzip.compress(b"rows")), detect_compression(b"BZh.csv")
        ('gzip', None)
    """
    if first.startswith(_BZ2) and first[4:10] == _BZ2_BLOCK:
        return "bz2"
    return next((name for magic, name in _MAGIC.items() if first.startswith(magic)), None)
