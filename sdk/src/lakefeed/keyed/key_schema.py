"""Key schemas: the columns of which the values identify a row."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from lakefeed._validate import is_list
from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError, quoted_list


def check_key_schema(key_schema: Any) -> pa.Schema:
    """Returns a key schema, in which no column is nullable.

    Args:
        key_schema: a ``pyarrow.Schema``, fields, pairs of a name and a type, or a mapping of names to types.

    Raises:
        InvalidArgumentError: it is none of these.
        SchemaError: it has no column, or two of one name.
        TypeMismatchError: a type cannot be that of a key.
    """
    fields = [_field(each, key_schema) for each in _items(key_schema)]
    names = [field.name for field in fields]
    if not names or len(set(names)) < len(names):
        raise SchemaError(f"key_schema: the key needs one or several different columns, got {quoted_list(names)}")
    for field in fields:
        _check_key_type(field)
    return pa.schema([field.with_nullable(False) for field in fields])


def _items(key_schema: Any) -> Iterable[Any]:
    if isinstance(key_schema, pa.Schema):
        return list(key_schema)
    if isinstance(key_schema, Mapping):
        return list(key_schema.items())
    if not is_list(key_schema):
        raise InvalidArgumentError(
            f"key_schema must be a pyarrow.Schema, fields, pairs or a mapping such as {{'id': pa.int64()}}, got "
            f"{key_schema!r:.80}"
        )
    return list(key_schema)


def _field(item: Any, key_schema: Any) -> pa.Field[Any]:
    if isinstance(item, pa.Field):
        return item
    pair = tuple(item) if isinstance(item, tuple | list) else ()
    if len(pair) != 2 or not isinstance(pair[0], str) or not pair[0] or not isinstance(pair[1], pa.DataType):
        raise InvalidArgumentError(
            f"key_schema: each column is a name with a pyarrow type, such as ('id', pa.int64()), got {item!r:.80} in "
            f"{key_schema!r:.80}"
        )
    return pa.field(pair[0], pair[1])


def _check_key_type(field: pa.Field[Any]) -> None:
    kind = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
    if pa.types.is_nested(kind) or pa.types.is_floating(kind) or pa.types.is_null(kind):
        raise TypeMismatchError(
            f"key_schema: column {field.name!r} is {field.type} and cannot be a key; keys are whole numbers, text, "
            "bytes, dates, times, decimals and booleans"
        )
