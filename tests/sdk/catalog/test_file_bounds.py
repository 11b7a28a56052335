"""The index of bounds gives the files that PyIceberg's evaluator of every file gives."""

from __future__ import annotations

import datetime as dt
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyiceberg import expressions as ice
from pyiceberg.conversions import to_bytes
from pyiceberg.expressions.visitors import _InclusiveMetricsEvaluator
from pyiceberg.schema import Schema
from pyiceberg.types import (
    BinaryType,
    DateType,
    DoubleType,
    IntegerType,
    LongType,
    NestedField,
    StringType,
    TimestampType,
    TimestamptzType,
)

from lakefeed.catalog.file_bounds import BoundsIndex, file_bounds, span_of
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.expr import Bounds

COLUMNS = Schema(NestedField(1, "n", LongType()), NestedField(2, "t", StringType()), NestedField(3, "f", DoubleType()))
FIELDS = {each.name: each for each in COLUMNS.fields}
numbers = st.integers(-5, 20)
texts = st.text("abü", max_size=3)


@st.composite
def files(draw: Any) -> DataFileRef:
    low, high = sorted((draw(numbers), draw(numbers)))
    first, last = sorted((draw(texts), draw(texts)))
    bounds = {1: (low, high), 2: (first, last), 3: (float(low), float(high))}
    known = draw(st.sets(st.sampled_from([1, 1, 2, 3])))
    lower, upper = (
        {number: to_bytes(COLUMNS.find_type(number), bounds[number][end]) for number in known} for end in (0, 1)
    )
    return DataFileRef(f"{draw(st.uuids())}", 10, 1, 1, value_counts=dict.fromkeys(known, 10),
                       null_value_counts=dict.fromkeys(known, 0), lower_bounds=lower, upper_bounds=upper)  # fmt: skip


tests = [ice.EqualTo, ice.LessThan, ice.LessThanOrEqual, ice.GreaterThan, ice.GreaterThanOrEqual, ice.NotEqualTo]
parts = st.one_of(
    st.builds(lambda test, value: test("n", value), st.sampled_from(tests), numbers),
    st.builds(lambda test, value: test("t", value), st.sampled_from(tests), texts),
    st.builds(lambda test, value: test("f", value), st.sampled_from(tests), st.floats(-5, 20)),
    st.builds(lambda values: ice.In("n", values), st.lists(numbers, min_size=1, max_size=3)),
    st.just(ice.IsNull("n")),
)
conditions = st.recursive(
    parts,
    lambda inner: st.one_of(
        st.builds(ice.And, inner, inner), st.builds(ice.Or, inner, inner), st.builds(ice.Not, inner)
    ),
    max_leaves=4,
)


@given(st.lists(files(), max_size=12), conditions)
def test_the_index_leaves_out_only_files_that_cannot_match(files: list[DataFileRef], condition: Any) -> None:
    evaluator = _InclusiveMetricsEvaluator(COLUMNS, condition)
    wanted = span_of(evaluator.expr)
    near = files if wanted is None else BoundsIndex.of(files, wanted[0]).meeting(wanted[1])
    assert [file for file in near if evaluator.eval(file)] == [file for file in files if evaluator.eval(file)]  # type: ignore[arg-type]


def test_the_index_finds_the_files_of_a_range_alone() -> None:
    disjoint = [_file(LongType(), 10 * number, 10 * number + 9) for number in (4, 0, 2, 1, 3)]
    evaluator = _InclusiveMetricsEvaluator(COLUMNS, ice.And(ice.GreaterThanOrEqual("n", 15), ice.LessThan("n", 31)))
    wanted = span_of(evaluator.expr)
    assert wanted is not None
    near = BoundsIndex.of([*disjoint, DataFileRef("unknown", 1, 1, 1)], wanted[0]).meeting(wanted[1])
    assert [file.path for file in near] == ["20", "10", "30", "unknown"]


def test_bounds_as_values_of_python() -> None:
    day, moment = dt.date(1960, 2, 29), dt.datetime(1960, 2, 29, 1, 2, 3, 4)
    micros = (moment - dt.datetime(1970, 1, 1)) // dt.timedelta(microseconds=1)
    cases: list[tuple[Any, bytes, Any]] = [
        (LongType(), struct.pack("<i", -7), -7),  # written before the column became wider
        (IntegerType(), struct.pack("<i", -7), -7),
        (StringType(), "ä".encode(), "ä"),
        (BinaryType(), b"\xff\0", b"\xff\0"),
        (DateType(), struct.pack("<i", (day - dt.date(1970, 1, 1)).days), day),
        (TimestampType(), struct.pack("<q", micros), moment),
        (TimestamptzType(), struct.pack("<q", micros), moment.replace(tzinfo=dt.UTC)),
        (TimestampType(), struct.pack("<q", 2**62), None),  # beyond the times of Python
        (StringType(), b"\xff", None),  # no text
        (DateType(), b"\0", None),
        (DoubleType(), struct.pack("<d", 1.0), None),  # NaN has no place among floats
    ]
    for kind, stored, value in cases:
        file = DataFileRef("x", 1, 1, 1, lower_bounds={1: stored}, upper_bounds={1: stored})
        assert file_bounds(file, NestedField(1, "x", kind)) == (Bounds() if value is None else Bounds(value, value))


def _file(kind: Any, low: Any, high: Any) -> DataFileRef:
    lower, upper = {1: to_bytes(kind, low)}, {1: to_bytes(kind, high)}
    return DataFileRef(str(low), 10, 1, 1, value_counts={1: 10}, lower_bounds=lower, upper_bounds=upper)
