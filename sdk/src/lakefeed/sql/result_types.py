"""What a query's columns are as Arrow columns.

DuckDB adds up whole numbers in 128 bits, which Arrow only has as decimals. People expect whole numbers: such a column
is ``int64``, and a value beyond that is an error that says to cast. A column that is named like a file column and holds
its records is that file column.
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
    """The schema of a relation's result, without running it."""
    fields = zip(relation.limit(0).to_arrow_table().schema, relation.types, strict=True)
    whole = [field.with_type(pa.int64()) if str(kind) in HUGE_INTEGERS else field for field, kind in fields]
    files = {field.name: field for schema in tables.values() for field in schema if column_type(field)}
    return pa.schema([_restore_file_column(field, files.get(field.name)) for field in whole])


def _restore_file_column(field: pa.Field[Any], given: pa.Field[Any] | None) -> pa.Field[Any]:
    """The field as the file column ``given``, if it holds such records."""
    if given is None or not pa.types.is_struct(field.type) or field.type.names != given.type.names:
        return field
    return given.with_nullable(field.nullable)
