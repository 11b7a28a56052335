"""A save that meets contents which a collector is about to delete: every order of their steps."""

from __future__ import annotations

import datetime as dt
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import create
from lakefeed.catalog.lake import Lake
from lakefeed.config import Settings
from lakefeed.garbage import GarbageReport, collect
from lakefeed.media.store_columns import FileColumnWriter
from lakefeed.ops import Scan, StoreFiles
from lakefeed.run.local_runner import LocalRunner
from lakefeed.sources.memory_source import MemorySource
from lakefeed.storage.blobs.leases import EXPIRY_SECONDS
from lakefeed.storage.cache.file_fingerprints import FileFingerprints
from tests.sdk.media.pictures import write
from tests.sdk.prepared_homes import PreparedHomes
from tests.sdk.processes import Program
from tests.sdk.test_garbage import age, collected, contents, files_of, save

SMALL, LARGE = b"small", b"l" * (2 << 20)
OF_A_SAVE = ["leased", "looked", "flushed"]
OF_A_COLLECTION = ["begun", "marked", "doomed", "waiting", "waited", "marked again", "packs/", "sha256/"]
SECONDS = 30


class Stop:
    """A hook that stops its thread the first time it comes to a step, until it may go on."""

    def __init__(self, step: str | None = None) -> None:
        self.step = step
        self.reached, self.go = threading.Event(), threading.Event()

    def __call__(self, step: str) -> None:
        if self.step is not None and step.startswith(self.step) and not self.reached.is_set():
            self.reached.set()
            assert self.go.wait(SECONDS)


def another_machine(tmp_path: Path) -> Lake:
    """The same lake, seen from a machine with a cache of its own."""
    return Lake(Settings.load(cache_dir=tmp_path / f"cache-{time.time_ns()}"))


def save_again(tmp_path: Path, at: Callable[[str], object], *contents: bytes) -> None:
    """Saves contents, by default those of the dataset that was deleted, as ``Dataset.save`` does."""
    lake = another_machine(tmp_path)
    files = enumerate(contents or (SMALL, LARGE))
    rows = pa.table({"file": [write(tmp_path / "again" / f"{number}.bin", data) for number, data in files]})
    with lake.blobs.open_writer(at) as saving:
        plan = StoreFiles(
            Scan(MemorySource(rows)), FileColumnWriter({"file": "file"}, saving, FileFingerprints(lake.settings.cache))
        )
        with closing(LocalRunner(lake.settings).batches(plan)) as batches:
            create(lake, "again", plan.schema, batches, before_commit=saving.require_alive)
    lake.close()


def collect_now(tmp_path: Path, at: Callable[[str], object]) -> GarbageReport:
    lake = another_machine(tmp_path)
    try:
        return collect(lake, False, dt.timedelta(0), dt.timedelta(seconds=SECONDS), at)
    finally:
        lake.close()


@pytest.fixture
def doomed(tmp_path: Path) -> None:
    """A lake with a pack and a large blob that no version names any more."""
    make_doomed(tmp_path)


