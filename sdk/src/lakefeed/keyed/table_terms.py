"""Terms of a table: ``table["a.b"]`` is a column, ``table[["a", "b"]]`` and ``table.select(…)`` are several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lakefeed._validate import check_column_name, is_list, list_names
from lakefeed.catalog.column_union import is_open_struct
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError
from lakefeed.expr import Term, col
from lakefeed.expr.to_text import quote_name
from lakefeed.expr.tokens import tokenize

if TYPE_CHECKING:
    import pyarrow as pa

    from lakefeed.keyed.keyed_table import Table

MARK = "@"
"""Begins the names by which the text of a term names tables: ``@photos`` is a struct with the columns of that table."""


@dataclass(frozen=True, eq=False)
class TableColumns:
    """Some columns of a table, in order.

    Attributes:
        table: the name of the table.
        paths: the columns; dots lead into structs.
    """

    table: str
    paths: tuple[str, ...]

    @classmethod
    def of(cls, table: Table, names: Any, exclude: Any = (), schema: pa.Schema | None = None) -> TableColumns:
        """Returns the columns ``names`` (none: all) without ``exclude``, of the newest version or of ``schema``.

        Raises:
            InvalidArgumentError: a list has something else than names, or no column is left.
            ColumnNotFoundError: the table lacks one of them.
        """
        schema = table.schema() if schema is None else schema
        wanted = _names(names, "select")
        left_out = _names(exclude, "exclude")
        paths = [path for name in wanted or schema.names for path in _without(schema, _known(schema, name), left_out)]
        for name in left_out:
            _known(schema, name)
        if not paths:
            raise InvalidArgumentError(f"select(exclude={list(left_out)!r:.80}) leaves no column")
        return cls(table.identifier, tuple(dict.fromkeys(paths)))


def _names(given: Any, method: str) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given) if is_list(given) else None
    if names is None or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgumentError(f"{method} takes names of columns, got {given!r:.80}")
    return names


def find_field(schema: pa.Schema, path: str) -> Any:
    """Returns the field at a path; None if there is none. A column whose name has dots comes first."""
    if path in schema.names:
        return schema.field(path)
    first, *rest = path.split(".")
    field = schema.field(first) if first in schema.names else None
    for step in rest:
        inner = {} if field is None or not is_open_struct(field) else {each.name: each for each in field.type}
        field = inner.get(step)
    return field


def _known(schema: pa.Schema, path: str) -> str:
    if find_field(schema, path) is None:
        raise ColumnNotFoundError.of(path, schema.names)
    return path


def _without(schema: pa.Schema, path: str, exclude: tuple[str, ...]) -> list[str]:
    """Returns the path, or where a part of it is left out, the paths of the other parts."""
    if path in exclude:
        return []
    if not any(each.startswith(f"{path}.") for each in exclude):
        return [path]
    inner = find_field(schema, path).type
    return [part for each in inner for part in _without(schema, f"{path}.{each.name}", exclude)]


def table_root(name: str) -> str:
    """Returns the name of a table in the text of terms."""
    return MARK + name


def table_term(name: str, path: str) -> Term:
    """Returns a column of a table as a term."""
    inner = col(check_column_name(path, "the name of a column"))
    return Term(f"{quote_name(table_root(name))}.{inner.text}", is_column=True)


def item_of(table: Table, key: Any) -> Term | TableColumns:
    """Returns what ``table[key]`` is: a column as a term for a name, several columns for a list.

    Raises:
        InvalidArgumentError: the key is neither.
    """
    if isinstance(key, str) and key:
        return table_term(table.identifier, key)
    if isinstance(key, list | tuple) and list_names(key):
        return TableColumns.of(table, key)
    raise InvalidArgumentError(f"a table takes the name of a column or a list of names in brackets, got {key!r:.80}")


def columns_of_names(
    table: Table, columns: Sequence[Any], schema: Callable[[], pa.Schema] | None = None
) -> tuple[Any, ...]:
    """Returns projections in which the names of columns are columns of the table.

    Args:
        table: the table.
        columns: the names, and projections.
        schema: returns the columns of the version that is meant; None for the newest one.
    """
    known = schema() if schema is not None and any(isinstance(each, str) for each in columns) else None
    return tuple(TableColumns.of(table, (each,), schema=known) if isinstance(each, str) else each for each in columns)


def tables_in(text: str) -> Iterator[str]:
    """Yields the names of the tables that the text of an expression names."""
    for token in tokenize(text):
        if token.kind in ("quoted", "name") and token.text.startswith(MARK):
            yield token.text.removeprefix(MARK)


def with_tables_renamed(text: str, names: Mapping[str, str]) -> str:
    """Returns the text of an expression that names tables by other names.

    Example:
        >>> with_tables_renamed("`@new`.a > 1", {"new": "old"})
        '`@old`.a > 1'
    """
    parts, end = [], 0
    for token in tokenize(text):
        name = token.text.removeprefix(MARK)
        if token.kind == "quoted" and token.text.startswith(MARK) and name in names:
            parts += [text[end : token.offset], quote_name(table_root(names[name]))]
            end = token.offset + len(quote_name(token.text))
    return "".join([*parts, text[end:]])
