"""How much a cache may hold: what was used longest ago makes room for what is new.

Time of access is kept by us (``utime``), since many file systems do not keep it: a path that was handed out is used
*now*, bytes that were read count as used ``GRACE_SECONDS`` ago (to within ``READ_TOUCH_NS``). What was used within
``GRACE_SECONDS`` is not evicted: a path stays valid for at least so long, while bytes make room at once. A file that is
open survives its eviction. A file with a second hard link is pinned (see `lakefeed.storage.cache.pins`): it is neither
counted nor evicted.
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
"""Reading again notes the time no more often than so: in a small file it costs as much as a fifth of the reading."""
TARGET_SHARE = 0.9
"""After an eviction the cache is as full as this, so that not every new file evicts."""
RETRY_SECONDS = 10.0
"""Where nothing may be evicted yet, it is not looked for again at once."""
TEMPORARY_SECONDS = 3_600.0
"""What lies written aside for so long was left by a process that was killed."""
CONTENT_FOLDER = "sha256"
COUNTED_FOLDERS = (CONTENT_FOLDER, "urls")
DIGEST_LENGTH = 64
NOTES_UNCOUNTED_BYTES = MIB
COUNTED_SHARE = 1_000
"""Counting with other processes costs a fifth of keeping a small file, so it is done for this part of the limit."""

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
    """The room of one cache, shared by all processes that use it. Safe between threads, processes and forks."""

    directory: Path
    limit: int

    def mark_read(self, descriptor: int, status: os.stat_result) -> None:
        """The bytes of an open file were read."""
        now = time_ns() - GRACE_SECONDS * 10**9
        if now > status.st_atime_ns + READ_TOUCH_NS:
            with suppress(OSError):  # somebody else's file in a shared cache, or a disk that takes nothing more
                os.utime(descriptor, ns=(now, status.st_mtime_ns))

    def mark_handed_out(self, path: Path, status: os.stat_result) -> bool:
        """The path was handed out; False if it was evicted at this moment."""
        if time_ns() <= status.st_atime_ns + TOUCH_NS:
            return True
        try:
            with file_lock(self.directory / "evict.lock", shared=True):
                os.utime(path, ns=(time_ns(), status.st_mtime_ns))
        except FileNotFoundError:
            return False
        except OSError:  # somebody else's file in a shared cache, or a disk that takes nothing more
            return path.exists()
        return True

    def add(self, size: int) -> None:
        """So many bytes are new. They are counted at once, or, where they are few, with others: see `count_added`."""
        with _uncounted_lock:
            _uncounted[self.directory] = size = _uncounted.get(self.directory, 0) + size
        if size * COUNTED_SHARE >= self.limit:
            self.count_added()

    def count_added(self) -> None:
        """Counts what is new; to be called at the end of some work."""
        with _uncounted_lock:
            size = _uncounted.pop(self.directory, 0)
        if not size:
            return
        try:
            self._sweep_once()
            total = self._update_usage(size)
            if total is None or total > self.limit:
                self.evict()
        except OSError as error:  # what was kept is good; only the bound is not looked at
            logger.warning("the size of the cache %s is not counted: %s", self.directory, error)

    def evict(self, free: int = 0) -> int:
        """Evicts, oldest first, until the cache is a little below its limit and ``free`` bytes went; how many went.

        Does nothing while another process does it, or where it has just been in vain.
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
        notes = max(open_url_records(self.directory).size - NOTES_UNCOUNTED_BYTES, 0)
        before = total = sum(entry.size for entry in entries) + notes
        gone = []
        least = min(self.limit * TARGET_SHARE if total > self.limit else total, total - free)
        young = time() - GRACE_SECONDS
        for entry in entries:
            if total <= least or entry.used > young:
                break
            if self._remove_unless_used(entry):
                total -= entry.size
                gone.append(entry)
        self._forget(gone)
        if total > self.limit:
            _no_retry_until[self.directory] = monotonic() + RETRY_SECONDS
            logger.warning(
                "the cache %s holds %d bytes, more than its bound of %d: paths in it were handed out within the "
                "last %d seconds", self.directory, total, self.limit, GRACE_SECONDS,
            )  # fmt: skip
        self._update_usage(total, afresh=True)
        return before - total

    def _remove_unless_used(self, entry: _CacheFile) -> bool:
        """Whether it went: not if somebody has begun to use the file."""
        with file_lock(self.directory / "evict.lock"):
            try:
                status = os.stat(entry.path)  # noqa: PTH116  # a path object for each of a million files is dear
                if status.st_nlink > 1 or _used_at(status) > entry.used:
                    return False
                os.unlink(entry.path)  # noqa: PTH108
            except FileNotFoundError:
                pass
        return True

    def _forget(self, gone: Sequence[_CacheFile]) -> None:
        """What URLs gave is of no use without the bytes."""
        digests = {
            "".join(Path(entry.path).parts[-2:])[:DIGEST_LENGTH]
            for entry in gone
            if f"/{CONTENT_FOLDER}/" in entry.path
        }
        notes = open_url_records(self.directory)
        with suppress(OSError):
            if notes.size:
                notes.forget(digests)

    def _entries(self) -> Iterator[_CacheFile]:
        for name in COUNTED_FOLDERS:
            for shard in _scan(self.directory / name):
                for found in _scan(shard.path):
                    with suppress(FileNotFoundError):
                        status = found.stat()
                        if status.st_nlink == 1:
                            yield _CacheFile(_used_at(status), status.st_size, found.path)

    def _update_usage(self, size: int, *, afresh: bool = False) -> int | None:
        """Adds to the number of bytes that all processes count together; None if nobody has counted yet."""
        with file_lock(self.directory / "usage") as descriptor:
            before = os.read(descriptor, 32)
            if not afresh and not before.strip().isdigit():
                return None
            total = size if afresh else int(before) + size
            os.pwrite(descriptor, b"%020d" % total, 0)
            return total

    def _sweep_once(self) -> None:
        """Removes what killed processes left written aside; once in the life of this one."""
        if (os.getpid(), self.directory) in _swept:
            return
        _swept.add((os.getpid(), self.directory))
        for shard in _scan(self.directory / "tmp"):
            for found in _scan(shard.path):
                with suppress(FileNotFoundError):
                    if found.stat().st_ctime < time() - TEMPORARY_SECONDS:
                        os.unlink(found.path)  # noqa: PTH108


def _used_at(status: os.stat_result) -> float:
    return status.st_atime_ns / 1e9


def _scan(directory: Path | str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as found:
            return list(found)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _after_fork() -> None:
    """What a parent has not counted yet it will count itself."""
    global _uncounted_lock
    _uncounted_lock = Lock()
    _uncounted.clear()


os.register_at_fork(after_in_child=_after_fork)
