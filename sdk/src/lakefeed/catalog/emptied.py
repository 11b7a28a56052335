"""Values of types that have nulls only, as they are read from files, which hold text there, all null.

Arrow casts nothing to null, and a cast to lists of fixed size of nulls makes an invalid array. So values are cast to a
type that has text instead, and the texts are then removed.
"""

from __future__ import annotations

import functools
from typing import Any

import pyarrow as pa

from lakefeed.catalog.list_arrays import list_like, with_values
from lakefeed.catalog.required_fields import LIST_TYPES, inner_fields
from lakefeed.errors import TypeMismatchError


def cast_to_null(array: Any, kind: pa.DataType, path: str) -> Any:
    """Returns the array as the type ``kind``, which is null or has null inside.

    Raises:
        TypeMismatchError: there is a value where the type has null.
        pa.ArrowInvalid: a value does not fit elsewhere.
    """
    return _texts_to_null(array if pa.types.is_null(kind) else array.cast(_text_for_null(kind)), kind, path)


@functools.cache
def has_null(kind: pa.DataType) -> bool:
    """Returns whether the type is null, or has null inside."""
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
    """The array, whose type is ``kind`` with text where that has null, as ``kind``."""
    if not has_null(kind):
        return array
    match kind:
        case pa.StructType():
            parts = [_texts_to_null(array.field(at), one.type, f"{path}.{one.name}") for at, one in enumerate(kind)]
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
            f"column {path!r} has no type yet, but {values.type} values, which another writer has put there: say what "
            f"they are with widen_column({path!r}, pa.string()), or with the whole type of the column they are in"
        )
    return pa.nulls(len(values))
