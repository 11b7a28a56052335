"""Routines on PostgreSQL and S3: every row's result once, whatever is killed, races, or breaks in between."""

from __future__ import annotations

import random
import signal
import time

import pytest

from lakefeed import Dataset
from lakefeed.compute import Dask
from lakefeed.routines import Routine, pending, run_routine, run_versions
from tests.stack.processes import finish, start
from tests.stack.servers import Stack

pytestmark = [pytest.mark.stack, pytest.mark.slow, pytest.mark.usefixtures("name")]

RUNNER = """
import pyarrow as pa
from lakefeed.routines import Routine, pending, run_versions

def doubled(rows):
    for batch in rows.batches(format="arrow"):
        yield pa.record_batch({"x": batch["x"], "double": pa.compute.multiply(batch["x"], 2)})

routine = Routine("double", doubled, "numbers", "doubles")
say("ready")
while pending(routine) is not None:
    for done in run_versions(routine):
        say(done.to_version)
"""
WRITER = """
for step in range(int(sys.argv[2])):
    Dataset.from_dict({"x": [me * 1000 + step]}).append_to("numbers")
"""


def doubled(rows: Dataset) -> Dataset:
    return rows.with_column("double", "x * 2")


def values(name: str) -> list[int]:
    return sorted(Dataset(name).to_arrow()["x"].to_pylist())


def filled(versions: int) -> None:
    Dataset.from_dict({"x": [0]}).save("numbers")
    for number in range(1, versions):
        Dataset.from_dict({"x": [number]}).append_to("numbers")


def killed_at_random(rounds: int) -> int:
    """How many runs were killed while they worked."""
    chance, killed = random.Random(7), 0
    for _ in range(rounds):
        runner = start(RUNNER, 0)
        assert runner.stdout is not None
        runner.stdout.readline()
        time.sleep(chance.uniform(0, 0.4))
        killed += runner.poll() is None
        runner.send_signal(signal.SIGKILL)
        runner.communicate()
        done = values("doubles") if Dataset.exists("doubles") else []
        assert len(done) == len(set(done)), "a row was written twice"
    return killed


def test_racing_runs_that_are_killed_and_cut_off_write_every_row_once(servers: Stack) -> None:
    filled(12)
    assert killed_at_random(2) > 0
    racing = [start(RUNNER, me) for me in range(2)]
    for _ in range(20):
        servers.postgres.break_connections()
        time.sleep(0.1)
    finish(racing)
    assert values("doubles") == values("numbers")


@pytest.mark.soak
def test_a_hundred_kills_while_a_writer_appends() -> None:
    filled(1)
    writer = start(WRITER, 1, 1500)
    killed = killed_at_random(100)
    finish([writer, *(start(RUNNER, me) for me in range(3))], patience=3600.0)
    finish([start(RUNNER, 0)], patience=3600.0)
    assert killed > 50
    assert values("doubles") == values("numbers")


@pytest.mark.soak
def test_a_distributed_routine_on_a_cluster_reads_every_row_once() -> None:
    filled(20)
    routine = Routine("double", doubled, "numbers", "doubles", distributed=True, coalesce=100)
    assert list(run_versions(routine, engine=Dask(workers=2)))
    assert pending(routine) is None
    assert run_routine(routine, engine=Dask(workers=2)) is None
    assert values("doubles") == values("numbers")
