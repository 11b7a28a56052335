"""Casts to types that contain the null type. Data files store such values as text, all null.

Arrow has no cast to null, and its cast to fixed-size lists of nulls makes an invalid array. So values are cast to a
type with text in place of null, and the text arrays are then replaced.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

from lakefeed.catalog.list_arrays import list_like, with_values
from lakefeed.catalog.required_fields import LIST_TYPES, inner_fields
from lakefeed.errors import TypeMismatchError


def cast_to_null(array: Any, kind: pa.DataType, path: str) -> Any:
    """Casts an array to ``kind``, which is null or contains null.

    Raises:
        TypeMismatchError: the array has a value where the type has null.
        pa.ArrowInvalid: another value does not fit its type.
    """
    return _texts_to_null(array if pa.types.is_null(kind) else array.cast(_text_for_null(kind)), kind, path)


@functools.cache
def has_null(kind: pa.DataType) -> bool:
    """Returns whether the type is null or contains null."""
    return pa.types.is_null(kind) or any(has_null(field.type) for field in inner_fields(kind))


def _text_for_null(kind: Any) -> Any:
    if pa.types.is_null(kind):
        return pa.string()
    match kind:
        case pa.StructType():
            return pa.struct([field.with_type(_text_for_null(field.type)) for field in kind])
        case pa.MapType():
            item = kind.item_field
            return pa.map_(kind.key_field, item.with_type(_text_for_null(item.type)), kind.keys_sorted)
        case _ if isinstance(kind, LIST_TYPES):
            return list_like(kind, kind.value_field.with_type(_text_for_null(kind.value_type)))
        case _:
            return kind


def _texts_to_null(array: Any, kind: Any, path: str) -> Any:
    """Returns the array as ``kind``. Its type is ``kind`` with text in place of null."""
    if not has_null(kind):
        return array
    match kind:
        case pa.StructType():
            parts = [_texts_to_null(array.field(i), each.type, f"{path}.{each.name}") for i, each in enumerate(kind)]
            mask = array.is_null() if array.null_count else None
            return pa.StructArray.from_arrays(parts, fields=list(kind), mask=mask)
        case pa.MapType():
            items = _texts_to_null(array.items, kind.item_type, f"{path}{{value}}")
            entries = pa.StructArray.from_arrays([array.keys, items], fields=[kind.key_field, kind.item_field])
            return with_values(array, kind, entries)
        case _ if isinstance(kind, LIST_TYPES):
            return with_values(array, kind, _texts_to_null(array.values, kind.value_type, f"{path}[]"))
        case _:
            return _null_array(array, path)


def _null_array(values: Any, path: str) -> Any:
    if values.null_count < len(values):
        raise TypeMismatchError(
            f"column {path!r} has no type yet, but {values.type} values of another writer: set its type with "
            f"widen_column({path!r}, pa.string()), or with the full type of the column that contains it"
        )
    return pa.nulls(len(values))
