"""Rows made by other processes: the same rows, in the same order, once, in one version, whoever dies."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Fence
from lakefeed.catalog.lake import Lake
from lakefeed.compute import Dask, Engine, Processes, append_to, save
from lakefeed.errors import FenceError, InvalidArgumentError, SchemaError
from lakefeed.routines import Routine, run_routine, run_versions
from tests.sdk.media.pictures import encoded, write
from tests.sdk.prepared_homes import PreparedHomes

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.slow]
SCHEMA = pa.schema({"id": pa.int64(), "double": pa.int64()})
ROWS, A_FILE = 400, 40
SLOW = 0.05


class Here:
    """Runs the pieces in this process, the last one first, and some of them twice."""

    width = 3

    def run(self, pieces: list[bytes]) -> Iterator[tuple[int, object]]:
        from lakefeed.compute.compute_engine import run_task

        for place in reversed(range(len(pieces))):
            if place % 2:
                run_task(pieces[place])
            yield place, run_task(pieces[place])


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([batch["id"], pa.compute.multiply(batch["id"], 2)], schema=SCHEMA)


@pytest.fixture
def source(prepared_homes: PreparedHomes, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    """Several files, so that there are several fragments."""

    def build() -> None:
        for start in range(0, ROWS, A_FILE):
            Dataset.from_dict({"id": list(range(start, start + A_FILE))}).save("source", if_exists="append")

    prepared_homes.enter("source", build, monkeypatch)
    return Dataset("source")


def output() -> dict[str, list[int]]:
    return Dataset("output").to_arrow().to_pydict()


def files_below() -> int:
    return len(list((Lake.current().settings.home / "warehouse").rglob("*/output-*/data/*.parquet")))


ENGINES = [
    pytest.param(Here(), id="here"),
    pytest.param(Processes(2), id="processes", marks=pytest.mark.soak),
    pytest.param(Dask(workers=2), id="dask", marks=pytest.mark.soak),
]


@pytest.mark.parametrize("engine", ENGINES)
def test_rows_and_order_are_those_of_one_process(source: Dataset, engine: Engine) -> None:
    rows = source.filter("id % 3 != 0").map_batches(doubled, schema=SCHEMA)
    assert save(rows, "output", engine, description="In parts").version == 1
    append_to(rows.filter(lambda row: row["id"] > 100), "output", engine)
    expected = rows.to_arrow()["id"].to_pylist()
    assert output()["id"] == expected + [number for number in expected if number > 100]
    assert output()["double"] == [2 * number for number in output()["id"]]
    assert [version.version for version in Dataset("output").list_versions()] == [2, 1]


def test_there_are_parts(source: Dataset) -> None:
    save(source, "output", Here())
    assert len(Lake.current().table("output").inspect.files()) > Here.width


def test_appended_rows_and_slices_of_them_go_in_parts(source: Dataset) -> None:
    save(source.added_since(3, 7).slice(10, 130), "output", Here())
    assert output()["id"] == list(range(3 * A_FILE + 10, 3 * A_FILE + 130))


def test_a_share_of_the_rows_goes_in_parts(source: Dataset) -> None:
    save(source.shard(1, 3), "output", Here())
    assert output()["id"] == source.shard(1, 3).to_arrow()["id"].to_pylist()


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows.sort("id"), lambda rows: rows.shuffle(seed=1), lambda rows: rows.batch(7)],
    ids=["sort", "shuffle", "batch"],
)
def test_rows_that_need_all_others_are_refused(source: Dataset, change) -> None:
    with pytest.raises(InvalidArgumentError, match=r"cannot be made in parts.*Save them without an engine"):
        save(change(source), "output", Here())
    assert not Dataset.exists("output")


def test_a_function_that_cannot_travel_is_refused_with_advice(source: Dataset) -> None:
    lock = threading.Lock()

    def locked(row: dict[str, int]) -> bool:
        with lock:
            return True

    with pytest.raises(InvalidArgumentError, match=r"cannot be sent to other processes.*inside the function"):
        save(source.filter(locked), "output", Processes(2))
    assert not Dataset.exists("output")
    assert files_below() == 0


def test_a_failure_leaves_no_version_and_no_file(source: Dataset) -> None:
    save(source, "output", Here())
    before = files_below()

    def failing(row: dict[str, int]) -> bool:
        if row["id"] == 7:
            raise ValueError("seven")
        return True

    with pytest.raises(ValueError, match="seven"):
        append_to(source.filter(failing), "output", Here())
    assert Dataset("output").version == 1
    assert output()["id"] == list(range(ROWS))
    assert files_below() == before


def failing_late(row: dict[str, int]) -> bool:
    if row["id"] == ROWS - 1:
        time.sleep(SLOW * 4)
        raise ValueError("the last")
    return True


def killing(row: dict[str, int]) -> bool:
    """Kills its worker each time, once others have written files."""
    if row["id"] == ROWS - 1:
        time.sleep(SLOW * 4)
        os.kill(os.getpid(), signal.SIGKILL)
    return True


@pytest.mark.parametrize(
    ("predicate", "error"),
    [(failing_late, ValueError), (killing, BrokenProcessPool)],
    ids=["raises", "dies"],
)
@pytest.mark.soak
def test_a_failure_removes_what_other_processes_have_written(source: Dataset, predicate, error) -> None:
    save(source, "output", Here())
    before = files_below()
    with pytest.raises(error):
        append_to(source.filter(predicate), "output", Processes(2))
    assert files_below() == before
    assert output()["id"] == list(range(ROWS))


@pytest.mark.parametrize("write_rows", [save, append_to])
def test_what_is_no_engine_or_no_dataset_is_refused(source: Dataset, write_rows) -> None:
    for engine in (None, "dask:2", Processes, 3):
        with pytest.raises(InvalidArgumentError, match="engine must be an Engine"):
            write_rows(source, "target", engine)
    with pytest.raises(InvalidArgumentError, match="rows must be a Dataset"):
        write_rows([1], "target", Processes(1))
    assert not Dataset.exists("target")


def test_engines_know_what_a_number_of_workers_is() -> None:
    for workers in (0, -1, "2", True, 1.5):
        for engine in (Processes, lambda workers: Dask(workers=workers)):
            with pytest.raises(InvalidArgumentError, match="workers must be a number"):
                engine(workers)
    with pytest.raises(InvalidArgumentError, match="address="):
        Dask(address=8786)


def test_a_fence_lets_one_of_two_through(source: Dataset) -> None:
    save(source.head(0), "output", Here())
    append_to(source, "output", Here(), fence=Fence("position", None, "1"))
    with pytest.raises(FenceError):
        append_to(source, "output", Here(), fence=Fence("position", None, "1"))
    assert output()["id"] == list(range(ROWS))


def test_an_idempotency_key_writes_once(source: Dataset) -> None:
    versions = [save(source, "output", Here(), idempotency_key="once").version for _ in range(2)]
    assert versions == [1, 1]


def test_columns_that_do_not_fit_are_refused_before_any_work(source: Dataset) -> None:
    save(source, "output", Here())
    with pytest.raises(SchemaError):
        append_to(source.map_batches(doubled, schema=SCHEMA), "output", Here())


def test_files_are_stored_by_the_workers(tmp_path: Path) -> None:
    paths = [write(tmp_path / f"{number}.png") for number in range(4)]
    Dataset.from_dict({"photo": paths[:2]}).save("paths", column_types=None)
    Dataset.from_dict({"photo": paths[2:]}).append_to("paths")
    save(Dataset("paths"), "output", Here(), column_types={"photo": "image"})
    assert [row["photo"].bytes() for row in Dataset("output").rows()] == [encoded()] * 4


def slow(row: dict[str, int]) -> bool:
    if row["id"] % A_FILE == 0:
        time.sleep(SLOW * 10)
    return True


@pytest.mark.live
@pytest.mark.parametrize("engine", [Processes(2), Dask(workers=2)], ids=["processes", "dask"])
@pytest.mark.skipif(not Path("/proc").exists(), reason="finds the workers in /proc")
def test_a_killed_worker_loses_and_doubles_nothing(source: Dataset, engine: Engine) -> None:
    killed: list[int] = []
    done = threading.Event()
    killer = threading.Thread(target=kill_a_worker, args=(killed, done))
    killer.start()
    try:
        save(source.filter(slow), "output", engine)
    finally:
        done.set()
        killer.join()
    assert killed
    assert output()["id"] == list(range(ROWS))
    assert [version.version for version in Dataset("output").list_versions()] == [1]
    named = set(Lake.current().table("output").inspect.files()["file_path"].to_pylist())
    assert len(named) > 4


def kill_a_worker(killed: list[int], done: threading.Event) -> None:
    """One that has written a file: with its work half done."""
    while not done.is_set() and not killed:
        time.sleep(0.01)
        written = list((Lake.current().settings.home / "warehouse").rglob("*/output-*/data/*.parquet"))
        if written and (workers := workers_of(os.getpid())):
            os.kill(workers[0], signal.SIGKILL)
            killed.append(workers[0])


def workers_of(parent: int) -> list[int]:
    """Processes below ``parent`` that run work, busiest first: those that multiprocessing or Dask spawned."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            command = (entry / "cmdline").read_bytes()
            fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[1]) == parent and b"spawn_main" in command:
            found.append((-int(fields[11]), int(entry.name)))
    return [process for _, process in sorted(found)]


def test_a_distributed_routine_reads_every_row_once(source: Dataset) -> None:
    def keep(rows: Dataset) -> Dataset:
        return rows.map_batches(doubled, schema=SCHEMA)

    routine = Routine("keep", keep, "source", "output", distributed=True)
    with pytest.raises(InvalidArgumentError, match="pass an engine"):
        run_routine(routine)
    done = list(run_versions(routine, engine=Here()))
    assert [each.rows_out for each in done] == [A_FILE] * 10
    assert list(run_versions(routine, engine=Here())) == []
    assert output()["id"] == list(range(ROWS))


def test_of_two_runs_that_race_one_writes(source: Dataset) -> None:
    def keep(rows: Dataset) -> Dataset:
        return rows.select(["id"])

    class Overtaken(Here):
        def run(self, pieces: list[bytes]) -> Iterator[tuple[int, object]]:
            run_routine(Routine("keep", keep, "source", "output"))
            return super().run(pieces)

    assert run_routine(Routine("keep", keep, "source", "output", distributed=True), engine=Overtaken()) is None
    assert output()["id"] == list(range(ROWS))
