"""A file column on its way out of a table: records become contents or local paths."""

from __future__ import annotations

import logging
import sys
from collections import deque
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed.config import Settings
from lakefeed.errors import InvalidArgumentError, UnsupportedError
from lakefeed.media.base import Mode
from lakefeed.media.columns import LOADED, checked_mode, is_bytes, plain
from lakefeed.media.registry import media_type
from lakefeed.storage.blobs import BlobStore
from lakefeed.storage.cache import BlobCache
from lakefeed.storage.fetch import Fetch, Progress
from lakefeed.storage.lane import Failed, Job, Lane
from lakefeed.storage.urls import file_name, suffix

logger = logging.getLogger(__name__)

TOGETHER = 8
"""Files that a thread takes at a time, at most: small ones cost less than handing them over."""
UNKNOWN_BYTES = 8 << 20
"""What a file is expected to take before the first is known."""
PIECE_BYTES = 1 << 20
"""What a file takes in memory on its way to disk."""
REASONS = 3
RECENT = 64
"""Files whose sizes say what is to be expected of the next."""

OnError: TypeAlias = Literal["raise", "null"]
Loaded: TypeAlias = bytes | str | None


class File(NamedTuple):
    """Where the content of a cell is."""

    url: str | None
    sha256: str | None
    suffix: str
    size: int | None
    data: bytes | None = None


@dataclass(frozen=True)
class Load:
    """Loads one file as one mode. Safe between threads."""

    store: BlobStore
    fetch: Fetch

    def __call__(self, wanted: tuple[File, Mode], progress: Progress) -> Loaded:
        file, mode = wanted
        return self._bytes(file, progress) if mode == "bytes" else self._path(file, progress)

    def _bytes(self, file: File, progress: Progress) -> bytes:
        if file.data is not None:
            return file.data
        if file.sha256 is not None:
            found = self._cache.read(file.sha256, file.suffix)
            return found if found is not None else self.store.read(file.sha256, file.suffix)
        return self.fetch.read(file.url or "", file.suffix, progress)

    def _path(self, file: File, progress: Progress) -> str:
        if file.data is not None:
            return str(self.store.cached_bytes(file.data, file.suffix))
        if file.sha256 is not None:
            return str(self.store.local_path(file.sha256, file.suffix))
        return str(self.fetch.path(file.url or "", file.suffix, progress))

    @property
    def _cache(self) -> BlobCache:
        assert self.fetch.cache is not None, "made with one"
        return self.fetch.cache


