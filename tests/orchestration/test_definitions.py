"""The definitions: what is declared becomes assets, in the right order, and runs by itself."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from dagster import AssetKey, DefaultScheduleStatus, DefaultSensorStatus, Definitions

from dataset_assets.asset_keys import first_adjacent, key_of, version_of, versions_of
from dataset_assets.dataset import DatasetSpec
from dataset_assets.ingestion import FolderIngestion
from dataset_assets.routine import routine
from definitions import build_definitions, defs, load_declarations
from lakefeed import Dataset

ROOT = Path(__file__).parents[2]


def upstream(found: Definitions, *key: str) -> set[str]:
    graph = found.get_repository_def().asset_graph
    return {parent.to_user_string() for parent in graph.get(AssetKey(key)).parent_keys}


def test_the_demo_reads_source_dataset_routine_dataset() -> None:
    assert upstream(defs, "datasets", "digits") == {"ingest/digits"}
    assert upstream(defs, "routines", "digits_features") == {"datasets/digits"}
    assert upstream(defs, "datasets", "digits_features") == {"routines/digits_features"}


def test_the_versions_are_the_partitions() -> None:
    graph = defs.get_repository_def().asset_graph
    names = {key.to_user_string(): graph.get(key).partitions_def for key in graph.get_all_asset_keys()}
    assert names == {
        "ingest/digits": None,
        "datasets/digits": versions_of("digits"),
        "routines/digits_features": versions_of("digits"),
        "datasets/digits_features": versions_of("digits_features"),
    }


def test_everything_is_on_by_default() -> None:
    repository = defs.get_repository_def()
    assert {each.default_status for each in repository.sensor_defs} == {DefaultSensorStatus.RUNNING}
    assert {each.default_status for each in repository.schedule_defs} == {DefaultScheduleStatus.RUNNING}


def test_all_that_the_files_declare_is_collected() -> None:
    assert sorted(type(each).__name__ for each in load_declarations()) == ["DatasetSpec"] * 2 + [
        "FolderIngestion",
        "Routine",
    ]


def test_a_dataset_needs_no_declaration() -> None:
    @routine(on="a-b", into="team.c")
    def passed(rows: Dataset) -> Dataset:
        """Handed on."""
        return rows

    found = build_definitions([passed, FolderIngestion("in-box", into="a-b", folder="in"), DatasetSpec("alone")])
    keys = {key.to_user_string() for key in found.get_repository_def().asset_graph.get_all_asset_keys()}
    assert keys == {"ingest/in-box", "datasets/a-b", "routines/passed", "datasets/team.c", "datasets/alone"}
    described = found.get_repository_def().asset_graph.get(AssetKey(["routines", "passed"])).description
    assert described == "Handed on."


def test_nothing_declared_is_fine() -> None:
    assert build_definitions([]).get_repository_def()


def test_keys_and_versions_translate() -> None:
    assert [version_of(key_of(number)) for number in (1, 12)] == [1, 12]


@pytest.mark.parametrize(
    ("order", "wanted", "expected"),
    [
        ("abcd", "bc", "bc"),
        ("abcd", "bd", "b"),
        ("abcd", "", ""),
        ("abcd", "xb", "b"),
        ("", "a", ""),
    ],
)
def test_a_range_names_keys_that_stand_side_by_side(order: str, wanted: str, expected: str) -> None:
    assert first_adjacent(order, wanted) == list(expected)


@pytest.mark.live
@pytest.mark.slow
def test_the_workspace_loads_from_any_directory(tmp_path: Path) -> None:
    dagster = Path(sys.executable).parent / "dagster"
    command = [str(dagster), "definitions", "validate", "-w", str(ROOT / "workspace.yaml")]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
