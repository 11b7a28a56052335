"""The blobs of a store for readers: a content is a stand-alone blob, lies in a pack, or consists of chunks in packs."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from lakefeed._units import MIB
from lakefeed.errors import IntegrityError
from lakefeed.storage.blobs.chunked_file import ChunkCache, ChunkedFile
from lakefeed.storage.blobs.content_reads import MAX_LOOKUPS, ContentReader, describe_range
from lakefeed.storage.blobs.objects import Copy, ObjectRange, Objects
from lakefeed.storage.blobs.pack_index import PackIndex
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step, trust_all
from lakefeed.storage.blobs.stored_chunks import StoredChunks
from lakefeed.storage.disk.hashing import sha256_stream

PIECE_BYTES = 4 * MIB
CHECKED_CHUNKS = 64  # at a time, about 9 MiB


class SingleBlobs(Protocol):
    """The stand-alone blobs of a store. Safe between threads and processes; picklable; ``put`` is idempotent.

    A blob is visible completely or not at all, and survives a power cut only after ``sync`` for its digest.
    ``cheap_lookups`` tells whether it is cheap to look up many blobs one by one. ``put`` calls ``writing`` with the
    digest
    before a new blob gets its name. It replaces a blob for which ``distrusted`` returns True.
    """

    @property
    def cheap_lookups(self) -> bool: ...
    @property
    def objects(self) -> Objects: ...
    def key(self, sha256: str) -> str: ...
    def size(self, sha256: str) -> int | None: ...
    def open(self, sha256: str) -> BinaryIO: ...
    def put(
        self, source: BinaryIO, writing: StepHook = ignore_step, distrusted: Callable[[str], bool] = trust_all
    ) -> tuple[str, int]: ...
    def sync(self, digests: Iterable[str]) -> None: ...
    def is_empty(self) -> bool: ...


class PackedBlobs:
    """The stand-alone blobs (``single_blobs``) and the packs of a store. Safe between threads and processes."""

    def __init__(self, single_blobs: SingleBlobs, cache_dir: Path) -> None:
        self.single_blobs = single_blobs
        self.objects = single_blobs.objects
        self.index = PackIndex(single_blobs.objects, cache_dir)
        self.contents = ContentReader(self.objects, self.index, single_blobs.open)

    def prefetch(self, digests: Iterable[str]) -> None:
        """Looks up blobs together that will be opened soon."""
        self.index.prefetch([bytes.fromhex(sha256) for sha256 in digests])

    def locate(self, sha256: str) -> str:
        """Returns the URL of a blob, with a byte range if it lies in a pack.

        The range ``#recipe=…`` is that of the list of the chunks of a blob.
        """
        location = self.index.find(bytes.fromhex(sha256))
        if location is None:
            return self.objects.url(self.single_blobs.key(sha256))
        return describe_range(self.objects, location)

    def find_ranges(self, digests: Sequence[str]) -> list[ObjectRange] | None:
        """Returns the ranges of blobs of a local store; None if one is not known here, or consists of chunks."""
        raw = [bytes.fromhex(sha256) for sha256 in digests]
        packed = self.index.find_all(raw)
        ranges: list[ObjectRange] = []
        for sha256, digest in zip(digests, raw, strict=True):
            location = packed.get(digest)
            if location is None:
                size = self.single_blobs.size(sha256)
                if size is None:
                    return None
                location = ObjectRange(self.single_blobs.key(sha256), 0, size)
            if location.is_recipe:
                return None
            ranges.append(location)
        return ranges

    def size(self, sha256: str) -> int | None:
        """Returns the size in bytes; None for an unknown blob."""
        digest, refreshes = bytes.fromhex(sha256), self.index.refresh_count
        location = self.index.find(digest)
        if location is None and (size := self.single_blobs.size(sha256)) is not None:
            return size
        if location is None:
            self.index.refresh(refreshes)
            location = self.index.find(digest)
        if location is not None and location.is_recipe:
            return self._chunked_size(sha256)
        return location.length if location is not None else None

    @contextmanager
    def open(self, sha256: str) -> Iterator[BinaryIO]:
        """Yields a stream of the bytes of a blob, which are not verified.

        Raises:
            FileNotFoundError: the blob does not exist, even after a refresh of the index.
        """
        with self.objects.store_errors(), self._open(sha256) as stream:
            yield stream

    def open_chunks(self, sha256: str, cache: ChunkCache | None) -> ChunkedFile | None:
        """Returns a stream of the verified bytes of a blob that consists of chunks; None for other and unknown blobs.

        Raises:
            IntegrityError: the list of the chunks is damaged.
        """
        digest, refreshes = bytes.fromhex(sha256), self.index.refresh_count
        location = self.index.find(digest)
        if location is None and self.single_blobs.size(sha256) is None:
            self.index.refresh(refreshes)
            location = self.index.find(digest)
        if location is None or not location.is_recipe:
            return None
        recipes = self.contents.find_recipes(digest)
        return ChunkedFile(self.contents, recipes, verify=True, cache=cache) if recipes else None

    def check_chunks(self, sha256: str) -> None:
        """Verifies all chunks of a blob that consists of chunks, and records those that are damaged.

        Raises:
            IntegrityError: a chunk is damaged in all copies. The message names the first one.
        """
        damage: IntegrityError | None = None
        for recipe in self.contents.find_recipes(bytes.fromhex(sha256)):
            for chunks in recipe.chunk_lists(self.contents.read):
                digests = chunks.digests()
                for start in range(0, len(digests), CHECKED_CHUNKS):
                    try:
                        self.contents.read_all(digests[start : start + CHECKED_CHUNKS])
                    except IntegrityError as error:
                        damage = damage or error
        if damage is not None:
            raise IntegrityError(f"a chunk of the blob {sha256} is damaged: {damage}") from damage

    def check_copies(self, sha256: str) -> bool:
        """Reads all copies of a blob and records the damaged ones. Returns whether the next read uses another one.

        Raises:
            IntegrityError: the blob consists of chunks, and one is damaged. The message names it.
        """
        with self.objects.store_errors():
            for copy in self.index.find_copies(bytes.fromhex(sha256)):
                with suppress(FileNotFoundError, NotADirectoryError), self._section(copy) as stream:
                    self._check(sha256, stream, copy.copy)
            with suppress(FileNotFoundError, NotADirectoryError), self.single_blobs.open(sha256) as stream:
                self._check(sha256, stream, self._single_copy(sha256))
            location = self._find(sha256)
            if location is not None and location.is_recipe:
                self.check_chunks(sha256)
        return (self._single_copy(sha256) if location is None else location.copy) not in self.index.damaged

    def find_unsound(self, digests: Iterable[str]) -> set[str]:
        """Returns those blobs that the store lacks, or has only damaged, as far as reads on this machine have shown.

        Looks for nothing as long as no read has failed.
        """
        if not self.index.reload_damaged():
            return set()
        unsound = set()
        for sha256 in digests:
            if self._is_sound(sha256):
                self.index.unmark_lost(sha256)
            else:
                unsound.add(sha256)
        return unsound

    def put(self, source: BinaryIO, writing: StepHook = ignore_step) -> tuple[str, int]:
        """Stores the rest of ``source`` as a stand-alone blob, and replaces one that is known to be damaged."""
        sha256, size = self.single_blobs.put(source, writing, self.is_damaged_single)
        self.index.unmark_damaged(self._single_copy(sha256))
        return sha256, size

    def is_damaged_single(self, sha256: str) -> bool:
        """Returns whether a stand-alone blob is known to be damaged."""
        return self._single_copy(sha256) in self.index.damaged

    def has_sound_single(self, sha256: str) -> bool:
        """Returns whether there is a stand-alone blob that is not known to be damaged."""
        return self.single_blobs.size(sha256) is not None and not self.is_damaged_single(sha256)

    def sync(self, digests: Iterable[str]) -> None:
        self.single_blobs.sync(digests)

    def _open(self, sha256: str) -> BinaryIO:
        for _ in range(MAX_LOOKUPS):
            seen, location = self.index.refresh_count, self._find(sha256)
            try:
                if location is None:
                    return self.single_blobs.open(sha256)
                return self._open_recipe(sha256) if location.is_recipe else self._section(location)
            except (FileNotFoundError, NotADirectoryError):
                self.index.refresh(seen)  # the pack is new here, or was deleted
                if location is None and self.index.find(bytes.fromhex(sha256)) is None:
                    raise
        raise FileNotFoundError(sha256)

    def _find(self, sha256: str) -> ObjectRange | None:
        """Returns the range of a blob in a pack; None for one that is read from a stand-alone blob, or is unknown."""
        location = self.index.find(bytes.fromhex(sha256))
        if location is not None and location.copy in self.index.damaged and self.has_sound_single(sha256):
            return None
        return location

    def _is_sound(self, sha256: str) -> bool:
        digest = bytes.fromhex(sha256)
        location = self.index.find_sound([digest]).get(digest)
        if location is not None and not location.is_recipe:
            return True
        chunks = StoredChunks(self.contents, lambda parts: set(self.index.find_sound(parts)))
        return (location is not None and bool(chunks.complete([digest]))) or self.has_sound_single(sha256)

    def _single_copy(self, sha256: str) -> Copy:
        return self.single_blobs.key(sha256), 0

    def _check(self, sha256: str, stream: BinaryIO, copy: Copy) -> None:
        if sha256_stream(stream)[0] != sha256:
            self.index.mark_damaged(copy)

    def _open_recipe(self, sha256: str) -> BinaryIO:
        """Opens a blob that consists of chunks, or a stand-alone blob of the same bytes if the recipe is damaged."""
        try:
            recipes = self.contents.find_recipes(bytes.fromhex(sha256))
        except IntegrityError:
            if self.single_blobs.size(sha256) is None:
                raise
            recipes = []
        if not recipes:
            return self.single_blobs.open(sha256)
        return cast(BinaryIO, ChunkedFile(self.contents, recipes, verify=False))

    def _chunked_size(self, sha256: str) -> int | None:
        try:
            recipes = self.contents.find_recipes(bytes.fromhex(sha256))
        except IntegrityError:
            recipes = []
        return recipes[0].size if recipes else self.single_blobs.size(sha256)

    def _section(self, location: ObjectRange) -> BinaryIO:
        if location.length <= PIECE_BYTES:
            return io.BytesIO(self.objects.read(location.key, location.start, location.start + location.length))
        self.objects.info(location.key)
        return io.BufferedReader(_PackSection(self.objects, location), PIECE_BYTES)


class _PackSection(io.RawIOBase):
    """A large content of a pack, read in chunks."""

    def __init__(self, objects: Objects, location: ObjectRange) -> None:
        self._objects = objects
        self._at, self._end = location.start, location.start + location.length
        self._key = location.key

    def readable(self) -> bool:
        return True

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        data = self._objects.read(self._key, self._at, min(self._at + len(target), self._end))
        target[: len(data)] = data
        self._at += len(data)
        return len(data)
