"""What a save that ran out of space had stored is deleted, and nothing that others need: every order of steps."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pyiceberg.exceptions import CommitStateUnknownException

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reclaim import reclaim, reclaim_when_full
from lakefeed.catalog.snapshot_builder import PreCommitCheck
from lakefeed.errors import StorageFullError, UnsupportedError
from lakefeed.storage.blobs.collector import begin_collection
from lakefeed.storage.blobs.leases import EXPIRY_SECONDS
from tests.sdk.killing import killed_by_itself
from tests.sdk.s3 import new_bucket, s3_server
from tests.sdk.test_garbage import age, collected, contents, files_of, save
from tests.sdk.test_garbage_races import (
    LARGE,
    OF_A_SAVE,
    SECONDS,
    SMALL,
    Stop,
    _wait,
    another_machine,
    collect_now,
    save_again,
)

OF_A_RECLAIM = ["begun", "doomed", "waiting", "waited", "marked", "packs/", "sha256/"]
OF_A_COLLECTION = ["begun", "marked", "doomed", "waited", "marked again", "packs/"]


def share(*grid: tuple[str, ...], every: int) -> list[Any]:
    """All combinations, of which only every so many runs outside of the soak."""
    return [
        pytest.param(*steps, marks=[] if place % every == 1 else [pytest.mark.soak])
        for place, steps in enumerate(product(*grid))
    ]


def stored(lake: Lake, *data: bytes) -> frozenset[str]:
    """The objects of a save of these contents that has failed before its commit."""
    with lake.blobs.open_writer() as saving:
        for content in data:
            saving.put(content)
        saving.flush()
    return saving.new_objects


def reclaim_now(tmp_path: Path, keys: frozenset[str], at: Callable[[str], object]) -> frozenset[str]:
    lake = another_machine(tmp_path)
    try:
        return reclaim(lake, keys, SECONDS, at)
    finally:
        lake.close()


def objects_of(home: Path) -> list[str]:
    return [key for key in files_of(home) if key.startswith(("blobs/packs/", "blobs/sha256/"))]


@pytest.mark.live
@pytest.mark.parametrize(
    ("first", "of_save", "of_reclaim"), share(("save", "reclaim"), tuple(OF_A_SAVE), tuple(OF_A_RECLAIM), every=8)
)
def test_another_save_of_the_same_contents_loses_none(
    first: str, of_save: str, of_reclaim: str, lake: Lake, tmp_path: Path
) -> None:
    """One goes as far as its step, then the other as far as its own, then both to their end."""
    saver, reclaimer = Stop(of_save), Stop(of_reclaim)
    keys = stored(lake, SMALL, LARGE)

    def reclaiming_now(step: str) -> None:
        if step == "waiting":  # for this save, which must not wait in turn
            saver.go.set()
        reclaimer(step)

    with ThreadPoolExecutor(2) as threads:
        if first == "save":
            saving = threads.submit(save_again, tmp_path, saver)
            assert saver.reached.wait(SECONDS)
            reclaimed = threads.submit(reclaim_now, tmp_path, keys, reclaiming_now)
            _wait(reclaimer.reached, reclaimed)
            saver.go.set()
            saving.result(SECONDS) if of_reclaim != "waiting" else None
            reclaimer.go.set()
        else:
            reclaimed = threads.submit(reclaim_now, tmp_path, keys, reclaiming_now)
            _wait(reclaimer.reached, reclaimed)
            saving = threads.submit(save_again, tmp_path, saver)
            _wait(saver.reached, saving)
            reclaimer.go.set()
            reclaimed.result(SECONDS)
            saver.go.set()
        saving.result(SECONDS)
        reclaimed.result(SECONDS)
    assert contents("again") == [SMALL, LARGE]
    assert collected().postponed is None
    assert contents("again") == [SMALL, LARGE]


@pytest.mark.live
@pytest.mark.parametrize(
    ("of_collection", "of_reclaim"), share(tuple(OF_A_COLLECTION), ("begun", "doomed", "marked", "packs/"), every=9)
)
def test_a_collection_beside_it(of_collection: str, of_reclaim: str, lake: Lake, home: Path, tmp_path: Path) -> None:
    """They never work at once; what versions name stays, however often either is tried."""
    save("live", tmp_path, SMALL, LARGE)
    live = objects_of(home)
    save("gone", tmp_path, b"gone")
    Dataset("gone").delete(permanent=True)
    keys = stored(lake, b"of the save that failed", b"f" * (2 << 20))
    collection, reclaimer = Stop(of_collection), Stop(of_reclaim)
    with ThreadPoolExecutor(2) as threads:
        collecting = threads.submit(collect_now, tmp_path, collection)
        assert collection.reached.wait(SECONDS)
        reclaimed = threads.submit(reclaim_now, tmp_path, keys, reclaimer)
        assert not reclaimer.reached.wait(0.05) or of_reclaim == "begun"
        reclaimer.go.set()
        collection.go.set()
        collecting.result(SECONDS)
        reclaimed.result(SECONDS)
    assert contents("live") == [SMALL, LARGE]
    assert collected().postponed is None  # where both began at once, both may have given up
    assert (contents("live"), objects_of(home)) == ([SMALL, LARGE], live)


def test_contents_that_versions_name_stay(lake: Lake, home: Path, tmp_path: Path) -> None:
    keys = stored(lake, SMALL, LARGE)
    save("one", tmp_path, SMALL, LARGE)  # it relies on them
    Dataset.from_dict({"file": [str(tmp_path / "one-0.bin")]}).overwrite("one")
    live = objects_of(home)
    more = stored(lake, b"new", SMALL, LARGE, b"n" * (2 << 20))
    assert len(objects_of(home)) == len(live) + 2
    assert reclaim(lake, keys | more) == more
    assert objects_of(home) == live
    assert [row["file"].bytes() for row in Dataset("one", version=1).rows()] == [SMALL, LARGE]
    assert reclaim(lake, keys | more) == frozenset()


def test_where_it_is_not_safe_the_objects_stay_and_a_note_says_why(
    lake: Lake, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakefeed.catalog.reclaim.PATIENCE_SECONDS", 0.0)
    keys, store = stored(lake, SMALL, LARGE), lake.blobs.backend

    def failure() -> StorageFullError:
        with pytest.raises(StorageFullError, match=r"^first") as caught, reclaim_when_full(lake, lambda: keys):
            raise StorageFullError("first")
        return caught.value

    def refused(reason: str) -> None:
        error = failure()
        assert reason in error.__notes__[0]
        assert set(error.remaining_objects) == keys
        assert len(objects_of(home)) == 2

    with lake.blobs.open_writer():
        refused("another save is active")
    sign = begin_collection(store)
    refused("another garbage collection is active")
    sign.end()
    store.objects.write("lakes/other.json", json.dumps({"lake": "another one"}).encode())
    refused("also belongs to 'another one")
    store.objects.delete("lakes/other.json")
    Dataset.from_dict({"x": [1]}).save("broken")
    [metadata] = (home / "warehouse").rglob("broken-*/metadata/*.metadata.json")
    whole = metadata.read_bytes()
    metadata.write_bytes(b"")
    refused("datasets are damaged ('default.broken')")
    metadata.write_bytes(whole)
    assert failure().remaining_objects == ()
    assert objects_of(home) == []


def test_saves_of_one_process_leave_it_to_the_one_that_ends_last(lake: Lake, home: Path) -> None:
    keys = [stored(lake, content) for content in (b"inner", b"outer", b"in doubt")]

    def run(commit_check: PreCommitCheck | None = None) -> None:
        outer, inner = reclaim_when_full(lake, lambda: keys[1]), reclaim_when_full(lake, lambda: keys[0], commit_check)
        with (
            pytest.raises(StorageFullError) as caught,
            outer,
            lake.blobs.open_writer(),
            inner,
            lake.blobs.open_writer(),
        ):
            raise StorageFullError
        assert caught.value.remaining_objects == ()

    run(PreCommitCheck(lambda: None, outcome_unknown=True))
    assert len(objects_of(home)) == 3
    run()
    assert objects_of(home) == [f"blobs/{key}" for key in keys[2]]
    with reclaim_when_full(lake, lambda: keys[2]):
        pass
    with pytest.raises(ValueError, match="other"), reclaim_when_full(lake, lambda: keys[2]):
        raise ValueError("other")
    assert len(objects_of(home)) == 1


@pytest.mark.parametrize("landed", [True, False])
def test_a_commit_of_which_nobody_knows_whether_it_landed(
    landed: bool, lake: Lake, home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The acknowledgement is lost, and the same commit, sent again, fails on the full disk."""
    save("one", tmp_path, b"old")
    catalog = Lake.current().catalog
    commit, sent = catalog.commit_table, list[object]()

    def fails(*arguments: object) -> object:
        sent.append(arguments)
        if len(sent) > 1:
            raise StorageFullError("full")
        raise CommitStateUnknownException("no answer")

    monkeypatch.setattr(catalog, "commit_table", fails)
    paths = [str(tmp_path / name) for name in ("s.bin", "l.bin")]
    for path, data in zip(paths, (SMALL, LARGE), strict=True):
        Path(path).write_bytes(data)
    with pytest.raises(StorageFullError, match="full"):
        Dataset.from_dict({"file": paths}).append_to("one")
    assert len(objects_of(home)) == 3
    if landed:  # it was on its way all the time
        commit(*sent[0])  # type: ignore[misc]
        assert contents("one") == [b"old", SMALL, LARGE]
    assert contents("one")[0] == b"old"


