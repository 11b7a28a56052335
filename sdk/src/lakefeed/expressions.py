"""Functions that make the values of projections: ``import lakefeed.expressions as se``.

Terms have operators and methods for most of them: ``se.gt(a, b)`` is ``a > b``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pyarrow as pa

from lakefeed._validate import check_data_type, check_text, is_list
from lakefeed.errors import InvalidArgumentError
from lakefeed.expr import Term, col, lit
from lakefeed.keyed.index_terms import TextFunctions, VectorFunctions
from lakefeed.keyed.projections import Aux, Cast, Fetch, Merged, Named, Selected, to_value
from lakefeed.keyed.user_functions import UDF, fetch, udf

__all__ = [
    "UDF",
    "add",
    "alias",
    "and_",
    "aux",
    "between",
    "cast",
    "col",
    "contains",
    "divide",
    "eq",
    "expr",
    "fetch",
    "file",
    "getitem",
    "gt",
    "gte",
    "http",
    "in_",
    "is_not_null",
    "is_null",
    "like",
    "lit",
    "lt",
    "lte",
    "merge",
    "modulo",
    "multiply",
    "negate",
    "neq",
    "not_",
    "or_",
    "pack",
    "s3",
    "select",
    "starts_with",
    "subtract",
    "text",
    "udf",
    "vector",
    "xor",
]


def expr(text: str) -> Term:
    """Returns filter text as a term.

    Example:
        >>> print(expr("x > 1 or y") & col("z"))
        (x > 1 or y) and z
    """
    return Term(check_text(text, "text"), strength=0)


def aux(name: str, type: pa.DataType) -> Aux:
    """Returns a column of the table of keys, for scans that are read with ``key_table``.

    Args:
        name: the name of the column there.
        type: its type.

    Example:
        >>> table = Table.create("weighed", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1, 2], "x": [10, 20]})
        >>> keys = pa.table({"id": [2, 1], "weight": [0.5, 2.0]})
        >>> connect().scan(table["x"], aux("weight", pa.float64())).to_table(key_table=keys).to_pylist()
        [{'x': 20, 'weight': 0.5}, {'x': 10, 'weight': 2.0}]
    """
    return Aux(name, type)


def _term(value: Any, name: str = "value") -> Term:
    if isinstance(value, Term):
        return value
    if isinstance(value, Cast | Fetch | Named):
        raise InvalidArgumentError(f"{name}: {value!r:.80} can only be a column of a projection")
    return lit(value)


def pack(fields: Any) -> dict[str, Any]:
    """Returns values as one struct, or as the columns of a projection.

    Args:
        fields: the values by name, as a mapping or pairs.

    Example:
        >>> table = Table.create("packed", key_schema={"id": pa.int64()})
        >>> _ = table.write({"id": [1], "x": [2]})
        >>> table.scan(pack({"point": pack({"x": table["x"], "y": table["x"] * 2})})).to_table().to_pylist()
        [{'point': {'x': 2, 'y': 4}}]
    """
    if not isinstance(fields, Mapping) and not is_list(fields):
        raise InvalidArgumentError(f"fields must be a mapping of names to values, got {fields!r:.80}")
    try:
        packed = dict(fields)
    except (TypeError, ValueError):
        raise InvalidArgumentError(f"fields must be pairs of a name and a value, got {fields!r:.80}") from None
    names: list[Any] = list(packed)
    if not names or not all(isinstance(name, str) and name for name in names):
        raise InvalidArgumentError(f"fields must have names, got {fields!r:.80}")
    return packed


def merge(*projections: Any) -> Merged:
    """Returns the columns of several projections; of one name the last one counts."""
    if not projections:
        raise InvalidArgumentError("merge needs at least one of the projections")
    return Merged(projections)


def select(projection: Any, names: Any = (), exclude: Any = ()) -> Selected:
    """Returns some columns of a projection.

    Args:
        projection: a table or another projection.
        names: the columns to select; none for all.
        exclude: the columns to leave out.
    """
    lists = []
    for given, name in ((names, "names"), (exclude, "exclude")):
        chosen = (given,) if isinstance(given, str) else tuple(given) if is_list(given) else None
        if chosen is None or not all(isinstance(each, str) and each for each in chosen):
            raise InvalidArgumentError(f"{name} must be names of columns, got {given!r:.80}")
        lists.append(chosen)
    return Selected(projection, lists[0], lists[1])


def getitem(value: Any, key: str | int) -> Any:
    """Returns a column of a table, a field of a struct, or an element of a list."""
    return value[key]


def cast(value: Any, type: pa.DataType) -> Cast:
    """Returns a value as another type, for projections. A value that does not fit is an error when rows are read."""
    return Cast(to_value(value), check_data_type(type))


def alias(value: Any, name: str) -> Named:
    """Returns a value under a name."""
    if not check_text(name, "name"):
        raise InvalidArgumentError("name='': a column has a name")
    return Named(to_value(value), name)


def is_null(value: Any) -> Term:
    """Returns the test for null."""
    return _term(value).is_null()


def is_not_null(value: Any) -> Term:
    """Returns the test for a value."""
    return _term(value).is_not_null()


def and_(first: Any, *others: Any) -> Term:
    """Returns the conjunction."""
    joined = _term(first)
    for each in others:
        joined = joined & each
    return joined


def or_(first: Any, *others: Any) -> Term:
    """Returns the disjunction."""
    joined = _term(first)
    for each in others:
        joined = joined | each
    return joined


def xor(left: Any, right: Any) -> Term:
    """Returns whether exactly one of two conditions is true."""
    return (_term(left) & ~_term(right)) | (~_term(left) & _term(right))


def not_(value: Any) -> Term:
    """Returns the negation."""
    return ~_term(value)


def eq(left: Any, right: Any) -> Term:
    """Returns ``left == right``."""
    return _term(left) == _term(right)


def neq(left: Any, right: Any) -> Term:
    """Returns ``left != right``."""
    return _term(left) != _term(right)


def lt(left: Any, right: Any) -> Term:
    """Returns ``left < right``."""
    return _term(left) < _term(right)


def lte(left: Any, right: Any) -> Term:
    """Returns ``left <= right``."""
    return _term(left) <= _term(right)


def gt(left: Any, right: Any) -> Term:
    """Returns ``left > right``."""
    return _term(left) > _term(right)


def gte(left: Any, right: Any) -> Term:
    """Returns ``left >= right``."""
    return _term(left) >= _term(right)


def add(left: Any, right: Any) -> Term:
    """Returns ``left + right``."""
    return _term(left) + _term(right)


def subtract(left: Any, right: Any) -> Term:
    """Returns ``left - right``."""
    return _term(left) - _term(right)


def multiply(left: Any, right: Any) -> Term:
    """Returns ``left * right``."""
    return _term(left) * _term(right)


def divide(left: Any, right: Any) -> Term:
    """Returns ``left / right``."""
    return _term(left) / _term(right)


def modulo(left: Any, right: Any) -> Term:
    """Returns ``left % right``."""
    return _term(left) % _term(right)


def negate(value: Any) -> Term:
    """Returns ``-value``."""
    return -_term(value)


def in_(value: Any, values: Iterable[Any]) -> Term:
    """Returns the test whether the value is one of ``values``."""
    return _term(value).is_in(values)


def between(value: Any, low: Any, high: Any) -> Term:
    """Returns the test whether the value is at least ``low`` and at most ``high``."""
    return _term(value).between(low, high)


def like(value: Any, pattern: str) -> Term:
    """Returns the test whether the text matches a pattern of SQL's LIKE."""
    return _term(value).like(pattern)


def contains(value: Any, part: str) -> Term:
    """Returns the test whether the text contains ``part``."""
    return _term(value).contains(part)


def starts_with(value: Any, prefix: str) -> Term:
    """Returns the test whether the text begins with ``prefix``."""
    return _term(value).starts_with(prefix)


class _Files:
    """Fetches files by URL or path; each of `http`, `s3` and `file` takes all of them."""

    def get(self, value: Any, abort_on_error: bool = False) -> Fetch:
        """Returns the contents of files; see `fetch`."""
        return fetch(value, abort_on_error)


http = _Files()
s3 = _Files()
file = _Files()
text = TextFunctions()
vector = VectorFunctions()
