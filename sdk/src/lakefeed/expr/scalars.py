"""Arrow scalars without pandas: `pyarrow.scalar` imports it where it is installed, which takes a third of a second."""

from __future__ import annotations

import struct
from typing import Any

import pyarrow as pa

_INT64 = range(-(1 << 63), 1 << 63)


def scalar(value: Any, kind: pa.DataType) -> pa.Scalar[Any]:
    """``pyarrow.scalar(value, kind)``.

    Raises:
        pyarrow.ArrowInvalid: the value does not fit the type.

    Example:
        >>> scalar(3, pa.int8())
        <pyarrow.Int8Scalar: 3>
    """
    types = pa.types
    if type(value) is int and value in _INT64 and types.is_integer(kind):
        return _first(pa.int64(), struct.pack("=q", value)).cast(kind)
    if type(value) is float and types.is_float64(kind):
        return _first(kind, struct.pack("=d", value))
    if type(value) is str and (types.is_string(kind) or types.is_large_string(kind)):
        data = value.encode()
        return _first(pa.large_string(), struct.pack("=qq", 0, len(data)), data).cast(kind)
    return pa.scalar(value, kind)


def _first(kind: pa.DataType, *buffers: bytes) -> pa.Scalar[Any]:
    held = [None, *map(pa.py_buffer, buffers)]
    found: pa.Scalar[Any] = pa.Array.from_buffers(kind, 1, held)[0]
    return found
