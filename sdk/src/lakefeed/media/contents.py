"""Contents of sources on their way into the store: looked at, read and hashed by threads, each stored once."""

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
from lakefeed.storage.cache.file_fingerprints import FileFingerprints, Row, identity, row
from lakefeed.storage.disk.atomic_write import new_file
from lakefeed.storage.fetch import open_reference

READERS = 4  # of local files, beside the thread that packs them: more only wait for one another
FETCHERS = 16  # of remote files, which keep one waiting
CHUNK_FILES = 256  # taken by a thread at a time: small files cost less than handing them over
CHUNK_BYTES = 4 * MIB
CHUNKS_AHEAD = 2  # chunks for each thread that may wait, read, to be packed

Progress = Callable[[int], object]
FileStatus: TypeAlias = tuple[int, bytes]
"""Size (of a remote file: what it is counted as) and `identity`."""


class ReadContent(NamedTuple):
    """A content that was read; ``data`` is None where it is in the store already."""

    stored: StoredContent
    data: bytes | pa.Buffer | None
    row: Row | None = None
    """For `FileFingerprints`."""


class ReadChunk(NamedTuple):
    """Contents that were read, in order, and those of them that are not known yet, by raw SHA-256."""

    stored: list[StoredContent]
    new: dict[bytes, bytes]


@dataclass
class PendingContents:
    """What some sources hold, as far as it is known: so many of them are still to be read."""

    stored: list[StoredContent | None]
    left: int = 0


class _StoreError(Exception):
    """It was the store that failed, not the source."""

    def __init__(self, reason: OSError) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass
