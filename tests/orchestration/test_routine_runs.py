"""Runs of routines: what their settings mean in Dagster, and what a run by hand or a backfill does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

import pytest
from dagster import AssetMaterialization, DagsterInstance, DagsterRunStatus
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import create_run_for_test

from dataset_assets.asset_keys import dataset_key, routine_key
from dataset_assets.dataset import DatasetSpec
from dataset_assets.run_tags import WORK_TAG
from lakefeed import Dataset
from lakefeed.checks import InRange, NotNull
from lakefeed.compute import Dask, Processes
from lakefeed.routines import After, Appended, Every, Manual, Routine, RoutineRun, history, run_versions
from resources.compute_resource import ComputeResource
from tests.orchestration.daemon import Dagster, write

pytestmark = pytest.mark.usefixtures("lake")
PHOTOS = dataset_key("photos")
CHECKS = DatasetSpec("photos", checks=[NotNull("x"), InRange("x", 0, 100, blocking=False)])


def same(rows: Dataset) -> Dataset:
    return rows


COPY = Routine("copy", same, "photos", "copies")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


# ------------------------------------------------------------------ routines


@pytest.mark.live
def test_failed_versions_are_kept_from_routines_that_want_checked_ones(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, CHECKS, replace(COPY, only_checked=True))
    write(1)
    assert dagster.tick("routines") == [], "not checked yet"
    write(None)
    write(300)  # only a warning
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 300]
    [left_out] = [facts["left_out"] for facts in dagster.reported(routine_key("copy")).values() if "left_out" in facts]
    assert left_out == "left out: a check failed"


@pytest.mark.live
def test_a_big_append_is_several_runs(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, max_rows_per_run=2))
    write(1, 2, 3, 4, 5)
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3, 4, 5]
    runs = [each for each in dagster.asked if each.asset_selection == [routine_key("copy")]]
    assert len(runs) == 3
    facts = dagster.reported(routine_key("copy"))
    assert {key: (each["rows_in"], each["output"]) for key, each in facts.items()} == {
        "v1": (5, "copies v1, copies v2, copies v3")
    }


@pytest.mark.live
def test_several_sources_are_one_routine(instance: DagsterInstance) -> None:
    def both(photos: Dataset, words: Dataset) -> Dataset:
        return Dataset.from_dict({"n": [photos.count() + words.count()]})

    dagster = Dagster(instance, Routine("both", both, ("photos", "words"), "counts"))
    write(1, 2)
    dagster.work()
    assert not Dataset.exists("counts")
    write(3, to="words")
    dagster.work()
    write(4)
    dagster.work()
    assert Dataset("counts").to_arrow()["n"].to_pylist() == [3, 1]
    assert dagster.reported(routine_key("both"))[None]["also_read"] == "words up to v1"


@pytest.mark.live
def test_resources_reach_the_function(instance: DagsterInstance) -> None:
    def scaled(rows: Dataset, run: RoutineRun) -> Dataset:
        return rows.with_column("y", f"x * {run.resources['factor']}")

    dagster = Dagster(instance, replace(COPY, fn=scaled, resources=("factor",)), resources={"factor": 3})
    write(2)
    dagster.work()
    assert Dataset("copies").to_arrow()["y"].to_pylist() == [6]


def doubled(rows: Dataset) -> Dataset:
    return rows.with_column("y", "x * 2")


@pytest.mark.live
@pytest.mark.parametrize("compute", ["processes:2", "dask:2"])
def test_a_distributed_routine_has_its_rows_made_by_the_compute_resource(
    compute: str, instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAKEFEED_COMPUTE", compute)
    engines: list[object] = []
    real = ComputeResource.engine
    monkeypatch.setattr(ComputeResource, "engine", lambda self: (engines.append(real(self)), engines[-1])[1])
    dagster = Dagster(instance, replace(COPY, fn=doubled, distributed=True, coalesce=100))
    for value in range(5):
        write(value)
    dagster.work()
    write(7)
    dagster.work()
    assert Dataset("copies").to_arrow().to_pylist() == [{"x": x, "y": x * 2} for x in (0, 1, 2, 3, 4, 7)]
    assert engines == [Processes(2) if compute.startswith("processes") else Dask(workers=2)] * 2
    assert [version.version for version in Dataset("copies").list_versions()] == [2, 1]


TAGS = {"kind": "heavy", "dagster-k8s/config": '{"container_config": {"resources": {"limits": {"memory": "64Gi"}}}}'}


def test_settings_reach_dagster(instance: DagsterInstance) -> None:
    routine = replace(COPY, timeout=90, pool="gpu", tags=TAGS, owners=("team:vision",))
    dagster = Dagster(instance, routine)
    write(1)
    [request] = dagster.tick("routines")
    assert request.tags["dagster/max_runtime"] == "90"
    assert TAGS.items() <= request.tags.items()
    assert dagster.run(request).success
    node = dagster.definitions().get_repository_def().asset_graph.get(routine_key("copy"))
    assert (node.pools, node.owners, node.tags["kind"]) == ({"gpu"}, ("team:vision",), "heavy")
    assert "dagster-k8s/config" not in node.tags, "no label of an asset"


def test_a_routines_tags_do_not_take_the_place_of_the_sensors(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, tags={WORK_TAG: "mine", ASSET_PARTITION_RANGE_START_TAG: "v9"}))
    write(1)
    [request] = dagster.tick("routines")
    assert (request.tags[WORK_TAG], request.tags[ASSET_PARTITION_RANGE_START_TAG]) == ("routines/copy", "v1")


def test_a_failed_run_waits_before_it_is_tried_again(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(rows: Dataset) -> Dataset:
        raise ValueError("broken")

    dagster = Dagster(instance, replace(COPY, fn=broken, retries=1, backoff=1000))
    write(1)
    [request] = dagster.tick("routines")
    assert not dagster.run(request).success
    assert dagster.tick("routines") == []
    began = time.time()
    monkeypatch.setattr("sensors.run_requests.time.time", lambda: began + 1001)
    [request] = dagster.tick("routines")
    dagster.run(request)
    monkeypatch.setattr("sensors.run_requests.time.time", lambda: began + 100_000)
    assert dagster.tick("routines") == [], "given up until there is more"


@pytest.mark.live
def test_a_failure_blocks_no_other_routine_and_may_start_one(instance: DagsterInstance) -> None:
    def picky(rows: Dataset) -> Dataset:
        if rows.filter("x == 13").count():
            raise ValueError("unlucky")
        return rows

    alarm = Routine("alarm", same, "photos", "alarms", when=After("picky", "failure"))
    following = Routine("following", same, "photos", "followed", when=After("picky"))
    dagster = Dagster(instance, Routine("picky", picky, "photos", "picked", retries=0), COPY, alarm, following)
    for value in (1, 13, 3):
        write(value)
    dagster.work(success=False)
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 13, 3]
    assert Dataset("picked").to_arrow()["x"].to_pylist() == [1]
    assert Dataset("followed").to_arrow()["x"].to_pylist() == [1]
    assert set(Dataset("alarms").to_arrow()["x"].to_pylist()) <= {1, 13, 3}
    assert 13 in Dataset("alarms").to_arrow()["x"].to_pylist()


def test_a_routine_by_hand_reads_the_versions_it_is_given(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, when=Manual()))
    for value in range(1, 5):
        write(value)
    dagster.work()
    assert not Dataset.exists("copies")
    assert dagster.by_hand(routine_key("copy"), 2, 3).success
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [2, 3]


def test_a_clock_wakes_a_settled_routine(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, when=Every(0.5)))
    write(1)
    for _ in range(200):
        if dagster.tick("routines"):
            break
        time.sleep(0.05)
    assert dagster.asked


def test_routines_in_a_circle_load_and_come_to_rest(instance: DagsterInstance) -> None:
    ping = Routine("ping", same, "photos", "copies", max_depth=2)
    pong = Routine("pong", same, "copies", "photos", max_depth=2)
    dagster = Dagster(instance, ping, pong)
    write(1)
    dagster.work()
    assert Dataset("photos").count() <= 3
    node = dagster.definitions().get_repository_def().asset_graph.get(routine_key("ping"))
    assert "Feeds itself" in (node.description or "")


def test_waiting_rows_are_put_together(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, when=Appended(min_rows=3)))
    for value in (1, 2):
        write(value)
    dagster.work()
    assert not Dataset.exists("copies")
    write(3)
    dagster.work()
    assert [each.rows_in for each in history(COPY)] == [3]
    assert {facts["rows_in"] for facts in dagster.reported(routine_key("copy")).values()} == {3}


# ------------------------------------------------------------------ backfills


def test_a_backfill_of_what_is_done_repeats_nothing(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    for value in range(4):
        write(value)
    list(run_versions(COPY))
    dagster.work()
    assert dagster.by_hand(routine_key("copy"), 1, 4).success
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [0, 1, 2, 3]


def test_a_run_by_hand_is_not_taken_for_one_of_the_sensor(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, max_rows_per_run=1))
    write(1, 2, 3)
    dagster.tick("versions")
    dagster.by_hand(routine_key("copy"), 1, 1)
    assert Dataset("copies").count() == 3, "all of what was asked for, part by part"


def test_an_asset_with_a_run_under_way_is_left_alone(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    tags = {WORK_TAG: routine_key("copy").to_user_string()}
    create_run_for_test(instance, status=DagsterRunStatus.STARTING, tags=tags)
    assert dagster.tick("routines") == []
    instance.report_runless_asset_event(AssetMaterialization(PHOTOS, partition="v1"))
    assert dagster.tick("routines") == []


def only_even(row: dict[str, int]) -> dict[str, int]:
    if row["x"] % 2:
        raise ValueError("odd")
    return row


def test_the_number_of_failed_rows_is_shown(instance: DagsterInstance) -> None:
    even = replace(COPY, fn=lambda rows: rows.map(only_even, schema=rows.schema), on_error="quarantine")
    dagster = Dagster(instance, even)
    write(1, 2, 3, 4)
    dagster.work()
    [facts] = dagster.reported(routine_key("copy")).values()
    assert (facts["rows_failed"], facts["failed_rows_waiting"], facts["failed_rows_in"]) == (2, 2, "copies_errors")
