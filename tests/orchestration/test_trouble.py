"""The trouble of one table, partition or run is its own: all others tick, and what was mended is tried again."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from dagster import (
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    RunRequest,
    SensorDefinition,
    SkipReason,
    build_sensor_context,
)
from dagster._core.test_utils import create_run_for_test

from dataset_assets.asset_keys import dataset_key, key_of, routine_key
from dataset_assets.code_version import code_version
from dataset_assets.dataset import DatasetSpec
from dataset_assets.heartbeat import HEARTBEAT_TAG
from dataset_assets.ingestion import Ingestion, ingestion_trigger
from dataset_assets.run_tags import INTERRUPTED_TAG, WORK_TAG
from definitions import build_definitions
from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.checks import Custom, NotNull
from lakefeed.ingest import FolderSource
from lakefeed.profiles import Profile
from lakefeed.routines import Cron, Routine
from sensors.run_requests import MAX_ATTEMPTS
from tests.orchestration.daemon import Dagster, write

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]
PHOTOS = dataset_key("photos")


def same(rows: Dataset) -> Dataset:
    return rows


def broken(rows: Dataset) -> Dataset:
    raise ValueError("broken")


COPY = Routine("copy", same, "photos", "copies", backoff=0)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def hours_later(monkeypatch: pytest.MonkeyPatch, hours: float = 2) -> None:
    moment = time.time() + hours * 3_600
    for module in (
        "sensors.sensor_cursor",
        "sensors.run_requests",
        "sensors.versions_sensor",
        "dataset_assets.run_tags",
    ):
        monkeypatch.setattr(f"{module}.time.time", lambda: moment)


# ------------------------------------------------------------------ partitions that nobody made


def test_partitions_added_by_hand_stop_nothing(instance: DagsterInstance) -> None:
    keys = ["latest", "abc", "v", "v0", "v01", "1", "v１"]
    dagster = Dagster(instance, COPY)
    write(1)
    dagster.work()
    instance.add_dynamic_partitions("photos_versions", keys)
    write(2)
    write(3, to="others")
    dagster.work()
    assert list(dagster.partitions()) == ["v1", *keys, "v2"], "what a user added stays"
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2]
    assert set(dagster.reported(dataset_key("others"))) == {"v1"}
    assert {"v1", "v2"} <= set(dagster.reported(PHOTOS))
    assert dagster.by_hand(PHOTOS, 1, 2).success, "a range over it"
    assert dagster.by_hand(routine_key("copy"), 1, 2).success
    Dataset("photos").delete()
    dagster.work()
    assert list(dagster.partitions()) == keys


def test_a_run_of_a_partition_that_is_no_version_says_so(instance: DagsterInstance) -> None:
    write(1)
    dagster = Dagster(instance, COPY)
    instance.add_dynamic_partitions("photos_versions", ["latest"])
    for key in (PHOTOS, routine_key("copy")):
        done = (
            dagster.definitions()
            .resolve_implicit_global_asset_job_def()
            .execute_in_process(instance=instance, asset_selection=[key], partition_key="latest", raise_on_error=False)
        )
        [failure] = [event for event in done.all_events if event.is_step_failure]
        assert "partition 'latest'" in str(failure.event_specific_data)
        assert "names no version" in str(failure.event_specific_data)


# ------------------------------------------------------------------ damaged tables


def damage(name: str, kind: str) -> None:
    lake = Lake.current()
    location = Path(lake.heads()[name].removeprefix("file://"))
    lake.close()
    if kind == "missing":
        location.unlink()
    elif kind == "empty":
        location.write_text("")
    elif kind == "json":
        location.write_text('{"format-version": 2, "snapshots": 3}')
    elif kind == "bytes":
        location.write_bytes(bytes(range(256)))
    else:
        with sqlite3.connect(lake.settings.catalog_uri.removeprefix("sqlite:///")) as catalog:
            catalog.execute("UPDATE iceberg_tables SET metadata_location = ? WHERE table_name = ?", (kind, name))


DAMAGES = ["missing", "empty", "json", "bytes", "ftp://nowhere/x", "", "s3:", "relative/x.json", "file:///"]


def test_damaged_tables_stop_no_others(instance: DagsterInstance) -> None:
    bad = [f"bad{at}" for at in range(len(DAMAGES))]
    for name in bad:
        write(1, to=name)
    write(1)
    for name, kind in zip(bad, DAMAGES, strict=True):
        damage(name, kind)
    routines = [Routine(f"reads-{name}", same, name, f"{name}-copy") for name in bad]
    dagster = Dagster(instance, *routines, COPY)
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1]
    assert {"v1"} == set(dagster.reported(PHOTOS)) == set(dagster.reported(routine_key("copy")))


@pytest.mark.live
def test_a_sixty_fold_lake_with_damage_and_odd_names_ticks(instance: DagsterInstance) -> None:
    names = [f"d{at}" for at in range(48)] + ["a-b", "a_b", "t.a", "t_a", "t-a", "x2d", "a__b", "t.a-b", "t.a_b", "z-"]
    for name in [*names, "bad"]:
        write(1, to=name)
    damage("bad", "bytes")
    instance.add_dynamic_partitions("d7_versions", ["latest"])
    dagster = Dagster(instance, *(Routine(f"r-{at}", same, name, "all") for at, name in enumerate(names[40:])))
    requested = {request.asset_selection[0] for request in dagster.tick("versions") if request.asset_selection}
    while asked := dagster.tick("versions"):
        # As if the runs had ended: the most that are requested at a time is bounded.
        requested |= {request.asset_selection[0] for request in asked if request.asset_selection}
        for key in requested:
            instance.report_runless_asset_event(AssetMaterialization(key, partition="v1"))
    assert {*map(dataset_key, names)} <= requested
    assert len(dagster.tick("routines")) == len(names[40:])
    assert dagster.definitions().get_repository_def()


# ------------------------------------------------------------------ tried again


def give_up(dagster: Dagster, sensor: str) -> None:
    for _ in range(MAX_ATTEMPTS):
        for request in dagster.tick(sensor):
            assert not dagster.run(request).success
    assert dagster.tick(sensor) == []


def test_a_routine_whose_code_was_mended_is_tried_again(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, fn=broken))
    write(1)
    give_up(dagster, "routines")
    dagster.everything = (COPY,)
    [request] = dagster.tick("routines")
    assert dagster.run(request).success
    assert Dataset("copies").count() == 1


def test_a_check_whose_code_was_mended_is_tried_again(instance: DagsterInstance) -> None:
    def mended(rows: Dataset) -> bool:
        return True

    dagster = Dagster(instance, DatasetSpec("photos", checks=[Custom("mine", broken)]))
    write(1)
    give_up(dagster, "versions")
    dagster.everything = (DatasetSpec("photos", checks=[Custom("mine", mended)]),)
    dagster.work()
    assert dagster.reported(PHOTOS)["v1"]["checks_passed"]


@pytest.mark.parametrize("sensor", ["versions", "routines"])
def test_a_dataset_made_anew_is_processed_though_the_one_before_failed(instance: DagsterInstance, sensor: str) -> None:
    dagster = Dagster(instance, replace(COPY, fn=broken), DatasetSpec("photos", checks=[Custom("mine", broken)]))
    write(1)
    give_up(dagster, sensor)
    table = Lake.current().table("photos")
    table.catalog.drop_table(table.name())  # by another client: versions are numbered from 1 again
    write(2)
    assert Dataset("photos").version == 1
    assert len(dagster.tick(sensor)) == 1


def test_the_version_of_code_changes_with_the_code() -> None:
    def scaled(factor: int) -> Routine:
        return replace(COPY, fn=lambda rows: rows.with_column("y", f"x * {factor}"))

    @dataclass(frozen=True)
    class Own:
        least: int
        name: str = "own"
        blocking: bool = True

        def check(self, profile: Profile) -> bool:
            return profile.rows > self.least

    versions = [
        *map(code_version, [COPY, replace(COPY, fn=broken), scaled(1), scaled(2), replace(COPY, retries=5)]),
        *map(code_version, [Own(1), Own(2), NotNull("a"), NotNull("b"), Custom("a", same), Custom("a", broken)]),
    ]
    assert len(set(versions)) == len(versions)
    assert code_version(scaled(2)) == code_version(scaled(2))
    assert code_version(Own(1)) == code_version(Own(1))


def test_the_version_of_code_changes_with_a_helper_of_the_project(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    (tmp_path / "declared_here.py").write_text("import helper_of_it\ndef fn(rows): return helper_of_it.mend(rows)\n")
    (tmp_path / "helper_of_it.py").write_text("def mend(rows): return rows\n")
    from declared_here import fn  # type: ignore[import-not-found]

    before = code_version(fn)
    assert code_version(fn) == before
    (tmp_path / "helper_of_it.py").write_text("def mend(rows): return rows.head(1)\n")
    assert code_version(fn) != before


# ------------------------------------------------------------------ canceled


@pytest.mark.parametrize(("sensor", "status"), [("versions", "CANCELED"), ("routines", "CANCELED")])
def test_a_canceled_run_is_not_requested_again_at_once(
    instance: DagsterInstance, sensor: str, status: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    [request] = dagster.tick(sensor)
    create_run_for_test(instance, status=DagsterRunStatus[status], tags=dict(request.tags))
    assert dagster.tick(sensor) == []
    write(2)
    assert dagster.tick(sensor) == [], "nor for what comes just after it"
    hours_later(monkeypatch)
    assert len(dagster.tick(sensor)) == 1


def test_a_run_that_was_interrupted_is_requested_again_at_once(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    [request] = dagster.tick("routines")
    tags = {**request.tags, INTERRUPTED_TAG: "KeyboardInterrupt"}
    create_run_for_test(instance, status=DagsterRunStatus.CANCELED, tags=tags)
    assert len(dagster.tick("routines")) == 1


def test_a_canceled_run_of_code_that_was_mended_is_requested_again_at_once(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, replace(COPY, fn=broken))
    write(1)
    [request] = dagster.tick("routines")
    create_run_for_test(instance, status=DagsterRunStatus.CANCELED, tags=dict(request.tags))
    dagster.everything = (COPY,)
    assert len(dagster.tick("routines")) == 1


def test_arrivals_wait_after_a_run_was_canceled(instance: DagsterInstance, home: Path) -> None:
    declared = Ingestion(FolderSource("photos", "photos", "inbox", "*.csv", settle=0), arrival_seconds=2)
    sensor = ingestion_trigger(declared)
    assert isinstance(sensor, SensorDefinition)
    (home / "inbox").mkdir(parents=True)
    (home / "inbox" / "a.csv").write_text("x\n1\n")
    with build_sensor_context(instance) as context:
        request = sensor(context)
        assert isinstance(request, RunRequest)
        create_run_for_test(instance, status=DagsterRunStatus.CANCELED, tags=dict(request.tags))
        assert isinstance(sensor(context), SkipReason)


def test_an_odd_tag_of_a_run_stops_nothing(instance: DagsterInstance) -> None:
    tags = {HEARTBEAT_TAG: "soon", WORK_TAG: "datasets/others", "dagster/asset_partition_range_start": "latest"}
    create_run_for_test(instance, status=DagsterRunStatus.STARTED, tags=tags)
    dagster = Dagster(instance, COPY)
    write(1)
    dagster.work()
    assert set(dagster.reported(PHOTOS)) == {"v1"}


# ------------------------------------------------------------------ wiped


def wipe(instance: DagsterInstance, key: AssetKey, how: str) -> None:
    if how == "asset":
        instance.wipe_assets([key])
    else:  # reported by a user, without the results of checks
        instance.wipe_assets([key])
        instance.report_runless_asset_event(AssetMaterialization(key, partition=key_of(1)))


@pytest.mark.parametrize("how", ["asset", pytest.param("bare", marks=pytest.mark.live)])
def test_a_routine_for_checked_versions_does_not_wait_for_wiped_records(
    instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    asleep = Cron("0 0 1 1 *")
    dagster = Dagster(instance, replace(COPY, only_checked=True, when=asleep))
    write(1)
    dagster.work()
    wipe(instance, PHOTOS, how)
    dagster.everything = (replace(COPY, only_checked=True),)
    hours_later(monkeypatch)
    dagster.work()
    assert Dataset("copies").count() == 1
    assert dagster.reported(PHOTOS)["v1"]["blocking_checks_passed"]


def test_wiped_records_are_made_again(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    dagster = Dagster(instance)
    write(1)
    dagster.work()
    instance.wipe_assets([PHOTOS])
    assert dagster.tick("versions") == []
    hours_later(monkeypatch)
    dagster.work()
    assert set(dagster.reported(PHOTOS)) == {"v1"}


# ------------------------------------------------------------------ renamed


def test_a_renamed_routine_doubles_nothing(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    dagster.work()
    dagster.everything = (replace(COPY, name="duplicate"),)
    dagster.work()
    assert not dagster.by_hand(routine_key("duplicate"), 1).success
    assert Dataset("copies").count() == 1
    dagster.everything = (replace(COPY, name="duplicate", formerly="copy"),)
    write(2)
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2]
    assert set(dagster.reported(routine_key("duplicate"))) == {"v1", "v2"}


def test_two_declared_routines_may_append_to_one_output(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY, replace(COPY, name="again"))
    write(1)
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 1]
    renamed = replace(COPY, name="renamed", formerly="copy")
    broken_keys = {
        key.to_user_string()
        for key in build_definitions([COPY, renamed]).get_repository_def().asset_graph.get_all_asset_keys()
        if key.path[0] == "broken"
    }
    assert broken_keys == {"broken/routine_renamed"}
