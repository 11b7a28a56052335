"""Arrow columns on their way into DuckDB and back: types that it lacks travel as others."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyarrow import types

from lakefeed.errors import ExpressionError, TypeMismatchError
from lakefeed.plan.equality import encoded


def duckdb_schema(schema: pa.Schema) -> pa.Schema:
    """The schema that DuckDB is given: half floats as floats, durations as whole numbers of their unit."""
    return pa.schema([field.with_type(duckdb_type(field.type)) for field in schema])


def duckdb_type(kind: pa.DataType) -> pa.DataType:
    """The type as which a column travels."""
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
    """The column for telling which values are equal; DuckDB's own answer for nested ones differs (NaN in a list)."""
    if isinstance(column, pa.ExtensionArray):
        return to_comparable(column.storage)
    return encoded(column) if _needs_encoding(column.type) else column


def comparable_type(kind: pa.DataType) -> pa.DataType:
    """The type of such a column."""
    if isinstance(kind, pa.BaseExtensionType):
        return comparable_type(kind.storage_type)
    return pa.large_binary() if _needs_encoding(kind) else kind


def _needs_encoding(kind: pa.DataType) -> bool:
    return types.is_nested(kind) or types.is_null(kind)


def require_supported(schema: pa.Schema, what: str) -> None:
    """Raises TypeMismatchError for a column that cannot travel."""
    for field in schema:
        if any(test(inner) for inner in _nested_types(field.type) for test in _UNSUPPORTED):
            raise TypeMismatchError(
                f"{what} cannot carry column {field.name!r}, which is {field.type}; map it to another type first"
            )


def cast_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch as ``schema`` has it; raises as `cast_column`."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = [cast_column(column, field) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def cast_column(column: pa.Array[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    """The column as ``field`` has it.

    Raises:
        ExpressionError: a value that does not fit.
    """
    if column.type == field.type:
        return column
    try:
        if types.is_dictionary(field.type) and not types.is_dictionary(column.type):
            column = column.cast(field.type.value_type).dictionary_encode()
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise ExpressionError(
            f"column {field.name!r} holds a value that {field.type} cannot: {error}. Cast it to DOUBLE or DECIMAL(38)"
        ) from error


def _nested_types(kind: pa.DataType) -> list[pa.DataType]:
    """The type and those inside it."""
    found, index = [kind], 0
    while index < len(found):
        each = found[index]
        index += 1
        if types.is_dictionary(each):
            found.append(each.value_type)
        elif types.is_nested(each) and not types.is_run_end_encoded(each):
            found.extend(each.field(place).type for place in range(each.num_fields))
    return found


_UNSUPPORTED = (
    types.is_decimal256,
    types.is_run_end_encoded,
    types.is_union,
    lambda kind: isinstance(kind, pa.BaseExtensionType),
)
