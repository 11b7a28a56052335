"""Runs over processes: those that are killed, forked, spawned, or end without a word."""

from __future__ import annotations

import multiprocessing
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest
from sqlalchemy import select

from lakefeed import Dataset, lineage, track
from lakefeed.catalog import current_run
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_uids import table_stem
from lakefeed.provenance.lake_facts import read_tables
from lakefeed.provenance.registry_facts import RegistryFacts, RunReader
from lakefeed.records.record_registry import Registry
from lakefeed.records.record_tables import PROCESS, RUN
from tests.sdk.processes import Program

pytestmark = pytest.mark.live


def registry() -> RegistryFacts:
    registry = Registry.open()
    reader, stems = RunReader(), {table_stem(uuid): uuid for uuid in read_tables(Lake.current())}
    with registry.read() as connection:
        reader.read_runs(connection, connection.scalars(select(RUN.c.uid)).all())
    return reader.facts(stems)


def save(name: str, *values: int) -> None:
    Dataset.from_dict({"x": list(values)}).save(name, if_exists="append")


READ_AND_WRITE = """
    import sys
    from lakefeed import Dataset, track

    with track("killed", run_id=sys.argv[1]):
        for number in range(1, 4):
            Dataset("a", version=number).to_arrow()
            print(number, flush=True)
            Dataset.from_dict({"x": [number]}).save("out", if_exists="append")
"""


def test_a_killed_run_leaves_versions_with_all_of_their_inputs_or_none(home: Path) -> None:
    for value in range(3):
        save("a", value)
    draw = random.Random(7)
    for attempt in range(6):
        program = Program(READ_AND_WRITE, f"run-{attempt}")
        for _ in range(attempt % 4):
            program.stdout.readline()
        time.sleep(draw.uniform(0, 0.06))
        program.kill()
        program.finish()
    versions = Dataset("out").list_versions() if Dataset.exists("out") else []
    table = read_tables(Lake.current())
    (facts,) = [each for each in table.values() if each.name == "out"]
    count = dict.fromkeys((each.run for each in versions), 0)
    for number in sorted(facts.versions):
        version = facts.versions[number]
        count[version.run] += 1
        assert [each.version for each in version.inputs] == list(range(1, count[version.run] + 1))
    runs = registry().runs
    assert all(runs[each].status in ("running", "completed", "unknown") for each in count if each in runs)
    assert len(lineage("out", down=0).nodes) > 2


def _read(name: str) -> None:
    Dataset(name).to_arrow()


def test_forked_processes_belong_to_the_run_and_spawned_ones_join_it(home: Path) -> None:
    for name in ("a", "b", "c", "d"):
        save(name, 1)
    with track("main") as main:
        Dataset("a").to_arrow()
        child = os.fork()  # while the thread of the run begins to write
        if not child:
            _read("b")
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        forked = multiprocessing.get_context("fork").Process(target=_read, args=("c",))
        forked.start()
        forked.join()
        code = "import sys; from lakefeed import Dataset, track; track(run_id=sys.argv[1]); Dataset('d').to_arrow()"
        subprocess.run([sys.executable, "-c", code, main.id], check=True)
    facts = registry()
    assert facts.runs[main.id].status == "completed"
    names = {uuid: table.name for uuid, table in read_tables(Lake.current()).items()}
    assert {names[each.table] for each in facts.inputs[main.id]} == {"a", "b", "c", "d"}
    assert current_run.current_state() is None


def test_a_forked_process_that_outlives_the_run_does_not_begin_it_again(home: Path) -> None:
    save("a", 1)
    save("b", 1)
    waiting, ended = os.pipe()
    with track("short") as run:
        Dataset("a").to_arrow()
        child = os.fork()
        if not child:
            os.read(waiting, 1)
            _read("b")
            os._exit(0)
    os.write(ended, b"x")
    assert os.waitpid(child, 0)[1] == 0
    os.close(waiting)
    os.close(ended)
    facts = registry()
    assert facts.runs[run.id].status == "completed"
    assert len(facts.inputs[run.id]) == 2
    with Registry.open().read() as connection:
        assert connection.execute(select(PROCESS)).all() == []


def test_workers_of_loaders_read_for_the_run(home: Path) -> None:
    save("a", *range(64))
    with track() as tracked:
        list(Dataset("a").shuffle(seed=1).to_torch(batch_size=8, num_workers=2))
    (read,) = tracked.inputs
    assert (read.dataset, read.seed, read.epoch) == ("a", 1, 0)
    with track() as distributed:
        from lakefeed.compute import Processes
        from lakefeed.compute import save as save_by

        save_by(Dataset("a").with_column("y", "x + 1"), "out", Processes(2))
    assert [each.dataset for each in distributed.inputs] == ["a"]
    assert Dataset("out").list_versions()[0].run == distributed.id


SCRIPT = """
import sys
from lakefeed import Dataset, track
track(params={"a": 1})
Dataset("a").append_to("a")
if len(sys.argv) > 1:
    raise {"fail": ValueError, "stop": KeyboardInterrupt}[sys.argv[1]]("no")
"""


def test_scripts_end_their_runs(home: Path, tmp_path: Path) -> None:
    save("a", 1)
    script = tmp_path / "train.py"
    script.write_text(SCRIPT)
    for arguments, status in (([], "completed"), (["fail"], "failed"), (["stop"], "aborted")):
        subprocess.run([sys.executable, str(script), *arguments], check=False, capture_output=True)
        version = Dataset("a").list_versions()[0]
        assert version.code is not None
        assert version.code.startswith("train.py sha256:")
        record = registry().runs[str(version.run)]
        assert (record.status, record.name, record.params) == (status, "train.py", {"a": 1})
        assert Lake.current().blobs.read(version.code.split("sha256:")[1].split()[0]) == SCRIPT.encode()
    outside = "from lakefeed import Dataset; Dataset('a').append_to('a')"
    subprocess.run([sys.executable, "-c", outside], check=True)
    newest = Dataset("a").list_versions()[0]
    assert newest.run is None
    assert newest.code is not None
    assert newest.code.startswith("python -c sha256:")


HANG = """
    import sys, time
    from lakefeed import Dataset, track

    run = track("hanging", run_id=sys.argv[1])
    Dataset("a").to_arrow()
    Dataset("a").save(sys.argv[2])
    run._recorder.flush()
    print("ready", flush=True)
    time.sleep(600)
"""


def test_a_killed_run_is_lost_and_one_that_another_process_goes_on_with_is_not(home: Path) -> None:
    save("a", 1)
    killed, shared = Program(HANG, "killed", "b"), Program(HANG, "shared", "c")
    other = Program(HANG, "shared", "d")
    for program in (killed, shared, other):
        assert program.stdout.readline().strip() == "ready"

    def states() -> dict[str, str]:
        return {str(run.external): run.status for run in Registry.open().runs.all()}

    assert states() == {"killed": "running", "shared": "running"}
    for program in (killed, shared):
        program.kill()
        program.finish()
    assert states() == {"killed": "lost", "shared": "running"}
    (node,) = [each for each in lineage("b").nodes if each.kind == "run" and each.name == "hanging"][:1]
    assert (node.state, node.facts["finished"] >= node.at) == ("lost", True)
    assert lineage("b").openlineage()[-1]["eventType"] == "ABORT"
    other.kill()
    other.finish()
    assert states() == {"killed": "lost", "shared": "lost"}
