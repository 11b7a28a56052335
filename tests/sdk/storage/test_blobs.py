from __future__ import annotations

import io
import os
import pickle
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from lakefeed.errors import FileError, IntegrityError, InvalidArgumentError, MissingFileError
from lakefeed.storage import BlobStore
from lakefeed.storage.disk.hashing import CHUNK_BYTES, sha256_bytes

SIZES = [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, 3 * CHUNK_BYTES + 1]


@pytest.fixture(params=["local", "memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> BlobStore:
    places = {"local": f"file://{tmp_path / 'blobs'}", "memory": f"memory://{tmp_path.name}/blobs"}
    return BlobStore(places[request.param], tmp_path / "cache")


@pytest.fixture
def local(tmp_path: Path) -> BlobStore:
    return BlobStore(str(tmp_path / "blobs"), tmp_path / "cache")


def kept(root: Path) -> list[Path]:
    return sorted(path for path in (root / "sha256").rglob("*") if path.is_file())


def spoil(path: Path, change: Callable[[bytes], bytes]) -> None:
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))


@pytest.mark.parametrize("size", SIZES)
def test_what_was_put_is_read(store: BlobStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "f").write_bytes(data)
    blob = store.put_file(tmp_path / "f")
    assert blob == (sha256_bytes(data), size) == store.put_bytes(data)
    assert store.has(blob.sha256)
    assert store.read(blob.sha256) == data == store.local_path(blob.sha256, ".bin").read_bytes()


def test_layout(local: BlobStore, tmp_path: Path) -> None:
    digest = local.put_bytes(b"abc").sha256
    path = tmp_path / "blobs" / "sha256" / digest[:2] / digest[2:]
    assert path.read_bytes() == b"abc"
    assert local.locate(digest) == path.as_uri()
    assert not [entry for entry in (tmp_path / "blobs" / "tmp").rglob("*") if entry.is_file()]


@pytest.mark.parametrize("size", SIZES)
def test_equal_bytes_are_stored_once_and_left_alone(local: BlobStore, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    local.put_bytes(data)
    [path] = kept(tmp_path / "blobs")
    before = path.stat()
    local.put_bytes(data)
    assert [path.stat() for path in kept(tmp_path / "blobs")] == [before]


def test_a_blob_cut_short_is_written_again(local: BlobStore, tmp_path: Path) -> None:
    digest = local.put_bytes(b"abcdef").sha256
    spoil(kept(tmp_path / "blobs")[0], lambda data: data[:3])
    local.put_bytes(b"abcdef")
    assert local.read(digest) == b"abcdef"


def test_put_takes_what_is_left_of_a_stream(store: BlobStore) -> None:
    stream = io.BytesIO(b"headtail")
    stream.seek(4)
    assert store.read(store.put(stream).sha256) == b"tail"


def test_unsynced_puts_can_be_synced_together(store: BlobStore) -> None:
    blobs = [store.put_bytes(bytes([n]), sync=False) for n in range(5)]
    store.sync([blob.sha256 for blob in blobs])
    store.sync([])
    assert all(store.has(blob.sha256) for blob in blobs)


def test_bytes_are_durable_before_the_name_and_the_name_before_the_return(
    local: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    local.put_bytes(b"first")  # the directories exist from here on
    steps: list[str] = []
    fsync, replace = os.fsync, Path.replace

    def synced(descriptor: int) -> None:
        steps.append("sync directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "sync file")
        fsync(descriptor)

    def replaced(self: Path, target: Path) -> Path:
        renamed = replace(self, target)  # the first try fails where the directory is new
        steps.append("rename")
        return renamed

    monkeypatch.setattr(os, "fsync", synced)
    monkeypatch.setattr(Path, "replace", replaced)
    local.put_bytes(b"abc")
    assert steps[:3] == ["sync file", "rename", "sync directory"]
    steps.clear()
    local.put_bytes(b"abc")  # whoever wrote it may not have got to this yet
    assert steps[0] == "sync directory"


def test_a_missing_file(store: BlobStore, tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"no file .*gone\.png"):
        store.put_file(tmp_path / "gone.png")
    with pytest.raises(FileError, match=r"cannot read .* directory"):
        store.put_file(tmp_path)


def test_a_store_or_cache_that_cannot_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "blobs").write_text("in the way")
    (tmp_path / "cache").write_text("in the way")
    with pytest.raises(FileError, match="cannot write to the blob store"):
        BlobStore(str(tmp_path / "blobs"), tmp_path / "cache").put_bytes(b"abc")
    sound = BlobStore(str(tmp_path / "sound"), tmp_path / "cache")
    digest = sound.put_bytes(b"abc").sha256
    for keep in (lambda: sound.local_path(digest), lambda: sound.cached_bytes(b"abc")):
        with pytest.raises(FileError, match="in the cache"):
            keep()
    assert sound.read(digest) == b"abc"


def test_an_unknown_blob(store: BlobStore) -> None:
    unknown = "0" * 64
    assert not store.has(unknown)
    for read in (store.read, store.local_path):
        with pytest.raises(MissingFileError, match=f"no blob with sha256 {unknown}"):
            read(unknown)


def test_a_digest_that_is_a_path_is_refused(store: BlobStore) -> None:
    for use in (store.has, store.read, store.local_path, store.locate):
        with pytest.raises(InvalidArgumentError):
            use("../../etc/passwd")


def test_a_damaged_local_store_is_noticed(local: BlobStore, tmp_path: Path) -> None:
    digest = local.put_bytes(b"abc").sha256
    spoil(kept(tmp_path / "blobs")[0], lambda _: b"abd")
    for read in (local.read, local.local_path):
        with pytest.raises(IntegrityError, match=digest):
            read(digest)
    assert not kept(tmp_path / "cache")


def test_cached_copies_are_read_only_and_keep_their_extension(store: BlobStore) -> None:
    digest = store.put_bytes(b"abc").sha256
    path = store.local_path(digest, ".nii.gz")
    assert path.name.endswith(".nii.gz")
    assert stat.S_IMODE(path.stat().st_mode) == 0o444
    assert store.local_path(digest, ".nii.gz") == path
    assert store.local_path(digest, "").suffix == ""


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: b"x" * len(data), lambda _: b""])
def test_a_corrupt_cached_copy_is_dropped_and_fetched_again(
    store: BlobStore, change: Callable[[bytes], bytes], caplog: pytest.LogCaptureFixture
) -> None:
    digest = store.put_bytes(b"abc").sha256
    spoil(store.local_path(digest, ".txt"), change)
    assert store.local_path(digest, ".txt").read_bytes() == b"abc"
    assert "removed a damaged copy" in caplog.text
    spoil(store.local_path(digest, ".txt"), change)
    assert store.read(digest, ".txt") == b"abc"


