"""Processes that are killed at each single step of a call of a file tree; then the next person goes on."""

from __future__ import annotations

import datetime as dt
import os
from pathlib import Path
from typing import Any

import pytest

from lakefeed import collect_garbage
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.errors import TreeNotFoundError
from lakefeed.trees import FileTree
from tests.sdk.killing import finish, killed_at_random, killed_by_itself, meanwhile
from tests.sdk.trees.test_file_trees import contents, fill, finished
from tests.sdk.trees.test_tree_copies import held
from tests.sdk.trees.tree_victims import AFTER, BEFORE, Step, finalize_all, killed_run

pytestmark = pytest.mark.live
FILES = {"a": "A", "d/b": "B" * 5_000, "large": "l" * (2 << 20)}
NO_GRACE, PATIENCE = dt.timedelta(0), dt.timedelta(seconds=0)

# By call, its steps: a function, and whether the process is killed before or after it.
CREATE = [
    ("lakefeed.trees.draft_tables:create", AFTER),
    ("lakefeed.trees.draft_tables:create", BEFORE),
]
UPLOAD = [
    ("lakefeed.media.contents:ContentWriter.finish", AFTER),
    ("lakefeed.storage.blobs.blob_writer:BlobWriter.flush", BEFORE),
    ("lakefeed.storage.blobs.blob_writer:_OpenPack.upload", AFTER),
    ("lakefeed.storage.blobs.blob_writer:BlobWriter.flush", AFTER),
    ("lakefeed.trees.draft_tables:append", AFTER),
]
FINALIZE = [
    ("lakefeed.trees.draft_tables:DraftTable.seal", BEFORE),
    ("lakefeed.trees.draft_tables:DraftTable.seal", AFTER),
    ("lakefeed.trees.tree_commit:_Commit.run", BEFORE),
    ("lakefeed.catalog.snapshot_builder:PreCommitCheck.__call__", BEFORE),
    ("lakefeed.trees.tree_commit:_Commit.run", AFTER),
    ("lakefeed.trees.draft_tables:DraftTable.discard", BEFORE),
    ("lakefeed.catalog.hidden_tables:remove_tree", BEFORE),
    ("lakefeed.trees.draft_tables:DraftTable.discard", AFTER),
]
COPY = [
    ("lakefeed.trees.tree_materialization:write_sealed", AFTER),
    ("lakefeed.trees.local_copies:write_manifest", BEFORE),
    ("lakefeed.trees.local_copies:write_manifest", AFTER),
    ("lakefeed.trees.copy_eviction:mark_used", BEFORE),
    ("lakefeed.trees.copy_eviction:mark_used", AFTER),
]
COPY_TO = [
    ("lakefeed.trees.mutable_copies:_copy_files", BEFORE),
    ("lakefeed.trees.mutable_copies:_copy_files", AFTER),
    ("lakefeed.trees.mutable_copies:exchange", AFTER),
]
DELETE = [
    ("lakefeed.trees.tree_deletion:forget_version", AFTER),
    ("lakefeed.trees.tree_deletion:forget_version", BEFORE),
]
DELETE_ALL = [
    ("lakefeed.trees.tree_deletion:_require_unused", AFTER),
    ("lakefeed.catalog.lake:Lake.drop", AFTER),
    ("lakefeed.trees.tree_deletion:discard_reports", AFTER),
]


def kill(step: Step, action: str, *arguments: object) -> None:
    killed_by_itself(killed_run, os.environ["LAKEFEED_CACHE_DIR"], step, action, *map(str, arguments))


def collect() -> None:
    """Removes what nothing needs, as far as the lease of a killed process allows it."""
    collect_garbage(dry_run=False, grace=NO_GRACE, patience=PATIENCE)


def drafts() -> list[str]:
    return HiddenTables(Lake.current(), "_drafts").names()


def names(steps: list[Step]) -> Any:
    """Every second step in each run, all in the soak."""
    marks = [(), pytest.mark.soak]
    params = [pytest.param(s, id=f"{s[1]}-{s[0].rpartition('.')[2]}", marks=marks[i % 2]) for i, s in enumerate(steps)]
    return pytest.mark.parametrize("step", params)


@names(CREATE)
def test_a_killed_create_leaves_a_draft_or_none(step: Step, home: Path, tmp_path: Path) -> None:
    kill(step, "create")
    listed = FileTree.list_datasets(only_completed=False)
    assert len(listed) == (step[1] == AFTER)
    for each in listed:
        assert FileTree.get(each["id"]).list_files() == []
        FileTree.delete(each["id"])
    assert drafts() == []
    assert finished(fill(tmp_path / "f", {"a": "A"})).version == "1.0.0"


@names(UPLOAD)
def test_a_killed_upload_is_repeated(step: Step, home: Path, tmp_path: Path) -> None:
    folder, tree = fill(tmp_path / "f", FILES), FileTree.create("photos", "animals")
    kill(step, "upload", tree.id, folder)
    collect()
    uploaded = tree.list_files()
    assert uploaded == (sorted(FILES) if step == UPLOAD[-1] else [])
    packs = sorted((home / "blobs" / "packs").rglob("*.*"))
    again = FileTree.get(tree.id)
    again.sync_folder(folder)
    again.upload(show_progress=False)
    if step in UPLOAD[2:]:  # what was stored is not stored again
        assert packs == sorted((home / "blobs" / "packs").rglob("*.*")) != []
    collect()
    assert again.finalize()
    assert contents(again) == FILES
    assert drafts() == []


