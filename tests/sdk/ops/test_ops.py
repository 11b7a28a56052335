"""What single operations do at their edges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import TransformError
from lakefeed.ops.split import key_hashes

X = pa.schema({"x": pa.int64()})
REQUIRED = pa.schema([pa.field("x", pa.int64(), nullable=False)])
NUMBERS = Dataset.from_dict({"x": [1, 2, None]})


def xs(dataset: Dataset) -> list[Any]:
    return dataset.to_arrow()["x"].to_pylist()


@pytest.mark.parametrize(
    ("fn", "schema", "message"),
    [
        (lambda row: None, X, "returned NoneType for row 0"),
        (lambda row: [1], X, "returned list"),
        (lambda row: {}, X, r"returned columns \(none\)"),
        (lambda row: {"x": 1, "y": 2}, X, "'x', 'y'.*schema says 'x'"),
        (lambda row: {"x": "a"}, X, "column 'x'.*int64"),
        (lambda row: {"x": 0.5}, X, "column 'x'"),
        (lambda row: {"v": [0.5]}, pa.schema({"v": pa.list_(pa.int8())}), "column 'v'"),
        (lambda row: {"x": 2**70}, X, "column 'x'"),
        (lambda row: {"x": object()}, X, "column 'x'"),
        (lambda row: {"x": row["x"]}, REQUIRED, "not nullable"),
    ],
)
def test_what_map_must_not_return(fn: Any, schema: pa.Schema, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        NUMBERS.map(fn, schema=schema).to_arrow()


@pytest.mark.parametrize(
    ("fn", "message"),
    [
        (lambda batch: None, r"must return a pyarrow\.RecordBatch"),
        (lambda batch: pa.Table.from_batches([batch]), "returned Table"),
        (lambda batch: batch.rename_columns(["y"]), "columns 'y' where its schema says 'x'"),
        (lambda batch: pa.record_batch({"x": ["a"]}), "does not fit int64"),
        (lambda batch: pa.record_batch([[1], [2]], names=["x", "x"]), "schema says"),
    ],
)
def test_what_map_batches_must_not_return(fn: Any, message: str) -> None:
    with pytest.raises(TransformError, match=message):
        NUMBERS.map_batches(fn, schema=X).to_arrow()


def test_map_batches_may_not_give_nulls_where_there_must_be_none() -> None:
    with pytest.raises(TransformError, match="not nullable"):
        NUMBERS.map_batches(lambda b: pa.RecordBatch.from_arrays(b.columns, schema=REQUIRED), schema=REQUIRED).count()


def test_map_batches_fits_order_and_types() -> None:
    schema = pa.schema({"y": pa.float64(), "x": pa.int64()})
    widened = NUMBERS.map_batches(
        lambda b: pa.record_batch({"x": b["x"].cast(pa.int8()), "y": pa.array([1, 2, 3], pa.int16())}), schema=schema
    )
    assert widened.to_arrow().to_pylist()[0] == {"y": 1.0, "x": 1}


@pytest.mark.parametrize("verdict", [None, 1, "yes", []])
def test_a_filter_function_says_true_or_false(verdict: Any) -> None:
    with pytest.raises(TransformError, match="must return True or False"):
        NUMBERS.filter(lambda row: verdict).to_arrow()


def test_a_filter_function_may_say_it_with_numpy() -> None:
    assert xs(NUMBERS.filter(lambda row: np.bool_(row["x"] == 2))) == [2]


def test_errors_of_functions_come_through() -> None:
    for derived in (
        NUMBERS.map(lambda row: {"x": row["x"] + 1}, schema=X),
        NUMBERS.filter(lambda row: row["x"] + 1 > 0),
        NUMBERS.shuffle(1).map(lambda row: {"x": row["x"] + 1}, schema=X),
    ):
        with pytest.raises(TypeError, match="NoneType"):
            derived.to_arrow()


def test_functions_run_for_the_rows_wanted_only() -> None:
    seen: list[int] = []
    mapped = Dataset.from_dict({"x": list(range(100))}).map(lambda row: seen.append(row["x"]) or row, schema=X)
    assert xs(mapped.slice(3, 5)) == [3, 4]
    assert seen == [3, 4]


def test_string_views_are_rows_like_others() -> None:
    table = pa.table({"x": [1, 2, 3], "v": pa.array(["a", None, "c"], pa.string_view())})
    dataset = Dataset.from_arrow(table)
    assert dataset.filter("x > 1").to_arrow()["v"].to_pylist() == [None, "c"]
    assert dataset.filter(lambda row: row["x"] == 3).to_arrow().schema == table.schema
    sides = dataset.train_test_split(by="v")
    assert sorted(xs(sides["train"]) + xs(sides["test"])) == [1, 2, 3]


def test_key_hashes_are_the_same_for_ever() -> None:
    """Golden: a row must never change sides, whatever is upgraded."""
    assert (
        key_hashes(pa.array([7, None, "x".__len__()]), 0).tolist()
        == key_hashes(pa.array([7, None, 1], pa.int8()), 0).tolist()
    )
    assert key_hashes(pa.array(["7"]), 0)[0] == key_hashes(pa.array([7]), 0)[0] == key_hashes(pa.array([b"7"]), 0)[0]
    encoded = pa.array(["a", "b", "a"]).dictionary_encode()
    assert key_hashes(encoded, 5).tolist() == key_hashes(pa.array(["a", "b", "a"]), 5).tolist()
    assert key_hashes(pa.array(["a"]), 1)[0] != key_hashes(pa.array(["a"]), 2)[0]
    assert int(key_hashes(pa.array(["key-1"]), 0)[0]) == GOLDEN


GOLDEN = 6300406795881329404


def test_columns_of_any_name_and_type_pass_through() -> None:
    table = pa.table(
        {
            "a b": [[{"z": None}], None, [{"z": "s"}]],
            "q'q": pa.array([{"k": 1}, None, {}], pa.struct({"k": pa.int8()})),
            "x": pa.array([1, 2, 3], pa.uint16()),
            "m": pa.array([[("k", 1)], None, []], pa.map_(pa.string(), pa.int32())),
            "l": pa.array([[1, 2], None, [3, None]], pa.list_(pa.int8(), 2)),
        }
    )
    dataset = Dataset.from_arrow(table)
    again = (
        dataset.filter("x >= 1").map(lambda row: row, schema=table.schema).map_batches(lambda b: b, schema=table.schema)
    )
    for same in (again, dataset.save("t"), dataset.shuffle(1).slice(0, 9)):
        assert sorted(map(repr, same.to_arrow().to_pylist())) == sorted(map(repr, table.to_pylist()))
        assert same.schema == table.schema


def test_a_filter_on_what_is_not_selected() -> None:
    wide = Dataset.from_dict({"x": [1, 2, 3], "y": [3, 2, 1]})
    for origin in (wide, wide.save("t")):
        assert xs(origin.filter("y < 3").select(["x"])) == [2, 3]
        assert xs(origin.filter("y < 3").select(["x", "y"]).filter("x > 2").select(["x"])) == [3]
