"""File trees: what they hold, what they say of one another, and what is refused."""

from __future__ import annotations

import inspect
import os
import re
import socket
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import lakefeed
from lakefeed.catalog.lake import Lake
from lakefeed.cli.references import parse_reference
from lakefeed.errors import (
    ConflictingPathsError,
    FileError,
    InUseError,
    InvalidArgumentError,
    MissingFileError,
    RefusedTargetError,
    TagNotFoundError,
    TreeNotFoundError,
    TreeStateError,
    UnsupportedError,
)
from lakefeed.trees import Dataset, FileTree


def fill(folder: Path, files: Mapping[str, str]) -> Path:
    """Makes a folder hold exactly these files."""
    for path in sorted(folder.rglob("*"), reverse=True) if folder.exists() else ():
        path.unlink() if not path.is_dir() or path.is_symlink() else path.rmdir()
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    return folder


def finished(folder: Path, name: str = "photos", project: str = "animals", **options: Any) -> FileTree:
    """A version with the files of a folder."""
    tree = FileTree.create(name, project, **options)
    tree.sync_folder(folder)
    assert tree.finalize(auto_upload=True)
    return tree


def contents(tree: FileTree) -> dict[str, str]:
    """The files of a version, read through the dataset."""
    return {row["path"]: row["file"].bytes().decode() for row in tree.dataset}


# ------------------------------------------------------------------------------------------------- the seed


SEED = {
    "add_files": "path wildcard local_base_folder dataset_path recursive verbose",
    "add_external_files": "source_url wildcard dataset_path recursive verbose",
    "create": "dataset_name dataset_project parent_datasets use_current_task",
    "delete": "dataset_id dataset_project dataset_name force",
    "finalize": "verbose raise_on_error",
    "get": "dataset_id dataset_project dataset_name dataset_tags only_completed only_published",
    "get_default_storage": "",
    "get_dependency_graph": "",
    "get_logger": "",
    "get_local_copy": "use_soft_links raise_on_error",
    "get_mutable_local_copy": "target_folder overwrite raise_on_error",
    "is_dirty": "",
    "is_final": "",
    "list_added_files": "dataset_id",
    "list_datasets": "dataset_project partial_name tags ids only_completed",
    "list_files": "dataset_path recursive dataset_id",
    "list_modified_files": "dataset_id",
    "list_removed_files": "dataset_id",
    "publish": "raise_on_error",
    "remove_files": "dataset_path recursive verbose",
    "squash": "dataset_name dataset_ids dataset_project_name_pairs output_url",
    "sync_folder": "local_path dataset_path verbose",
    "verify_dataset_hash": "local_copy_path skip_hash verbose",
    "upload": "show_progress verbose output_url compression",
}
"""The arguments of ClearML's calls, by position."""


@pytest.mark.parametrize("name", sorted(SEED))
def test_arguments_have_the_names_and_positions_of_clearml(name: str) -> None:
    parameters = inspect.signature(getattr(Dataset, name)).parameters.values()
    by_position = [each.name for each in parameters if each.kind is each.POSITIONAL_OR_KEYWORD and each.name != "self"]
    assert by_position == SEED[name].split()


def test_the_dictionary_names_each_call_and_argument() -> None:
    page = (Path(__file__).parents[3] / "docs" / "file-trees.md").read_text()
    _, _, after = page.partition("## From ClearML")
    dictionary, _, _ = after.partition("## From DVC")
    assert "`file_entries_dict`" in dictionary
    for name, arguments in SEED.items():
        assert re.search(rf"\b{name}\({', '.join(arguments.split())}\)`", dictionary), name


