"""Terms: expressions that are built in Python. ``col("x") > 1`` is the filter text ``x > 1`` and gives the same tree.

A term holds filter text with its binding strength, so that everything that reads the text (types, errors, lowerings)
is the same for both ways to write an expression.
"""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import UUID

import numpy as np

from lakefeed._validate import check_column_name, check_flag, check_text, check_whole
from lakefeed.errors import InvalidArgumentError
from lakefeed.expr.parser import AND, COMPARISON, CONCAT, NOT, OR, PRODUCT, SIGN, SUM
from lakefeed.expr.to_text import quote_name, quote_string

ATOM = SIGN + 1
"""The strength of what needs no parentheses anywhere."""


@dataclass(frozen=True, eq=False, repr=False)
class Term:
    """An expression over columns, to be used wherever an expression is taken as text.

    Comparisons, arithmetic and ``&``, ``|``, ``~`` make terms of terms and Python values. ``and``, ``or`` and ``not``
    cannot: Python would evaluate them at once.

    Example:
        >>> print((col("image.width") >= 512) & ~col("label").is_in(["cat", "dog"]))
        image.width >= 512 and not label in ('cat', 'dog')
    """

    text: str
    strength: int = ATOM
    is_column: bool = False

    def __post_init__(self) -> None:
        check_text(self.text, "text")
        check_whole(self.strength, "strength")
        check_flag(self.is_column, "is_column")

    def __getitem__(self, key: str | int) -> Term:
        """Returns a field of a struct column by its name, or an element of a list column by its index.

        Raises:
            InvalidArgumentError: the term is not a column, or the key is neither a name nor an index.

        Example:
            >>> print(col("image")["width"] * col("v")[-1])
            image.width * v[-1]
        """
        if not self.is_column:
            raise InvalidArgumentError(f"`{self.text}` has no fields or elements; only a column has")
        if isinstance(key, str):
            return Term(f"{self.text}.{quote_name(key)}", is_column=True)
        if isinstance(key, bool) or not hasattr(key, "__index__"):
            raise InvalidArgumentError(f"the key of a column must be a field name or an element index, got {key!r}")
        return Term(f"{self.text}[{key.__index__()}]", is_column=True)

    __iter__ = None  # else Python would iterate over the elements [0], [1], … for ever

    def __str__(self) -> str:
        return self.text

    def __repr__(self) -> str:
        return f"<Term {self.text}>"

    def __bool__(self) -> bool:
        raise TypeError(
            f"the truth of `{self.text}` is unknown before rows are read; write `&` for `and`, `|` for `or`, `~` for "
            "`not`, each side in parentheses, and `between` for a chain of comparisons"
        )

    __hash__ = object.__hash__

    def __eq__(self, other: object) -> Term:  # type: ignore[override]  # a term, as in data frames
        return _comparison(self, "==", other)

    def __ne__(self, other: object) -> Term:  # type: ignore[override]
        return _comparison(self, "!=", other)

    def __lt__(self, other: object) -> Term:
        return _comparison(self, "<", other)

    def __le__(self, other: object) -> Term:
        return _comparison(self, "<=", other)

    def __gt__(self, other: object) -> Term:
        return _comparison(self, ">", other)

    def __ge__(self, other: object) -> Term:
        return _comparison(self, ">=", other)

    def __and__(self, other: object) -> Term:
        return _junction(self, "and", other, AND)

    def __rand__(self, other: object) -> Term:
        return _junction(lit(other), "and", self, AND)

    def __or__(self, other: object) -> Term:
        return _junction(self, "or", other, OR)

    def __ror__(self, other: object) -> Term:
        return _junction(lit(other), "or", self, OR)

    def __invert__(self) -> Term:
        return Term(f"not {_inside(self, NOT)}", NOT)

    def __neg__(self) -> Term:
        return Term(f"-{_inside(self, ATOM)}", SIGN)

    def __add__(self, other: object) -> Term:
        return _operation(self, "+", other, SUM)

    def __radd__(self, other: object) -> Term:
        return _operation(lit(other), "+", self, SUM)

    def __sub__(self, other: object) -> Term:
        return _operation(self, "-", other, SUM)

    def __rsub__(self, other: object) -> Term:
        return _operation(lit(other), "-", self, SUM)

    def __mul__(self, other: object) -> Term:
        return _operation(self, "*", other, PRODUCT)

    def __rmul__(self, other: object) -> Term:
        return _operation(lit(other), "*", self, PRODUCT)

    def __truediv__(self, other: object) -> Term:
        return _operation(self, "/", other, PRODUCT)

    def __rtruediv__(self, other: object) -> Term:
        return _operation(lit(other), "/", self, PRODUCT)

    def __mod__(self, other: object) -> Term:
        return _operation(self, "%", other, PRODUCT)

    def __rmod__(self, other: object) -> Term:
        return _operation(lit(other), "%", self, PRODUCT)

    def concat(self, other: object) -> Term:
        """Returns two texts joined.

        Example:
            >>> print(col("first").concat(" ").concat(col("last")))
            first || ' ' || last
        """
        return _operation(self, "||", other, CONCAT)

    def is_null(self) -> Term:
        """Returns the test for null."""
        return Term(f"{_inside(self, CONCAT)} is null", COMPARISON)

    def is_not_null(self) -> Term:
        """Returns the test for a value."""
        return Term(f"{_inside(self, CONCAT)} is not null", COMPARISON)

    def is_in(self, values: Iterable[object]) -> Term:
        """Returns the test whether the value is one of ``values``.

        Args:
            values: Python values, not terms.

        Raises:
            InvalidArgumentError: ``values`` is text, or not a collection of values.
        """
        if isinstance(values, str | bytes | Mapping | Term) or not isinstance(values, Iterable):
            raise InvalidArgumentError(f"is_in needs a list of values, got {values!r:.80}")
        return Term(f"{_inside(self, CONCAT)} in ({', '.join(lit(value).text for value in values)})", COMPARISON)

    def between(self, low: object, high: object) -> Term:
        """Returns the test whether the value is at least ``low`` and at most ``high``.

        Example:
            >>> print(col("x").between(1, 5))
            x between 1 and 5
        """
        low_text, high_text = (_inside(lit(end), CONCAT) for end in (low, high))
        return Term(f"{_inside(self, CONCAT)} between {low_text} and {high_text}", COMPARISON)

    def like(self, pattern: str) -> Term:
        """Returns the test whether the text matches a pattern of SQL's LIKE.

        Args:
            pattern: ``%`` matches any characters, ``_`` one, a backslash escapes either.
        """
        return Term(f"{_inside(self, CONCAT)} like {quote_string(check_text(pattern, 'pattern'))}", COMPARISON)

    def starts_with(self, prefix: str) -> Term:
        """Returns the test whether the text begins with ``prefix``."""
        return self.like(f"{_escaped(prefix, 'prefix')}%")

    def ends_with(self, suffix: str) -> Term:
        """Returns the test whether the text ends with ``suffix``."""
        return self.like(f"%{_escaped(suffix, 'suffix')}")

    def contains(self, part: str) -> Term:
        """Returns the test whether the text contains ``part``."""
        return self.like(f"%{_escaped(part, 'part')}%")


