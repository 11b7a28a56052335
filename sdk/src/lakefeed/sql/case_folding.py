"""Names that DuckDB takes for one: it does not tell capitals from small letters (of ASCII; others it does)."""

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
    """The name as DuckDB compares it.

    Example:
        >>> fold("Größe"), fold("GRÖSSE")
        ('größe', 'grÖsse')
    """
    return name.translate(ASCII_FOLDING)


def case_collisions(names: Iterable[str]) -> list[list[str]]:
    """The names that differ only in case, put together.

    Example:
        >>> case_collisions(["ID", "x", "id"])
        [['ID', 'id']]
    """
    by_fold: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_fold[fold(name)].append(name)
    return [group for group in by_fold.values() if len(group) > 1]


def ambiguous_columns(schema: pa.Schema) -> dict[str, list[str]]:
    """The columns that SQL cannot name, and the names (of columns, or of fields inside) that are alike."""
    found = {name: group for group in case_collisions(schema.names) for name in group}
    for field in schema:
        if field.name not in found and (inside := _collisions_inside(field.type)):
            found[field.name] = inside
    return found


def unambiguous_schema(schema: pa.Schema) -> pa.Schema:
    """The columns that SQL can name; `PLACEHOLDER` where there are none, because a table has columns."""
    left_out = ambiguous_columns(schema)
    if not left_out and schema.names:
        return schema
    return pa.schema([field for field in schema if field.name not in left_out] or [PLACEHOLDER])


def require_unambiguous(tables: Mapping[str, pa.Schema], named: frozenset[str] | None, advice: str) -> None:
    """Passes where no column that is ``named`` (lower case; None: all) is one that SQL cannot name.

    Raises:
        ExpressionError: with the names that are alike.
    """
    for table, schema in tables.items():
        for column, group in ambiguous_columns(schema).items():
            if named is None or column.lower() in named:
                raise ExpressionError(
                    f"{quoted_list(group)} of table {table!r} differ only in capital letters, which SQL does not tell "
                    f"apart: it would read one for the other. {advice}"
                )


def require_unambiguous_results(parsed: Mapping[str, Any], tables: Mapping[str, Iterable[str]]) -> None:
    """Passes where the parsed query gives no two results, here or in a part of it, names that are alike.

    Raises:
        ExpressionError: with the names: another part of the query could only read the first of them.
    """
    known = [name for names in tables.values() for name in names]
    whole = parsed["statements"][0]["node"]
    for node in walk(parsed):
        for given in (_result_names(node, () if node is whole else known), *_alias_lists(node)):
            group = next((group for group in case_collisions(given) if len(set(group)) > 1), None)
            if group is not None:
                raise ExpressionError(
                    f"the query calls columns {quoted_list(group)}, which differ only in capital letters: SQL does not "
                    "tell them apart. Give one of them another name: SELECT … AS name"
                )


def _result_names(node: Mapping[str, Any], by_star: Iterable[str]) -> list[str]:
    """The names of the columns of a SELECT; a star stands for ``by_star``."""
    names: list[str] = []
    for item in node.get("select_list") or ():
        if item["class"] == "STAR":
            names.extend(by_star)
        elif item.get("alias") or item["class"] == "COLUMN_REF":
            names.append(str(item.get("alias") or item["column_names"][-1]))
    return names


def _alias_lists(node: Mapping[str, Any]) -> Iterator[list[str]]:
    """The names that ``AS table(name, …)`` and ``WITH table(name, …)`` give."""
    for key in ("aliases", "column_name_alias"):
        given = node.get(key)
        if isinstance(given, list):
            yield [str(name) for name in given]


def _collisions_inside(kind: pa.DataType) -> list[str]:
    inside = [kind]
    while inside:
        one = inside.pop()
        if isinstance(one, pa.DictionaryType):
            inside.append(one.value_type)
            continue
        fields = [one.field(place) for place in range(one.num_fields)]
        if isinstance(one, pa.StructType) and (groups := case_collisions(field.name for field in fields)):
            return groups[0]
        inside.extend(field.type for field in fields)
    return []
