"""What was put in comes out: random tables through memory, the lake, upserts and what was added."""

from __future__ import annotations

import datetime as dt
import math
import uuid
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.errors import SchemaError
from lakefeed.plan.equality import equal_values

LEAVES: list[tuple[pa.DataType, st.SearchStrategy[Any]]] = [
    (pa.int64(), st.integers(-(2**63), 2**63 - 1)),
    (pa.uint64(), st.integers(0, 2**64 - 1)),
    (pa.int8(), st.integers(-128, 127)),
    (pa.float64(), st.floats()),
    (pa.float32(), st.floats(width=32)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(st.characters(codec="utf-8"), max_size=4)),
    (pa.large_binary(), st.binary(max_size=4)),
    (pa.date32(), st.dates()),
    (pa.timestamp("us"), st.datetimes()),
    (pa.timestamp("ns", "UTC"), st.integers(-(2**62), 2**62)),
    (pa.time64("us"), st.times()),
    (pa.duration("ms"), st.integers(-(2**40), 2**40)),
    (pa.decimal128(9, 2), st.decimals(-9_999_999, 9_999_999, places=2)),
    (pa.dictionary(pa.int32(), pa.string()), st.sampled_from(["a", "b", ""])),
    (pa.null(), st.none()),
]

Column = tuple[pa.DataType, st.SearchStrategy[Any]]


def nested(column: Column, shape: str) -> Column:
    kind, values = column
    values = st.none() | values
    match shape:
        case "list":
            return pa.list_(kind), st.lists(values, max_size=3)
        case "vector":
            return pa.list_(kind, 2), st.lists(values, min_size=2, max_size=2)
        case "struct":
            return pa.struct({"x": kind, "y": pa.int32()}), st.fixed_dictionaries({"x": values, "y": st.just(7)})
        case "map":
            return pa.map_(pa.string(), kind), st.dictionaries(st.sampled_from("ab"), values).map(
                lambda d: [*d.items()]
            )
    return column


def is_kept(column: Column) -> bool:
    """Nulls without a type, and categories that are not text, have no type of their own within others."""
    return not pa.types.is_null(column[0])


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    rows = draw(st.integers(1, 5))
    columns: dict[str, Any] = {"id": pa.array(range(rows), pa.int64())}
    for place in range(draw(st.integers(1, 4))):
        column = draw(st.sampled_from(LEAVES))
        for shape in draw(st.lists(st.sampled_from(["list", "vector", "struct", "map"]), max_size=2)):
            column = nested(column, shape) if is_kept(column) else column
        kind, values = column
        cells = draw(st.lists(st.none() | values, min_size=rows, max_size=rows))
        columns[f"c{place}"] = pa.array(cells, kind)
    return pa.table(columns)


def is_equal(left: pa.Table, right: pa.Table) -> bool:
    pairs = zip(left.columns, right.columns, strict=True)
    return left.schema == right.schema and all(
        len(a) == len(b) and equal_values(a.combine_chunks(), b.combine_chunks()).all() for a, b in pairs
    )


def check_round_trip(table: pa.Table) -> None:
    name = f"t{uuid.uuid4().hex}"
    rows = Dataset.from_arrow(table)
    assert is_equal(rows.to_arrow(), table)
    saved = rows.save(name)
    assert is_equal(saved.to_arrow(), table)
    rows.upsert_into(name, "id")
    assert Dataset(name).version == 1, "equal rows change nothing"
    shifted = table.set_column(0, "id", pa.array(range(1, len(table) + 1), pa.int64()))
    Dataset.from_arrow(shifted).upsert_into(name, "id")
    newest = Dataset(name).to_arrow().sort_by("id")
    assert is_equal(newest.slice(1), shifted)
    assert is_equal(newest.slice(0, 1), table.slice(0, 1))
    came = Dataset(name).added_since(1).to_arrow()["id"].to_pylist()
    before = Dataset(name).version
    Dataset.from_arrow(newest).overwrite(name)
    assert Dataset(name).added_since(before).count() == 0, "the same rows are no new ones"
    assert Dataset(name).removed_since(before).count() == 0
    assert set(came) <= set(shifted["id"].to_pylist())


@settings(max_examples=6)
@given(tables())
def test_random_tables_round_trip(table: pa.Table) -> None:
    check_round_trip(table)


@pytest.mark.soak
@settings(max_examples=1_500)
@given(tables())
def test_many_random_tables_round_trip(table: pa.Table) -> None:
    check_round_trip(table)


# Without summer time: an hour that does not exist comes back as the one that it means.
ZONES = st.sampled_from([dt.UTC, dt.timezone(dt.timedelta(hours=-5))])
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text("ab", max_size=2),
    st.binary(max_size=2), st.dates(), st.datetimes(), st.datetimes(timezones=ZONES), st.times(),
    st.timedeltas(), st.decimals(allow_nan=False, allow_infinity=False, places=2), st.uuids(),
)  # fmt: skip
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner, max_size=2),
    max_leaves=3,
)


def means(given_value: Any, found: Any) -> bool:
    """Whether a value came back as it was; keys that other rows have are null."""
    if isinstance(given_value, dict):
        return isinstance(found, dict) and all(means(given_value.get(key), found[key]) for key in found)
    if isinstance(given_value, list):
        return isinstance(found, list) and len(found) == len(given_value) and all(map(means, given_value, found))
    if isinstance(given_value, bool) != isinstance(found, bool):
        return False
    if isinstance(given_value, float) and isinstance(found, float):
        return math.isclose(given_value, found, rel_tol=0)
    return bool(type(given_value) in (type(found), int) and given_value == found)


def check_values(column: list[Any]) -> None:
    try:
        found = Dataset.from_dict({"x": column}).to_arrow()["x"].to_pylist()
    except SchemaError:
        return
    assert all(map(means, column, found)), (column, found)


@given(st.lists(values, min_size=1, max_size=3))
def test_python_values_come_back_or_are_refused(column: list[Any]) -> None:
    check_values(column)


@pytest.mark.soak
@settings(max_examples=50_000)
@given(st.lists(values, min_size=1, max_size=3))
def test_many_python_values_come_back_or_are_refused(column: list[Any]) -> None:
    check_values(column)
