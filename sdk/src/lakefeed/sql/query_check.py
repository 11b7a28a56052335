"""The check of parsed queries: one SELECT over the tables of the query.

DuckDB's own lock keeps a connection from files, network, extensions, settings and Python variables. But it leaves its
temporary directory open to functions such as ``read_blob``, and lets a query read settings and catalogs. So the parsed
query is checked before anything is bound. Every table must be one of the query's tables or defined by an enclosing
WITH. Every function must be in :mod:`lakefeed.sql.allowed_functions`. Every other node must have a known kind.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Collection, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from lakefeed.errors import ExpressionError, UnsupportedError, quoted_list
from lakefeed.sql.allowed_functions import CALLABLE, TABLE_FUNCTIONS

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

QUERIES = frozenset({"SELECT_NODE", "SET_OPERATION_NODE", "RECURSIVE_CTE_NODE", "CTE_NODE"})
RELATIONS = frozenset({"BASE_TABLE", "EMPTY", "EXPRESSION_LIST", "JOIN", "PIVOT", "SUBQUERY", "TABLE_FUNCTION"})
EXPRESSIONS = frozenset(
    {"BETWEEN", "CASE", "CAST", "COLLATE", "COLUMN_REF", "COMPARISON", "CONJUNCTION", "CONSTANT", "FUNCTION", "LAMBDA",
     "LAMBDA_REF", "OPERATOR", "POSITIONAL_REFERENCE", "STAR", "SUBQUERY", "TYPE", "WINDOW"}
)  # fmt: skip
# These names are calls, unless a column has the name.
CALLS_WITHOUT_PARENTHESES = frozenset(
    {"current_catalog", "current_date", "current_localtime", "current_localtimestamp", "current_role",
     "current_schema", "current_time", "current_timestamp", "current_user", "localtime", "localtimestamp",
     "session_user", "user"}
)  # fmt: skip
Names = frozenset[str]


def parse_query(connection: DuckDBPyConnection, query: str, tables: Mapping[str, Collection[str]]) -> dict[str, Any]:
    """Returns the parsed query, if it is one SELECT that reads only ``tables`` (names, each with its columns).

    The query is not bound or run, so nothing that it names is opened.

    Raises:
        ExpressionError: the query has a syntax error, is not one SELECT, or names an unknown table.
        UnsupportedError: the query uses files, settings, the session or the clock.
    """
    if not isinstance(query, str):
        raise ExpressionError(f"query must be text, got {type(query).__name__}")
    parsed = _parse(connection, query)
    columns = frozenset(column.lower() for names in tables.values() for column in names)
    known = frozenset(name.lower() for name in tables)
    for node, visible in _walk_scopes(parsed, known):
        _check_node(node, visible, columns, tables)
    return parsed


def walk(parsed: Any) -> Iterator[Mapping[str, Any]]:
    """Yields every object of the parsed query."""
    return (node for node, _ in _walk_scopes(parsed, frozenset()))


def _parse(connection: DuckDBPyConnection, query: str) -> dict[str, Any]:
    import duckdb

    try:
        (row,) = connection.execute("SELECT json_serialize_sql(?)", [query]).fetchall()
    except (duckdb.Error, UnicodeError) as error:
        raise ExpressionError(f"the query cannot be parsed: {error}") from None
    parsed: dict[str, Any] = json.loads(row[0])
    if parsed["error"]:
        raise ExpressionError(_syntax_message(parsed, query))
    if len(parsed["statements"]) != 1:
        raise ExpressionError(f"a query must be one SELECT, got {len(parsed['statements'])} statements")
    return parsed


def _syntax_message(parsed: Mapping[str, Any], query: str) -> str:
    if parsed.get("error_type") != "parser":
        return f"a query over datasets must be one SELECT, got:\n  {query}"
    message = f"the query cannot be parsed: {parsed['error_message']}"
    offset = str(parsed.get("position", ""))
    if not offset.isdigit() or "\n" in query:
        return f"{message}\n  {query}"
    return f"{message}\n  {query}\n  {' ' * int(offset)}^"


def _walk_scopes(parsed: Any, known: Names) -> Iterator[tuple[Mapping[str, Any], Names]]:
    """Yields every object with the names of the tables that are visible to it."""
    stack = [(parsed, known)]
    while stack:
        item, visible = stack.pop()
        if isinstance(item, list):
            stack.extend((part, visible) for part in item)
        elif isinstance(item, dict):
            yield item, visible
            inside = visible
            for entry in (item.get("cte_map") or {}).get("map", []):
                # Each part of a WITH sees those before it, and itself only where it is recursive.
                own = frozenset({str(entry["key"]).lower()})
                recursive = entry["value"]["query_node"].get("type") == "RECURSIVE_CTE_NODE"
                stack.append((entry["value"], inside | own if recursive else inside))
                inside |= own
            stack.extend((part, inside) for name, part in item.items() if name != "cte_map")


def _check_node(node: Mapping[str, Any], visible: Names, columns: Names, tables: Collection[str]) -> None:
    kind = str(node.get("type"))
    if "class" in node:
        _require_known(str(node["class"]) in EXPRESSIONS, str(node["class"]))
        if node["class"] == "COLUMN_REF":
            _check_name(node["column_names"], columns)
    elif "cte_map" in node:
        _require_known(kind in QUERIES, kind)
    elif "sample" in node:
        _require_known(kind in RELATIONS, kind)
        if kind == "BASE_TABLE":
            _check_table(node, visible, tables)
        elif kind == "TABLE_FUNCTION":
            _check_function(str(node["function"].get("function_name", "")), TABLE_FUNCTIONS, "table functions")
    if "function_name" in node:
        _check_function(str(node["function_name"]), CALLABLE | TABLE_FUNCTIONS, "functions")
    sample = node.get("sample")
    if sample is not None and not sample.get("repeatable"):
        raise UnsupportedError(
            "a sample without a seed differs in every read; add REPEATABLE (1), or use Dataset.sample"
        )


def _check_name(names: list[str], columns: Names) -> None:
    name = names[0].lower()
    if len(names) == 1 and name in CALLS_WITHOUT_PARENTHESES and name not in columns:
        raise UnsupportedError(
            f"{name} is not a column, and the function of that name cannot be used in a query over datasets: it "
            "differs in every read or depends on the session; write the value"
        )


def _check_table(node: Mapping[str, Any], visible: Names, tables: Collection[str]) -> None:
    name = str(node.get("table_name", ""))
    path = node.get("qualified_name", {}).get("path", [name])
    if path != [name] or name.lower() not in visible or node.get("at_clause"):
        raise ExpressionError(f"unknown table {'.'.join(path)!r}; the tables of this query are {quoted_list(tables)}")


def _check_function(name: str, allowed: Names, category: str) -> None:
    if name.lower() in allowed:
        return
    near = difflib.get_close_matches(name.lower(), allowed, n=3)
    hint = f" Did you mean {quoted_list(near)}?" if near else ""
    raise UnsupportedError(
        f"{name}() cannot be used in a query over datasets: it is not one of the {category} that read only the "
        f"query's rows and always give the same result.{hint}"
    )


def _require_known(known: bool, kind: str) -> None:
    if not known:
        hint = "; use Dataset.schema" if kind == "SHOW_REF" else ""
        raise UnsupportedError(f"{kind.lower().replace('_', ' ')} is not available in a query over datasets{hint}")


def referenced_columns(parsed: Any, tables: Collection[str]) -> frozenset[str] | None:
    """Returns all texts that may name a column (lower case), or None if the query may read any column.

    That is the case for a star, a natural join, a pivot, columns by position, and a table used as a value.
    """
    names: set[str] = set()
    unqualified: set[str] = set()
    relations = {table.lower() for table in tables}
    for node in walk(parsed):
        if node.get("class") == "STAR" or node.get("ref_type") == "NATURAL" or node.get("type") == "PIVOT":
            return None
        if node.get("column_name_alias"):
            return None
        if node.get("class") == "COLUMN_REF" and len(node["column_names"]) == 1:
            unqualified.add(str(node["column_names"][0]).lower())
        if "sample" in node and "cte_map" not in node:
            relations.add(str(node.get("alias", "")).lower())
        names.update(text.lower() for text in _strings(node))
    return frozenset(names) if unqualified.isdisjoint(relations) else None


def _strings(node: Mapping[str, Any] | list[Any]) -> Iterator[str]:
    """Yields every text of an object that is not in a nested object."""
    for value in node if isinstance(node, list) else node.values():
        if isinstance(value, str):
            yield value
        elif isinstance(value, list):
            yield from _strings(value)