def test_versions_hold_what_was_added_changed_and_removed(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a.txt": "A", "sub/b.txt": "B", "sub/deep/c.txt": "C", "x.sh": "#!"})
    (folder / "x.sh").chmod(0o755)
    first = FileTree.create("My photos!", "Ünïcode projects", dataset_tags=["raw"], description="as they came")
    assert (first.version, first.is_dirty(), first.is_final()) == (None, False, False)
    counts = first.add_files(folder)
    assert (int(counts), counts.added, counts.modified, counts.unchanged) == (4, 4, 0, 0)
    assert first.is_dirty()
    assert first.list_files() == ["a.txt", "sub/b.txt", "sub/deep/c.txt", "x.sh"]
    with pytest.raises(TreeStateError, match="4 files wait"):
        first.finalize()
    assert first.finalize(raise_on_error=False) is False
    first.upload(show_progress=False)
    assert not first.is_dirty()
    assert first.finalize()
    assert first.is_final()
    assert (first.name, first.project, first.version, first.tags) == (
        "My photos!",
        "Ünïcode projects",
        "1.0.0",
        ["raw"],
    )
    assert contents(first) == {"a.txt": "A", "sub/b.txt": "B", "sub/deep/c.txt": "C", "x.sh": "#!"}
    assert [path for path, entry in first.file_entries_dict.items() if entry.executable] == ["x.sh"]

    second = FileTree.create("My photos!", parent_datasets=[first.id])
    fill(folder, {"a.txt": "A2", "sub/b.txt": "B", "moved.txt": "C", "x.sh": "#!"})  # it lost its executable bit
    synced = second.sync_folder(folder)
    assert (tuple(synced), synced.added, synced.modified) == ((1, 3), 1, 2)
    assert second.list_removed_files() == ["sub/deep/c.txt"]
    second.upload(show_progress=False)
    assert second.list_added_files() == ["moved.txt"]
    assert second.list_modified_files() == ["a.txt", "x.sh"]
    assert second.list_renamed_files() == [("sub/deep/c.txt", "moved.txt")]
    assert second.finalize()
    assert second.version == "1.0.1"
    assert contents(second) == {"a.txt": "A2", "sub/b.txt": "B", "moved.txt": "C", "x.sh": "#!"}
    assert second.list_files(dataset_id=first.id) == ["sub/b.txt"]
    assert second.get_dependency_graph() == {second.id: [first.id], first.id: []}
    assert second.list_added_files(first.id) == second.list_added_files() == ["moved.txt"]
    assert first.list_removed_files(second.id) == ["moved.txt"]
    # A version is one of a dataset, with all that datasets can do.
    added = second.dataset.added_since(first.dataset.version).to_arrow()["path"].to_pylist()
    assert sorted(added) == ["a.txt", "moved.txt", "x.sh"]
    assert contents(FileTree.get(first.id)) == {"a.txt": "A", "sub/b.txt": "B", "sub/deep/c.txt": "C", "x.sh": "#!"}


def test_a_removed_file_that_is_added_again_is_there(home: Path, tmp_path: Path) -> None:
    """Its old row is still in a data file, listed as deleted."""
    files = {f"{i}.txt": str(i) for i in range(20)}
    folder = fill(tmp_path / "f", files)
    trees = [finished(folder)]
    for change in ({"3.txt": None}, {"3.txt": "3", "4.txt": "other"}, {"4.txt": "4"}):
        for name, text in change.items():
            if text is None:
                files.pop(name)
            else:
                files[name] = text
        trees.append(finished(fill(folder, files), parent_datasets=[trees[-1]]))
        assert contents(trees[-1]) == files
    assert [tree.version for tree in trees] == ["1.0.0", "1.0.1", "1.0.2", "1.0.3"]


def test_finalized_trees_and_sealed_ones_take_no_changes(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "A"})
    tree = finished(folder)
    for call in (
        lambda: tree.add_files(None),
        lambda: tree.remove_files(None),
        lambda: tree.sync_folder(tmp_path / "absent"),
        lambda: tree.upload(show_progress="?"),  # type: ignore[arg-type]
        lambda: tree.finalize(),
    ):
        with pytest.raises(TreeStateError, match="is final"):
            call()
    assert tree.finalize(raise_on_error=False) is False
    draft = FileTree.create("photos", "animals", tree)
    with pytest.raises(TreeStateError, match="draft"):
        draft.publish()
    assert draft.publish(raise_on_error=False) is False
    with pytest.raises(TreeStateError, match="draft"):
        _ = draft.dataset
    assert tree.publish()
    with pytest.raises(InvalidArgumentError, match="in progress"):
        FileTree.create("photos", "animals", draft)


# ------------------------------------------------------------------------------------------------- adding


