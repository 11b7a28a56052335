"""The expression tree: a closed union of frozen, typed values.

Every node knows the Arrow type of its value, so the lowerings need no schema. `And` and `Or` hold any number of
terms and never contain a node of their own kind directly. Other nodes nest at most ``MAX_DEPTH`` deep, so recursion is
safe. A comparison with one literal has the literal on the right.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, TypeAlias, assert_never
from typing import Literal as OneOf

import pyarrow as pa

from lakefeed.expr.comparison_types import common_type, kernel_type, kind
from lakefeed.expr.scalars import array, scalar

MAX_DEPTH = 64

CompareOp: TypeAlias = OneOf["==", "!=", "<", "<=", ">", ">="]
ArithmeticOp: TypeAlias = OneOf["+", "-", "*", "/", "%"]
Path: TypeAlias = tuple[str | int, ...]
Value: TypeAlias = bool | int | float | str | bytes | Decimal

FLIPPED: dict[CompareOp, CompareOp] = {"==": "==", "!=": "!=", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
NEGATED: dict[CompareOp, CompareOp] = {"==": "!=", "!=": "==", "<": ">=", "<=": ">", ">": "<=", ">=": "<"}


class _Node:
    def __getstate__(self) -> dict[str, Any]:
        # A pickle holds the fields alone, without cached properties.
        return {field.name: self.__dict__[field.name] for field in dataclasses.fields(self)}  # type: ignore[arg-type]  # every subclass is a dataclass


@dataclass(frozen=True)
class Column(_Node):
    """A column, a field of a struct (``("a", "b")``) or an element of a list (``("v", 0)``)."""

    path: Path
    type: pa.DataType


@dataclass(frozen=True)
class Literal(_Node):
    """A value that is not null. Dates, timestamps and times are integers in the unit of the type."""

    value: Value
    type: pa.DataType

    @cached_property
    def scalar(self) -> pa.Scalar[Any]:
        return scalar(self.value, self.type)


@dataclass(frozen=True)
class Arithmetic(_Node):
    """An operation on numbers: in ``int64`` where both sides are integers (except ``/``), otherwise in ``float64``."""

    op: ArithmeticOp
    left: Expr
    right: Expr

    @cached_property
    def type(self) -> pa.DataType:
        whole = self.op != "/" and all(kind(dtype(side)) == "int" for side in (self.left, self.right))
        return pa.int64() if whole else pa.float64()


@dataclass(frozen=True)
class Concat(_Node):
    """Two texts joined; null where one of them is null."""

    left: Expr
    right: Expr

    @cached_property
    def type(self) -> pa.DataType:
        large = pa.large_string() in (kernel_type(dtype(self.left)), kernel_type(dtype(self.right)))
        return pa.large_string() if large else pa.string()


@dataclass(frozen=True)
class Compare(_Node):
    """A comparison in the type ``domain``."""

    op: CompareOp
    left: Expr
    right: Expr

    @cached_property
    def domain(self) -> pa.DataType:
        domain = common_type(dtype(self.left), dtype(self.right))
        if domain is None:
            raise TypeError(f"{dtype(self.left)} and {dtype(self.right)} cannot be compared")
        return domain


@dataclass(frozen=True)
class In(_Node):
    """Membership in literals of the term's own type. ``nulls`` is true if the list held a null."""

    term: Expr
    values: tuple[Literal, ...]
    nulls: bool = False

    @cached_property
    def domain(self) -> pa.DataType:
        return kernel_type(dtype(self.term))

    @cached_property
    def value_set(self) -> pa.Array[Any]:
        """Returns the values as an array of ``domain``.

        Zero is in it with both signs, because ``is_in`` distinguishes them.
        """
        values: list[Any] = [literal.value for literal in self.values]
        if kind(self.domain) == "float" and 0.0 in values:
            values += [0.0, -0.0]
        return array(values, self.domain)

    @cached_property
    def ordered(self) -> tuple[Any, ...]:
        """Returns the plain values in ascending order."""
        values: list[Any] = [literal.value for literal in self.values]
        return tuple(sorted(values))


@dataclass(frozen=True)
class Like(_Node):
    """SQL's LIKE: ``%`` matches any characters, ``_`` one, and a backslash escapes either."""

    term: Expr
    pattern: str


