"""The Arrow types of a query's result.

DuckDB adds integers in 128 bits, which Arrow has only as decimals. Such a column is read as ``int64``, and a larger
value raises an error that advises a cast. A column with the name and the records of a file column is a file column.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed.media import column_type

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

HUGE_INTEGERS = ("HUGEINT", "UHUGEINT")


def result_schema(relation: DuckDBPyRelation, tables: Mapping[str, pa.Schema]) -> pa.Schema:
    """Returns the schema of a relation's result, without running it."""
    fields = zip(relation.limit(0).to_arrow_table().schema, relation.types, strict=True)
    whole = [field.with_type(pa.int64()) if str(kind) in HUGE_INTEGERS else field for field, kind in fields]
    files = {field.name: field for schema in tables.values() for field in schema if column_type(field)}
    return pa.schema([_restore_file_column(field, files.get(field.name)) for field in whole])


def _restore_file_column(field: pa.Field[Any], file_column: pa.Field[Any] | None) -> pa.Field[Any]:
    """Returns ``file_column`` if the field holds its records, else the field."""
    if file_column is None or not pa.types.is_struct(field.type) or field.type.names != file_column.type.names:
        return field
    return file_column.with_nullable(field.nullable)