class Loads:
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
    ) -> None:
        self._max_bytes = max_bytes
        self._workers = workers
        self._skips = on_error == "null"
        given = Settings.load().files
        update = {"timeout": timeout, "fresh": given.fresh if fresh is None else fresh}
        fetch = Fetch(BlobCache(store.cache_dir), given.model_copy(update=update))
        self._fetch = fetch
        self._lane: Lane[tuple[File, Mode], Loaded] = Lane(Load(store, fetch), workers, max_bytes, timeout)
        self._recent: deque[int] = deque(maxlen=RECENT)
        self._given: list[Job[tuple[File, Mode]]] = []
        self._asked = 0
        self._failed = 0
        self._reasons: list[str] = []

    def sizes(self, column: pa.Array[Any], media: str, mode: str) -> list[int]:
        """Bytes that the loaded cells will take, as far as that is known: what was largest so far, if not."""
        return [self._cost(file, checked_mode(mode)) for file in files(column, media)]

    def begin(self, column: pa.Array[Any], media: str, mode: str) -> Begun:
        """Begins to fetch the files of a column."""
        chosen = checked_mode(mode)
        cells = files(column, media)
        wanted = [(file, chosen) for file in cells if file is not None]
        costs = [self._cost(file, chosen) for file, _ in wanted]
        step = min(max(len(wanted) // self._workers, 1), TOGETHER)
        starts = range(0, len(wanted), step)
        jobs = [self._lane.add(wanted[at : at + step], costs[at : at + step]) for at in starts]
        return Begun([file is not None for file in cells], jobs, chosen)

    def finish(self, columns: Sequence[Begun]) -> list[pa.Array[Any]]:
        """The loaded columns, waited for; what was given out before is no longer counted."""
        for job in self._given:
            self._lane.release(job)
        self._given = [job for column in columns for job in column.jobs]
        return [self._array(column) for column in columns]

    def close(self) -> None:
        """Ends all fetching, and reports what could not be had."""
        self._lane.close()
        if self._failed:
            logger.warning(
                "%d of %d files could not be loaded and are null; the first: %s",
                self._failed, self._asked, "; ".join(self._reasons),
            )  # fmt: skip
        self._failed = 0

    def _array(self, column: Begun) -> pa.Array[Any]:
        found: list[Loaded] = []
        for job in column.jobs:
            found += [self._checked(outcome) for outcome in self._lane.outcomes(job)]
            job.outcomes = []
        self._asked += len(found)
        if column.mode == "bytes":
            self._recent.extend(len(item) for item in found if item is not None)
        results = iter(found)
        cells = [next(results) if there else None for there in column.there]
        del found, results
        return binary(cells) if column.mode == "bytes" else pa.array(cells, LOADED[column.mode])

    def _checked(self, outcome: Any) -> Loaded:
        if not isinstance(outcome, Failed):
            return outcome  # type: ignore[no-any-return]  # what the work gave
        if not (self._skips and isinstance(outcome.error, OSError | UnsupportedError)):
            raise outcome.error
        self._failed += 1
        if len(self._reasons) < REASONS:
            self._reasons.append(str(outcome.error))
        return None

    def _cost(self, file: File | None, mode: Mode) -> int:
        if file is None:
            return 0
        if file.data is not None:
            return len(file.data)
        size = file.size
        if size is None and file.url is not None and file.sha256 is None:
            size = self._fetch.known_size(file.url)
        expected = size if size is not None else self._expected
        return expected if mode == "bytes" else min(expected, PIECE_BYTES)

    @property
    def _expected(self) -> int:
        return max(self._recent, default=UNKNOWN_BYTES)


@dataclass(frozen=True)
class Begun:
    """A column whose files are being fetched. ``there``: which cells are not null."""

    there: Sequence[bool]
    jobs: Sequence[Job[tuple[File, Mode]]]
    mode: Mode


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
    checked_mode(mode)
    if on_error not in ("raise", "null"):
        raise InvalidArgumentError(f'on_error is {on_error!r}; it is "raise" or "null"')
    if workers < 1 or timeout <= 0:
        raise InvalidArgumentError(f"workers is {workers} and timeout {timeout}; both are above 0")
    with closing(Loads(store, workers, "null" if on_error == "null" else "raise", timeout, max_bytes)) as loads:
        [loaded] = loads.finish([loads.begin(column, media, mode)])
        return loaded


def files(column: pa.Array[Any], media: str) -> list[File | None]:
    """Where the content of each cell is, None for null. The column may be text or binary too, before its save."""
    media_type(media)
    cells = plain(column)
    if isinstance(cells, pa.StructArray):
        return _recorded(cells)
    if is_bytes(cells.type):
        return [None if cell is None else File(None, None, "", len(cell), cell) for cell in cells.to_pylist()]
    return [None if cell is None else File(cell, None, suffix(file_name(cell)), None) for cell in cells.to_pylist()]


def _recorded(column: pa.StructArray) -> list[File | None]:
    parts = dict(zip(column.type.names, column.flatten(), strict=True))
    nothing = pa.nulls(len(column))
    url, sha256, size, name = (parts.get(key, nothing).to_pylist() for key in ("url", "sha256", "size", "filename"))
    return [
        File(url[row], sha256[row], suffix(name[row] or file_name(url[row] or "")), size[row]) if valid else None
        for row, valid in enumerate(column.is_valid().to_pylist())
    ]


def binary(cells: list[Any]) -> pa.Array[Any]:
    """Contents as one column, each copied once and then let go of: ``pa.array`` copies them as its memory grows."""
    sizes = np.fromiter((0 if cell is None else len(cell) for cell in cells), np.int64, len(cells))
    offsets = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes)])
    if len(cells) == 1 and cells[0] is not None:
        data = pa.py_buffer(cells[0])  # shared: a large file is not doubled
    else:
        data = pa.allocate_buffer(int(offsets[-1]))
        target = memoryview(data).cast("B") if len(data) else memoryview(b"")
        for row, (start, stop) in enumerate(pairwise(offsets.tolist())):
            if stop > start:
                target[start:stop] = cells[row]
            cells[row] = cells[row] is not None
    valid = pa.array([cell is not None and cell is not False for cell in cells]).buffers()[1]
    return pa.Array.from_buffers(LOADED["bytes"], len(cells), [valid, pa.py_buffer(offsets.tobytes()), data])
