"""Conversion of Arrow columns to DuckDB and back, where DuckDB lacks the type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from lakefeed.errors import ExpressionError, TypeMismatchError
from lakefeed.plan.equality import comparison_bytes


def duckdb_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the schema that DuckDB gets: float16 as float32, durations as integers in their unit."""
    return pa.schema([field.with_type(duckdb_type(field.type)) for field in schema])


def duckdb_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type that DuckDB gets."""
    if types.is_float16(kind):
        return pa.float32()
    if types.is_duration(kind):
        return pa.int64()
    if isinstance(kind, pa.DictionaryType):
        return duckdb_type(kind.value_type)
    if types.is_struct(kind):
        return pa.struct([field.with_type(duckdb_type(field.type)) for field in kind])
    if types.is_map(kind):
        return pa.map_(duckdb_type(kind.key_type), duckdb_type(kind.item_type))
    if types.is_fixed_size_list(kind):
        fixed: pa.DataType = pa.list_(kind.value_field.with_type(duckdb_type(kind.value_type)), kind.list_size)
        return fixed
    if types.is_large_list(kind):
        return pa.large_list(kind.value_field.with_type(duckdb_type(kind.value_type)))
    if types.is_list(kind):
        return pa.list_(kind.value_field.with_type(duckdb_type(kind.value_type)))
    return kind


def to_comparable(column: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the column encoded for equality; DuckDB compares nested values otherwise (NaN in a list)."""
    if isinstance(column, pa.ExtensionArray):
        return to_comparable(column.storage)
    return comparison_bytes(column) if _needs_encoding(column.type) else column


def comparable_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type of `to_comparable`."""
    if isinstance(kind, pa.BaseExtensionType):
        return comparable_type(kind.storage_type)
    return pa.large_binary() if _needs_encoding(kind) else kind


def _needs_encoding(kind: pa.DataType) -> bool:
    return types.is_nested(kind) or types.is_null(kind)


def require_supported(schema: pa.Schema, operation: str) -> None:
    """Checks that DuckDB can take all columns.

    Raises:
        TypeMismatchError: DuckDB cannot take a column.
    """
    for field in schema:
        if any(test(inner) for inner in _nested_types(field.type) for test in _UNSUPPORTED):
            raise TypeMismatchError(
                f"{operation} does not support column {field.name!r} of type {field.type}; map it to another type first"
            )


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the batch in ``schema``.

    Raises:
        ExpressionError: as `cast_column`.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = [cast_column(column, field) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def cast_column(column: pa.Array[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    """Returns the column in the type of ``field``.

    Raises:
        ExpressionError: a value does not fit.
    """
    if column.type == field.type:
        return column
    try:
        if types.is_dictionary(field.type) and not types.is_dictionary(column.type):
            column = column.cast(field.type.value_type).dictionary_encode()
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ExpressionError(
            f"column {field.name!r} has a value that does not fit {field.type}: {error}. "
            "Cast it to DOUBLE or DECIMAL(38)"
        ) from error


def _nested_types(kind: pa.DataType) -> list[pa.DataType]:
    """Returns the type and all types inside it."""
    nested = [kind]
    for each in nested:  # grows while it is iterated
        if types.is_dictionary(each):
            nested.append(each.value_type)
        elif types.is_nested(each) and not types.is_run_end_encoded(each):
            nested.extend(each.field(index).type for index in range(each.num_fields))
    return nested


_UNSUPPORTED = (
    types.is_decimal256,
    types.is_run_end_encoded,
    types.is_union,
    lambda kind: isinstance(kind, pa.BaseExtensionType),
)
