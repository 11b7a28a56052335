"""What a query may say: one SELECT over the given tables.

DuckDB's own lock keeps a connection from files, network, extensions, settings and Python variables, but leaves its
temporary directory open to ``read_blob`` and its like, and lets a query look at settings and catalogs. So the parsed
query is checked first: every table must be given (or defined in the query), every table function must be one that
only makes rows of its arguments, and functions that look at the session are refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lakefeed.config import Settings
from lakefeed.errors import ExpressionError, UnsupportedError, listed
from lakefeed.sql.connection import connected

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TABLE_FUNCTIONS = frozenset(
    {"generate_series", "generate_subscripts", "json_each", "json_tree", "range", "regexp_split_to_table", "repeat",
     "repeat_row", "unnest"}
)  # fmt: skip
SESSION_FUNCTIONS = frozenset(
    {"checkpoint", "current_catalog", "current_connection_id", "current_database", "current_query", "current_query_id",
     "current_role", "current_schema", "current_schemas", "current_setting", "current_transaction_id", "current_user",
     "currval", "getenv", "getvariable", "in_search_path", "json_execute_serialized_sql", "nextval",
     "parse_duckdb_log_message", "session_user", "setval", "sleep_ms", "stats", "txid_current", "user", "version",
     "write_log"}
)  # fmt: skip
SESSION_PREFIXES = ("pg_", "duckdb_", "inet_", "has_", "pragma_")


def checked(settings: Settings, query: str, tables: Collection[str]) -> dict[str, Any]:
    """The parsed query, if it is one SELECT that touches nothing but ``tables``; see `check_query`."""
    with connected(settings) as connection:
        return check_query(connection, query, tables)


def check_query(connection: DuckDBPyConnection, query: str, tables: Collection[str]) -> dict[str, Any]:
    """The parsed query, if it is one SELECT that touches nothing but ``tables``.

    Raises:
        ExpressionError: it cannot be parsed, is no single SELECT, or names a table that is not given.
        UnsupportedError: it reaches for files, settings or the session.
    """
    if not isinstance(query, str):
        raise ExpressionError(f"a query is text, not {type(query).__name__}")
    row = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchone()
    assert row is not None
    parsed: dict[str, Any] = json.loads(row[0])
    if parsed["error"]:
        raise ExpressionError(f"this is no SELECT that can be run: {parsed.get('error_message', 'empty')}\n  {query}")
    if len(parsed["statements"]) != 1:
        raise ExpressionError(f"give one SELECT, not {len(parsed['statements'])} statements")
    known = {name.lower() for name in tables}
    defined = {name.lower() for node in walk(parsed) for name in _defined(node)}
    for node in walk(parsed):
        _check_node(node, known | defined, tables)
    return parsed


def walk(parsed: Any) -> Iterator[Mapping[str, Any]]:
    """Every object of the parsed query."""
    stack = [parsed]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            yield item
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)


def _defined(node: Mapping[str, Any]) -> Iterator[str]:
    """Names that a WITH gives to its parts."""
    entries = node.get("cte_map")
    for entry in entries.get("map", []) if isinstance(entries, dict) else []:
        yield str(entry["key"])
    if node.get("type") == "RECURSIVE_CTE_NODE":
        yield str(node.get("cte_name", ""))


def _check_node(node: Mapping[str, Any], known: Collection[str], tables: Collection[str]) -> None:
    kind = node.get("type")
    if kind == "BASE_TABLE":
        name = str(node.get("table_name", ""))
        if name.lower() not in known or node.get("schema_name") or node.get("catalog_name"):
            full = ".".join(filter(None, (node.get("catalog_name"), node.get("schema_name"), name)))
            raise ExpressionError(f"no table {full!r}; the tables of this query are {listed(tables)}")
    elif kind == "TABLE_FUNCTION":
        name = str(node.get("function", {}).get("function_name", ""))
        if name.lower() not in TABLE_FUNCTIONS:
            raise UnsupportedError(
                f"{name}() cannot be used in a query over datasets: it reads files or the session. The table "
                f"functions are {listed(sorted(TABLE_FUNCTIONS), most=20)}"
            )
    elif kind == "SHOW_REF":
        raise UnsupportedError("SHOW, DESCRIBE and SUMMARIZE are not available here; use Dataset.schema")
    elif "function_name" in node:
        name = str(node["function_name"]).lower()
        if name in SESSION_FUNCTIONS or name.startswith(SESSION_PREFIXES):
            raise UnsupportedError(f"{name}() cannot be used in a query over datasets: it looks at the session")


def columns_named(parsed: Any) -> frozenset[str] | None:
    """Every identifier that may be a column (lower case), or None where a star asks for all."""
    names: set[str] = set()
    for node in walk(parsed):
        if node.get("class") == "STAR" or node.get("type") in ("STAR", "COLUMNS"):
            return None
        if node.get("class") == "COLUMN_REF":
            names |= {str(part).lower() for part in node["column_names"]}
        for using in node.get("using_columns") or []:
            names.add(str(using).lower())
        if node.get("ref_type") == "NATURAL":
            return None
    return frozenset(names)
