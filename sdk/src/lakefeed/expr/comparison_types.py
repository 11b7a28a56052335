"""Rules for which Arrow types can be compared, and in which type.

Numbers of different types are compared in the smallest exact type (`int64`, a decimal). They are compared in `float64`
where one of them is a float or no decimal is wide enough. A date is compared with a timestamp as its midnight.
Timestamps are compared in the finer unit. One with a time zone cannot be compared with one without.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import pyarrow as pa
from pyarrow import types as arrow

Kind: TypeAlias = Literal[
    "bool", "int", "float", "decimal", "string", "binary", "date", "timestamp", "zoned", "time", "duration", "other"
]

NS_PER_UNIT = {"s": 1_000_000_000, "ms": 1_000_000, "us": 1_000, "ns": 1}
NS_PER_DAY = 86_400 * NS_PER_UNIT["s"]
NS_MAX = 2**63 - 2  # one less than the largest int64, which is DuckDB's infinity; its negative is numpy's NaT
NUMBERS: frozenset[Kind] = frozenset(("int", "float", "decimal"))
WIDEST_DECIMAL = 38
WIDE_INTEGER = pa.decimal128(WIDEST_DECIMAL, 0)
_DIGITS_OF_BITS = {8: 3, 16: 5, 32: 10, 64: 20}
_KINDS: tuple[tuple[Kind, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
    ("bool", (arrow.is_boolean,)),
    ("int", (arrow.is_integer,)),
    ("float", (arrow.is_floating,)),
    ("decimal", (arrow.is_decimal,)),
    ("string", (arrow.is_string, arrow.is_large_string, arrow.is_string_view)),
    ("binary", (arrow.is_binary, arrow.is_large_binary, arrow.is_fixed_size_binary, arrow.is_binary_view)),
    ("date", (arrow.is_date,)),
    ("time", (arrow.is_time,)),
    ("duration", (arrow.is_duration,)),
)


@lru_cache(maxsize=1024)
def kind(of: pa.DataType) -> Kind:
    """Returns the kind of value that a type holds."""
    if arrow.is_timestamp(of):
        return "timestamp" if of.tz is None else "zoned"
    return next((name for name, tests in _KINDS if any(test(of) for test in tests)), "other")


def decoded_type(of: pa.DataType) -> pa.DataType:
    """Returns the type of the values behind a dictionary or run-end encoding, and of the bytes of a UUID."""
    if isinstance(of, pa.UuidType):
        return of.storage_type
    return decoded_type(of.value_type) if arrow.is_dictionary(of) or arrow.is_run_end_encoded(of) else of


def kernel_type(of: pa.DataType) -> pa.DataType:
    """Returns the type to which values are cast for Arrow kernels, which lack float16, views and date64."""
    if arrow.is_float16(of):
        return pa.float32()
    if arrow.is_string_view(of):
        return pa.large_string()
    if arrow.is_binary_view(of) or arrow.is_fixed_size_binary(of):
        return pa.large_binary()
    return pa.date32() if arrow.is_date64(of) else of


@lru_cache(maxsize=1024)
def common_type(left: pa.DataType, right: pa.DataType) -> pa.DataType | None:
    """Returns the type in which two values are compared, or None if they cannot be compared.

    Example:
        >>> common_type(pa.int8(), pa.float32())
        DataType(double)
    """
    left, right = kernel_type(left), kernel_type(right)
    kinds = {kind(left), kind(right)}
    if left == right:
        return None if kinds == {"other"} else left
    if kinds <= NUMBERS:
        return _common_number(left, right)
    if kinds in ({"date", "timestamp"}, {"timestamp"}, {"zoned"}):
        return pa.timestamp(_finer_unit(left, right), "UTC" if kinds == {"zoned"} else None)
    if kinds == {"time"}:
        return _time_type(_finer_unit(left, right))
    if kinds == {"string"}:
        return pa.large_string()
    return pa.large_binary() if kinds == {"binary"} else None


def may_overflow(of: pa.DataType, to: pa.DataType) -> bool:
    """Returns whether a date or timestamp may be out of the range of ``to``: nanoseconds end in 2262."""
    fine = arrow.is_timestamp(to) and to.unit == "ns"
    return fine and (arrow.is_date32(of) or (arrow.is_timestamp(of) and of.unit != "ns"))


def last_in_ns(of: Any) -> int:
    """Returns the last day, second, … that `timestamp[ns]` holds. The first is its negative."""
    return NS_MAX // (NS_PER_DAY if arrow.is_date32(of) else NS_PER_UNIT[of.unit])


def ns_per_unit(of: Any) -> int:
    """Returns the nanoseconds of 1 in a column of dates or times."""
    if arrow.is_date32(of):
        return NS_PER_DAY
    return NS_PER_UNIT["ms" if arrow.is_date64(of) else of.unit]


def is_orderable(of: pa.DataType) -> bool:
    """Returns whether the values can be compared with ``<``, besides ``==``."""
    return kind(of) not in ("bool", "other")


def _common_number(left: Any, right: Any) -> pa.DataType:
    kinds = {kind(left), kind(right)}
    if "float" in kinds:
        return pa.float64()
    if kinds == {"int"} and pa.uint64() not in (left, right):
        return pa.int64()
    scale = max(_scale(left), _scale(right))
    precision = scale + max(_precision(one) - _scale(one) for one in (left, right))
    return pa.decimal128(precision, scale) if precision <= WIDEST_DECIMAL else pa.float64()


def _scale(of: Any) -> int:
    return int(of.scale) if arrow.is_decimal(of) else 0


def _precision(of: Any) -> int:
    return int(of.precision) if arrow.is_decimal(of) else _DIGITS_OF_BITS[of.bit_width]


def _finer_unit(left: Any, right: Any) -> Any:
    units = [one.unit for one in (left, right) if not arrow.is_date(one)]
    return min(units, key=NS_PER_UNIT.__getitem__)


def _time_type(unit: Any) -> pa.DataType:
    return pa.time32(unit) if unit in ("s", "ms") else pa.time64(unit)