def test_what_add_files_takes(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a.txt": "A", "b.png": "B", "s/c.txt": "C", "s/t/d.png": "D", "a[1].txt": "E"})
    tree = FileTree.create("wild", "cards")
    for arguments, expected in (
        ({"wildcard": "*.txt"}, ["a.txt", "a[1].txt", "s/c.txt"]),
        ({"wildcard": "*.txt", "recursive": False}, ["a.txt", "a[1].txt"]),
        ({"wildcard": ["*.png", "c.*"]}, ["b.png", "s/c.txt", "s/t/d.png"]),
        ({"wildcard": "s/*"}, ["s/c.txt", "s/t/d.png"]),
        ({"wildcard": "s/**/d.png"}, ["s/t/d.png"]),
        ({"wildcard": "?.[a-t]*"}, ["a.txt", "b.png", "s/c.txt", "s/t/d.png"]),
        ({"wildcard": "*.none"}, []),
        ({"recursive": False}, ["a.txt", "a[1].txt", "b.png"]),
        ({"dataset_path": "/x/y/", "wildcard": "a.txt"}, ["x/y/a.txt"]),
        ({"path": folder / "s", "local_base_folder": folder}, ["s/c.txt", "s/t/d.png"]),
        ({"path": folder / "s", "local_base_folder": folder, "recursive": False}, ["s/c.txt"]),
        ({"path": folder / "s" / "c.txt"}, ["c.txt"]),
        ({"path": folder / "s" / "c.txt", "local_base_folder": folder, "dataset_path": "x"}, ["x/s/c.txt"]),
    ):
        assert tree.add_files(**{"path": folder, **arguments}) == len(expected)  # type: ignore[arg-type]
        assert tree.list_files() == expected
        assert tree.remove_files("*") == len(expected)
    for wrong in ({"path": None}, {"path": ""}, {"wildcard": 7}, {"wildcard": []}, {"local_base_folder": "/etc"},
                  {"dataset_path": "../up"}, {"dataset_path": "a/../b"}, {"dataset_path": "new\nline"},
                  {"recursive": 1}, {"max_workers": 0}, {"dataset_path": "n" * 256}, {"wildcard": "../*"}):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            tree.add_files(**{"path": folder, **wrong})  # type: ignore[arg-type]
    with pytest.raises(MissingFileError):
        tree.add_files(tmp_path / "absent")
    with pytest.raises(MissingFileError, match="Nothing was removed"):
        tree.sync_folder(tmp_path / "absent")
    with pytest.raises(FileError, match="not a folder"):
        tree.sync_folder(folder / "a.txt")
    assert (tree.list_files(), tree.is_dirty()) == ([], False)


def test_what_remove_and_list_match(home: Path, tmp_path: Path) -> None:
    names = ["a.txt", "a[1].txt", "a1.txt", "d/a.txt", "d/b.png", "d/e/c.txt", "dd/z.txt"]
    tree = finished(fill(tmp_path / "f", {name: name for name in names}))
    draft = FileTree.create("photos", "animals", [tree])
    for pattern, recursive, expected in (
        ("a.txt", True, ["a.txt"]),
        ("a[1].txt", True, ["a[1].txt"]),
        ("d", True, ["d/a.txt", "d/b.png", "d/e/c.txt"]),
        ("/d/", False, ["d/a.txt", "d/b.png"]),
        ("d/*.txt", True, ["d/a.txt", "d/e/c.txt"]),
        ("d/*.txt", False, ["d/a.txt"]),
        ("**/*.txt", False, [name for name in names if name.endswith(".txt")]),
        ("*.txt", False, ["a.txt", "a1.txt", "a[1].txt"]),
        ("[!a]/?.png", True, ["d/b.png"]),
        ("d?", True, ["dd/z.txt"]),
        ("nothing", True, []),
    ):
        assert tree.list_files(pattern, recursive) == sorted(expected), pattern
        assert draft.remove_files(pattern, recursive) == len(expected)
        assert draft.list_removed_files() == sorted(expected)
        draft.sync_folder(tmp_path / "f")
    assert tree.list_files(recursive=False) == ["a.txt", "a1.txt", "a[1].txt"]
    for wrong in (None, "", "/", "../a", b"a", 7):
        with pytest.raises(InvalidArgumentError):
            draft.remove_files(wrong)  # type: ignore[arg-type]
    # Removals need no upload; what was added and removed again needs none either.
    draft.add_files(tmp_path / "f" / "a.txt", dataset_path="new")
    assert draft.remove_files("new") == 1
    assert draft.remove_files("d*") == 4
    assert not draft.is_dirty()
    assert draft.finalize()
    assert draft.list_files() == ["a.txt", "a1.txt", "a[1].txt"]


def test_odd_names_and_files(home: Path, tmp_path: Path) -> None:
    odd = [
        "é.txt",
        "e\u0301.txt",
        "A.txt",
        "a.txt",
        "back\\slash",
        "n" * 255,
        "sp ace",
        "-dash",
        "~home",
        "a:b",
        "%20",
    ]
    folder = fill(tmp_path / "f", {name: name for name in odd})
    tree = finished(folder)
    assert contents(tree) == {name: name for name in odd}
    draft = FileTree.create("odd", "animals")

    def refused(name: bytes, make: Any, error: type[Exception], match: str) -> None:
        path = os.fsencode(tmp_path / "g" / "sub") + b"/" + name
        fill(tmp_path / "g", {"good.txt": "good", "sub/good.txt": "good"})
        make(path)
        with pytest.raises(error, match=match):
            draft.add_files(tmp_path / "g")
        assert draft.list_files() == []
        assert draft.add_files(tmp_path / "g", wildcard="good.*") == 2  # the bad one is not asked for
        draft.remove_files("*")
        Path(os.fsdecode(path)).unlink()

    def link_to(target: str) -> Any:
        return lambda path: Path(os.fsdecode(path)).symlink_to(target)

    def write(path: bytes) -> None:
        Path(os.fsdecode(path)).write_text("x")

    refused(b"bad\xff.txt", write, InvalidArgumentError, r"bad\\xff.txt")
    refused(b"new\nline", write, InvalidArgumentError, "control character")
    refused(b"fifo", os.mkfifo, FileError, "FIFO")
    refused(b"dangling", link_to("/nowhere"), MissingFileError, "/nowhere")
    refused(b"itself", link_to("itself"), FileError, "itself")
    with socket.socket(socket.AF_UNIX) as server:

        def bind(path: bytes) -> None:
            here = Path.cwd()
            os.chdir(Path(os.fsdecode(path)).parent)  # the name of a socket may be 107 bytes long
            server.bind("socket")
            os.chdir(here)

        refused(b"socket", bind, FileError, "socket")


def test_links_are_followed_but_not_in_circles(home: Path, tmp_path: Path) -> None:
    fill(tmp_path / "outside", {"o.txt": "O"})
    folder = fill(tmp_path / "f", {"real/a.txt": "A"})
    (folder / "real" / "up").symlink_to("..")
    (folder / "inside").symlink_to("real")
    (folder / "link.txt").symlink_to("real/a.txt")
    tree = FileTree.create("links", "animals", symlinks="error")
    tree.add_files(folder)
    assert tree.list_files() == ["inside/a.txt", "link.txt", "real/a.txt"]
    (folder / "out").symlink_to(tmp_path / "outside")
    with pytest.raises(RefusedTargetError, match="outside"):
        tree.add_files(folder)
    followed = finished(folder, "links")
    assert contents(followed) == {"inside/a.txt": "A", "link.txt": "A", "out/o.txt": "O", "real/a.txt": "A"}


def test_a_path_is_a_file_or_a_folder(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a/b": "B", "a!": "between"})
    tree = finished(folder)
    draft = FileTree.create("photos", "animals", tree)
    with pytest.raises(ConflictingPathsError, match=r"'a'.*'a/b'"):
        draft.add_files(fill(tmp_path / "g", {"a": "file"}) / "a")
    with pytest.raises(ConflictingPathsError):
        draft.add_files(tmp_path / "g" / "a", dataset_path="a/b")
    assert draft.list_files() == ["a!", "a/b"]
    # After the folder is gone, the file may come; a sync does both.
    assert tuple(draft.sync_folder(tmp_path / "g")) == (2, 1)
    assert draft.finalize(auto_upload=True)
    assert draft.list_files() == ["a"]
    with pytest.raises(ConflictingPathsError, match="parents"):
        FileTree.create("photos", "animals", [tree, draft])
    with pytest.raises(ConflictingPathsError, match="squash"):
        FileTree.squash("both", [tree, finished(tmp_path / "g", "other")])


def test_files_that_vanish_before_the_upload_stop_no_others(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {f"{i}.txt": str(i) for i in range(5)})
    tree = FileTree.create("photos", "animals")
    tree.add_files(folder)
    (folder / "1.txt").unlink()
    (folder / "2.txt").unlink()
    (folder / "2.txt").mkdir()
    (folder / "3.txt").write_text("changed since")
    with pytest.raises(FileError, match=r"2 files .* '1.txt', '2.txt'"):
        tree.upload(show_progress=False)
    assert tree.is_dirty()
    assert FileTree.get(tree.id).list_files() == ["0.txt", "3.txt", "4.txt"]
    with pytest.raises(TreeStateError, match="2 files wait"):
        tree.finalize()
    assert tree.remove_files("[12].txt") == 2
    assert tree.finalize()
    assert contents(tree) == {"0.txt": "0", "3.txt": "changed since", "4.txt": "4"}


# ------------------------------------------------------------------------------------------------- several trees


def test_the_last_parent_wins_and_squashes_apply_differences(home: Path, tmp_path: Path) -> None:
    one = finished(fill(tmp_path / "f", {"a": "1", "b": "1", "c": "1"}), "one")
    two = finished(fill(tmp_path / "f", {"b": "2", "d": "2"}), "two")
    merged = FileTree.create("merged", parent_datasets=[one, two.dataset])
    assert merged.finalize()
    assert contents(merged) == {"a": "1", "b": "2", "c": "1", "d": "2"}
    assert (merged.project, merged.parents) == ("animals", [one.id, two.id])
    swapped = FileTree.create("merged", parent_datasets=[two, one])
    swapped.remove_files("d")
    assert swapped.finalize()
    assert contents(swapped) == {"a": "1", "b": "1", "c": "1"}
    squashed = FileTree.squash("flat", [one, swapped])
    assert contents(squashed) == {"a": "1", "b": "1", "c": "1"}
    assert FileTree.squash("flat", [merged, swapped]).list_files() == ["a", "b", "c"]  # d was removed
    assert (squashed.parents, squashed.version, squashed.is_final()) == ([], "1.0.0", True)
    assert FileTree.squash("flat", None, [("animals", "one"), ("animals", "two")]).version == "1.0.2"
    for wrong in ({}, {"dataset_ids": []}, {"dataset_ids": [7]}, {"dataset_project_name_pairs": ["ab"]},
                  {"dataset_ids": [one], "dataset_project_name_pairs": [("animals", "one")]}):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            FileTree.squash("wrong", **wrong)  # type: ignore[arg-type]


def test_get_finds_by_id_name_label_and_tags(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "1"})
    one = finished(folder, dataset_tags=["raw", "old"])
    two = finished(folder, dataset_version="final cut", dataset_tags=["raw"])
    other = finished(folder, "photos", "plants")
    get = FileTree.get
    assert get(dataset_project="animals", dataset_name="photos") == two
    assert get(dataset_project="animals", dataset_name="photos", dataset_version="1.0.0") == one
    assert get(dataset_project="animals", dataset_tags=["old"]) == one
    assert get(dataset_project="plants") == other
    assert get(dataset_name="photos", dataset_tags=["raw"]) == two
    assert get("animals.photos@v1") == one
    assert two.publish()
    assert get(dataset_project="animals", dataset_name="photos", only_published=True) == two
    draft = FileTree.create("photos", "animals", dataset_version="3.0")
    assert get(dataset_project="animals", dataset_name="photos") == two
    assert get(dataset_project="animals", dataset_name="photos", only_completed=False) == draft
    fresh = FileTree.create("fresh", "animals")
    assert get(dataset_project="animals", dataset_name="fresh") == fresh
    FileTree.create("fresh", "animals")
    for arguments, match in (
        ({"dataset_project": "animals", "dataset_name": "fresh"}, "2 file trees"),
        ({"dataset_project": "animals", "dataset_name": "fresh", "only_completed": True}, "in progress"),
        ({"dataset_name": "photos"}, "2 file trees"),
        ({"dataset_project": "nobody"}, "no file tree"),
        ({"dataset_project": "animals", "dataset_name": "photos", "dataset_version": "9"}, "final cut, 1.0.0"),
        ({"dataset_id": "animals.photos@0123456789ab"}, "no file tree"),
        ({"dataset_id": "nobody.photos@v1"}, "no file tree"),
        ({"dataset_id": draft.id, "only_completed": True}, "in progress"),
        ({"dataset_id": one.id, "only_published": True}, "not published"),
    ):
        with pytest.raises(TreeNotFoundError, match=match):
            get(**arguments)  # type: ignore[arg-type]
    for wrong in ({}, {"dataset_id": one.id, "dataset_name": "photos"}, {"dataset_id": 7}, {"dataset_id": "photos"},
                  {"dataset_name": ""}, {"dataset_project": "animals", "only_completed": 1}):  # fmt: skip
        with pytest.raises(InvalidArgumentError):
            get(**wrong)  # type: ignore[arg-type]
    listed = FileTree.list_datasets("animals", only_completed=False)
    assert [(each["name"], each["version"], each["status"]) for each in listed if each["name"] == "photos"] == [
        ("photos", "3.0", "in_progress"),
        ("photos", "final cut", "published"),
        ("photos", "1.0.0", "completed"),
    ]
    assert [each["id"] for each in FileTree.list_datasets(partial_name="hot", tags=["old"])] == [one.id]
    assert FileTree.list_datasets(ids=[other.id])[0]["project"] == "plants"
    assert Lake.current().names() == [
        "animals.photos",
        "plants.photos",
    ]  # no drafts
    with pytest.raises(TreeStateError, match="'final cut' already"):
        FileTree.create("photos", "animals", dataset_version="final cut")


def test_labels_are_versions_of_the_dataset(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "A"})
    first = finished(folder)
    finished(fill(folder, {"b": "B"}), dataset_version="gold")
    assert lakefeed.FileTree is FileTree
    assert lakefeed.Dataset("animals.photos", version="1.0.0").version == 1
    rows = lakefeed.Dataset("animals.photos", version="gold")
    assert rows.to_arrow()["path"].to_pylist() == ["b"]
    assert rows.added_since("1.0.0").count() == 1
    assert parse_reference("animals.photos@1.0.0").open().version == 1
    first.dataset.tag("gold")  # a tag comes first
    assert lakefeed.Dataset("animals.photos", version="gold").version == 1
    with pytest.raises(
        TagNotFoundError, match=r"no tag '2\.0\.0'; the tags are 'gold', and the labels, newest first, 'go"
    ):
        len(lakefeed.Dataset("animals.photos", version="2.0.0"))


