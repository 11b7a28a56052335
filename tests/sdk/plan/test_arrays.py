"""Python values and columns as Arrow columns: what was put in comes out, or it is an error at the call."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import LakefeedError, SchemaError, TransformError

DAY = dt.date(2020, 1, 2)
NAIVE = dt.datetime(2020, 1, 2, 3, 4, 5, 678901)
AWARE = NAIVE.replace(tzinfo=dt.UTC)
FINE = pd.Timestamp("2020-01-01T00:00:00.000000123")
BIG = 2**53 + 1

MIXED: dict[str, list[Any]] = {
    "days and moments": [DAY, NAIVE],
    "moments and days": [NAIVE, DAY],
    "a moment at midnight among days": [DAY, dt.datetime(2020, 1, 3)],
    "naive and aware": [NAIVE, AWARE],
    "aware and naive": [AWARE, NAIVE],
    "nanoseconds of pandas": [FINE],
    "nanoseconds of a duration": [pd.Timedelta(123, "ns")],
    "time with a zone": [dt.time(1, 2, tzinfo=dt.UTC)],
    "integers and floats beyond 2**53": [BIG, 0.5],
    "floats and integers beyond 2**53": [0.5, BIG],
    "booleans and integers": [True, 2],
    "integers and booleans": [2, True],
    "decimals and floats": [Decimal("1.5"), 0.1],
    "durations and integers": [dt.timedelta(1), 5],
    "text and bytes": ["a", b"b"],
    "bytes and text": [b"a", "b"],
    "integers beyond 64 bits": [2**64, -1],
    "objects": [object()],
}


def nested(value: Any) -> list[Any]:
    return [[value], {"a": {"b": value}}, [{"a": (value,)}]]


@pytest.mark.parametrize("case", MIXED)
def test_values_of_several_types_are_refused_and_the_column_is_named(case: str) -> None:
    values = MIXED[case]
    calls: list[Any] = [
        lambda: Dataset.from_dict({"good": range(len(values)), "bad": values}),
        lambda: Dataset.from_pylist([{"bad": value} for value in values]),
        lambda: Dataset.from_dict({"bad": [values]}),
    ]
    if case != "nanoseconds of pandas":  # a frame has a type for them
        calls.append(lambda: Dataset.from_pandas(pd.DataFrame({"bad": pd.Series(values, dtype=object)})))
    for shape in range(3):
        calls.append(lambda shape=shape: Dataset.from_dict({"bad": [nested(value)[shape] for value in values]}))
    for call in calls:
        with pytest.raises(SchemaError, match="bad"):
            call()


LOSSES: dict[str, tuple[Any, pa.DataType]] = {
    "a moment as a day": (NAIVE, pa.date32()),
    "an aware moment without a zone": (AWARE, pa.timestamp("us")),
    "a naive moment with a zone": (NAIVE, pa.timestamp("us", "UTC")),
    "microseconds as seconds": (NAIVE, pa.timestamp("s")),
    "microseconds as milliseconds": (NAIVE, pa.timestamp("ms")),
    "nanoseconds as microseconds": (FINE, pa.timestamp("us")),
    "a time as seconds": (dt.time(1, 2, 3, 4), pa.time32("s")),
    "a duration as seconds": (dt.timedelta(microseconds=1), pa.duration("s")),
    "a fraction as a whole number": (0.5, pa.int64()),
    "a decimal as a whole number": (Decimal("1.5"), pa.int64()),
    "a key that the struct lacks": ({"a": 1, "more": 2}, pa.struct({"a": pa.int64()})),
    "NumPy moments as days": (np.array(["2020-01-01T05:00:01"], "M8[us]"), pa.list_(pa.date32())),
    "NumPy floats as whole numbers": (np.array([1.5]), pa.list_(pa.int64())),
}


@pytest.mark.parametrize("case", LOSSES)
def test_a_declared_type_that_would_cut_a_value_off_is_refused(case: str) -> None:
    value, kind = LOSSES[case]
    for cell, of in ((value, kind), ([value], pa.list_(kind)), ({"a": value}, pa.struct({"a": kind}))):
        schema = pa.schema({"x": of})
        with pytest.raises(SchemaError, match="x"):
            Dataset.from_dict({"x": [cell]}, schema=schema)
        with pytest.raises(SchemaError, match="x"):
            Dataset.from_pylist([{"x": None}, {"x": cell}], schema=schema)
        with pytest.raises(TransformError):
            Dataset.from_dict({"n": [1]}).map(lambda row, cell=cell: {"x": cell}, schema=schema).collect()


def test_what_means_the_same_is_taken() -> None:
    given = {
        "day": [dt.datetime(2020, 1, 2), DAY, None],
        "fine": [FINE, FINE, None],
        "whole": [Decimal("2"), 3.0, None],
        "zones": [AWARE, AWARE.astimezone(dt.timezone(dt.timedelta(hours=5))), None],
    }
    kinds = {"day": pa.date32(), "fine": pa.timestamp("ns"), "whole": pa.int64(), "zones": pa.timestamp("us", "UTC")}
    rows = Dataset.from_dict(given, schema=pa.schema(kinds)).to_arrow().to_pydict()
    assert rows["day"] == [DAY, DAY, None]
    assert rows["fine"] == given["fine"]
    assert rows["whole"] == [2, 3, None]
    assert rows["zones"] == given["zones"]
    plain: dict[str, list[Any]] = {
        "decimals": [Decimal("1.5"), 2],
        "numbers": [1, 0.5],
        "ids": [uuid.uuid4(), None],
        "structs": [{"a": 1}, {"b": [DAY]}],
    }
    back = Dataset.from_dict(plain).to_arrow().to_pydict()
    assert back["decimals"] == plain["decimals"]
    assert back["numbers"] == plain["numbers"]
    assert back["ids"] == plain["ids"]
    assert back["structs"] == [{"a": 1, "b": None}, {"a": None, "b": [DAY]}]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array([NAIVE]), pa.date32()),
        (pa.array([NAIVE]), pa.time64("us")),
        (pa.array([AWARE]), pa.timestamp("us")),
        (pa.array([NAIVE]), pa.timestamp("us", "UTC")),
        (pa.array([5]), pa.bool_()),
        (pa.array([BIG]), pa.float64()),
        (pa.array([{"a": 1, "b": 2}]), pa.struct({"a": pa.int64()})),
        (pa.array([[{"a": NAIVE}]]), pa.list_(pa.struct({"a": pa.date32()}))),
    ],
)
def test_columns_that_would_lose_something_are_refused(values: Any, kind: pa.DataType) -> None:
    batch = pa.record_batch([values], names=["x"])
    schema = pa.schema({"x": kind})
    attempts = [
        lambda: Dataset.from_batches(lambda: [batch], schema=schema).collect(),
        lambda: Dataset.from_dict({"n": [1]}).map_batches(lambda _: batch, schema=schema).collect(),
        lambda: Dataset.from_dict({"x": values}, schema=schema),
    ]
    for attempt in attempts:
        with pytest.raises(LakefeedError, match="x"):
            attempt()


def test_columns_that_lose_nothing_are_cast() -> None:
    midnight = pa.record_batch({"x": pa.array([dt.datetime(2020, 1, 2)])})
    found = Dataset.from_batches(lambda: [midnight], schema=pa.schema({"x": pa.date32()})).collect()
    assert found["x"].to_pylist() == [DAY]
