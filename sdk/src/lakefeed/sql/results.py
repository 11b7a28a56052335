"""What a query's columns are as Arrow columns.

DuckDB adds up whole numbers in 128 bits, which Arrow only has as decimals. People expect whole numbers: such a column
is ``int64``, and a value beyond that is an error that says to cast. A column that is named like a file column and holds
its records is that file column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed.errors import ExpressionError
from lakefeed.media import column_type

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

HUGE = ("HUGEINT", "UHUGEINT")


def result_schema(relation: DuckDBPyRelation, tables: Mapping[str, pa.Schema]) -> pa.Schema:
    """The schema of a relation's result, without running it."""
    fields = zip(relation.limit(0).to_arrow_table().schema, relation.types, strict=True)
    whole = [field.with_type(pa.int64()) if str(kind) in HUGE else field for field, kind in fields]
    files = {field.name: field for schema in tables.values() for field in schema if column_type(field)}
    return pa.schema([_marked(field, files.get(field.name)) for field in whole])


def delivered(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """The batch as ``schema`` has it.

    Raises:
        ExpressionError: a whole number that does not fit.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = [_cast(column, field) for column, field in zip(batch.columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast(column: pa.Array[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    try:
        return column if column.type == field.type else column.cast(field.type)
    except pa.ArrowInvalid as error:
        raise ExpressionError(
            f"column {field.name!r} of this query holds a value that {field.type} cannot: {error}. Cast it in the "
            "query, to DOUBLE or DECIMAL(38, 0)"
        ) from error


def _marked(field: pa.Field[Any], given: pa.Field[Any] | None) -> pa.Field[Any]:
    """The field as the file column ``given``, if it holds such records."""
    if given is None or not pa.types.is_struct(field.type) or field.type.names != given.type.names:
        return field
    return field.with_type(given.type).with_metadata(given.metadata)
