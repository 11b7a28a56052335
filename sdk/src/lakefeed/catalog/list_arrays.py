"""Lists and maps with other values inside, of the same lengths."""

from __future__ import annotations

from typing import Any

import pyarrow as pa


def list_like(kind: pa.DataType, value: pa.DataType | pa.Field[Any]) -> pa.DataType:
    """Returns the list type with other values: fixed, large, or plain, as ``kind`` is."""
    match kind:
        case pa.FixedSizeListType():
            return pa.list_(value, kind.list_size)
        case pa.LargeListType():
            return pa.large_list(value)
        case _:
            return pa.list_(value)


def with_values(array: pa.Array[Any], kind: pa.DataType, values: pa.Array[Any]) -> pa.Array[Any]:
    """Returns a list or map with other values in it, of the same number."""
    own = 1 if isinstance(kind, pa.FixedSizeListType) else 2  # validity, and offsets
    buffers = array.buffers()[:own]
    changed: pa.Array[Any] = pa.Array.from_buffers(kind, len(array), buffers, array.null_count, array.offset, [values])
    return changed
