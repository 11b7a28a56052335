"""Statistics hold for every type that a dataset may have, and in bounded memory for any number of rows."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed.profiles import Column, ColumnStatistics
from lakefeed.statistics.sketch import MAX_HASHES, MAX_VALUES, Distinct, Sample, hashes

EARLY, LATE = datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)
BIG = float(2**63)


def statistics(*batches: pa.Array[Any]) -> ColumnStatistics:
    column = Column()
    for batch in batches:
        column.add(batch)
    return column.statistics


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([3, None, 1]), ColumnStatistics(1, 2, 1, 3, 2.0, 2, True, (1.1, 1.5, 2.0, 2.5, 2.9))),
        (pa.array([2**63 - 1]), ColumnStatistics(0, 1, 2**63 - 1, 2**63 - 1, BIG, 1, True, (BIG,) * 5)),
        (
            pa.array([2**64 - 1], pa.uint64()),
            ColumnStatistics(0, 1, 2**64 - 1, 2**64 - 1, 2.0**64, 1, True, (2.0**64,) * 5),
        ),
        (pa.array(np.array([0.5, 0.5], np.float16)), ColumnStatistics(0, 2, 0.5, 0.5, 0.5, 1, True, (0.5,) * 5)),
        (
            pa.array([decimal.Decimal("1.5")]),
            ColumnStatistics(0, 1, decimal.Decimal("1.5"), decimal.Decimal("1.5"), None, 1),
        ),
        (pa.array(["b", "a"]), ColumnStatistics(0, 2, "a", "b", None, 2)),
        (pa.array(["b", None]).dictionary_encode(), ColumnStatistics(1, 1, "b", "b", None, 1)),
        (pa.array([True, False]), ColumnStatistics(0, 2, False, True, None, 2)),
        (pa.array([LATE, EARLY]), ColumnStatistics(0, 2, EARLY, LATE, None, 2)),
        (pa.array([datetime.time(1)]), ColumnStatistics(0, 1, datetime.time(1), datetime.time(1), None, 1)),
        (pa.nulls(2), ColumnStatistics(2)),
        (pa.array([b"x"]), ColumnStatistics(0, 1, distinct=1)),
        (pa.array([[1], None]), ColumnStatistics(1, 1)),
        (pa.array([{"a": 1}]), ColumnStatistics(0, 1)),
        (pa.array([datetime.timedelta(1)]), ColumnStatistics(0, 1, distinct=1)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_statistics_of(values: pa.Array[Any], expected: ColumnStatistics) -> None:
    assert statistics(values) == expected


def test_statistics_add_up_over_batches() -> None:
    whole = pa.array([5, None, -1, 7])
    assert statistics(whole[:0], whole[:2], whole[2:]) == statistics(whole)


def test_no_number_is_none() -> None:
    found = statistics(pa.array([float("nan"), 1.0, 3.0]))
    assert (found.mean, found.values) == (2.0, 3)


def test_many_values_are_estimated_in_bounded_memory() -> None:
    distinct, sample = Distinct(), Sample()
    for begin in range(0, 1_000_000, 50_000):
        values = pa.array(np.arange(begin, begin + 50_000) % 200_000)
        found = hashes(values)
        assert found is not None
        distinct.add(found)
        sample.add(values.to_numpy().astype(float))
    assert not distinct.exact
    assert distinct.count == pytest.approx(200_000, rel=0.1)
    assert sample.quantiles([0.5])[0] == pytest.approx(100_000, rel=0.1)
    assert (len(distinct._hashes), len(sample._values)) == (MAX_HASHES, MAX_VALUES)


def test_zeros_are_one_value() -> None:
    assert statistics(pa.array([0.0, -0.0])).distinct == 1
