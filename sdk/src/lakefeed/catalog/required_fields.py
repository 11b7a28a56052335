"""Values under nulls. Parquet rejects a null in a required field there, and Arrow an invalid dictionary index."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed.errors import TypeMismatchError, quoted_list

# The type stubs of these are incomplete.
LIST_ARRAY: Any = pa.ListArray
LARGE_LIST_ARRAY: Any = pa.LargeListArray
FIXED_LIST_ARRAY: Any = pa.FixedSizeListArray
MAP_ARRAY: Any = pa.MapArray
LIST_TYPES = (pa.ListType, pa.LargeListType, pa.FixedSizeListType)


def has_required(kind: pa.DataType) -> bool:
    """Returns whether the type has a required inner field. Arrow checks the keys of maps itself."""
    return any(not field.nullable or has_required(field.type) for field in inner_fields(kind))


def _needs_fill(kind: pa.DataType) -> bool:
    """Returns whether values under nulls matter: the type has required fields or dictionary indices."""
    fields = inner_fields(kind)
    return any(not f.nullable or isinstance(f.type, pa.DictionaryType) or _needs_fill(f.type) for f in fields)


def inner_fields(kind: pa.DataType) -> list[pa.Field[Any]]:
    """Returns the inner fields of a type, without the key of a map."""
    if isinstance(kind, pa.StructType):
        return [kind.field(i) for i in range(kind.num_fields)]
    if isinstance(kind, pa.MapType):
        return [kind.item_field]
    return [kind.value_field] if isinstance(kind, LIST_TYPES) else []


def fill_required(array: Any) -> Any:
    """Returns the same values, with placeholders in required fields under nulls, and nulls in other fields there.

    Raises:
        TypeMismatchError: a required fixed-size list is under a null.

    Example:
        >>> kind = pa.struct([pa.field("a", pa.int64(), nullable=False)])
        >>> whole = fill_required(pa.nulls(2, kind))
        >>> whole.null_count, whole.field(0).null_count
        (2, 0)
    """
    kind: Any = array.type
    if not _needs_fill(kind) or not len(array):
        return array
    column: Any = array
    mask = column.is_null()
    if isinstance(kind, pa.StructType):
        fixed = [field.name for field in kind if not field.nullable and isinstance(field.type, pa.FixedSizeListType)]
        if fixed and column.null_count:
            raise TypeMismatchError(
                f"{quoted_list(fixed)} of {kind} is a required fixed-size list under a null, which Parquet cannot "
                "store; make it nullable, or a list of variable size"
            )
        parts = [_fill_child(part, field) for part, field in zip(column.flatten(), kind, strict=True)]
        return pa.StructArray.from_arrays(parts, fields=list(kind), mask=mask)
    if isinstance(kind, pa.FixedSizeListType):
        values = column.values.slice(column.offset * kind.list_size, len(column) * kind.list_size)
        return FIXED_LIST_ARRAY.from_arrays(_fill_child(values, kind.value_field), type=kind, mask=mask)
    if not isinstance(kind, pa.ListType | pa.LargeListType | pa.MapType):
        return array
    # Values under nulls are dropped, so the offsets are computed again.
    lengths = np.where(column.is_valid().to_numpy(zero_copy_only=False), np.diff(column.offsets.to_numpy()), 0)
    edges = np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths)])
    present = column.drop_null()
    if isinstance(kind, pa.MapType):
        begin, end = (present.offsets[index].as_py() for index in (0, -1)) if len(present) else (0, 0)
        keys, items = (part.slice(begin, end - begin) for part in (present.keys, present.items))
        offsets = pa.array(edges, pa.int32())
        return MAP_ARRAY.from_arrays(offsets, keys, _fill_child(items, kind.item_field), kind, mask=mask)
    array_class, offset_type = (
        (LARGE_LIST_ARRAY, pa.int64()) if isinstance(kind, pa.LargeListType) else (LIST_ARRAY, pa.int32())
    )
    values = _fill_child(present.flatten(), kind.value_field)
    return array_class.from_arrays(pa.array(edges, offset_type), values, type=kind, mask=mask)


def _fill_child(array: Any, field: pa.Field[Any]) -> Any:
    """Fills an inner array. All nulls of a required field are under nulls."""
    filled = fill_required(array)
    if field.nullable or not filled.null_count:
        return filled
    indices = np.where(filled.is_valid().to_numpy(zero_copy_only=False), np.arange(len(filled)), len(filled))
    values: Any = pa.concat_arrays([filled, _placeholder(field.type)])
    result: pa.Array[Any] = values.take(pa.array(indices))
    return result


def _placeholder(kind: Any) -> Any:
    """Returns an array with one value of the type."""
    types = pa.types
    if isinstance(kind, pa.BaseExtensionType):
        extension: pa.Array[Any] = pa.ExtensionArray.from_storage(kind, _placeholder(kind.storage_type))
        return extension
    if isinstance(kind, pa.DictionaryType):
        indices: Any = pa.array([0], kind.index_type)
        return pa.DictionaryArray.from_arrays(indices, _placeholder(kind.value_type), ordered=kind.ordered)
    if isinstance(kind, pa.StructType):
        return pa.StructArray.from_arrays([_placeholder(field.type) for field in kind], fields=list(kind))
    if isinstance(kind, pa.FixedSizeListType):
        values = pa.concat_arrays([_placeholder(kind.value_type)] * kind.list_size)
        return FIXED_LIST_ARRAY.from_arrays(values, type=kind)
    empty: Any = b"" if types.is_binary(kind) or types.is_large_binary(kind) else 0
    if types.is_fixed_size_binary(kind):
        empty = bytes(kind.byte_width)
    if types.is_string(kind) or types.is_large_string(kind):
        empty = ""
    if types.is_list(kind) or types.is_large_list(kind):
        no_values: pa.Array[Any] = pa.nulls(0, kind.value_type)
        array_class = LARGE_LIST_ARRAY if types.is_large_list(kind) else LIST_ARRAY
        return array_class.from_arrays([0, 0], no_values, type=kind)
    if types.is_map(kind):
        return MAP_ARRAY.from_arrays([0, 0], pa.nulls(0, kind.key_type), pa.nulls(0, kind.item_type), kind)
    scalar: pa.Array[Any] = pa.array([False if types.is_boolean(kind) else empty], kind)
    return scalar
