"""The Arrow types of a query's result.

DuckDB adds integers in 128 bits, which Arrow has only as decimals. Such a column is read as ``int64``, and a larger
value raises an error that advises a cast. A column with the name and the records of a file column is a file column, and
one with the name and the fields of a sparse column is that sparse column; so is a result that has its values under
another name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._sparse import is_sparse_type, sparse_width
from lakefeed.sql.unchanged_columns import is_marked

if TYPE_CHECKING:
    from duckdb import DuckDBPyRelation

HUGE_INTEGERS = ("HUGEINT", "UHUGEINT")


def result_schema(relation: DuckDBPyRelation, tables: Mapping[str, pa.Schema]) -> pa.Schema:
    """Returns the schema of a relation's result, without running it."""
    fields = zip(relation.limit(0).to_arrow_table().schema, relation.types, strict=True)
    whole = [field.with_type(pa.int64()) if str(kind) in HUGE_INTEGERS else field for field, kind in fields]
    marked: dict[str, pa.Field[Any] | None] = {}
    for field in (each for schema in tables.values() for each in schema if is_marked(each)):
        same = marked.setdefault(field.name, field)
        if same is not None and not same.equals(field.with_nullable(same.nullable), check_metadata=True):
            marked[field.name] = None  # the name does not tell
    return pa.schema([_restore_by_name(field, marked.get(field.name)) for field in whole])


def restore_column(field: pa.Field[Any], column: pa.Field[Any] | None) -> pa.Field[Any]:
    """Returns the field of a result in the type of a column whose values it has; the field itself without a column."""
    if column is None:
        return field
    typed = field.with_type(column.type)
    metadata: dict[bytes | str, bytes | str] = dict((column.metadata or {}).items())
    return typed.with_metadata(metadata) if is_marked(column) else typed


def _restore_by_name(field: pa.Field[Any], column: pa.Field[Any] | None) -> pa.Field[Any]:
    """Returns ``column``, of files or sparse, if the field holds structs of the same fields, else the field."""
    if column is None or not pa.types.is_struct(field.type) or field.type.names != column.type.names:
        return field
    if sparse_width(column) is not None and not is_sparse_type(field.type):
        return field
    return column.with_nullable(field.nullable)
