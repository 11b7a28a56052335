"""What was resolved once stays with its table: rows of another one that was made under the name are never read."""

from __future__ import annotations

import datetime as dt
import logging
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.errors import CommitConflictError, DatasetNotFoundError, StateMismatchError, VersionNotFoundError
from lakefeed.ingest import FolderSource, ingest
from lakefeed.plan import fingerprint
from lakefeed.routines import After, Routine, due, pending, run_routine
from lakefeed.routines.work_unit import next_work_unit


def deleted() -> None:
    Dataset("t").delete(permanent=True)


def dropped() -> None:
    """By another program, which records nothing: numbers start at 1 again."""
    Lake.current().catalog.drop_table(("default", "t"))


@pytest.fixture(params=[deleted, dropped])
def remove(request: pytest.FixtureRequest) -> Callable[[], None]:
    found: Callable[[], None] = request.param
    return found


def saved(*values: int) -> Dataset:
    return Dataset.from_dict({"x": list(values)}).save("t")


def xs(rows: Dataset) -> list[int]:
    return rows.to_arrow()["x"].to_pylist()


@pytest.mark.live
def test_no_reference_that_was_resolved_reads_another_table(remove: Callable[[], None]) -> None:
    returned = saved(1, 2)
    returned.tag("stable")
    soon = dt.datetime.now(dt.UTC) + dt.timedelta(hours=1)
    pins = [Dataset("t", version=1), Dataset("t", version="stable"), Dataset("t", as_of=soon)]
    looked = [Dataset("t", version=1) for _ in range(4)]
    assert [xs(pin) for pin in pins] == [[1, 2]] * 3
    assert (looked[0].schema.names, looked[1].version, len(looked[2].list_versions())) == (["x"], 1, 1)
    assert looked[3].metadata["name"] == "t"
    derived = [Dataset("t").filter("x > 0"), Dataset("t").added_since(), Dataset("t", version=1).select(["x"])]
    everyone = [returned, *pins, *looked, *derived]
    everyone += [pickle.loads(pickle.dumps(each)) for each in everyone]
    following = Dataset("t")
    assert following.version == 1
    remove()
    if remove is deleted:
        for each in everyone:
            with pytest.raises(DatasetNotFoundError, match="deleted at"):
                each.to_arrow()
    again = saved(7, 8, 9)
    again.tag("stable")
    for each in everyone:
        if remove is dropped and each._node is not None:
            assert _rows_or_none(each) in ([1, 2], None)  # files of a table that another program dropped are there yet
            continue
        with pytest.raises(VersionNotFoundError, match="created again"):
            each.to_arrow()
    assert (xs(following), xs(Dataset("t", version="stable"))) == ([7, 8, 9], [7, 8, 9])
    assert (again.version, xs(again)) == (2 if remove is deleted else 1, [7, 8, 9])


def _rows_or_none(rows: Dataset) -> list[int] | None:
    try:
        return xs(rows)
    except VersionNotFoundError:
        return None


def test_nothing_is_changed_by_way_of_a_reference_to_the_old_table(remove: Callable[[], None]) -> None:
    old = saved(1)
    remove()
    saved(7).tag("new")
    for change in (
        lambda: old.delete(),
        lambda: old.delete_rows("x > 0"),
        lambda: old.restore(1),
        lambda: old.tag("mine"),
        lambda: old.untag("new"),
        lambda: old.update(description="mine"),
        lambda: old.add_column("y", pa.int64()),
        lambda: old.drop_column("x"),
    ):
        with pytest.raises(VersionNotFoundError, match="created again"):
            change()
    for look in ("version", "description", "metadata"):
        with pytest.raises(VersionNotFoundError, match="created again"):
            getattr(old, look)
    for ask in (old.list_versions, old.tags, old.added_since, old.changes):
        with pytest.raises(VersionNotFoundError, match="created again"):
            ask()
    assert (xs(Dataset("t")), list(Dataset("t").tags())) == ([7], ["new"])


def test_a_pin_that_was_never_read_finds_no_rows_of_another_dataset() -> None:
    saved(1)
    never = Dataset("t", version=1)
    Dataset("t").delete()
    with pytest.raises(DatasetNotFoundError, match="deleted at"):
        never.to_arrow()
    saved(7)
    with pytest.raises(VersionNotFoundError, match="deleted at"):
        never.to_arrow()


