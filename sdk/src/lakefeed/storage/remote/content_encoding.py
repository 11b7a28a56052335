"""Decodes bodies of responses that a server compressed, and notices where one ends too early."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from functools import reduce

GZIP_BITS = zlib.MAX_WBITS | 16
ZLIB_BITS = zlib.MAX_WBITS
RAW_BITS = -zlib.MAX_WBITS
"""Some servers send ``deflate`` without the header of zlib."""

BITS = {"gzip": GZIP_BITS, "x-gzip": GZIP_BITS, "deflate": ZLIB_BITS}
"""The encodings that can be decoded, with the window bits of zlib."""

ReadBytes = Callable[[int], bytes]


def decode_body(read: ReadBytes, encodings: list[str]) -> ReadBytes:
    """Returns a function that reads the decoded body, at most so many bytes at a time.

    Args:
        read: reads the body as it was sent.
        encodings: names of `BITS`, in the order in which the server applied them.

    Returns:
        The function. It raises EOFError if the body ends within the compressed data, and ``zlib.error`` if it cannot be
        decompressed.
    """
    return reduce(lambda inner, name: _Inflated(inner, BITS[name]).read, reversed(encodings), read)


class _Inflated:
    """Compressed data that are read decompressed. Several members, one after the other, are one content."""

    def __init__(self, read: ReadBytes, bits: int) -> None:
        self._read = read
        self._bits = bits
        self._compressed = b""
        self._member = zlib.decompressobj(bits)
        self._begun = False

    def read(self, size: int) -> bytes:
        while True:
            if not self._compressed:
                self._compressed = self._read(size)
                if not self._compressed:
                    self._require_end()
                    return b""
            content = self._inflate(size)
            if content:
                return content

    def _inflate(self, size: int) -> bytes:
        if self._member.eof:
            self._member = zlib.decompressobj(self._bits)
        elif not self._begun and self._bits == ZLIB_BITS and not _has_zlib_header(self._compressed):
            self._member = zlib.decompressobj(RAW_BITS)
        self._begun = True
        content = self._member.decompress(self._compressed, size)
        self._compressed = self._member.unused_data if self._member.eof else self._member.unconsumed_tail
        if self._member.eof and not self._compressed.strip(b"\0"):
            self._compressed = b""  # padding
        return content

    def _require_end(self) -> None:
        if self._begun and not self._member.eof:
            raise EOFError("the compressed body ends before its end marker")


def _has_zlib_header(data: bytes) -> bool:
    return data[0] & 0x0F == zlib.DEFLATED and (len(data) < 2 or int.from_bytes(data[:2]) % 31 == 0)