class ContentWriter:
    """Puts sources into a store. A context manager; for one thread."""

    saving: BlobWriter
    seen: FileFingerprints
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
        """Begins to put sources into the store; what `finish` is not asked for yet is read meanwhile, up to a bound.

        Every local file of them is looked at before the first one is read.

        Raises:
            MissingFileError, FileError, UnsupportedError: of the first source that cannot be had.
        """
        try:
            status = [_stat_source(source) for source in sources]
        except FileError:
            self._collect(0)  # one before it may be missing too
            raise
        putting = PendingContents(self._unchanged(sources, status))
        left = [place for place, found in enumerate(putting.stored) if found is None]
        putting.left = len(left)
        sizes = [status[place][0] for place in left]
        places = iter(left)
        for chunk in _split_sources([sources[place] for place in left], sizes):
            remote = chunk[0].path is None and chunk[0].data is None
            task = (self._fetchers if remote else self._readers).submit(self._read_chunk, chunk)
            self._reading.append((putting, list(islice(places, len(chunk))), task))
            self._collect(CHUNKS_AHEAD * (FETCHERS if remote else READERS))
        return putting

    def finish(self, putting: PendingContents) -> list[StoredContent]:
        """What each source holds; all of it is in the store once that is flushed.

        Raises:
            MissingFileError, FileError, UnsupportedError: of the first source that cannot be had.
        """
        while putting.left:
            self._collect(len(self._reading) - 1)
        return cast("list[StoredContent]", putting.stored)

    def _collect(self, most: int) -> None:
        """Stores what was read first until at most so many chunks are being read."""
        while len(self._reading) > most:
            putting, places, task = self._reading.popleft()
            chunk = task.result()
            self.saving.add(chunk.new)
            self.progress(sum(stored.size for stored in chunk.stored))
            for place, stored in zip(places, chunk.stored, strict=True):
                putting.stored[place] = stored
            putting.left -= len(places)

    def _unchanged(self, sources: Sequence[ContentSource], status: Sequence[FileStatus]) -> list[StoredContent | None]:
        """Those whose contents are known and stored, so that they need not be read."""
        stored: list[StoredContent | None] = [None] * len(sources)
        local = [
            (place, _absolute_path(source.path)) for place, source in enumerate(sources) if source.path is not None
        ]
        found = self.seen.find([(path, status[place][1]) for place, path in local])
        known = self.saving.known([hit[0] for hit in found if hit is not None])
        for (place, path), hit in zip(local, found, strict=True):
            if hit is None:
                continue
            (sha256, head), size = hit, status[place][0]
            if sha256 in known or (size >= self.saving.packing.below and self.saving.known_alone(sha256.hex())):
                stored[place] = StoredContent(sha256, size, head, path)
                self.progress(size)
        return stored

    def _read_chunk(self, sources: Sequence[ContentSource]) -> ReadChunk:
        """Reads sources, and finds out and notes what can be without waiting for those before."""
        read = [self._read_one(source) for source in sources]
        self.seen.add([one.row for one in read if one.row is not None])
        fresh = {one.stored.sha256: cast(bytes, one.data) for one in read if one.data is not None}
        for digest in self.saving.known(list(fresh)):
            del fresh[digest]
        return ReadChunk([one.stored for one in read], fresh)

    def _read_one(self, source: ContentSource) -> ReadContent:
        try:
            if source.data is not None:
                return self._from_memory(source.data)
            if source.path is not None:
                return self._from_file(source.path)
            return self._from_elsewhere(source)
        except _StoreError as error:
            raise source.failed("store", error.reason) from error.reason
        except FileNotFoundError as error:  # gone since it was looked at, or remote
            raise source.missing() from error
        except UnsupportedError as error:
            raise UnsupportedError(f"{source.place}: {error}") from error
        except OSError as error:
            raise source.failed("read", error) from error

    def _from_memory(self, data: pa.Buffer) -> ReadContent:
        head = data.slice(0, min(HEAD_BYTES, data.size)).to_pybytes()
        if data.size >= self.saving.packing.below:
            return ReadContent(self._alone(cast(BinaryIO, pa.BufferReader(data)), head, data), None)
        digest = hashlib.sha256(cast(bytes, data)).digest()
        return ReadContent(StoredContent(digest, data.size, head, data), data)

    def _from_file(self, name: str) -> ReadContent:
        path = _absolute_path(name)
        # Not open(): for many thousands of small files that costs as much as reading them.
        descriptor, data = os.open(path, os.O_RDONLY), None
        try:
            read_ns, before = time.time_ns(), os.fstat(descriptor)
            if before.st_size < self.saving.packing.below:
                data = _read_descriptor(descriptor, before.st_size)
                stored = StoredContent(hashlib.sha256(data).digest(), len(data), data[:HEAD_BYTES], path)
            else:
                with open(descriptor, "rb", buffering=0, closefd=False) as stream:
                    head = stream.read(HEAD_BYTES) or b""
                    stream.seek(0)
                    stored = self._alone(cast(BinaryIO, stream), head, path)
            steady = identity(before) == identity(os.fstat(descriptor))
        finally:
            os.close(descriptor)
        return ReadContent(stored, data, row(path, before, read_ns, stored.sha256, stored.head) if steady else None)

    def _from_elsewhere(self, source: ContentSource) -> ReadContent:
        """A remote file: in memory if it is small, else through a local copy."""
        below = self.saving.packing.below
        with open_reference(source.text or "") as stream:
            data = stream.read(below)
            while len(data) < below and (more := stream.read(below - len(data))):
                data += more
            if len(data) < below:
                return ReadContent(
                    StoredContent(hashlib.sha256(data).digest(), len(data), data[:HEAD_BYTES], data), data
                )
            copy = self.saving.scratch / uuid.uuid4().hex
            with new_file(copy) as target:
                target.write(data)
                shutil.copyfileobj(stream, target, CHUNK_BYTES)
                target.seek(0)
                return ReadContent(self._alone(target, data[:HEAD_BYTES], str(copy)), None)

    def _alone(self, stream: BinaryIO, head: bytes, probe: str | bytes | pa.Buffer) -> StoredContent:
        try:
            blob = self.saving.put_alone(stream)
        except OSError as error:
            raise _StoreError(error) from error
        return StoredContent(bytes.fromhex(blob.sha256), blob.size, head, probe)


def _stat_source(source: ContentSource) -> FileStatus:
    """The status of a local file.

    Raises:
        MissingFileError: it is not there.
        FileError: it is no regular file, or may not be looked at.
    """
    if source.path is None:
        # Each remote file on its own.
        return CHUNK_BYTES if source.data is None else source.data.size, b""
    try:
        status = os.stat(source.path)  # noqa: PTH116 - for many thousands a Path costs more than the call
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a null byte in the path
        raise source.missing() from error
    except OSError as error:
        raise source.failed("read", error) from error
    if not stat.S_ISREG(status.st_mode):
        raise FileError(f"{source.place}: {source.name} is no regular file")
    return status.st_size, identity(status)


def _read_descriptor(descriptor: int, size: int) -> bytes:
    data = os.read(descriptor, size + 1)
    while len(data) != size and (more := os.read(descriptor, CHUNK_BYTES)):  # it grew, or came in parts
        data += more
    return data


def _absolute_path(path: str | None) -> str:
    return path if path and path[0] == "/" else str(Path(path or "").absolute())


def _split_sources(sources: Sequence[ContentSource], sizes: Sequence[int]) -> Iterator[list[ContentSource]]:
    chunk: list[ContentSource] = []
    held = 0
    for source, size in zip(sources, sizes, strict=True):
        if chunk and (len(chunk) == CHUNK_FILES or held + size > CHUNK_BYTES):
            yield chunk
            chunk, held = [], 0
        chunk.append(source)
        held += size
    if chunk:
        yield chunk
