"""Time zones of timestamps in JSON lines. Arrow's reader converts timestamps to UTC and drops their zones."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from lakefeed._arrow import compute as pc

ZONE_PATTERN = r"[T ].*(Z|[+-][0-9]{2}(:?[0-9]{2})?)$"
"""A timestamp that ends in a zone. The end of a date without a time only looks like a zone."""


MAX_DEPTH = 100
"""Deeper values are damaged, or an attack: what handles types by recursion would fail on them."""


def check_depth(schema: pa.Schema) -> None:
    """Checks that no type is nested deeper than `MAX_DEPTH` levels.

    Raises:
        pa.ArrowInvalid: a type is.
    """
    kinds = list(schema.types)
    for _ in range(MAX_DEPTH):
        kinds = [kind.field(n).type for kind in kinds for n in range(kind.num_fields)]
        if not kinds:
            return
    raise pa.ArrowInvalid(f"values are nested deeper than {MAX_DEPTH} levels")


def has_timestamps(kind: pa.DataType) -> bool:
    """Returns whether values of a type are timestamps or contain them."""
    return types.is_timestamp(kind) or any(has_timestamps(kind.field(n).type) for n in range(kind.num_fields))


def timestamps_as_text(schema: pa.Schema) -> pa.Schema:
    """Returns the schema with text instead of timestamps, at every depth."""
    return pa.schema([field.with_type(_text_type(field.type)) for field in schema])


def cast_timestamps(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Returns the rows with timestamps in place of text. They were read with `timestamps_as_text` of ``schema``.

    Raises:
        pa.ArrowInvalid: a value is not a timestamp, has a zone and its column has none, or the reverse.
    """
    for index, field in enumerate(schema):
        if has_timestamps(field.type):
            table = table.set_column(index, field, table.column(field.name).cast(field.type))
    return table


def infer_zones(schema: pa.Schema, table: pa.Table) -> pa.Schema:
    """Returns the schema with the right zones: UTC if all values have a zone, text if only some have one.

    Args:
        schema: the schema that Arrow infers.
        table: the rows, read with `timestamps_as_text` of ``schema``.
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
