"""Loads file columns: media records become contents or local paths."""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import pairwise
from math import inf
from mmap import mmap
from time import perf_counter, time
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._units import KIB, MIB
from lakefeed.config import Settings
from lakefeed.errors import FileError, LakefeedError, StorageError, UnsupportedError
from lakefeed.media.cells import FileCells, FileReference, file_references, plain_urls, require_readable
from lakefeed.media.file_column_types import MODE_TYPES, parse_mode
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_type import Mode
from lakefeed.storage.blobs.blob_store import BlobStore
from lakefeed.storage.blobs.objects import LocalObjects
from lakefeed.storage.cache.blob_cache import BlobCache, CacheStatistics
from lakefeed.storage.cache.url_copies import UrlCopy
from lakefeed.storage.disk.hashing import is_digest
from lakefeed.storage.fetch import Fetch, Progress
from lakefeed.storage.fetch_queue import FetchFailure, FetchQueue, Job
from lakefeed.storage.urls import local_path

logger = logging.getLogger(__name__)

JOB_FILES = 8
"""Maximum number of files in one job. Loading a small file costs less than handing it to a thread."""
DEFAULT_FILE_BYTES = 8 * MIB
"""The expected size of a file before the first size is known."""
STREAM_BUFFER_BYTES = MIB
"""Memory that a file takes while it is copied to disk."""
MAX_REASONS = 3
SMALL_BYTES = 256 * KIB
"""Larger contents are hashed by threads."""
SLOW_SECONDS = 1e-3
SLOW_BATCHES = 32
"""After a batch in which opening a file took ``SLOW_SECONDS`` (a remote cache), threads load the next batches."""
RECENT_FILES = 64
"""Number of files whose sizes predict the size of the next ones."""

OnError: TypeAlias = Literal["raise", "null", "skip"]
LoadedCell: TypeAlias = bytes | mmap | str | None


class _CachedCopies(NamedTuple):
    """Copies in the cache of the files of a column. ``valid``: for each cell, whether it is not null."""

    valid: list[bool]
    paths: list[str]
    sizes: list[int]
    digests: list[str]


@dataclass(frozen=True)
class FileLoader:
    """Loads single files. Thread-safe."""

    store: BlobStore
    fetch: Fetch
    statistics: CacheStatistics | None = None

    def __call__(self, item: tuple[FileReference, Mode], progress: Progress) -> LoadedCell:
        file, mode = item
        require_readable(file)
        if self.statistics is not None:
            is_local = self._is_local(file)
            self.statistics.add(is_local, not is_local)
        return self._bytes(file, progress) if mode == "bytes" else self._path(file, progress)

    def _bytes(self, file: FileReference, progress: Progress) -> bytes | mmap:
        if file.data is not None:
            return file.data
        if file.sha256 is not None:
            content = self._cache.read(file.sha256, file.suffix)
            return content if content is not None else self.store.read(file.sha256, file.suffix)
        return self.fetch.read_once(file.url or "", file.suffix, progress)

    def _path(self, file: FileReference, progress: Progress) -> str:
        if file.data is not None:
            return str(self.store.cached_bytes(file.data, file.suffix))
        if file.sha256 is not None:
            return str(self.store.local_path(file.sha256, file.suffix))
        return str(self.fetch.path(file.url or "", file.suffix, progress))

    def _is_local(self, file: FileReference) -> bool:
        """Returns whether the content is on this machine, in the cache or in a local store."""
        if file.data is not None:
            return True
        if file.sha256 is not None:
            return self.store.is_local or os.path.exists(self._cache.path_text(file.sha256, file.suffix))  # noqa: PTH110
        url = file.url or ""
        return local_path(url) is not None or self.fetch.find_copies([url]) != [None]

    @property
    def _cache(self) -> BlobCache:
        assert self.fetch.cache is not None, "created with a cache"
        return self.fetch.cache


