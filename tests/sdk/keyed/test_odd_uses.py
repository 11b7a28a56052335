"""Odd uses of keyed tables: renamed keys and older versions, pickles, tables that are dropped and created again."""

from __future__ import annotations

import pickle
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, connect
from lakefeed.errors import ColumnNotFoundError, CommitConflictError


def test_older_versions_have_the_names_of_their_keys_and_columns(home: Path) -> None:
    table = Table.create("t", key_schema={"id": pa.int64(), "part": pa.string()})
    old = table.write({"id": [1, 2], "part": ["a", "b"], "gone": [5, 6]})
    state = table.scan(asof=old.version).state_json()
    Dataset("t").rename_column("id", "key")
    table.drop_columns(["gone"])
    table.write({"key": [3], "part": ["c"]})
    rows = [{"id": 1, "part": "a", "gone": 5}, {"id": 2, "part": "b", "gone": 6}]
    assert old.scan().to_table().to_pylist() == connect().resume_scan(state).to_table().to_pylist() == rows
    assert old.scan("gone", where="id = 2").to_table().to_pylist() == [{"gone": 6}]
    assert table.scan("gone", asof=2).to_table(key_table=pa.table({"id": [2], "part": ["b"]})).num_rows == 1
    assert [each.cardinality for each in old.scan().compute_shards(1)] == [1, 1]
    assert old.scan().key_schema.names == ["id", "part"]
    assert table.scan().key_schema.names == ["key", "part"]
    with pytest.raises(ColumnNotFoundError):
        table.scan("gone")


def test_scans_snapshots_and_enrichments_are_pickled(home: Path) -> None:
    table = Table.create("t", key_schema={"id": pa.int64()})
    snapshot = table.write({"id": [1, 2], "x": [1, 2]})
    scan = table.scan({"y": table["x"] + 1}, where="x > 1")
    assert scan.to_table().num_rows == 1
    enrichment = pickle.loads(pickle.dumps(table.enrich({"z": table["x"]})))
    copy = pickle.loads(pickle.dumps(scan))
    assert enrichment.apply().version == 3
    assert copy.to_table(shards=pickle.loads(pickle.dumps(scan.shards()))).to_pylist() == [{"y": 3}]
    assert pickle.loads(pickle.dumps(snapshot)).scan().schema.names == ["id", "x"]


def test_a_transaction_does_not_write_to_a_table_that_was_created_again(home: Path) -> None:
    table = Table.create("t", key_schema={"id": pa.int64()})
    with table.txn() as txn:
        txn.write({"id": [1]})
        connect().drop_table("t")
        Table.create("t", key_schema={"id": pa.int64()})
        with pytest.raises(CommitConflictError, match="created again"):
            txn.commit()
    assert table.scan().is_empty()
