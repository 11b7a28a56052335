"""Names that DuckDB takes for the same, because it ignores the case of ASCII letters."""

from __future__ import annotations

import string
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import pyarrow as pa

from lakefeed.errors import ExpressionError, quoted_list
from lakefeed.sql.query_check import walk

ASCII_FOLDING = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)

PLACEHOLDER = pa.field("(no column)", pa.null())


def fold(name: str) -> str:
    """Returns the name as DuckDB compares it.

    Example:
        >>> fold("Größe"), fold("GRÖSSE")
        ('größe', 'grÖsse')
    """
    return name.translate(ASCII_FOLDING)


def case_collisions(names: Iterable[str]) -> list[list[str]]:
    """Returns the groups of names that differ only in case.

    Example:
        >>> case_collisions(["ID", "x", "id"])
        [['ID', 'id']]
    """
    by_fold: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_fold[fold(name)].append(name)
    return [group for group in by_fold.values() if len(group) > 1]


def ambiguous_columns(schema: pa.Schema) -> dict[str, list[str]]:
    """Returns the columns that SQL cannot name, each with the colliding names of columns or nested fields."""
    collisions = {name: group for group in case_collisions(schema.names) for name in group}
    for field in schema:
        if field.name not in collisions and (nested := _collisions_inside(field.type)):
            collisions[field.name] = nested
    return collisions


def unambiguous_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the columns that SQL can name.

    It is `PLACEHOLDER` where there are none, because a table must have columns.
    """
    ambiguous = ambiguous_columns(schema)
    if not ambiguous and schema.names:
        return schema
    return pa.schema([field for field in schema if field.name not in ambiguous] or [PLACEHOLDER])


def require_unambiguous(tables: Mapping[str, pa.Schema], named: frozenset[str] | None, advice: str) -> None:
    """Checks that SQL can name all columns in ``named`` (lower case; None: all columns).

    Raises:
        ExpressionError: names differ only in case; the message names them.
    """
    for table, schema in tables.items():
        for column, group in ambiguous_columns(schema).items():
            if named is None or column.lower() in named:
                raise ExpressionError(
                    f"{quoted_list(group)} of table {table!r} differ only in case, which SQL does not distinguish; it "
                    f"would read one for the other. {advice}"
                )


def require_unambiguous_results(parsed: Mapping[str, Any], tables: Mapping[str, Iterable[str]]) -> None:
    """Checks that no part of the parsed query gives two results names that differ only in case.

    Raises:
        ExpressionError: two results collide, so another part of the query could read only the first of them.
    """
    known = [name for names in tables.values() for name in names]
    whole = parsed["statements"][0]["node"]
    for node in walk(parsed):
        for names in (_result_names(node, () if node is whole else known), *_alias_lists(node)):
            group = next((group for group in case_collisions(names) if len(set(group)) > 1), None)
            if group is not None:
                raise ExpressionError(
                    f"the query has result columns {quoted_list(group)}, which differ only in case; SQL does not "
                    "distinguish them. Give one of them another name: SELECT … AS name"
                )


def _result_names(node: Mapping[str, Any], by_star: Iterable[str]) -> list[str]:
    """Returns the names of the columns of a SELECT; ``by_star`` are the columns of a star."""
    names: list[str] = []
    for item in node.get("select_list") or ():
        if item["class"] == "STAR":
            names.extend(by_star)
        elif item.get("alias") or item["class"] == "COLUMN_REF":
            names.append(str(item.get("alias") or item["column_names"][-1]))
    return names


def _alias_lists(node: Mapping[str, Any]) -> Iterator[list[str]]:
    """Yields the names in ``AS table(name, …)`` and ``WITH table(name, …)``."""
    for key in ("aliases", "column_name_alias"):
        aliases = node.get(key)
        if isinstance(aliases, list):
            yield [str(name) for name in aliases]


def _collisions_inside(kind: pa.DataType) -> list[str]:
    stack = [kind]
    while stack:
        data_type = stack.pop()
        if isinstance(data_type, pa.DictionaryType):
            stack.append(data_type.value_type)
            continue
        fields = [data_type.field(index) for index in range(data_type.num_fields)]
        if isinstance(data_type, pa.StructType) and (groups := case_collisions(field.name for field in fields)):
            return groups[0]
        stack.extend(field.type for field in fields)
    return []
