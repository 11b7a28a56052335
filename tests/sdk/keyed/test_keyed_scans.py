"""Scans of keyed tables: versions that stay fixed, projections, joins by key, takes, shards, states."""

from __future__ import annotations

import datetime as dt
import json
import pickle
import time
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest

import lakefeed.expressions as se
from lakefeed import Dataset, Table, col, connect, fetch, udf
from lakefeed.dataset.core import plan_of
from lakefeed.errors import (
    ColumnNotFoundError,
    DuplicateKeyError,
    ExpressionError,
    InvalidArgumentError,
    SchemaError,
    StateMismatchError,
    TransformError,
    TypeMismatchError,
    UnsupportedError,
    VersionNotFoundError,
)
from lakefeed.keyed import KeyRange, Shard, key_ranges
from lakefeed.plan import lineage

ID = {"id": pa.int64()}


@udf(pa.int64())
def length(text: Any) -> Any:
    return [None if each is None else len(each) for each in text.to_pylist()]


def listed(scan: Any, **options: Any) -> list[dict[str, Any]]:
    return scan.to_table(**options).to_pylist()


@pytest.fixture
def table(home: Path) -> Table:
    table = Table.create("photos", key_schema=ID)
    table.write({"id": [3, 1, 2], "label": ["c", "a", None], "size.w": [30, 10, 20], "size.h": [3, 1, 2]})
    return table


def test_a_scan_keeps_the_versions_that_were_newest(table: Table) -> None:
    scan, before, snapshot = table.scan(), dt.datetime.now(dt.UTC), table.snapshot()
    time.sleep(0.01)
    table.write({"id": [1, 9], "label": ["new", "i"]})
    table.drop_columns(["size"])
    for old in (scan, snapshot.scan(), table.scan(asof=2), table.scan(asof=before)):
        assert [row["id"] for row in listed(old)] == [1, 2, 3]
        assert old.schema.names == ["id", "label", "size"]
    microseconds = int(before.timestamp() * 1_000_000)
    assert table.snapshot(microseconds).version == table.snapshot(2).version == snapshot.version == 2
    assert (snapshot.table, snapshot.asof <= before, snapshot.schema().names) == (table, True, scan.schema.names)
    table.as_dataset(2).tag("first")
    assert table.scan(asof="first").to_table().num_rows == snapshot.as_dataset().count() == 3
    assert listed(table.scan())[0] == {"id": 1, "label": "new"}
    with pytest.raises(VersionNotFoundError):
        table.scan(asof=77)
    for bad in (dt.datetime(2024, 1, 1), 0, -1, 1.5, "v1", True, [2]):
        with pytest.raises((InvalidArgumentError, VersionNotFoundError), match="asof"):
            table.scan(asof=bad)


def test_projections(table: Table) -> None:
    client = connect()
    whole = {"id": 1, "label": "a", "size": {"w": 10, "h": 1}}
    cases: list[tuple[Any, dict[str, Any]]] = [
        (table, whole),
        (table[["label", "size.w"]], {"label": "a", "size": {"w": 10}}),
        (table["size.h"], {"h": 1}),
        (table["size"], {"size": {"w": 10, "h": 1}}),
        (table["size"]["w"], {"w": 10}),
        (table.select("size", exclude=["size.h"]), {"size": {"w": 10}}),
        (table.select(exclude=["size", "id"]), {"label": "a"}),
        ({"x": table["size.w"] + 1, "y.z": table["label"]}, {"x": 11, "y": {"z": "a"}}),
        ({"all": table}, {"all": whole}),
        (se.merge(table, {"label": table["id"]}), {**whole, "label": 1}),
        (se.select(table, exclude=["size.w"]), {"id": 1, "label": "a", "size": {"h": 1}}),
        (se.select(table, ["size.w"]), {"size": {"w": 10}}),
        (se.pack({"p": se.pack([("x", table["id"])])}), {"p": {"x": 1}}),
        (se.alias(se.cast(table["size.w"], pa.string()), "text"), {"text": "10"}),
        ({"n": length(table["label"])}, {"n": 1}),
        ({"big": se.and_(se.gt(table["id"], 0), se.is_null(table["label"]))}, {"big": False}),
        ({"label": col("label"), "id": table["id"], "one": 1}, {"label": "a", "id": 1, "one": 1}),
        ({"in": se.getitem(table, "label").is_in(["a", "b"])}, {"in": True}),
    ]
    for projection, expected in cases:
        scan = client.scan(projection)
        assert listed(scan)[0] == expected
        assert scan.schema == scan.to_table().schema
        assert listed(client.resume_scan(scan.state_json())) == listed(scan)
    assert listed(client.scan(table["id"], {"id": table["id"] * 2}))[0] == {"id": 2}
    assert client.scan(table["id"]).key_schema == table.key_schema