def test_bytes_are_hashed_even_where_the_seal_is_whole(tmp_path: Path) -> None:
    store = BlobStore(f"memory://{tmp_path.name}", tmp_path / "cache")
    digest = store.put_bytes(b"abc").sha256
    path = store.local_path(digest)
    sealed = path.stat()
    spoil(path, lambda _: b"abd")
    os.utime(path, ns=(sealed.st_atime_ns, sealed.st_mtime_ns))
    assert store.read(digest) == b"abc" == path.read_bytes()


def test_an_unharmed_copy_that_lost_its_seal_stays(local: BlobStore) -> None:
    digest = local.put_bytes(b"abc").sha256
    path = local.local_path(digest)
    path.touch()
    inode = path.stat().st_ino
    assert local.local_path(digest).stat().st_ino == inode


def test_writing_to_a_cached_copy_cannot_harm_the_store(local: BlobStore) -> None:
    digest = local.put_bytes(b"abc").sha256
    spoil(local.local_path(digest), lambda _: b"bad")
    assert local.read(digest) == b"abc"


def test_a_remote_blob_is_fetched_once(tmp_path: Path) -> None:
    import fsspec

    store = BlobStore(f"memory://{tmp_path.name}", tmp_path / "cache")
    digest = store.put_bytes(b"abc").sha256
    assert store.read(digest, ".txt") == b"abc"
    fsspec.filesystem("memory").rm(store.locate(digest))
    assert store.read(digest, ".txt") == b"abc" == store.local_path(digest, ".txt").read_bytes()


def test_cached_bytes(local: BlobStore) -> None:
    path = local.cached_bytes(b"abc", ".png")
    assert (path.read_bytes(), path.suffix, local.cached_bytes(b"abc", ".png")) == (b"abc", ".png", path)


def test_pickles_and_hides_its_options(store: BlobStore) -> None:
    digest = store.put_bytes(b"abc").sha256
    assert pickle.loads(pickle.dumps(store)).read(digest) == b"abc"
    secretive = BlobStore("s3://bucket", Path("cache"), {"secret": "hush"})
    assert "hush" not in repr(secretive)
    assert secretive == pickle.loads(pickle.dumps(secretive))
    assert hash(secretive) == hash(pickle.loads(pickle.dumps(secretive)))


def test_construction_touches_nothing(tmp_path: Path) -> None:
    BlobStore(str(tmp_path / "blobs"), tmp_path / "cache")
    assert not list(tmp_path.iterdir())


def test_chained_urls_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="chains"):
        BlobStore("simplecache::memory://x", tmp_path).put_bytes(b"")