def test_a_label_that_is_taken_while_a_draft_is_open(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "1"})
    drafts = [FileTree.create("photos", "animals", dataset_version=label) for label in ("2.0.0", "2.0.0", None)]
    for draft in drafts:
        draft.add_files(folder)
        draft.upload(show_progress=False)
    assert drafts[0].finalize()
    with pytest.raises(TreeStateError, match=r"2\.0\.0.*2\.0\.1"):
        drafts[1].finalize()
    assert drafts[1].add_files(fill(tmp_path / "g", {"b": "2"})) == 1
    drafts[1].upload(show_progress=False)  # it is open again
    assert drafts[2].finalize()
    assert drafts[2].version == "2.0.1"


def test_delete_refuses_what_others_use(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "1"})
    one = finished(folder)
    two = finished(fill(folder, {"a": "2"}), parent_datasets=[one])
    three = finished(fill(folder, {"a": "3"}), parent_datasets=[two])
    draft = FileTree.create("photos", "animals", [three])
    with pytest.raises(InUseError, match="parent") as caught:
        FileTree.delete(two.id)
    assert caught.value.users == (f"{three.id} has it as a parent",)
    with pytest.raises(InUseError, match="draft"):
        FileTree.delete(three.id)
    FileTree.delete(draft.id)
    three.publish()
    with pytest.raises(InUseError, match="published"):
        FileTree.delete(dataset_project="animals", dataset_name="photos")
    unread, read = drafts = [FileTree.create(name, "animals", [two]) for name in ("unread", "read")]
    assert read.list_files() == ["a"]
    FileTree.delete(two.id, force=True)
    assert [each["version"] for each in FileTree.list_datasets()] == ["1.0.2", "1.0.0"]
    assert contents(FileTree.get(three.id)) == {"a": "3"}
    assert three.get_dependency_graph() == {three.id: [two.id], two.id: []}
    lists = ("list_added_files", "list_modified_files", "list_removed_files", "list_renamed_files")
    for each in (three, *drafts):
        for name in lists:
            with pytest.raises(
                TreeNotFoundError, match=f"^the parent {two.id!r} of the file tree {each.id!r} was deleted"
            ):
                getattr(each, name)()
    for act in (unread.list_files, unread.finalize, lambda: unread.add_files(folder), lambda: FileTree.get(unread.id)):
        with pytest.raises(
            TreeNotFoundError, match=f"^the parent {two.id!r} of the file tree {unread.id!r} was deleted"
        ):
            act()
    for draft in drafts:
        FileTree.delete(draft.id)
    assert three.list_modified_files(one.id) == ["a"]
    FileTree.delete(three.id, force=True)
    assert contents(FileTree.get(dataset_project="animals", dataset_name="photos")) == {"a": "1"}
    four = finished(fill(folder, {"a": "4"}))
    assert (four.version, four.dataset.version) == ("1.0.1", 4)  # labels of deleted versions are free, numbers are not
    for tree in (one, four):
        FileTree.delete(tree.id)
    assert FileTree.list_datasets(only_completed=False) == []
    for gone in (one.id, draft.id):
        with pytest.raises(TreeNotFoundError):
            FileTree.delete(gone)
    assert finished(folder).version == "1.0.0"
    FileTree.delete(dataset_project="animals", dataset_name="photos", entire_dataset=True)
    assert Lake.current().names() == []