def test_what_projections_refuse(table: Table) -> None:
    client = connect()
    refused: list[tuple[Any, type[Exception]]] = [
        (table["gone"], ColumnNotFoundError),
        (table["size.gone"], ColumnNotFoundError),
        (table["id"] + 1, InvalidArgumentError),
        (se.cast(table["id"], pa.string()), InvalidArgumentError),
        (7, InvalidArgumentError),
        (None, InvalidArgumentError),
        ({7: table["id"]}, InvalidArgumentError),
        ({"x": table["label"] + 1}, ExpressionError),
        ({"x": fetch(table["id"])}, TypeMismatchError),
    ]
    for projection, kind in refused:
        with pytest.raises(kind):
            client.scan(projection)
    for key in (["gone"], []):
        with pytest.raises((ColumnNotFoundError, InvalidArgumentError)):
            _ = table[key]
    with pytest.raises(InvalidArgumentError, match="projection"):
        client.scan()
    with pytest.raises(ExpressionError):
        table.scan(where="id >")
    with pytest.raises(TransformError, match="'n'"):
        table.scan({"n": udf(pa.int64())(lambda text: [1])(table["id"])}).to_table()
    with pytest.raises(TypeMismatchError, match="'n'"):
        table.scan({"n": se.cast(table["label"], pa.int8())}).to_table()


def test_conditions(table: Table) -> None:
    for where in ("id >= 2", table["id"] >= 2, col("id") >= 2, "size.w > 10", table["size.w"] > 10):
        scan = table.scan("id", where=where)
        assert scan.to_table()["id"].to_pylist() == [2, 3]
        assert not scan.is_empty()
    assert table.scan(where="id > 7").is_empty()
    assert table.scan(where="id > 7").to_table().schema == table.scan().schema
    assert Table.create("empty", key_schema=ID).scan().is_empty()


def test_tables_of_equal_key_are_joined_by_the_key_of_the_first(table: Table) -> None:
    other = Table.create("other", key_schema=ID)
    other.write({"id": [1, 3, 5], "score": [0.1, 0.3, 0.5], "label": ["A", "C", "E"]})
    client = connect()
    scan = client.scan(table[["id", "label"]], other["score"])
    assert listed(scan) == [
        {"id": 1, "label": "a", "score": 0.1},
        {"id": 2, "label": None, "score": None},
        {"id": 3, "label": "c", "score": 0.3},
    ]
    assert listed(client.scan(other, table["label"]))[2] == {"id": 5, "score": 0.5, "label": None}
    both = {"same": table["id"] == other["id"], "pair": {"a": table["label"], "b": other["label"]}}
    assert listed(client.scan(both, where=other["score"] > 0.2)) == [{"same": True, "pair": {"a": "c", "b": "C"}}]
    assert client.scan(table["id"], where=other["score"].is_null()).to_table()["id"].to_pylist() == [2]
    unordered = client.scan(table["id"], other["score"]).to_unordered_record_batches().read_all()
    assert unordered["id"].to_pylist() == [1, 2, 3]
    strange = Table.create("strange", key_schema={"id": pa.string()})
    with pytest.raises(SchemaError, match="equal keys"):
        client.scan(table, strange)


