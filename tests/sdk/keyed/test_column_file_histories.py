"""Random histories of an enriched table, beside a plain model of its rows: each version reads right, for ever."""

from __future__ import annotations

import random
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, connect
from lakefeed.catalog import column_files, file_changes
from lakefeed.routines import Routine, history, pending
from tests.sdk.killing import AS_OFTEN, finish, killed_at_random
from tests.sdk.victims import double, enrich_turns, work_off

Rows = dict[int, dict[str, Any]]
COLUMNS = ("a", "b", "c", "d", "e", "f")
KEYS = 60


def by_name(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows with their columns in the order of the names."""
    return [dict(sorted(row.items())) for row in rows]


class History:
    """A table and the rows that it should have after each step."""

    def __init__(self, name: str, seed: int) -> None:
        self.random = random.Random(seed)
        self.table = Table.create(name, key_schema={"id": pa.int64()})
        self.rows: Rows = {}
        self.columns: list[str] = ["x"]
        self.versions: dict[int, tuple[Rows, list[str]]] = {}
        self.write(count=KEYS // 2)

    def keys(self, count: int) -> list[int]:
        return sorted(self.random.sample(range(KEYS), count))

    def write(self, count: int = 0) -> None:
        keys = self.keys(count or self.random.randint(1, 12))
        names = ["x", *(name for name in self.columns[1:] if self.random.random() < 0.3)]
        values = {name: [self.random.randint(0, 99) for _ in keys] for name in names}
        self.table.write({"id": keys, **values})
        for place, key in enumerate(keys):
            self.rows.setdefault(key, {}).update({name: values[name][place] for name in names})

    def delete(self) -> None:
        keys = self.keys(self.random.choice([1, 3, 25]))
        self.table.delete_keys(keys)
        for key in keys:
            self.rows.pop(key, None)

    def enrich(self) -> None:
        name, add = self.random.choice(COLUMNS), self.random.randint(0, 9)
        source = self.random.choice([each for each in self.columns if each != name] or ["x"])
        low, high = sorted(self.random.randint(-5, KEYS) for _ in range(2))
        where = self.random.choice([None, f"id between {low} and {high}", f"x > {high}"])
        chosen = {
            key: row
            for key, row in self.rows.items()
            if where is None
            or (low <= key <= high if "between" in where else row.get("x") is not None and row["x"] > high)
        }
        written = self.table.enrich({name: self.table[source] + add}, where=where).apply()
        assert (written is None) == (not chosen)
        if chosen and name not in self.columns:
            self.columns.append(name)
        for row in chosen.values():
            value = row.get(source)
            row[name] = None if value is None else value + add

    def drop(self) -> None:
        if len(self.columns) > 1:
            name = self.columns.pop(self.random.randrange(1, len(self.columns)))
            self.table.drop_columns([name])
            for row in self.rows.values():
                row.pop(name, None)

    def rename(self) -> None:
        free = [name for name in COLUMNS if name not in self.columns]
        if len(self.columns) > 1 and free:
            place, new = self.random.randrange(1, len(self.columns)), self.random.choice(free)
            old, self.columns[place] = self.columns[place], new
            Dataset(self.table.identifier).rename_column(old, new)
            for row in self.rows.values():
                if old in row:
                    row[new] = row.pop(old)

    def compact(self) -> None:
        self.table.compact()
        assert set(self.stored().schema().column_names) == {"id", *self.columns}

    def restore(self) -> None:
        version = self.random.choice(list(self.versions))
        Dataset(self.table.identifier).restore(version)
        rows, columns = self.versions[version]
        self.rows, self.columns = {key: dict(row) for key, row in rows.items()}, list(columns)

    def delete_by_another_engine(self) -> None:
        low = self.random.randint(0, KEYS)
        if not any(low <= key < low + 8 for key in self.rows):
            return
        hidden = set(self.columns) - set(self.stored().schema().column_names)
        self.stored().delete(f"id >= {low} and id < {low + 8}")
        self.rows = {key: row for key, row in self.rows.items() if not low <= key < low + 8}
        assert {row["id"]: row["x"] for row in self.read("id", "x")} == {k: r.get("x") for k, r in self.rows.items()}
        if hidden:
            self.write()  # assigns the columns

    def stored(self) -> Any:
        return connect().catalog().load_table(("default", self.table.identifier))

    def read(self, *names: str) -> list[dict[str, Any]]:
        return self.table.scan(*names).to_table().to_pylist()

    def expected(self, rows: Rows, columns: list[str]) -> list[dict[str, Any]]:
        return [{"id": key} | {name: rows[key].get(name) for name in columns} for key in sorted(rows)]

    def check(self) -> None:
        assert sorted(self.table.schema().names) == sorted(["id", *self.columns])
        assert by_name(self.read()) == by_name(self.expected(self.rows, self.columns))
        data = Dataset(self.table.identifier)
        assert data.count() == len(self.rows)
        name = self.random.choice(self.columns)
        limit = self.random.randint(0, 99)
        wanted = {key for key, row in self.rows.items() if row.get(name) is not None and row[name] > limit}
        assert set(data.filter(f"{name} > {limit}").to_arrow()["id"].to_pylist()) == wanted
        seen = self.stored().scan().to_arrow().to_pylist()
        assert {row["id"]: row["x"] for row in seen} == {key: row.get("x") for key, row in self.rows.items()}
        version = self.table.snapshot().version  # it keeps the names that its columns had first
        self.versions.setdefault(version, ({key: dict(row) for key, row in self.rows.items()}, list(self.columns)))

    def check_older(self) -> None:
        for version, (rows, columns) in self.versions.items():
            read = Dataset(self.table.identifier, version=version).sort("id").to_arrow().to_pylist()
            assert by_name(read) == by_name(self.expected(rows, columns))

    STEPS = ("write", "write", "delete", "enrich", "enrich", "enrich", "drop", "rename", "compact", "restore")


def run(name: str, seed: int, steps: int) -> None:
    history = History(name, seed)
    history.check()
    for _ in range(steps):
        step = history.random.choice([*History.STEPS, "delete_by_another_engine"])
        getattr(history, step)()
        history.check()
    history.check_older()


@pytest.mark.parametrize("seed", [0, pytest.param(1, marks=pytest.mark.live)])
def test_histories(home: Path, seed: int) -> None:
    run("photos", seed, 10)


@pytest.mark.live
@AS_OFTEN
def test_enrichments_that_are_killed_are_whole_or_not_there(home: Path, kills: int) -> None:
    table = Table.create("killed", key_schema={"id": pa.int64()})
    table.write({"id": list(range(KEYS)), "x": list(range(KEYS))})
    table.write({"id": list(range(KEYS, 2 * KEYS)), "x": list(range(KEYS, 2 * KEYS))})
    killed_at_random(kills, enrich_turns, "killed", longest=1.0)
    for version in Dataset("killed").list_versions()[:20]:
        rows = table.scan(asof=version.version).to_table().to_pydict()
        if version.version > 3:
            assert rows["a"] == rows["b"]
            assert len({a - x for a, x in zip(rows["a"], rows["x"], strict=True)}) == 1
    assert table.enrich({"c": table["x"] + 0}).apply() is not None
    assert table.scan("c").to_table()["c"].to_pylist() == list(range(2 * KEYS))


@pytest.mark.live
def test_a_routine_that_lags_behind_reads_the_changes_of_each_version_once(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = Table.create("late", key_schema={"id": pa.int64()})
    routine = Routine("double", double, "late", "late", columns=["double"])
    for turn in range(12):
        table.write({"id": [turn % 7, turn + 7], "x": [turn, turn]})
    compared: Counter[tuple[int, int]] = Counter()
    indexed: Counter[int] = Counter()
    changes_between, read_index = file_changes._changes_between, column_files._read_index

    def count_changes(table: Any, before: Any, after: Any) -> Any:
        compared[before.snapshot_id, after.snapshot_id] += 1
        return changes_between(table, before, after)

    def count_indexes(table: Any, number: int) -> Any:
        indexed[number] += 1
        return read_index(table, number)

    monkeypatch.setattr(file_changes, "_changes_between", count_changes)
    monkeypatch.setattr(column_files, "_read_index", count_indexes)
    work_off(routine)
    rows = table.scan().to_table().to_pydict()
    assert rows["double"] == [2 * x for x in rows["x"]]
    assert set(compared.values()) == {1}
    assert set(indexed.values()) == {1}


@pytest.mark.live
@AS_OFTEN
def test_columns_that_stay_up_to_date_are_exact_though_runs_are_killed(home: Path, kills: int) -> None:
    table = Table.create("killed", key_schema={"id": pa.int64()})
    routine = Routine("double", double, "killed", "killed", columns=["double"])
    turns = iter(range(10_000))

    def write() -> None:
        turn = next(turns)
        table.write({"id": [turn % 7, turn + 7], "x": [turn, turn]})

    killed_at_random(kills, work_off, routine, longest=0.6, refill=write)
    finish(work_off, routine, processes=2)
    rows = table.scan().to_table().to_pydict()
    assert rows["double"] == [2 * x for x in rows["x"]]
    assert sum(each.rows_out for each in history(routine)) >= len(rows["id"])
    assert pending(routine) is None


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(100, 130))
def test_long_histories(home: Path, seed: int) -> None:
    run("photos", seed, 30)
