"""Small contents in packs: in a local folder, in memory, and in an S3 that runs on this machine."""

from __future__ import annotations

import hashlib
import io
import os
import pickle
import random
import shutil
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lakefeed.errors import FileError, IntegrityError, MissingFileError, UnsupportedError
from lakefeed.storage import BlobStore, Packing
from lakefeed.storage.blobs.leases import TRUST_SECONDS, boot_time
from lakefeed.storage.blobs.objects import ObjectInfo
from lakefeed.storage.blobs.packs import PackWriter, raw_digests, read_index
from tests.sdk.processes import Program, context
from tests.sdk.s3 import new_bucket, s3_server

KIND = ["local", "memory", "s3"]


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, Any]]:
    with s3_server() as options:
        yield options


@pytest.fixture
def place(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, dict[str, Any]]:
    """The URL of an empty store, and what it is opened with."""
    if request.param == "local":
        return str(tmp_path / "blobs"), {}
    if request.param == "memory":
        return f"memory://{tmp_path.name}/blobs", {}
    options = request.getfixturevalue("s3")
    return f"{new_bucket(options, f'bucket-{uuid.uuid4().hex}')}/blobs", options


def store_at(place: tuple[str, dict[str, Any]], cache: Path, **packing: int) -> BlobStore:
    return BlobStore(place[0], cache, place[1], Packing(**packing))


def fill(store: BlobStore, contents: list[bytes]) -> list[str]:
    with store.open_writer() as saving:
        digests = [saving.put(content).sha256 for content in contents]
        saving.flush()
    return digests


def packs(store: BlobStore) -> list[ObjectInfo]:
    return list(store.backend.objects.list("packs"))