def test_rows_come_in_the_order_of_the_key_however_they_were_written(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(key_ranges, "RANGE_ROWS", 100)
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "50")
    table, rng, expected = Table.create("shuffled", key_schema={"id": pa.int32()}), np.random.default_rng(7), {}
    for turn in range(4):
        ids = rng.choice(1000, 300, replace=False).astype("int32")
        table.write(pa.table({"id": ids, "turn": np.full(300, turn)}))
        expected.update(dict.fromkeys(ids.tolist(), turn))
    scan = table.scan()
    scan._reader.__dict__["ranges"] = key_ranges.layout_ranges(scan._reader.base.source, ("id",), 100)
    assert len(scan.shards()) > 3
    rows = scan.to_record_batches(batch_size=64).read_all()
    assert rows["id"].to_pylist() == sorted(expected)
    assert dict(zip(*rows.to_pydict().values(), strict=True)) == expected
    parts = [table.scan().to_table(shards=[shard]) for shard in pickle.loads(pickle.dumps(scan.shards()))]
    assert pa.concat_tables(parts).equals(rows.combine_chunks()) or pa.concat_tables(parts)["id"].equals(rows["id"])
    exact = table.scan(where="turn > 1").compute_shards(64)
    assert [shard.cardinality for shard in exact[:-1]] == [64] * (len(exact) - 1)
    assert [table.scan(where="turn > 1").to_table(shards=[each]).num_rows for each in exact] == [
        shard.cardinality for shard in exact
    ]
    assert sorted(table.scan().to_unordered_record_batches(shards=exact).read_all()["id"].to_pylist()) == sorted(
        expected
    )
    hull = exact[0] | exact[1]
    assert table.scan(where="turn > 1").to_table(shards=[hull]).num_rows == 128
    assert (hull.cardinality, hull.key_range) == (None, KeyRange(None, exact[1].key_range.end))


@pytest.mark.parametrize(
    ("kind", "values"),
    [
        (pa.string(), ["", "a", "ab", "b", "é"]),
        (pa.date32(), [dt.date(1969, 1, 1), dt.date(2020, 1, 2), dt.date(2020, 1, 3)]),
        (pa.binary(), [b"", b"\0", b"\0\1", b"\xff"]),
        (pa.timestamp("us"), [dt.datetime(1969, 1, 1, 1), dt.datetime(2020, 1, 2, 3, 4, 5, 6)]),
        (pa.bool_(), [False, True]),
        (pa.uint8(), [0, 7, 255]),
        (pa.decimal128(9, 2), ["-1.5", "0.25", "10"]),
    ],
)
def test_keys_of_each_type(home: Path, kind: pa.DataType, values: list[Any]) -> None:
    keys = pa.array(values).cast(kind) if pa.types.is_decimal(kind) else pa.array(values, kind)
    table = Table.create("typed", key_schema=[("k", kind), ("n", pa.int64())])
    table.write(
        pa.table({"k": keys.take(list(range(len(keys)))[::-1]), "n": [0] * len(keys), "v": list(range(len(keys)))})
    )
    table.write(pa.table({"k": keys[:1], "n": [0], "v": [100]}))
    assert table.scan().to_table()["k"].combine_chunks().equals(keys)
    taken = table.scan("v").to_table(key_table=pa.table({"k": keys, "n": [0] * len(keys)}))["v"].to_pylist()
    assert taken == [100, *reversed(range(len(keys) - 1))]
    shards = table.scan().compute_shards(1)
    assert [table.scan().to_table(shards=[each]).num_rows for each in shards] == [1] * len(keys)
    assert table.delete_keys(pa.table({"k": keys[1:], "n": [0] * (len(keys) - 1)})).scan().to_table().num_rows == 1


