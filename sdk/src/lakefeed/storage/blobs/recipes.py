"""Recipes: the lists of the chunks of large contents.

A content that was cut is stored as its chunks, which are contents like any others, and a recipe. The recipe has the
name of the whole content (its SHA-256), and a flag in the index of its pack.

    8 bytes            magic
    32 bytes           the SHA-256 of the whole content
    8, 8, 4, 4 bytes   the size of the content, the number of entries, the level, 0
    the entries        40 bytes each: sha256 (32), length (8)
    32 bytes           the SHA-256 of all this

At level 0, the entries are chunks. At level 1, they are groups: contents that consist of the entries of 256 to 4,096
chunks. A group ends where the bytes of the chunks say so. So an edit of a very large file writes one new group and a
short recipe. All numbers are little-endian and unsigned.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from lakefeed.errors import IntegrityError

MAGIC: Final = b"LKFDRCP1"
MAX_DIRECT_CHUNKS: Final = 2_048
MIN_GROUP_CHUNKS: Final = 256
MAX_GROUP_CHUNKS: Final = 4_096
GROUP_MASK: Final = 0x3FF  # of the first bytes of a digest: a group ends after about so many chunks more

ENTRY: Final = np.dtype([("sha256", "S32"), ("length", "<u8")])
_HEADER: Final = struct.Struct("<8s32sQQII")
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True)
class Parts:
    """Contents that follow each other in a larger one: chunks, or groups of chunks.

    Attributes:
        raw: the entries.
    """

    raw: bytes

    def __len__(self) -> int:
        return len(self.raw) // ENTRY.itemsize

    def digest(self, number: int) -> bytes:
        """Returns the raw SHA-256 of a part."""
        start = number * ENTRY.itemsize
        return self.raw[start : start + _DIGEST_BYTES]

    def digests(self) -> list[bytes]:
        """Returns the raw SHA-256 of all parts."""
        return [self.digest(number) for number in range(len(self))]

    @property
    def array(self) -> NDArray[np.bytes_]:
        """The raw SHA-256 of all parts as an array. numpy drops trailing zero bytes."""
        return np.frombuffer(self.raw, ENTRY)["sha256"]

    @cached_property
    def ends(self) -> NDArray[np.int64]:
        """The position of the end of each part in the content."""
        return np.cumsum(np.frombuffer(self.raw, ENTRY)["length"].astype(np.int64))

    @classmethod
    def of(cls, entries: list[tuple[bytes, int]]) -> Parts:
        """Returns parts with these raw SHA-256 and lengths."""
        return cls(b"".join(digest + length.to_bytes(8, "little") for digest, length in entries))


@dataclass(frozen=True)
class Recipe:
    """The parts of a content.

    Attributes:
        sha256: the raw SHA-256 of the content.
        size: the size of the content in bytes.
        is_grouped: the parts are groups, not chunks.
        parts: the parts.
    """

    sha256: bytes
    size: int
    is_grouped: bool
    parts: Parts

    def encode(self) -> bytes:
        """Returns the bytes that `decode_recipe` reads."""
        header = _HEADER.pack(MAGIC, self.sha256, self.size, len(self.parts), int(self.is_grouped), 0)
        body = header + self.parts.raw
        return body + hashlib.sha256(body).digest()

    def chunk_lists(self, read: Callable[[bytes], bytes]) -> Iterator[Parts]:
        """Yields the chunks, in lists. ``read`` returns the verified content with a raw SHA-256."""
        if not self.is_grouped:
            yield self.parts
            return
        for digest in self.parts.digests():
            yield Parts(read(digest))

    def all_parts(self, read: Callable[[bytes], bytes]) -> NDArray[np.bytes_]:
        """Returns the raw SHA-256 of all chunks and groups, sorted and distinct."""
        groups = [self.parts.array] if self.is_grouped else []
        return np.unique(np.concatenate([*groups, *(chunks.array for chunks in self.chunk_lists(read))]))


def decode_recipe(sha256: bytes, data: bytes, origin: str) -> Recipe:
    """Returns the recipe of the content with a raw SHA-256.

    Raises:
        IntegrityError: ``data`` is damaged, or is another recipe. The message names ``origin``.
    """
    body, checksum = data[:-_DIGEST_BYTES], data[-_DIGEST_BYTES:]
    if len(body) >= _HEADER.size and hashlib.sha256(body).digest() == checksum:
        magic, digest, size, count, level, _ = _HEADER.unpack(body[: _HEADER.size])
        parts = Parts(body[_HEADER.size :])
        fits = len(parts.raw) == count * ENTRY.itemsize and int(parts.ends[-1] if count else 0) == size
        if magic == MAGIC and digest == sha256 and level in (0, 1) and fits:
            return Recipe(sha256, size, bool(level), parts)
    raise IntegrityError(f"{origin} is damaged: it is not the list of the chunks of the blob {sha256.hex()}")


def make_recipe(sha256: bytes, chunks: list[tuple[bytes, int]]) -> tuple[Recipe, dict[bytes, bytes]]:
    """Returns the recipe of a content, and the groups that it consists of, by raw SHA-256.

    Args:
        sha256: the raw SHA-256 of the content.
        chunks: the raw SHA-256 and the length of each chunk.
    """
    size = sum(length for _, length in chunks)
    if len(chunks) <= MAX_DIRECT_CHUNKS:
        return Recipe(sha256, size, False, Parts.of(chunks)), {}
    groups: dict[bytes, bytes] = {}
    entries = []
    for group in _split_chunks(chunks):
        raw = Parts.of(group).raw
        digest = hashlib.sha256(raw).digest()
        groups[digest] = raw
        entries.append((digest, sum(length for _, length in group)))
    return Recipe(sha256, size, True, Parts.of(entries)), groups


def _split_chunks(chunks: list[tuple[bytes, int]]) -> Iterator[list[tuple[bytes, int]]]:
    start = 0
    for number, (digest, _) in enumerate(chunks, 1):
        length = number - start
        is_boundary = int.from_bytes(digest[:2], "little") & GROUP_MASK == 0
        if length == MAX_GROUP_CHUNKS or (is_boundary and length >= MIN_GROUP_CHUNKS):
            yield chunks[start:number]
            start = number
    if start < len(chunks):
        yield chunks[start:]
