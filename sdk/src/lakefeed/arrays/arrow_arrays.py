"""Arrow arrays of NumPy values. ``pyarrow.array`` would import pandas, which takes longer than a first batch."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

Nulls = npt.NDArray[np.bool_] | None


def number_array(values: npt.NDArray[Any], nulls: Nulls = None) -> pa.Array[Any]:
    """Returns numbers or booleans as an Arrow array, which shares their memory if it can.

    Args:
        values: the values.
        nulls: True for each value that is null.
    """
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    kind = pa.from_numpy_dtype(native.dtype)
    content: Any = np.packbits(native, bitorder="little") if native.dtype == np.bool_ else native
    array: pa.Array[Any] = pa.Array.from_buffers(kind, len(native), [_bitmap(nulls), pa.py_buffer(content)])
    return array


def text_array(values: npt.NDArray[Any], nulls: Nulls = None) -> pa.Array[Any]:
    """Returns bytes of UTF-8 as text.

    Args:
        values: bytes, as objects or of a fixed length.
        nulls: True for each value that is null.

    Raises:
        pyarrow.ArrowInvalid: a value is not UTF-8.
    """
    parts: list[bytes] = values.tolist()
    ends: Any = np.zeros(len(parts) + 1, np.int64)
    np.cumsum(np.fromiter(map(len, parts), np.int64, len(parts)), out=ends[1:])
    buffers = [_bitmap(nulls), pa.py_buffer(ends), pa.py_buffer(b"".join(parts))]
    array: pa.Array[Any] = pa.Array.from_buffers(pa.large_binary(), len(parts), buffers).cast(pa.string())
    return array


def _bitmap(nulls: Nulls) -> pa.Buffer | None:
    if nulls is None or not nulls.any():
        return None
    bits: Any = np.packbits(~nulls, bitorder="little")
    return pa.py_buffer(bits)
