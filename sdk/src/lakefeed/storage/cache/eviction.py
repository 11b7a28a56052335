"""Eviction of the files of a cache that were used least recently.

The time of access is set with ``utime``, because many file systems do not update it. A path that is handed out counts
as used now; bytes that are read count as used ``GRACE_SECONDS`` ago (to within ``READ_TOUCH_NS``). A file that was used
within ``GRACE_SECONDS`` is not evicted, so a path stays valid for at least that long, and bytes can be evicted
immediately. An open file survives its eviction. A file with a second hard link is pinned
(`lakefeed.storage.cache.pins`):
it is neither counted nor evicted.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from time import monotonic, time, time_ns
from typing import NamedTuple

from lakefeed._units import MIB
from lakefeed.storage.cache.url_records import open_url_records
from lakefeed.storage.disk.locks import file_lock

logger = logging.getLogger(__name__)

GRACE_SECONDS = 300
TOUCH_NS = 1_000_000
READ_TOUCH_NS = GRACE_SECONDS * 10**9
"""The time of access is updated at most this often: an update takes a fifth of the time of reading a small file."""
TARGET_SHARE = 0.9
"""The share of the limit to which an eviction reduces the cache, so that not every new file causes an eviction."""
RETRY_SECONDS = 10.0
"""The wait after an eviction that could not free enough."""
TEMPORARY_SECONDS = 3_600.0
"""Temporary files that are older were left by killed processes."""
CONTENT_FOLDER = "sha256"
COUNTED_FOLDERS = (CONTENT_FOLDER, "urls")
DIGEST_LENGTH = 64
UNCOUNTED_RECORD_BYTES = MIB
COUNTED_SHARE = 1_000
"""New bytes are added to the shared count in steps of this fraction of the limit: each step takes a file lock."""

_no_retry_until: dict[Path, float] = {}
_uncounted: dict[Path, int] = {}
_uncounted_lock = Lock()
_swept: set[tuple[int, Path]] = set()


class _CacheFile(NamedTuple):
    used: float
    size: int
    path: str


@dataclass(frozen=True)
class Eviction:
    """The size limit of one cache, shared by all processes that use it. Safe between threads, processes and forks."""

    directory: Path
    limit: int

    def mark_read(self, descriptor: int, status: os.stat_result) -> None:
        """Updates the time of access of an open file whose bytes were read."""
        now = time_ns() - GRACE_SECONDS * 10**9
        if now > status.st_atime_ns + READ_TOUCH_NS:
            with suppress(OSError):  # the file of another user in a shared cache, or a full or read-only disk
                os.utime(descriptor, ns=(now, status.st_mtime_ns))

    def mark_handed_out(self, copies: Sequence[tuple[str, os.stat_result]]) -> bool:
        """Updates the times of access of paths that were handed out. One lock serves them all.

        Returns:
            Whether all files still exist. Some may have been evicted meanwhile.
        """
        latest = time_ns() - TOUCH_NS
        stale = [(path, status) for path, status in copies if status.st_atime_ns < latest]
        if not stale:
            return True
        try:
            with file_lock(self.directory / "evict.lock", shared=True):
                now = time_ns()
                return all(_touch(path, now, status) for path, status in stale)
        except OSError:  # a full or read-only disk
            return all(os.path.exists(path) for path, _ in stale)  # noqa: PTH110

    def add(self, size: int) -> None:
        """Counts new bytes. Small amounts are collected until `count_added`."""
        with _uncounted_lock:
            _uncounted[self.directory] = size = _uncounted.get(self.directory, 0) + size
        if size * COUNTED_SHARE >= self.limit:
            self.count_added()

    def count_added(self) -> None:
        """Adds the collected bytes to the shared count, and evicts files if the limit is exceeded.

        Call it at the end of work.
        """
        with _uncounted_lock:
            size = _uncounted.pop(self.directory, 0)
        if not size:
            return
        try:
            self._sweep_once()
            total = self._update_usage(size)
            if total is None or total > self.limit:
                self.evict()
        except OSError as error:  # the copies are valid; only the limit is not checked
            logger.warning("cannot count the size of the cache %s: %s", self.directory, error)

    def evict(self, free: int = 0) -> int:
        """Evicts the least recently used files until the cache is below its limit and ``free`` bytes were removed.

        Does nothing while another process evicts, or shortly after an eviction that could not free enough, unless
        ``free`` is
        given.

        Returns:
            The number of bytes that were removed.
        """
        if not free and monotonic() < _no_retry_until.get(self.directory, 0.0):
            return 0
        try:
            with file_lock(self.directory / "trim.lock", timeout=None if free else 0):
                return self._evict_oldest(free)
        except BlockingIOError:
            return 0

    def _evict_oldest(self, free: int) -> int:
        entries = sorted(self._entries())
        records = max(open_url_records(self.directory).size - UNCOUNTED_RECORD_BYTES, 0)
        before = total = sum(entry.size for entry in entries) + records
        removed = []
        target = min(self.limit * TARGET_SHARE if total > self.limit else total, total - free)
        young = time() - GRACE_SECONDS
        for entry in entries:
            if total <= target or entry.used > young:
                break
            if self._remove_unless_used(entry):
                total -= entry.size
                removed.append(entry)
        self._forget(removed)
        if total > self.limit:
            _no_retry_until[self.directory] = monotonic() + RETRY_SECONDS
            logger.warning(
                "the cache %s has %d bytes, more than its limit of %d, because its paths were handed out within the "
                "last %d seconds", self.directory, total, self.limit, GRACE_SECONDS,
            )  # fmt: skip
        self._update_usage(total, afresh=True)
        return before - total

    def _remove_unless_used(self, entry: _CacheFile) -> bool:
        """Returns whether the file is gone. A file that was used meanwhile stays."""
        with file_lock(self.directory / "evict.lock"):
            try:
                status = os.stat(entry.path)  # noqa: PTH116  # path objects of a million files take too long
                if status.st_nlink > 1 or _used_at(status) > entry.used:
                    return False
                os.unlink(entry.path)  # noqa: PTH108
            except FileNotFoundError:
                pass
        return True

    def _forget(self, removed: Sequence[_CacheFile]) -> None:
        """Removes the records of URLs whose content was evicted."""
        digests = {
            "".join(Path(entry.path).parts[-2:])[:DIGEST_LENGTH]
            for entry in removed
            if f"/{CONTENT_FOLDER}/" in entry.path
        }
        records = open_url_records(self.directory)
        with suppress(OSError):
            if records.size:
                records.forget(digests)

    def _entries(self) -> Iterator[_CacheFile]:
        for name in COUNTED_FOLDERS:
            for shard in _scan(self.directory / name):
                for file in _scan(shard.path):
                    with suppress(FileNotFoundError):
                        status = file.stat()
                        if status.st_nlink == 1:
                            yield _CacheFile(_used_at(status), status.st_size, file.path)

    def _update_usage(self, size: int, *, afresh: bool = False) -> int | None:
        """Adds to the count that all processes share. Returns the sum; None if there is no count yet."""
        with file_lock(self.directory / "usage") as descriptor:
            before = os.read(descriptor, 32)
            if not afresh and not before.strip().isdigit():
                return None
            total = size if afresh else int(before) + size
            os.pwrite(descriptor, b"%020d" % total, 0)
            return total

    def _sweep_once(self) -> None:
        """Removes temporary files that killed processes have left, once per process."""
        if (os.getpid(), self.directory) in _swept:
            return
        _swept.add((os.getpid(), self.directory))
        for shard in _scan(self.directory / "tmp"):
            for file in _scan(shard.path):
                with suppress(FileNotFoundError):
                    if file.stat().st_ctime < time() - TEMPORARY_SECONDS:
                        os.unlink(file.path)  # noqa: PTH108


def _touch(path: str, now: int, status: os.stat_result) -> bool:
    """Updates the time of access of a file. Returns whether the file exists."""
    try:
        os.utime(path, ns=(now, status.st_mtime_ns))
    except FileNotFoundError:
        return False
    except OSError:  # the file of another user in a shared cache
        return os.path.exists(path)  # noqa: PTH110  # path objects of many files take too long
    return True


def _used_at(status: os.stat_result) -> float:
    return status.st_atime_ns / 1e9


def _scan(directory: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _after_fork() -> None:
    """Leaves the bytes that the parent has collected to the parent."""
    global _uncounted_lock
    _uncounted_lock = Lock()
    _uncounted.clear()


os.register_at_fork(after_in_child=_after_fork)
