"""Equality of values of any type: null equals null, NaN equals NaN, and -0.0 equals 0.0, at every depth.

So every row equals itself. That is not true in Arrow, which has no kernel for nested values, in Python, or in DuckDB,
where NaN in a list differs from itself.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc

Bytes = NDArray[np.uint8]
LISTS = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)
WITHOUT_KERNEL = (
    pa.types.is_nested,
    pa.types.is_null,
    pa.types.is_float16,
    pa.types.is_dictionary,
    pa.types.is_string_view,
    pa.types.is_binary_view,
    lambda kind: isinstance(kind, pa.BaseExtensionType),
)
"""The types that Arrow does not compare."""
AS_BYTES = (
    pa.types.is_decimal,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_string_view,
    pa.types.is_binary,
    pa.types.is_large_binary,
    pa.types.is_binary_view,
    pa.types.is_fixed_size_binary,
)
"""The types whose values vary in length. Values of other types are numbers of a fixed width."""


def equal_values(before: Any, after: Any) -> NDArray[np.bool_]:
    """Returns a mask of the equal values of two columns of one type.

    Example:
        >>> equal_values(pa.array([[float("nan")], [1.0], None]), pa.array([[float("nan")], [-1.0], None])).tolist()
        [True, False, True]
    """
    if any(test(before.type) for test in WITHOUT_KERNEL):
        return _numpy(pc.equal(comparison_bytes(before), comparison_bytes(after)))
    equal: Any = pc.fill_null(pc.equal(before, after), False)
    if pa.types.is_floating(before.type):
        both_nan: Any = pc.and_(pc.is_nan(before), pc.is_nan(after))
        equal = pc.or_(equal, pc.fill_null(both_nan, False))
    return _numpy(pc.or_(equal, pc.and_(before.is_null(), after.is_null())))


def comparison_bytes(column: Any) -> pa.Array[Any]:
    """Returns the values as bytes (large_binary, never null) that are equal where the values are equal."""
    kind = column.type
    if isinstance(column, pa.ExtensionArray):
        return comparison_bytes(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return comparison_bytes(column.dictionary_decode())
    if isinstance(column, pa.StructArray):
        return _joined(_head(column), *map(comparison_bytes, column.flatten()))
    if isinstance(column, pa.MapArray):
        return _map(column)
    if isinstance(kind, LISTS):
        return _list(column, pc.list_value_length(column), comparison_bytes(column.flatten()))
    if pa.types.is_null(kind):
        return _fixed(np.zeros((len(column), 1), np.uint8))
    if not any(test(kind) for test in AS_BYTES):
        return _fixed(np.hstack([_valid(column), _bits(column)]))
    text = column.cast(pa.string()) if pa.types.is_decimal(kind) or pa.types.is_string_view(kind) else column
    payload = text.cast(pa.large_binary()).fill_null(b"")
    return _joined(_head(column, pc.binary_length(payload)), payload)


def _bits(column: Any) -> Bytes:
    """Returns the bytes of values of a fixed width, one row each; zero for null."""
    kind = column.type
    if pa.types.is_boolean(kind):
        values = column.fill_null(False).cast(pa.uint8()).to_numpy()
    elif pa.types.is_floating(kind):
        values = column.fill_null(np.float16(0) if pa.types.is_float16(kind) else 0.0).to_numpy() + 0.0  # one zero
        values = np.where(np.isnan(values), np.array(np.nan, values.dtype), values)
    else:
        whole = {8: pa.int8(), 16: pa.int16(), 32: pa.int32(), 64: pa.int64()}[kind.bit_width]
        values = column.view(whole).fill_null(0).to_numpy()
    packed = np.ascontiguousarray(values)
    return packed.view(np.uint8).reshape(len(column), packed.dtype.itemsize)


def _list(column: pa.Array[Any], lengths: Any, items: pa.Array[Any]) -> pa.Array[Any]:
    """Encodes lists of these lengths (null for null). ``items``: the encoded items, without those of null lists."""
    sizes = pc.fill_null(lengths.cast(pa.int64()), 0)
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(sizes.to_numpy(zero_copy_only=False))])
    _, offsets, data = items.buffers()
    begins = np.frombuffer(memoryview(offsets or bytes(8)), np.int64)[items.offset :][edges]
    payload: pa.Array[Any] = pa.Array.from_buffers(
        pa.large_binary(), len(column), [None, pa.py_buffer(begins.tobytes()), data]
    )
    return _joined(_head(column, sizes), payload)


def _map(column: Any) -> pa.Array[Any]:
    edges = column.offsets.to_numpy()
    lengths = pa.array(np.diff(edges), mask=~column.is_valid().to_numpy(zero_copy_only=False))
    present = column.drop_null()
    begin, end = (present.offsets[place].as_py() for place in (0, -1)) if len(present) else (0, 0)
    entries = _joined(*(comparison_bytes(part.slice(begin, end - begin)) for part in (present.keys, present.items)))
    return _list(column, lengths, entries)


def _head(column: pa.Array[Any], lengths: Any = None) -> pa.Array[Any]:
    """Encodes whether there is a value, and its length, so that concatenated encodings are unambiguous."""
    parts = [_valid(column)]
    if lengths is not None:
        sizes = np.ascontiguousarray(np.asarray(lengths, np.int64))
        parts.append(sizes.view(np.uint8).reshape(len(column), 8))
    return _fixed(np.hstack(parts))


def _valid(column: pa.Array[Any]) -> Bytes:
    valid: NDArray[np.bool_] = column.is_valid().to_numpy(zero_copy_only=False)
    return valid.astype(np.uint8).reshape(-1, 1)


def _fixed(rows: Bytes) -> pa.Array[Any]:
    count, width = rows.shape
    offsets = np.arange(0, (count + 1) * width, width, dtype=np.int64)[: count + 1]
    buffers = [None, pa.py_buffer(offsets.tobytes()), pa.py_buffer(np.ascontiguousarray(rows).tobytes())]
    return pa.Array.from_buffers(pa.large_binary(), count, buffers)


def _joined(*parts: pa.Array[Any]) -> pa.Array[Any]:
    separator: Any = pa.scalar(b"", pa.large_binary())
    joined: pa.Array[Any] = pc.call_function("binary_join_element_wise", [*parts, separator])
    return joined


def _numpy(mask: Any) -> NDArray[np.bool_]:
    array: NDArray[np.bool_] = mask.to_numpy(zero_copy_only=False)
    return array
