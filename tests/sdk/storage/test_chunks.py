"""Large contents as chunks: in a local folder, in memory, and in an S3 that runs on this machine."""

from __future__ import annotations

import errno
import hashlib
import io
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed.errors import IntegrityError, InvalidArgumentError, MissingFileError
from lakefeed.storage import BlobStore, Packing
from lakefeed.storage.blobs import chunking, recipes
from lakefeed.storage.blobs.chunk_writer import write_chunks
from lakefeed.storage.blobs.chunking import cut, is_compressed
from lakefeed.storage.blobs.objects import ObjectInfo, RemoteObjects
from lakefeed.storage.blobs.packs import PackWriter, read_index
from lakefeed.storage.blobs.recipes import Parts, decode_recipe, make_recipe
from tests.sdk.storage.test_packs import KIND, place, s3

__all__ = ["place", "s3"]

SIZE = 3 << 20
DATA = random.Random(1).randbytes(SIZE)
EDITED = DATA[: SIZE // 2] + b"1234567" + DATA[SIZE // 2 + 7 :]
CHUNK_BYTES = 768 << 10  # of new bytes at most, after an edit: the edited chunk, its neighbour and the recipe


def store_at(place: tuple[str, dict[str, Any]], cache: Path, chunk_from: int = 1 << 20, **packing: int) -> BlobStore:
    return BlobStore(place[0], cache, place[1], Packing(**packing, chunk_from=chunk_from))


def local_store(folder: Path, cache: str = "cache", **packing: int) -> BlobStore:
    return store_at((str(folder / "blobs"), {}), folder / cache, **packing)


def put(store: BlobStore, *contents: bytes) -> int:
    """Stores contents in one save. Returns the bytes that it has added."""
    with store.open_writer() as writer:
        for content in contents:
            assert writer.put_large(io.BytesIO(content)) == (sha(content), len(content))
        writer.flush()
        return writer.bytes_added


def sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def packs(store: BlobStore) -> list[ObjectInfo]:
    return sorted(store.backend.objects.list("packs"), key=lambda info: info.size)


def add_recipe_alone(store: BlobStore) -> bytes:
    """Stores the recipe of ``DATA`` without its chunks. Returns the digest."""
    digest = bytes.fromhex(sha(DATA))
    chunks = [(hashlib.sha256(each).digest(), len(each)) for _, views in cut(io.BytesIO(DATA)) for each in views]
    with store.open_writer() as writer:
        writer.add({digest: make_recipe(digest, chunks)[0].encode()}, are_recipes=True)
        writer.flush()
    return digest


def overwrite(store: BlobStore, key: str, position: int, data: bytes) -> None:
    path = Path(store.url, key)
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(data)


@pytest.mark.parametrize(
    "place", [*KIND[:1], *(pytest.param(kind, marks=pytest.mark.live) for kind in KIND[1:])], indirect=True
)
def test_an_edit_stores_chunks_and_every_way_to_read_gives_the_bytes(
    place: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    store = store_at(place, tmp_path / "one")
    assert SIZE <= put(store, DATA) < SIZE + 10_000
    assert put(store, DATA) == 0
    assert put(store_at(place, tmp_path / "two"), DATA) == 0  # another machine
    assert put(store, EDITED) < CHUNK_BYTES
    assert put(store, b"at the start" + DATA) < CHUNK_BYTES
    assert put(store, DATA + b"at the end") < CHUNK_BYTES
    assert list(store.backend.objects.list("sha256")) == []
    assert store.has(sha(EDITED))
    assert store.backend.size(sha(EDITED)) == SIZE
    reader = store_at(place, tmp_path / "another")
    assert reader.read_range(sha(EDITED), SIZE // 2 - 5, SIZE // 2 + 10) == EDITED[SIZE // 2 - 5 : SIZE // 2 + 10]
    assert reader.read_range(sha(EDITED), SIZE - 3, SIZE + 5) == EDITED[-3:]
    with reader.open(sha(EDITED)) as stream:
        assert (stream.seekable(), stream.readable(), stream.seek(0, io.SEEK_END)) == (True, True, SIZE)
        assert (stream.read(1), stream.seek(-1, io.SEEK_CUR)) == (b"", SIZE - 1)
        assert stream.seek(0) == 0
        assert stream.read() == EDITED
    whole = io.BytesIO()
    assert (reader.copy_to(sha(EDITED), whole.write), whole.getvalue()) == (SIZE, EDITED)
    assert reader.read(sha(EDITED), ".bin") == EDITED
    assert reader.local_path(sha(DATA), ".bin").read_bytes() == DATA
    assert "#recipe=" in reader.locate(sha(DATA))
    assert reader.read(sha(b"at the start" + DATA)) == b"at the start" + DATA


def test_a_remote_file_is_read_as_far_as_it_is_needed(tmp_path: Path) -> None:
    place = (f"memory://{tmp_path.name}/blobs", {})
    put(store_at(place, tmp_path / "writer"), DATA)
    reader = store_at(place, tmp_path / "reader")
    assert reader.read_range(sha(DATA), 2_000_000, 2_000_010) == DATA[2_000_000:2_000_010]
    kept = [path for path in (tmp_path / "reader" / "sha256").rglob("*") if path.is_file()]
    assert 0 < sum(path.stat().st_size for path in kept) <= 2 * chunking.MAX_BYTES
    with reader.open(sha(DATA)) as stream:
        for info in packs(reader):
            reader.backend.objects.delete(info.key)
        stream.seek(2_000_000)
        assert stream.read(10) == DATA[2_000_000:2_000_010]
        stream.seek(0)
        with pytest.raises(MissingFileError, match=f"has lost the bytes 0-.* of the blob {sha(DATA)}"):
            stream.read(10)


def test_where_a_content_is_cut_depends_on_its_bytes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = [bytes(chunk) for _, chunks in cut(io.BytesIO(DATA)) for chunk in chunks]
    assert b"".join(whole) == DATA
    assert all(chunking.MIN_BYTES <= len(chunk) <= chunking.MAX_BYTES for chunk in whole[:-1])
    for size in (10_000, 700_001):
        monkeypatch.setattr(chunking, "READ_BYTES", size)
        pieces = [(piece, [bytes(chunk) for chunk in chunks]) for piece, chunks in cut(io.BytesIO(DATA))]
        assert b"".join(piece for piece, _ in pieces) == DATA
        assert [chunk for _, chunks in pieces for chunk in chunks] == whole
    assert list(cut(io.BytesIO(b""))) == []


@pytest.mark.live
def test_compressed_media_and_smaller_contents_stay_whole(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    heads = [b"\x1f\x8b\x08", b"\xff\xd8\xff\xe0", b"\0\0\0\x20ftypisom", b"\x28\xb5\x2f\xfd", b"\x1a\x45\xdf\xa3"]
    assert all(is_compressed(head) for head in heads)
    assert not any(is_compressed(head) for head in (b"PK\x03\x04", b"\x89HDF\r\n", b"PAR1", b"", b"ftyp"))
    put(store, *(head + DATA for head in heads), DATA[: (1 << 20) - 1])
    put(local_store(tmp_path, chunk_from=0), DATA[1:])  # it is turned off
    put(local_store(tmp_path, chunk_from=SIZE), DATA[2:])
    assert packs(store) == []
    assert put(local_store(tmp_path, chunk_from=SIZE), DATA) >= SIZE
    assert len(packs(store)) == 1


@pytest.mark.parametrize("remote", [False, pytest.param(True, marks=pytest.mark.live)])
def test_a_content_that_was_stored_whole_stays_whole(remote: bool, tmp_path: Path) -> None:
    place = (f"memory://{tmp_path.name}/blobs" if remote else str(tmp_path / "blobs"), {})
    put(store_at(place, tmp_path / "old", chunk_from=0), DATA)
    store = store_at(place, tmp_path / "new")
    assert put(store, DATA) == 0
    assert packs(store) == []
    assert store.read(sha(DATA)) == DATA
    with store.open(sha(DATA)) as stream:
        assert stream.read() == DATA
    assert store.read_range(sha(DATA), 5, 9) == DATA[5:9]
    put(store, EDITED)  # its first version with chunks
    assert put(store, EDITED[:-1]) < CHUNK_BYTES


def test_a_content_of_one_chunk_has_no_recipe(tmp_path: Path) -> None:
    store = local_store(tmp_path, below=10, chunk_from=10)
    put(store, b"a content of one chunk", b"", bytes(100_000))
    assert all(not read_index(store.backend.objects, pack)["is_recipe"].any() for pack in packs(store))
    assert Path(store.url, packs(store)[0].key).read_bytes()[-56:-52] == (1).to_bytes(4, "little")  # any lakefeed
    assert store.read(sha(b"a content of one chunk")) == b"a content of one chunk"
    assert store.read_range(sha(bytes(100_000)), 99_998, 100_005) == bytes(2)


@pytest.mark.live
def test_equal_chunks_are_stored_once(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    zeros = bytes(8 << 20)
    assert put(store, zeros) < 2 * chunking.MAX_BYTES
    assert store.read(sha(zeros)) == zeros


@pytest.fixture
def small_groups(monkeypatch: pytest.MonkeyPatch) -> None:
    """Groups as those of very large files."""
    for name, value in {"MAX_DIRECT_CHUNKS": 4, "MIN_GROUP_CHUNKS": 2, "MAX_GROUP_CHUNKS": 6, "GROUP_MASK": 1}.items():
        monkeypatch.setattr(recipes, name, value)


@pytest.mark.usefixtures("small_groups")
def test_groups_of_chunks(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    put(store, DATA, EDITED)
    [pack] = packs(store)
    index = read_index(store.backend.objects, pack)
    assert int(index["is_recipe"].sum()) == 2
    [recipe] = store.backend.contents.find_recipes(bytes.fromhex(sha(EDITED)))
    assert recipe.is_grouped
    assert len(recipe.parts) > 1
    [other] = store.backend.contents.find_recipes(bytes.fromhex(sha(DATA)))
    assert len(set(recipe.parts.digests()) - set(other.parts.digests())) == 1
    assert store.read(sha(EDITED)) == EDITED
    draw = random.Random(3)
    with store.open(sha(EDITED)) as stream:
        for _ in range(30):
            start, size = draw.randrange(SIZE), draw.choice([1, 1000, 1 << 20])
            stream.seek(start)
            assert stream.read(size) == EDITED[start : start + size]
    assert put(local_store(tmp_path, "other"), DATA) == 0


@settings(max_examples=20)
@given(st.lists(st.integers(1, 1 << 40), max_size=40), st.integers(0, 9))
def test_recipes_are_read_as_they_were_written(lengths: list[int], harm: int) -> None:
    digest = hashlib.sha256(b"whole").digest()
    chunks = [(hashlib.sha256(b"%d" % number).digest(), length) for number, length in enumerate(lengths)]
    recipe, groups = make_recipe(digest, chunks)
    data = recipe.encode()
    assert decode_recipe(digest, data, "a pack") == recipe
    assert (recipe.size, groups, recipe.parts.digests()) == (sum(lengths), {}, [each for each, _ in chunks])
    assert recipe.parts.ends.tolist() == [sum(lengths[: number + 1]) for number in range(len(lengths))]
    position = harm * (len(data) - 1) // 9
    damaged = [data[:position], data[:position] + bytes([data[position] ^ 1]) + data[position + 1 :], data + b"\0"]
    for each in damaged:
        with pytest.raises(IntegrityError, match="a pack is damaged"):
            decode_recipe(digest, each, "a pack")
    with pytest.raises(IntegrityError):
        decode_recipe(bytes(32), data, "a pack")


def test_the_digest_of_a_chunk_may_end_in_zeros() -> None:
    parts = Parts.of([(b"\1" * 30 + bytes(2), 5), (bytes(32), 6)])
    assert parts.digests() == [b"\1" * 30 + bytes(2), bytes(32)]
    assert parts.ends.tolist() == [5, 11]


def test_damage_is_an_error_that_names_the_blob(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    put(store, DATA)
    [pack] = packs(store)
    overwrite(store, pack.key, 1_000_000, b"damaged")
    for read in (store.read, store.local_path, lambda digest: store.copy_to(digest, len)):
        with pytest.raises(IntegrityError, match=rf"a chunk of the blob {sha(DATA)} is damaged: .*{pack.key}#bytes="):
            read(sha(DATA))
    with store.open(sha(DATA)) as stream:
        assert stream.read(1000) == DATA[:1000]
        stream.seek(1_000_000)
        with pytest.raises(IntegrityError, match=rf"a chunk of the blob {sha(DATA)} is damaged: .*{pack.key}#bytes="):
            stream.read(1)
        stream.seek(2_000_000)
        assert stream.read(10) == DATA[2_000_000:2_000_010]
    [row] = [entry for entry in read_index(store.backend.objects, pack) if entry["is_recipe"]]
    overwrite(store, pack.key, int(row["offset"]) + 100, b"damaged")
    for read in (store.read, store.open, lambda digest: store.read_range(digest, 0, 1)):
        with pytest.raises(IntegrityError, match=f"is not the list of the chunks of the blob {sha(DATA)}"):
            read(sha(DATA))
    with pytest.raises(IntegrityError):
        store.local_path(sha(DATA))
    assert 10_000 < put(store, DATA) < CHUNK_BYTES  # a save writes the list and the chunk again
    assert put(store, DATA) == 0
    with store.open(sha(DATA)) as stream:
        assert stream.read() == DATA


DAMAGE = b"damaged"
SINGLE = DATA[: 200 << 10]


def damage(store: BlobStore) -> None:
    """Changes bytes of a small content of a pack, of a stand-alone blob, and of a chunk."""
    for key in [info.key for folder in ("packs", "sha256") for info in store.backend.objects.list(folder)]:
        data = Path(store.url, key).read_bytes()
        if b"small" in data:
            overwrite(store, key, data.index(b"small"), DAMAGE)
            overwrite(store, key, data.index(DATA[1_000_000:1_000_032]), DAMAGE)
        else:
            overwrite(store, key, 1_000, DAMAGE)


@pytest.mark.parametrize("reader", ["read", "local_path", "copy_to"])
def test_a_content_that_a_read_has_seen_damaged_is_stored_anew(reader: str, tmp_path: Path) -> None:
    """Whether it is small, stands alone or is cut; another machine reads the sound copy too."""
    contents = [b"small content", SINGLE + b"alone", DATA]
    digests = [sha(each) for each in contents]
    store = local_store(tmp_path, below=100_000)
    another = local_store(tmp_path, "another", below=100_000)

    def save(store: BlobStore) -> int:
        with store.open_writer() as writer:
            assert [writer.put(each).sha256 for each in contents] == digests
            writer.flush()
            return writer.bytes_added

    assert save(store) > SIZE
    assert another.find_unsound(digests) == set()
    damage(store)
    assert save(store) == 0  # nobody knows of it
    assert store.find_unsound(digests) == set()
    for digest in digests:
        with pytest.raises(IntegrityError, match=digest):
            store.copy_to(digest, len) if reader == "copy_to" else getattr(store, reader)(digest)
    assert store.find_unsound(digests) == set(digests)
    later = local_store(tmp_path, below=100_000)  # as another process would do it
    assert len(SINGLE) < save(later) < len(SINGLE) + CHUNK_BYTES
    assert save(later) == save(store) == 0
    for each in (store, later, another, local_store(tmp_path, "new", below=100_000)):
        assert each.find_unsound(digests) == set()
        assert [each.read(digest) for digest in digests] == contents
        assert [each.local_path(digest, ".bin").read_bytes() for digest in digests] == contents
        assert [each.copy_to(digest, len) for digest in digests] == [len(content) for content in contents]
        with each.open(digests[2]) as stream:
            assert stream.read() == DATA


def test_a_lost_content_is_unsound_until_it_is_stored_again(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    put(store, DATA)
    for pack in packs(store):
        Path(store.url, pack.key).unlink()
    with pytest.raises(MissingFileError):
        store.read(sha(DATA))
    assert store.find_unsound([sha(DATA), sha(EDITED)]) == {sha(DATA), sha(EDITED)}
    assert put(store, DATA) >= SIZE
    assert store.find_unsound([sha(DATA)]) == set()
    assert not store.backend.index.damaged


def test_a_recipe_without_its_chunks_is_no_content(tmp_path: Path) -> None:
    """As after a save of which one pack was written and an earlier one was not."""
    store = local_store(tmp_path)
    digest = add_recipe_alone(store)
    with store.open_writer() as writer:
        assert writer.find_known([digest]) == set()
        assert writer.find_missing([digest]) == {digest}
    with pytest.raises(MissingFileError, match="has lost the bytes"):
        store.read(digest.hex())
    assert put(store, DATA) == SIZE
    assert store.read(digest.hex()) == DATA
    with local_store(tmp_path, "another").open_writer() as writer:
        assert writer.find_known([digest]) == {digest}
        assert writer.find_missing([digest]) == set()


def test_a_content_is_read_while_its_chunks_move(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    put(store, DATA)
    [old] = packs(store)
    with store.open(sha(DATA)) as stream:
        assert stream.read(10) == DATA[:10]
        put(local_store(tmp_path / "elsewhere"), DATA)
        [pack] = packs(local_store(tmp_path / "elsewhere"))
        store.backend.objects.upload("packs/moved.pack", Path(tmp_path / "elsewhere" / "blobs", pack.key))
        store.backend.objects.delete(old.key)
        assert stream.read() == DATA[10:]
    assert store.read(sha(DATA)) == DATA


def test_a_whole_blob_stands_in_for_lost_chunks(tmp_path: Path) -> None:
    store = local_store(tmp_path)
    add_recipe_alone(store)
    store.put_bytes(DATA)
    assert store.read(sha(DATA)) == DATA
    assert store.read_range(sha(DATA), SIZE - 10, SIZE) == DATA[-10:]
    assert put(store, DATA) == 0


def test_a_save_that_was_interrupted_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = local_store(tmp_path, bytes=1 << 20)
    monkeypatch.setattr(chunking, "READ_BYTES", 1 << 18)

    class Interrupted(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 2_500_000:
                raise KeyboardInterrupt
            return super().read(size)

    def save_part() -> None:
        with store.open_writer() as writer:
            write_chunks(Interrupted(DATA), writer)

    with pytest.raises(KeyboardInterrupt):
        save_part()
    assert not store.has(sha(DATA))
    assert put(store, DATA) < SIZE - 1_000_000
    assert store.read(sha(DATA)) == DATA


@pytest.mark.live
def test_threads_store_chunks_at_once(tmp_path: Path) -> None:
    store = local_store(tmp_path, bytes=2 << 20)
    contents = [DATA, EDITED, DATA[::-1], DATA, DATA[1000:], EDITED]
    with store.open_writer() as writer, ThreadPoolExecutor(4) as threads:
        blobs = list(threads.map(lambda data: writer.put_large(io.BytesIO(data)), contents))
        writer.flush()
    assert [blob.sha256 for blob in blobs] == [sha(data) for data in contents]
    assert [store.read(blob.sha256) for blob in blobs] == contents


def test_no_thread_goes_on_with_a_pack_that_another_could_not_write(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its end is unknown, so later contents would lie elsewhere than its index says."""
    store = local_store(tmp_path, bytes=1 << 20)
    add = PackWriter.add
    full = [OSError(errno.ENOSPC, "no space")]

    def add_once(writer: PackWriter, contents: Any, are_recipes: bool = False) -> None:
        if full:
            writer.stream.write(b"a part of a content")
            raise full.pop()
        add(writer, contents, are_recipes)

    monkeypatch.setattr(PackWriter, "add", add_once)
    with store.open_writer() as writer:
        for _ in range(2):
            with pytest.raises(OSError, match="no space"):
                writer.put_large(io.BytesIO(DATA))
        with pytest.raises(OSError, match="no space"):
            writer.flush()
    assert packs(store) == []


def test_neighbours_are_read_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = (f"memory://{tmp_path.name}/blobs", {})
    put(store_at(place, tmp_path / "writer"), DATA)
    put(store_at(place, tmp_path / "writer"), EDITED)
    reader = store_at(place, tmp_path / "reader")
    assert reader.has(sha(EDITED))
    reads: list[str] = []
    read = RemoteObjects.read

    def count(objects: RemoteObjects, key: str, start: int = 0, end: int | None = None) -> bytes:
        reads.append(key)
        return read(objects, key, start, end)

    monkeypatch.setattr(RemoteObjects, "read", count)
    assert reader.read(sha(EDITED), ".bin") == EDITED
    assert len(reads) == 3  # the recipe, and the chunks of two packs
    assert reader.read(sha(EDITED), ".bin") == EDITED
    assert len(reads) == 3  # the cache has it


@pytest.mark.parametrize(("start", "stop"), [(-1, 3), (4, 3)])
def test_ranges_that_are_none(start: int, stop: int, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="positions in ascending order"):
        local_store(tmp_path).read_range(sha(b""), start, stop)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> BlobStore:
    store = local_store(tmp_path_factory.mktemp("shared"))
    put(store, DATA, EDITED)
    return store


@settings(max_examples=10)
@given(st.lists(st.tuples(st.integers(0, SIZE + 10), st.integers(0, 1 << 20)), max_size=8))
def test_any_reads_at_any_positions(shared: BlobStore, reads: list[tuple[int, int]]) -> None:
    with shared.open(sha(EDITED)) as stream:
        for start, size in reads:
            assert stream.seek(start) == start
            assert stream.read(size) == EDITED[start : start + size]
            assert stream.tell() == start + len(EDITED[start : start + size])
