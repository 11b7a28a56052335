from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import fsspec
import pyarrow as pa
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from lakefeed.errors import FileError, IntegrityError, InvalidArgumentError, MissingFileError, UnsupportedError
from lakefeed.media import store_column
from lakefeed.storage import BlobStore, Packing
from lakefeed.storage.disk.hashing import sha256_bytes
from lakefeed.storage.disk.locks import file_lock
from tests.sdk.media.loading import load_column
from tests.sdk.media.pictures import encoded, write

ALONE = Packing(below=0)  # a blob is a file that a test can harm


@pytest.fixture
def store(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "cache", packing=ALONE)


def load(column: pa.Array, mode: str, store: BlobStore, **options: Any) -> list[Any]:
    result = load_column(column, "image", mode, store, **options)
    result.validate(full=True)
    return result.to_pylist()


def saved(store: BlobStore, texts: list[str | None], **options: Any) -> pa.StructArray:
    settings = {"copy": "auto", "stats": False, "column_name": "img"} | options
    return store_column(pa.array(texts, pa.string()), "image", store, **settings)


@pytest.mark.parametrize("workers", [1, 3, 64])
def test_rows_come_in_order(store: BlobStore, tmp_path: Path, workers: int) -> None:
    texts = [None if n % 7 == 0 else write(tmp_path / f"{n}.png", b"%d" % n) for n in range(100)]
    column = saved(store, texts)
    expected = [None if text is None else Path(text).read_bytes() for text in texts]
    assert load(column, "bytes", store, workers=workers) == expected
    paths = load(column, "path", store, workers=workers)
    assert [path and Path(path).read_bytes() for path in paths] == expected
    assert {Path(path).suffix for path in paths if path} == {".png"}
    assert load(column.slice(8, 3), "bytes", store) == expected[8:11]


