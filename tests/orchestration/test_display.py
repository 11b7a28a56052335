"""What the UI shows of assets and runs: groups, kinds, tags, and that a version that never changes is in sync."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from dagster import AssetKey, DagsterInstance
from dagster._core.definitions.data_version import CachingStaleStatusResolver
from dagster._core.loader import LoadingContextForTest
from dagster._core.storage.tags import TagType, get_tag_type

from dataset_assets.asset_keys import dataset_key, ingest_key, routine_key
from dataset_assets.dataset import DatasetSpec
from dataset_assets.ingestion import FolderIngestion
from lakefeed import Dataset
from lakefeed.checks import InRange, NotNull
from lakefeed.routines import Routine, run_routine
from tests.orchestration.daemon import Dagster, write

pytestmark = pytest.mark.usefixtures("lake")
COPY = Routine("copy", lambda rows: rows, "photos", "copies")
BOTH = Routine("both", lambda a, b: a, ("photos", "copies"), "boths")
INBOX = FolderIngestion("photos", into="photos", folder="inbox", pattern="*.csv", settle=0)
PHOTOS = dataset_key("photos")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def stale_partitions(dagster: Dagster) -> list[tuple[str, str | None, str]]:
    graph = dagster.definitions().get_repository_def().asset_graph
    resolver = CachingStaleStatusResolver(dagster.instance, graph, LoadingContextForTest(dagster.instance))
    keys = {PHOTOS: "photos", dataset_key("copies"): "copies", routine_key("copy"): "photos"}
    pairs: list[tuple[AssetKey, str | None]] = [
        (key, partition) for key, name in keys.items() for partition in dagster.partitions(name)
    ]
    pairs += [(ingest_key("photos"), None), (routine_key("both"), None)]
    return [
        (key.to_user_string(), partition, cause.reason)
        for key, partition in pairs
        for cause in resolver.get_stale_causes(key, partition)
    ]


@pytest.mark.live
def test_a_version_is_in_sync_whatever_runs_again(instance: DagsterInstance, home: Path) -> None:
    (home / "inbox").mkdir(parents=True)
    dagster = Dagster(instance, INBOX, COPY, BOTH)
    write(0)  # of somebody else, before the ingestion ever ran
    dagster.work()
    assert stale_partitions(dagster) == []
    for number in range(2):
        (home / "inbox" / f"{number}.csv").write_text(f"x\n{number}\n")
        assert dagster.run_asset(ingest_key("photos")).success
        dagster.work()
        assert stale_partitions(dagster) == []
    assert dagster.by_hand(PHOTOS, 1, 3).success
    assert dagster.by_hand(routine_key("copy"), 1, 3).success
    assert dagster.run_asset(ingest_key("photos")).success
    assert stale_partitions(dagster) == []
    assert len(dagster.partitions("copies")) == len(dagster.partitions()) == 3


@pytest.mark.live
def test_no_check_that_failed_counts_as_passed(instance: DagsterInstance) -> None:
    checks = DatasetSpec("photos", checks=[NotNull("x"), InRange("x", 0, 100, blocking=False)])
    dagster = Dagster(instance, checks, replace(COPY, only_checked=True))
    write(1)
    write(300)
    write(None)
    dagster.work()
    facts = dagster.reported(PHOTOS)
    shown = {key: tuple(each[name] for name in NAMES) for key, each in facts.items()}
    assert shown == {"v1": (True, True, ""), "v2": (False, True, "range"), "v3": (False, False, "nulls")}
    assert Dataset("copies").to_arrow()["x"].to_pylist() == [1, 300]


NAMES = ("checks_passed", "blocking_checks_passed", "checks_failed")


def test_runs_show_what_they_are_about(instance: DagsterInstance) -> None:
    dagster = Dagster(instance, COPY)
    write(1)
    dagster.work()
    for run in instance.get_runs():
        shown = sorted(name for name in run.tags if get_tag_type(name) is not TagType.HIDDEN)
        assert [name for name in shown if name.startswith("lakefeed/")] == ["lakefeed/range", "lakefeed/work"]
        assert run.tags["lakefeed/range"].endswith(":v1..v1")


def test_assets_are_in_the_group_of_their_team_or_namespace() -> None:
    dagster = Dagster(
        DagsterInstance.ephemeral(),
        DatasetSpec("photos", owners=["ada@example.com", "team:vision"]),
        INBOX,
        COPY,
        Routine("words", lambda rows: rows, "photos", "nlp.words"),
        Routine("labels", lambda rows: rows, "nlp.words", "labels", owners=("team:labels-eu",)),
    )
    graph = dagster.definitions().get_repository_def().asset_graph
    groups = {key.to_user_string(): graph.get(key).group_name for key in graph.get_all_asset_keys()}
    assert groups == {
        "ingest/photos": "vision",
        "datasets/photos": "vision",
        "routines/copy": "lake",
        "datasets/copies": "lake",
        "routines/words": "nlp",
        "datasets/nlp.words": "nlp",
        "routines/labels": "labels_eu",
        "datasets/labels": "labels_eu",
    }
    kinds = {key.to_user_string(): graph.get(key).kinds for key in graph.get_all_asset_keys()}
    assert [kinds[name] for name in ("ingest/photos", "datasets/photos", "routines/copy")] == [
        {"ingestion", "file"},
        {"dataset", "iceberg"},
        {"routine", "python"},
    ]


def test_an_old_record_of_passed_checks_still_counts(instance: DagsterInstance) -> None:
    from dagster import AssetMaterialization

    from dataset_assets.asset_checks import recorded_verdicts

    write(1)
    run_routine(COPY)
    facts = {"checks_passed": True, "table_uuid": "t"}
    instance.add_dynamic_partitions("photos_versions", ["v1"])
    instance.report_runless_asset_event(AssetMaterialization(PHOTOS, partition="v1", metadata=facts))
    assert recorded_verdicts(instance, "photos", "t", [1]) == {1: True}