class ColumnLoader:
    """Loads the files of the columns of successive batches ahead of their use. For one thread.

    At most ``workers`` files are fetched at a time. Contents that are being fetched, are waiting, or were returned last
    take at most ``max_bytes`` together. A larger file is loaded alone.

    Args:
        store: the store that holds the blobs.
        workers: the number of files that are fetched at a time.
        on_error: ``"raise"``; ``"null"`` for null if a file cannot be loaded, and `close` logs their number; or
            ``"skip"`` for null, and the caller leaves the rows of `PendingColumn.failures` out.
        timeout: seconds that a request may take, see `lakefeed.storage.fetch.Fetch`.
        max_bytes: the maximum number of bytes held.
        fresh: seconds for which a copy is used without asking the server; None for the setting.
        statistics: counts the files that were on this machine, and those that were not.
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
        statistics: CacheStatistics | None = None,
    ) -> None:
        self._store = store
        self._statistics = statistics
        self._max_bytes = max_bytes
        self._workers = workers
        self._skips_errors = on_error != "raise"
        self._logs_errors = on_error == "null"
        settings = Settings.load().files
        update = {"timeout": timeout, "fresh": settings.fresh if fresh is None else fresh}
        self._cache = BlobCache(store.cache_dir)
        self._batches_for_threads = 0
        fetch = Fetch(self._cache, settings.model_copy(update=update))
        self._fetch = fetch
        self._queue: FetchQueue[tuple[FileReference, Mode], LoadedCell] = FetchQueue(
            FileLoader(store, fetch, statistics), workers, max_bytes, timeout
        )
        self._recent_sizes: deque[int] = deque(maxlen=RECENT_FILES)
        self._returned_jobs: list[Job[tuple[FileReference, Mode]]] = []
        self._files = 0
        self._failures = 0
        self._reasons: list[str] = []

    def inspect(self, column: pa.Array[Any], media: str, mode: str) -> FileCells:
        """Returns the files of a column with what is known of them before they are fetched.

        Args:
            column: media records; or, before a save, paths and URLs (text) or contents (binary).
            media: the name of the media type.
            mode: ``"bytes"`` for contents, ``"path"`` for paths of local files.

        Raises:
            InvalidArgumentError: the media type or the mode is unknown.
        """
        media_type(media)
        urls = plain_urls(column)
        if urls is not None:
            return FileCells(urls, None, self._fetch.find_copies(urls), parse_mode(mode))
        references = file_references(column)
        known = self._fetch.find_copies([None if file is None or file.sha256 else file.url for file in references])
        return FileCells(None, references, known, parse_mode(mode))

    def sizes(self, cells: FileCells) -> list[int]:
        """Returns the bytes that each loaded cell will take. An unknown size is the largest of the recent ones."""
        expected = self._default_size
        if cells.urls is not None:
            pairs = zip(cells.known, cells.urls, strict=True)
            sizes = [known.size if known else expected if url is not None else 0 for known, url in pairs]
        else:
            sizes = [
                _expected_size(file, known, expected) for file, known in zip(cells.files, cells.known, strict=True)
            ]
        return sizes if cells.mode == "bytes" else [min(size, STREAM_BUFFER_BYTES) for size in sizes]

    def begin(self, cells: FileCells) -> PendingColumn:
        """Starts to fetch the files of a column."""
        ready = self._load_now(cells)
        if ready is not None:
            return PendingColumn([], [self._queue.add_held(ready.nbytes)], cells.mode, ready)
        items = [(file, cells.mode) for file in cells.files if file is not None]
        self._store.prefetch([file.sha256 for file, _ in items if file.sha256])
        sizes = zip(cells.files, self.sizes(cells), strict=True)
        costs = [size for file, size in sizes if file is not None]
        step = min(max(len(items) // self._workers, 1), JOB_FILES)
        starts = range(0, len(items), step)
        jobs = [self._queue.add(items[start : start + step], costs[start : start + step]) for start in starts]
        return PendingColumn([file is not None for file in cells.files], jobs, cells.mode)

    def finish(self, columns: Sequence[PendingColumn]) -> list[pa.Array[Any]]:
        """Waits for columns and returns their arrays. Arrays that were returned before no longer count as held.

        Raises:
            MissingFileError: a file does not exist.
            IntegrityError: the bytes of a file are not those that were saved.
            RefusedTargetError: the egress policy does not allow the URL.
            UnsupportedError: the URL scheme is not supported.
            FileError: a file cannot be read, or the request timed out.
        """
        for job in self._returned_jobs:
            self._queue.release(job)
        self._returned_jobs = [job for column in columns for job in column.jobs]
        return [self._wait_for_array(column) for column in columns]

    def close(self) -> None:
        """Stops all fetching and logs the number of files that could not be loaded."""
        self._queue.close()
        self._cache.eviction.count_added()
        if self._failures and self._logs_errors:
            logger.warning(
                "%d of %d files could not be loaded and are null; the first: %s",
                self._failures, self._files, "; ".join(self._reasons),
            )  # fmt: skip
        self._failures = 0

    def _load_now(self, cells: FileCells) -> pa.Array[Any] | None:
        """Returns the loaded column if all files are in the cache and in memory. Threads would be slower."""
        if self._batches_for_threads:
            self._batches_for_threads -= 1
            return None
        started = perf_counter()
        array = self._load_stored(cells) if cells.mode == "bytes" and cells.urls is None else None
        if array is None:
            copies = self._cached_copies(cells)
            if copies is None:
                return None
            array = self._read_copies(copies) if cells.mode == "bytes" else self._find_copies(copies)
        if array is not None and perf_counter() - started > SLOW_SECONDS * len(cells):
            self._batches_for_threads = SLOW_BATCHES
        return array

    def _load_stored(self, cells: FileCells) -> pa.Array[Any] | None:
        """Returns the contents if a local store has all of them, they are small, and its files are in memory."""
        objects = self._store.backend.objects
        files = [file for file in cells.files if file is not None]
        digests = [file.sha256 for file in files if file.sha256 is not None and is_digest(file.sha256)]
        sizes = [file.size for file in files if file.size is not None and 0 <= file.size <= SMALL_BYTES]
        if not (self._store.is_local and len(digests) == len(sizes) == len(files)):
            return None
        assert isinstance(objects, LocalObjects)
        locations = self._store.backend.find_ranges(digests)
        if locations is None or [location.length for location in locations] != sizes:
            return None
        builder = BinaryColumnBuilder.of(sizes, [file is not None for file in cells.files])
        views = builder.valid_cells()
        if not objects.read_all(locations, views):
            return None
        is_intact = all(sha256(view).hexdigest() == digest for view, digest in zip(views, digests, strict=True))
        return builder.array() if is_intact else None

    def _cached_copies(self, cells: FileCells) -> _CachedCopies | None:
        """Returns the copies that the cache should hold; None if one is missing or stale."""
        oldest, urls = time() - self._fetch.settings.fresh, cells.urls
        known = [entry for entry in cells.known if entry is not None]
        if urls is None:
            return self._copies_of_records(cells, oldest)
        valid = [url is not None for url in urls] if None in urls else [True] * len(urls)
        if len(known) < sum(valid) or min((entry.valid_from for entry in known), default=inf) <= oldest:
            return None
        return _CachedCopies(
            valid,
            [entry.path for entry in known],
            [entry.size for entry in known],
            [entry.sha256 for entry in known],
        )

    def _copies_of_records(self, cells: FileCells, oldest: float) -> _CachedCopies | None:
        """Returns what `_cached_copies` returns, for cells that are more than URLs."""
        copies = _CachedCopies([file is not None for file in cells.files], [], [], [])
        for file, known in zip(cells.files, cells.known, strict=True):
            if file is None:
                continue
            digest, size = file.sha256, file.size
            if digest is None and known is not None and known.valid_from > oldest:
                digest, size = known.sha256, known.size
            if digest is None or size is None or not is_digest(digest):
                return None
            path = self._cache.path_text(digest, file.suffix)
            # A record may claim any size. Memory for a large one is allocated only if the copy has that size.
            if size < 0 or (size > SMALL_BYTES and size != _size_on_disk(path)):
                return None
            copies.paths.append(path)
            copies.sizes.append(size)
            copies.digests.append(digest)
        return copies

    def _find_copies(self, copies: _CachedCopies) -> pa.Array[Any] | None:
        if not self._cache.find_all(copies.paths, copies.digests):
            return None
        remaining = iter(copies.paths)
        return pa.array([next(remaining) if is_valid else None for is_valid in copies.valid], MODE_TYPES["path"])

    def _read_copies(self, copies: _CachedCopies) -> pa.Array[Any] | None:
        builder = BinaryColumnBuilder.of(copies.sizes, copies.valid)
        return builder.array() if self._cache.read_all(copies.paths, builder.valid_cells()) else None

    def _wait_for_array(self, column: PendingColumn) -> pa.Array[Any]:
        if column.ready is not None:
            if self._statistics is not None:
                self._statistics.add(len(column.ready) - column.ready.null_count, 0)
            self._files += len(column.ready)
            return column.ready
        loaded: list[LoadedCell] = []
        for job in column.jobs:
            for outcome in self._queue.outcomes(job):
                loaded.append(self._result_of(outcome, column, len(loaded)))
            job.outcomes = []
        self._files += len(loaded)
        if column.mode == "bytes":
            self._recent_sizes.extend(len(cell) for cell in loaded if cell is not None)
        remaining = iter(loaded)
        cells = [next(remaining) if is_valid else None for is_valid in column.valid]
        del loaded, remaining
        return binary_array(cells) if column.mode == "bytes" else pa.array(cells, MODE_TYPES[column.mode])

    def _result_of(self, outcome: Any, column: PendingColumn, file: int) -> LoadedCell:
        """Returns the content of a file of a column, or null; or raises its error."""
        if not isinstance(outcome, FetchFailure):
            return outcome  # type: ignore[no-any-return]  # the result of `FileLoader`
        # A full or broken disk of this machine is not an error of the file.
        error = outcome.error
        if isinstance(error, StorageError) or not isinstance(error, OSError | UnsupportedError):
            raise error
        cells = [cell for cell, is_valid in enumerate(column.valid) if is_valid]
        column.failures.append((cells[file], _own_error(error)))
        if not self._skips_errors:
            raise error
        self._failures += 1
        if len(self._reasons) < MAX_REASONS:
            self._reasons.append(str(error))
        return None

    @property
    def _default_size(self) -> int:
        return max(self._recent_sizes, default=DEFAULT_FILE_BYTES)


def _own_error(error: Exception) -> LakefeedError:
    if isinstance(error, LakefeedError):
        return error
    own = FileError(f"{type(error).__name__}: {error}")
    own.__cause__ = error
    return own


def _expected_size(file: FileReference | None, known: UrlCopy | None, expected: int) -> int:
    if file is None:
        return 0
    if file.size is not None:
        return file.size
    return expected if known is None else known.size


def _size_on_disk(path: str) -> int | None:
    try:
        return os.stat(path).st_size  # noqa: PTH116 - faster than Path
    except OSError:
        return None


@dataclass(frozen=True)
class PendingColumn:
    """A column whose files are being fetched.

    ``valid``: for each cell, whether it is not null. ``failures``: the cells whose files could not be loaded, once they
    were waited for.
    """

    valid: Sequence[bool]
    jobs: Sequence[Job[tuple[FileReference, Mode]]]
    mode: Mode
    ready: pa.Array[Any] | None = None
    failures: list[tuple[int, LakefeedError]] = field(default_factory=list)


def binary_array(cells: list[Any]) -> pa.Array[Any]:
    """Returns contents as one column. Empties ``cells``, so that each content is copied once and freed.

    ``pa.array`` would copy contents again each time its buffer grows.
    """
    if len(cells) == 1 and cells[0] is not None:
        [content] = cells  # shared, not copied
        offsets = pa.py_buffer(np.array([0, len(content)], np.int64).tobytes())
        return pa.Array.from_buffers(MODE_TYPES["bytes"], 1, [None, offsets, pa.py_buffer(content)])
    builder = BinaryColumnBuilder(
        [0 if cell is None else len(cell) for cell in cells], [cell is not None for cell in cells]
    )
    for row, view in enumerate(builder.cells):
        if len(view):
            view[:] = cells[row]
        cells[row] = None
    return builder.array()


class BinaryColumnBuilder:
    """Builds a binary column. ``cells`` are the writable memory of each cell."""

    def __init__(self, sizes: Sequence[int], valid: Sequence[bool]) -> None:
        self._valid = valid
        self._offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(np.array(sizes, np.int64))])
        self._data = pa.allocate_buffer(int(self._offsets[-1]))
        memory = memoryview(self._data).cast("B") if len(self._data) else memoryview(b"")
        self.cells = [memory[start:stop] for start, stop in pairwise(self._offsets.tolist())]

    @classmethod
    def of(cls, sizes: Sequence[int], valid: Sequence[bool]) -> BinaryColumnBuilder:
        """Returns a builder from the sizes of the cells that are not null."""
        remaining = iter(sizes)
        return cls(sizes if all(valid) else [next(remaining) if is_valid else 0 for is_valid in valid], valid)

    def valid_cells(self) -> list[memoryview]:
        """Returns the cells that are not null."""
        if all(self._valid):
            return self.cells
        return [cell for cell, is_valid in zip(self.cells, self._valid, strict=True) if is_valid]

    def array(self) -> pa.Array[Any]:
        self.cells = []
        validity = None if all(self._valid) else pa.array(self._valid, pa.bool_()).buffers()[1]
        buffers = [validity, pa.py_buffer(self._offsets.tobytes()), self._data]
        return pa.Array.from_buffers(MODE_TYPES["bytes"], len(self._valid), buffers)
