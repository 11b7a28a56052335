"""A file column on its way out of a table: records become contents or local paths."""

from __future__ import annotations

import logging
import os
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from itertools import pairwise
from math import inf
from mmap import mmap
from pathlib import Path
from time import perf_counter, time
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._units import KIB, MIB
from lakefeed.config import Settings
from lakefeed.errors import InvalidArgumentError, StorageError, UnsupportedError
from lakefeed.media.cells import FileCells, FileReference, file_references, plain_urls, require_readable
from lakefeed.media.file_column_types import MODE_TYPES, parse_mode
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_type import Mode
from lakefeed.storage.blobs.blob_store import BlobStore
from lakefeed.storage.blobs.objects import LocalObjects
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.cache.cache_statistics import CacheStatistics
from lakefeed.storage.cache.url_copies import Known
from lakefeed.storage.disk.hashing import is_digest
from lakefeed.storage.fetch import Fetch, Progress
from lakefeed.storage.fetch_queue import Failed, FetchQueue, Job
from lakefeed.storage.urls import local_path

logger = logging.getLogger(__name__)

JOB_FILES = 8
"""Files that a thread takes at a time, at most: small ones cost less than handing them over."""
DEFAULT_FILE_BYTES = 8 * MIB
"""What a file is expected to take before the first is known."""
STREAM_BUFFER_BYTES = MIB
"""What a file takes in memory on its way to disk."""
MAX_REASONS = 3
SMALL_BYTES = 256 * KIB
"""Larger contents take so long to be hashed that threads had better do it."""
SLOW_SECONDS = 1e-3
SLOW_BATCHES = 32
"""Where opening a file takes so long (a cache that is far away), threads are asked for the next portions."""
RECENT_FILES = 64
"""Files whose sizes say what is to be expected of the next."""

OnError: TypeAlias = Literal["raise", "null"]
LoadedCell: TypeAlias = bytes | mmap | str | None


class _CachedCopies(NamedTuple):
    """Copies in the cache, column by column; ``there``: which cells are not null, and have one."""

    there: list[bool]
    places: list[str]
    sizes: list[int]
    digests: list[str]


@dataclass(frozen=True)
class FileLoader:
    """Loads one file as one mode. Safe between threads."""

    store: BlobStore
    fetch: Fetch
    tally: CacheStatistics | None = None

    def __call__(self, wanted: tuple[FileReference, Mode], progress: Progress) -> LoadedCell:
        file, mode = wanted
        require_readable(file)
        if self.tally is not None:
            there = self._is_here(file)
            self.tally.add(there, not there)
        return self._bytes(file, progress) if mode == "bytes" else self._path(file, progress)

    def _bytes(self, file: FileReference, progress: Progress) -> bytes | mmap:
        if file.data is not None:
            return file.data
        if file.sha256 is not None:
            found = self._cache.read(file.sha256, file.suffix)
            return found if found is not None else self.store.read(file.sha256, file.suffix)
        return self.fetch.read_once(file.url or "", file.suffix, progress)

    def _path(self, file: FileReference, progress: Progress) -> str:
        if file.data is not None:
            return str(self.store.cached_bytes(file.data, file.suffix))
        if file.sha256 is not None:
            return str(self.store.local_path(file.sha256, file.suffix))
        return str(self.fetch.path(file.url or "", file.suffix, progress))

    def _is_here(self, file: FileReference) -> bool:
        """Whether this machine has the content: in the cache, or because it is kept here anyway."""
        if file.data is not None:
            return True
        if file.sha256 is not None:
            return self.store.is_local or os.path.exists(self._cache.place(file.sha256, file.suffix))  # noqa: PTH110
        url = file.url or ""
        return local_path(url) is not None or self.fetch.known_all([url]) != [None]

    @property
    def _cache(self) -> BlobCache:
        assert self.fetch.cache is not None, "made with one"
        return self.fetch.cache


