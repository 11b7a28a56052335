from __future__ import annotations

from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from lakefeed.expr.scalars import array, scalar


@pytest.mark.parametrize(
    ("value", "kind"),
    [
        *((-(1 << 63), pa.int64()), ((1 << 63) - 1, pa.int64()), ((1 << 64) - 1, pa.uint64()), (255, pa.uint8())),
        *((-7, pa.int32()), (3, pa.float64()), (3, pa.decimal128(5, 2)), (3, pa.timestamp("us")), (True, pa.bool_())),
        *((0.1, pa.float64()), (-0.0, pa.float64()), (float("inf"), pa.float64()), (0.1, pa.float32())),
        *(("", pa.string()), ("naïve 🎈", pa.string()), ("x", pa.large_string()), ("x", pa.string_view())),
        *((Decimal("1.50"), pa.decimal128(5, 2)), (None, pa.bool_()), (None, pa.timestamp("ns"))),
    ],
)
def test_scalars_are_those_of_arrow(value: Any, kind: pa.DataType) -> None:
    found, given = scalar(value, kind), pa.scalar(value, kind)
    assert found.type == kind
    assert repr(found) == repr(given)


@pytest.mark.parametrize(("value", "kind"), [(300, pa.int8()), (-1, pa.uint64())])
def test_what_does_not_fit_is_an_error(value: int, kind: pa.DataType) -> None:
    with pytest.raises((pa.ArrowInvalid, OverflowError)):
        scalar(value, kind)


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        *(([], pa.int64()), ([3, -1], pa.int16()), ([(1 << 64) - 1, 0], pa.uint64()), ([1, None], pa.int64())),
        *(([0.5, -0.0], pa.float64()), ([1, 0.5], pa.float64()), ([0.5], pa.float32()), ([True, False], pa.bool_())),
        *((["", "naïve 🎈", "x"], pa.string()), (["x"], pa.large_string()), (["x", "y"], pa.string_view())),
        ([Decimal("1.50")], pa.decimal128(5, 2)),
    ],
)
def test_arrays_are_those_of_arrow(values: list[Any], kind: pa.DataType) -> None:
    found = array(values, kind)
    found.validate(full=True)
    assert found.equals(pa.array(values, kind))
