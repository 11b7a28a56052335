"""File trees where they are used oddly: the lake within the folder, links out of it, states that end nowhere."""

from __future__ import annotations

import logging
import os
import pickle
from pathlib import Path

import pytest

from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    FileError,
    InvalidArgumentError,
    MissingFileError,
    RefusedTargetError,
    TreeNotFoundError,
    TreeStateError,
)
from lakefeed.trees import FileTree
from lakefeed.trees.mutable_copies import SCRATCH
from tests.sdk.trees.test_file_trees import contents, fill, finished
from tests.sdk.trees.test_tree_copies import held


def test_a_lake_within_the_folder_is_left_out(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    folder = fill(tmp_path / "project", {"a": "A", "sub/b": "B"})
    monkeypatch.setenv("LAKEFEED_HOME", str(folder / "lake"))
    monkeypatch.setenv("LAKEFEED_CACHE_DIR", str(folder / "sub" / "cache"))
    tree = finished(folder)
    child = FileTree.create("photos", parent_datasets=tree)
    with caplog.at_level(logging.WARNING):
        assert tuple(child.sync_folder(folder)) == (0, 0)
        assert child.add_files(folder) == 0
    assert tree.list_files() == child.list_files() == ["a", "sub/b"]
    assert "the lake itself or its cache" in caplog.text
    assert held(tree.get_mutable_local_copy(folder / "copy")) == contents(tree)


def test_paths_that_lead_nowhere_or_out(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draft = FileTree.create("photos", "animals", symlinks="error")
    fill(tmp_path / "outside", {"o": "O"})
    folder = fill(tmp_path / "f", {"a": "A"})
    (folder / "out").symlink_to(tmp_path / "outside" / "o")
    with pytest.raises(RefusedTargetError, match="leads out of the folder"):
        draft.add_files(folder)
    for path, error, match in (
        ("~nobody-here/x", MissingFileError, "~nobody-here"),
        ("f/*.txt", MissingFileError, "wildcard"),
        ("/dev/null", FileError, "^'/dev/null' is a device"),
        (b"f", InvalidArgumentError, "path"),
    ):
        with pytest.raises(error, match=match):
            draft.add_files(path)
    (folder / "out").unlink()
    (folder / "new\nline").touch()
    with pytest.raises(InvalidArgumentError, match=r"new\\nline' cannot be in a tree"):
        draft.sync_folder(folder)
    (folder / "new\nline").unlink()
    draft.sync_folder(folder)
    draft.finalize(auto_upload=True)
    with pytest.raises(FileError, match="too long"):
        draft.get_mutable_local_copy("z" * 256)
    # A link to a folder is that folder; it stays a link.
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to("target")
    assert draft.get_mutable_local_copy("link") == str(tmp_path / "target")
    assert (Path("link").is_symlink(), held("target")) == (True, {"a": "A"})


def test_the_label_of_a_draft_can_be_chosen_again(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "A"})
    draft = FileTree.create("photos", "animals", dataset_version="2.0")
    draft.add_files(folder)
    draft.upload(show_progress=False)
    finished(folder, dataset_version="2.0")
    with pytest.raises(TreeStateError, match=r"tree\.version = "):
        draft.finalize()
    with pytest.raises(InvalidArgumentError):
        draft.version = ""
    draft.version = "2.1"
    assert FileTree.get(draft.id).version == "2.1"
    assert draft.finalize()
    assert FileTree.get(dataset_project="animals", dataset_version="2.1") == draft
    with pytest.raises(TreeStateError, match="never changes"):
        draft.version = "3"
    other = FileTree.create("photos", "animals", dataset_version="2.1x")
    other.version = None
    other.finalize()
    assert other.version == "1.0.0"


def test_trees_go_to_other_processes(home: Path, tmp_path: Path) -> None:
    tree = finished(fill(tmp_path / "f", {"a": "A"}))
    assert tree.list_files() == ["a"]
    there = pickle.loads(pickle.dumps(tree))
    assert (there, contents(there), there.version) == (tree, {"a": "A"}, "1.0.0")
    draft = FileTree.create("photos", parent_datasets=tree)
    draft.add_files(fill(tmp_path / "g", {"b": "B"}))
    there = pickle.loads(pickle.dumps(draft))
    assert (there.is_dirty(), there.list_files()) == (True, ["a", "b"])
    assert Lake.current() is not None


def test_files_that_change_while_they_are_added_are_as_they_were_read(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"grown": "1", "mode": "m", "kind": "k", "gone": "g"})
    tree = FileTree.create("photos", "animals")
    tree.add_files(folder)
    (folder / "grown").write_text("12345")
    (folder / "mode").chmod(0o4755)
    (folder / "gone").unlink()
    (folder / "kind").unlink()
    (folder / "kind").mkdir()
    with pytest.raises(FileError, match="2 files of the tree could not be uploaded and stay pending: "):
        tree.upload(show_progress=False)
    assert (tree.remove_files("gone"), tree.remove_files("kind"), tree.is_dirty()) == (1, 1, False)
    assert tree.finalize()
    assert contents(tree) == {"grown": "12345", "mode": "m"}
    copy = Path(tree.get_local_copy() or "")
    assert [oct((copy / name).stat().st_mode & 0o7777) for name in ("grown", "mode")] == ["0o444", "0o555"]
    assert tree.verify_dataset_hash(copy) == []


def test_get_makes_drafts_where_it_is_asked_to(home: Path, tmp_path: Path) -> None:
    options = {"dataset_project": "animals", "dataset_name": "photos", "auto_create": True, "alias": "pets"}
    draft = FileTree.get(**options)
    assert (draft.is_final(), FileTree.get(**options)) == (False, draft)
    with pytest.raises(InvalidArgumentError, match="in progress"):
        FileTree.get(draft.id, writable_copy=True)
    draft.add_files(fill(tmp_path / "f", {"a": "A"}))
    draft.finalize(auto_upload=True)
    assert FileTree.get(**options) == draft
    copy = FileTree.get(**options, writable_copy=True)
    assert (copy.is_final(), copy.parents, copy.list_files(), copy.name) == (False, [draft.id], ["a"], "photos")
    with pytest.raises(TreeNotFoundError):  # there is one, but not of this label
        FileTree.get(**options, dataset_version="7.0.0")


def test_a_mount_point_is_filled_where_it_is(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = finished(fill(tmp_path / "f", {"a": "A", "d/b": "B"}))
    volume = fill(tmp_path / "volume", {})
    monkeypatch.setattr(os.path, "ismount", lambda path: Path(path) == volume)
    inode = volume.stat().st_ino
    (volume / f"{SCRATCH}0").mkdir()  # as a killed process leaves it
    (volume / f"{SCRATCH}0.lock").touch()
    assert tree.get_mutable_local_copy(volume) == str(volume)
    assert (held(volume), volume.stat().st_ino) == ({"a": "A", "d/b": "B"}, inode)
    (volume / "a").write_text("mine")
    (volume / "mine").write_text("mine")
    with pytest.raises(InvalidArgumentError, match="not empty"):
        tree.get_mutable_local_copy(volume)
    assert tree.get_mutable_local_copy(volume, overwrite=True) == str(volume)
    assert (held(volume), volume.stat().st_ino) == ({"a": "A", "d/b": "B"}, inode)
    assert sorted(each.name for each in volume.iterdir()) == ["a", "d"]
