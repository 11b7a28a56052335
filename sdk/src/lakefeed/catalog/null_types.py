"""Null types, of columns and inside other types. The first rows with values decide the type.

Iceberg (format version 2) has no null type, so it is stored as text, all null. When it becomes a type that is not
stored as text, it becomes a new Iceberg field of the same name, which is null in older files. Lists and maps around it
stay.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StringType, StructType

from lakefeed.catalog.compatibility import check_round_trip
from lakefeed.catalog.list_arrays import list_like
from lakefeed.catalog.required_fields import LIST_TYPES
from lakefeed.catalog.schema import iceberg_schema, normalize_schema, storage_schema


def decide_field(known: pa.Field[Any], incoming: pa.Field[Any]) -> pa.Field[Any]:
    """Returns ``known`` with the types of ``incoming`` in place of null types; the same object if there are none.

    Raises:
        TypeMismatchError: a type cannot be stored.
    """
    kind = decide_type(known.type, incoming.type)
    if kind == known.type:
        return known
    field = (
        incoming.with_name(known.name).with_nullable(True) if pa.types.is_null(known.type) else known.with_type(kind)
    )
    (declared,) = normalize_schema(pa.schema([field]))
    check_round_trip(pa.schema([declared]), storage_schema(pa.schema([declared])))
    return declared


def decide_type(known: pa.DataType, incoming: pa.DataType) -> pa.DataType:
    """Returns the type ``known`` with the types of ``incoming`` in place of null types.

    Example:
        >>> decide_type(pa.list_(pa.null()), pa.list_(pa.int8()))
        ListType(list<item: int8>)
    """
    if pa.types.is_null(known) or known == incoming:
        return incoming
    match known, incoming:
        case pa.StructType(), pa.StructType():
            others = {incoming.field(i).name: incoming.field(i) for i in range(incoming.num_fields)}
            fields = [known.field(i) for i in range(known.num_fields)]
            decided = [_decide_inner_field(field, others.get(field.name, field)) for field in fields]
            return pa.struct(decided) if decided != fields else known
        case pa.MapType(), pa.MapType():
            item = _decide_inner_field(known.item_field, incoming.item_field)
            kind: Any = pa.map_(known.key_field, item, known.keys_sorted)
            return kind if item != known.item_field else known
        case ((pa.ListType() | pa.LargeListType() | pa.FixedSizeListType()), _) if isinstance(incoming, LIST_TYPES):
            value = _decide_inner_field(known.value_field, incoming.value_field)
            return list_like(known, value) if value != known.value_field else known
        case _:
            return known


def decide_iceberg_field(
    field: NestedField, known: pa.Field[Any], declared: pa.Field[Any], next_id: Callable[[], int]
) -> NestedField:
    """Returns the Iceberg field for ``declared``, with new fields in place of null types of ``known``.

    If nothing else changes, the comment of the column changes, so that the schema is a new one.
    """
    (plain,) = iceberg_schema(pa.schema([declared])).fields
    after = _decide_nested_field(field, plain, known.type, declared.type, next_id)
    if after == field:
        return field.model_copy(update={"doc": unique_comment(field, f"declared as {declared.type}")})
    return after


def unique_comment(field: NestedField, text: str) -> str:
    """Returns a comment that the column does not have yet, so that the schema is a new one."""
    numbers = (part for part in (field.doc or "").rpartition("#")[2:] if part.isdigit())
    return f"{text} #{int(next(numbers, '0')) + 1}"


def _decide_inner_field(known: pa.Field[Any], incoming: pa.Field[Any]) -> pa.Field[Any]:
    return known.with_type(decide_type(known.type, incoming.type))


def _decide_nested_field(
    field: NestedField, plain: NestedField, known: pa.DataType, declared: pa.DataType, next_id: Callable[[], int]
) -> NestedField:
    if pa.types.is_null(known):
        if isinstance(plain.field_type, StringType):
            return field
        (new,) = assign_fresh_schema_ids(Schema(plain), next_id).fields
        return new
    kind = _decide_nested_type(field.field_type, plain.field_type, known, declared, next_id)
    return field if kind is field.field_type else field.model_copy(update={"field_type": kind})


def _decide_nested_type(
    kind: IcebergType, plain: IcebergType, known: Any, declared: Any, next_id: Callable[[], int]
) -> IcebergType:
    """Returns the type with new fields in place of null types; the same object if there are none."""
    match kind, plain:
        case StructType(), StructType():
            pairs = zip(kind.fields, plain.fields, known, declared, strict=True)
            fields = [
                _decide_nested_field(old, new, before.type, after.type, next_id) for old, new, before, after in pairs
            ]
            same = all(new is old for new, old in zip(fields, kind.fields, strict=True))
            return kind if same else StructType(*fields)
        case ListType(), ListType():
            old = kind.element_field
            new = _decide_nested_field(old, plain.element_field, known.value_type, declared.value_type, next_id)
            if new is old:
                return kind
            return ListType(element_id=new.field_id, element=new.field_type, element_required=kind.element_required)
        case MapType(), MapType():
            old = kind.value_field
            new = _decide_nested_field(old, plain.value_field, known.item_type, declared.item_type, next_id)
            if new is old:
                return kind
            return MapType(
                key_id=kind.key_id,
                key_type=kind.key_type,
                value_id=new.field_id,
                value_type=new.field_type,
                value_required=kind.value_required,
            )
        case _:
            return kind