@dataclass(frozen=True)
class IsNull(_Node):
    """A test for null; true or false, never null."""

    term: Expr


@dataclass(frozen=True)
class Not(_Node):
    """Negation; null stays null."""

    term: Expr


@dataclass(frozen=True)
class And(_Node):
    """Conjunction of two or more terms, none of them an `And`."""

    terms: tuple[Expr, ...]


@dataclass(frozen=True)
class Or(_Node):
    """Disjunction of two or more terms, none of them an `Or`."""

    terms: tuple[Expr, ...]


Expr: TypeAlias = Column | Literal | Arithmetic | Concat | Compare | In | Like | IsNull | Not | And | Or


def dtype(expr: Expr) -> pa.DataType:
    """Returns the Arrow type of the expression's value."""
    return expr.type if isinstance(expr, Column | Literal | Arithmetic | Concat) else pa.bool_()


def children(expr: Expr) -> tuple[Expr, ...]:
    """Returns the direct subexpressions."""
    match expr:
        case Column() | Literal():
            return ()
        case Arithmetic() | Concat() | Compare():
            return (expr.left, expr.right)
        case In() | Like() | IsNull() | Not():
            return (expr.term,)
        case And() | Or():
            return expr.terms
        case _:
            assert_never(expr)


def columns(expr: Expr) -> Iterator[Column]:
    """Yields every column in the expression, with repetitions."""
    stack: list[Expr] = [expr]
    while stack:
        node = stack.pop()
        if isinstance(node, Column):
            yield node
        stack.extend(reversed(children(node)))


def roots(expr: Expr) -> frozenset[str]:
    """Returns the top-level columns that the expression reads."""
    return frozenset(str(column.path[0]) for column in columns(expr))


def paths(expr: Expr) -> frozenset[Path]:
    """Returns the paths that the expression reads, with struct fields and list elements."""
    return frozenset(column.path for column in columns(expr))


def conjuncts(expr: Expr) -> tuple[Expr, ...]:
    """Returns the terms of an `And`, or the expression itself as the only term."""
    return expr.terms if isinstance(expr, And) else (expr,)


def all_of(first: Expr, *rest: Expr) -> Expr:
    """Returns one expression that is true where all of them are."""
    terms = tuple(term for expr in (first, *rest) for term in conjuncts(expr))
    return And(terms) if len(terms) > 1 else first


def any_of(first: Expr, *rest: Expr) -> Expr:
    """Returns one expression that is true where any of them is."""
    terms = tuple(term for expr in (first, *rest) for term in (expr.terms if isinstance(expr, Or) else (expr,)))
    return Or(terms) if len(terms) > 1 else first


def conjoin(exprs: Iterable[Expr]) -> Expr | None:
    """Returns one expression that is true where all of them are, or None if there are none."""
    terms = tuple(exprs)
    return all_of(*terms) if terms else None


def rename(expr: Expr, names: Mapping[str, str]) -> Expr:
    """Returns the expression over renamed columns; ``names`` maps old to new names of top-level columns."""

    def rename_column(column: Column) -> Column:
        root = str(column.path[0])
        return Column((names.get(root, root), *column.path[1:]), column.type)

    return _map_columns(expr, rename_column)


def without_root(expr: Expr, root: str) -> Expr:
    """Returns the expression over the fields of the struct column ``root`` as columns; other columns stay."""

    def strip(column: Column) -> Column:
        return Column(column.path[1:], column.type) if column.path[0] == root else column

    return _map_columns(expr, strip)


def _map_columns(expr: Expr, fn: Callable[[Column], Column]) -> Expr:
    match expr:
        case Column():
            return fn(expr)
        case Literal():
            return expr
        case Arithmetic() | Concat() | Compare():
            return dataclasses.replace(expr, left=_map_columns(expr.left, fn), right=_map_columns(expr.right, fn))
        case In() | Like() | IsNull() | Not():
            return dataclasses.replace(expr, term=_map_columns(expr.term, fn))
        case And() | Or():
            return dataclasses.replace(expr, terms=tuple(_map_columns(term, fn) for term in expr.terms))
        case _:
            assert_never(expr)
