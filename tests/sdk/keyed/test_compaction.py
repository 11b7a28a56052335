"""Files of keyed tables are merged by the writes that find many of them, and by `Table.compact`."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, Table, connect
from lakefeed.catalog import compaction
from lakefeed.catalog.delete_files import deleted_positions
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.version_files import data_files
from lakefeed.config import Settings
from lakefeed.errors import DuplicateKeyError
from lakefeed.run import key_compaction
from lakefeed.run.key_compaction import KeyMerger

KEY = {"id": pa.int64()}


def files_of(table: Table) -> tuple[DataFileRef, ...]:
    return data_files(table.lake, table.lake.table(table.identifier))


def rows_of(dataset: Dataset) -> list[dict[str, Any]]:
    return sorted(dataset.to_arrow().to_pylist(), key=lambda row: row["id"])


def foreign_append(name: str, rows: pa.Table) -> None:
    table = connect().catalog().load_table(("default", name))
    table.append(rows.cast(table.schema().as_arrow()))


@pytest.mark.live
def test_many_writes_leave_few_files_and_every_version_tells_its_own_rows(home: Path) -> None:
    table = Table.create("t", key_schema=KEY)
    draw = np.random.default_rng(7)
    stored: dict[int, int] = {}
    history: list[tuple[int, dict[int, int], dict[int, int], dict[int, int]]] = []
    for turn in range(28):
        before = dict(stored)
        if turn % 9 == 8:
            gone = [int(key) for key in draw.choice(300, 5, replace=False) if int(key) in stored]
            version = table.delete_keys(gone).version
            written, removed = {}, {key: stored.pop(key) for key in gone}
        else:
            written = {int(key): turn // 3 for key in draw.choice(300, 20, replace=False)}
            version = table.write({"id": list(written), "x": list(written.values())}).version
            removed = {key: before[key] for key in written if key in before}
            stored |= written
        history.append((version, written, removed, dict(stored)))
        assert len(files_of(table)) <= compaction.MERGED_RUNS + 1
    assert len(table.lake.table("t").metadata.snapshots) == 29  # one action, one version
    for version, written, removed, rows in history[6:28:4]:
        at = Dataset("t", version=version)
        assert rows_of(at) == [{"id": key, "x": rows[key]} for key in sorted(rows)]
        assert rows_of(at.added_since(version - 1)) == [{"id": key, "x": written[key]} for key in sorted(written)]
        assert rows_of(at.removed_since(version - 1)) == [{"id": key, "x": removed[key]} for key in sorted(removed)]
        assert len(at) == len(rows)
    seen = connect().catalog().load_table(("default", "t")).scan().to_arrow()
    assert sorted(seen["id"].to_pylist()) == sorted(stored)
    assert table.scan().to_table().to_pydict() == {"id": sorted(stored), "x": [stored[key] for key in sorted(stored)]}


def test_compact_makes_one_sequence_with_small_row_groups(home: Path) -> None:
    table = Table.create("t", key_schema=KEY)
    table.write({"id": np.arange(0, 100_000, 2), "x": np.zeros(50_000)})
    table.write({"id": np.arange(1, 100_000, 2), "x": np.ones(50_000)})
    table.delete_keys(list(range(0, 100_000, 10)))
    before, seen = table.scan().to_table(), table.snapshot().version
    compacted = table.compact()
    assert compacted.scan().to_table().equals(before)
    (file,) = files_of(table)
    assert (file.rows, file.deletes) == (90_000, ())
    footer = pq.read_metadata(file.path.removeprefix("file://"))
    assert max(footer.row_group(group).num_rows for group in range(footer.num_row_groups)) <= 32_768
    assert footer.row_group(0).sorting_columns[0].column_index == 0
    assert Dataset("t").added_since(seen).count() == Dataset("t").removed_since(seen).count() == 0
    assert Dataset("t").changes(seen, keys="id").changed == 0
    newest = Dataset("t").list_versions()[0]
    assert (newest.operation, newest.added_records, newest.deleted_records) == ("replace", 0, 0)
    assert table.compact().version == compacted.version
    assert Table.create("empty", key_schema=KEY).compact().version == 1


def test_compact_in_a_transaction(home: Path) -> None:
    table = Table.create("t", key_schema=KEY)
    table.write({"id": [3, 1], "x": [3, 1]})
    table.write({"id": [2], "x": [2]})
    with table.txn() as changes:
        changes.write({"id": [1, 9], "x": [-1, 9]})
        changes.delete_keys([3])
        changes.compact()
    assert table.scan().to_table().to_pydict() == {"id": [1, 2, 9], "x": [-1, 2, 9]}
    assert sorted(file.rows for file in files_of(table)) == [1, 2]
    assert rows_of(Dataset("t").added_since(3)) == [{"id": 1, "x": -1}, {"id": 9, "x": 9}]
    assert rows_of(Dataset("t").removed_since(3)) == [{"id": 1, "x": 1}, {"id": 3, "x": 3}]


def test_compact_keeps_the_later_row_of_a_key_that_another_program_doubled(home: Path) -> None:
    table = Table.create("t", key_schema=KEY)
    table.write({"id": [1, 2, 3], "x": [10, 20, 30]})
    foreign_append("t", pa.table({"id": [5, 2], "x": [51, 21]}))  # not sorted either
    with pytest.raises(DuplicateKeyError, match=r"'id': 2.*compact\(\)"):
        table.scan().to_table()
    seen = table.snapshot().version
    assert table.compact().scan().to_table().to_pydict() == {"id": [1, 2, 3, 5], "x": [10, 21, 30, 51]}
    assert rows_of(Dataset("t").removed_since(seen)) == [{"id": 2, "x": 20}]
    assert Dataset("t").list_versions()[0].deleted_records == 1
    assert len(Dataset("t")) == 4


def test_merges_of_writes_keep_doubled_rows(home: Path) -> None:
    table = Table.create("t", key_schema=KEY)
    for turn in range(7):
        table.write({"id": [turn], "x": [turn]})
    foreign_append("t", pa.table({"id": [2], "x": [22]}))
    table.write({"id": [100], "x": [100]})
    assert len(files_of(table)) == 2
    with pytest.raises(DuplicateKeyError, match="'id': 2"):
        table.scan().to_table()
    assert table.compact().scan(where="id = 2").to_table()["x"].to_pylist() == [22]


def test_large_files_that_overlap_do_not_let_each_write_merge_again(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compaction, "LARGEST_RUN", 4_000)
    monkeypatch.setattr(compaction, "OVERLAPPING_RUNS", 9)
    table = Table.create("t", key_schema=KEY)
    draw = np.random.default_rng(1)
    for turn in range(compaction.OVERLAPPING_RUNS + 2):
        table.write({"id": np.arange(turn, 20_000, 20), "x": draw.random(1_000)})
    large = {file.path for file in files_of(table)}
    assert len(large) == compaction.OVERLAPPING_RUNS + 2
    before = large
    for turn in range(3):
        table.write({"id": [turn * 20 + 19], "x": [0.0]})
        after = {file.path for file in files_of(table)}
        assert len(after) == len(before) + 1
        assert after > before
        before = after


def test_settings_turn_merges_off(home: Path) -> None:
    client = connect(Settings.load(**{"write.compaction": "off"}))
    table = client.create_table("t", key_schema=KEY)
    for turn in range(12):
        table.write({"id": [turn], "x": [turn]})
    assert len(files_of(table)) == 12
    assert len(files_of(table.compact().table)) == 1


@pytest.mark.live
@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("text", ["b", "a", "ä", "a\0", "", "z" * 300]),
        ("bytes", [b"\xff", b"", b"\x00", b"a"]),
        ("uuid", [b"b" * 16, b"a" * 16]),
        ("decimal", [Decimal("2.50"), Decimal("-1.00"), Decimal("2.49")]),
        ("timestamp", [dt.datetime(2026, 1, 2), dt.datetime(1969, 1, 1), dt.datetime(2026, 1, 1)]),
        ("flag", [True, False]),
    ],
)
def test_keys_of_every_type(home: Path, name: str, values: list[Any]) -> None:
    kind = pa.binary(16) if name == "uuid" else pa.array(values).type
    table = Table.create("t", key_schema={"a": kind, "b": pa.int32()})
    for turn in range(10):
        table.write(pa.table({"a": pa.array(values, kind), "b": pa.array([turn % 4] * len(values), pa.int32())}))
    expected = sorted({(value, turn) for value in values for turn in range(4)})
    for _ in range(2):
        rows = table.scan().to_table().to_pydict()
        assert list(zip(rows["a"], rows["b"], strict=True)) == expected
        table.compact()
    assert len(files_of(table)) == 1


def test_keys_beyond_memory_are_sorted_on_disk(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.create("t", key_schema=KEY)
    table.write({"id": [5, 1, 3], "x": [5, 1, 3]})
    table.write({"id": [4, 1], "x": [4, 11]})
    monkeypatch.setattr(key_compaction, "KEY_MEMORY_SHARE", 1 << 40)
    assert table.compact().scan().to_table().to_pydict() == {"id": [1, 3, 4, 5], "x": [11, 3, 4, 5]}


# ------------------------------------------------------------------ writers that commit during a merge


def while_merging(monkeypatch: pytest.MonkeyPatch, act: Callable[[], Any]) -> list[int]:
    """Calls ``act`` when the first merge begins to read. Returns a list that counts the merges."""
    read, merges = KeyMerger.rows, list[int]()

    def rows(self: KeyMerger, files: Any, removed: Any, distinct: bool) -> Any:
        merges.append(len(files))
        if len(merges) == 1:
            act()
        return read(self, files, removed, distinct)

    monkeypatch.setattr(KeyMerger, "rows", rows)
    return merges


@pytest.fixture
def due(home: Path) -> Table:
    """A table of which the next write merges all files."""
    table = Table.create("t", key_schema=KEY)
    for turn in range(8):
        table.write({"id": list(range(turn, 80, 8)), "x": [turn] * 10})
    return table


def test_rows_that_others_delete_during_a_merge_do_not_come_back(due: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    merges = while_merging(monkeypatch, lambda: off().delete_keys([7, 40, 41]))
    due.write({"id": [100], "x": [100]})
    assert merges == [8]  # the merge was not written again
    assert due.scan("id").to_table()["id"].to_pylist() == [*(n for n in range(80) if n not in (7, 40, 41)), 100]
    assert [(file.rows, len(file.deletes)) for file in files_of(due)] == [(80, 1), (1, 0)]
    assert rows_of(Dataset("t").added_since(10)) == [{"id": 100, "x": 100}]
    assert Dataset("t").removed_since(10).count() == 0
    assert len(Dataset("t")) == 78


def test_rows_that_others_replace_during_a_merge_are_theirs(due: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    merges = while_merging(monkeypatch, lambda: off().write({"id": [3, 50, 101], "x": [-3, -50, -101]}))
    due.compact()
    assert merges == [8]
    rows = due.scan().to_table().to_pydict()
    assert rows["id"] == [*range(80), 101]
    assert [rows["x"][3], rows["x"][50], rows["x"][51], rows["x"][80]] == [-3, -50, 3, -101]
    assert Dataset("t").added_since(10).count() == 0


def test_files_that_others_merge_during_a_merge_are_merged_again(due: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    merges = while_merging(monkeypatch, lambda: due.compact())
    due.write({"id": [3], "x": [-3]})
    assert merges[:2] == [8, 8]
    assert due.scan().to_table()["x"].to_pylist()[:4] == [0, 1, 2, -3]
    table = due.lake.table("t")
    assert all(len(deleted_positions(table, file.path, file.deletes)) <= 1 for file in files_of(due))


def off() -> Table:
    """The table for a writer that merges nothing."""
    return connect(Settings.load(**{"write.compaction": "off"})).table("t")
