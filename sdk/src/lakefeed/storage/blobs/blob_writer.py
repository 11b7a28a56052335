"""Writes many contents into a store: small ones in packs, each content once, in bounded memory."""

from __future__ import annotations

import hashlib
import io
import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock, RLock
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self

from lakefeed._units import MIB
from lakefeed.errors import FileError
from lakefeed.storage.blobs.chunk_writer import write_chunks
from lakefeed.storage.blobs.chunking import HEAD_BYTES, cut, is_compressed
from lakefeed.storage.blobs.damage_marks import publish_damage
from lakefeed.storage.blobs.leases import Heartbeat, begin_lease, mark_lake, read_pending_deletes, require_active
from lakefeed.storage.blobs.objects import BLOBS, LocalObjects, digest_of
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.packs import MAX_ENTRIES, PackWriter, new_pack_key
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step
from lakefeed.storage.blobs.stored_chunks import StoredChunks
from lakefeed.storage.disk.atomic_write import staged_file
from lakefeed.storage.disk.disk_errors import wrap_os_errors
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_bytes, sha256_stream
from lakefeed.storage.disk.scratch import scratch_folder

FLUSH_BYTES = 16 * MIB  # synced while more is added, so that the last sync is short
MAX_UPLOADS = 2  # packs that are uploaded at a time, each from a file on local disk
SCRATCH_PREFIX = "uploads"


class Blob(NamedTuple):
    """The SHA-256 (lower-case hex) and the size in bytes of stored content."""

    sha256: str
    size: int


@dataclass(frozen=True)
class Packing:
    """The sizes of packs and of their contents.

    Contents of less than ``below`` bytes are written into packs of about ``bytes`` bytes, those of ``chunk_from`` bytes
    or more as chunks. If ``chunk_from`` is 0, none are.
    """

    below: int = MIB
    bytes: int = 128 * MIB
    chunk_from: int = 16 * MIB