STEPS_TO_DIE_AT = [param for param in share(tuple(OF_A_RECLAIM), every=4) if "waiting" not in param.values]


def die_at(step: str, keys: list[str]) -> None:
    def at(now: str) -> None:
        if now.startswith(step):
            os.kill(os.getpid(), signal.SIGKILL)

    reclaim(Lake.current(), keys, 0, at)


@pytest.mark.live
@pytest.mark.parametrize("step", STEPS_TO_DIE_AT)
def test_one_that_is_killed_is_finished_by_a_collection(step: str, lake: Lake, home: Path, tmp_path: Path) -> None:
    save("kept", tmp_path, b"a", LARGE + b"kept")
    keys = stored(lake, SMALL, LARGE)
    killed_by_itself(die_at, step, sorted(keys))
    assert contents("kept") == [b"a", LARGE + b"kept"]
    save_again(tmp_path, lambda step: None)  # under the list that the killed one left
    assert contents("again") == [SMALL, LARGE]
    with pytest.raises(UnsupportedError, match="another garbage collection is active"):
        reclaim(lake, keys, 0)
    age(home, hours=EXPIRY_SECONDS / 3600 + 0.01)
    assert collected().postponed is None
    assert contents("again") == [SMALL, LARGE]
    assert contents("kept") == [b"a", LARGE + b"kept"]
    assert collected().bytes == 0
    assert not [key for key in files_of(home) if key.startswith(("blobs/leases", "blobs/doomed"))]


