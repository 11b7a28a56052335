"""Times in JSON lines and their zones: Arrow's reader converts times with a zone to UTC and forgets the zone."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from lakefeed._arrow import compute as pc

ZONE_PATTERN = r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
"""A time that ends in a zone; of a date alone the end only looks like one."""


def has_timestamps(kind: pa.DataType) -> bool:
    """Whether values of a type are or hold timestamps."""
    return types.is_timestamp(kind) or any(has_timestamps(kind.field(n).type) for n in range(kind.num_fields))


def timestamps_as_text(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with text in place of timestamps, at every depth."""
    return pa.schema([field.with_type(_text_type(field.type)) for field in schema])


def cast_timestamps(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns rows that were read with the schema `as_text` gives, with their timestamps.

    Raises:
        pa.ArrowInvalid: a time with a zone where the column has none, one without where it has one, or no time.
    """
    for index, field in enumerate(schema):
        if has_timestamps(field.type):
            table = table.set_column(index, field, table.column(field.name).cast(field.type))
    return table


def infer_zones(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """Returns the types of times: UTC where all have a zone, text where some have one, as Arrow says where none has.

    Args:
        schema: as Arrow infers it.
        table: the rows, read with the schema `as_text` gives.
    """
    fields = [field.with_type(_zoned_type(field.type, table[field.name].combine_chunks())) for field in schema]
    return pa.schema(fields)


def _text_type(kind: pa.DataType) -> pa.DataType:
    if types.is_timestamp(kind):
        return pa.string()
    if types.is_struct(kind):
        return pa.struct([kind.field(n).with_type(_text_type(kind.field(n).type)) for n in range(kind.num_fields)])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_text_type(kind.value_type)))
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(_text_type(kind.value_type)))
    return kind


def _zoned_type(kind: pa.DataType, values: Any) -> pa.DataType:
    if types.is_timestamp(kind):
        zoned = pc.match_substring_regex(values, ZONE_PATTERN)
        if not pc.any(zoned).as_py():
            return kind
        return pa.timestamp(kind.unit, "UTC") if pc.all(zoned).as_py() else pa.string()
    if types.is_struct(kind):
        children = zip((kind.field(n) for n in range(kind.num_fields)), values.flatten(), strict=True)
        return pa.struct([field.with_type(_zoned_type(field.type, child)) for field, child in children])
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(_zoned_type(kind.value_type, values.flatten())))
    return kind
