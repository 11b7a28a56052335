"""Packs: many small contents in one immutable object, which has an index of their positions.

    8 bytes            magic
    the contents       back to back
    the index          an entry of 48 bytes per content: sha256 (32), offset (8), length (8), sorted by sha256
    the footer         64 bytes: magic (8), version (4), 0 (4), entries (8), offset of the index (8), its sha256 (32)

All numbers are little-endian and unsigned. Packs are the only source of truth: an index of all packs can be built again
from their ends.

A pack of version 2 contains recipes (`lakefeed.storage.blobs.recipes`). The highest bit of the length marks the entry
of a recipe, whose sha256 is that of the content that it describes. Packs without recipes have version 1.
"""

from __future__ import annotations

import hashlib
import struct
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import BinaryIO, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from lakefeed._units import KIB
from lakefeed.errors import IntegrityError, UnsupportedError
from lakefeed.storage.blobs.objects import ObjectInfo, Objects
from lakefeed.storage.disk.atomic_write import write_pieces

FOLDER: Final = "packs"
SUFFIX: Final = ".pack"
MAGIC: Final = b"LKFDPACK"
VERSION: Final = 1
RECIPE_VERSION: Final = 2
RECIPE_FLAG: Final = 1 << 63
MAX_ENTRIES = 1 << 17
TAIL_BYTES = 64 * KIB  # holds the footer and the index of some 1,300 contents: one read for most small packs

ENTRY = np.dtype([("sha256", "S32"), ("offset", "<u8"), ("length", "<u8")])
READ_ENTRY = np.dtype([*ENTRY.descr, ("is_recipe", "?")])
_FOOTER = struct.Struct("<8sIIQQ32s")

PackEntries = NDArray[np.void]
"""The index of a pack: ``sha256``, ``offset``, ``length`` and ``is_recipe`` of each content."""


class PackEntry(NamedTuple):
    """The position of a content in a pack."""

    offset: int
    length: int
    is_recipe: bool = False


@dataclass
class PackWriter:
    """A pack that is written to a local file. The caller closes the file."""

    stream: BinaryIO
    size: int = 0
    _entries: dict[bytes, PackEntry] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._write(MAGIC)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, digest: bytes) -> bool:
        return digest in self._entries

    @property
    def contents(self) -> Mapping[bytes, PackEntry]:
        """The positions of the added contents by raw digest."""
        return self._entries

    def add(self, contents: Mapping[bytes, bytes | memoryview], are_recipes: bool = False) -> None:
        """Adds contents by raw SHA-256, or recipes by the raw SHA-256 of the contents that they describe."""
        offset = self.size
        for digest, data in contents.items():
            self._entries[digest] = PackEntry(offset, len(data), are_recipes)
            offset += len(data)
        write_pieces(self.stream, list(contents.values()))
        self.size = offset

    def add_pieces(self, pieces: Iterator[bytes]) -> tuple[bytes, int]:
        """Adds one content in chunks. Returns its raw SHA-256 and size."""
        digest, offset = hashlib.sha256(), self.size
        for piece in pieces:
            digest.update(piece)
            self._write(piece)
        self._entries[digest.digest()] = PackEntry(offset, self.size - offset)
        return digest.digest(), self.size - offset

    def finish(self) -> None:
        """Writes the index and the footer."""
        index = np.zeros(len(self._entries), ENTRY)
        version = VERSION
        for row, digest in enumerate(sorted(self._entries)):
            entry = self._entries[digest]
            index[row] = (digest, entry.offset, entry.length | (RECIPE_FLAG if entry.is_recipe else 0))
            version = RECIPE_VERSION if entry.is_recipe else version
        raw, offset = index.tobytes(), self.size
        self._write(raw)
        self._write(_FOOTER.pack(MAGIC, version, 0, len(index), offset, hashlib.sha256(raw).digest()))
        self.stream.flush()

    def _write(self, data: bytes) -> None:
        self.stream.write(data)
        self.size += len(data)


def new_pack_key() -> str:
    """Returns a unique key, so that a pack under deletion is never written again under its key."""
    return f"{FOLDER}/{uuid.uuid4().hex}{SUFFIX}"


def is_pack_key(key: str) -> bool:
    return key.startswith(f"{FOLDER}/") and key.endswith(SUFFIX)


def read_index(objects: Objects, pack: ObjectInfo) -> PackEntries:
    """Returns the index of a pack.

    Raises:
        FileNotFoundError: the pack was deleted.
        IntegrityError: the end of the pack is damaged.
        UnsupportedError: a newer version of lakefeed wrote the pack.
    """
    start = max(0, pack.size - TAIL_BYTES)
    tail = objects.read(pack.key, start, pack.size)
    if len(tail) < _FOOTER.size or len(tail) != pack.size - start:
        raise _damage_error(objects, pack)
    magic, version, _, count, offset, checksum = _FOOTER.unpack(tail[-_FOOTER.size :])
    if magic != MAGIC:
        raise _damage_error(objects, pack)
    if version not in (VERSION, RECIPE_VERSION):
        raise UnsupportedError(
            f"{objects.url(pack.key)} has version {version} of packs; this lakefeed reads {VERSION} and "
            f"{RECIPE_VERSION}. Upgrade lakefeed"
        )
    end = pack.size - _FOOTER.size
    if offset + count * ENTRY.itemsize != end:
        raise _damage_error(objects, pack)
    raw = tail[offset - start : -_FOOTER.size] if offset >= start else objects.read(pack.key, offset, end)
    if hashlib.sha256(raw).digest() != checksum:
        raise _damage_error(objects, pack)
    return _decode_index(np.frombuffer(raw, ENTRY), version == RECIPE_VERSION)


def _decode_index(stored: PackEntries, has_recipes: bool) -> PackEntries:
    index = np.zeros(len(stored), READ_ENTRY)
    index["sha256"], index["offset"] = stored["sha256"], stored["offset"]
    if has_recipes:
        index["length"] = stored["length"] & np.uint64(RECIPE_FLAG - 1)
        index["is_recipe"] = stored["length"] >> np.uint64(63)
    else:
        index["length"] = stored["length"]
    return index


def raw_digests(index: PackEntries) -> list[bytes]:
    """Returns the digests of an index. numpy drops trailing zero bytes of text."""
    return [digest.ljust(32, b"\0") for digest in index["sha256"].tolist()]


def _damage_error(objects: Objects, pack: ObjectInfo) -> IntegrityError:
    return IntegrityError(f"the pack {objects.url(pack.key)} is damaged: its index cannot be read")
