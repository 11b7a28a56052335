"""The cache of files is bounded; the least recently used files are evicted."""

from __future__ import annotations

import errno
import io
import logging
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from lakefeed.config import Settings
from lakefeed.errors import ConfigError
from lakefeed.storage.cache import blob_cache, eviction
from lakefeed.storage.cache.blob_cache import BlobCache
from lakefeed.storage.disk.hashing import sha256_bytes
from tests.sdk.processes import context

SIZE = 1_000


def content(number: int) -> bytes:
    return bytes([number % 256]) * SIZE


def held(cache: BlobCache) -> list[Path]:
    return sorted(path for path in (cache.directory / "sha256").rglob("*") if path.is_file())


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(eviction, "_no_retry_until", {})
    monkeypatch.setattr(eviction, "_swept", set())
    blob_cache._warn_once.cache_clear()


def test_bytes_make_room_at_once(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, limit=10 * SIZE)
    digests = [cache.add(content(n), ".bin") for n in range(40)]
    assert 5 <= len(held(cache)) <= 10
    assert cache.read(digests[-1], ".bin") == content(39)
    assert cache.read(digests[0], ".bin") is None


def test_what_was_used_longest_ago_goes_first(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, limit=10 * SIZE)
    digests = [cache.add(content(n)) for n in range(10)]
    for digest in digests:  # reading again notes the time once in a while only
        status = cache.path(digest).stat()
        os.utime(cache.path(digest), (status.st_atime - 3_600, status.st_mtime))
    assert cache.read(digests[0]) == content(0)
    assert cache.read(digests[1]) == content(1)
    cache.add(content(10))
    there = [cache.read(digest) is not None for digest in digests]
    assert there[:3] == [True, True, False]
    assert all(there[4:])


def test_a_path_that_was_handed_out_stays(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cache = BlobCache(tmp_path, limit=5 * SIZE)
    digests = [cache.add(content(n)) for n in range(5)]
    path = cache.find(digests[0])
    copies = [cache.fill(sha256_bytes(content(n)), "", io.BytesIO(content(n)), "test") for n in range(10, 30)]
    assert path is not None
    assert path.read_bytes() == content(0)
    assert all(copy.exists() for copy in copies)
    assert "handed out within the last 300 seconds" in caplog.text
    long_ago = time.time() - 1_000
    for copy in copies:
        os.utime(copy, (long_ago, copy.stat().st_mtime))
    eviction._no_retry_until.clear()
    cache.add(content(99))
    assert len(held(cache)) <= 5
    assert path.exists()


def test_an_open_file_survives_its_eviction(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, limit=2 * SIZE)
    digest = cache.add(content(1))
    with cache.open_copy(digest) as found:
        assert found is not None
        for n in range(10, 20):
            cache.add(content(n))
        assert cache.read(digest) is None
        assert os.pread(found[0], SIZE, 0) == content(1)


def test_a_file_that_is_larger_than_the_cache_passes(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path, limit=10)
    assert cache.add(content(1)) == sha256_bytes(content(1))
    assert held(cache) == []
    assert cache.fill(sha256_bytes(content(2)), "", io.BytesIO(content(2)), "test").read_bytes() == content(2)


def test_pinned_files_are_neither_counted_nor_evicted(tmp_path: Path) -> None:
    cache = BlobCache(tmp_path / "cache", limit=3 * SIZE)
    pinned = [cache.add(content(n)) for n in range(2)]
    for digest in pinned:
        os.link(cache.path(digest), tmp_path / digest)
    for n in range(10, 40):
        cache.add(content(n))
    assert [cache.read(digest) for digest in pinned] == [content(0), content(1)]
    assert 2 <= len(held(cache)) - 2 <= 3


def _fill(directory: str, start: int) -> None:
    cache = BlobCache(Path(directory), limit=20 * SIZE)
    for n in range(start, start + 50):
        path = cache.fill(sha256_bytes(content(n) + b"x"), "", io.BytesIO(content(n) + b"x"), "test")
        assert path.read_bytes() == content(n) + b"x"
        digest = cache.add(content(n))
        assert cache.read(digest) in (content(n), None)


def test_many_processes_share_the_bound(tmp_path: Path) -> None:
    children = [context().Process(target=_fill, args=(str(tmp_path), start)) for start in (0, 20, 40)]
    for child in children:
        child.start()
    for child in children:
        child.join(60)
    assert [child.exitcode for child in children] == [0, 0, 0]
    handed_out = [path for path in held(BlobCache(tmp_path)) if path.stat().st_atime > time.time() - 200]
    assert len(held(BlobCache(tmp_path))) - len(handed_out) <= 21
    assert not [path for path in (tmp_path / "tmp").rglob("*") if path.is_file()]


def test_what_a_killed_process_left_is_removed_later(tmp_path: Path) -> None:
    for name, age in (("old", 7_200), ("new", 0)):
        path = tmp_path / "tmp" / "a" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age, time.time() - age))
    limited = eviction.Eviction(tmp_path, 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eviction, "time", lambda: time.time() + eviction.TEMPORARY_SECONDS / 2)
        limited.add(1)
    assert len(list((tmp_path / "tmp").rglob("*"))) == 3
    eviction._swept.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(eviction, "time", lambda: time.time() + eviction.TEMPORARY_SECONDS + 1)
        limited.add(1)
    assert [path.name for path in (tmp_path / "tmp").rglob("*")] == ["a"]


