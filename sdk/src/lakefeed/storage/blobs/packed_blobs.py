"""A store as its readers see it: a content stands alone, or lies in a pack."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol

from lakefeed._units import MIB
from lakefeed.storage.blobs.objects import ObjectRange, Objects
from lakefeed.storage.blobs.pack_index import PackIndex
from lakefeed.storage.blobs.steps import StepHook, ignore_step

PIECE_BYTES = 4 * MIB
MAX_LOOKUPS = 5


class SingleBlobs(Protocol):
    """Where the blobs of a store stand alone. Safe between threads and processes; picklable; ``put`` is idempotent.

    A blob is visible whole or not at all, and is only sure to survive a power cut once ``sync`` has named it.
    ``near`` says that asking for many blobs one by one costs little. ``put`` calls ``writing`` with the digest right
    before a blob that was not there gets its name.
    """

    @property
    def cheap_lookups(self) -> bool: ...
    @property
    def objects(self) -> Objects: ...
    def key(self, sha256: str) -> str: ...
    def size(self, sha256: str) -> int | None: ...
    def open(self, sha256: str) -> BinaryIO: ...
    def put(self, source: BinaryIO, writing: StepHook = ignore_step) -> tuple[str, int]: ...
    def sync(self, digests: Iterable[str]) -> None: ...
    def is_empty(self) -> bool: ...


class PackedBlobs:
    """The blobs that stand alone (``alone``) and those in packs. Safe between threads and processes."""

    def __init__(self, single_blobs: SingleBlobs, cache_dir: Path) -> None:
        self.single_blobs = single_blobs
        self.objects = single_blobs.objects
        self.index = PackIndex(single_blobs.objects, cache_dir)

    def prefetch(self, digests: Iterable[str]) -> None:
        """These are about to be opened: where they lie is looked up at once."""
        self.index.prefetch([bytes.fromhex(sha256) for sha256 in digests])

    def locate(self, sha256: str) -> str:
        """The URL of a blob; of one in a pack with the range of its bytes."""
        place = self.index.find(bytes.fromhex(sha256))
        if place is None:
            return self.objects.url(self.single_blobs.key(sha256))
        return f"{self.objects.url(place.key)}#bytes={place.start}-{place.start + place.length - 1}"

    def find_ranges(self, digests: Sequence[str]) -> list[ObjectRange] | None:
        """Where blobs of a local store lie, as far as is known here; None where one is not known."""
        raw = [bytes.fromhex(sha256) for sha256 in digests]
        packed = self.index.find_all(raw)
        found: list[ObjectRange] = []
        for sha256, digest in zip(digests, raw, strict=True):
            place = packed.get(digest)
            if place is None:
                size = self.single_blobs.size(sha256)
                if size is None:
                    return None
                place = ObjectRange(self.single_blobs.key(sha256), 0, size)
            found.append(place)
        return found

    def size(self, sha256: str) -> int | None:
        """The size in bytes; None for an unknown blob."""
        digest, seen = bytes.fromhex(sha256), self.index.refresh_count
        place = self.index.find(digest)
        if place is None and (size := self.single_blobs.size(sha256)) is not None:
            return size
        if place is None:
            self.index.refresh(seen)
            place = self.index.find(digest)
        return place.length if place is not None else None

    @contextmanager
    def open(self, sha256: str) -> Iterator[BinaryIO]:
        """The bytes of a blob, unverified.

        Raises:
            FileNotFoundError: there is none, also after another look at what packs there are.
        """
        with self.objects.store_errors(), self._open(sha256) as stream:
            yield stream

    def put(self, source: BinaryIO) -> tuple[str, int]:
        """Stores what is left in ``source`` as a blob that stands alone."""
        return self.single_blobs.put(source)

    def sync(self, digests: Iterable[str]) -> None:
        self.single_blobs.sync(digests)

    def _open(self, sha256: str) -> BinaryIO:
        for _ in range(MAX_LOOKUPS):
            seen, place = self.index.refresh_count, self.index.find(bytes.fromhex(sha256))
            try:
                return self.single_blobs.open(sha256) if place is None else self._section(place)
            except (FileNotFoundError, NotADirectoryError):
                self.index.refresh(seen)  # a pack that is new here, or one that was collected
                if place is None and self.index.find(bytes.fromhex(sha256)) is None:
                    raise
        raise FileNotFoundError(sha256)

    def _section(self, place: ObjectRange) -> BinaryIO:
        if place.length <= PIECE_BYTES:
            return io.BytesIO(self.objects.read(place.key, place.start, place.start + place.length))
        self.objects.info(place.key)
        return io.BufferedReader(_PackSection(self.objects, place), PIECE_BYTES)


class _PackSection(io.RawIOBase):
    """A large content of a pack, read in pieces."""

    def __init__(self, objects: Objects, place: ObjectRange) -> None:
        self._objects = objects
        self._at, self._end = place.start, place.start + place.length
        self._key = place.key

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        data = self._objects.read(self._key, self._at, min(self._at + len(target), self._end))
        target[: len(data)] = data
        self._at += len(data)
        return len(data)
