"""Search for words in names, descriptions, keys and labels.

The texts of a record are one column, folded and with the name first, which a search reads from beginning to end: an
index of trigrams would make writes and ranks slower.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from sqlalchemy import ColumnElement, case
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import NullType

SEPARATOR: Final = "\n"
SEARCHED: Final = ("name", "key", "label", "description", "reference")


class contains(FunctionElement[Any]):  # noqa: N801 - named as the function of SQL that it stands for
    """True where the first text contains the second one, with the same case."""

    type = NullType()  # for a Boolean, SQLAlchemy would compare it with 1, and SQLite use no index
    inherit_cache = True


class starts_with(FunctionElement[Any]):  # noqa: N801 - see above
    """True where the first text starts with the second one, with the same case."""

    type = NullType()
    inherit_cache = True


@compiles(contains, "sqlite")
def _contains_in_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    return f"(instr({compiler.process(element.clauses, **options)}) > 0)"


@compiles(contains)
def _contains(element: Any, compiler: Any, **options: Any) -> str:
    return f"(strpos({compiler.process(element.clauses, **options)}) > 0)"


@compiles(starts_with, "sqlite")
def _starts_with_in_sqlite(element: Any, compiler: Any, **options: Any) -> str:
    text, start = (compiler.process(each, **options) for each in element.clauses)
    # The range is for an index of the column.
    return f"({text} >= {start} AND {text} < {start} || char(1114111) AND substr({text}, 1, length({start})) = {start})"


@compiles(starts_with)
def _starts_with(element: Any, compiler: Any, **options: Any) -> str:
    return f"starts_with({compiler.process(element.clauses, **options)})"


def fold(text: str) -> str:
    """Returns a text in which case does not matter, on one line."""
    return " ".join(text.casefold().split())


def search_text(values: Mapping[str, Any]) -> str:
    """Returns the folded texts of a row, each with a line of its own, the name first."""
    return "".join(fold(values.get(name) or "") + SEPARATOR for name in SEARCHED)


def with_search_text(values: dict[str, Any]) -> dict[str, Any]:
    """Returns a row with its column of folded texts."""
    return {**values, "search_text": search_text(values)}


def words_of(text: str) -> list[str]:
    """Returns the folded words of a search."""
    return fold(text).split()


def rank(column: ColumnElement[str], text: str) -> ColumnElement[int]:
    """Returns the place of a row in a search: 0 if its name is the text, 1 if it starts with it, else 2."""
    folded = fold(text)
    return case((starts_with(column, folded + SEPARATOR), 0), (starts_with(column, folded), 1), else_=2)


def matching_names(names: Sequence[tuple[str, str]], word: str) -> list[str]:
    """Returns the uids of the (uid, name) pairs of which the name contains a folded word."""
    return [uid for uid, name in names if word in fold(name)]
