"""Datasets as assets: declared or merely there, made anew, rolled back, gone; their checks; what routines may have."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from threading import Thread
from typing import Any

import pytest
from dagster import (
    AssetCheckSeverity,
    AssetKey,
    AssetMaterialization,
    DagsterInstance,
    DagsterRunStatus,
    ExecuteInProcessResult,
    RunRequest,
    SensorResult,
    build_sensor_context,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from dagster._core.test_utils import create_run_for_test

from dataset_assets.dataset import DatasetSpec
from dataset_assets.definitions import Declared, definitions, in_catalog
from dataset_assets.partitions import dataset_key, key_of, routine_key
from dataset_assets.work import WORK_TAG
from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.checks import Custom, InRange, NotNull
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines import After, Appended, ByHand, Every, Routine, RoutineRun, history, run_versions
from resources.catalog import CatalogResource
from resources.reload import URL_VARIABLE, ReloadResource, reload_location
from sensors.routines import routines_sensor
from sensors.versions import versions_sensor

pytestmark = pytest.mark.usefixtures("lake")
PHOTOS = dataset_key("photos")


def same(rows: Dataset) -> Dataset:
    return rows


COPY = Routine("copy", same, "photos", "copies")
CHECKS = DatasetSpec("photos", checks=[NotNull("x"), InRange("x", 0, 100, blocking=False)])


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def write(*values: int | None, to: str = "photos") -> None:
    rows = Dataset.from_dict({"x": list(values)})
    if Dataset.exists(to):
        rows.append_to(to)
    else:
        rows.save(to)


class Dagster:
    """The sensors and the runs they ask for, in this process: what the daemon does."""

    def __init__(
        self, instance: DagsterInstance, *everything: Declared, resources: dict[str, Any] | None = None
    ) -> None:
        self.instance = instance
        self.everything, self.resources = everything, resources
        self.cursors: dict[str, str | None] = {}
        self.asked: list[RunRequest] = []

    def tick(self, which: str) -> list[RunRequest]:
        found = in_catalog()
        routines = [each for each in self.everything if isinstance(each, Routine)]
        names = {*found, "photos", "copies"}
        sensor = routines_sensor(routines) if which == "routines" else versions_sensor(sorted(names), found)
        with build_sensor_context(
            self.instance, definitions=self.definitions(), cursor=self.cursors.get(which)
        ) as context:
            given = {"catalog": CatalogResource(), "reload": ReloadResource()}
            result = sensor(context, **{name: given[name] for name in sensor.required_resource_keys})
        assert isinstance(result, SensorResult)
        self.cursors[which] = result.cursor
        for request in result.dynamic_partitions_requests or []:
            if type(request).__name__.startswith("Delete"):
                for key in request.partition_keys:
                    self.instance.delete_dynamic_partition(request.partitions_def_name, key)
            else:
                self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        self.asked += result.run_requests or []
        return list(result.run_requests or [])

    def work(self, success: bool = True) -> None:
        """Ticks and runs until nothing is asked for."""
        for _ in range(50):
            asked = [*self.tick("versions"), *self.tick("routines")]
            if not asked:
                return
            for request in asked:
                done = self.run(request)
                assert done.success or not success
        raise AssertionError("it never comes to rest")

    def run(self, request: RunRequest) -> ExecuteInProcessResult:
        job = self.definitions().resolve_implicit_global_asset_job_def()
        return job.execute_in_process(
            instance=self.instance,
            asset_selection=list(request.asset_selection or []),
            tags=dict(request.tags),
            raise_on_error=False,
        )

    def by_hand(self, key: AssetKey, *versions: int) -> ExecuteInProcessResult:
        ends = {
            ASSET_PARTITION_RANGE_START_TAG: key_of(versions[0]),
            ASSET_PARTITION_RANGE_END_TAG: key_of(versions[-1]),
        }
        return self.run(RunRequest(asset_selection=[key], tags=ends))

    def definitions(self) -> Any:
        return definitions(self.everything, in_catalog(), self.resources)

    def reported(self, key: AssetKey) -> dict[str | None, dict[str, Any]]:
        found = reversed(self.instance.fetch_materializations(key, limit=100).records)
        return {
            record.partition_key: {name: value.value for name, value in record.asset_materialization.metadata.items()}
            for record in found
            if record.asset_materialization
        }

    def partitions(self, name: str = "photos") -> Sequence[str]:
        return self.instance.get_dynamic_partitions(f"{name}_versions")


# ------------------------------------------------------------------ found, made anew, rolled back, gone


def test_a_dataset_that_nobody_declares_is_an_asset(instance: DagsterInstance) -> None:
    write(1, to="stray")
    dagster = Dagster(instance)
    dagster.work()
    assert set(dagster.reported(dataset_key("stray"))) == {"v1"}


def test_a_new_dataset_asks_for_a_reload(instance: DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(ReloadResource, "request", lambda self: bool(asked.append(1)) or True)
    sensor, cursor = versions_sensor(["photos"]), None
    for _ in range(3):
        with build_sensor_context(instance, cursor=cursor) as context:
            result = sensor(context, catalog=CatalogResource(), reload=ReloadResource())
        cursor = result.cursor
        write(1, to="stray")
    assert len(asked) == 1


def test_the_reload_is_a_request_to_the_webserver(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[dict[str, Any]] = []

    class Answering(BaseHTTPRequestHandler):
        def do_POST(self) -> None:  # its name in the library
            seen.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            kind = "WorkspaceLocationEntry" if len(seen) == 1 else "RepositoryLocationNotFound"
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": {"reloadRepositoryLocation": {"__typename": kind}}}).encode())

        def log_message(self, *args: Any) -> None: ...

    with HTTPServer(("127.0.0.1", 0), Answering) as server:
        serving = Thread(target=server.serve_forever)
        serving.start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            reload_location(url)
            with pytest.raises(OSError, match="did not reload"):
                reload_location(url)
        finally:
            server.shutdown()
            serving.join()
    assert seen[0]["variables"] == {"name": "lakefeed"}
    monkeypatch.delenv(URL_VARIABLE, raising=False)
    assert not ReloadResource().request()


def test_a_deleted_dataset_leaves_nothing_behind(instance: DagsterInstance) -> None:
    write(1)
    write(2, to="kept")
    dagster = Dagster(instance)
    dagster.work()
    Dataset("photos").delete()
    dagster.work()
    assert (dagster.partitions(), dagster.reported(PHOTOS)) == ([], {})
    assert set(dagster.reported(dataset_key("kept"))) == {"v1"}


def test_a_renamed_dataset_appears_under_its_new_name(instance: DagsterInstance) -> None:
    write(1)
    dagster = Dagster(instance)
    dagster.work()
    Lake.current().catalog.rename_table(("default", "photos"), ("default", "pictures"))
    dagster.work()
    assert dagster.partitions() == []
    assert set(dagster.reported(dataset_key("pictures"))) == {"v1"}


def test_a_dataset_made_anew_starts_anew(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    for value in (1, 2, 3):
        write(value)
    dagster.work()
    Dataset("photos").delete()
    write(40, 50)
    dagster.work()
    assert dagster.partitions() == ["v1"]
    assert {key: facts["rows_added"] for key, facts in dagster.reported(PHOTOS).items()} == {"v1": 2}
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3, 40, 50]


def test_a_version_that_was_rolled_back_loses_its_partition(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    write(2)
    dagster.work()
    table = Lake.current().table("photos")
    table.manage_snapshots().set_current_snapshot(snapshot_id=table.snapshots()[0].snapshot_id).commit()
    dagster.work()
    assert dagster.partitions() == ["v1"]
    write(3)
    dagster.work()
    assert dagster.partitions() == ["v1", "v3"]
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3]


def test_overwrites_by_another_client_are_read_by_what_they_brought(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1, 2, 3)
    dagster.work()
    table = Lake.current().table("photos")
    table.delete("x < 2")  # writes the file of the other rows again
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3]
    table.refresh().overwrite(Dataset.from_dict({"x": [3, 4]}).to_arrow())  # a delete and an append: two versions
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3, 3, 4]
    newest = key_of(Dataset("photos").version)
    assert dagster.reported(PHOTOS)[newest]["checks_passed"]


def test_lost_cursors_lose_and_repeat_nothing(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    dagster.work()
    dagster.cursors = {"versions": "nonsense", "routines": None}
    asked = len(dagster.asked)
    dagster.work()
    assert len(dagster.asked) == asked
    write(2)
    dagster.work()
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2]


# ------------------------------------------------------------------ declared


def test_what_is_declared_is_shown(instance: DagsterInstance) -> None:
    spec = DatasetSpec(
        "photos",
        description="Of the yard.",
        owners=["team:vision"],
        tags={"domain": "yard"},
        freshness=3600,
        columns={"x": "How many."},
        upstreams=["raw"],
        lineage={"x": ["raw.y"]},
    )
    write(1)
    dagster = Dagster(instance, spec)
    graph = dagster.definitions().get_repository_def().asset_graph
    node = graph.get(PHOTOS)
    assert (node.description, list(node.owners), node.tags["domain"]) == ("Of the yard.", ["team:vision"], "yard")
    assert {key.to_user_string() for key in node.parent_keys} == {"datasets/raw"}
    assert node.freshness_policy is not None
    dagster.work()
    facts = dagster.reported(PHOTOS)["v1"]
    assert facts["dagster/column_schema"].columns[0].description == "How many."
    assert facts["dagster/column_lineage"].deps_by_column["x"][0].column_name == "y"


def test_checks_are_asset_checks_that_block_or_warn(instance: DagsterInstance) -> None:
    write(1)
    write(None, 200)
    dagster = Dagster(instance, CHECKS)
    [request] = dagster.tick("versions")
    said = {each.check_name: each for each in dagster.run(request).get_asset_check_evaluations()}
    assert {name: each.passed for name, each in said.items()} == {
        "readable": True,
        "files": True,
        "nulls": False,
        "range": False,
    }
    assert said["nulls"].severity is AssetCheckSeverity.ERROR
    assert said["range"].severity is AssetCheckSeverity.WARN
    assert said["nulls"].metadata["problems"].value == "v2: 'x': 50.0% null"
    facts = dagster.reported(PHOTOS)
    assert (facts["v1"]["checks_passed"], facts["v2"]["checks_passed"]) == (True, False)
    assert facts["v2"]["checks_failed"] == "nulls, range"


def test_two_checks_of_one_name_are_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="'readable'"):
        DatasetSpec("photos", checks=[Custom("readable", lambda rows: True)])


# ------------------------------------------------------------------ routines


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


def test_resources_reach_the_function(instance: DagsterInstance) -> None:
    def scaled(rows: Dataset, run: RoutineRun) -> Dataset:
        return rows.with_column("y", f"x * {run.resources['factor']}")

    dagster = Dagster(instance, replace(COPY, fn=scaled, resources=("factor",)), resources={"factor": 3})
    write(2)
    dagster.work()
    assert Dataset("copies").to_arrow()["y"].to_pylist() == [6]


def test_settings_reach_dagster(instance: DagsterInstance) -> None:
    routine = replace(COPY, timeout=90, pool="gpu", tags={"kind": "heavy"}, owners=("team:vision",))
    dagster = Dagster(instance, routine)
    write(1)
    [request] = dagster.tick("routines")
    assert request.tags["dagster/max_runtime"] == "90"
    node = dagster.definitions().get_repository_def().asset_graph.get(routine_key("copy"))
    assert (node.pools, node.owners, node.tags["kind"]) == ({"gpu"}, ("team:vision",), "heavy")


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
    monkeypatch.setattr("sensors.runs.time.time", lambda: began + 1001)
    [request] = dagster.tick("routines")
    dagster.run(request)
    monkeypatch.setattr("sensors.runs.time.time", lambda: began + 100_000)
    assert dagster.tick("routines") == [], "given up until there is more"


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
    dagster = Dagster(instance, replace(COPY, when=ByHand()))
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
