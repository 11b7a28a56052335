"""Links to files elsewhere in trees: their state is recorded, and a copy has that state or fails."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pyarrow as pa
import pytest

import lakefeed
from lakefeed.catalog.lake import Lake
from lakefeed.errors import (
    CredentialsError,
    IntegrityError,
    InvalidArgumentError,
    MissingFileError,
    RefusedTargetError,
    TreeStateError,
)
from lakefeed.trees import FileTree
from tests.sdk.trees.test_file_trees import contents, fill, finished
from tests.sdk.trees.test_tree_copies import held
from tests.sdk.web import Site, serving


@pytest.fixture
def web() -> Iterator[Site]:
    with serving() as site:
        yield site


@pytest.mark.live
def test_links_are_files_of_the_tree(home: Path, tmp_path: Path, web: Site) -> None:
    urls = [web.put("one.txt", b"1"), web.put("t%20wo.txt?x=1", b"22")]
    web.files["/t%20wo.txt"] = b"22"
    tree = FileTree.create("links", "animals")
    tree.add_files(fill(tmp_path / "f", {"local": "L"}))
    assert tree.add_external_files(urls, dataset_path="web") == 2
    assert tree.add_external_files(urls, wildcard="*.png") == 0
    assert tree.list_files() == ["local", "web/one.txt", "web/t wo.txt"]
    assert tree.is_dirty()
    assert tree.finalize(auto_upload=True)
    entry = tree.file_entries_dict["web/one.txt"]
    assert (entry.link, entry.hash, entry.size) == (urls[0], None, 1)
    assert contents(tree) == {"local": "L", "web/one.txt": "1", "web/t wo.txt": "22"}
    expected = {"local": "L", "web/one.txt": "1", "web/t wo.txt": "22"}
    assert held(tree.get_local_copy()) == held(tree.get_local_copy()) == expected
    assert held(tree.get_mutable_local_copy(tmp_path / "work")) == expected
    assert tree.verify_dataset_hash() == []

    child = FileTree.create("links", parent_datasets=[tree])
    counts = child.add_external_files(urls, dataset_path="web")
    assert (counts.added, counts.modified, counts.unchanged, child.is_dirty()) == (0, 0, 2, False)
    web.put("one.txt", b"one")
    counts = child.add_external_files(urls, dataset_path="web")
    assert (counts.added, counts.modified, counts.unchanged) == (0, 1, 1)
    assert child.finalize(auto_upload=True)
    assert child.list_modified_files() == ["web/one.txt"]
    assert held(child.get_local_copy()) == expected | {"web/one.txt": "one"}
    assert held(tree.get_local_copy(files="web")) == {path: expected[path] for path in expected if "web" in path}
    shutil.rmtree(Lake.current().settings.cache / "trees")  # until now, the old state was here
    with pytest.raises(IntegrityError, match="changed since"):
        tree.get_local_copy(files="web")
    with pytest.raises(TreeStateError):
        child.add_external_files(urls)


def test_folders_of_object_stores(home: Path) -> None:
    store = fsspec.filesystem("memory")
    for name in ("bucket/a/1.txt", "bucket/a/b/2.txt", "bucket/a/3.png"):
        store.pipe(f"/{name}", name.encode())
    tree = FileTree.create("links", "animals")
    assert tree.add_external_files("memory://bucket/a", wildcard="*.txt") == 2
    assert tree.list_files() == ["1.txt", "b/2.txt"]
    assert tree.add_external_files("memory://bucket/a/", recursive=False) == 1
    assert tree.add_external_files("memory://bucket/a/1.txt", dataset_path="x") == 1
    assert tree.list_files() == ["1.txt", "3.png", "b/2.txt", "x/1.txt"]
    store.rm("/bucket", recursive=True)


@pytest.mark.live
def test_links_that_are_refused(home: Path, tmp_path: Path, web: Site) -> None:
    tree = FileTree.create("links", "animals")
    local = fill(tmp_path / "f", {"secret": "S"}) / "secret"
    good = web.put("good.txt", b"good")
    for url, error in (
        (str(local), RefusedTargetError),
        (local.as_uri(), RefusedTargetError),
        ("ftp://host/x", RefusedTargetError),
        (f"{web.url}/absent", MissingFileError),
        (web.url.replace("http://", "http://user:secret@") + "/good.txt", CredentialsError),
        ([], InvalidArgumentError),
        (None, InvalidArgumentError),
        ([7], InvalidArgumentError),
        ("memory://nothing", MissingFileError),
    ):
        with pytest.raises(error):
            tree.add_external_files(url)  # type: ignore[arg-type]
    assert tree.list_files() == []
    assert tree.add_external_files([f"{web.url}/absent", good], strict=False) == 1
    # A row of another writer does not make a copy read files of this machine.
    other = finished(tmp_path / "f", "other")
    row = other.dataset.to_arrow().to_pylist()[0]
    row["file"] = {"url": local.as_uri(), "sha256": None, "size": 1, "content_type": None, "filename": "x"}
    row["path"] = "evil"
    rows = lakefeed.Dataset.from_arrow(pa.Table.from_pylist([row], other.dataset.schema))
    rows.append_to("animals.other", copy_files=False)
    with pytest.raises(RefusedTargetError):
        FileTree.get(dataset_project="animals", dataset_name="other").get_local_copy()


def test_a_folder_with_the_characters_of_a_pattern_is_that_folder(home: Path, tmp_path: Path) -> None:
    tree = finished(fill(tmp_path / "f", {"a1/x": "1", "b/y": "2"}))
    draft = FileTree.create("photos", "animals", tree)
    assert tuple(draft.sync_folder(fill(tmp_path / "g", {"z": "3"}), dataset_path="a[1]")) == (0, 1)
    assert tuple(draft.sync_folder(tmp_path / "g", dataset_path="*")) == (0, 1)
    assert draft.list_files() == ["*/z", "a1/x", "a[1]/z", "b/y"]
