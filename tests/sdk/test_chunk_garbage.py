"""Garbage among the chunks of large files: chunks that other files need stay, whoever saves meanwhile."""

from __future__ import annotations

import datetime as dt
import io
import os
import random
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from lakefeed import Dataset, collect_garbage
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reclaim import reclaim
from lakefeed.errors import IntegrityError
from lakefeed.garbage import collect
from lakefeed.storage.blobs.chunk_writer import write_chunks
from lakefeed.storage.blobs.leases import EXPIRY_SECONDS
from lakefeed.storage.blobs.packs import read_index
from tests.sdk.media.pictures import write
from tests.sdk.prepared_homes import PreparedHomes
from tests.sdk.processes import Program
from tests.sdk.test_garbage import NOW, age, collected, contents, files_of, save
from tests.sdk.test_garbage_races import (
    OF_A_COLLECTION,
    OF_A_SAVE,
    another_machine,
    collect_now,
    killed,
    race,
    save_again,
)
from tests.sdk.test_reclaim import objects_of, stored

MIB = 1 << 20
LARGE = random.Random(1).randbytes(2 * MIB)
EDITED = LARGE[:MIB] + b"1234567" + LARGE[MIB + 7 :]
SMALL = random.Random(3).randbytes(MIB - 1)
OTHER = random.Random(2).randbytes(4 * MIB)


@pytest.fixture(autouse=True)
def chunked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files of these sizes are stored in chunks."""
    monkeypatch.setenv("LAKEFEED__BLOBS__CHUNK_FROM_BYTES", str(MIB + 1))


def packs(home: Path) -> list[str]:
    return [key for key in files_of(home) if key.startswith("blobs/packs/")]


def bytes_of(home: Path) -> int:
    return sum((home / key).stat().st_size for key in packs(home))


def overwrite(path: Path, position: int, data: bytes) -> None:
    path.chmod(0o644)
    with path.open("r+b") as stream:
        stream.seek(position)
        stream.write(data)


def test_chunks_stay_as_long_as_a_file_needs_them(home: Path, tmp_path: Path) -> None:
    """A version that goes takes its own chunks with it; the others move out of a pack that is mostly garbage."""
    save("one", tmp_path, LARGE, OTHER)
    save("two", tmp_path, EDITED)
    assert len(packs(home)) == 2
    age(home)
    assert collected().bytes == 0
    Dataset("one").delete(permanent=True)
    report = collect_garbage(grace=NOW)
    assert (report.packs, report.sparse_packs) == (1, 1)
    report = collected()
    assert (report.packs, report.sparse_packs) == (1, 1)
    assert MIB < report.moved_bytes < 2 * MIB
    assert contents("two") == [EDITED]
    assert bytes_of(home) < 2.5 * MIB
    save("three", tmp_path, LARGE)
    assert contents("three") == [LARGE]
    assert collected().bytes == 0
    for name in ("two", "three"):
        Dataset(name).delete(permanent=True)
    assert collected().packs > 0
    assert packs(home) == []


@pytest.mark.live
def test_a_recipe_moves_with_its_flag(home: Path, tmp_path: Path) -> None:
    save("gone", tmp_path, OTHER)
    lake = Lake.current()
    with lake.blobs.open_writer() as writer:  # both files in one pack
        writer.put(OTHER[::-1])
        writer.put(LARGE)
        writer.flush()
    save("live", tmp_path, LARGE)
    Dataset("gone").delete(permanent=True)
    age(home)
    report = collected()
    assert (report.sparse_packs, report.packs) == (1, 2)
    assert contents("live") == [LARGE]
    [pack] = lake.blobs.backend.objects.list("packs")
    assert read_index(lake.blobs.backend.objects, pack)["is_recipe"].sum() == 1
    with next(iter(Dataset("live").rows()))["file"].open() as stream:
        stream.seek(MIB)
        assert stream.read(100) == LARGE[MIB : MIB + 100]


@pytest.mark.live
def test_a_whole_blob_that_was_stored_in_chunks_too(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them is enough, and it is a complete one."""
    blobs = Lake.current().blobs
    blobs.put_bytes(LARGE)
    save("live", tmp_path, LARGE)
    assert packs(home) == []
    with blobs.open_writer() as writer:
        monkeypatch.setattr(writer, "find_known", lambda digests: set())  # both were stored at the same moment
        write_chunks(io.BytesIO(LARGE), writer)
        writer.flush()
    [pack] = packs(home)
    age(home)
    before = (home / pack).read_bytes()
    assert (collected().blobs, packs(home)) == (1, [pack])
    assert contents("live") == [LARGE]
    assert (home / pack).read_bytes() == before