class BlobWriter:
    """The writer of one save.

    A context manager: its lease keeps the collector from deleting contents that the save refers to.

    Added contents are durable after ``flush``. Commit after that and inside the context. An exception drops contents
    that
    were not flushed. ``new_objects`` stay as garbage, because other saves may refer to them.

    Call ``protect`` and ``flush`` from one thread. ``add``, ``find_known``, ``put_single`` and ``put_large`` are safe
    between threads.
    """

    def __init__(
        self, store: PackedBlobs, url: str, lake: str, cache_dir: Path, packing: Packing, at: StepHook = ignore_step
    ) -> None:
        self._store = store
        self._action = f"cannot write to the blob store {url!r}"
        self._lake = lake
        self._packing = packing
        self._cache_dir = cache_dir
        self._at = at
        self._stack = ExitStack()
        self._lease: Heartbeat | None = None
        self._pending_deletes: frozenset[str] = frozenset()
        self._trusted: set[str] = set()
        self._pack: _OpenPack | None = None
        self._failure: BaseException | None = None  # of a write to the open pack
        self._complete: list[tuple[_OpenPack, Future[None]]] = []
        self._unsynced_blobs: set[str] = set()
        self._new_objects: set[str] = set()
        self._scratch: Path | None = None
        self._lock = Lock()
        self._packing_lock = RLock()  # for the open pack and the complete ones
        self._trusted_chunks = StoredChunks(store.contents, self._find_trusted, self._trusted)
        self._stored_chunks = StoredChunks(store.contents, self._find_stored)
        self._single_sizes: set[int] | None = None
        self._shards: dict[str, set[str]] = {}
        self.bytes_added = 0

    def __enter__(self) -> Self:
        with self._stack, wrap_os_errors(self._action):
            self._lease = begin_lease(self._store.objects)
            self._stack.callback(self._lease.end)
            self._at("leased")
            # After the lease: the list of a collector that has not seen the lease is seen here.
            self._pending_deletes = read_pending_deletes(self._store.objects, self._lease.modified)
            # Others write to the index too, so only packs that existed at this point are trusted.
            self._trusted |= self._store.index.refresh() - self._pending_deletes
            mark_lake(self._store.objects, self._lake)
            self._store.index.reload_damaged()
            publish_damage(self._store.objects, self._store.index.damaged_copies)
            self._at("looked")
            self._uploads = ThreadPoolExecutor(1, thread_name_prefix="lakefeed-packs")
            self._stack.callback(self._uploads.shutdown)
            self._stack = self._stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._stack:
            if self._pack is not None:
                self._pack.drop()
            for pack, task in self._complete:
                if not task.cancel():
                    task.exception()
                pack.drop()

    @property
    def packing(self) -> Packing:
        """The sizes of packs and of their contents."""
        return self._packing

    @property
    def new_objects(self) -> frozenset[str]:
        """The keys of the objects that this save has added, or was about to add when it failed."""
        return frozenset(self._new_objects)

    @property
    def scratch(self) -> Path:
        """A folder for temporary files of this save, created on first use."""
        with self._lock:
            if self._scratch is None:
                self._scratch = self._stack.enter_context(scratch_folder(self._cache_dir, f"{SCRATCH_PREFIX}-"))
            return self._scratch

    def find_known(self, digests: Sequence[bytes]) -> set[bytes]:
        """Returns those raw SHA-256 whose contents are stored and stay, so that they need not be added."""
        known, recipes = self._split_trusted(digests)
        return known | self._trusted_chunks.complete(recipes)

    def _find_trusted(self, digests: Sequence[bytes]) -> set[bytes]:
        """Returns those contents that are stored themselves, not as chunks, and stay."""
        return self._split_trusted(digests)[0]

    def _split_trusted(self, digests: Sequence[bytes]) -> tuple[set[bytes], list[bytes]]:
        """Returns the contents of `_find_trusted`, and those of the others that have a recipe."""
        ranges = self._store.index.find_sound(digests, self._trusted)
        known = {digest for digest, location in ranges.items() if not location.is_recipe}
        known |= self._find_packed(digests)
        if self._store.single_blobs.cheap_lookups:
            known |= {digest for digest in digests if digest not in known and self._was_single(digest.hex())}
        return known, [digest for digest in ranges if digest not in known]

    def is_known_single(self, sha256: str) -> bool:
        """Returns whether a large content need not be added."""
        return self._is_single(sha256) or bytes.fromhex(sha256) in self.find_known([bytes.fromhex(sha256)])

    @property
    def needs_protection(self) -> bool:
        """True if a collector is about to delete contents, so that `protect` has something to do."""
        return bool(self._pending_deletes)

    def protect(self, digests: Collection[bytes]) -> None:
        """Stores contents again that are referred to without being added, and that are pending deletes."""
        if not self._pending_deletes:
            return
        index = self._store.index
        recipes = [digest for digest, location in index.find_all(list(digests)).items() if location.is_recipe]
        self._protect_chunked([digest for digest in recipes if digest not in self.find_known([digest])])
        whole = [digest for digest in digests if digest not in recipes]
        packed, sure = index.find_all(whole), index.find_sound(whole, self._trusted)
        for digest in whole:
            in_danger = digest in packed or self._store.single_blobs.key(digest.hex()) in self._pending_deletes
            if digest not in sure and in_danger and not self._is_single(digest.hex()):
                with suppress(FileNotFoundError), self._store.open(digest.hex()) as stream:
                    self._put_in_own_pack(stream)

    def _protect_chunked(self, digests: Collection[bytes]) -> None:
        """Stores the parts and the recipes of contents again, as far as they are pending deletes."""
        for digest in digests:
            if self._is_single(digest.hex()):
                continue
            for recipe, parts in self._stored_chunks.parts(digest):
                if parts is None:
                    continue
                known = self.find_known(parts)
                for part in parts:
                    if part not in known:
                        self.add(self._store.contents.read_all([part]))
                self.add({digest: recipe.encode()}, are_recipes=True)
                break
        with wrap_os_errors(self._action), self._packing_lock:
            self._require_sound()
            if digests and self._pack is not None:
                self._complete_pack()
            self._wait_for_uploads(0)

    def find_missing(self, digests: Collection[bytes]) -> set[bytes]:
        """Returns those raw SHA-256 that the store does not have."""
        wanted = list(digests)
        left = set(wanted) - set(self._store.index.find_all(wanted))
        left = {digest for digest in left if not self._was_single(digest.hex())}
        # Another process may have stored it since.
        missing = {digest for digest in left if self._store.size(digest.hex()) is None}
        ranges = self._store.index.find_all([digest for digest in wanted if digest not in missing])
        chunked = {digest for digest, location in ranges.items() if location.is_recipe}
        incomplete = chunked - self._stored_chunks.complete(chunked)
        return missing | {digest for digest in incomplete if self._store.single_blobs.size(digest.hex()) is None}

    def _find_stored(self, digests: Sequence[bytes]) -> set[bytes]:
        """Returns those contents that are stored themselves, not as chunks."""
        stored: set[bytes] = set()
        for again in (False, True):
            if again:
                self._store.index.refresh()
            ranges = self._store.index.find_all([digest for digest in digests if digest not in stored])
            stored |= {digest for digest, location in ranges.items() if not location.is_recipe}
            if len(stored) == len(digests):
                break
        left = [digest for digest in digests if digest not in stored]
        return stored | {digest for digest in left if self._store.single_blobs.size(digest.hex()) is not None}

    def add(self, contents: Mapping[bytes, bytes | memoryview], are_recipes: bool = False) -> None:
        """Adds small contents, by raw SHA-256, that ``find_known`` did not return.

        Args:
            contents: the contents.
            are_recipes: they are recipes, by the SHA-256 of what they describe. Their parts were added before.
        """
        with wrap_os_errors(self._action), self._packing_lock:
            packed = self._find_packed(contents)
            new = {digest: data for digest, data in contents.items() if digest not in packed} if packed else contents
            if new:
                self._add(new, are_recipes)

    def _add(self, contents: Mapping[bytes, bytes | memoryview], are_recipes: bool) -> None:
        self._require_sound()
        pack = self._pack = self._pack or self._new_pack()
        try:
            pack.writer.add(contents, are_recipes)
        except BaseException as error:
            self._failure = error  # the pack may end in a part of a content, and other threads go on
            raise
        self.bytes_added += sum(map(len, contents.values()))
        if pack.unsynced >= FLUSH_BYTES:
            pack.sync(self._uploads)
        if pack.writer.size >= self._packing.bytes or len(pack.writer) >= MAX_ENTRIES:
            self._complete_pack()

    def _require_sound(self) -> None:
        """Raises the error of an earlier write to a pack. What other threads have added to that pack is lost."""
        if isinstance(self._failure, OSError):
            raise self._failure
        if self._failure is not None:
            raise FileError(f"{self._action}: an earlier write of this save was interrupted") from self._failure

    def put(self, data: bytes) -> Blob:
        """Adds a content unless it is known. Returns its blob."""
        digest = bytes.fromhex(sha256_bytes(data))
        if digest not in self.find_known([digest]):
            if len(data) < self._packing.below:
                self.add({digest: data})
            else:
                self.put_large(io.BytesIO(data))
        return Blob(digest.hex(), len(data))

    def put_large(self, source: BinaryIO) -> Blob:
        """Stores the rest of ``source`` (seekable) as chunks if it is large, else as a stand-alone blob.

        Compressed media are stored as stand-alone blobs. Safe between threads.
        """
        start = source.tell()
        size = source.seek(0, os.SEEK_END) - start
        source.seek(start)
        head = source.read(HEAD_BYTES)
        source.seek(start)
        least = self._packing.chunk_from
        if not least or size < max(least, self._packing.below) or is_compressed(head):
            return self.put_single(source)
        if self._may_be_single(source, size):
            blob = Blob(*sha256_stream(source))
            if self._is_single(blob.sha256):
                return blob  # an older version of lakefeed has stored it
            source.seek(start)
        digest, size = write_chunks(source, self)
        return Blob(digest.hex(), size)

    def put_single(self, source: BinaryIO) -> Blob:
        """Stores the rest of ``source`` (seekable) as a stand-alone blob. Safe between threads."""
        start = source.tell()
        if self._pending_deletes:
            return self._put_in_own_pack(source)
        blob = Blob(
            *self._store.put(source, lambda sha256: self._new_objects.add(self._store.single_blobs.key(sha256)))
        )
        self._unsynced_blobs.add(blob.sha256)
        self.bytes_added += source.tell() - start
        return blob

    def flush(self) -> None:
        """Returns when all added contents are durable and visible to all readers.

        Raises:
            FileError: the store cannot be written to, or a collector may consider this process dead.
        """
        with wrap_os_errors(self._action), self._packing_lock:
            self._require_sound()
            if self._pack is not None:
                self._complete_pack()
            self._wait_for_uploads(0)
            self._store.single_blobs.sync(self._unsynced_blobs)
        self._unsynced_blobs.clear()
        self.require_alive()
        self._at("flushed")

    def require_alive(self) -> None:
        """Raises FileError if the lease may have expired. Call it right before a commit."""
        if self._lease is not None:
            require_active(self._lease)

    def _find_packed(self, digests: Iterable[bytes]) -> set[bytes]:
        """Returns the contents in packs of this save that are not uploaded yet."""
        pack = self._pack
        packs = [each for each, _ in self._complete] + ([pack] if pack is not None else [])
        return {digest for each in packs for digest in filter(each.writer.contents.__contains__, digests)}

    def _was_single(self, sha256: str) -> bool:
        """Returns the same as ``_is_single`` from a listing of the folder that is made once."""
        shard = sha256[:2]
        if shard not in self._shards:
            listed = self._store.objects.list(f"{BLOBS}/{shard}")
            present = {digest_of(info.key) for info in listed if info.key not in self._pending_deletes}
            self._shards[shard] = {each for each in present if not self._store.is_damaged_single(each)}
        return sha256 in self._shards[shard]

    def _may_be_single(self, source: BinaryIO, size: int) -> bool:
        """Returns whether there may be a stand-alone blob of the rest of ``source``, so that it is hashed first."""
        if not self._store.single_blobs.cheap_lookups:
            start = source.tell()
            _, chunks = next(cut(source))
            source.seek(start)
            return not self.find_known([hashlib.sha256(chunk).digest() for chunk in chunks])
        with self._lock:
            if self._single_sizes is None:
                self._single_sizes = {info.size for info in self._store.objects.list(BLOBS)}
            return size in self._single_sizes

    def _is_single(self, sha256: str) -> bool:
        return self._store.single_blobs.key(sha256) not in self._pending_deletes and self._store.has_sound_single(
            sha256
        )

    def _put_in_own_pack(self, source: BinaryIO) -> Blob:
        """Stores a content in a pack of its own, because its key may be deleted at any time."""
        pack = self._new_pack()
        try:
            digest, size = pack.writer.add_pieces(iter(lambda: source.read(CHUNK_BYTES), b""))
            if not self.is_known_single(digest.hex()):
                pack.writer.finish()
                self._upload(pack)
        finally:
            pack.drop()
        return Blob(digest.hex(), size)

    def _new_pack(self) -> _OpenPack:
        objects = self._store.objects
        local = isinstance(objects, LocalObjects)
        return _OpenPack(
            self._store, objects.root / "tmp" if isinstance(objects, LocalObjects) else self.scratch, local
        )

    def _complete_pack(self) -> None:
        pack, self._pack = self._pack, None
        assert pack is not None
        self._wait_for_uploads(MAX_UPLOADS - 1)
        pack.writer.finish()
        self._complete.append((pack, self._uploads.submit(self._upload, pack)))

    def _upload(self, pack: _OpenPack) -> None:
        key = new_pack_key()
        self._new_objects.add(key)
        pack.upload(key)
        self._trusted.add(key)

    def _wait_for_uploads(self, most: int) -> None:
        """Waits until at most so many packs are being uploaded."""
        while len(self._complete) > most:
            pack, task = self._complete[0]
            task.result()
            self._complete.pop(0)
            pack.drop()