def test_takes_read_only_row_groups_that_hold_the_keys(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "100")
    table = Table.create("many", key_schema=ID)
    table.write({"id": list(range(1000)), "x": list(range(1000, 2000))})
    scan = table.scan()
    keys = pa.table({"id": [950, 7, 2000, 950, 8], "other": [0] * 5})
    assert scan.to_table(key_table=keys).to_pydict() == {"id": [950, 7, 950, 8], "x": [1950, 1007, 1950, 1008]}
    assert (scan.metrics["row_groups"], scan.metrics["row_groups_skipped"], scan.metrics["rows"]) == (10, 8, 4)
    assert listed(table.scan(where="x < 1500"), key_table=keys) == [{"id": 7, "x": 1007}, {"id": 8, "x": 1008}]
    assert [len(b) for b in scan.to_record_batches(key_table=keys, batch_size=2)] == [2, 1, 1]
    assert scan.to_unordered_record_batches(key_table=keys.to_reader(2)).read_all().num_rows == 4
    for bad in (pa.table({"x": [1]}), pa.table({"id": ["a"]}), [1], 7, {"id": [1]}):
        with pytest.raises((InvalidArgumentError, SchemaError), match="key"):
            scan.to_table(key_table=bad)
    with pytest.raises(InvalidArgumentError, match="either"):
        scan.to_table(key_table=keys, shards=scan.shards())
    with pytest.raises(InvalidArgumentError, match="shards"):
        scan.to_table(shards=[1])
    pruned = table.scan(where="id < 100")
    assert pruned.to_table().num_rows == 100
    assert pruned.metrics["row_groups_skipped"] == 9


def test_a_state_gives_the_same_rows_though_the_tables_moved_on(table: Table) -> None:
    client = connect()
    scan = client.scan(table, {"n": length(table["label"])}, where="id > 1")
    state, rows = scan.state_json(), listed(scan)
    table.write({"id": [3, 4], "label": ["changed", "d"]})
    table.drop_columns(["size"])
    assert listed(client.resume_scan(state)) == rows
    with pytest.raises(UnsupportedError, match="function"):
        client.scan({"n": udf(pa.int64())(lambda text: text)(table["id"])}).state_json()
    for bad in ("", "{}", "[]", None, 7, json.dumps({**json.loads(state), "format": 99})):
        with pytest.raises(StateMismatchError, match="state"):
            client.resume_scan(bad)  # type: ignore[arg-type]
    client.drop_table("photos")
    Table.create("photos", key_schema=ID)
    with pytest.raises(VersionNotFoundError, match="dropped"):
        client.resume_scan(state)


def test_rows_for_other_libraries(table: Table) -> None:
    expected = table.scan().to_table()
    assert table.scan().to_pandas()["label"].tolist()[0] == "a"
    assert table.scan().to_polars().shape == (3, 3)
    lazy = table.to_polars().filter(pl.col("id") > 1).select("label")
    assert lazy.collect()["label"].to_list() == [None, "c"]
    assert table.to_polars().head(1).collect().height == 1
    assert table.to_duckdb().filter("id > 1").fetchall()[1][:2] == (3, "c")
    assert table.to_arrow_dataset().to_table() == expected
    assert table.scan().as_dataset().filter("id > 1").count() == 2
    assert Dataset("photos").sort("id").to_arrow() == expected


def test_a_key_that_another_program_doubled_is_named(table: Table) -> None:
    stored = connect().catalog().load_table(("default", "photos"))
    stored.append(pa.table({"id": [1]}, schema=pa.schema([pa.field("id", pa.int64(), False)])))
    for read in (lambda: table.scan().to_table(), lambda: table.scan().to_table(key_table=pa.table({"id": [1]}))):
        with pytest.raises(DuplicateKeyError, match=r"'id': 1.*Write the key again"):
            read()
    table.write({"id": [1], "label": ["one"]})
    assert [row["id"] for row in listed(table.scan())] == [1, 2, 3]


def test_fetched_files(table: Table, tmp_path: Path) -> None:
    (tmp_path / "one.bin").write_bytes(b"one")
    table.write({"id": [1, 2], "url": [str(tmp_path / "one.bin"), None]}, column_types=None)
    scan = table.scan({"content": fetch(table["url"]), "again": se.file.get(table["url"])})
    assert listed(scan)[:2] == [{"content": b"one", "again": b"one"}, {"content": None, "again": None}]


