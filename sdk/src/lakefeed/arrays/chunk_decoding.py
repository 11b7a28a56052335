"""The filters of HDF5 chunks that are decoded without the HDF5 library, which has one lock for all threads."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import cache
from importlib import import_module
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

Decode: TypeAlias = Callable[[Any, int], Any]
"""Returns the decoded bytes of a chunk of encoded ones and the expected size."""

DEFLATE: Final = 1
SHUFFLE: Final = 2
BLOSC: Final = 32_001
ZSTD: Final = 32_015
DECODE_ERRORS: Final = (
    ArithmeticError,
    EOFError,
    MemoryError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
    zlib.error,
)
"""The errors that decoders raise for damaged bytes."""


class ChunkFilter(NamedTuple):
    """A filter of a dataset: its HDF5 code, and the number of bytes of a value."""

    code: int
    item_bytes: int


def is_decodable(item: ChunkFilter) -> bool:
    """Returns whether chunks with this filter are decoded here."""
    return item.code in (DEFLATE, SHUFFLE) or (item.code in (ZSTD, BLOSC) and _codec(item.code) is not None)


def decode_chunk(content: Any, filters: tuple[ChunkFilter, ...], mask: int, size: int) -> Any:
    """Returns the values of a chunk as bytes.

    Args:
        content: the bytes in the file.
        filters: the filters in the order in which they were applied.
        mask: a bit for each filter that was left out.
        size: the number of bytes of the values.

    Raises:
        ValueError: the bytes are damaged. The libraries raise other `DECODE_ERRORS` too.
    """
    for number in reversed(range(len(filters))):
        if not mask >> number & 1:
            content = _decoder(filters[number])(content, size)
    if len(content) != size:
        raise ValueError(f"a chunk has {len(content)} bytes, expected {size}")
    return content


@cache
def _decoder(item: ChunkFilter) -> Decode:
    if item.code == DEFLATE:
        return _inflate()
    if item.code == SHUFFLE:
        return lambda content, _: _unshuffle(content, item.item_bytes)
    codec = _codec(item.code)
    assert codec is not None, "is_decodable was asked before"
    return lambda content, _: codec.decompress(bytes(content))


@cache
def _inflate() -> Decode:
    try:
        from isal import isal_zlib
    except ImportError:
        return lambda content, size: zlib.decompress(content, bufsize=size)
    failure: Any = isal_zlib.error

    def inflate(content: Any, size: int) -> Any:
        try:
            return isal_zlib.decompress(content, bufsize=size)
        except failure as error:
            raise ValueError(str(error)) from None

    return inflate


@cache
def _codec(code: int) -> Any:
    """Returns the module of numcodecs for a filter; None if it is not installed."""
    try:
        return import_module("numcodecs.zstd" if code == ZSTD else "numcodecs.blosc")
    except ImportError:
        return None


def _unshuffle(content: Any, item_bytes: int) -> Any:
    """Returns values whose first bytes, second bytes and so on were stored together."""
    stored = np.frombuffer(content, np.uint8)
    if item_bytes <= 1 or len(stored) % item_bytes:
        return content
    return np.ascontiguousarray(stored.reshape(item_bytes, -1).T).reshape(-1)
