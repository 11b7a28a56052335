"""Copies of trees on this machine: exact, whole, checked, and never at the cost of what a user put there."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

import lakefeed
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    ConflictingPathsError,
    IntegrityError,
    InvalidArgumentError,
    MissingFileError,
    RefusedTargetError,
    StorageFullError,
    TreeStateError,
)
from lakefeed.storage.disk import sealed_files
from lakefeed.trees import FileTree, copy_eviction
from lakefeed.trees.local_copies import LocalCopy
from tests.sdk.trees.test_file_trees import fill, finished

FILES = {"a.txt": "A", "same.txt": "A", "d/b.txt": "B", "d/e/empty": "", "large": "l" * (2 << 20), "x.sh": "#!"}


def held(folder: str | Path | None) -> dict[str, str]:
    """The files in a folder."""
    assert folder is not None
    top = Path(folder)
    return {path.relative_to(top).as_posix(): path.read_text() for path in top.rglob("*") if not path.is_dir()}


@pytest.fixture
def tree(home: Path, tmp_path: Path) -> FileTree:
    folder = fill(tmp_path / "f", FILES)
    (folder / "x.sh").chmod(0o755)
    return finished(folder)


def test_copies_are_exact_read_only_and_mended(tree: FileTree, tmp_path: Path) -> None:
    folder = Path(tree.get_local_copy() or "")
    assert held(folder) == FILES
    assert [oct((folder / name).stat().st_mode & 0o777) for name in ("a.txt", "x.sh")] == ["0o444", "0o555"]
    assert (folder / "a.txt").samefile(folder / "same.txt")
    before = (folder / "d" / "b.txt").stat().st_ino
    assert tree.get_local_copy() == str(folder)
    assert (folder / "d" / "b.txt").stat().st_ino == before  # nothing was written again

    def write(path: Path) -> None:
        path.chmod(0o644)
        path.write_text("C")

    def link(path: Path) -> None:
        path.unlink()
        path.symlink_to(tmp_path / "f" / "a.txt")

    for harm in (Path.unlink, write, link, lambda path: path.chmod(0o666)):
        harm(folder / "d" / "b.txt")
        if harm in (write, Path.unlink):
            assert tree.verify_dataset_hash() == ["d/b.txt"]
        assert tree.get_local_copy() == str(folder)
        assert held(folder) == FILES
    assert held(tmp_path / "f")["a.txt"] == "A"
    assert tree.verify_dataset_hash() == tree.verify_dataset_hash(tmp_path / "f") == []
    (tmp_path / "f" / "a.txt").write_text("Z")
    (tmp_path / "f" / "d" / "b.txt").unlink()
    assert tree.verify_dataset_hash(tmp_path / "f") == ["a.txt", "d/b.txt"]
    assert tree.verify_dataset_hash(tmp_path / "f", skip_hash=True) == ["d/b.txt"]


def test_what_somebody_added_is_left_alone(tree: FileTree, tmp_path: Path) -> None:
    first = Path(tree.get_local_copy() or "")
    (first / "d" / "mine.txt").write_text("mine")
    second = Path(tree.get_local_copy() or "")
    assert second != first
    assert held(second) == FILES
    assert held(first) == FILES | {"d/mine.txt": "mine"}
    assert tree.get_local_copy() == str(second)
    (second / "emptied").mkdir()
    (tmp_path / "elsewhere").mkdir()
    third = Path(tree.get_local_copy() or "")
    (third / "d" / "b.txt").unlink()
    (third / "d" / "e" / "empty").unlink()
    (third / "d" / "e").rmdir()
    (third / "d").rmdir()
    (third / "d").symlink_to(tmp_path / "elsewhere")
    fourth = tree.get_local_copy()
    assert held(fourth) == FILES
    assert len({str(first), str(second), str(third), fourth}) == 4
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert (second / "emptied").is_dir()


def test_versions_share_files_where_links_are_possible(
    tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = Path(tree.get_local_copy() or "")
    child = finished(fill(tmp_path / "g", FILES | {"a.txt": "new"}), parent_datasets=[tree])
    new = Path(child.get_local_copy() or "")
    assert held(new) == FILES | {"a.txt": "new"}
    assert (new / "large").samefile(old / "large")
    assert not (new / "x.sh").samefile(old / "x.sh")  # it lost its executable bit, which belongs to the inode

    def refuse(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.EMLINK, os.strerror(errno.EMLINK))

    assert {errno.EMLINK, errno.EXDEV, errno.EPERM} <= sealed_files.NO_LINKS
    monkeypatch.setattr(sealed_files.os, "link", refuse)
    copy = Path(tree.get_local_copy(files=["large", "d"]) or "")
    assert held(copy) == {path: text for path, text in FILES.items() if path == "large" or path.startswith("d/")}
    assert not (copy / "large").samefile(old / "large")


def test_parts_and_patterns(home: Path, tmp_path: Path) -> None:
    files = {f"{i:02}.txt": "x" * (i * 7 % 40) for i in range(23)}
    tree = finished(fill(tmp_path / "f", files))
    for count in (1, 2, 5, 30):
        parts = [held(tree.get_local_copy(part=part, num_parts=count)) for part in range(count)]
        assert sum(map(len, parts)) == len(files)
        assert {path: text for part in parts for path, text in part.items()} == files
        if count == 5:
            sizes = [sum(map(len, part.values())) + len(part) for part in parts]
            assert max(sizes) - min(sizes) <= 82
    assert sorted(held(tree.get_local_copy(files=["0?.txt", "20.txt"]))) == [
        *(f"{i:02}.txt" for i in range(10)),
        "20.txt",
    ]
    for wrong in ({"part": 0}, {"num_parts": 2}, {"part": 2, "num_parts": 2}, {"part": -1, "num_parts": 2},
                  {"part": 0, "num_parts": 0}, {"files": "nothing"}, {"files": []}, {"files": 7}, {"files": "../*"},
                  {"part": 1.0, "num_parts": 2}, {"max_workers": 0}, {"use_soft_links": 1}):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            tree.get_local_copy(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TreeStateError):
        FileTree.create("other", "animals").get_local_copy()


def test_mutable_copies(tree: FileTree, home: Path, tmp_path: Path) -> None:
    target = tmp_path / "work" / "copy"
    assert tree.get_mutable_local_copy(target) == str(target)
    assert held(target) == FILES
    assert [oct((target / name).stat().st_mode & 0o777) for name in ("a.txt", "x.sh")] == ["0o644", "0o755"]
    (target / "a.txt").write_text("mine")
    assert held(tree.get_local_copy()) == FILES
    with pytest.raises(InvalidArgumentError, match="not empty"):
        tree.get_mutable_local_copy(target)
    assert tree.get_mutable_local_copy(target, raise_on_error=False) is None
    assert held(target)["a.txt"] == "mine"
    assert tree.get_mutable_local_copy(str(target), overwrite=True) == str(target)
    assert held(target) == FILES
    (tmp_path / "empty").mkdir()
    assert held(tree.get_mutable_local_copy(tmp_path / "empty", files="d")) == {"d/b.txt": "B", "d/e/empty": ""}
    (tmp_path / "file").write_text("x")
    for wrong in (tmp_path / "file", home, tmp_path, "/", "", None, 7, tmp_path / "cache" / "x"):
        with pytest.raises(InvalidArgumentError):
            tree.get_mutable_local_copy(wrong, overwrite=True)
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == ["copy"]


def test_a_copy_that_fails_leaves_nothing(tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lake = Lake.current()
    saved = {path: path.read_bytes() for path in lake.settings.home.rglob("packs/**/*") if path.is_file()}
    assert saved
    for path, data in saved.items():
        path.chmod(0o644)
        path.write_bytes(data.replace(b"B", b"b"))
    with pytest.raises(IntegrityError, match=r"'d/b\.txt'"):
        tree.get_local_copy()
    assert tree.get_local_copy(raise_on_error=False) is None
    with pytest.raises(IntegrityError):
        tree.get_mutable_local_copy(tmp_path / "target")
    for path, data in saved.items():
        path.write_bytes(data)

    def full(*arguments: Any, **options: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(sealed_files.os, "fchmod", full)
        with pytest.raises(StorageFullError):
            tree.get_local_copy()
    assert not (tmp_path / "target").exists()
    assert list((lake.settings.cache / "trees").glob("*@*")) == []
    assert held(tree.get_local_copy()) == FILES


def test_paths_of_other_writers_do_not_escape(tree: FileTree, tmp_path: Path) -> None:
    row = tree.dataset.filter("path = 'a.txt'").to_arrow()
    for path, error in (
        ("../evil", RefusedTargetError),
        ("/tmp/evil", RefusedTargetError),
        ("d//evil", RefusedTargetError),
        ("a.txt/evil", ConflictingPathsError),
    ):
        evil = row.set_column(0, row.schema.field(0), pa.array([path]))
        lakefeed.Dataset.from_arrow(evil).append_to("animals.photos")
        newest = FileTree.get(dataset_project="animals", dataset_name="photos")
        assert path in newest.list_files()
        with pytest.raises(error):
            newest.get_local_copy()
        lakefeed.Dataset("animals.photos").restore(tree.dataset.version)
    missing = row.to_pylist()[0]
    missing["file"]["sha256"] = "0" * 64
    with pytest.raises(MissingFileError):
        lakefeed.Dataset.from_arrow(pa.Table.from_pylist([missing], row.schema)).append_to("animals.photos")


def test_names_that_a_file_system_takes_for_one(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = finished(fill(tmp_path / "f", {"A": "1", "a": "2", "b": "3"}))
    monkeypatch.setattr("lakefeed.trees.tree_materialization.folds_names", lambda folder: True)
    with pytest.raises(ConflictingPathsError, match="'A' and 'a'"):
        tree.get_local_copy()
    assert held(tree.get_local_copy(files=["a", "b"])) == {"a": "2", "b": "3"}


def test_copies_that_nobody_uses_make_room(tree: FileTree, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def copy(files: str) -> Path:
        return Path(tree.get_local_copy(files=files) or "").parent

    old, mine, young = copy("a.txt"), copy("large"), copy("d")
    (mine / "tree" / "mine").write_text("mine")
    monkeypatch.setenv("LAKEFEED_CACHE_BYTES", "100")
    held_locks = dict(copy_eviction._held)
    day = 100_000
    for folder in (old, mine):
        at = (folder / "manifest.arrow").stat().st_mtime - day
        os.utime(folder / "manifest.arrow", (at, at))
    FileTree.get(tree.id).get_local_copy(files="same.txt")
    assert old.exists()  # this process was given it
    for descriptor in held_locks.values():
        os.close(descriptor)
    copy_eviction._held.clear()
    FileTree.get(tree.id).get_local_copy(files="x.sh")
    assert [folder.exists() for folder in (old, mine, young)] == [False, True, True]
    assert held(tree.get_local_copy(files="a.txt")) == {"a.txt": "A"}


def test_a_copy_that_was_removed_is_made_again(tree: FileTree) -> None:
    first = LocalCopy(tree._tree)  # type: ignore[arg-type]
    folder = first.get()
    assert first.find() == folder
    (folder.parent / "manifest.arrow").unlink()
    assert held(first.get()) == FILES  # beside what is there


def test_soft_links_lead_to_the_copy(tree: FileTree, tmp_path: Path) -> None:
    files = Path(tree.get_local_copy(use_soft_links=False) or "")
    folder = Path(tree.get_local_copy(use_soft_links=True) or "")
    assert held(folder) == held(files) == FILES
    assert all(path.is_symlink() and path.samefile(files / path.relative_to(folder)) for path in folder.rglob("*.txt"))
    assert not any(path.is_symlink() for path in files.rglob("*"))
    assert tree.verify_dataset_hash(folder) == []
    (folder / "a.txt").unlink()
    (folder / "same.txt").unlink()
    (folder / "same.txt").write_text("mine")
    assert tree.get_local_copy(use_soft_links=True) == str(folder)
    assert (held(folder), (folder / "same.txt").is_symlink()) == (FILES, True)
    (folder / "mine").write_text("mine")
    other = tree.get_local_copy(use_soft_links=True)
    assert (other != str(folder), held(other), (folder / "mine").read_text()) == (True, FILES, "mine")
    # What the links lead to was evicted: the next call brings it back. Other versions link files, not links.
    shutil.rmtree(files.parent)
    assert held(tree.get_local_copy(True, files="d/*")) == {"d/b.txt": "B", "d/e/empty": ""}
    assert held(tree.get_local_copy(True)) == FILES
    child = finished(fill(tmp_path / "g", {"a.txt": "A"}), parent_datasets=[tree])
    assert (Path(child.get_local_copy() or "") / "a.txt").samefile(Path(other or "") / "a.txt")