def test_other_datasets_and_stores_are_refused(home: Path, tmp_path: Path) -> None:
    lakefeed.Dataset.from_dict({"x": [1]}).save("animals.numbers")
    with pytest.raises(InvalidArgumentError, match="not the files of a tree"):
        FileTree.create("numbers", "animals")
    with pytest.raises(UnsupportedError, match="s3://elsewhere"):
        FileTree.create("photos", "animals", output_uri="s3://elsewhere")
    tree = FileTree.create("photos", "animals", output_uri=Lake.current().blobs.url)
    with pytest.raises(UnsupportedError):
        tree.upload(output_url="s3://elsewhere")
    assert tree.get_default_storage() == Lake.current().blobs.url
    with pytest.raises(InvalidArgumentError, match="dataset_project"):
        FileTree.create("photos")
    with pytest.raises(TypeError, match=r"FileTree\.create"):
        FileTree()


def test_versions_of_other_writers_are_trees_too(home: Path, tmp_path: Path) -> None:
    """A version that was written as a dataset is a parent like any other."""
    tree = finished(fill(tmp_path / "f", {"a": "1", "b": "2"}))
    lakefeed.Dataset("animals.photos").delete_rows("path = 'a'")
    newest = FileTree.get(dataset_project="animals", dataset_name="photos")
    assert (newest.id, newest.version, newest.parents) == ("animals.photos@v2", "v2", [tree.id])
    assert newest.list_removed_files() == ["a"]
    child = FileTree.create("photos", "animals", newest)
    assert child.finalize()
    assert (child.version, contents(child)) == ("1.0.1", {"b": "2"})


