"""Writers of a keyed table that are killed: each version is one transaction, whole or not there."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table
from tests.sdk.killing import AS_OFTEN, killed_at_random
from tests.sdk.victims import write_turns

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