@pytest.mark.parametrize("kind", ["memory", pytest.param("s3", marks=pytest.mark.soak)])
def test_objects_of_an_object_store(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with s3_server() if kind == "s3" else nullcontext({}) as options:
        url = new_bucket(options, "reclaim") if kind == "s3" else "memory://reclaim"
        monkeypatch.setenv("LAKEFEED__BLOBS__URL", f"{url}/blobs")
        monkeypatch.setenv("LAKEFEED__BLOBS__OPTIONS", json.dumps(options))
        save("kept", tmp_path, b"a", b"x" * (2 << 20))

        objects = Lake.current().blobs.backend.objects
        before = {info.key for folder in ("packs", "sha256") for info in objects.list(folder)}
        lake = Lake.current()
        saving = lake.blobs.open_writer()
        with reclaim_when_full(lake, lambda: saving.new_objects), saving:
            for content in (b"b", b"y" * (2 << 20), b"a"):
                saving.put(content)
            saving.flush()
            written = saving.new_objects
        assert len(written) == 2
        with pytest.raises(StorageFullError) as failure, reclaim_when_full(lake, lambda: written):
            raise StorageFullError("full")
        assert failure.value.remaining_objects == ()
        assert {info.key for folder in ("packs", "sha256") for info in objects.list(folder)} == before
        assert contents("kept") == [b"a", b"x" * (2 << 20)]
        assert [len(list(objects.list(folder))) for folder in ("leases", "doomed")] == [0, 0]
