"""Statistics and previews hold for every type that a dataset may have."""

from __future__ import annotations

import datetime
import decimal
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from dataset_assets.profile import CELL_CHARACTERS, ColumnStatistics, _cell, statistics

EARLY, LATE = datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (pa.array([3, None, 1]), ColumnStatistics(1, 2, 1, 3, 4.0)),
        (pa.array([2**63 - 1]), ColumnStatistics(0, 1, 2**63 - 1, 2**63 - 1, float(2**63))),
        (pa.array(np.array([1.5, 0.5], np.float16)), ColumnStatistics(0, 2, 0.5, 1.5, 2.0)),
        (pa.array([decimal.Decimal("1.5")]), ColumnStatistics(0, 1, decimal.Decimal("1.5"), decimal.Decimal("1.5"))),
        (pa.array(["b", "a"]), ColumnStatistics(0, 2, "a", "b")),
        (pa.array(["b", None]).dictionary_encode(), ColumnStatistics(1, 1, "b", "b")),
        (pa.array([True, False]), ColumnStatistics(0, 2, False, True)),
        (pa.array([LATE, EARLY]), ColumnStatistics(0, 2, EARLY, LATE)),
        (pa.nulls(2), ColumnStatistics(2)),
        (pa.array([b"x"]), ColumnStatistics(0, 1)),
        (pa.array([[1], None]), ColumnStatistics(1, 1)),
        (pa.array([{"a": 1}]), ColumnStatistics(0, 1)),
        (pa.array([datetime.timedelta(1)]), ColumnStatistics(0, 1)),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_statistics_of(values: pa.Array[Any], expected: ColumnStatistics) -> None:
    assert statistics(values) == expected


def test_statistics_add_up_over_batches() -> None:
    whole = pa.array([5, None, -1, 7])
    parts = [statistics(whole[:0]), statistics(whole[:2]), statistics(whole[2:])]
    assert parts[0].plus(parts[1]).plus(parts[2]) == statistics(whole)


@pytest.mark.parametrize(
    ("value", "shown"),
    [(None, ""), (0.123456789, "0.123457"), ("a|b\nc", "a\\|b c"), ("x" * 100, "x" * (CELL_CHARACTERS - 1) + "…")],
)
def test_a_cell_fits_into_a_table(value: object, shown: str) -> None:
    assert _cell(value) == shown
