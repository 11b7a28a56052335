"""Projections: the columns of a scan as a tree of values over one or several tables.

A value is a term, or one of the nodes here. A tree of values is a mapping of names to values and to such trees; an
inner tree is a struct.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import pyarrow as pa

from lakefeed._validate import check_data_type, check_flag, check_text
from lakefeed.catalog.column_union import is_open_struct
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, SchemaError
from lakefeed.expr import Term, lit
from lakefeed.expr.to_text import quote_name
from lakefeed.expr.tokens import tokenize
from lakefeed.keyed.table_terms import MARK, TableColumns, table_term, tables_in, with_tables_renamed


@dataclass(frozen=True, eq=False)
class Cast:
    """A value as another type; a value that does not fit is an error."""

    value: Value
    type: pa.DataType

    def __post_init__(self) -> None:
        check_data_type(self.type)


@dataclass(frozen=True, eq=False)
class Call:
    """A function of the user over columns of a batch: it takes Arrow arrays and returns one of ``type``.

    ``type`` may be a function of the types of the arguments. ``reference`` is "module:name" of the function, if it can
    be found there.
    """

    function: Callable[..., Any]
    arguments: tuple[Value, ...]
    type: pa.DataType | Callable[..., pa.DataType]
    reference: str = ""


@dataclass(frozen=True, eq=False)
class Fetch:
    """The contents of files at URLs or paths, as bytes; null for a null, or for a failure unless it aborts."""

    value: Value
    abort_on_error: bool = False

    def __post_init__(self) -> None:
        check_flag(self.abort_on_error, "abort_on_error")


@dataclass(frozen=True, eq=False)
class Aux:
    """A column of the table of keys by which rows are taken."""

    name: str
    type: pa.DataType

    def __post_init__(self) -> None:
        check_text(self.name, "name")
        check_data_type(self.type)


@dataclass(frozen=True, eq=False)
class Named:
    """A value with a name."""

    value: Value
    name: str


@dataclass(frozen=True, eq=False)
class Merged:
    """The columns of several projections; of one name the last one counts."""

    projections: tuple[Any, ...]


@dataclass(frozen=True, eq=False)
class Selected:
    """Some columns of a projection."""

    projection: Any
    names: tuple[str, ...]
    exclude: tuple[str, ...]


Value: TypeAlias = Term | Cast | Call | Fetch | Aux
Tree: TypeAlias = dict[str, Any]
"""Names to values, or to inner trees."""


def to_value(given: Any) -> Value:
    """Returns a value; plain values of Python are literals.

    Raises:
        InvalidArgumentError: it is none.
    """
    if isinstance(given, Term | Cast | Call | Fetch | Aux):
        return given
    if isinstance(given, Named):
        return given.value
    return lit(given)


def _is_table(given: Any) -> bool:
    return hasattr(given, "identifier") and hasattr(given, "key_schema")


def table_names(projection: Any) -> Iterator[str]:
    """Yields the names of the tables of a projection, in order, with repetitions.

    Raises:
        InvalidArgumentError: it is not a projection.
    """
    match projection:
        case Term():
            yield from tables_in(projection.text)
        case TableColumns():
            yield projection.table
        case Aux():
            return
        case Cast() | Fetch() | Named():
            yield from table_names(projection.value)
        case Call():
            for each in projection.arguments:
                yield from table_names(each)
        case Merged():
            for each in projection.projections:
                yield from table_names(each)
        case Selected():
            yield from table_names(projection.projection)
        case Mapping():
            for each in projection.values():
                yield from table_names(each) if _is_projection(each) else table_names(to_value(each))
        case _ if _is_table(projection):
            yield projection.identifier
        case _:
            raise InvalidArgumentError(
                "a projection is a table, columns of one such as table[['a', 'b']], a term, or a mapping of names to "
                f"terms; got {projection!r:.80}"
            )


def _is_projection(given: Any) -> bool:
    kinds = (Term, TableColumns, Aux, Cast, Fetch, Named, Call, Merged, Selected, Mapping)
    return isinstance(given, kinds) or _is_table(given)


def merged_tree(projections: Sequence[Any], schemas: Mapping[str, pa.Schema]) -> Tree:
    """Returns the tree of values of several projections.

    Args:
        projections: the projections.
        schemas: the columns of their tables.

    Raises:
        InvalidArgumentError: a value has no name.
        ColumnNotFoundError: a table lacks a column.
    """
    tree: Tree = {}
    for projection in projections:
        _merge(tree, _tree(projection, schemas))
    return tree


def _merge(tree: Tree, other: Tree) -> None:
    for name, value in other.items():
        if isinstance(value, dict) and isinstance(tree.get(name), dict):
            _merge(tree[name], value)
        else:
            tree[name] = value


def _tree(projection: Any, schemas: Mapping[str, pa.Schema]) -> Tree:
    match projection:
        case Term():
            return _placed(last_name(projection), projection)
        case Named():
            return _placed(projection.name, projection.value)
        case Aux():
            return {projection.name: projection}
        case TableColumns():
            tree: Tree = {}
            for path in projection.paths:
                exact = path in schemas[projection.table].names
                term = _column(projection.table, path, exact)
                _merge(tree, {path: term} if exact else _placed(path, term))
            return tree
        case Merged():
            return merged_tree(projection.projections, schemas)
        case Selected():
            return _selected(_tree(projection.projection, schemas), projection, schemas)
        case Mapping():
            tree = {}
            for name, value in projection.items():
                inner = _is_projection(value) and not isinstance(value, Term | Cast | Fetch | Call | Aux | Named)
                _merge(tree, _placed(_name(name), _tree(value, schemas) if inner else to_value(value)))
            return tree
        case _ if _is_table(projection):
            name = projection.identifier
            return {column: _column(name, column, True) for column in schemas[name].names}
        case _:
            raise InvalidArgumentError(f"give the value a name: {{'name': …}}, for {projection!r:.80}")


def _column(table: str, path: str, exact: bool) -> Term:
    return table_term(table, f"`{path.replace('`', '``')}`" if exact else path)


def _name(name: Any) -> str:
    if not isinstance(name, str) or not all(name.split(".")):
        raise InvalidArgumentError(f"the name of a column must be text, got {name!r:.80}")
    return name


def _placed(path: str, value: Any) -> Tree:
    *above, leaf = path.split(".")
    tree: Tree = {leaf: value}
    for step in reversed(above):
        tree = {step: tree}
    return tree


def last_name(term: Term) -> str:
    """Returns the name of the column that a term is.

    Raises:
        InvalidArgumentError: it is not a column.
    """
    names = [token.text for token in tokenize(term.text) if token.kind in ("name", "quoted", "word")]
    if not term.is_column or "[" in term.text or not names or names[-1].startswith(MARK):
        raise InvalidArgumentError(f"`{term.text}` is not a column; give it a name: {{'name': …}}")
    return names[-1]


def _selected(tree: Tree, selection: Selected, schemas: Mapping[str, pa.Schema]) -> Tree:
    selected: Tree = {} if selection.names else _copied(tree)
    for name in selection.names:
        _merge(selected, _placed(name, _at(tree, name, schemas)))
    for name in selection.exclude:
        _at(tree, name, schemas)
        _remove(selected, name.split("."), schemas)
    if not selected:
        raise InvalidArgumentError(f"exclude={list(selection.exclude)} leaves no column")
    return selected


def _copied(tree: Tree) -> Tree:
    return {name: _copied(value) if isinstance(value, dict) else value for name, value in tree.items()}


def _at(tree: Tree, path: str, schemas: Mapping[str, pa.Schema]) -> Any:
    value: Any = tree
    for step in path.split("."):
        inner = _fields(value, schemas)
        if inner is None or step not in inner:
            raise ColumnNotFoundError.of(path, list(tree))
        value = inner[step]
    return value


def _remove(tree: Tree, path: list[str], schemas: Mapping[str, pa.Schema]) -> None:
    *above, leaf = path
    for step in above:
        inner = _fields(tree.get(step), schemas)
        if inner is None:
            return  # it was not selected
        tree[step] = dict(inner)
        tree = tree[step]
    tree.pop(leaf, None)


def _fields(value: Any, schemas: Mapping[str, pa.Schema]) -> Tree | None:
    """Returns the fields of a value that is a struct as a tree; None for other values."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, Term) or not value.is_column or "[" in value.text:
        return None
    root, *steps = [token.text for token in tokenize(value.text) if token.kind in ("name", "quoted", "word")]
    fields: Any = schemas.get(root.removeprefix(MARK), ())
    for step in steps:
        field = next((each for each in fields if each.name == step), None)
        if field is None or not is_open_struct(field):
            return None
        fields = field.type
    return {each.name: Term(f"{value.text}.{quote_name(each.name)}", is_column=True) for each in fields}


def with_tree_renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    """Returns a tree of values whose terms name tables by other names."""
    return {name: _renamed(value, names) for name, value in tree.items()} if names else tree


def _renamed(value: Any, names: Mapping[str, str]) -> Any:
    match value:
        case dict():
            return with_tree_renamed(value, names)
        case Term():
            return replace(value, text=with_tables_renamed(value.text, names))
        case Cast() | Fetch():
            return replace(value, value=_renamed(value.value, names))
        case Call():
            return replace(value, arguments=tuple(_renamed(each, names) for each in value.arguments))
    return value


def check_names(tree: Tree) -> None:
    """Checks that a scan has columns.

    Raises:
        SchemaError: it has none.
    """
    if not tree:
        raise SchemaError("the projections have no columns; give at least one")


def has_functions(tree: Tree) -> bool:
    """Returns whether a column calls a function of the user, loads files, or is of a table of keys."""
    return any(isinstance(value, Call | Fetch | Aux) for value in _values(tree))


def aux_columns(tree: Tree) -> dict[str, pa.DataType]:
    """Returns the columns of the table of keys that values need."""
    return {value.name: value.type for value in _values(tree) if isinstance(value, Aux)}


def _values(value: Any) -> Iterator[Any]:
    """Yields a value and those that it is made of."""
    match value:
        case dict():
            for each in value.values():
                yield from _values(each)
        case Call():
            yield value
            for each in value.arguments:
                yield from _values(each)
        case Cast() | Fetch():
            yield value
            yield from _values(value.value)
        case _:
            yield value