def test_shards_are_values() -> None:
    shard = Shard(KeyRange((1,), (5,)), 4)
    assert pickle.loads(pickle.dumps(shard)) == shard
    for bad in (5, (), [1]):
        with pytest.raises(InvalidArgumentError, match="begin"):
            KeyRange(bad)  # type: ignore[arg-type]


def test_ranges_of_composite_keys_cut_within_equal_first_columns(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    monkeypatch.setattr(key_ranges.layout_ranges, "__defaults__", (20,))
    table = Table.create("parts", key_schema={"part": pa.string(), "n": pa.int64()})
    table.write({"part": ["test"] * 100 + ["train"] * 150, "n": [*range(100), *range(150)], "x": list(range(250))})
    table.write({"part": ["test", "train"], "n": [7, 500], "x": [-7, -500]})
    scan = table.scan()
    shards = scan.shards()
    assert len(shards) > 9
    whole = scan.to_table()
    assert whole.num_rows == 251
    parts = [scan.to_table(shards=[each]) for each in shards]
    assert max(part.num_rows for part in parts) <= 32
    assert pa.concat_tables(parts).equals(whole)
    one = table.scan()
    one.to_table(shards=[shards[3]])
    assert one.metrics["row_groups_skipped"] > 15


def test_a_scan_is_a_dataset_whose_rows_have_positions(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("torch")
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "10")
    monkeypatch.setattr(key_ranges.layout_ranges, "__defaults__", (40,))
    left, right = (Table.create(name, key_schema={"id": pa.int64()}) for name in ("left", "right"))
    for first in (0, 1):
        left.write({"id": list(range(first, 200, 2)), "x": [float(n) for n in range(100)]})
    left.delete_keys([4, 5])
    right.write({"id": list(range(0, 200, 3)), "z": [1.5] * 67})
    scan = connect().scan(left, {"z": right["z"]}, where=left["x"] >= 3)
    expected = scan.to_table()
    rows = scan.as_dataset()
    assert rows.to_arrow().equals(expected)
    assert rows.slice(17, 103).select(["z"]).to_arrow().equals(expected.select(["z"]).slice(17, 86))
    assert rows.count() == expected.num_rows
    assert {each.dataset for each in lineage(plan_of(rows, "lineage")).origins} == {"left", "right"}
    assert "left v4, right v2" in rows.explain()
    loader = rows.shuffle(seed=1).to_torch(batch_size=10)
    order = [each for batch in rows.shuffle(seed=1).to_torch(batch_size=10) for each in batch["id"].tolist()]
    batches = iter(loader)
    seen = [each for _ in range(5) for each in next(batches)["id"].tolist()]
    state = scan.state_json()
    left.compact()
    later = connect().resume_scan(state).as_dataset().shuffle(seed=1).to_torch(batch_size=7)
    later.load_state_dict(loader.state_dict())
    assert seen + [each for batch in later for each in batch["id"].tolist()] == order
    assert sorted(order) == expected["id"].to_pylist()


def test_takes_carry_further_columns_of_the_table_of_keys(home: Path) -> None:
    left, right = (Table.create(name, key_schema=ID) for name in ("left", "right"))
    left.write({"id": [1, 2, 3], "x": [10, 20, 30]})
    right.write({"id": [2], "z": [0.5]})
    weight = se.aux("weight", pa.float64())
    scan = connect().scan(left["x"], weight, {"z": right["z"], "text": se.cast(weight, pa.string())}, where="x >= 20")
    keys = pa.table({"id": [3, 9, 2, 2, 1], "weight": [0.5, 1, 2, 3, 4]})
    expected = [
        {"x": 30, "weight": 0.5, "z": None, "text": "0.5"},
        {"x": 20, "weight": 2.0, "z": 0.5, "text": "2"},
        {"x": 20, "weight": 3.0, "z": 0.5, "text": "3"},
    ]
    assert scan.to_table(key_table=keys).to_pylist() == expected
    resumed = connect().resume_scan(scan.state_json())
    assert resumed.to_table(key_table=keys, batch_size=2).to_pylist() == expected
    with pytest.raises(SchemaError, match="lacks the column 'weight'"):
        scan.to_table(key_table=keys.drop_columns(["weight"]))
    with pytest.raises(InvalidArgumentError, match="key_table"):
        scan.to_table()
    with pytest.raises(InvalidArgumentError, match="key_table"):
        scan.as_dataset().to_arrow()


@pytest.mark.parametrize("composite", [False, True])
def test_scans_and_takes_of_many_runs_equal_a_dict(
    home: Path, monkeypatch: pytest.MonkeyPatch, composite: bool
) -> None:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "7")
    monkeypatch.setenv("LAKEFEED__WRITE__COMPACTION", "off")
    monkeypatch.setattr(key_ranges, "RANGE_ROWS", 20)
    random = np.random.default_rng(composite)
    names = ("k", "n") if composite else ("n",)
    key_of = (lambda n: (f"{n // 9:02}", n)) if composite else (lambda n: (n,))
    kinds = {"k": pa.string(), "n": pa.int64()}
    table = Table.create("runs", key_schema=[(name, kinds[name]) for name in names])

    def columns(numbers: Any) -> dict[str, list[Any]]:
        keys = [key_of(int(n)) for n in numbers]
        return {name: [key[place] for key in keys] for place, name in enumerate(names)}

    expected: dict[tuple[Any, ...], tuple[int, str]] = {}
    for run in range(4):
        numbers = random.permutation(120)[: 60 if run == 0 else 15]
        table.write({**columns(numbers), "v": [run] * len(numbers), "t": [f"{run}-{n}" for n in numbers]})
        expected |= {key_of(int(n)): (run, f"{run}-{n}") for n in numbers}
        gone = random.permutation(120)[:6]
        table.delete_keys(pa.table(columns(gone)))
        expected = {key: value for key, value in expected.items() if key not in {key_of(int(n)) for n in gone}}
    rows = [dict(zip((*names, "v", "t"), (*key, *expected[key]), strict=True)) for key in sorted(expected)]
    scan = table.scan()
    assert listed(scan) == rows
    assert [row for each in scan.shards() for row in listed(scan, shards=[each])] == rows
    assert listed(scan, shards=scan.shards()[::-1][:2]) == [
        row for each in scan.shards()[::-1][:2] for row in listed(scan, shards=[each])
    ]
    assert listed(table.scan("t", "v", where="v > 1")) == [
        {"t": row["t"], "v": row["v"]} for row in rows if row["v"] > 1
    ]
    assert sorted(map(str, scan.to_unordered_record_batches().read_all().to_pylist())) == sorted(map(str, rows))
    wanted = [*map(int, random.integers(0, 130, 80)), 5, 5]
    keys = pa.table({name: [None, *values] for name, values in columns(wanted).items()})
    taken = [expected[key_of(n)] for n in wanted if key_of(n) in expected]
    assert [(row["v"], row["t"]) for row in listed(table.scan("t", "v"), key_table=keys)] == taken
    assert listed(table.scan(names[-1]), key_table=keys.slice(1)) == [
        {names[-1]: n} for n in wanted if key_of(n) in expected
    ]
    stored = connect().catalog().load_table(("default", "runs"))
    doubled = next(iter(expected))
    fields = [pa.field(name, kinds[name], False) for name in names]
    stored.append(pa.table({name: [value] for name, value in zip(names, doubled, strict=True)}, pa.schema(fields)))
    again = pa.table({name: [value] for name, value in zip(names, doubled, strict=True)})
    for read in (lambda: table.scan().to_table(), lambda: table.scan().to_table(key_table=again)):
        with pytest.raises(DuplicateKeyError, match="two rows of one key"):
            read()