@pytest.mark.live
def test_an_incomplete_recipe_is_no_copy(home: Path, tmp_path: Path) -> None:
    blobs = Lake.current().blobs
    save("live", tmp_path, LARGE)
    recipes = blobs.backend.contents.find_recipes(bytes.fromhex(blobs.put_bytes(LARGE).sha256))
    with blobs.open_writer() as writer:
        writer.add({recipes[0].sha256: recipes[0].encode()} | {bytes([n]) * 32: b"live?" for n in range(9)}, True)
        writer.flush()
    for key in packs(home):
        if (home / key).stat().st_size > MIB:
            (home / key).unlink()  # the chunks are lost
    age(home)
    blobs.backend.index.refresh()
    assert contents("live") == [LARGE]
    collected()
    assert contents("live") == [LARGE]


def test_a_damaged_list_of_chunks_stops_a_collection(home: Path, tmp_path: Path) -> None:
    save("live", tmp_path, LARGE)
    save("gone", tmp_path, OTHER)
    Dataset("gone").delete(permanent=True)
    objects = Lake.current().blobs.backend.objects
    for pack in objects.list("packs"):
        for entry in read_index(objects, pack):
            if entry["is_recipe"]:
                overwrite(home / "blobs" / pack.key, int(entry["offset"]) + 50, b"damaged")
    before = packs(home)
    for dry_run in (True, False):
        with pytest.raises(IntegrityError, match="which chunks 1 blobs need is unknown"):
            collect_garbage(dry_run, NOW)
    assert packs(home) == before
    Dataset("live").delete(permanent=True)
    collected()
    assert packs(home) == []


def make_doomed(folder: Path) -> None:
    save("gone", folder, LARGE)
    Dataset("gone").delete(permanent=True)


def make_doomed_under_a_recipe(folder: Path) -> None:
    """The recipe of a file that no version names is in a pack that stays, but not its chunks."""
    save("gone", folder, LARGE)
    save("gone_too", folder, EDITED, SMALL)
    save("live", folder, SMALL)
    for name in ("gone", "gone_too"):
        Dataset(name).delete(permanent=True)


