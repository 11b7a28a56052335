"""Datasets as assets: declared or merely there, made anew, rolled back, gone; and their checks."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pyarrow as pa
import pytest
from dagster import AssetCheckSeverity, DagsterInstance, build_sensor_context

from dataset_assets.asset_keys import dataset_key, key_of
from dataset_assets.dataset import DatasetSpec
from lakefeed import Dataset, Table
from lakefeed.catalog import Lake
from lakefeed.checks import Custom, InRange, NotNull
from lakefeed.errors import InvalidArgumentError
from lakefeed.routines import Routine
from resources.catalog_resource import CatalogResource
from resources.reload_resource import URL_VARIABLE, ReloadResource, reload_location
from sensors.run_requests import MAX_ATTEMPTS
from sensors.versions_sensor import versions_sensor
from tests.orchestration.daemon import Dagster, write

pytestmark = pytest.mark.usefixtures("lake")
PHOTOS = dataset_key("photos")
COPY = Routine("copy", lambda rows: rows, "photos", "copies")
CHECKS = DatasetSpec("photos", checks=[NotNull("x"), InRange("x", 0, 100, blocking=False)])


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


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


@pytest.mark.live
def test_a_dataset_made_anew_starts_anew(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    for value in (1, 2, 3):
        write(value)
    dagster.work()
    Dataset("photos").delete()
    write(40, 50)
    dagster.work()
    assert dagster.partitions() == ["v4"]
    assert {key: facts["rows_added"] for key, facts in dagster.reported(PHOTOS).items()} == {"v4": 2}
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3, 40, 50]


@pytest.mark.live
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


@pytest.mark.live
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


@pytest.mark.live
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


@pytest.mark.live
def test_an_outage_during_a_check_is_no_verdict_and_the_check_is_tried_again(
    instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(name.encode())
    rows = [Dataset.from_dict({"x": [str(tmp_path / name)]}).with_column_types({"x": "file"}) for name in ("a", "b")]
    rows[0].save("photos")
    checked = Routine("copy", lambda rows: rows, "photos", "copies", only_checked=True)
    dagster = Dagster(instance, checked)
    dagster.work()
    rows[1].append_to("photos")
    store = Path(Lake.current().blobs.url.removeprefix("file://"))
    store.rename(store.with_name("aside"))
    for _ in range(MAX_ATTEMPTS + 1):
        monkeypatch.setattr("sensors.run_requests.OUTAGE_BACKOFF_SECONDS", 0.0)  # as if the wait was over
        [request] = dagster.tick("versions")
        assert not dagster.run(request).success
        monkeypatch.setattr("sensors.run_requests.OUTAGE_BACKOFF_SECONDS", 60.0)
        assert dagster.tick("versions") == dagster.tick("routines") == []
        assert set(dagster.reported(PHOTOS)) == {"v1"}
    store.with_name("aside").rename(store)
    monkeypatch.setattr("sensors.run_requests.OUTAGE_BACKOFF_SECONDS", 0.0)
    dagster.work()
    assert dagster.reported(PHOTOS)["v2"]["checks_passed"] is True
    assert Dataset("copies").count() == 2


@pytest.mark.live
def test_a_version_that_expired_in_the_middle_keeps_its_partition(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    for value in (1, 2):
        write(value)
    dagster.work()
    for value in (3, 4):
        write(value)
    table = Lake.current().table("photos")
    table.maintenance.expire_snapshots().by_ids([s.snapshot_id for s in table.metadata.snapshots[1:3]]).commit()
    dagster.work()
    assert list(dagster.partitions()) == ["v1", "v2", "v4"]
    assert dagster.reported(PHOTOS)["v4"]["checks_passed"] is True
    assert sorted(Dataset("copies").to_arrow()["x"].to_pylist()) == [1, 2, 3, 4]


@pytest.mark.live
def test_versions_of_a_keyed_table_are_partitions(instance: DagsterInstance) -> None:
    table = Table.create("keyed", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "x": [1.0, 2.0]})
    table.write({"id": [2], "x": [20.0]})
    dagster = Dagster(instance)
    dagster.work()
    assert set(dagster.reported(dataset_key("keyed"))) == {"v1", "v2", "v3"}
    table.write({"id": [3, 4, 5, 6], "x": [3.0, 4.0, 5.0, 6.0]})
    table.delete_keys([3])
    table.compact()
    dagster.work()
    assert set(dagster.reported(dataset_key("keyed"))) == {f"v{number}" for number in range(1, 7)}
