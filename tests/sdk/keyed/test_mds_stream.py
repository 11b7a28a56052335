"""Streams of MDS shards over scans, which are written when they are asked for."""

from __future__ import annotations

import importlib.util
import json
import pickle
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Table, connect, udf
from lakefeed.errors import InvalidArgumentError, MissingDependencyError, StateMismatchError, UnsupportedError
from lakefeed.keyed import KeyRange, Shard
from tests.sdk.formats.test_mds import read_samples


@udf(pa.int64())
def squared(x: Any) -> Any:
    return [each**2 for each in x.to_pylist()]


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("pages", key_schema={"id": pa.int64()})
    table.write({"id": list(range(50)), "text": ["é" * n for n in range(50)], "x": list(range(50))})
    return table


def written(stream: Any) -> list[dict[str, Any]]:
    stream.write_index()
    folder = Path(stream.local)
    entries = json.loads((folder / "index.json").read_text())["shards"]
    samples: list[dict[str, Any]] = []
    for number, entry in enumerate(entries):
        stream.write_shard(number)
        data = (folder / entry["raw_data"]["basename"]).read_bytes()
        samples += read_samples(data, {**entry, "raw_data": {"bytes": len(data)}})
    return samples


def test_shards_are_written_when_they_are_asked_for(table: Table, tmp_path: Path) -> None:
    index = connect().create_key_space_index("spans", 20, table)
    stream = table.to_streaming(index, cache_dir=tmp_path / "mds", shard_row_block_size=7)
    table.delete_keys([3])  # the index is of the version before
    assert (stream.remote, stream.split, (tmp_path / "mds").exists()) == (None, "", False)
    again = pickle.loads(pickle.dumps(stream))
    assert (again.write_shard(1), stream.write_shard(1)) == (True, False)
    (folder,) = (tmp_path / "mds").iterdir()
    assert [path.name for path in folder.iterdir()] == ["shard.00001.mds"]
    rows = [{"id": n, "text": "é" * n, "x": n} for n in range(50)]
    assert written(stream) == rows
    assert stream.get_index_size() == (folder / "index.json").stat().st_size
    sizes = [entry["raw_data"]["bytes"] for entry in json.loads((folder / "index.json").read_text())["shards"]]
    assert len(sizes) == 3
    assert min(sizes) > 500
    if importlib.util.find_spec("streaming") is None:
        with pytest.raises(MissingDependencyError, match="mosaicml-streaming"):
            stream.get_shards(None, False)
    narrow = table.to_streaming(index, projection={"square": squared(table["x"])}, cache_dir=tmp_path / "mds")
    assert narrow.local != stream.local
    assert written(narrow) == [{"square": n**2} for n in range(50)]
    assert "mds" in table.scan().to_streaming().local
    assert [row["id"] for row in written(table.scan("id", where="id > 47").to_streaming())] == [48, 49]


def test_streams_that_are_refused(table: Table, tmp_path: Path) -> None:
    scan = table.scan()
    other = Table.create("other", key_schema={"id": pa.int64()})
    other.write({"id": [1]})
    index = connect().create_key_space_index("others", 20, other)
    with pytest.raises(InvalidArgumentError, match="'other', and not of 'pages'"):
        table.to_streaming(index)
    with pytest.raises(InvalidArgumentError, match="index"):
        table.to_streaming("spans")  # type: ignore[arg-type]
    for wrong in ({"shards": [1]}, {"cache_dir": 5}, {"cache_dir": "s3://x"}, {"shard_row_block_size": 0}):
        with pytest.raises(InvalidArgumentError):
            scan.to_streaming(**wrong)  # type: ignore[arg-type]
    nameless = udf(pa.int64())(lambda x: x)
    with pytest.raises(UnsupportedError, match="function"):
        connect().scan({"y": nameless(table["x"])}).to_streaming()
    stream = scan.to_streaming([Shard(KeyRange((0,), (9,)), 8)], cache_dir=tmp_path / "mds")
    with pytest.raises(StateMismatchError):
        stream.write_shard(0)
    assert not any(tmp_path.rglob("*.mds"))
