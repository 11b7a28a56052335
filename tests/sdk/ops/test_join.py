"""M38: joins, over several origins and types, against a join written in Python."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.config import Settings
from lakefeed.errors import (
    ColumnNotFoundError,
    InvalidArgumentError,
    MissingFileError,
    TypeMismatchError,
)
from lakefeed.ops.join import JOIN_TYPES, Join, JoinType
from lakefeed.plan import Node

Origin = Callable[[pa.Table, str], Dataset]


def in_memory(table: pa.Table, name: str) -> Dataset:
    return Dataset.from_arrow(table)


def small_batches(table: pa.Table, name: str) -> Dataset:
    return Dataset.from_batches(lambda: iter(table.to_batches(max_chunksize=2)), schema=table.schema)


def saved(table: pa.Table, name: str) -> Dataset:
    return Dataset.from_arrow(table).save(name, column_types=None)


def appended(table: pa.Table, name: str) -> Dataset:
    cut = table.num_rows // 2
    Dataset.from_arrow(table.slice(0, cut)).save(name, column_types=None)
    return Dataset.from_arrow(table.slice(cut)).append_to(name)


@pytest.fixture(params=[in_memory, small_batches, saved, appended])
def origin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Origin:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "3")
    found: Origin = request.param
    return found


def joined(left: Dataset, right: Dataset, keys: Sequence[str], kind: JoinType) -> Dataset:
    node: Node = Join(left._plan, right._plan, tuple(keys), kind, left._lake.settings)
    return left._derive(node)


LEFT = pa.table({"k": pa.array([3, 1, None, 2, 3, 9]), "a": ["l0", "l1", "l2", "l3", "l4", "l5"]})
RIGHT = pa.table({"k": pa.array([2, 3, 7, None, 3, 1]), "b": [10, 11, 12, 13, 14, 15]})


def expected(left: pa.Table, right: pa.Table, keys: Sequence[str], kind: JoinType) -> list[dict[str, Any]]:
    def key(row: dict[str, Any]) -> tuple[Any, ...]:
        return tuple(row[name] for name in keys)

    ours, theirs = left.to_pylist(), right.to_pylist()
    extra = {name: name if name not in left.schema.names else f"{name}_right" for name in right.schema.names}
    nothing_right = {extra[name]: None for name in extra if name not in keys}
    rows, partnered = [], set()
    for mine in ours:
        found = [place for place, row in enumerate(theirs) if None not in key(mine) and key(row) == key(mine)]
        partnered.update(found)
        for place in found:
            rows.append(mine | {extra[name]: cell for name, cell in theirs[place].items() if name not in keys})
        if not found and kind in ("left outer", "full outer"):
            rows.append(mine | nothing_right)
    if kind in ("right outer", "full outer"):
        for place, row in enumerate(theirs):
            if place not in partnered:
                named = {name if name in keys else extra[name]: cell for name, cell in row.items()}
                rows.append(dict.fromkeys(left.schema.names) | named)
    return rows


def test_each_kind_over_each_origin(origin: Origin) -> None:
    left, right = origin(LEFT, "left"), origin(RIGHT, "right")
    for kind in JOIN_TYPES:
        result = joined(left, right, ["k"], kind)
        assert result.to_arrow().to_pylist() == expected(LEFT, RIGHT, ["k"], kind)
        assert result.schema.names == ["k", "a", "b"]
        assert result.to_arrow().schema == result.schema


@pytest.mark.parametrize("empty", ["left", "right", "both"])
def test_empty_sides(origin: Origin, empty: str) -> None:
    left = LEFT.slice(0, 0) if empty != "right" else LEFT
    right = RIGHT.slice(0, 0) if empty != "left" else RIGHT
    ours, theirs = origin(left, "left"), origin(right, "right")
    for kind in JOIN_TYPES:
        assert joined(ours, theirs, ["k"], kind).to_arrow().to_pylist() == expected(left, right, ["k"], kind)


@pytest.mark.parametrize("kind", JOIN_TYPES)
def test_several_keys(kind: JoinType) -> None:
    left = pa.table({"a": [1, 1, 2, None], "b": ["x", "y", "x", "x"], "v": [1, 2, 3, 4]})
    right = pa.table({"b": ["x", "x", None, "y"], "a": [1, 2, 1, 5], "w": [1, 2, 3, 4]})
    result = joined(Dataset.from_arrow(left), Dataset.from_arrow(right), ["a", "b"], kind)
    assert result.to_arrow().to_pylist() == expected(left, right, ["a", "b"], kind)


def test_names_that_both_sides_have_get_a_suffix() -> None:
    table = pa.table({"k": [1], "v": [2], "place": [3]})
    result = joined(Dataset.from_arrow(table), Dataset.from_arrow(table), ["k"], "inner")
    assert result.to_arrow().to_pylist() == [{"k": 1, "v": 2, "place": 3, "v_right": 2, "place_right": 3}]
    taken = Dataset.from_dict({"k": [1], "v": [2], "v_right": [3]})
    with pytest.raises(InvalidArgumentError, match="v_right"):
        joined(taken, Dataset.from_arrow(table), ["k"], "inner")


def test_the_rows_keep_the_order_of_the_left_side_then_of_the_right() -> None:
    random = np.random.default_rng(0)
    left = pa.table({"k": random.integers(0, 50, 1_000), "l": np.arange(1_000)})
    right = pa.table({"k": random.integers(25, 75, 100), "r": np.arange(100)})
    for kind in JOIN_TYPES:
        result = joined(Dataset.from_arrow(left), small_batches(right, "r"), ["k"], kind)
        assert result.to_arrow().to_pylist() == expected(left, right, ["k"], kind)


PAYLOADS = {
    "struct": pa.array([{"a": 1, "b": "x"}, None], pa.struct({"a": pa.int8(), "b": pa.string()})),
    "list": pa.array([[1.5, None], []], pa.list_(pa.float32())),
    "vector": pa.array([[1.0, 2.0], [3.0, 4.0]], pa.list_(pa.float32(), 2)),
    "half_vector": pa.array([[1.0, 2.0], None], pa.list_(pa.float16(), 2)),
    "half": pa.array([np.float16(0.1), None], pa.float16()),
    "dictionary": pa.array(["red", "blue"]).dictionary_encode(),
    "numbers_dictionary": pa.array([7, 8]).dictionary_encode(),
    "dictionaries": pa.array([["red"], ["blue", "red"]], pa.list_(pa.dictionary(pa.int32(), pa.string()))),
    "large": pa.array(["x", None], pa.large_string()),
    "bytes": pa.array([b"\x00\xff", None], pa.binary()),
    "moment": pa.array([dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None], pa.timestamp("ms", "Europe/Berlin")),
    "nanoseconds": pa.array([1, None], pa.timestamp("ns")),
    "length": pa.array([5, None], pa.duration("us")),
    "day": pa.array([dt.date(2020, 1, 1), None], pa.date32()),
    "decimal": pa.array([1, None], pa.decimal128(20, 2)),
    "flag": pa.array([True, None]),
    "small": pa.array([200, None], pa.uint8()),
    "big": pa.array([2**64 - 1, None], pa.uint64()),
    "map": pa.array([[("a", 1)], None], pa.map_(pa.string(), pa.int32())),
    "nothing": pa.nulls(2),
}


@pytest.mark.parametrize("column", PAYLOADS.values(), ids=PAYLOADS)
def test_columns_of_any_type_come_out_as_they_went_in(column: pa.Array[Any]) -> None:
    table = pa.table({"k": [1, 2], "v": column})
    keys = pa.table({"k": [2, 3, 1]})
    payload_left = joined(Dataset.from_arrow(table), Dataset.from_arrow(keys), ["k"], "left outer")
    payload_right = joined(Dataset.from_arrow(keys), Dataset.from_arrow(table), ["k"], "left outer")
    assert payload_left.to_arrow()["v"].combine_chunks().to_pylist() == column.to_pylist()
    assert payload_right.to_arrow()["v"].to_pylist() == [column[1].as_py(), None, column[0].as_py()]
    assert payload_right.to_arrow().schema.field("v").type == column.type


def test_file_columns_stay_file_columns(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"content")
    files = Dataset.from_dict({"k": [1], "f": [str(tmp_path / "a.bin")]}).save("files", column_types={"f": "file"})
    for left, right in ((files, Dataset.from_dict({"k": [1, 2]})), (Dataset.from_dict({"k": [1, 2]}), files)):
        result = joined(left, right, ["k"], "full outer")
        assert result.column_types == {"f": "file"}
        assert next(iter(result.rows()))["f"].bytes() == b"content"


@pytest.mark.parametrize(
    ("left", "right", "result"),
    [
        (pa.int8(), pa.int64(), pa.int64()),
        (pa.uint8(), pa.int8(), pa.int16()),
        (pa.uint64(), pa.uint8(), pa.uint64()),
        (pa.uint64(), pa.int8(), pa.int64()),
        (pa.string(), pa.large_string(), pa.string()),
        (pa.dictionary(pa.int8(), pa.string()), pa.string(), pa.dictionary(pa.int8(), pa.string())),
        (pa.binary(), pa.large_binary(), pa.binary()),
    ],
)
def test_keys_of_one_family_match(left: pa.DataType, right: pa.DataType, result: pa.DataType) -> None:
    def keys(kind: pa.DataType, values: list[int]) -> Dataset:
        text = not pa.types.is_integer(kind)
        column = pa.array([str(value) for value in values]) if text else pa.array(values)
        if kind in (pa.binary(), pa.large_binary()):
            column = column.cast(pa.binary())
        return Dataset.from_arrow(pa.table({"k": column.cast(kind)}))

    found = joined(keys(left, [1, 2]), keys(right, [2, 3]), ["k"], "full outer").to_arrow()
    assert found.schema.field("k").type == result
    assert [str(key.decode() if isinstance(key, bytes) else key) for key in found["k"].to_pylist()] == ["1", "2", "3"]


@pytest.mark.parametrize("other", [pa.array(["1"]), pa.array([1.0]), pa.array([[1]]), pa.array([True])])
def test_unlike_key_types_are_an_error_at_the_call(other: pa.Array[Any]) -> None:
    with pytest.raises(TypeMismatchError, match="'k' is int64 on the left"):
        joined(Dataset.from_dict({"k": [1]}), Dataset.from_arrow(pa.table({"k": other})), ["k"], "inner")


def test_unknown_types_and_keys_are_errors_at_the_call() -> None:
    left, right = Dataset.from_arrow(LEFT), Dataset.from_arrow(RIGHT)
    with pytest.raises(InvalidArgumentError, match="full outer"):
        joined(left, right, ["k"], "outer")  # type: ignore[arg-type]
    with pytest.raises(ColumnNotFoundError, match="right side"):
        joined(left, right, ["a"], "inner")
    with pytest.raises(ColumnNotFoundError, match="left side"):
        joined(left, right, ["b"], "inner")
    for keys in ([], ["k", "k"]):
        with pytest.raises(InvalidArgumentError, match="different columns"):
            joined(left, right, keys, "inner")
    strange = Dataset.from_arrow(pa.table({"k": pa.array([1], pa.decimal256(50, 0))}))
    with pytest.raises(TypeMismatchError, match="'k'"):
        joined(strange, strange, ["k"], "inner")


def test_columns_that_nobody_asks_for_are_not_read() -> None:
    left = Dataset.from_arrow(LEFT).save("left", column_types=None)
    right = Dataset.from_arrow(RIGHT.append_column("c", RIGHT["b"])).save("right", column_types=None)
    narrow = joined(left, right, ["k"], "inner").select(["a", "c"])
    assert "columns=[k, c]" in narrow.explain()
    assert narrow.to_arrow().to_pydict() == {"a": ["l0", "l0", "l1", "l3", "l4", "l4"], "c": [11, 14, 15, 10, 11, 14]}


def test_an_error_below_the_join_comes_out_as_it_was() -> None:
    def broken(row: dict[str, Any]) -> dict[str, Any]:
        raise MissingFileError("gone")

    left = Dataset.from_arrow(LEFT).map(broken, schema=pa.schema({"k": pa.int64()}))
    with pytest.raises(MissingFileError, match="gone"):
        joined(left, Dataset.from_arrow(RIGHT), ["k"], "inner").to_arrow()


def test_a_reader_that_stops_early_leaves_nothing(tmp_path: Path) -> None:
    left = Dataset.from_dict({"k": list(range(50_000))})
    batches = joined(left, left, ["k"], "inner").batches(format="arrow")
    next(batches)
    batches.close()  # type: ignore[attr-defined]
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


@pytest.mark.live
@pytest.mark.slow
def test_what_is_larger_than_the_budget_spills_and_keeps_its_order(tmp_path: Path) -> None:
    rows, text = 400_000, "x" * 300

    def side(name: str, step: int) -> Dataset:
        def batches() -> Any:
            for start in range(0, rows, 20_000):
                keys = (np.arange(start, start + 20_000) * step) % rows
                yield pa.record_batch({"k": keys, name: [f"{key}{text}" for key in keys.tolist()]})

        return Dataset.from_batches(batches, schema=pa.schema({"k": pa.int64(), name: pa.string()}))

    left, right = side("a", 7), side("b", 3)
    small = Settings.load(**{"sql.memory_bytes": 100 << 20})
    result = left._derive(Join(left._plan, right._plan, ("k",), "inner", small))
    place = 0
    for batch in result.batches(format="arrow"):
        wanted = (np.arange(place, place + batch.num_rows) * 7) % rows
        assert batch["k"].to_pylist() == wanted.tolist()
        assert batch["b"][0].as_py() == f"{wanted[0]}{text}"
        place += batch.num_rows
    assert place == rows
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


KEYS = st.lists(st.one_of(st.none(), st.integers(-3, 3)), max_size=8)


@settings(max_examples=25)
@given(KEYS, KEYS, st.sampled_from(JOIN_TYPES))
def test_any_keys(left: list[int | None], right: list[int | None], kind: JoinType) -> None:
    ours = pa.table({"k": pa.array(left, pa.int64()), "a": pa.array(range(len(left)), pa.int64())})
    theirs = pa.table({"k": pa.array(right, pa.int64()), "a": pa.array(range(len(right)), pa.int64())})
    result = joined(Dataset.from_arrow(ours), Dataset.from_arrow(theirs), ["k"], kind)
    assert result.to_arrow().to_pylist() == expected(ours, theirs, ["k"], kind)
