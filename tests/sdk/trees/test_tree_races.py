"""File trees under several processes, kills, and collections of garbage: nothing lost, nothing half, no label twice."""

from __future__ import annotations

import datetime as dt
import json
import os
from pathlib import Path

import pytest

from lakefeed import collect_garbage
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import Lake
from lakefeed.errors import TreeStateError
from lakefeed.trees import FileTree
from tests.sdk.killing import killed_at_random
from tests.sdk.processes import Program, finish_all
from tests.sdk.trees.test_file_trees import contents, fill, finished

pytestmark = pytest.mark.live
NO_GRACE = dt.timedelta(0)
KILLS = pytest.mark.parametrize(
    "kills",
    [pytest.param(3, id="share"), pytest.param(20, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(0)])],
)


def drafts() -> list[str]:
    return HiddenTables(Lake.current(), "_drafts").names()


def test_an_upload_that_meets_a_finalize_is_in_the_version_or_raises(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "A", "b": "B"})
    mine = FileTree.create("photos", "animals")
    other = FileTree.get(mine.id)
    mine.add_files(folder / "a")
    other.add_files(folder / "b")
    other.upload(show_progress=False)
    mine.upload(show_progress=False)
    assert mine.list_files() == other.list_files() == ["a", "b"]
    late = FileTree.get(mine.id)
    late.add_files(folder / "a", dataset_path="late")
    remover = FileTree.get(mine.id)
    assert remover.remove_files("a") == 1
    assert mine.finalize()
    assert contents(mine) == {"a": "A", "b": "B"}
    with pytest.raises(TreeStateError, match="'late/a'"):
        late.upload(show_progress=False)
    with pytest.raises(TreeStateError, match="1 files"):
        late.finalize()
    with pytest.raises(TreeStateError, match="'a'"):
        remover.finalize()
    assert other.finalize()  # it is the same version
    assert (other, other.version, drafts()) == (mine, "1.0.0", [])


def test_a_finalize_that_was_killed_is_completed_by_the_next(home: Path, tmp_path: Path) -> None:
    """Killed before the commit, and between the commit and the removal of the draft."""
    tree = FileTree.create("photos", "animals")
    tree.add_files(fill(tmp_path / "f", {"a": "A"}))
    tree.upload(show_progress=False)
    draft = tree._tree.table  # type: ignore[union-attr]
    draft.seal()
    again = FileTree.get(tree.id)
    again.add_files(tmp_path / "f", dataset_path="x")
    with pytest.raises(TreeStateError, match="being finalized"):
        again.upload(show_progress=False)
    again.remove_files("x")
    facts, key = tree._tree.facts, draft.name  # type: ignore[union-attr]
    assert again.finalize()
    draft.create(facts)  # as if it had not been removed
    assert drafts() == [key]
    assert FileTree.get(tree.id).is_final()
    assert tree.finalize()
    assert (tree.version, drafts()) == ("1.0.0", [])
    draft.create(facts)
    assert [each["status"] for each in FileTree.list_datasets(only_completed=False)] == ["completed"]
    assert drafts() == []


def test_a_collection_spares_drafts_and_takes_what_is_deleted(home: Path, tmp_path: Path) -> None:
    small, large = "s" * 100, "l" * (2 << 20)
    draft = FileTree.create("photos", "animals")
    draft.add_files(fill(tmp_path / "f", {"small": small, "large": large}))
    draft.upload(show_progress=False)
    kept = finished(fill(tmp_path / "g", {"kept": "k" * 100}), "other")
    assert collect_garbage(dry_run=False, grace=NO_GRACE).blobs == 0
    draft = FileTree.get(draft.id)
    assert draft.finalize()
    assert contents(draft) == {"small": small, "large": large}
    child = FileTree.create("photos", "animals", draft)
    child.remove_files("large")
    assert child.finalize()
    FileTree.delete(draft.id, force=True)
    report = collect_garbage(dry_run=False, grace=NO_GRACE)
    assert (report.blobs, report.postponed) == (1, None)
    assert (contents(child), contents(kept)) == ({"small": small}, {"kept": "k" * 100})


FINALIZE = """
import json, sys
from lakefeed.trees import FileTree
tree = FileTree.get(sys.argv[1])
tree.finalize()
print(json.dumps([tree.version, tree.list_files()]))
"""


