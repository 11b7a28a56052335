"""File trees in Dagster: a version shows its label, its parents, what it changed by path, reports and pictures."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import PIL.Image
import pytest
from dagster import AssetKey, DagsterInstance

from dataset_assets.asset_keys import dataset_key
from dataset_assets.dataset import DatasetSpec
from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.routines import Routine
from lakefeed.trees import FileTree, summarize, tree_summary
from tests.orchestration.daemon import Dagster, write
from tests.sdk.trees.test_file_trees import fill, finished

pytestmark = pytest.mark.usefixtures("lake")


@pytest.fixture
def instance() -> Iterator[DagsterInstance]:
    with DagsterInstance.ephemeral() as fresh:
        yield fresh


def rows(table: Any) -> list[tuple[Any, ...]]:
    return [tuple(record.data[column.name] for column in table.schema.columns) for record in table.records]


def upstreams(dagster: Dagster, name: str) -> set[AssetKey]:
    return set(dagster.definitions().resolve_asset_graph().get(dataset_key(name)).parent_keys)


@pytest.mark.live
def test_a_version_of_a_tree_shows_what_it_changed(
    instance: DagsterInstance, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree_summary, "MAX_PATHS", 2)
    folder = fill(tmp_path / "f", {"a": "A", "b": "B", "c": "C", "d": "D"})
    PIL.Image.new("RGB", (4, 4), "red").save(folder / "red.png")
    first = finished(folder, dataset_tags=["raw"], description="of the zoo")
    first.get_logger().report_table("classes", "all", table_plot={"name": ["cat"], "n": [1]})
    first.get_logger().report_image("pictures", "red", image=PIL.Image.new("RGB", (2, 2), "red"))
    second = FileTree.create("photos", "animals", first)
    fill(folder, {"a": "AA", "b2": "B", "new|1": "N"})
    assert tuple(second.sync_folder(folder)) == (4, 3)
    second.finalize(auto_upload=True)
    other = finished(folder, "copies", parent_datasets=[second], dataset_version="final")
    write(1, to="plain")

    dagster = Dagster(instance)
    dagster.work()
    before, after = (dagster.reported(dataset_key("animals.photos"))[key] for key in ("v1", "v2"))
    assert {name: before[name] for name in ("tree", "tree_label", "tree_parents", "tree_tags", "tree_description")} == {
        "tree": "animals/photos", "tree_label": "1.0.0", "tree_parents": "none", "tree_tags": "raw",
        "tree_description": "of the zoo",
    }  # fmt: skip
    assert (before["files_added"], before["files_total"], before["tree_id"]) == (5, 5, first.id)
    assert rows(before["changed_files"]) == [("added", "a"), ("added", "b"), ("added", "… and 3 more")]
    assert rows(before["reports"]) == [("table", "classes", "all", "", "1 rows of name, n")]
    assert before["thumbnails_file"].count("data:image/png") == before["reported_images"].count("data:image/png") == 1
    assert (after["tree_label"], after["tree_parents"]) == ("1.0.1", f"{first.id} (1.0.0)")
    assert {name: after[f"files_{name}"] for name in ("added", "modified", "removed", "renamed", "total")} == {
        "added": 2, "modified": 1, "removed": 4, "renamed": 1, "total": 3,
    }  # fmt: skip
    assert ("renamed", "b → b2") in rows(after["changed_files"])
    assert ("modified", "a") in rows(after["changed_files"])

    # The dataset of a parent is upstream, also of columns.
    copied = dagster.reported(dataset_key("animals.copies"))["v1"]
    assert (copied["tree_label"], copied["files_added"]) == ("final", 0)
    deps = copied["dagster/column_lineage"].deps_by_column["file"]
    assert [(each.asset_key, each.column_name) for each in deps] == [(dataset_key("animals.photos"), "file")]
    assert upstreams(dagster, "animals.copies") == {dataset_key("animals.photos")}
    assert "tree_label" not in dagster.reported(dataset_key("plain"))["v1"]
    assert summarize("plain", 1) is None

    # What was deleted is said, and stops no profile.
    FileTree.delete(second.id, force=True)
    summary = summarize("animals.copies", 1)
    assert summary is not None
    assert (dict(summary.parents), summary.id) == ({second.id: None}, other.id)
    assert "was deleted" in (summary.unread or "")


@pytest.mark.live
def test_trees_that_are_parents_of_one_another_are_shown_without_a_circle(
    instance: DagsterInstance, tmp_path: Path
) -> None:
    folder = fill(tmp_path / "f", {"a": "A"})
    a = finished(folder, "a")
    b = finished(folder, "b", parent_datasets=[a])
    finished(folder, "a", parent_datasets=[b])
    finished(folder, "c", parent_datasets=[b])
    routine = Routine("r", lambda rows: rows, "animals.c", "animals.b")  # which would close another one
    dagster = Dagster(instance, DatasetSpec("animals.b", upstreams=["animals.c"]))
    assert upstreams(dagster, "animals.a") == {dataset_key("animals.b")}
    assert upstreams(dagster, "animals.b") == {dataset_key("animals.c")}
    assert upstreams(dagster, "animals.c") == set()
    dagster = Dagster(instance, routine)
    assert upstreams(dagster, "animals.c") == set()
    assert Dataset.exists("animals.c")
    Lake.current().drop("animals.c")
