"""Exactly once whatever Dagster remembers, forgets, does twice, or takes for the time."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from dagster import DagsterInstance, DagsterRunStatus
from dagster._core.test_utils import create_run_for_test

from dataset_assets.asset_keys import key_of, routine_key
from dataset_assets.heartbeat import HEARTBEAT_TAG
from dataset_assets.run_tags import WORK_TAG
from lakefeed import Dataset
from lakefeed.routines import Appended, Every, Routine, pending
from sensors.sensor_cursor import SensorCursor
from tests.orchestration.daemon import Dagster, write

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]
# Dagster redirects the output of the whole process for a run; runs in three threads at once would take it from another.
NO_LOGS = {
    "compute_logs": {"module": "dagster._core.storage.noop_compute_log_manager", "class": "NoOpComputeLogManager"}
}
COPY = Routine("copy", lambda rows: rows, "photos", "copies", retries=9, backoff=0)
HOUR = 3_600.0
BEGINNING = 1_767_225_600.0
"""The beginning of 2026."""
READ_SECONDS = 0.003


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


@pytest.fixture
def put_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Puts the clock of the machine forward or back by so many seconds.

    The clock advances whenever it is read and not by itself, so a slow machine sees the same times as a fast one.
    ``second`` is where in a minute it starts.
    """
    reads = itertools.count()

    def put(seconds: float, second: float = 10.0) -> None:
        monkeypatch.setattr(time, "time", lambda: BEGINNING + second + seconds + next(reads) * READ_SECONDS)

    return put


def copied() -> list[int]:
    return Dataset("copies").to_arrow()["x"].to_pylist()


def test_three_daemons_that_know_nothing_of_one_another(tmp_path: Path) -> None:
    with DagsterInstance.local_temp(str(tmp_path), overrides=NO_LOGS) as instance:
        daemons = [Dagster(instance, COPY) for _ in range(3)]
        for value in range(4):
            write(value)
        asked = [request for daemon in daemons for request in daemon.tick("routines")]
        assert len(asked) == 3
        assert len({request.run_key for request in asked}) == 1, "Dagster itself would start only one"
        with ThreadPoolExecutor(3) as at_once:
            done = list(at_once.map(lambda pair: pair[0].run(pair[1]), zip(daemons, asked, strict=True)))
        assert [each.success for each in done] == [True] * 3
        assert copied() == [0, 1, 2, 3]
        assert set(daemons[0].reported(routine_key("copy"))) == {"v1", "v2", "v3", "v4"}


def test_all_that_dagster_remembers_may_be_deleted(instance: DagsterInstance) -> None:
    before = Dagster(instance, COPY)
    for value in range(3):
        write(value)
        before.work()
    with DagsterInstance.ephemeral() as empty:
        after = Dagster(empty, COPY)
        after.work()
        write(3)
        after.work()
        assert copied() == [0, 1, 2, 3]
        assert list(after.partitions()) == [key_of(number) for number in range(1, 5)]
        assert set(after.reported(routine_key("copy"))) == set(after.partitions())


@pytest.mark.parametrize(
    ("when", "second"),
    [
        (Appended(), 10),
        pytest.param(Every(60), 10, id="within a minute"),
        pytest.param(Every(60), 57, id="a minute begins meanwhile"),
        (Appended(min_rows=100, max_wait=60), 10),
    ],
)
def test_a_clock_that_jumps(
    instance: DagsterInstance, put_clock: Callable[..., None], when: Appended | Every, second: float
) -> None:
    dagster = Dagster(instance, replace(COPY, when=when))
    for value, seconds in enumerate([30 * HOUR, -5 * HOUR, -1_000 * HOUR, 0]):
        put_clock(seconds, second)
        write(value)
        dagster.work()
    put_clock(120, second)
    dagster.work()
    assert copied() == [0, 1, 2, 3]
    assert pending(COPY) is None
    assert list(dagster.partitions()) == [key_of(number) for number in range(1, 5)]


def test_a_dead_run_from_before_the_clock_was_put_back_blocks_nothing(
    instance: DagsterInstance, put_clock: Callable[[float], None]
) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    tags = {WORK_TAG: routine_key("copy").to_user_string(), HEARTBEAT_TAG: f"{time.time() + 24 * HOUR:.0f}"}
    run = create_run_for_test(instance, status=DagsterRunStatus.STARTED, tags=tags)
    dagster.work()
    assert copied() == [1]
    found = instance.get_run_by_id(run.run_id)
    assert found is not None
    assert found.status is DagsterRunStatus.CANCELED


def test_who_waits_for_a_time_is_looked_at_again_when_the_clock_was_put_back() -> None:
    watch = SensorCursor()
    assert list(watch.unsettled_names({"a": "1"}, now=10 * HOUR)) == ["a"]
    watch.settle("a", "1", until=11 * HOUR)
    again = SensorCursor.parse(watch.dump())
    assert list(again.unsettled_names({"a": "1"}, now=10.5 * HOUR)) == []
    assert list(again.unsettled_names({"a": "1"}, now=HOUR)) == ["a"]