def test_eight_processes_finalize_eight_drafts_of_one_name(home: Path, tmp_path: Path) -> None:
    made = {}
    for number in range(8):
        tree = FileTree.create("photos", "animals")
        tree.add_files(fill(tmp_path / "f", {f"{number}/{i}": str(number) for i in range(number + 1)}))
        tree.upload(show_progress=False)
        made[tree.id] = tree.list_files()
    programs = [Program(FINALIZE, tree) for tree in made]
    reports = [collect_garbage(dry_run=False, grace=NO_GRACE) for _ in range(2)]
    printed = [json.loads(each) for each in finish_all(programs)]
    assert sorted(label for label, _ in printed) == [f"1.0.{number}" for number in range(8)]
    assert [files for _, files in printed] == list(made.values())
    for tree, files in made.items():
        assert sorted(contents(FileTree.get(tree))) == files
    assert drafts() == []
    assert all(report.blobs == 0 for report in reports)


UPLOAD = """
import sys
from pathlib import Path
from lakefeed.trees import FileTree
tree = FileTree.get(sys.argv[1])
for number in range(3):
    tree.add_files(sys.argv[2], dataset_path=f"{sys.argv[3]}/{number}")
    tree.upload(show_progress=False)
"""


def test_processes_upload_to_one_draft(home: Path, tmp_path: Path) -> None:
    folder = fill(tmp_path / "f", {"a": "A", "b": "B"})
    tree = FileTree.create("photos", "animals")
    finish_all([Program(UPLOAD, tree.id, folder, number) for number in range(4)])
    assert tree.finalize()
    assert len(contents(tree)) == 4 * 3 * 2


COPY = """
import sys
from lakefeed.trees import FileTree
tree = FileTree.get(sys.argv[1])
for links in (False, True):
    print(tree.get_local_copy(links))
print(tree.get_mutable_local_copy(sys.argv[2], overwrite=True))
"""


def test_processes_make_one_copy(home: Path, tmp_path: Path) -> None:
    texts = {f"{number}/x": str(number) for number in range(50)}
    tree = finished(fill(tmp_path / "f", texts))
    printed = {*finish_all([Program(COPY, tree.id, tmp_path / "work") for _ in range(4)])}
    assert len(printed) == 1
    for folder in map(Path, printed.pop().split()):
        assert {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("x")} == texts
    assert [each.name for each in tmp_path.iterdir() if "lakefeed" in each.name] == []


def release(folder: str, name: str, cache: str) -> None:
    """Creates, uploads, finalizes and copies trees, whose files all hold one number, until it is killed."""
    os.environ["LAKEFEED_CACHE_DIR"] = cache
    number = int.from_bytes(os.urandom(3), "big")
    while True:
        number += 1
        tree = FileTree.create(name, "animals")
        work = Path(folder) / str(number)
        tree.sync_folder(fill(work, {f"{i}.txt": str(number) for i in range(4)}))
        tree.upload(show_progress=False)
        tree.finalize()
        tree.get_local_copy()


@KILLS
def test_kills_leave_whole_versions_and_drafts_that_go_on(home: Path, tmp_path: Path, kills: int) -> None:
    killed_at_random(kills, release, str(tmp_path / "work"), "killed", str(tmp_path / "cache"), longest=2.0)
    collect_garbage(dry_run=False, grace=NO_GRACE, patience=dt.timedelta(seconds=1))
    listed = FileTree.list_datasets("animals", only_completed=False)
    copies = [folder for folder in (tmp_path / "cache" / "trees").glob("*/") if not folder.name.startswith("new-")]
    for folder in copies:
        texts = [path.read_text() for path in (folder / "tree").iterdir()]
        assert (len(texts), len(set(texts))) == (4, 1)
    for each in listed:
        tree = FileTree.get(each["id"])
        if not tree.is_final():
            if tree.list_files():
                assert tree.finalize()
            else:
                FileTree.delete(tree.id)
                continue
        rows = contents(tree)
        assert len(rows) == 4
        assert {path.name: path.read_text() for path in Path(tree.get_local_copy() or "").iterdir()} == rows
        assert len(set(rows.values())) == 1
    labels = [each["version"] for each in FileTree.list_datasets("animals")]
    assert len(set(labels)) == len(labels)
    assert drafts() == []
    assert finished(fill(tmp_path / "f", {"a": "A"}), "killed").list_files() == ["a"]