_sync = getattr(os, "fdatasync", os.fsync)  # not everywhere


class _OpenPack:
    """A pack in a local file that becomes an object."""

    def __init__(self, store: PackedBlobs, folder: Path, local: bool) -> None:
        self._store = store
        self._local = local
        self._stack = ExitStack()
        self._path, stream = self._stack.enter_context(staged_file(folder))
        self.writer = PackWriter(stream)
        self._synced = 0
        self._syncing: Future[None] | None = None

    @property
    def unsynced(self) -> int:
        """The bytes that no sync was started for."""
        return self.writer.size - self._synced if self._local else 0

    def sync(self, threads: ThreadPoolExecutor) -> None:
        """Starts to sync the file to the disk, unless a sync is running."""
        if self._syncing is not None and not self._syncing.done():
            return
        self.writer.stream.flush()
        self._synced = self.writer.size
        self._syncing = threads.submit(_sync, self.writer.stream.fileno())

    def upload(self, key: str) -> None:
        """Makes the file the object ``key`` of the store."""
        self._store.objects.upload(key, self._path)
        contents = ((digest, *entry) for digest, entry in sorted(self.writer.contents.items()))
        self._store.index.add(self._store.objects.info(key), contents)

    def drop(self) -> None:
        """Closes the local file and removes it if it still exists."""
        if self._syncing is not None and not self._syncing.cancel():
            self._syncing.exception()
        self._stack.close()
