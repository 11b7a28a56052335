"""Which values are equal: null, NaN and both zeros, at every depth and of every type."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed.plan.equality import comparison_bytes, equal_values

NAN = float("nan")
DEEP = pa.struct({"a": pa.list_(pa.struct({"b": pa.float64()}))})
# Values that all differ.
VALUES: list[tuple[pa.DataType, list[Any]]] = [
    (pa.float64(), [NAN, 0.0, 1.0, None]),
    (pa.float16(), [NAN, 0.0, None]),
    (pa.bool_(), [True, False, None]),
    (pa.null(), [None]),
    (pa.int8(), [0, -1, None]),
    (pa.string(), ["", "a", "ab", None]),
    (pa.string_view(), ["", "a", None]),
    (pa.binary(2), [b"ab", b"ba", None]),
    (pa.decimal128(5, 2), [Decimal("1.10"), Decimal("1.01"), None]),
    (pa.timestamp("ns"), [1, 2, None]),
    (pa.date32(), [dt.date(2020, 1, 1), None]),
    (pa.uuid(), [uuid.UUID(int=1).bytes, uuid.UUID(int=2).bytes, None]),
    (pa.list_(pa.float64()), [[NAN], [], None, [None], [0.0], [0.0, 0.0]]),
    (pa.list_(pa.float64(), 2), [[NAN, 1.0], [1.0, NAN], None]),
    (pa.large_list(pa.string()), [["a", "b"], ["ab"], None, [""], ["", ""], []]),
    (pa.map_(pa.string(), pa.list_(pa.float32())), [[("a", [NAN])], [("a", [])], [], None, [("a", None)]]),
    (DEEP, [{"a": [{"b": NAN}]}, {"a": None}, None, {"a": [None]}, {"a": [{"b": None}]}, {"a": []}]),
]


@pytest.mark.parametrize(("kind", "values"), VALUES, ids=[str(kind) for kind, _ in VALUES])
def test_equal_values_have_equal_bytes_and_others_have_not(kind: pa.DataType, values: list[Any]) -> None:
    column = pa.array(values, kind)
    sliced = pa.concat_arrays([pa.nulls(1, kind), column, column]).slice(1)
    found = comparison_bytes(sliced)
    assert (found.type, found.null_count) == (pa.large_binary(), 0)
    once, again = found.to_pylist()[: len(values)], found.to_pylist()[len(values) :]
    assert once == again
    assert len(set(once)) == len(values)
    assert equal_values(column, column).all()
    assert len(comparison_bytes(column.slice(0, 0))) == 0
    others = pa.array([*values[1:], values[0]], kind)
    assert equal_values(column, others).any() == (len(values) == 1)


def test_both_zeros_are_one_number() -> None:
    for kind, low, high in ((pa.float64(), 0.0, -0.0), (pa.list_(pa.float32()), [0.0], [-0.0])):
        assert equal_values(pa.array([low], kind), pa.array([high], kind)).tolist() == [True]


@given(st.lists(st.lists(st.fixed_dictionaries({"x": st.none() | st.sampled_from([NAN, 0.0, 1.5])}), max_size=3)))
def test_rows_are_equal_as_their_text_is(rows: list[Any]) -> None:
    column = pa.array(rows, pa.list_(pa.struct({"x": pa.float64()})))
    texts, found = [repr(row) for row in rows], comparison_bytes(column).to_pylist()
    assert all((texts[i] == texts[j]) == (found[i] == found[j]) for i in range(len(rows)) for j in range(i))