def col(name: str) -> Term:
    """Returns a column as a term.

    Args:
        name: the name. Dots lead into structs; write a name that contains a dot in backticks.

    Raises:
        InvalidArgumentError: the name is not text, or empty.

    Example:
        >>> Dataset.from_dict({"x": [1, 2, 3]}).filter(col("x") % 2 == 1).count()
        2
    """
    check_column_name(name, "name")
    if "`" in name:
        return Term(name, is_column=True)
    return Term(".".join(map(quote_name, name.split("."))), is_column=True)


def lit(value: object) -> Term:
    """Returns a Python value as a term; a term as it is.

    Args:
        value: None, a bool, a number, text, bytes, a date or a datetime, also of numpy and pandas.

    Raises:
        InvalidArgumentError: the value has no text in expressions.

    Example:
        >>> print(lit("it's"), lit(-1.5), lit(None))
        'it''s' -1.5 null
    """
    match value:
        case Term():
            return value
        case np.datetime64():
            return lit(None) if np.isnat(value) else Term(f"timestamp {quote_string(str(value))}")
        case np.generic():
            return lit(value.item())
        case None:
            return Term("null")
        case bool():
            return Term("true" if value else "false")
        case int() | Decimal():
            return _number(str(value), value)
        case float():
            return _number(repr(value), value)
        case bytes() | bytearray():
            return Term(f"x'{value.hex()}'")
        case str() | UUID() | dt.time():
            return Term(quote_string(str(value)))
        case dt.datetime():  # NaT of pandas is one as well
            is_missing = str(value) == "NaT"
            return lit(None) if is_missing else Term(f"timestamp {quote_string(value.isoformat())}")
        case dt.date():
            return Term(f"date {quote_string(value.isoformat())}")
    raise InvalidArgumentError(f"a {type(value).__name__} cannot be a value of an expression: {value!r:.80}")


def expression_text(value: Any, name: str) -> str:
    """Returns an expression as text.

    Args:
        value: text or a term.
        name: the name of the argument, for the error.

    Raises:
        InvalidArgumentError: it is neither.
    """
    return value.text if isinstance(value, Term) else check_text(value, name)


def _number(text: str, value: float | Decimal) -> Term:
    if not math.isfinite(value):
        raise InvalidArgumentError(f"{text} cannot be a value of an expression; only finite numbers can")
    return Term(text, SIGN if text.startswith("-") else ATOM)


def _inside(term: Term, least: int) -> str:
    """Returns the text of an operand, in parentheses if it binds less strongly than ``least``."""
    return term.text if term.strength >= least else f"({term.text})"


def _comparison(left: Term, op: str, right: object) -> Term:
    return Term(f"{_inside(left, CONCAT)} {op} {_inside(lit(right), CONCAT)}", COMPARISON)


def _junction(left: Term, op: str, right: object, strength: int) -> Term:
    return Term(f"{_inside(left, strength)} {op} {_inside(lit(right), strength)}", strength)


def _operation(left: Term, op: str, right: object, strength: int) -> Term:
    return Term(f"{_inside(left, strength)} {op} {_inside(lit(right), strength + 1)}", strength)


def _escaped(text: str, name: str) -> str:
    for special in ("\\", "%", "_"):
        text = check_text(text, name).replace(special, f"\\{special}")
    return text