# ------------------------------------------------------------------------------------------------- a full disk


@contextmanager
def full(patch: pytest.MonkeyPatch, times: int) -> Iterator[list[int]]:
    """The disk has no space for the next ``times`` files."""
    real, real_whole, left = blob_cache.staged_file, blob_cache.write_atomically, [times]

    def fill() -> None:
        if left[0] > 0:
            left[0] -= 1
            raise OSError(errno.ENOSPC, "No space left on device")

    @contextmanager
    def aside(directory: Path) -> Iterator[Any]:
        fill()
        with real(directory) as found:
            yield found

    def write_whole(*arguments: Any) -> None:
        fill()
        real_whole(*arguments)

    patch.setattr(blob_cache, "staged_file", aside)
    patch.setattr(blob_cache, "write_atomically", write_whole)
    yield left
    patch.setattr(blob_cache, "staged_file", real)
    patch.setattr(blob_cache, "write_atomically", real_whole)


def test_a_full_disk_makes_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = BlobCache(tmp_path, limit=100 * SIZE)
    old = [cache.add(content(n)) for n in range(10)]
    with full(monkeypatch, 1):
        cache.add(content(20))
    assert cache.read(sha256_bytes(content(20))) == content(20)
    assert cache.read(old[0]) is None
    cache.add(content(0))
    with full(monkeypatch, 1):
        assert cache.fill(sha256_bytes(content(21)), "", io.BytesIO(content(21)), "t").read_bytes() == content(21)


def test_a_disk_that_stays_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    cache = BlobCache(tmp_path, limit=100 * SIZE)
    with full(monkeypatch, 9):
        assert [cache.add(content(n)) for n in range(3)] == [sha256_bytes(content(n)) for n in range(3)]
        with pytest.raises(OSError, match="No space left"):
            cache.fill(sha256_bytes(content(21)), "", io.BytesIO(content(21)), "t")
    assert caplog.text.count("cannot keep copies in the cache") == 1
    assert logging.WARNING in {record.levelno for record in caplog.records}


def test_the_bound_is_a_setting(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert Settings.load().cache_limit == 100 << 30
    monkeypatch.setenv("LAKEFEED_CACHE_BYTES", "5000")
    assert Settings.load().cache_limit == BlobCache(tmp_path).eviction.limit == 5000
    assert Settings.load(cache_bytes=7).cache_limit == 7
    monkeypatch.setenv("LAKEFEED_CACHE_BYTES", "many")
    with pytest.raises(ConfigError, match="LAKEFEED_CACHE_BYTES must be a number of bytes"):
        BlobCache(tmp_path).eviction  # noqa: B018
