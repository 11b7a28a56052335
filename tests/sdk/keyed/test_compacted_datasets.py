"""Keyed tables with delete files, merged files and compactions are datasets like any other."""

from __future__ import annotations

import datetime as dt
import random
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage
from lakefeed.catalog.version_files import data_files
from lakefeed.errors import StateMismatchError, VersionNotFoundError
from lakefeed.routines import Routine, run_routine

KEYS = 60


def edited() -> Table:
    """A table of 22 versions: delete files, merged files, a tag and a compaction, and changes after it."""
    table = Table.create("t", key_schema={"id": pa.int64()})
    table.write({"id": list(range(KEYS)), "x": [0] * KEYS, "s": [f"text {n}" for n in range(KEYS)]})
    draw = random.Random(3)
    for turn in range(1, 17):
        table.write({"id": draw.sample(range(KEYS), 4), "x": [turn] * 4})
        if turn == 9:
            table.delete_keys([1, 2, 3])
            Dataset("t").tag("before")
    table.compact()
    table.write({"id": [5, 100], "x": [-5, -100]})
    table.delete_keys([7])
    return table


def rows_at(version: int | None = None) -> Counter[tuple[Any, ...]]:
    return counted(Dataset("t", version=version))


def counted(rows: Dataset) -> Counter[tuple[Any, ...]]:
    return Counter(tuple(row.values()) for row in rows.to_arrow().to_pylist())


