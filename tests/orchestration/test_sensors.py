"""Sensors: any writer's versions become partitions and runs, once, whatever was interrupted."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterEvent,
    DagsterEventType,
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    SensorDefinition,
    SensorResult,
    build_sensor_context,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import create_run_for_test

from dataset_assets.asset_keys import dataset_key, key_of, routine_key
from dataset_assets.heartbeat import HEARTBEAT_TAG
from dataset_assets.run_tags import RANGE_TAG, WORK_TAG
from definitions import build_definitions, catalog_datasets
from lakefeed import Dataset
from lakefeed.routines import Routine, run_routine
from resources.catalog_resource import CatalogResource
from resources.reload_resource import ReloadResource
from sensors.routines_sensor import routines_sensor
from sensors.run_requests import DEAD_AFTER_SECONDS, MAX_ATTEMPTS
from sensors.versions_sensor import versions_sensor

pytestmark = pytest.mark.usefixtures("lake")
PHOTOS = dataset_key("photos")
COPY = Routine("copy", lambda rows: rows, "photos", "copies")
VERSIONS, ROUTINES = versions_sensor(["photos", "copies"]), routines_sensor([COPY])


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def write(versions: int = 1) -> None:
    for _ in range(versions):
        rows = Dataset.from_dict({"x": [1, 2]})
        if Dataset.exists("photos"):
            rows.append_to("photos")
        else:
            rows.save("photos")


def tick(sensor: SensorDefinition, instance: DagsterInstance) -> SensorResult:
    """One tick, of which only the partitions are applied, as if Dagster died before the runs."""
    with build_sensor_context(instance=instance, definitions=build_definitions([COPY])) as context:
        given = {"catalog": CatalogResource(), "reload": ReloadResource()}
        result = sensor(context, **{name: given[name] for name in sensor.required_resource_keys})
    assert isinstance(result, SensorResult)
    for request in result.dynamic_partitions_requests or []:
        instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
    return result


def ranges(result: SensorResult) -> list[tuple[str, str, str]]:
    return [
        (
            run.asset_selection[0].to_user_string(),
            run.tags[ASSET_PARTITION_RANGE_START_TAG],
            run.tags[ASSET_PARTITION_RANGE_END_TAG],
        )
        for run in result.run_requests or []
        if run.asset_selection
    ]


def report(instance: DagsterInstance, key: AssetKey, *versions: int) -> None:
    for version in versions:
        instance.report_runless_asset_event(AssetMaterialization(key, partition=key_of(version)))


def started(instance: DagsterInstance, request: RunRequest, status: DagsterRunStatus, **tags: str) -> None:
    create_run_for_test(instance, status=status, tags={**request.tags, **tags})


def fail(instance: DagsterInstance, request: RunRequest) -> None:
    run = create_run_for_test(instance, status=DagsterRunStatus.STARTING, tags=request.tags)
    instance.report_dagster_event(DagsterEvent(DagsterEventType.RUN_START.value, run.job_name), run.run_id)
    instance.report_run_failed(run)


def test_a_dataset_that_does_not_exist_yet_is_quiet(instance: DagsterInstance) -> None:
    assert ranges(tick(VERSIONS, instance)) == ranges(tick(ROUTINES, instance)) == []


def test_new_versions_become_partitions_in_order_and_one_run(instance: DagsterInstance) -> None:
    write(11)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v1", "v11")]
    assert instance.get_dynamic_partitions("photos_versions") == [key_of(n) for n in range(1, 12)]


def test_a_tick_repeated_after_a_crash_asks_for_the_same_run(instance: DagsterInstance) -> None:
    write(2)
    first, again = tick(VERSIONS, instance), tick(VERSIONS, instance)
    assert first.run_requests
    assert again.run_requests
    assert [run.run_key for run in first.run_requests] == [run.run_key for run in again.run_requests]
    assert instance.get_dynamic_partitions("photos_versions") == ["v1", "v2"]


def test_what_is_materialized_is_not_asked_for(instance: DagsterInstance) -> None:
    write(2)
    report(instance, PHOTOS, 1, 2)
    assert ranges(tick(VERSIONS, instance)) == []
    write()
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v3", "v3")]


def test_a_gap_is_closed_before_later_versions(instance: DagsterInstance) -> None:
    write(4)
    report(instance, PHOTOS, 2)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v1", "v1")]
    report(instance, PHOTOS, 1)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v3", "v4")]


def test_a_tick_is_bounded(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sensors.run_requests.VERSIONS_PER_TICK", 3)
    write(5)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v1", "v3")]
    report(instance, PHOTOS, 1, 2, 3)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v4", "v5")]


@pytest.mark.parametrize("status", [DagsterRunStatus.NOT_STARTED, DagsterRunStatus.STARTING, DagsterRunStatus.STARTED])
def test_one_run_at_a_time_for_an_asset(instance: DagsterInstance, status: DagsterRunStatus) -> None:
    write()
    [request] = tick(VERSIONS, instance).run_requests or []
    started(instance, request, status, **{HEARTBEAT_TAG: f"{time.time():.0f}"})
    write()
    assert ranges(tick(VERSIONS, instance)) == []


def test_a_dead_run_is_closed_and_replaced(instance: DagsterInstance) -> None:
    write()
    [request] = tick(VERSIONS, instance).run_requests or []
    long_ago = time.time() - 2 * DEAD_AFTER_SECONDS
    started(instance, request, DagsterRunStatus.STARTED, **{HEARTBEAT_TAG: f"{long_ago:.0f}"})
    [replacement] = tick(VERSIONS, instance).run_requests or []
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.CANCELED}
    assert replacement.run_key != request.run_key


def test_runs_of_others_are_left_alone(instance: DagsterInstance) -> None:
    create_run_for_test(instance, status=DagsterRunStatus.STARTED)
    tick(VERSIONS, instance)
    assert {run.status for run in instance.get_runs()} == {DagsterRunStatus.STARTED}


def test_a_range_that_keeps_failing_is_given_up_until_there_is_more(instance: DagsterInstance) -> None:
    write()
    keys = []
    for _ in range(MAX_ATTEMPTS):
        [request] = tick(VERSIONS, instance).run_requests or []
        keys.append(request.run_key)
        fail(instance, request)
    assert len(set(keys)) == MAX_ATTEMPTS
    assert ranges(tick(VERSIONS, instance)) == []
    write()
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v1", "v2")]


def test_runs_that_never_began_do_not_count_as_attempts(instance: DagsterInstance) -> None:
    write()
    for _ in range(MAX_ATTEMPTS + 1):
        [request] = tick(VERSIONS, instance).run_requests or []
        started(instance, request, DagsterRunStatus.FAILURE)


def test_a_routine_is_started_for_what_it_has_not_read(instance: DagsterInstance) -> None:
    write(2)
    result = tick(ROUTINES, instance)
    assert ranges(result) == [("routines/copy", "v1", "v2")]
    assert instance.get_dynamic_partitions("photos_versions") == ["v1", "v2"]
    [request] = result.run_requests or []
    assert (request.tags[WORK_TAG], request.tags[RANGE_TAG]) == ("routines/copy", "routines/copy:v1..v2")


def test_what_was_read_but_never_reported_is_reported(instance: DagsterInstance) -> None:
    write(2)
    run_routine(COPY)
    assert ranges(tick(ROUTINES, instance)) == [("routines/copy", "v1", "v2")]
    report(instance, routine_key("copy"), 1, 2)
    assert ranges(tick(ROUTINES, instance)) == []


def test_the_position_decides_and_not_what_dagster_remembers(instance: DagsterInstance) -> None:
    write(2)
    report(instance, routine_key("copy"), 1, 2)
    assert ranges(tick(ROUTINES, instance)) == [("routines/copy", "v1", "v2")]


def test_the_output_of_a_routine_is_a_dataset_like_any(instance: DagsterInstance) -> None:
    write()
    run_routine(COPY)
    assert ranges(tick(VERSIONS, instance)) == [("datasets/photos", "v1", "v1"), ("datasets/copies", "v1", "v1")]


def test_the_trouble_of_one_routine_does_not_stop_the_others(instance: DagsterInstance) -> None:
    write()
    run_routine(COPY)
    Dataset("photos").delete()
    write()
    other, stops = Routine("other", COPY.fn, "photos", "others"), replace(COPY, on_remade="stop")
    assert ranges(tick(routines_sensor([stops, other]), instance)) == [("routines/other", "v2", "v2")]


def test_a_damaged_dataset_does_not_stop_the_others(instance: DagsterInstance) -> None:
    write()
    Dataset.from_dict({"x": [1]}).save("bad")
    lake = CatalogResource().lake()
    Path(lake.heads()["bad"].removeprefix("file://")).unlink()
    lake.close()
    assert {"bad", "photos"} <= set(catalog_datasets())
    reads_bad = Routine("reads_bad", COPY.fn, "bad", "others")
    assert ranges(tick(versions_sensor(["bad", "photos"]), instance)) == [("datasets/photos", "v1", "v1")]
    assert ranges(tick(routines_sensor([reads_bad, COPY]), instance)) == [("routines/copy", "v1", "v1")]
