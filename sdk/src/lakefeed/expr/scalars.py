"""Arrow scalars and arrays without pandas, which pyarrow would import if installed (0.3 seconds)."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from itertools import accumulate
from typing import Any, cast

import pyarrow as pa

_INT64 = range(-(1 << 63), 1 << 63)


def scalar(value: Any, kind: pa.DataType) -> pa.Scalar[Any]:
    """Returns ``pyarrow.scalar(value, kind)``.

    Raises:
        pyarrow.ArrowInvalid: the value does not fit the type.

    Example:
        >>> scalar(3, pa.int8())
        <pyarrow.Int8Scalar: 3>
    """
    values: Any = pa.nulls(1, cast(Any, kind)) if value is None else _fast_array([value], kind)
    if values is None:
        return pa.scalar(value, kind)
    result: pa.Scalar[Any] = values[0]
    return result


def array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    """Returns ``pyarrow.array(values, kind)``.

    Raises:
        pyarrow.ArrowInvalid: a value does not fit the type.

    Example:
        >>> array(["a", "bc"], pa.string()).to_pylist()
        ['a', 'bc']
    """
    fast = _fast_array(values, kind)
    return pa.array(values, kind) if fast is None else fast


def _fast_array(values: Sequence[Any], kind: pa.DataType) -> Any:
    """Returns the values as an array; None for values or a type that it does not support."""
    kinds = {type(value) for value in values}
    if len(kinds) != 1:
        return None
    types, [python_type] = pa.types, kinds
    if python_type is int and types.is_integer(kind) and all(value in _INT64 for value in values):
        return _from_buffers(pa.int64(), len(values), struct.pack(f"={len(values)}q", *values)).cast(kind)
    if python_type is float and types.is_float64(kind):
        return _from_buffers(kind, len(values), struct.pack(f"={len(values)}d", *values))
    if python_type is str and (types.is_string(kind) or types.is_large_string(kind)):
        parts = [value.encode() for value in values]
        ends = struct.pack(f"={len(parts) + 1}q", 0, *accumulate(map(len, parts)))
        return _from_buffers(pa.large_string(), len(parts), ends, b"".join(parts)).cast(kind)
    return None


def _from_buffers(kind: pa.DataType, length: int, *buffers: bytes) -> Any:
    return pa.Array.from_buffers(kind, length, [None, *map(pa.py_buffer, buffers)])
