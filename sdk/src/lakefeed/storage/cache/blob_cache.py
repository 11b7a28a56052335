"""Verified local copies of blobs, which all processes of a machine share. They may be deleted at any time."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from mmap import mmap
from pathlib import Path
from threading import Lock
from time import time_ns
from typing import BinaryIO, TypeVar

from lakefeed._units import MIB
from lakefeed.config import Settings
from lakefeed.errors import IntegrityError
from lakefeed.storage.cache.eviction import GRACE_SECONDS, READ_TOUCH_NS, Eviction
from lakefeed.storage.disk.atomic_write import publish, staged_file, write_atomically
from lakefeed.storage.disk.disk_errors import FULL_ERRNO
from lakefeed.storage.disk.hashing import check_digest, sha256_bytes, sha256_file, sha256_stream
from lakefeed.storage.disk.local_file import read_cached

logger = logging.getLogger(__name__)

SEAL_EPOCH_NS = 978_307_200 * 10**9  # 2001-01-01: not the time of a new file
SPARE_BYTES = 64 * MIB
"""The bytes to evict beyond the size of a file for which the disk has no space."""


T = TypeVar("T")


@dataclass(frozen=True)
class BlobCache:
    """Read-only files ``<directory>/sha256/ab/cdef….png``, which have the extensions of their originals.

    A copy is hashed when it is created and then sealed: its modification time encodes its size, so a later use takes
    one
    ``stat``. A copy that was truncated or changed has lost its seal and is hashed again.

    Limited to ``limit`` bytes (default: ``cache_bytes`` of the settings), see `lakefeed.storage.cache.eviction`.
    """

    directory: Path
    limit: int | None = None

    def path(self, sha256: str, suffix: str = "") -> Path:
        return Path(self.path_text(sha256, suffix))

    def find(self, sha256: str, suffix: str = "") -> Path | None:
        """Returns the path of a valid copy, or None.

        Removes a damaged copy. The path stays valid for ``GRACE_SECONDS`` at least.
        """
        return self.find_at(self.path(sha256, suffix), sha256)

    def find_at(self, path: Path, sha256: str) -> Path | None:
        """Returns the path of a valid copy as `find` does, if the path is already known."""
        try:
            status = self._verify(path, sha256)
        except FileNotFoundError:
            return None
        except IntegrityError as error:
            logger.warning("removed a damaged copy from the cache: %s", error)
            with suppress(OSError):  # the file of another user, or a read-only disk; it is not used
                path.unlink(missing_ok=True)
            return None
        return path if self.eviction.mark_handed_out([(str(path), status)]) else None

    def find_all(self, paths: Sequence[str], digests: Sequence[str]) -> bool:
        """Returns whether all copies are valid. Then their paths stay valid for ``GRACE_SECONDS`` at least.

        ``paths`` are those of `path_text`, as text because a path object takes longer than the check of a file.
        """
        sealed = []
        for path, digest in zip(paths, digests, strict=True):
            try:
                status = os.stat(path)  # noqa: PTH116
            except FileNotFoundError:
                return False
            if _is_sealed(status):
                sealed.append((path, status))
            elif self.find_at(Path(path), digest) is None:
                return False
        return self.eviction.mark_handed_out(sealed)

    @contextmanager
    def open_copy(self, sha256: str, suffix: str = "") -> Iterator[tuple[int, int] | None]:
        """Yields the descriptor of a valid copy, at its beginning, and its size; or None. Removes a damaged copy."""
        try:
            # Not pathlib, which takes as long as reading a small file.
            descriptor = os.open(self.path_text(sha256, suffix), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            yield None
            return
        try:
            status = os.fstat(descriptor)
            if _is_sealed(status):
                self.eviction.mark_read(descriptor, status)
                yield descriptor, status.st_size
            else:
                yield (descriptor, status.st_size) if self.find(sha256, suffix) is not None else None
        finally:
            os.close(descriptor)

    def read(self, sha256: str, suffix: str = "") -> bytes | None:
        """Returns the bytes of a valid copy, or None. Removes a damaged copy."""
        with self.open_copy(sha256, suffix) as copy:
            if copy is None:
                return None
            with open(copy[0], "rb", closefd=False) as stream:  # a descriptor
                return stream.read()

    def read_all(self, paths: Sequence[str], targets: Sequence[memoryview]) -> bool:
        """Reads sealed copies whose bytes are in memory, without waiting for the disk.

        ``paths`` are those of `path_text`. They are text, and this is one loop, because a path object takes as long as
        reading
        a small file.

        Returns:
            Whether all copies had the sizes of their targets and were in memory.
        """
        untouched = time_ns() - GRACE_SECONDS * 10**9 - READ_TOUCH_NS
        open_, stat_, close, flags = os.open, os.fstat, os.close, os.O_RDONLY | os.O_CLOEXEC
        for path, target in zip(paths, targets, strict=True):
            try:
                descriptor = open_(path, flags)
            except FileNotFoundError:
                return False
            try:
                status, size = stat_(descriptor), len(target)
                if status.st_mtime_ns != SEAL_EPOCH_NS + size or status.st_size != size:
                    return False
                if status.st_atime_ns < untouched:
                    self.eviction.mark_read(descriptor, status)
                if size and read_cached(descriptor, target) != size:
                    return False
            finally:
                close(descriptor)
        return True

    def fill(self, sha256: str, suffix: str, source: BinaryIO, origin: str) -> Path:
        """Returns the path of a new copy of ``source``. ``origin`` names the source in errors.

        Raises:
            IntegrityError: the bytes do not have the digest ``sha256``; no copy is kept.
            OSError: the disk is full, and nothing can be evicted.
        """
        start = source.tell() if source.seekable() else None

        def make_copy() -> Path:
            if start is not None:
                source.seek(start)
            with self.create_copy() as copy:
                digest, _ = sha256_stream(source, into=copy.write)
                require_digest(sha256, digest, origin)
                return copy.publish(sha256, suffix)

        return self._retry_with_space(make_copy, again=start is not None)

    def add(self, data: bytes | mmap, suffix: str = "", sha256: str | None = None) -> str:
        """Returns the digest of ``data``.

        Keeps a copy if there is space, for callers that have the bytes in any case.
        """
        digest = sha256 or sha256_bytes(data)

        def make_copy() -> None:
            times = time_ns() - GRACE_SECONDS * 10**9, SEAL_EPOCH_NS + len(data)
            write_atomically(self.path_text(digest, suffix), data, self._staging, times)
            self.eviction.add(len(data))

        try:
            self._retry_with_space(make_copy, again=True, size=len(data))
        except OSError as error:
            _warn_once(f"cannot keep copies in the cache {str(self.directory)!r}: {error.strerror}")
        return digest

    @contextmanager
    def create_copy(self) -> Iterator[NewCopy]:
        """Yields a new copy, which is removed on exit unless it was published."""
        with staged_file(self.directory / "tmp") as (temporary, stream):
            yield NewCopy(self, temporary, stream)

    def remove(self, sha256: str, suffix: str = "") -> None:
        self.path(sha256, suffix).unlink(missing_ok=True)

    @cached_property
    def eviction(self) -> Eviction:
        return Eviction(self.directory, Settings.load().cache_limit if self.limit is None else self.limit)

    def _verify(self, path: Path, sha256: str) -> os.stat_result:
        """Returns the status of a copy.

        Hashes it if it has lost its seal, and seals it again if its bytes are right.
        """
        status = path.stat()
        if _is_sealed(status):
            return status
        digest, size = sha256_file(path)
        require_digest(sha256, digest, str(path))
        with suppress(OSError):  # the valid file of another user in a shared cache, or a read-only disk
            _seal(path, size, status.st_atime_ns)
        return path.stat()

    def _retry_with_space(self, make_copy: Callable[[], T], *, again: bool, size: int = 0) -> T:
        """Returns the result of ``make_copy``.

        If the disk is full, evicts files, and repeats the copy if ``again`` is set.
        """
        try:
            return make_copy()
        except OSError as error:
            if error.errno not in FULL_ERRNO or not self.eviction.evict(size + SPARE_BYTES) or not again:
                raise
            return make_copy()

    def path_text(self, sha256: str, suffix: str = "") -> str:
        """Returns the path of a copy as text.

        Raises:
            InvalidArgumentError: ``sha256`` is not a digest. A table may contain any text, such as ``../..``.
        """
        check_digest(sha256)
        return f"{self._root}/{sha256[:2]}/{sha256[2:]}{suffix}"

    @cached_property
    def _root(self) -> str:
        return str(self.directory / "sha256")

    @cached_property
    def _staging(self) -> str:
        return str(self.directory / "tmp")


@dataclass(frozen=True)
class NewCopy:
    """A copy that is being written."""

    cache: BlobCache
    temporary: Path
    stream: BinaryIO

    def write(self, piece: bytes | mmap) -> None:
        self.stream.write(piece)

    def publish(self, sha256: str, suffix: str, *, promised: bool = True) -> Path:
        """Makes the file the copy of the bytes with this digest. ``promised``: the path is handed out."""
        self.stream.flush()
        size = self.stream.tell()
        _seal(self.temporary, size, time_ns() - (0 if promised else GRACE_SECONDS * 10**9))
        target = self.cache.path(sha256, suffix)
        publish(self.temporary, target)
        self.cache.eviction.add(size)
        return target


class CacheStatistics:
    """Counts of files that the cache held (hits) and of files that were fetched (misses). Safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = 0, 0

    def add(self, hits: int, misses: int) -> None:
        with self._lock:
            self._counts = self._counts[0] + hits, self._counts[1] + misses

    def read(self) -> tuple[int, int]:
        """Returns the hits and the misses."""
        return self._counts

    def reset(self) -> tuple[int, int]:
        """Returns the hits and the misses, and starts again at zero."""
        with self._lock:
            counts, self._counts = self._counts, (0, 0)
        return counts

    def __reduce__(self) -> tuple[type[CacheStatistics], tuple[()]]:
        return CacheStatistics, ()  # another process counts its own


def require_digest(expected: str, actual: str, origin: str) -> None:
    """Raises IntegrityError unless the two digests are equal."""
    if actual != expected:
        raise IntegrityError(
            f"{origin} holds other bytes than were saved: its SHA-256 is {actual}, expected {expected}"
        )


def _is_sealed(status: os.stat_result) -> bool:
    return status.st_mtime_ns == SEAL_EPOCH_NS + status.st_size


def _seal(path: Path, size: int, used_ns: int) -> None:
    os.utime(path, ns=(used_ns, SEAL_EPOCH_NS + size))


@cache
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
