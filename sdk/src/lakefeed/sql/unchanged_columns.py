"""Columns of a result that are columns of a table as they are, or values of one, and so have the types of the table.

DuckDB lacks some types, which travel as others (:mod:`lakefeed.sql.duckdb_types`), and the metadata that make a column
of structs one of files or a sparse one. To find out where such a column goes
the query is bound once more, over empty tables in which the column has a type of its own, an ENUM. No arithmetic gives
an ENUM, so a result of that type is made of values of the column.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa
from pyarrow import types

from lakefeed._sparse import sparse_width
from lakefeed.media import column_type
from lakefeed.sql.duckdb_types import duckdb_schema
from lakefeed.sql.query_check import walk

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

Kind: TypeAlias = tuple[pa.DataType, tuple[tuple[bytes, bytes], ...]]

MAX_TRIES = 16
"""How many columns are looked at one by one where the query cannot be bound with all of them."""

_CLAUSES: Mapping[str, Any] = {"where_clause": None, "having": None, "qualify": None, "modifiers": []}
"""The clauses of a query that do not change the types of its results."""


def restorable(kind: pa.DataType) -> bool:
    """Returns whether a type travels as another one, and a column of that can be cast back.

    Example:
        >>> restorable(pa.duration("s")), restorable(pa.list_(pa.float16())), restorable(pa.int64())
        (True, True, False)
    """
    if types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType):
        return False
    if types.is_nested(kind):
        inside = [kind.field(index).type for index in range(kind.num_fields)]
        return any(map(restorable, inside)) and not any(map(_has_dictionary, inside))
    return types.is_float16(kind) or types.is_duration(kind)


def is_marked(field: pa.Field[Any]) -> bool:
    """Returns whether metadata make a column one of files or a sparse one."""
    return bool(column_type(field)) or sparse_width(field) is not None


def restored_columns(
    connection: DuckDBPyConnection, parsed: Mapping[str, Any], tables: Mapping[str, pa.Schema], results: int
) -> list[pa.Field[Any] | None]:
    """Returns for each of the results a column whose values it has; None where that is not known.

    Args:
        connection: one that only parses; tables are made in it.
        parsed: the query, which can be bound.
        tables: the columns of each table.
        results: the number of columns of the result.
    """
    import duckdb

    fields = [field for schema in tables.values() for field in schema if restorable(field.type) or is_marked(field)]
    columns = {_kind(field): field for field in reversed(fields)}
    kinds = list(columns)
    restored: list[pa.Field[Any] | None] = [None] * results
    if not kinds:
        return restored
    for node in walk(parsed):
        if isinstance(node, dict) and node.get("type") == "SELECT_NODE":
            node.update({key: value for key, value in _CLAUSES.items() if key in node})
    try:
        rows = connection.execute("SELECT json_deserialize_sql(?::JSON)", [json.dumps(parsed)]).fetchall()
    except duckdb.Error:
        return restored
    query = str(rows[0][0])
    for index in range(len(kinds)):
        connection.execute(f"CREATE TEMP TYPE {_marker(index)} AS ENUM ('{_name(index)}')")
    chosen = [kinds, *([kind] for kind in kinds[:MAX_TRIES] if len(kinds) > 1)]
    for some in chosen:
        try:
            _make_tables(connection, tables, {kind: _marker(kinds.index(kind)) for kind in some})
            result_types = [str(kind) for kind in connection.sql(query).types]
        except duckdb.Error:
            continue
        for kind in some:
            text = f"ENUM('{_name(kinds.index(kind))}')"
            column = columns[kind]
            restored = [column if each == text else known for each, known in zip(result_types, restored, strict=True)]
        if some is kinds:
            break
    return restored


def _make_tables(connection: DuckDBPyConnection, tables: Mapping[str, pa.Schema], markers: Mapping[Kind, str]) -> None:
    for index, (name, schema) in enumerate(tables.items()):
        connection.register(f"lakefeed_{index}", duckdb_schema(schema).empty_table())
        columns = (
            f"CAST(NULL AS {markers[_kind(field)]}) AS {_quoted(field.name)}"
            if _kind(field) in markers
            else _quoted(field.name)
            for field in schema
        )
        connection.execute(
            f"CREATE OR REPLACE TEMP VIEW {_quoted(name)} AS SELECT {', '.join(columns)} FROM lakefeed_{index}"
        )


def _kind(field: pa.Field[Any]) -> Kind:
    """Returns the type of a column, with the metadata that make it one of files or a sparse one."""
    return field.type, tuple(sorted((field.metadata or {}).items())) if is_marked(field) else ()


def _has_dictionary(kind: pa.DataType) -> bool:
    inside: Iterable[pa.DataType] = ()
    if types.is_nested(kind):
        inside = (kind.field(place).type for place in range(kind.num_fields))
    return types.is_dictionary(kind) or isinstance(kind, pa.BaseExtensionType) or any(map(_has_dictionary, inside))


def _name(index: int) -> str:
    return f"lakefeed type {index}"


def _marker(index: int) -> str:
    return _quoted(_name(index))


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
