"""Tables, columns, rows and DataFrames of memory."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import SchemaError, TypeMismatchError
from lakefeed.plan import fingerprint
from lakefeed.sources.memory_source import FRAGMENT_ROWS

REQUIRED = pa.schema([pa.field("x", pa.int64(), nullable=False)])


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dataset.to_arrow().to_pylist()
    return found


def test_columns_may_be_lists_arrays_or_numpy() -> None:
    dataset = Dataset.from_dict({"a": [1, 2], "b": np.array([0.5, 1.5]), "c": pa.array(["x", None])})
    assert rows(dataset) == [{"a": 1, "b": 0.5, "c": "x"}, {"a": 2, "b": 1.5, "c": None}]


def test_a_schema_is_obeyed() -> None:
    schema = pa.schema([("b", pa.float32()), ("a", pa.int8())])
    dataset = Dataset.from_dict({"a": [1], "b": [2]}, schema=schema)
    assert dataset.schema == schema
    assert Dataset.from_pylist([{"a": 1}], schema=schema).to_arrow().to_pylist() == [{"b": None, "a": 1}]


@pytest.mark.parametrize(
    "columns",
    [
        {},
        None,
        [("a", [1])],
        {"a": 1},
        {"a": "text"},
        {"a": [1], "b": [1, 2]},
        {"a": [1, "x"]},
        {"a": iter([1])},
        {1: [1]},
    ],
)
def test_columns_that_do_not_make_a_table(columns: Any) -> None:
    with pytest.raises(SchemaError, match=r"from_dict|same length"):
        Dataset.from_dict(columns)


def test_a_schema_of_other_columns_drops_nothing() -> None:
    schema = pa.schema({"a": pa.int64()})
    with pytest.raises(SchemaError, match="unexpected: 'b'"):
        Dataset.from_dict({"a": [1], "b": [2]}, schema=schema)
    with pytest.raises(SchemaError, match="missing: 'a'"):
        Dataset.from_dict({"b": [2]}, schema=schema)
    with pytest.raises(SchemaError, match="unexpected: 'b'"):
        Dataset.from_pylist([{"a": 1}, {"a": 1, "b": 2}], schema=schema)


def test_nothing_is_cut_off_to_fit_a_schema() -> None:
    schema = pa.schema({"a": pa.int64()})
    for given in ([0.5], np.array([0.5]), pa.array([0.5])):
        with pytest.raises(SchemaError, match=r"truncated|0\.5"):
            Dataset.from_dict({"a": given}, schema=schema)
    with pytest.raises(SchemaError, match="truncated"):
        Dataset.from_pylist([{"a": 0.5}], schema=schema)
    assert rows(Dataset.from_dict({"a": [1.0]}, schema=schema)) == [{"a": 1}]


def test_rows_with_other_keys_lose_none() -> None:
    assert rows(Dataset.from_pylist([{"a": 1}, {"b": 2}])) == [{"a": 1, "b": None}, {"a": None, "b": 2}]


@pytest.mark.parametrize("given", [None, 5, {"a": 1}, [5], [], [{}], [{"a": 1}, {"a": "x"}]])
def test_rows_that_do_not_make_a_table(given: Any) -> None:
    with pytest.raises(SchemaError):
        Dataset.from_pylist(given)


def test_nulls_where_there_must_be_none() -> None:
    table = pa.Table.from_arrays([pa.array([1, None])], schema=REQUIRED)
    with pytest.raises(SchemaError, match="'x' have nulls"):
        Dataset.from_arrow(table)
    with pytest.raises(SchemaError, match="'x' have nulls"):
        Dataset.from_dict({"x": [None]}, schema=REQUIRED)


@pytest.mark.parametrize("given", [None, 5, [1], {"a": [1]}])
def test_only_arrow_is_arrow(given: Any) -> None:
    with pytest.raises(TypeMismatchError, match="Table or RecordBatch"):
        Dataset.from_arrow(given)


def test_names_must_differ() -> None:
    with pytest.raises(SchemaError, match="'a' occur more than once"):
        Dataset.from_arrow(pa.table([[1], [2]], names=["a", "a"]))
    with pytest.raises(SchemaError, match="at least one column"):
        Dataset.from_arrow(pa.table({}))


def test_a_named_index_becomes_a_column() -> None:
    frame = pd.DataFrame({"v": [1, 2]}, index=pd.Index(["p", "q"], name="key"))
    assert rows(Dataset.from_pandas(frame)) == [{"v": 1, "key": "p"}, {"v": 2, "key": "q"}]
    assert rows(Dataset.from_pandas(frame.reset_index(drop=True))) == [{"v": 1}, {"v": 2}]
    ranged = pd.DataFrame({"v": [1, 2]}, index=pd.RangeIndex(2, name="i"))
    assert rows(Dataset.from_pandas(ranged)) == [{"v": 1, "i": 0}, {"v": 2, "i": 1}]


def test_unnamed_levels_of_an_index_are_dropped() -> None:
    index = pd.MultiIndex.from_tuples([(1, 2), (3, 4)], names=["a", None])
    assert rows(Dataset.from_pandas(pd.DataFrame({"v": [1, 2]}, index=index))) == [{"v": 1, "a": 1}, {"v": 2, "a": 3}]
    both = pd.DataFrame({"v": [1]}, index=pd.MultiIndex.from_tuples([(1, 2)], names=["a", "b"]))
    assert Dataset.from_pandas(both).schema.names == ["v", "a", "b"]


def test_a_frame_of_every_kind_of_column_survives_a_save() -> None:
    frame = pd.DataFrame(
        {
            "i": [1, None, 3],
            "n": pd.array([1, None, 3], "Int64"),
            "s": ["a", None, "c"],
            "c": pd.Categorical(["u", "v", "u"]),
            "t": pd.to_datetime(["2026-01-01", None, "2026-01-03"], utc=True),
            "b": [True, False, True],
        },
        index=pd.Index(["k0", "k1", "k2"], name="key"),
    )
    saved = Dataset.from_pandas(frame[1:]).save("frame")
    Dataset.from_pandas(frame[:1]).append_to("frame")
    assert saved.schema.names == ["i", "n", "s", "c", "t", "b", "key"]
    assert saved.to_arrow().select(["i", "n", "s", "c", "b", "key"]).to_pylist() == [
        {"i": None, "n": None, "s": None, "c": "v", "b": False, "key": "k1"},
        {"i": 3.0, "n": 3, "s": "c", "c": "u", "b": True, "key": "k2"},
    ]
    assert Dataset("frame").count() == 3
    assert Dataset("frame").to_arrow()["t"].null_count == 1


def test_frames_that_do_not_make_a_table() -> None:
    with pytest.raises(SchemaError, match="at least one column"):
        Dataset.from_pandas(pd.DataFrame())
    with pytest.raises(SchemaError, match="index level and a column"):
        Dataset.from_pandas(pd.DataFrame({"v": [1]}, index=pd.Index([1], name="v")))
    with pytest.raises(SchemaError, match="Duplicate"):
        Dataset.from_pandas(pd.DataFrame([[1, 2]], columns=["a", "a"]))
    with pytest.raises(SchemaError, match="DataFrame"):
        Dataset.from_pandas({"a": [1]})  # type: ignore[arg-type]
    with pytest.raises(SchemaError):
        Dataset.from_pandas(pd.DataFrame())


def test_chunks_change_neither_order_nor_identity() -> None:
    """Another process that builds the same table in other pieces continues from the same checkpoint."""
    whole = pa.table({"x": range(20_000), "d": pa.array(["a", "b"] * 10_000)})
    pieces = pa.Table.from_batches(whole.to_batches(max_chunksize=999))
    one, many = (Dataset.from_arrow(t).shuffle(3, global_=False, window=500) for t in (whole, pieces))
    assert fingerprint(one._plan) == fingerprint(many._plan)
    assert one.to_arrow().equals(many.to_arrow())


def test_nothing_is_copied() -> None:
    table = pa.table({"x": np.arange(3 * FRAGMENT_ROWS)})
    first = next(Dataset.from_arrow(table).batches(format="arrow"))
    assert first["x"].buffers()[1].address == table["x"].chunk(0).buffers()[1].address


def test_special_names_and_nested_types() -> None:
    table = pa.table({"a b": [1], 'q"q': [[{"z": None}]], "x.y": [{"x": [1, None]}], "": ["e"]})
    dataset = Dataset.from_arrow(table)
    assert rows(dataset.filter("`a b` == 1").select(["x.y", "", 'q"q'])) == [
        {"x.y": {"x": [1, None]}, "": "e", 'q"q': [{"z": None}]}
    ]
