"""Scans as Dask DataFrames: a partition for each shard, read when it computes; and shards of ranks."""

from __future__ import annotations

import datetime as dt
import pickle
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pytest

from lakefeed import Table, World, connect, udf
from lakefeed.errors import InvalidArgumentError, UnsupportedError
from lakefeed.expressions import aux
from lakefeed.keyed.dask_frames import ShardFrames


@pytest.mark.live
def test_partitions_are_shards_and_are_read_lazily(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    table = Table.create("pages", key_schema={"id": pa.int64()})
    table.write({"id": [5, 1, 3, 2, 4], "x": [50, 10, 30, None, 40], "s": list("ecabd")})
    other = Table.create("other", key_schema={"id": pa.int64()})
    other.write({"id": [2, 4], "y": [0.5, 1.5]})

    @udf(pa.int64())
    def length(text: Any) -> Any:
        return [len(each) for each in text.to_pylist()]

    scan = connect().scan(table, {"y": other["y"], "n": length(table["s"])}, where=table["id"] > 1)
    shards = scan.compute_shards(2)
    frame = scan.to_dask(shards=shards)
    assert frame.npartitions == len(shards) == 2
    assert list(frame.columns) == ["id", "x", "s", "y", "n"]
    table.write({"id": [9], "x": [90], "s": ["later"]})
    expected = scan.to_pandas()
    computed = frame.compute(scheduler="synchronous").reset_index(drop=True)
    pd.testing.assert_frame_equal(computed, expected, check_dtype=False)  # Dask has types of its own for text
    assert frame["n"].sum().compute(scheduler="synchronous") == 4
    arrow = scan.to_dask(types_mapper=pd.ArrowDtype)
    assert arrow.compute(scheduler="synchronous")["x"].dtype == pd.ArrowDtype(pa.int64()) == arrow.dtypes["x"]
    reads: list[Any] = []
    with monkeypatch.context() as patch:
        patch.setattr(ShardFrames, "__call__", lambda self, part: reads.append(part))
        scan.to_dask()
    assert reads == []
    assert scan.to_dask(shards=[]).compute(scheduler="synchronous").empty
    for bad in ({"shards": [7]}, {"types_mapper": 7}, {"shards": "x"}):
        with pytest.raises(InvalidArgumentError):
            scan.to_dask(**bad)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedError, match="key_table"):
        connect().scan(table, aux("w", pa.int64())).to_dask()


@pytest.mark.live
def test_values_are_those_of_pandas(home: Path) -> None:
    table = Table.create("pages", key_schema={"id": pa.int64()})
    rows = {
        "id": [1, 2],
        "price": pa.array([Decimal("1.50"), None], pa.decimal128(9, 2)),
        "tags": [["a"], None],
        "raw": [b"\xff", None],
        "inner": [{"a": 1}, {"a": None}],
        "flag": [True, None],
        "day": [dt.date(2026, 1, 1), None],
        "text": ["a", None],
    }
    table.write(pa.table(rows))
    expected = table.scan().to_pandas()
    frame = table.scan().to_dask()
    computed = frame.compute(scheduler="synchronous").reset_index(drop=True)
    pd.testing.assert_frame_equal(computed, expected)
    assert (computed["price"][0], computed["raw"][0], list(computed["tags"][0])) == (Decimal("1.50"), b"\xff", ["a"])


def test_shards_of_ranks_are_complete_and_disjoint(home: Path) -> None:
    table = Table.create("pages", key_schema={"id": pa.int64()})
    table.write({"id": list(range(103))})
    scan = table.scan("id")
    shards = pickle.loads(pickle.dumps(scan.compute_shards(10)))
    for size in (1, 2, 3, 7, 20):
        for seed in (None, 1):
            parts = [World(rank, size).shards(shards, seed) for rank in range(size)]
            assert max(map(len, parts)) - min(map(len, parts)) <= 1
            rows = [row for part in parts for row in scan.to_table(shards=part)["id"].to_pylist()]
            assert sorted(rows) == list(range(103))
    assert World(0, 2).shards(shards, 1) != World(0, 2).shards(shards, 2)
