"""Reads and hashes contents in threads and writes each distinct one to the blob store."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NamedTuple, Self, TypeAlias, cast

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.errors import FileError, UnsupportedError
from lakefeed.media.cell_sources import ContentSource, StoredContent
from lakefeed.media.media_type import HEAD_BYTES
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.cache.file_fingerprints import (
    FileFingerprints,
    FingerprintRow,
    fingerprint_row,
    status_fingerprint,
)
from lakefeed.storage.disk.atomic_write import new_file
from lakefeed.storage.fetch import open_reference

READERS = 4  # threads for local files; with more they wait for one another
FETCHERS = 16  # threads for remote files
CHUNK_FILES = 256  # per task of a thread; reading a small file costs less than handing it to a thread
CHUNK_BYTES = 4 * MIB
CHUNKS_AHEAD = 2  # per thread; chunks that were read and wait to be packed

Progress = Callable[[int], object]
FileStatus: TypeAlias = tuple[int, bytes]
"""The size in bytes (an assumed one for remote files) and the `identity`."""


class ReadContent(NamedTuple):
    """A content that was read. ``data`` is None if it is in the store already."""

    stored: StoredContent
    data: bytes | pa.Buffer | None
    row: FingerprintRow | None = None
    """The row for `FileFingerprints`."""


class ReadChunk(NamedTuple):
    """Contents that were read, in order, and the data of new ones by raw SHA-256."""

    stored: list[StoredContent]
    new: dict[bytes, bytes]


@dataclass
class PendingContents:
    """The contents of some sources, None for those that are still being read."""

    stored: list[StoredContent | None]
    remaining: int = 0


class _StoreError(Exception):
    """An error of the store, not of the source."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class ContentWriter:
    """Writes sources to a blob store. A context manager; for one thread."""

    blobs: BlobWriter
    fingerprints: FileFingerprints
    progress: Progress = lambda size: None
    _readers: ThreadPoolExecutor = field(init=False)
    _fetchers: ThreadPoolExecutor = field(init=False)
    _reading: deque[tuple[PendingContents, list[int], Future[ReadChunk]]] = field(default_factory=deque)

    def __enter__(self) -> Self:
        readers = min(READERS, max((os.cpu_count() or 1) - 1, 1))
        self._readers = ThreadPoolExecutor(readers, thread_name_prefix="lakefeed-files")
        self._fetchers = ThreadPoolExecutor(FETCHERS, thread_name_prefix="lakefeed-files")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._readers.shutdown(cancel_futures=True)
        self._fetchers.shutdown(cancel_futures=True)

    def begin(self, sources: Sequence[ContentSource]) -> PendingContents:
        """Starts to write sources to the store. They are read ahead of `finish`, up to a bound.

        The status of every local file is checked before the first one is read.

        Raises:
            MissingFileError: a file does not exist.
            FileError: a file cannot be read or stored.
            UnsupportedError: the URL scheme is not supported.
        """
        try:
            status = [_stat_source(source) for source in sources]
        except FileError:
            self._collect(0)  # an earlier source may raise first
            raise
        pending = PendingContents(self._unchanged(sources, status))
        unread = [index for index, content in enumerate(pending.stored) if content is None]
        pending.remaining = len(unread)
        sizes = [status[index][0] for index in unread]
        indices = iter(unread)
        for chunk in _split_sources([sources[index] for index in unread], sizes):
            is_remote = chunk[0].path is None and chunk[0].data is None
            task = (self._fetchers if is_remote else self._readers).submit(self._read_chunk, chunk)
            self._reading.append((pending, list(islice(indices, len(chunk))), task))
            self._collect(CHUNKS_AHEAD * (FETCHERS if is_remote else READERS))
        return pending

    def finish(self, pending: PendingContents) -> list[StoredContent]:
        """Waits for the sources and returns their contents, which are durable after the next flush of the store.

        Raises:
            MissingFileError: a file does not exist.
            FileError: a file cannot be read or stored.
            UnsupportedError: the URL scheme is not supported.
        """
        while pending.remaining:
            self._collect(len(self._reading) - 1)
        return cast("list[StoredContent]", pending.stored)

    def _collect(self, limit: int) -> None:
        """Stores the oldest chunks until at most ``limit`` chunks are being read."""
        while len(self._reading) > limit:
            pending, indices, task = self._reading.popleft()
            chunk = task.result()
            self.blobs.add(chunk.new)
            self.progress(sum(stored.size for stored in chunk.stored))
            for index, stored in zip(indices, chunk.stored, strict=True):
                pending.stored[index] = stored
            pending.remaining -= len(indices)

    def _unchanged(self, sources: Sequence[ContentSource], status: Sequence[FileStatus]) -> list[StoredContent | None]:
        """Returns the contents of files that have not changed since an earlier save, None for the others."""
        stored: list[StoredContent | None] = [None] * len(sources)
        local = [
            (index, _absolute_path(source.path)) for index, source in enumerate(sources) if source.path is not None
        ]
        matches = self.fingerprints.find([(path, status[index][1]) for index, path in local])
        known = self.blobs.find_known([match[0] for match in matches if match is not None])
        for (index, path), match in zip(local, matches, strict=True):
            if match is None:
                continue
            (sha256, head), size = match, status[index][0]
            if sha256 in known or (size >= self.blobs.packing.below and self.blobs.is_known_single(sha256.hex())):
                stored[index] = StoredContent(sha256, size, head, path)
                self.progress(size)
        return stored

    def _read_chunk(self, sources: Sequence[ContentSource]) -> ReadChunk:
        """Reads sources, records their fingerprints and drops data that the store has already."""
        contents = [self._read_source(source) for source in sources]
        self.fingerprints.add([content.row for content in contents if content.row is not None])
        new = {content.stored.sha256: cast(bytes, content.data) for content in contents if content.data is not None}
        for digest in self.blobs.find_known(list(new)):
            del new[digest]
        return ReadChunk([content.stored for content in contents], new)

    def _read_source(self, source: ContentSource) -> ReadContent:
        try:
            if source.data is not None:
                return self._read_memory(source.data)
            if source.path is not None:
                return self._read_file(source.path)
            return self._read_remote(source)
        except _StoreError as error:
            raise source.failure("store", error.reason) from error.reason
        except FileNotFoundError as error:  # deleted meanwhile, or remote
            raise source.missing() from error
        except UnsupportedError as error:
            raise UnsupportedError(f"{source.location}: {error}") from error
        except OSError as error:
            raise source.failure("read", error) from error

    def _read_memory(self, data: pa.Buffer) -> ReadContent:
        head = data.slice(0, min(HEAD_BYTES, data.size)).to_pybytes()
        if data.size >= self.blobs.packing.below:
            return ReadContent(self._store_large(cast(BinaryIO, pa.BufferReader(data)), head, data), None)
        digest = hashlib.sha256(cast(bytes, data)).digest()
        return ReadContent(StoredContent(digest, data.size, head, data), data)

    def _read_file(self, name: str) -> ReadContent:
        path = _absolute_path(name)
        # Not open(), which costs as much as reading a small file.
        descriptor, data = os.open(path, os.O_RDONLY), None
        try:
            read_ns, before = time.time_ns(), os.fstat(descriptor)
            if before.st_size < self.blobs.packing.below:
                data = _read_descriptor(descriptor, before.st_size)
                stored = StoredContent(hashlib.sha256(data).digest(), len(data), data[:HEAD_BYTES], path)
            else:
                with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                    head = stream.read(HEAD_BYTES) or b""
                    stream.seek(0)
                    stored = self._store_large(cast(BinaryIO, stream), head, path)
            is_unchanged = status_fingerprint(before) == status_fingerprint(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return ReadContent(
            stored, data, fingerprint_row(path, before, read_ns, stored.sha256, stored.head) if is_unchanged else None
        )

    def _read_remote(self, source: ContentSource) -> ReadContent:
        """Reads a remote file, into memory if it is small, else into a local copy."""
        below = self.blobs.packing.below
        with open_reference(source.text or "") as stream:
            data = stream.read(below)
            while len(data) < below and (more := stream.read(below - len(data))):
                data += more
            if len(data) < below:
                return ReadContent(
                    StoredContent(hashlib.sha256(data).digest(), len(data), data[:HEAD_BYTES], data), data
                )
            copy = self.blobs.scratch / uuid.uuid4().hex
            with new_file(copy) as target:
                target.write(data)
                shutil.copyfileobj(stream, target, CHUNK_BYTES)
                target.seek(0)
                return ReadContent(self._store_large(target, data[:HEAD_BYTES], str(copy)), None)

    def _store_large(self, stream: BinaryIO, head: bytes, probe: str | bytes | pa.Buffer) -> StoredContent:
        try:
            blob = self.blobs.put_large(stream)
        except OSError as error:
            raise _StoreError(error) from error
        return StoredContent(bytes.fromhex(blob.sha256), blob.size, head, probe)


def _stat_source(source: ContentSource) -> FileStatus:
    """Returns size and identity of a source.

    Raises:
        MissingFileError: the file does not exist.
        FileError: it is not a regular file, or its status cannot be read.
    """
    if source.status is not None:
        return source.status
    if source.path is None:
        # A remote file counts as a whole chunk, so that each is fetched on its own.
        return CHUNK_BYTES if source.data is None else source.data.size, b""
    try:
        status = os.stat(source.path)  # noqa: PTH116 - creating a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null byte in the path
        raise source.missing() from error
    except OSError as error:
        raise source.failure("read", error) from error
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{source.location}: {source.name} is not a regular file")
    return status.st_size, status_fingerprint(status)


def _read_descriptor(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while len(data) != size and (more := os.read(descriptor, CHUNK_BYTES)):  # the file grew, or a read was short
        data += more
    return data


def _absolute_path(path: str | None) -> str:
    return path if path and path[0] == "/" else str(Path(path or "").absolute())


def _split_sources(sources: Sequence[ContentSource], sizes: Sequence[int]) -> Iterator[list[ContentSource]]:
    chunk: list[ContentSource] = []
    total = 0
    for source, size in zip(sources, sizes, strict=True):
        if chunk and (len(chunk) == CHUNK_FILES or total + size > CHUNK_BYTES):
            yield chunk
            chunk, total = [], 0
        chunk.append(source)
        total += size
    if chunk:
        yield chunk