@pytest.mark.parametrize(
    ("build", "data"),
    [
        pytest.param(make_doomed, (EDITED,), id="edited"),
        pytest.param(make_doomed, (LARGE, EDITED), id="both", marks=pytest.mark.soak),
        pytest.param(make_doomed_under_a_recipe, (EDITED,), id="recipe-stays", marks=pytest.mark.live),
    ],
)
@pytest.mark.parametrize(
    ("first", "of_save", "of_collection"),
    [
        pytest.param(*order, marks=[] if number == 37 else pytest.mark.soak if number % 4 else pytest.mark.live)
        for number, order in enumerate(
            (first, of_save, of_collection)
            for first in ("save", "collection")
            for of_save in OF_A_SAVE
            for of_collection in OF_A_COLLECTION[:-1]
        )
    ],
)
def test_a_save_that_shares_chunks_with_garbage(
    first: str,
    of_save: str,
    of_collection: str,
    build: Callable[[Path], None],
    data: tuple[bytes, ...],
    tmp_path: Path,
    prepared_homes: PreparedHomes,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The chunks of the file are in a pack that a collection is about to delete; its recipe is new, or stays."""
    prepared_homes.enter(build.__name__, lambda: build(tmp_path), monkeypatch)
    assert race(tmp_path, first, of_save, of_collection, *data).postponed is None
    assert contents("again") == list(data)
    assert collected().postponed is None
    assert contents("again") == list(data)


@pytest.mark.parametrize(
    "step", [*OF_A_COLLECTION[3:4], *(pytest.param(step, marks=pytest.mark.live) for step in OF_A_COLLECTION[4:-1])]
)
def test_records_that_are_copied_from_a_dataset_that_goes(step: str, tmp_path: Path) -> None:
    """The rows name a file that is not added, so its chunks are stored again."""
    rows = save("source", tmp_path, LARGE).to_arrow()
    Dataset("source").delete(permanent=True)
    done = []

    def copying(at: str) -> None:
        if at.startswith(step) and not done:
            done.append(at)
            Dataset.from_arrow(rows).save("copy")

    collect_now(tmp_path, copying)
    if not done:  # "waiting": there was nobody to wait for
        return
    assert contents("copy") == [LARGE]
    assert collected().postponed is None
    assert contents("copy") == [LARGE]


@pytest.mark.parametrize(
    "step", ["marked again", *(pytest.param(step, marks=pytest.mark.live) for step in ("doomed", "packs/"))]
)
def test_an_unchanged_file_is_read_again_if_its_chunks_are_about_to_go(step: str, home: Path, tmp_path: Path) -> None:
    """Its recipe is in a pack that stays, and its status says that it was stored."""
    folder = tmp_path / "files"
    for name, data in (("gone", (LARGE,)), ("gone_too", (EDITED, SMALL)), ("live", (SMALL,))):
        paths = [write(folder / f"{name}-{number}.bin", content) for number, content in enumerate(data)]
        for path in paths:
            os.utime(path, (1e9, 1e9))  # younger files are read again in any case
        Dataset.from_dict({"file": paths}).save(name, column_types={"file": "file"})
    rows = Dataset.from_dict({"file": [str(folder / "gone_too-0.bin")]})
    for name in ("gone", "gone_too"):
        Dataset(name).delete(permanent=True)
    done = []

    def saving(at: str) -> None:
        if at.startswith(step) and not done:
            done.append(at)
            rows.save("again", column_types={"file": "file"})

    report = collect(Lake.current(), False, NOW, NOW, saving)
    assert (report.postponed, done != []) == (None, True)
    assert contents("again") == [EDITED]
    assert collected().postponed is None
    assert contents("again") == [EDITED]


@pytest.mark.live
def test_a_failed_save_leaves_chunks_that_another_needs(lake: Lake, home: Path, tmp_path: Path) -> None:
    keys = stored(lake, LARGE, OTHER)
    save_again(tmp_path, lambda step: None, EDITED)
    assert reclaim(lake, keys) == frozenset()
    assert contents("again") == [EDITED]
    Dataset("again").delete(permanent=True)
    assert reclaim(lake, keys) == keys
    assert len(objects_of(home)) == 1


KILLED = """
import os, random, signal, sys
from lakefeed import Dataset
from lakefeed.storage.blobs import chunking, chunk_writer
left = [int(sys.argv[2])]
cut = chunking.cut

def cut_and_die(source):
    for each in cut(source):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        yield each

chunking.READ_BYTES = 1 << 20
chunk_writer.cut = cut_and_die
Dataset.from_dict({"file": [sys.argv[1]]}).save("killed", column_types={"file": "file"})
"""


@pytest.mark.live
@pytest.mark.parametrize("reads", [1, 3, 4])
def test_a_killed_save_goes_on_and_its_chunks_are_garbage_until_then(
    reads: int, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED__BLOBS__PACK_BYTES", str(MIB))
    path = write(tmp_path / "large.bin", OTHER)
    save("live", tmp_path, OTHER[:MIB] + LARGE)
    program = Program(KILLED, path, str(reads))
    program.finish()
    assert program.returncode == -9
    then = time.time() - EXPIRY_SECONDS - 1
    for lease in (home / "blobs" / "leases").iterdir():
        os.utime(lease, (then, then))
    before = bytes_of(home)
    if reads == 4:
        save("again", tmp_path, OTHER)
        assert bytes_of(home) - before < 2.5 * MIB
        assert contents("again") == [OTHER]
    assert collected().postponed is None
    assert contents("live") == [OTHER[:MIB] + LARGE]
    if reads == 4:
        assert contents("again") == [OTHER]


@pytest.mark.soak
@pytest.mark.timeout(0)
@pytest.mark.parametrize("seed", range(20))
def test_saves_deletes_and_collections_at_random(seed: int, home: Path, tmp_path: Path) -> None:
    """Versions of a few files, saved and deleted while a collection without grace runs in between."""
    draw = random.Random(seed)
    files = [bytearray(draw.randbytes(2 * MIB)) for _ in range(3)]
    expected: dict[str, list[bytes]] = {}
    for number in range(40):
        action = draw.choice(["save", "save", "delete", "collect"])
        if action == "save":
            for file in draw.sample(files, draw.randrange(4)):
                start = draw.randrange(len(file))
                file[start : start + draw.randrange(9)] = draw.randbytes(draw.randrange(9))
            expected[f"d{number}"] = [bytes(file) for file in files]
            save(f"d{number}", tmp_path, *expected[f"d{number}"])
        elif action == "delete" and expected:
            name = draw.choice(sorted(expected))
            del expected[name]
            Dataset(name).delete(permanent=True)
        else:
            with suppress(FileNotFoundError):
                age(home)
            assert collected(grace=dt.timedelta(0)).postponed is None
        lake = another_machine(tmp_path) if draw.random() < 0.1 else None
        if lake is not None:
            lake.close()
        for name, data in expected.items():
            assert contents(name) == data


@pytest.mark.live
@pytest.mark.parametrize("step", ["moved", "doomed", "packs/"])
def test_a_killed_collection_loses_no_chunks(step: str, home: Path, tmp_path: Path) -> None:
    """Chunks that another file needs have moved out of a pack when the collector is killed."""
    save("gone", tmp_path, LARGE, OTHER)
    save("live", tmp_path, EDITED)
    Dataset("gone").delete(permanent=True)
    killed("collect", step)
    assert contents("live") == [EDITED]
    save_again(tmp_path, lambda at: None, LARGE)  # under the list that the killed one left
    assert contents("again") == [LARGE]
    age(home, hours=EXPIRY_SECONDS / 3600 + 0.01)
    assert collected().postponed is None
    assert (contents("live"), contents("again")) == ([EDITED], [LARGE])
    assert collected().bytes == 0
