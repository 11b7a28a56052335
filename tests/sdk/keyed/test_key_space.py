"""Key-space indexes: exact ranges, refreshed from what changed, for sharding and streaming."""

from __future__ import annotations

import datetime as dt
import json
import random
import threading
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, Table, collect_garbage, connect, get_dataset, list_datasets
from lakefeed.errors import (
    DamagedDatasetError,
    DatasetExistsError,
    IndexNotFoundError,
    InvalidArgumentError,
    InvalidNameError,
    StateMismatchError,
    UnsupportedError,
)
from lakefeed.expressions import cast
from lakefeed.keyed import KeySpaceIndex, Scan, Shard, key_space_index

GRANULARITY = 20


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("events", key_schema={"day": pa.string(), "n": pa.int64()})
    table.write({"day": ["a"] * 60 + ["b"] * 45, "n": [*range(60), *range(45)], "x": list(range(105))})
    return table


def check(index: KeySpaceIndex, scan: Scan) -> list[Shard]:
    """Checks that the ranges hold the rows of a scan, each once, and that none is too large or needlessly small."""
    shards = index.shards()
    parts = [scan.to_table(shards=[shard]) for shard in shards]
    assert [part.num_rows for part in parts] == [shard.cardinality for shard in shards]
    assert pa.concat_tables(parts).equals(scan.to_table())
    sizes = [shard.cardinality or 0 for shard in shards]
    assert max(sizes) <= 2 * GRANULARITY
    for size, following in pairwise(sizes):
        assert 2 * min(size, following) >= GRANULARITY or size + following > 2 * GRANULARITY
    return shards