class ColumnLoader:
    """The files of one run through the rows of a table: fetched ahead, given out in order. For one thread.

    At most ``workers`` files are fetched at a time. Contents that are being fetched, wait for their turn, or were given
    out last take at most ``max_bytes`` together; one file that is larger passes alone.

    Args:
        store: where the blobs are.
        workers: files fetched at a time.
        on_error: ``"raise"``, or ``"null"`` for null in place of a file that cannot be had; `close` logs how many.
        timeout: seconds that a request may take, see `lakefeed.storage.fetch.Fetch`.
        max_bytes: bytes held.
        fresh: seconds for which a copy is used without asking the server; default: as in the settings.
        tally: counts the files that were on this machine, and those that were not.
    """

    def __init__(
        self,
        store: BlobStore,
        workers: int,
        on_error: OnError,
        timeout: float,
        max_bytes: int,
        *,
        fresh: float | None = None,
        tally: CacheStatistics | None = None,
    ) -> None:
        self._store = store
        self._tally = tally
        self._max_bytes = max_bytes
        self._workers = workers
        self._skips = on_error == "null"
        given = Settings.load().files
        update = {"timeout": timeout, "fresh": given.fresh if fresh is None else fresh}
        self._cache = BlobCache(store.cache_dir)
        self._patience = 0
        fetch = Fetch(self._cache, given.model_copy(update=update))
        self._fetch = fetch
        self._lane: FetchQueue[tuple[FileReference, Mode], LoadedCell] = FetchQueue(
            FileLoader(store, fetch, tally), workers, max_bytes, timeout
        )
        self._recent: deque[int] = deque(maxlen=RECENT_FILES)
        self._given: list[Job[tuple[FileReference, Mode]]] = []
        self._asked = 0
        self._failed = 0
        self._reasons: list[str] = []

    def look(self, column: pa.Array[Any], media: str, mode: str) -> FileCells:
        """What is known of the files of a column before they are fetched."""
        media_type(media)
        urls = plain_urls(column)
        if urls is not None:
            return FileCells(urls, None, self._fetch.known_all(urls), parse_mode(mode))
        found = file_references(column)
        known = self._fetch.known_all([None if file is None or file.sha256 else file.url for file in found])
        return FileCells(None, found, known, parse_mode(mode))

    def sizes(self, cells: FileCells) -> list[int]:
        """Bytes that the loaded cells will take, as far as that is known: what was largest of late, if not."""
        expected, whole = self._expected, cells.mode == "bytes"
        if cells.urls is not None:
            pairs = zip(cells.known, cells.urls, strict=True)
            sizes = [known.size if known else expected if url is not None else 0 for known, url in pairs]
        else:
            sizes = [
                _expected_size(file, known, expected) for file, known in zip(cells.files, cells.known, strict=True)
            ]
        return sizes if whole else [min(size, STREAM_BUFFER_BYTES) for size in sizes]

    def begin(self, cells: FileCells) -> PendingColumn:
        """Begins to fetch the files of a column."""
        chosen = cells.mode
        ready = self._at_once(cells)
        if ready is not None:
            return PendingColumn([], [self._lane.settled(ready.nbytes)], chosen, ready)
        wanted = [(file, chosen) for file in cells.files if file is not None]
        self._store.expect([file.sha256 for file, _ in wanted if file.sha256])
        sizes = zip(cells.files, self.sizes(cells), strict=True)
        costs = [size for file, size in sizes if file is not None]
        step = min(max(len(wanted) // self._workers, 1), JOB_FILES)
        starts = range(0, len(wanted), step)
        jobs = [self._lane.add(wanted[at : at + step], costs[at : at + step]) for at in starts]
        return PendingColumn([file is not None for file in cells.files], jobs, chosen)

    def finish(self, columns: Sequence[PendingColumn]) -> list[pa.Array[Any]]:
        """The loaded columns, waited for; what was given out before is no longer counted."""
        for job in self._given:
            self._lane.release(job)
        self._given = [job for column in columns for job in column.jobs]
        return [self._array(column) for column in columns]

    def close(self) -> None:
        """Ends all fetching, and reports what could not be had."""
        self._lane.close()
        self._cache.room.settle()
        if self._failed:
            logger.warning(
                "%d of %d files could not be loaded and are null; the first: %s",
                self._failed, self._asked, "; ".join(self._reasons),
            )  # fmt: skip
        self._failed = 0

    def _at_once(self, cells: FileCells) -> pa.Array[Any] | None:
        """The loaded column, if all of it is in the cache and in memory: threads would only make that slower."""
        if self._patience < 0:
            self._patience += 1
            return None
        begun = perf_counter()
        found = self._stored(cells) if cells.mode == "bytes" and cells.urls is None else None
        if found is None:
            copies = self._copies(cells)
            if copies is None:
                return None
            found = self._read(copies) if cells.mode == "bytes" else self._found(copies)
        if found is not None and perf_counter() - begun > SLOW_SECONDS * len(cells):
            self._patience = -SLOW_BATCHES
        return found

    def _stored(self, cells: FileCells) -> pa.Array[Any] | None:
        """The contents, where a local store has all of them, they are small, and its files are in memory."""
        objects = self._store.backend.objects
        wanted = [file for file in cells.files if file is not None]
        digests = [file.sha256 for file in wanted if file.sha256 is not None and is_digest(file.sha256)]
        sizes = [file.size for file in wanted if file.size is not None and 0 <= file.size <= SMALL_BYTES]
        if not (self._store.is_local and len(digests) == len(sizes) == len(wanted)):
            return None
        assert isinstance(objects, LocalObjects)
        places = self._store.backend.places(digests)
        if places is None or [place.length for place in places] != sizes:
            return None
        there = [file is not None for file in cells.files]
        frame = BinaryColumnBuilder.of(sizes, there)
        views = frame.wanted()
        if not objects.read_all(places, views):
            return None
        right = all(sha256(view).hexdigest() == digest for view, digest in zip(views, digests, strict=True))
        return frame.array() if right else None

    def _copies(self, cells: FileCells) -> _CachedCopies | None:
        """The copies that there should be of the files; None if there is one without."""
        oldest, urls = time() - self._fetch.settings.fresh, cells.urls
        known = [entry for entry in cells.known if entry is not None]
        if urls is None:
            return self._copies_of(cells, oldest)
        there = [url is not None for url in urls] if None in urls else [True] * len(urls)
        if len(known) < sum(there) or min((entry.good_from for entry in known), default=inf) <= oldest:
            return None
        return _CachedCopies(
            there,
            [entry.place for entry in known],
            [entry.size for entry in known],
            [entry.sha256 for entry in known],
        )

    def _copies_of(self, cells: FileCells, oldest: float) -> _CachedCopies | None:
        """As `_copies`, where cells are more than URLs."""
        copies = _CachedCopies([file is not None for file in cells.files], [], [], [])
        for file, known in zip(cells.files, cells.known, strict=True):
            if file is None:
                continue
            digest, size = file.sha256, file.size
            if digest is None and known is not None and known.good_from > oldest:
                digest, size = known.sha256, known.size
            if digest is None or size is None or not is_digest(digest):
                return None
            place = self._cache.place(digest, file.suffix)
            # A record may claim any size: memory for a large one is only taken if the copy has it.
            if size < 0 or (size > SMALL_BYTES and size != _size_on_disk(place)):
                return None
            copies.places.append(place)
            copies.sizes.append(size)
            copies.digests.append(digest)
        return copies

    def _found(self, copies: _CachedCopies) -> pa.Array[Any] | None:
        paths = []
        for place, digest in zip(copies.places, copies.digests, strict=True):
            path = self._cache.find_at(Path(place), digest)
            if path is None:
                return None
            paths.append(str(path))
        found = iter(paths)
        return pa.array([next(found) if there else None for there in copies.there], MODE_TYPES["path"])

    def _read(self, copies: _CachedCopies) -> pa.Array[Any] | None:
        frame = BinaryColumnBuilder.of(copies.sizes, copies.there)
        return frame.array() if self._cache.read_all(copies.places, frame.wanted()) else None

    def _array(self, column: PendingColumn) -> pa.Array[Any]:
        if column.ready is not None:
            if self._tally is not None:
                self._tally.add(len(column.ready) - column.ready.null_count, 0)
            self._asked += len(column.ready)
            return column.ready
        found: list[LoadedCell] = []
        for job in column.jobs:
            found += [self._checked(outcome) for outcome in self._lane.outcomes(job)]
            job.outcomes = []
        self._asked += len(found)
        if column.mode == "bytes":
            self._recent.extend(len(item) for item in found if item is not None)
        results = iter(found)
        cells = [next(results) if there else None for there in column.there]
        del found, results
        return binary_array(cells) if column.mode == "bytes" else pa.array(cells, MODE_TYPES[column.mode])

    def _checked(self, outcome: Any) -> LoadedCell:
        if not isinstance(outcome, Failed):
            return outcome  # type: ignore[no-any-return]  # what the work gave
        # A disk of this machine that is full or broken says nothing of the file.
        skipped = isinstance(outcome.error, OSError | UnsupportedError) and not isinstance(outcome.error, StorageError)
        if not (self._skips and skipped):
            raise outcome.error
        self._failed += 1
        if len(self._reasons) < MAX_REASONS:
            self._reasons.append(str(outcome.error))
        return None

    @property
    def _expected(self) -> int:
        return max(self._recent, default=DEFAULT_FILE_BYTES)


def _expected_size(file: FileReference | None, known: Known | None, expected: int) -> int:
    if file is None:
        return 0
    if file.size is not None:
        return file.size
    return expected if known is None else known.size


def _size_on_disk(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - as in the cache
    except OSError:
        return None


@dataclass(frozen=True)
class PendingColumn:
    """A column whose files are being fetched. ``there``: which cells are not null."""

    there: Sequence[bool]
    jobs: Sequence[Job[tuple[FileReference, Mode]]]
    mode: Mode
    ready: pa.Array[Any] | None = None


def load_column(
    column: pa.Array[Any],
    media: str,
    mode: str,
    store: BlobStore,
    *,
    workers: int,
    on_error: str,
    timeout: float,
    max_bytes: int = sys.maxsize,
) -> pa.Array[Any]:
    """The column's files in row order: contents (large_binary) or paths of read-only local files (string).

    Everything that has a ``sha256`` is verified. The whole column is held in memory; `Loads` loads many columns ahead.

    Args:
        column: media records; or, before a save, paths and URLs (text) or contents (binary).
        media: the name of the media type.
        mode: ``"bytes"`` or ``"path"``.
        store: where the blobs are.
        workers: files fetched at a time.
        on_error: ``"raise"``, or ``"null"`` for null in place of a file that cannot be had (a log line counts them).
        timeout: seconds that a request may take, see `lakefeed.storage.fetch.Fetch`.
        max_bytes: bytes held at a time.

    Raises:
        MissingFileError: a file is not there.
        IntegrityError: its bytes are not those that were saved.
        RefusedTargetError: it lies where no request may go.
        UnsupportedError: it lies behind a URL of a kind that is not fetched.
        FileError: it cannot be read, or took too long.
        InvalidArgumentError: an argument is none of the above.

    Example:
        >>> from pathlib import Path
        >>> store = BlobStore("blobs", Path("cache"))
        >>> column = pa.array([{"sha256": store.put_bytes(b"hello").sha256, "url": None}, None])
        >>> load_column(column, "file", "bytes", store, workers=8, on_error="raise", timeout=30.0).to_pylist()
        [b'hello', None]
    """
    parse_mode(mode)
    if on_error not in ("raise", "null"):
        raise InvalidArgumentError(f'on_error is {on_error!r}; it is "raise" or "null"')
    if workers < 1 or timeout <= 0:
        raise InvalidArgumentError(f"workers is {workers} and timeout {timeout}; both are above 0")
    with closing(ColumnLoader(store, workers, "null" if on_error == "null" else "raise", timeout, max_bytes)) as loads:
        [loaded] = loads.finish([loads.begin(loads.look(column, media, mode))])
        return loaded


def binary_array(cells: list[Any]) -> pa.Array[Any]:
    """Contents as one column, each copied once and then let go of: ``pa.array`` copies them as its memory grows."""
    if len(cells) == 1 and cells[0] is not None:
        [content] = cells  # shared: a large file is not doubled
        offsets = pa.py_buffer(np.array([0, len(content)], np.int64).tobytes())
        return pa.Array.from_buffers(MODE_TYPES["bytes"], 1, [None, offsets, pa.py_buffer(content)])
    frame = BinaryColumnBuilder(
        [0 if cell is None else len(cell) for cell in cells], [cell is not None for cell in cells]
    )
    for row, view in enumerate(frame.cells):
        if len(view):
            view[:] = cells[row]
        cells[row] = None
    return frame.array()


class BinaryColumnBuilder:
    """A column of contents in the making: ``cells`` are to be filled in."""

    def __init__(self, sizes: Sequence[int], there: Sequence[bool]) -> None:
        self._there = there
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(sizes, np.int64))])
        self._data = pa.allocate_buffer(int(self._offsets[-1]))
        whole = memoryview(self._data).cast("B") if len(self._data) else memoryview(b"")
        self.cells = [whole[start:stop] for start, stop in pairwise(self._offsets.tolist())]

    @classmethod
    def of(cls, sizes: Sequence[int], there: Sequence[bool]) -> BinaryColumnBuilder:
        """As the class itself, given the sizes of those that are not null."""
        left = iter(sizes)
        return cls(sizes if all(there) else [next(left) if one else 0 for one in there], there)

    def wanted(self) -> list[memoryview]:
        """The cells that are not null."""
        return (
            self.cells if all(self._there) else [cell for cell, one in zip(self.cells, self._there, strict=True) if one]
        )

    def array(self) -> pa.Array[Any]:
        self.cells = []
        valid = None if all(self._there) else pa.array(self._there, pa.bool_()).buffers()[1]
        buffers = [valid, pa.py_buffer(self._offsets.tobytes()), self._data]
        return pa.Array.from_buffers(MODE_TYPES["bytes"], len(self._there), buffers)
