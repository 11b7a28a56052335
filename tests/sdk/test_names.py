"""Datasets that get another name, and copies: what depends on a dataset goes on, and no step leaves half a change."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, collect_garbage, connect
from lakefeed.catalog import copying, renaming, trash
from lakefeed.catalog.lake import Lake
from lakefeed.dataset import plan_of
from lakefeed.errors import (
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidArgumentError,
    InvalidNameError,
    StateMismatchError,
    VersionNotFoundError,
)
from lakefeed.loaders.loader_state import PlanIdentity
from lakefeed.routines import Routine, history, run_routine
from lakefeed.routines.pending import pending
from lakefeed.trees.file_tree import FileTree
from tests.sdk.killing import finish, killed_by_itself
from tests.sdk.test_deletion import NOW
from tests.sdk.test_garbage import age


def ids(name: str, **pin: Any) -> list[int]:
    return sorted(Dataset(name, **pin).to_arrow()["id"].to_pylist())


def add(name: str, *values: int) -> None:
    Dataset.from_dict({"id": list(values)}).append_to(name)


def collect(home: Path) -> None:
    age(home)
    collect_garbage(False, NOW, patience=NOW)


@pytest.fixture
def a(home: Path) -> Path:
    Dataset.from_dict({"id": [*range(8)]}).save("a", description="Numbers")
    add("a", 8, 9)
    Dataset("a").tag("gold", 1)
    return home


# ------------------------------------------------------------------------------------------ move


def test_a_dataset_that_moves_keeps_what_belongs_to_it(a: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="this name already"):
        Dataset("a").move("a")
    with pytest.raises(InvalidNameError):
        Dataset("a").move("A b")
    moved = Dataset("a").move("team.b")
    assert moved.name == "team.b"
    assert [each.version for each in moved.list_versions()] == [2, 1]
    assert (moved.tags(), moved.description, ids("team.b", version="gold")) == ({"gold": 1}, "Numbers", [*range(8)])
    with pytest.raises(DatasetNotFoundError, match=r"no dataset 'a': renamed to 'team.b' at .*, after version 2"):
        Dataset("a").count()
    Dataset.from_dict({"id": [1]}).save("a")
    assert [each.version for each in Dataset("a").list_versions()] == [3]
    with pytest.raises(VersionNotFoundError, match=r"renamed to 'team\.b'"):
        Dataset("a", version=1).count()
    with pytest.raises(DatasetExistsError, match="dataset 'a' exists already"):
        Dataset("team.b").move("a")
    Dataset("a").delete(permanent=True)
    Dataset("team.b").move("c").move("a")
    assert ids("a") == [*range(10)]
    add("a", 10)
    assert Dataset("a").version == 3
    Dataset("a").delete(permanent=True)
    assert not [path for path in (a / "warehouse").rglob("*") if path.is_file()]


def test_routines_go_on_when_their_source_or_output_moves(a: Path) -> None:
    run_routine(Routine("copy", lambda rows: rows, "a", "out"))
    Dataset("a").move("b")
    add("b", 10)
    routine = Routine("copy", lambda rows: rows, "b", "out")
    assert pending(routine).rows == 1
    with pytest.raises(StateMismatchError, match="has no position"):
        pending(Routine("other", lambda rows: rows, "b", "out"))
    run_routine(routine)
    Dataset("out").move("results")
    add("b", 11)
    routine = Routine("copy", lambda rows: rows, "b", "results")
    run_routine(routine)
    assert ids("results") == [*range(12)]
    assert len(history(routine)) == 3
    assert pending(routine) is None
    Dataset.from_dict({"id": [50]}).save("a")
    assert pending(routine) is None


def test_plans_keep_their_fingerprints(a: Path) -> None:
    def parts(name: str) -> list[tuple[str, str]]:
        rows = (Dataset(name, version=2).shuffle(seed=1), Dataset(name).added_since(1))
        identities = [PlanIdentity.of(plan_of(each, "test"), None) for each in rows]
        return [(each.fingerprint, each.snapshot) for each in identities]

    before = parts("a")
    Dataset("a").move("b").move("team.c")
    assert parts("team.c") == before
    assert parts("team.c") == before  # with plans of the cache
    Dataset("team.c").delete()
    Dataset.undelete("team.c", "d")
    assert parts("d") == before
    Dataset("d").copy("e")
    assert parts("e") != before


@pytest.mark.live
def test_states_of_loaders_stay_valid(a: Path) -> None:
    def loader(name: str) -> Any:
        return Dataset(name, version=2).shuffle(seed=1).to_torch(batch_size=3)

    pytest.importorskip("torch")
    first = loader("a")
    batches = iter(first)
    next(batches)
    state, rest = first.state_dict(), [batch["id"].tolist() for batch in batches]
    Dataset("a").move("b")
    for _ in range(2):  # the second time with the plan of the cache
        again = loader("b")
        again.load_state_dict(state)
        assert [batch["id"].tolist() for batch in again] == rest
    Dataset("b").move("c")
    again = loader("c")
    again.load_state_dict(state)
    assert [batch["id"].tolist() for batch in again] == rest


def test_keyed_tables_keep_their_key_and_scans_their_states(home: Path) -> None:
    client = connect()
    table = client.create_table("web.pages", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "size": [10, 20]})
    state = client.scan(table, where=table["size"] > 10).state_json()
    Dataset("web.pages").move("pages")
    moved = client.table("pages")
    moved.write({"id": [2, 3], "size": [21, 30]})
    assert moved.scan().to_table().to_pydict() == {"id": [1, 2, 3], "size": [10, 21, 30]}
    assert client.resume_scan(state).to_table().to_pydict() == {"id": [2], "size": [20]}
    copied = Dataset("pages").copy("pages2")
    client.table(copied.name).write({"id": [3], "size": [31]})
    assert moved.scan().to_table()["size"].to_pylist() == [10, 21, 30]
    Dataset("pages2").delete()
    Dataset.undelete("pages2")
    assert client.table("pages2").scan().to_table()["size"].to_pylist() == [10, 21, 31]


def test_trees_are_found_by_the_ids_that_they_had(home: Path, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "x.txt").write_text("x")

    def create(name: str, *parents: str) -> FileTree:
        tree = FileTree.create(dataset_name=name, dataset_project="animals", parent_datasets=list(parents) or None)
        tree.add_files(folder)
        tree.upload(show_progress=False)
        return tree

    first = create("photos")
    first.finalize()
    first.get_logger().report_text("hello")
    draft, child = create("photos"), create("child", first.id)
    child.finalize()
    Dataset("animals.photos").move("animals.pictures")
    draft.finalize()
    assert FileTree.get(dataset_id=first.id).list_files() == ["x.txt"]
    assert FileTree.get(dataset_id=child.id).list_files() == ["x.txt"]
    found = FileTree.get(dataset_project="animals", dataset_name="pictures")
    assert (found.name, found.id.rpartition("@")[2]) == ("pictures", draft.id.rpartition("@")[2])
    assert len(Dataset("animals.pictures").list_versions()) == 2
    Dataset("animals.pictures").delete()
    Dataset.undelete("animals.pictures")
    assert FileTree.get(dataset_id=draft.id).list_files() == ["x.txt"]


# ------------------------------------------------------------------------------------------ copy


def test_copies_share_files_until_all_are_gone(a: Path) -> None:
    copied = Dataset("a").copy("team.b")
    assert (copied.name, copied.tags(), copied.description) == ("team.b", {"gold": 1}, "Numbers")
    assert [each.version for each in copied.list_versions()] == [2, 1]
    pinned = Dataset("a", version="gold").copy("c")
    assert ([each.version for each in pinned.list_versions()], ids("c"), pinned.tags()) == (
        [1],
        [*range(8)],
        {"gold": 1},
    )
    with pytest.raises(DatasetExistsError):
        Dataset("a").copy("c")
    add("team.b", 99)
    Dataset("team.b").delete_rows("id < 5")
    add("c", 8)
    assert [each.version for each in Dataset("c").list_versions()] == [3, 1]
    Dataset("a").delete(permanent=True)
    collect(a)
    assert (ids("team.b"), ids("c")) == ([*range(5, 10), 99], [*range(9)])
    Dataset("c").delete(permanent=True)
    collect(a)
    assert ids("team.b", version=1) == [*range(8)]
    Dataset("team.b").delete(permanent=True)
    collect(a)
    assert not [path for path in (a / "warehouse").rglob("*") if path.is_file()]


def test_a_copy_of_an_enriched_table_has_its_columns(home: Path) -> None:
    table = connect().create_table("t", key_schema={"id": pa.int64()})
    table.write({"id": [1, 2], "x": [1, 2]})
    before = Dataset("t").version
    table.enrich({"y": table["x"] * 10}).apply()
    Dataset("t").copy("all")
    Dataset("t", version=before).copy("before")
    Dataset("t").move("u")
    assert Dataset("all").to_arrow()["y"].to_pylist() == Dataset("u").to_arrow()["y"].to_pylist() == [10, 20]
    assert Dataset("before").count() == 2
    connect().table("all").write({"id": [3], "x": [3]})
    assert sorted(Dataset("all").to_arrow()["id"].to_pylist()) == [1, 2, 3]


# ------------------------------------------------------------------------------------------ steps and races


class StopError(Exception):
    pass


def stop(step: str) -> Callable[[str], None]:
    def at(name: str) -> None:
        if name == step:
            raise StopError

    return at


STEPS: dict[str, Callable[[Lake, Callable[[str], None]], object]] = {
    "rename marked": lambda lake, at: renaming.rename(lake, "a", "b", at),
    "copy written": lambda lake, at: copying.copy(lake, "a", "b", None, at),
    "copy registered": lambda lake, at: copying.copy(lake, "a", "b", None, at),
    "delete marked": lambda lake, at: trash.move_to_trash(lake, "a", at),
    "restore marked": lambda lake, at: trash.restore_table(lake, trash.list_trash(lake)[0].table, "b", at),
}


def is_whole() -> bool:
    """Each name has all rows or none, and nothing is in two places."""
    names = [name for name in ("a", "b") if Dataset.exists(name)]
    assert all(ids(name) == [*range(10)] for name in names)
    places = len(names) + len(Dataset.list_trash())
    return places in (1, 2)


@pytest.mark.parametrize("step", STEPS)
def test_a_change_that_ends_early_leaves_the_old_or_the_new_state(step: str, a: Path) -> None:
    if step.startswith("restore"):
        Dataset("a").delete()
    with pytest.raises(StopError):
        STEPS[step](Lake.current(), stop(step.partition(" ")[2]))
    assert is_whole()
    assert Dataset.exists("b") == (step == "copy registered")
    collect(a)
    assert is_whole()
    if step.startswith("restore"):
        Dataset.undelete("a", "b")
    elif not Dataset.exists("b"):
        STEPS[step](Lake.current(), lambda _: None)
    assert is_whole()


def _kill(step: str) -> None:
    def at(name: str) -> None:
        if name == step.partition(" ")[2]:
            os.kill(os.getpid(), signal.SIGKILL)

    STEPS[step](Lake.current(), at)


@pytest.mark.live
@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_each_step_leaves_the_old_or_the_new_state(step: str, a: Path) -> None:
    if step.startswith("restore"):
        Dataset("a").delete()
    killed_by_itself(_kill, step)
    assert is_whole()
    collect(a)
    assert is_whole()


def _attempt(log: str, work: Callable[[], int]) -> None:
    """Writes the number of successes to a file of this process."""
    try:
        count = work()
    except (DatasetNotFoundError, DatasetExistsError):
        count = 0
    Path(log, f"{os.getpid()}").write_text(str(count))


def _move(log: str) -> None:
    def work() -> int:
        Dataset("a").move(f"a{os.getpid()}")
        return 1

    _attempt(log, work)


def _delete(log: str) -> None:
    def work() -> int:
        Dataset("a").delete()
        return 1

    _attempt(log, work)


def _undelete(log: str) -> None:
    def work() -> int:
        Dataset.undelete("a", "b")
        return 1

    _attempt(log, work)


def _copy(log: str) -> None:
    def work() -> int:
        Dataset("b").copy("c")
        return 1

    _attempt(log, work)


def _append_or_move(log: str) -> None:
    count = 0
    try:
        for number in range(4):
            add("b", 1000 + number)
            count += 1
        Dataset("b").move("d")
    except (DatasetNotFoundError, DatasetExistsError):
        pass
    Path(log, f"{os.getpid()}").write_text(str(count))


def _race(work: Callable[[str], None], folder: Path) -> int:
    """Returns the number of successes of eight processes."""
    log = folder / work.__name__
    log.mkdir()
    finish(work, str(log), processes=8)
    return sum(int(path.read_text()) for path in log.iterdir())


@pytest.mark.live
def test_writers_race_with_moves(a: Path, tmp_path: Path) -> None:
    Dataset("a").move("b")
    acknowledged = _race(_append_or_move, tmp_path)
    assert (Dataset.exists("d"), Dataset.exists("b")) == (True, False)
    assert len(ids("d")) == 10 + acknowledged


@pytest.mark.soak
def test_eight_processes_change_one_name(a: Path, tmp_path: Path) -> None:
    assert _race(_move, tmp_path) == 1
    (moved,) = [name for name in Lake.current().names() if name.startswith("a")]
    Dataset(moved).move("a")
    assert _race(_delete, tmp_path) == 1
    assert len(Dataset.list_trash()) == 1
    assert _race(_undelete, tmp_path) == 1
    assert (ids("b"), Dataset.list_trash()) == ([*range(10)], [])
    assert _race(_copy, tmp_path) == 1
    assert ids("c") == [*range(10)]