def test_an_index_is_exact_and_refreshed_from_what_changed(table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    client = connect()
    index = client.create_key_space_index("spans", GRANULARITY, table)
    before = check(index, table.scan())
    assert [shard.cardinality for shard in before] == [20, 20, 20, 20, 25]
    assert (index.name, index.version, index.granularity, index.table) == ("spans", 2, GRANULARITY, table)
    assert index.asof == table.snapshot().asof
    counted: list[Any] = []
    divided = key_space_index._divided
    monkeypatch.setattr(key_space_index, "_divided", lambda *args: counted.append(args[1]) or divided(*args))
    table.write({"day": ["a"] * 50, "n": list(range(1000, 1050)), "x": [1] * 50})
    assert index.shards() == before  # of the version that it was made of
    check(index, index.scan())
    check(index.refresh(), table.scan())
    assert len(counted) == 1  # one of five ranges
    assert index.version == 3
    table.enrich({"y": table["x"] * 2}).apply()
    index.refresh()
    assert len(counted) == 1  # no row came or went
    table.delete_keys({"day": ["b"] * 40, "n": list(range(2, 42))})
    after = check(index.refresh(), table.scan())
    assert sum(shard.cardinality or 0 for shard in after) == 115
    written = json.loads(table.scan().state_json())["tables"][0]["version"]
    assert index.version == written
    versions = len(list_datasets())
    assert versions == 1  # hidden


@pytest.mark.live
def test_a_condition_and_random_changes(table: Table) -> None:
    draw, client = random.Random(3), connect()
    index = client.create_key_space_index("even", GRANULARITY, table[["n"]], where="x % 2 == 0")
    for _ in range(3):
        keys = {(draw.choice("abc"), draw.randrange(200)) for _ in range(draw.choice([3, 90]))}
        columns = {"day": [day for day, _ in keys], "n": [n for _, n in keys]}
        if draw.random() < 0.3:
            table.delete_keys(columns)
        else:
            table.write({**columns, "x": [draw.randrange(10) for _ in keys]})
        check(index.refresh(), table.scan("n", where="x % 2 == 0"))
    table.compact()
    check(index.refresh(), table.scan("n", where="x % 2 == 0"))
    other = Table.create("other", key_schema={"day": pa.string(), "n": pa.int64()})
    other.write({"day": ["a"], "n": [1]})
    with pytest.raises(InvalidArgumentError, match="not of 'other'"):
        index.scan(other)
    assert index.scan(table["x"]).schema.names == ["x"]


def test_indexes_are_named_listed_dropped(table: Table) -> None:
    client, project = connect(), connect().create_project(name="team")
    index = client.create_key_space_index("spans", GRANULARITY, table)
    project.create_key_space_index("mine", GRANULARITY, table)
    assert [each.name for each in client.list_key_space_indexes()] == ["spans", "team.mine"]
    assert [each.name for each in project.list_key_space_indexes()] == ["team.mine"]
    assert project.key_space_index("mine").shards() == index.shards()
    assert client.create_key_space_index("spans", GRANULARITY, table, exist_ok=True).version == 2
    for granularity, columns, ok in ((20, table, False), (21, table, True), (20, table["x"], True)):
        with pytest.raises(DatasetExistsError):
            client.create_key_space_index("spans", granularity, columns, exist_ok=ok)
    project.drop_key_space_index("mine")
    for call in (project.key_space_index, project.drop_key_space_index):
        with pytest.raises(IndexNotFoundError, match="'spans'"):
            call("mine")
    for wrong in (0, -1, True, "9", None, 1.5):
        with pytest.raises(InvalidArgumentError, match="granularity"):
            client.create_key_space_index("bad", wrong, table)  # type: ignore[arg-type]
    with pytest.raises(InvalidNameError):
        client.create_key_space_index("Bad name", 5, table)
    with pytest.raises(UnsupportedError, match="root_uri"):
        client.create_key_space_index("bad", 5, table, root_uri="s3://x")
    with pytest.raises(InvalidArgumentError):
        client.create_key_space_index("bad", 5)
    assert get_dataset("events").version == 2


def test_an_index_survives_collections_and_damage(table: Table, home: Path) -> None:
    client = connect()
    index = client.create_key_space_index("spans", GRANULARITY, table)
    collect_garbage(dry_run=False, grace=dt.timedelta(0))
    before = check(index, table.scan())
    files = [path for path in home.rglob("*.parquet") if "_key_spaces" in str(path)]
    assert files
    for path in files:
        path.unlink()
    with pytest.raises(DamagedDatasetError, match="drop_key_space_index"):
        index.shards()
    assert index.refresh().shards() == before
    for path in (path for path in home.rglob("*.metadata.json") if "_key_spaces" in str(path)):
        path.write_text("{")
    with pytest.raises(DamagedDatasetError, match="drop_key_space_index"):
        connect(overrides={"commit.retries": 7}).key_space_index("spans").shards()
    connect(overrides={"commit.retries": 7}).drop_key_space_index("spans")
    assert client.create_key_space_index("spans", GRANULARITY, table).shards() == before


def test_ranges_of_an_index_shard_a_loader(table: Table) -> None:
    pytest.importorskip("torch")
    index = connect().create_key_space_index("spans", GRANULARITY, table)
    loader = index.scan().to_data_loader(shards=index.shards(), batch_size=30)
    assert sorted(each for batch in loader for each in batch["x"].to_pylist()) == list(range(105))
    table.write({"day": ["a"], "n": [-1], "x": [-1]})
    with pytest.raises(StateMismatchError, match="another version"):
        list(table.scan().to_data_loader(shards=index.shards()))


@pytest.mark.live
def test_an_index_follows_a_table_that_was_renamed(table: Table) -> None:
    client = connect()
    client.create_table("sizes", key_schema={"day": pa.string(), "n": pa.int64()}).write(
        {"day": ["a", "b"], "n": [1, 2], "size": [7, 8]}
    )
    columns = {"x": table["x"], "size": client.table("sizes")["size"]}
    index = client.create_key_space_index("spans", GRANULARITY, columns, where=table["x"] >= 5)
    state = index.scan().state_json()
    moved = client.rename_table("events", "happenings")
    assert (index.table, index.scan().state_json()) == (moved, state)
    check(index, index.scan())
    moved.write({"day": ["c"], "n": [1], "x": [200]})
    sizes = client.rename_table("sizes", "widths")
    sizes.write({"day": ["c"], "n": [1], "size": [9]})
    index.refresh()
    now = client.scan({"x": moved["x"], "size": sizes["size"]}, where=moved["x"] >= 5)
    assert check(index, index.scan())[-1] == check(index, now)[-1]
    assert index.scan().to_table().equals(now.to_table())
    twice = index.scan({"twice": moved["x"] * 2, "inner": {"w": cast(sizes["size"], pa.string())}}).to_table()
    assert twice.to_pylist()[-1] == {"twice": 400, "inner": {"w": "9"}}
    assert sum(shard.cardinality or 0 for shard in moved.to_streaming(index, projection=moved["x"]).shards) == 101
    assert client.create_table("events", key_schema={"day": pa.string(), "n": pa.int64()}).identifier == "events"
    check(index.refresh(), now)
    with pytest.raises(InvalidArgumentError, match="not of 'events'"):
        index.scan(client.table("events")["day"])
    moved.drop_columns(["x"])
    Dataset("happenings").add_column("x", pa.int64())  # that makes no version
    assert sum(shard.cardinality or 0 for shard in index.refresh().shards()) == 0


@pytest.mark.live
def test_refreshes_at_once_and_many_of_them(table: Table) -> None:
    index = connect().create_key_space_index("spans", GRANULARITY, table)
    errors: list[BaseException] = []

    def write(day: str) -> None:
        try:
            for n in range(4):
                table.write({"day": [day], "n": [n], "x": [n]})
                connect().key_space_index("spans").refresh()
        except Exception as error:  # noqa: BLE001 - the main thread shows it
            errors.append(error)

    threads = [threading.Thread(target=write, args=(day,)) for day in "cdef"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    shards = check(index.refresh(), table.scan())
    assert sum(shard.cardinality or 0 for shard in shards) == 105 + 16
    assert len(index._table().metadata.snapshots) < 12
    table.as_dataset().restore(2)
    assert sum(shard.cardinality or 0 for shard in check(index.refresh(), table.scan())) == 105


@pytest.mark.live
@pytest.mark.parametrize(
    ("kind", "keys"),
    [
        (pa.date32(), [dt.date(2024, 1, 1) + dt.timedelta(n) for n in range(50)]),
        (pa.timestamp("us", "UTC"), [dt.datetime(2024, 1, 1, n, tzinfo=dt.UTC) for n in range(24)]),
        (pa.time64("us"), [dt.time(n % 24, n) for n in range(50)]),
        (pa.binary(), [bytes([n]) for n in range(50)]),
        (pa.uint8(), list(range(50))),
        (pa.decimal128(9, 2), [Decimal(n) / 4 for n in range(50)]),
        (pa.bool_(), [False, True]),
    ],
    ids=str,
)
def test_keys_of_any_type(home: Path, kind: Any, keys: list[Any]) -> None:
    table = Table.create("typed", key_schema={"k": kind})
    table.write({"k": keys, "x": list(range(len(keys)))})
    index = connect().create_key_space_index("spans", GRANULARITY, table)
    check(index, table.scan())
    table.delete_keys(keys[:1])
    shards = check(index.refresh(), table.scan())
    loader = index.scan().to_data_loader(shards=shards)
    resumed = index.scan().resume_data_loader(json.loads(json.dumps(loader.state_dict())))
    assert sum(batch.num_rows for batch in resumed) == len(keys) - 1
