"""Compressions and hashes of MDS shards."""

from __future__ import annotations

import bz2
import gzip
import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import pyarrow as pa

from lakefeed.errors import InvalidArgumentError, MissingDependencyError, quoted_list


class Levels(NamedTuple):
    """The levels of a compression: the lowest, the highest, and the one that is meant without a level."""

    lowest: int
    highest: int
    default: int


COMPRESSIONS: Final[dict[str, Levels | None]] = {
    "br": Levels(0, 11, 11),
    "bz2": Levels(1, 9, 9),
    "gz": Levels(0, 9, 9),
    "snappy": None,
    "zstd": Levels(1, 22, 3),
}
"""The compressions of MDS, by the extension of their files."""
CODECS: Final[Mapping[str, Any]] = {"br": "brotli", "zstd": "zstd", "snappy": "snappy"}
"""The names of Arrow's codecs."""
XXHASHES: Final = frozenset({"xxh128", "xxh32", "xxh3_128", "xxh3_64", "xxh64"})


@dataclass(frozen=True)
class ShardEncoding:
    """The compression and the hashes of the files of shards.

    Attributes:
        compression: a compression, such as "zstd" or "zstd:7"; None for none.
        hashes: the names of the hashes that the index has of each file, sorted.
    """

    compression: str | None = None
    hashes: tuple[str, ...] = ()

    @classmethod
    def of(cls, compression: Any, hashes: Any) -> ShardEncoding:
        """Returns the encoding of the arguments of `Dataset.to_mds`.

        Raises:
            InvalidArgumentError: the compression or the hash is unknown.
            MissingDependencyError: a hash needs a library that is not installed.
        """
        if compression is not None:
            _parse(compression)
        if isinstance(hashes, str | bytes | Mapping) or not isinstance(hashes, Iterable):
            raise InvalidArgumentError(f"hashes must be a list of names, such as ['sha1'], got {hashes!r:.80}")
        names = list(hashes)
        for name in names:
            _new_hash(name)
        return cls(compression, tuple(sorted(set(names))))

    @property
    def extension(self) -> str | None:
        """The extension of compressed files; None without compression."""
        return None if self.compression is None else _parse(self.compression)[0]

    def compress(self, pieces: Sequence[Any]) -> bytes:
        """Returns the bytes of a shard, compressed."""
        name, level = _parse(self.compression)
        data = b"".join(pieces)
        if name == "gz":
            return gzip.compress(data, level, mtime=0)
        if name == "bz2":
            return bz2.compress(data, level)
        codec = pa.Codec(CODECS[name], None if name == "snappy" else level)
        compressed: bytes = codec.compress(data, asbytes=True)
        return compressed

    def hashes_of(self, pieces: Iterable[Any]) -> dict[str, str]:
        """Returns the hexadecimal hashes of a file, by their names."""
        digests = {name: _new_hash(name) for name in self.hashes}
        for piece in pieces:
            for digest in digests.values():
                digest.update(piece)
        return {name: digest.hexdigest() for name, digest in digests.items()}


def _parse(compression: Any) -> tuple[str, int]:
    """Returns the extension and the level."""
    name, colon, level = compression.partition(":") if isinstance(compression, str) else ("", "", "")
    levels = COMPRESSIONS.get(name)
    if name in COMPRESSIONS and not colon:
        return name, 0 if levels is None else levels.default
    if levels is not None and level.isdecimal() and levels.lowest <= int(level) <= levels.highest:
        return name, int(level)
    known = [
        each if levels is None else f"{each}:{levels.lowest}-{levels.highest}" for each, levels in COMPRESSIONS.items()
    ]
    raise InvalidArgumentError(
        f"compression={compression!r:.80}: choose one of {quoted_list(COMPRESSIONS)}, or with a level "
        f"{quoted_list(each for each in known if ':' in each)}"
    )


def _new_hash(name: Any) -> Any:
    if isinstance(name, str) and name in XXHASHES:
        try:
            import xxhash
        except ModuleNotFoundError as error:
            raise MissingDependencyError(f"the hash {name!r} needs xxhash: pip install xxhash") from error
        return getattr(xxhash, name)()
    if not isinstance(name, str) or name not in hashlib.algorithms_guaranteed or name.startswith("shake_"):
        known = sorted({*hashlib.algorithms_guaranteed, *XXHASHES} - {"shake_128", "shake_256"})
        raise InvalidArgumentError(f"hashes: there is no hash {name!r:.80}; choose of {quoted_list(known)}")
    return hashlib.new(name, usedforsecurity=False)