@pytest.mark.parametrize("place", KIND, indirect=True)
def test_small_contents_share_a_pack_and_large_ones_stand_alone(
    place: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    contents = [b"", b"a", b"b" * 1000, os.urandom(1 << 20)]
    digests = fill(store_at(place, tmp_path / "one"), [*contents, b"a"])
    assert digests == [hashlib.sha256(content).hexdigest() for content in [*contents, b"a"]]
    store = store_at(place, tmp_path / "another")  # a machine that has not seen them being written
    assert [store.read(digest, ".bin") for digest in digests[:4]] == contents
    assert [store.local_path(digest, ".txt").read_bytes() for digest in digests[:4]] == contents
    assert all(store.has(digest) for digest in digests)
    [pack] = packs(store)
    assert {digest.hex() for digest in raw_digests(read_index(store.backend.objects, pack))} == set(digests[:3])
    assert [info.key for info in store.backend.objects.list("sha256")] == [f"sha256/{digests[3][:2]}/{digests[3][2:]}"]
    assert list(store.backend.objects.list("leases")) == []


@pytest.mark.parametrize("place", KIND, indirect=True)
def test_a_second_save_adds_only_what_is_new(place: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    known, new = [b"%d" % number for number in range(100)], [b"new", os.urandom(2 << 20)]
    fill(store_at(place, tmp_path / "one"), [*known, new[1]])
    store = store_at(place, tmp_path / "another")
    before = packs(store)
    with store.open_writer() as saving:
        for content in [*known, *new]:
            saving.put(content)
        saving.flush()
    assert len(packs(store)) == 2
    [added] = [pack for pack in packs(store) if pack not in before]
    assert raw_digests(read_index(store.backend.objects, added)) == [hashlib.sha256(b"new").digest()]


def test_a_content_that_was_added_meanwhile_is_not_added_again(tmp_path: Path) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")
    digest = hashlib.sha256(b"one").digest()
    with store.open_writer() as saving:
        assert saving.find_known([digest]) == set()
        saving.add({digest: b"one"})
        saving.add({digest: b"one"})
        assert saving.bytes_added == 3
        saving.flush()
    [pack] = packs(store)
    assert raw_digests(read_index(store.backend.objects, pack)) == [digest]


def test_packs_are_of_the_size_that_is_set(tmp_path: Path) -> None:
    contents = [random.Random(number).randbytes(1000) for number in range(100)]
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache", below=2000, bytes=10_000)
    digests = fill(store, contents)
    assert 9 <= len(packs(store)) <= 11
    assert [store.read(digest) for digest in digests] == contents


def test_an_unknown_digest_is_looked_for_once_more(tmp_path: Path) -> None:
    place = (str(tmp_path / "blobs"), {})
    reader = store_at(place, tmp_path / "reader")
    with pytest.raises(MissingFileError, match="has no blob with sha256 000"):
        reader.read("0" * 64)
    [digest] = fill(store_at(place, tmp_path / "writer"), [b"abc"])
    assert reader.read(digest) == b"abc"
    assert reader.locate(digest).endswith(".pack#bytes=8-10")


def test_a_content_that_moved_to_another_pack_is_found(tmp_path: Path) -> None:
    """As when packs are rewritten, or the store was put back from a backup."""
    place = (str(tmp_path / "blobs"), {})
    reader = store_at(place, tmp_path / "reader")
    [digest] = fill(store_at(place, tmp_path / "writer"), [b"abc"])
    assert reader.read(digest) == b"abc"
    [old] = packs(reader)
    reader.backend.objects.delete(old.key)
    fill(store_at(place, tmp_path / "other"), [b"before", b"abc"])
    assert reader.read(digest) == b"abc"
    reader.backend.objects.delete(packs(reader)[0].key)
    with pytest.raises(MissingFileError):
        reader.read(digest)


@pytest.mark.parametrize("harm", ["removed", "overwritten"])
def test_the_index_may_go_at_any_time(harm: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")
    digests = fill(store, [b"abc", b"def"])
    for path in (tmp_path / "cache" / "packs").iterdir():
        path.unlink() if harm == "removed" else path.write_bytes(b"no database at all" * 1000)
    assert [store.read(digest) for digest in digests] == [b"abc", b"def"]
    assert [store_at((store.url, {}), store.cache_dir).read(digest) for digest in digests] == [b"abc", b"def"]


def test_damaged_packs_are_noticed(tmp_path: Path) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")
    [digest] = fill(store, [b"abc"])
    [pack] = (tmp_path / "blobs" / "packs").iterdir()
    sound = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(sound.replace(b"abc", b"abd"))
    with pytest.raises(IntegrityError, match="holds other bytes than were saved"):
        store.read(digest)
    for damaged in (b"", sound[:-1], sound[:-70] + b"\1" * 6 + sound[-64:], b"x" * 100):
        pack.write_bytes(damaged)
        with pytest.raises(IntegrityError, match="its index cannot be read"):
            store_at((store.url, {}), tmp_path / f"cache{len(damaged)}{damaged[-1:].hex()}").read(digest)
    pack.write_bytes(sound[:-56] + (3).to_bytes(4, "little") + sound[-52:])
    with pytest.raises(UnsupportedError, match="has version 3 of packs; this lakefeed reads 1 and 2"):
        store_at((store.url, {}), tmp_path / "newer").read(digest)


def test_a_digest_that_ends_in_zeros(tmp_path: Path) -> None:
    digest = bytes([7]) * 30 + bytes(2)
    with (tmp_path / "x.pack").open("wb") as stream:
        writer = PackWriter(stream)
        writer.add({digest: b"abc", bytes(32): b"", bytes([7]) * 31 + b"\0": b"d"})
        writer.finish()
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")
    store.backend.objects.upload("packs/x.pack", tmp_path / "x.pack")
    store.backend.index.refresh()
    found = store.backend.index.find(digest)
    assert found is not None
    assert found.length == 3


def test_a_save_that_fails_leaves_no_unfinished_pack(tmp_path: Path) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")

    def fail() -> None:
        with store.open_writer() as saving:
            saving.put(b"abc")
            raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        fail()
    assert not [path for path in (tmp_path / "blobs").rglob("*") if path.is_file()]


@pytest.mark.parametrize("place", ["memory"], indirect=True)
def test_a_save_whose_lease_is_over_is_not_committed(
    place: tuple[str, dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with store_at(place, tmp_path / "cache").open_writer() as saving:
        saving.require_alive()
        later = boot_time() + TRUST_SECONDS + 1
        monkeypatch.setattr("lakefeed.storage.blobs.leases.boot_time", lambda: later)
        with pytest.raises(FileError, match=f"could not renew its lease .* for {TRUST_SECONDS:.0f} seconds"):
            saving.flush()


def test_a_store_with_an_open_index_pickles(tmp_path: Path) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache")
    [digest] = fill(store, [b"abc"])
    assert pickle.loads(pickle.dumps(store)).read(digest) == b"abc"


def save_some(url: str, cache: Path, seed: int) -> list[str]:
    store = store_at((url, {}), cache, below=1 << 20, bytes=50_000)
    numbers = list(range(200))
    random.Random(seed).shuffle(numbers)
    return fill(store, [random.Random(number).randbytes(1000) for number in numbers[:150]])


def test_several_packers_and_readers_at_once(tmp_path: Path) -> None:
    url = str(tmp_path / "blobs")
    with context().Pool(4) as pool:
        tasks = [pool.apply_async(save_some, (url, tmp_path / f"cache{seed % 2}", seed)) for seed in range(6)]
        digests = {digest for task in tasks for digest in task.get(timeout=60)}
    for cache in ("cache0", "cache1", "new"):
        store = store_at((url, {}), tmp_path / cache)
        assert all(hashlib.sha256(store.read(digest)).hexdigest() == digest for digest in digests)


KILLED = """
import os, random, signal, sys
from pathlib import Path
from lakefeed.storage import BlobStore, Packing
with BlobStore(sys.argv[1], Path(sys.argv[2]), packing=Packing(1 << 20, 1 << 20)).open_writer() as saving:
    for number in range(3000):
        saving.put(random.Random(number).randbytes(1000))
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_save_that_was_killed_and_is_run_again_adds_only_what_is_missing(tmp_path: Path) -> None:
    place = (str(tmp_path / "blobs"), {})
    killed = Program(KILLED, place[0], tmp_path / "cache")
    killed.finish()
    assert killed.returncode == -signal.SIGKILL
    store = store_at(place, tmp_path / "cache", below=1 << 20, bytes=1 << 20)
    before = packs(store)
    assert before
    with store.open_writer() as saving:
        for number in range(3000):
            saving.put(random.Random(number).randbytes(1000))
        saving.flush()
        assert saving.bytes_added < 3_000_000 - sum(pack.size for pack in before) * 0.9
    held = [digest for pack in packs(store) for digest in raw_digests(read_index(store.backend.objects, pack))]
    assert len(held) == len(set(held)) == 3000


def test_a_large_content_of_a_pack_is_read_in_pieces(tmp_path: Path) -> None:
    store = store_at((str(tmp_path / "blobs"), {}), tmp_path / "cache", below=32 << 20)
    content = os.urandom(9_000_000)
    [digest] = fill(store, [content])
    with store.backend.open(digest) as stream:
        assert not isinstance(stream, io.BytesIO)
        assert stream.read() == content
    assert store.local_path(digest).read_bytes() == content


def test_a_cache_that_cannot_be_written_to(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = (str(tmp_path / "blobs"), {})
    [digest] = fill(store_at(place, tmp_path / "cache"), [b"abc"])
    (tmp_path / "file").write_text("in the way")
    assert store_at(place, tmp_path / "file").read(digest) == b"abc"
    assert "using memory instead" in caplog.text
    shutil.rmtree(tmp_path / "cache")
