"""Writers of a keyed table that are killed: each version is one transaction, whole or not there."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage
from lakefeed.catalog.version_files import files_of
from tests.sdk.killing import AS_OFTEN, killed_at_random
from tests.sdk.test_garbage import age
from tests.sdk.victims import compact_turns, write_turns

KEYS = 40


@pytest.mark.live
@AS_OFTEN
def test_each_version_is_a_whole_transaction(home: Path, kills: int) -> None:
    table = Table.create("killed", key_schema={"id": pa.int64()})
    table.write({"id": list(range(KEYS)), "a": [0] * KEYS, "b": [0] * KEYS})
    killed_at_random(kills, write_turns, "killed", KEYS, longest=1.0)
    for version in Dataset("killed").list_versions()[:20]:
        rows = table.scan(asof=version.version).to_table().to_pydict()
        if version.version > 1:
            assert rows["id"] == list(range(KEYS))
            assert len({*rows["a"], *rows["b"]}) == 1
    assert table.write({"id": [0], "a": [-1]}).scan(where="id = 0").to_table()["a"].to_pylist() == [-1]


@pytest.mark.live
@AS_OFTEN
def test_a_compaction_is_there_or_not_and_leaves_nothing_behind(home: Path, kills: int) -> None:
    table = Table.create("killed", key_schema={"id": pa.int64()})
    for part in range(3):
        ids = list(range(part, KEYS, 3))
        table.write({"id": ids, "a": [0] * len(ids), "b": [0] * len(ids)})
    killed_at_random(kills, compact_turns, "killed", KEYS, longest=1.0)
    versions = Dataset("killed").list_versions()
    for version in versions[:20]:
        rows = table.scan(asof=version.version).to_table().to_pydict()
        if version.version > 3:
            assert rows["id"] == list(range(KEYS))
            assert all(len({*rows["a"][part::3], *rows["b"][part::3]}) == 1 for part in range(3))
            added = Dataset("killed", version=version.version).added_since(version.version - 1).count()
            assert added == (0 if version.operation == "replace" else version.added_records)
    age(home)
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    stored = table.lake.table("killed")
    files = [file for snapshot in stored.metadata.snapshots for file in files_of(stored, snapshot)]
    named = {Path(path).name for file in files for path in (file.path, *(each.path for each in file.deletes))}
    assert {path.name for path in home.rglob("*.parquet")} == named