def test_paths_of_a_batch_are_handed_out_under_one_lock(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = saved(store, [None, *(write(tmp_path / f"{n}.png", b"%d" % n) for n in range(40))])
    _, *paths = load(column, "path", store)
    for path in paths:
        os.utime(path, ns=(0, Path(path).stat().st_mtime_ns))  # not used for long
    locks: list[Path] = []

    def counted(path: Path, **options: Any) -> Any:
        locks.append(path)
        return file_lock(path, **options)

    monkeypatch.setattr("lakefeed.storage.cache.eviction.file_lock", counted)
    monkeypatch.setattr("lakefeed.media.load_columns.FileLoader.__call__", None)  # no thread has to help
    assert load(column, "path", store) == [None, *paths]
    assert [lock.name for lock in locks] == ["evict.lock"]
    assert all(time.time() - Path(path).stat().st_atime < 100 for path in paths)
    monkeypatch.undo()
    Path(paths[3]).chmod(0o644)
    Path(paths[3]).write_bytes(b"damaged")
    Path(paths[7]).unlink()
    assert load(column, "path", store) == [None, *paths]
    assert [Path(path).read_bytes() for path in paths] == [(tmp_path / f"{n}.png").read_bytes() for n in range(40)]


def test_columns_that_were_not_saved_yet(store: BlobStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    assert load(pa.array([path, None]), "bytes", store) == [encoded(), None]
    assert load(pa.array([path]), "path", store) == [path]
    contents = pa.array([encoded(), None])
    assert load(contents, "bytes", store) == [encoded(), None]
    [copy, _] = load(contents, "path", store)
    assert Path(copy).read_bytes() == encoded()


def test_references_that_can_be_fetched(store: BlobStore, tmp_path: Path) -> None:
    url = f"memory://{tmp_path.name}/cat.png"
    fsspec.filesystem("memory").pipe_file(url, encoded())
    column = saved(store, [url, write(tmp_path / "a b.png")], copy=False)
    assert load(column, "bytes", store) == [encoded(), encoded()]
    copy, local = load(column, "path", store)
    assert (Path(copy).read_bytes(), Path(copy).suffix) == (encoded(), ".png")
    assert local == str(tmp_path / "a b.png")


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_references_that_cannot(store: BlobStore, mode: str, caplog: pytest.LogCaptureFixture) -> None:
    column = saved(store, ["ftp://host/cat.png", None, "memory://gone.png"])
    with pytest.raises(UnsupportedError, match=r"cannot fetch 'ftp://host/cat\.png'"):
        load(column, mode, store)
    assert load(column, mode, store, on_error="null") == [None, None, None]
    assert "2 of 2 files could not be loaded and are null; the first: cannot fetch" in caplog.text


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_a_blob_that_is_gone_or_damaged(store: BlobStore, tmp_path: Path, mode: str) -> None:
    column = saved(store, [write(tmp_path / f"{n}.png", b"%d" % n) for n in range(3)])
    damaged, gone = (tmp_path / "blobs" / "sha256" / d[:2] / d[2:] for d in (sha256_bytes(b"0"), sha256_bytes(b"2")))
    damaged.chmod(0o644)
    damaged.write_bytes(b"!")
    gone.unlink()
    with pytest.raises(IntegrityError):
        load(column, mode, store)
    with pytest.raises(MissingFileError):
        load(column.slice(1), mode, store)
    assert [cell is None for cell in load(column, mode, store, on_error="null")] == [True, False, True]


def test_a_url_reference_with_a_digest_is_verified(store: BlobStore, tmp_path: Path) -> None:
    path = write(tmp_path / "a.png")
    unbound = [{"url": path, "sha256": sha256_bytes(b"other")}]
    with pytest.raises(MissingFileError, match="no blob"):
        load(pa.array(unbound), "bytes", store)


class SlowFileSystem(MemoryFileSystem):
    """A store that hangs until it is let go."""

    protocol = "slowmemory"
    go = threading.Event()

    def _open(self, path: str, mode: str = "rb", **options: Any) -> Any:
        if mode == "rb" and path.endswith(sha256_bytes(b"slow")[2:]):
            self.go.wait(30)
        return super()._open(path, mode, **options)


@pytest.mark.live
def test_a_fetch_that_hangs_is_given_up(tmp_path: Path) -> None:
    fsspec.register_implementation("slowmemory", SlowFileSystem, clobber=True)
    store = BlobStore(f"slowmemory://{tmp_path.name}", tmp_path / "cache", packing=ALONE)
    column = saved(store, [write(tmp_path / f"{text}.png", text.encode()) for text in ("quick", "slow", "last")])
    try:
        begun = time.monotonic()
        assert load(column, "bytes", store, timeout=0.3, on_error="null") == [b"quick", None, b"last"]
        with pytest.raises(FileError, match=r"not fetched within 0\.3 seconds"):
            load(column, "bytes", store, timeout=0.3)
        assert time.monotonic() - begun < 10
    finally:
        SlowFileSystem.go.set()


def test_an_unknown_mode(store: BlobStore) -> None:
    with pytest.raises(InvalidArgumentError, match="'tensor'"):
        load(pa.nulls(1), "tensor", store)


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_a_hostile_table_reaches_no_file_outside_the_cache(store: BlobStore, tmp_path: Path, mode: str) -> None:
    precious = tmp_path / "precious"
    precious.write_bytes(b"mine")
    store.local_path(store.put_bytes(b"x").sha256)  # so that there is a cache
    kind = pa.struct({"url": pa.string(), "sha256": pa.string(), "size": pa.int64()})
    for digest in ("../../../precious", "..", "", "../../../none", str(precious)):
        column = pa.array([{"url": None, "sha256": digest, "size": 4}], kind)
        with pytest.raises(FileError, match="has the invalid sha256"):
            load(column, mode, store)
        assert load(column, mode, store, on_error="null") == [None]
    assert precious.read_bytes() == b"mine"


@pytest.mark.parametrize("mode", ["bytes", "path"])
def test_a_record_that_names_nothing_says_so(store: BlobStore, mode: str) -> None:
    kind = pa.struct({"url": pa.string(), "sha256": pa.string()})
    with pytest.raises(FileError, match="neither url nor sha256"):
        load(pa.array([{"url": None, "sha256": None}], kind), mode, store)


def refused(*given: Any) -> Any:
    raise AssertionError("a thread was asked")


def test_small_contents_of_a_local_store_are_read_at_once(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the thread that wants them: handing them over would take longer than reading them."""
    monkeypatch.setattr("lakefeed.storage.blobs.objects.MAX_OPEN_FILES", 2)
    column = pa.array([], saved(store, []).type)
    expected: list[bytes | None] = []
    for group in range(5):  # a pack each
        contents = [None, *(b"%d" % number * 50 for number in range(group * 10, group * 10 + 10)), b""]
        texts = [
            None if content is None else write(tmp_path / f"{group}-{place}.png", content)
            for place, content in enumerate(contents)
        ]
        column = pa.concat_arrays([column, saved(store, texts)])
        expected += contents
    alone = store.put_bytes(b"alone")
    record = {"sha256": alone.sha256, "size": alone.size}
    column = pa.concat_arrays([column, pa.array([record], column.type)])
    monkeypatch.setattr("lakefeed.media.load_columns.FileLoader.__call__", refused)
    assert load(column, "bytes", store) == [*expected, b"alone"]


@pytest.mark.parametrize("size", [0, 3, 5, 10**15, -1, None])
def test_a_size_that_a_record_only_claims_is_not_relied_upon(store: BlobStore, size: int | None) -> None:
    digest = store.put_bytes(b"four").sha256
    column = pa.array([{"sha256": digest, "size": size}], saved(store, []).type)
    assert load(column, "bytes", store) == [b"four"]


def test_contents_that_the_system_has_not_in_memory_are_read_by_threads(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = saved(store, [write(tmp_path / f"{n}.png", b"%d" % n) for n in range(9)])
    monkeypatch.setattr("lakefeed.storage.blobs.objects.read_cached", lambda *given: 0)
    assert load(column, "bytes", store) == [b"%d" % n for n in range(9)]


def test_large_contents_are_hashed_by_threads(
    store: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    column = saved(store, [write(tmp_path / "large.png", bytes(300 << 10)), write(tmp_path / "small.png", b"s")])
    monkeypatch.setattr("lakefeed.storage.blobs.objects.LocalObjects.read_all", refused)
    assert load(column, "bytes", store) == [bytes(300 << 10), b"s"]
