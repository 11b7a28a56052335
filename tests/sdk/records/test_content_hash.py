"""Hashes of full contents."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed.records.content_hash import CHUNK_ROWS, hash_list, hash_rows, hash_tree

VALUES: dict[str, tuple[pa.DataType, list[Any]]] = {
    "int": (pa.int32(), [1, None, -3, 4]),
    "bool": (pa.bool_(), [True, None, False, True]),
    "float": (pa.float64(), [1.5, None, float("inf"), -0.0]),
    "text": (pa.string(), ["a", None, "", "äb"]),
    "binary": (pa.binary(), [b"a", None, b"", b"\x00"]),
    "fixed": (pa.binary(2), [b"ab", None, b"cd", b"\x00\x00"]),
    "time": (pa.timestamp("us", "UTC"), [dt.datetime(2020, 1, 1, tzinfo=dt.UTC), None, None, None]),
    "decimal": (pa.decimal128(10, 2), [Decimal("1.25"), None, Decimal("0.00"), Decimal("-1.00")]),
    "list": (pa.list_(pa.string()), [["a", None], None, [], ["b"]]),
    "fixed list": (pa.list_(pa.int8(), 2), [[1, 2], None, [3, None], [4, 5]]),
    "struct": (
        pa.struct([("x", pa.int64()), ("y", pa.string())]),
        [{"x": 1, "y": "a"}, None, {"x": None, "y": ""}, {}],
    ),
    "map": (pa.map_(pa.string(), pa.int64()), [[("a", 1)], None, [], [("b", None)]]),
    "null": (pa.null(), [None, None, None, None]),
}


def hash_of(array: pa.Array[Any], *cuts: int) -> str:
    batch = pa.record_batch([array], ["x"])
    edges = [0, *sorted(cuts), len(array)]
    return hash_rows(batch.schema, [batch.slice(a, b - a) for a, b in pairwise(edges)])


@pytest.mark.parametrize("name", VALUES)
def test_equal_values_have_equal_hashes_however_they_are_stored(name: str) -> None:
    kind, values = VALUES[name]
    array = pa.array(values, kind)
    expected = hash_of(array)
    assert hash_of(array, 1, 3) == expected
    assert hash_of(pa.array([values[0], *values, None], kind).slice(1, 4)) == expected
    if name in ("int", "text", "time"):
        assert hash_of(array.dictionary_encode()) == expected
        assert hash_of(pa.DictionaryArray.from_arrays([1, None, 3, 0], array.take(pa.array([3, 0, 1, 2])))) == expected
    for position in range(len(values)):
        other = values[1] if values[position] is not values[1] else values[0]
        if other != values[position]:
            assert hash_of(pa.array([*values[:position], other, *values[position + 1 :]], kind)) != expected
    if name != "null":
        assert hash_of(pa.array(list(reversed(values)), kind)) != expected


def test_types_that_hold_the_same_values_are_one_and_names_count() -> None:
    values = ["a", None, "bc"]
    assert hash_of(pa.array(values, pa.large_string())) == hash_of(pa.array(values, pa.string()))
    assert hash_of(pa.array(values, pa.string_view())) == hash_of(pa.array(values, pa.string()))
    lists = [["a"], [], None]
    assert hash_of(pa.array(lists, pa.large_list(pa.large_string()))) == hash_of(pa.array(lists, pa.list_(pa.string())))
    runs = pa.RunEndEncodedArray.from_arrays([2, 3], pa.array([7, 8]))
    assert hash_of(runs) == hash_of(pa.array([7, 7, 8]))
    batch = pa.record_batch({"x": [1]})
    assert hash_rows(batch.schema, [batch]) != hash_rows(batch.rename_columns(["y"]).schema, [batch])
    assert hash_of(pa.array([1], pa.int32())) != hash_of(pa.array([1], pa.int64()))
    assert hash_rows(batch.schema, []) != hash_rows(batch.schema, [batch])


def test_chunks_do_not_depend_on_batches() -> None:
    array = pa.array([str(n) if n % 7 else None for n in range(2 * CHUNK_ROWS + 5)])
    assert hash_of(array) == hash_of(array, 1, CHUNK_ROWS - 1, CHUNK_ROWS + 3) == hash_of(array, CHUNK_ROWS)
    assert hash_of(array.slice(0, CHUNK_ROWS)) != hash_of(array.slice(0, CHUNK_ROWS + 1))


@given(st.lists(st.lists(st.none() | st.text(max_size=3), max_size=3) | st.none(), max_size=6), st.data())
def test_lists_of_texts_have_one_hash_each(values: list[list[str | None] | None], data: st.DataObject) -> None:
    kind = pa.list_(pa.string())
    other = data.draw(st.permutations(values))
    cut = data.draw(st.integers(0, len(values)))
    expected = hash_of(pa.array(values, kind))
    assert hash_of(pa.array(values, kind), cut) == expected
    assert (hash_of(pa.array(other, kind)) == expected) == (other == values)


def test_trees_have_no_order_and_lists_have_one() -> None:
    files = [("a", "0" * 64, False), ("b", "1" * 64, True)]
    assert hash_tree(files) == hash_tree(files[::-1]) != hash_tree([("a", "0" * 64, True), files[1]])
    assert hash_tree([("a\n", "0", False)]) != hash_tree([("a", "0", False)])
    assert hash_list(["a", "b"]) != hash_list(["b", "a"]) != hash_list(["ba"])
