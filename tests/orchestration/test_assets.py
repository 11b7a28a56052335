"""The assets: what a run does, and what it says about each version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from dagster import (
    AssetKey,
    DagsterInstance,
    ExecuteInProcessResult,
    RunRequest,
    ScheduleDefinition,
    SensorDefinition,
    SkipReason,
    build_schedule_context,
    build_sensor_context,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG
from PIL import Image

from dataset_assets.asset_keys import dataset_key, ingest_key, key_of, routine_key
from dataset_assets.heartbeat import HEARTBEAT_TAG
from dataset_assets.ingestion import FolderIngestion, Ingestion, as_ingestion, ingestion_trigger
from definitions import build_definitions
from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.ingest import FolderSource
from lakefeed.routines import Routine, history, pending, run_routine
from tests.sdk.media.recorded import make_video

pytestmark = pytest.mark.usefixtures("lake")
COPY = Routine("copy", lambda rows: rows, "photos", "copies")
INBOX = FolderIngestion("photos", into="photos", folder="inbox", pattern="*.csv", settle=0)


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def write(*values: int, **columns: list[Any]) -> None:
    rows = Dataset.from_dict({"x": list(values), **columns})
    if Dataset.exists("photos"):
        rows.append_to("photos")
    else:
        rows.save("photos")


def run(instance: DagsterInstance, key: AssetKey, *versions: int, success: bool = True) -> ExecuteInProcessResult:
    """A run of one asset over a range of versions, as the sensors request it."""
    source = "copies" if key == dataset_key("copies") else "photos"
    instance.add_dynamic_partitions(f"{source}_versions", [key_of(n) for n in range(1, max(versions, default=0) + 1)])
    tags = {}
    if versions:
        tags = {
            ASSET_PARTITION_RANGE_START_TAG: key_of(versions[0]),
            ASSET_PARTITION_RANGE_END_TAG: key_of(versions[-1]),
        }
    job = build_definitions([COPY, INBOX]).resolve_implicit_global_asset_job_def()
    done = job.execute_in_process(instance=instance, asset_selection=[key], tags=tags, raise_on_error=success)
    assert done.success == success
    return done


def reported(instance: DagsterInstance, key: AssetKey) -> dict[str | None, dict[str, Any]]:
    """The metadata of the newest materialization of each partition."""
    found = reversed(instance.fetch_materializations(key, limit=50).records)
    return {
        record.partition_key: {name: value.value for name, value in record.asset_materialization.metadata.items()}
        for record in found
        if record.asset_materialization
    }


def test_a_range_of_versions_is_profiled_each_with_its_own_facts(instance: DagsterInstance) -> None:
    write(1, 2)
    write(3)
    write(4, 5, 6)
    run(instance, dataset_key("photos"), 1, 2, 3)
    found = reported(instance, dataset_key("photos"))
    assert {key: (facts["rows_added"], facts["rows_total"]) for key, facts in found.items()} == {
        "v1": (2, 2),
        "v2": (1, 3),
        "v3": (3, 6),
    }


def test_the_facts_of_a_version(instance: DagsterInstance) -> None:
    write(1, 2, word=["a", None])
    run(instance, dataset_key("photos"), 1)
    facts = reported(instance, dataset_key("photos"))["v1"]
    [version] = Dataset("photos").list_versions()
    assert facts["snapshot_id"] == str(version.snapshot_id)
    assert facts["operation"] == "append"
    assert version.user is not None
    assert version.user in facts["written_by"]
    assert [(column.name, column.type) for column in facts["dagster/column_schema"].columns] == [
        ("x", "int64"),
        ("word", "string"),
    ]
    statistics = {record.data["column"]: record.data for record in facts["statistics"].records}
    shown = {"nulls": 0, "values": 2, "distinct": "2", "min": "1", "max": "2", "mean": "1.5", "50%": "1.5"}
    assert shown.items() <= statistics["x"].items()
    shown = {"nulls": 1, "values": 1, "distinct": "1", "min": "a", "max": "a", "mean": "", "50%": ""}
    assert shown.items() <= statistics["word"].items()
    assert (facts["mean/x"], facts["null_share/word"], facts["dagster/row_count"]) == (1.5, 0.5, 2)
    assert facts["bytes_total"] == facts["bytes_added"] > 0
    assert (facts["schema_changes"], facts["checks_passed"], facts["checks_failed"]) == ("none", True, "")
    assert "| 1 | a |" in facts["preview"]


def test_images_show_as_thumbnails(instance: DagsterInstance, tmp_path: Path) -> None:
    Image.new("L", (20, 10)).save(tmp_path / "one.png")
    write(1, image=[str(tmp_path / "one.png")])
    run(instance, dataset_key("photos"), 1)
    facts = reported(instance, dataset_key("photos"))["v1"]
    assert facts["thumbnails_image"].startswith("![](data:image/png;base64,")
    assert "data:image/png;base64," in facts["preview"]


def test_the_statistics_of_images_are_their_sizes(instance: DagsterInstance, tmp_path: Path) -> None:
    paths: list[Any] = []
    for width in (10, 20, 40):
        paths.append(str(tmp_path / f"{width}.png"))
        Image.new("L", (width, 8)).save(paths[-1])
    (tmp_path / "broken.png").write_bytes(b"no image")
    rows = Dataset.from_dict({"image": [*paths, str(tmp_path / "broken.png"), None]})
    rows.with_column_types({"image": "image"}).save("photos")
    run(instance, dataset_key("photos"), 1)
    facts = reported(instance, dataset_key("photos"))["v1"]
    table = {record.data["column"]: record.data for record in facts["statistics"].records}
    assert list(table) == ["image", "image.size", "image.width", "image.height"]
    assert (table["image"]["values"], table["image"]["nulls"], table["image"]["unreadable"]) == (4, 1, 1)
    shown = {"values": 3, "distinct": "3", "min": "10", "max": "40", "mean": "23.3333", "50%": "20"}
    assert shown.items() <= table["image.width"].items()
    assert (table["image.height"]["min"], table["image.height"]["max"]) == ("8", "8")
    assert facts["unreadable/image"] == 1


def test_videos_show_their_first_frame(instance: DagsterInstance, tmp_path: Path) -> None:
    (tmp_path / "broken.mp4").write_bytes(b"no video")
    write(1, clip=[make_video(tmp_path / "clip.mp4", 3)])
    write(1, clip=[str(tmp_path / "broken.mp4")])
    run(instance, dataset_key("photos"), 1)
    run(instance, dataset_key("photos"), 2)
    facts = reported(instance, dataset_key("photos"))
    assert facts["v1"]["thumbnails_clip"].startswith("![](data:image/png;base64,")
    assert facts["v2"]["thumbnails_clip"] == "(FormatError)"


def test_a_version_may_be_materialized_again(instance: DagsterInstance) -> None:
    write(1)
    run(instance, dataset_key("photos"), 1)
    first = reported(instance, dataset_key("photos"))
    run(instance, dataset_key("photos"), 1)
    assert reported(instance, dataset_key("photos")) == first


def test_the_check_passes_for_what_is_there(instance: DagsterInstance) -> None:
    write(1)
    write(2)
    check, files = run(instance, dataset_key("photos"), 1, 2).get_asset_check_evaluations()
    assert check.passed
    assert files.passed
    assert check.metadata["versions"].value == "v1, v2"
    assert check.metadata["rows_read"].value == 2


def test_the_check_fails_where_a_file_is_missing(instance: DagsterInstance, home: Path, tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "one.png")
    write(1, image=[str(tmp_path / "one.png")])
    [blob] = (home / "blobs" / "packs").glob("*.pack")
    blob.unlink()
    readable, check = run(instance, dataset_key("photos"), 1).get_asset_check_evaluations()
    assert readable.passed
    assert not check.passed
    assert str(check.metadata["problems"].value).startswith(("v1: missing: ", "v1: damaged: "))


def test_versions_of_other_iceberg_clients_do_not_stop_the_profiles(instance: DagsterInstance) -> None:
    write(1, 2, 3)
    table = Lake.current().table("photos")
    table.delete("x < 2")
    write(4)
    [newest, *_] = Dataset("photos").list_versions()
    run(instance, dataset_key("photos"), *range(1, newest.version + 1))
    found = reported(instance, dataset_key("photos"))
    assert [found[key]["operation"] for key in ("v1", "v2", "v3")] == ["append", "overwrite", "append"]
    assert found["v2"]["preview"] == "no new rows to show"


def test_a_version_that_does_not_exist_fails(instance: DagsterInstance) -> None:
    write(1)
    run(instance, dataset_key("photos"), 2, success=False)


def test_a_routine_run_reports_each_version_it_read(instance: DagsterInstance) -> None:
    write(1, 2)
    write(3)
    done = run(instance, routine_key("copy"), 1, 2)
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2, 3]
    found = reported(instance, routine_key("copy"))
    for facts in found.values():
        assert [column.name for column in facts.pop("dagster/column_schema").columns] == ["x"]
        [origin] = facts.pop("dagster/column_lineage").deps_by_column["x"]
        assert (origin.asset_key, origin.column_name) == (dataset_key("photos"), "x")
    assert found == {
        "v1": {"rows_in": 2, "rows_out": 2, "output": "copies v1", "written_by_run": done.run_id},
        "v2": {"rows_in": 1, "rows_out": 1, "output": "copies v2", "written_by_run": done.run_id},
    }


def test_the_columns_of_an_output_are_those_of_its_routine(instance: DagsterInstance) -> None:
    write(1)
    run_routine(COPY)
    run(instance, dataset_key("copies"), 1)
    lineage = reported(instance, dataset_key("copies"))["v1"]["dagster/column_lineage"]
    assert [(each.asset_key, each.column_name) for each in lineage.deps_by_column["x"]] == [(routine_key("copy"), "x")]


def test_a_routine_run_reads_what_comes_before_the_versions_asked_for(instance: DagsterInstance) -> None:
    write(1)
    write(2)
    run(instance, routine_key("copy"), 2)
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2]
    assert set(reported(instance, routine_key("copy"))) == {"v1", "v2"}


def test_a_routine_run_leaves_later_versions(instance: DagsterInstance) -> None:
    write(1)
    write(2)
    run(instance, routine_key("copy"), 1)
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1]
    assert pending(COPY) is not None


def test_a_routine_run_of_read_versions_repeats_nothing_and_reports(instance: DagsterInstance) -> None:
    write(1)
    run_routine(COPY, run="a run that died before it could report")
    run(instance, routine_key("copy"), 1)
    assert len(history(COPY)) == 1
    assert reported(instance, routine_key("copy"))["v1"]["written_by_run"] == "a run that died before it could report"


def test_a_version_without_rows_is_reported_too(instance: DagsterInstance) -> None:
    write(1)
    Dataset.from_arrow(pa.table({"x": pa.array([], pa.int64())})).append_to("photos", idempotency_key="empty")
    newest = Dataset("photos").version
    write(2)
    run(instance, routine_key("copy"), 1, newest + 1)
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 2]


def test_a_run_shows_signs_of_life(instance: DagsterInstance) -> None:
    write(1)
    done = run(instance, dataset_key("photos"), 1)
    found = instance.get_run_by_id(done.run_id)
    assert found is not None
    assert float(found.tags[HEARTBEAT_TAG]) > 0


def test_ingestion_appends_what_is_new_once(instance: DagsterInstance, home: Path) -> None:
    (home / "inbox").mkdir(parents=True)
    (home / "inbox" / "a.csv").write_text("x\n1\n2\n")
    first = run(instance, ingest_key("photos"))
    assert Dataset("photos").list_versions()[0].run == first.run_id
    assert reported(instance, ingest_key("photos"))[None]["rows"] == 2
    run(instance, ingest_key("photos"))
    assert Dataset("photos").count() == 2
    assert reported(instance, ingest_key("photos"))[None]["files"] == 0


def test_the_schedule_starts_a_run_only_for_new_files(home: Path) -> None:
    def outcome(schedule: ScheduleDefinition) -> Any:
        with build_schedule_context() as context:
            return schedule(context)

    schedule = ingestion_trigger(as_ingestion(INBOX))
    assert isinstance(outcome(schedule), SkipReason)
    (home / "inbox").mkdir(parents=True)
    (home / "inbox" / "a.csv").write_text("x\n1\n")
    assert not isinstance(outcome(schedule), SkipReason)


def test_what_does_not_fit_shows_in_the_ui(instance: DagsterInstance, home: Path) -> None:
    (home / "inbox").mkdir(parents=True)
    (home / "inbox" / "a.csv").write_text("x\n1\n")
    (home / "inbox" / "b.csv").write_text("y\n1\n")
    inbox = replace(INBOX, drift="quarantine")
    found = build_definitions([inbox])
    graph = found.get_repository_def().asset_graph
    assert {key.to_user_string() for key in graph.get(dataset_key("photos_quarantine")).parent_keys} == {
        "ingest/photos"
    }
    job = found.resolve_implicit_global_asset_job_def()
    assert job.execute_in_process(instance=instance, asset_selection=[ingest_key("photos")]).success
    facts = reported(instance, ingest_key("photos"))[None]
    assert (facts["files"], facts["quarantined"], facts["quarantined_files"]) == (1, 1, "b.csv")
    assert Dataset("photos_quarantine").count() == 1


def test_what_arrives_is_taken_at_once(instance: DagsterInstance, home: Path) -> None:
    source = FolderSource("photos", "photos", "inbox", "*.csv", settle=0)
    [arrived] = [
        each
        for each in build_definitions([Ingestion(source, arrival_seconds=2)]).sensors or []
        if "arrivals" in each.name
    ]
    assert isinstance(arrived, SensorDefinition)
    assert arrived.minimum_interval_seconds == 2
    with build_sensor_context(instance) as context:
        assert isinstance(arrived(context), SkipReason)
        (home / "inbox").mkdir(parents=True)
        (home / "inbox" / "a.csv").write_text("x\n1\n")
        assert isinstance(arrived(context), RunRequest)
