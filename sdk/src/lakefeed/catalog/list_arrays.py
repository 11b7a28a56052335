"""List types and list arrays with other values."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def list_like(kind: pa.DataType, value: pa.DataType | pa.Field[Any]) -> pa.DataType:
    """Returns a list type of the same sort (fixed-size, large or plain) with other values."""
    match kind:
        case pa.FixedSizeListType():
            return pa.list_(value, kind.list_size)
        case pa.LargeListType():
            return pa.large_list(value)
        case _:
            return pa.list_(value)


def with_values(array: pa.Array[Any], kind: pa.DataType, values: pa.Array[Any]) -> pa.Array[Any]:
    """Returns a list or map array with other values of the same lengths."""
    count = 1 if isinstance(kind, pa.FixedSizeListType) else 2  # validity, and offsets
    buffers = array.buffers()[:count]
    changed: pa.Array[Any] = pa.Array.from_buffers(kind, len(array), buffers, array.null_count, array.offset, [values])
    return changed