@names(FINALIZE)
def test_a_killed_finalize_is_completed(step: Step, home: Path, tmp_path: Path) -> None:
    first = finished(fill(tmp_path / "f", {"a": "old", "gone": "x"}))
    tree = FileTree.create("photos", "animals", first)
    tree.sync_folder(fill(tmp_path / "f", FILES))
    tree.upload(show_progress=False)
    kill(step, "finalize", tree.id)
    collect()
    again = FileTree.get(tree.id)
    assert again.is_final() or again.finalize()
    collect()
    assert (again.version, contents(again)) == ("1.0.1", FILES)
    assert contents(first) == {"a": "old", "gone": "x"}
    assert [each["version"] for each in FileTree.list_datasets(only_completed=False)] == ["1.0.1", "1.0.0"]
    assert drafts() == []
    assert finished(fill(tmp_path / "f", {"b": "B"})).version == "1.0.2"


@names(COPY)
def test_a_killed_copy_leaves_nothing_half(step: Step, home: Path, tmp_path: Path) -> None:
    tree = finished(fill(tmp_path / "f", FILES))
    kill(step, "copy", tree.id)
    root = Lake.current().settings.cache / "trees"
    whole = [folder for folder in root.iterdir() if folder.is_dir() and "@" in folder.name]
    assert len(whole) == (step in COPY[-2:])
    assert all(held(folder / "tree") == FILES for folder in whole)
    assert held(tree.get_local_copy()) == FILES
    tree.get_local_copy(files="a")
    assert [folder.name for folder in root.iterdir() if folder.name.startswith("new-")] == []


@names(COPY_TO)
def test_a_killed_copy_to_a_folder_replaces_it_or_not(step: Step, home: Path, tmp_path: Path) -> None:
    tree = finished(fill(tmp_path / "f", FILES))
    target = fill(tmp_path / "work" / "copy", {"mine": "mine"})
    kill(step, "copy_to", tree.id, target)
    assert held(target) == (FILES if step == COPY_TO[-1] else {"mine": "mine"})
    assert tree.get_mutable_local_copy(target, overwrite=True) == str(target)
    assert held(target) == FILES
    assert [each.name for each in (tmp_path / "work").iterdir()] == ["copy"]


@names(DELETE)
def test_a_killed_delete_has_deleted_or_not(step: Step, home: Path, tmp_path: Path) -> None:
    first = finished(fill(tmp_path / "f", FILES))
    second = finished(fill(tmp_path / "f", {"b": "B"}))
    kill(step, "delete", second.id)
    if step[1] == BEFORE:
        assert contents(FileTree.get(second.id)) == {"b": "B"}
        FileTree.delete(second.id)
    with pytest.raises(TreeNotFoundError):
        FileTree.delete(second.id)
    collect()
    assert contents(first) == FILES
    assert finished(fill(tmp_path / "f", {"c": "C"})).list_files() == ["c"]


@names(DELETE_ALL)
def test_a_killed_delete_of_a_dataset_can_be_repeated(step: Step, home: Path, tmp_path: Path) -> None:
    tree = finished(fill(tmp_path / "f", FILES))
    tree.get_logger().report_text("it begins", print_console=False)
    kill(step, "delete_all", tree.id)
    if step == DELETE_ALL[0]:
        FileTree.delete(dataset_project="animals", dataset_name="photos", entire_dataset=True)
    with pytest.raises(TreeNotFoundError):
        FileTree.delete(dataset_project="animals", dataset_name="photos", entire_dataset=True)
    collect()
    again = finished(fill(tmp_path / "f", FILES))
    assert (again.version, contents(again), again.get_logger().reports()) == ("1.0.0", FILES, [])


# ------------------------------------------------------------------------------------------------- all at once


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_kills_beside_writers_and_a_collector(home: Path, tmp_path: Path) -> None:
    """Eight processes make versions of one name, others are killed, and a collector without grace goes on."""
    finished(fill(tmp_path / "f", FILES), "racing")
    with meanwhile(collect, pause=0.5):
        for _ in range(5):
            killed_at_random(4, finalize_all, str(tmp_path / "killed"), "racing", 1_000, longest=2.0)
            finish(finalize_all, str(tmp_path / "work"), "racing", 3, processes=8)
    for each in FileTree.list_datasets("animals", only_completed=False):
        if each["status"] == "in_progress":
            tree = FileTree.get(each["id"])
            tree.finalize() if tree.list_files() else FileTree.delete(tree.id)
    versions = FileTree.list_datasets("animals")
    labels = [each["version"] for each in versions]
    assert len(set(labels)) == len(labels) >= 1 + 5 * 8 * 3
    assert all(set(contents(FileTree.get(each["id"]))) in ({"pid", "n"}, set(FILES)) for each in versions)
    assert drafts() == []