@pytest.mark.live
def test_all_versions_stay_whatever_happens_to_the_files(
    home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = edited()
    versions = [each.version for each in Dataset("t").list_versions()]
    before = {version: rows_at(version) for version in versions}
    assert versions == list(range(22, 0, -1))
    assert len(data_files(table.lake, table.lake.table("t"))) == 2
    # garbage
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    assert {version: rows_at(version) for version in versions} == before
    # tags
    assert counted(Dataset("t", version="before")) == before[12]
    assert table.scan(asof="before").to_table().num_rows == KEYS - 3
    # copies on disk
    assert Dataset("t").cache().to_arrow() == Dataset("t").to_arrow()
    assert counted(Dataset("t", version=12).cache()) == before[12]
    # the changes of any range
    for first, last in ((2, 22), (5, 19), (12, 20), (19, 20), (20, 22)):
        later = Dataset("t", version=last)
        changed = before[first] + counted(later.added_since(first))
        assert changed - counted(later.removed_since(first)) == before[last]
    assert Dataset("t").changes(19, 20, keys="id").changed == 0
    # another place
    new = tmp_path / "elsewhere"
    home.rename(new)
    monkeypatch.setenv("LAKEFEED_HOME", str(new))
    moved = Table("t")
    assert {version: rows_at(version) for version in versions[::5]} == {v: before[v] for v in versions[::5]}
    moved.write({"id": [8], "x": [-8]})
    assert moved.compact().scan(where="id in (5, 7, 8, 100)").to_table()["x"].to_pylist() == [-5, -8, -100]
    # an old version comes back
    Dataset("t").restore("before")
    assert rows_at() == before[12]
    moved.write({"id": [1, 4], "x": [11, 44]})
    moved.compact()
    assert Dataset("t").filter("id in (1, 4)").select(["x"]).sort("x").to_arrow()["x"].to_pylist() == [11, 44]


@pytest.mark.live
def test_versions_that_others_expire(home: Path) -> None:
    table = edited()
    rows = {version: rows_at(version) for version in (2, 12, 18, 22)}
    stored = table.lake.table("t")
    gone = [each.snapshot_id for each in stored.metadata.snapshots if 13 <= (each.sequence_number or 0) <= 17]
    stored.maintenance.expire_snapshots().by_ids(gone).commit()
    assert {version: rows_at(version) for version in rows} == rows
    for first in (12, 18):
        newer = Dataset("t")
        changed = rows[first] + counted(newer.added_since(first))
        assert changed - counted(newer.removed_since(first)) == rows[22]
    with pytest.raises(VersionNotFoundError, match="no version 15"):
        Dataset("t").added_since(15).count()
    table.write({"id": [9], "x": [-9]})
    assert table.compact().scan(where="id = 9").to_table()["x"].to_pylist() == [-9]
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    assert rows_at(12) == rows[12]


def copied(rows: Dataset) -> Iterator[pa.RecordBatch]:
    yield from rows.batches(format="arrow")


@pytest.mark.live
def test_routines_see_each_change_once_and_compactions_never(home: Path) -> None:
    table = Table.create("t", key_schema={"id": pa.int64()})
    routine = Routine("copy", copied, "t", "copies")
    written: Counter[tuple[Any, ...]] = Counter()
    draw = random.Random(5)
    for turn in range(24):
        keys = draw.sample(range(30), 3)
        table.write({"id": keys, "x": [turn] * 3})
        written.update((key, turn) for key in keys)
        if turn % 5 == 4:
            run_routine(routine)
        if turn % 10 == 9:
            table.compact()
    run_routine(routine)
    assert counted(Dataset("copies")) == written
    table.compact()
    assert run_routine(routine) is None or counted(Dataset("copies")) == written


@pytest.mark.live
def test_loaders_resume_exactly_while_the_table_is_compacted(home: Path) -> None:
    pytest.importorskip("torch")
    table = edited()
    table.write({"id": [11, 12], "x": [1, 1]})
    version = table.snapshot().version
    assert any(file.deletes for file in data_files(table.lake, table.lake.table("t")))

    def loader(size: int) -> Any:
        return Dataset("t", version=version).select(["id"]).shuffle(seed=3).to_torch(batch_size=size)

    expected = [each for batch in loader(10) for each in batch["id"].tolist()]
    first = loader(10)
    batches = iter(first)
    seen = [each for _ in range(2) for each in next(batches)["id"].tolist()]
    state = first.state_dict()
    table.compact()
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    resumed = loader(7)
    resumed.load_state_dict(state)
    assert seen + [each for batch in resumed for each in batch["id"].tolist()] == expected
    newest = Dataset("t").select(["id"]).shuffle(seed=3).to_torch(batch_size=10)
    with pytest.raises(StateMismatchError):
        newest.load_state_dict(state)
    assert sorted(each for batch in newest for each in batch["id"].tolist()) == sorted(expected)


@pytest.mark.live
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.soak), pytest.param(3, marks=pytest.mark.soak)])
def test_random_edits_and_compactions(home: Path, seed: int) -> None:
    table = Table.create("t", key_schema={"id": pa.int64()})
    draw = random.Random(seed)
    stored: dict[int, tuple[int | None, int | None]] = {}
    history: dict[int, Counter[tuple[Any, ...]]] = {}
    table.write({"id": [0], "x": [0], "y": [0]})
    stored[0] = (0, 0)
    for turn in range(25):
        keys = draw.sample(range(40), draw.randint(1, 12))
        act = draw.choice(["x", "y", "both", "delete", "where", "compact", "x"])
        if act in ("x", "y"):
            table.write({"id": keys, act: [turn % 4] * len(keys)})
            for key in keys:
                x, y = stored.get(key, (None, None))
                stored[key] = (turn % 4, y) if act == "x" else (x, turn % 4)
        elif act == "both":
            with table.txn() as changes:
                changes.write({"id": keys, "x": [turn] * len(keys), "y": [turn] * len(keys)})
                gone = [key for key in range(40, 45) if key not in keys]
                changes.delete_keys(gone)
            stored |= dict.fromkeys(keys, (turn, turn))
        elif act == "delete":
            table.delete_keys(keys)
            stored = {key: value for key, value in stored.items() if key not in keys}
        elif act == "where":
            Dataset("t").delete_rows(f"id % 7 == {turn % 7}")
            stored = {key: value for key, value in stored.items() if key % 7 != turn % 7}
        else:
            table.compact()
        history[table.snapshot().version] = Counter((key, *value) for key, value in stored.items())
        assert len(Dataset("t")) == len(stored)
    assert table.scan().to_table().to_pylist() == [
        {"id": key, "x": stored[key][0], "y": stored[key][1]} for key in sorted(stored)
    ]
    last = max(history)
    for version in draw.sample(sorted(history), 6):
        assert rows_at(version) == history[version]
        if version < last:
            changed = history[version] + counted(Dataset("t").added_since(version))
            assert changed - counted(Dataset("t").removed_since(version)) == history[last]