NAMES = st.sampled_from(["a", "b", "d/a", "d/b", "d/e/c", "x"])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), NAMES, st.sampled_from(["1", "2"])),
        st.tuples(st.just("remove"), st.sampled_from(["a", "d", "d/*", "d/e", "x", "*"]), st.just("")),
        st.tuples(st.just("upload"), st.just(""), st.just("")),
        st.tuples(st.just("finalize"), st.just(""), st.just("")),
    ),
    min_size=4,
    max_size=12,
)


@settings(max_examples=1, phases=[Phase.generate])
@given(STEPS)
def test_any_steps_give_what_a_dict_gives(steps: list[tuple[str, str, str]]) -> None:
    follow(steps)


@pytest.mark.soak
@settings(max_examples=200)
@given(STEPS)
def test_many_steps_give_what_a_dict_gives(steps: list[tuple[str, str, str]]) -> None:
    follow(steps)


def follow(steps: list[tuple[str, str, str]]) -> None:
    name = f"t{uuid.uuid4().hex[:12]}"
    folder = Path(os.environ["LAKEFEED_HOME"]).parent / name
    model: dict[str, str] = {}
    tree = FileTree.create(name, "models")
    for number, (step, path, text) in enumerate([*steps, ("finalize", "", "")]):
        if step == "add":
            tree.add_files(fill(folder / str(number), {path: text}))
            model[path] = text
        elif step == "remove":
            gone = [each for each in model if path == "*" or each == path or each.startswith(path.rstrip("*/") + "/")]
            assert tree.remove_files(path) == len(gone)
            model = {each: value for each, value in model.items() if each not in gone}
        elif step == "upload":
            tree.upload(show_progress=False)
            tree = FileTree.get(tree.id)
        else:
            assert tree.finalize(auto_upload=True)
            assert contents(tree) == model
            tree = FileTree.create(name, parent_datasets=[tree])
        assert tree.list_files() == sorted(model)