@pytest.fixture
def doomed_again(tmp_path: Path, prepared_homes: PreparedHomes, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same lake, put back for each order of the steps."""
    prepared_homes.enter("doomed", lambda: make_doomed(tmp_path), monkeypatch)


def make_doomed(folder: Path) -> None:
    save("gone", folder, SMALL, LARGE)
    Dataset("gone").delete(permanent=True)


@pytest.mark.usefixtures("doomed_again")
@pytest.mark.parametrize(
    ("of_save", "of_collection", "first"),
    [
        pytest.param(*order, marks=pytest.mark.live if number % 4 else ())  # make test has some of the orders
        for number, order in enumerate(
            (of_save, of_collection, first)
            for first, collections in (("save", OF_A_COLLECTION), ("collection", [*OF_A_COLLECTION[1:], "begun"]))
            for of_save in OF_A_SAVE
            for of_collection in collections
        )
    ],
)
def test_gc_race(first: str, of_save: str, of_collection: str, tmp_path: Path) -> None:
    assert race(tmp_path, first, of_save, of_collection, SMALL, LARGE).postponed is None
    assert contents("again") == [SMALL, LARGE]
    assert collected().postponed is None
    assert contents("again") == [SMALL, LARGE]


def race(tmp_path: Path, first: str, of_save: str, of_collection: str, *data: bytes) -> GarbageReport:
    """A save and a collection: one goes to its step, then the other to its own, then both to their end."""
    saver, collector = Stop(of_save), Stop(of_collection)

    def collecting(step: str) -> None:
        if step == "waiting":  # for this save, which must not wait for the collection in turn
            saver.go.set()
        collector(step)

    with ThreadPoolExecutor(2) as threads:
        if first == "save":
            saving = threads.submit(save_again, tmp_path, saver, *data)
            assert saver.reached.wait(SECONDS)
            collection = threads.submit(collect_now, tmp_path, collecting)
            _wait(collector.reached, collection)
            saver.go.set()
            saving.result(SECONDS) if of_collection != "waiting" else None
            collector.go.set()
        else:
            collection = threads.submit(collect_now, tmp_path, collecting)
            _wait(collector.reached, collection)
            saving = threads.submit(save_again, tmp_path, saver, *data)
            _wait(saver.reached, saving)
            collector.go.set()
            collection.result(SECONDS)
            saver.go.set()
        saving.result(SECONDS)
        return collection.result(SECONDS)


def _wait(reached: threading.Event, task: object) -> None:
    """Until the step is reached, or the task has ended without it."""
    ends = time.monotonic() + SECONDS
    while not reached.wait(0.01) and not task.done():  # type: ignore[attr-defined]
        assert time.monotonic() < ends


@pytest.mark.usefixtures("doomed")
def test_gc_does_nothing_where_a_save_takes_too_long(home: Path, tmp_path: Path) -> None:
    before = files_of(home)
    with Lake.current().blobs.open_writer():
        assert collected().postponed == "1 saves were still running after 0:00:00"
    assert files_of(home) == before
    assert collected().packs == 1


@pytest.mark.usefixtures("doomed")
def test_gc_one_at_a_time(tmp_path: Path) -> None:
    reports: list[GarbageReport] = []

    def other(step: str) -> None:
        if step == "doomed":
            reports.append(collect_now(tmp_path, lambda step: None))

    assert collect_now(tmp_path, other).packs == 1
    assert reports[0].postponed == "another collection is running"


@pytest.mark.usefixtures("doomed")
def test_gc_records_that_are_copied_from_a_dataset_that_goes(home: Path, tmp_path: Path) -> None:
    """The rows name contents that are not added, and the table they come from is deleted meanwhile."""
    source = save("source", tmp_path, b"other small", b"m" * (2 << 20))
    rows = source.to_arrow()
    Dataset("source").delete(permanent=True)

    def copying(step: str) -> None:
        if step == "marked again":
            Dataset.from_arrow(rows).save("copy")

    assert collect_now(tmp_path, copying).packs == 2
    assert contents("copy") == [b"other small", b"m" * (2 << 20)]


KILLED = """
import datetime as dt, os, signal, sys
from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.garbage import collect
what, step = sys.argv[1], sys.argv[2]

def at(now):
    if now.startswith(step):
        os.kill(os.getpid(), signal.SIGKILL)

if what == "collect":
    collect(Lake.current(), False, dt.timedelta(0), dt.timedelta(0), at)
else:
    with Lake.current().blobs.open_writer(at) as saving:
        saving.add({bytes(32): b"not its digest, and never read"})
        saving.put(b"k" * (2 << 20))
        saving.flush()
        at("committing")
"""


def killed(*arguments: str) -> None:
    program = Program(KILLED, *arguments)
    program.finish()
    assert program.returncode == -signal.SIGKILL


@pytest.mark.live
@pytest.mark.parametrize("step", ["looked", "committing"])
def test_gc_a_killed_save_leaves_garbage_until_its_lease_ends(step: str, home: Path, tmp_path: Path) -> None:
    save("kept", tmp_path, b"a")
    killed("save", step)
    assert collected().postponed == "1 saves were still running after 0:00:00"
    then = time.time() - EXPIRY_SECONDS - 1
    for lease in (home / "blobs" / "leases").iterdir():
        os.utime(lease, (then, then))
    report = collected()
    assert (report.postponed, report.packs, report.blobs) == (None, *((1, 1) if step == "committing" else (0, 0)))
    assert not [key for key in files_of(home) if key.startswith(("blobs/leases", "blobs/doomed"))]
    assert contents("kept") == [b"a"]


@pytest.mark.live
@pytest.mark.usefixtures("doomed")
@pytest.mark.parametrize("step", OF_A_COLLECTION)
def test_gc_a_killed_collection_is_finished_by_the_next(step: str, home: Path, tmp_path: Path) -> None:
    save("kept", tmp_path, b"a", LARGE + b"kept")
    if step == "waiting":
        return  # nobody to wait for
    killed("collect", step)
    assert contents("kept") == [b"a", LARGE + b"kept"]
    save_again(tmp_path, lambda step: None)  # under the list that the killed one left
    assert contents("again") == [SMALL, LARGE]
    assert collected().postponed == "another collection is running"
    age(home, hours=EXPIRY_SECONDS / 3600 + 0.01)
    assert collected().postponed is None
    assert contents("kept") == [b"a", LARGE + b"kept"]
    assert contents("again") == [SMALL, LARGE]
    assert collected().bytes == 0
    assert not [key for key in files_of(home) if key.startswith(("blobs/leases", "blobs/doomed"))]