def test_a_checkpoint_says_that_the_dataset_was_made_again(remove: Callable[[], None]) -> None:
    loader = saved(1, 2, 3, 4).shuffle(seed=1).to_torch(batch_size=2)
    next(iter(loader))
    state = loader.state_dict()
    remove()
    other = saved(1, 2, 3, 4).shuffle(seed=1).to_torch(batch_size=2)
    with pytest.raises(StateMismatchError, match="dataset 't' was deleted and made again"):
        other.load_state_dict(state)
    older = {name: value for name, value in state.items() if name != "tables"}
    with pytest.raises(StateMismatchError, match="the data was"):
        other.load_state_dict(older)
    other.load_state_dict({name: value for name, value in other.state_dict().items() if name != "tables"})


def test_a_routine_reads_no_rows_of_a_table_that_came_after_it_looked(remove: Callable[[], None]) -> None:
    saved(1)
    routine = Routine("copy", lambda rows: rows, "t", "copies")
    todo = pending(routine)
    assert todo is not None
    remove()
    saved(7)
    with pytest.raises(VersionNotFoundError, match="created again"):
        next_work_unit(todo, None, None).parts[0].dataset.to_arrow()
    run_routine(routine)
    assert xs(Dataset("copies")) == [7]
    remove()
    saved(8)
    run_routine(routine)
    assert xs(Dataset("copies")) == [7, 8]


def test_a_routine_that_comes_after_another_waits_for_it_to_read_the_new_table(remove: Callable[[], None]) -> None:
    saved(1)
    first = Routine("first", lambda rows: rows, "t", "firsts")
    second = Routine("second", lambda rows: rows, "t", "seconds", when=After("first"))
    run_routine(first)
    assert due(second, others=[first]).ready is not None
    remove()
    saved(7)
    assert due(second, others=[first]).ready is None
    run_routine(first)
    assert due(second, others=[first]).ready is not None


def test_rows_of_the_old_table_do_not_take_the_place_of_those_of_the_new_one() -> None:
    saved(1, 2)
    kept = Dataset("t").cache().with_column("x", "x * 10")
    Dataset("t").delete()
    saved(7)
    for write in (lambda: kept.overwrite("t"), lambda: kept.save("t", if_exists="new_version")):
        with pytest.raises(CommitConflictError, match="moved on"):
            write()
    assert xs(Dataset("t")) == [7]
    assert xs(kept.append_to("t")) == [7, 10, 20]


def test_positions_and_ledgers_go_with_the_output_that_holds_them(tmp_path: Path, remove: Callable[[], None]) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv").write_text("x\n1\n")
    source = FolderSource("files", into="t", folder=str(tmp_path / "in"), pattern="*.csv", settle=0)
    list(ingest(source))
    assert list(ingest(source)) == []
    remove()
    list(ingest(source))
    assert xs(Dataset("t")) == [1]
    remove()
    saved(5)  # by somebody else
    list(ingest(source))
    assert xs(Dataset("t")) == [5, 1]


def test_mirrors_maps_and_counts_are_those_of_the_table(
    tmp_path: Path, home: Path, remove: Callable[[], None], caplog: pytest.LogCaptureFixture
) -> None:
    def derived() -> Dataset:
        return Dataset("t").filter("x > 1").shuffle(seed=2, global_=False, window=4)

    old = saved(1, 2, 3)
    Dataset.from_dict({"x": [4]}).append_to("t")
    kept, mapped = Dataset("t").cache(), derived().mapped()
    before = fingerprint(derived()._plan)
    assert (sorted(xs(derived())), len(mapped), xs(kept)) == ([2, 3, 4], 3, [1, 2, 3, 4])
    old.cache()
    Dataset("t").cache(tmp_path / "kept")
    remove()
    time.sleep(0.01)
    saved(1, 1, 7)
    assert fingerprint(derived()._plan) != before
    assert (xs(derived()), len(derived().mapped()), xs(Dataset("t").cache())) == ([7], 1, [1, 1, 7])
    assert (xs(kept), len(mapped)) == ([1, 2, 3, 4], 3)  # a copy that was made stays what it is
    assert xs(old.cache()) == [1, 2, 3]
    if remove is deleted:
        with pytest.raises(VersionNotFoundError, match="deleted at"):
            Dataset("t", version=1).cache()
    with caplog.at_level(logging.WARNING):
        assert xs(Dataset("t").cache(tmp_path / "kept")) == [1, 2, 3, 4]
    assert "moved on" in caplog.text
    now = Dataset("t").version
    shutil.rmtree(home)
    assert (xs(Dataset("t").cache()), xs(Dataset("t", version=now).cache())) == ([1, 1, 7], [1, 1, 7])
