"""Terms of indexes: the fields that an index has, and the expressions that a search ranks by."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from lakefeed._validate import check_flag, check_text, is_whole
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, quoted_list
from lakefeed.expr import Term
from lakefeed.keyed.projections import Named, last_name
from lakefeed.keyed.table_terms import table_term, tables_in
from lakefeed.search.text_schema import POSITIONS, TOKENIZERS
from lakefeed.search.vector_files import DEFAULT_PROBES

INDEX: Final = "index:"
"""Begins the names by which terms name indexes, where they name tables otherwise."""
MOST_BOOST: Final = 1e9
"""Scores are float32, so larger factors would make different scores equal."""
MOST_SLOP: Final = 1_000


@dataclass(frozen=True, eq=False)
class FieldOfText:
    """A text field of an index that is to be created."""

    value: Term
    name: str
    tokenizer: str
    positions: bool = False

    @property
    def option(self) -> str:
        """The tokenizer as the definition of an index has it."""
        return self.tokenizer + (POSITIONS if self.positions else "")


@dataclass(frozen=True, eq=False)
class FindText:
    """A search for the words of a text in a field; with ``slop`` for a phrase."""

    index: str
    field: str
    text: str
    boost: float = 1.0
    slop: int | None = None


@dataclass(frozen=True, eq=False)
class NearestVector:
    """A search for the vectors that are nearest to one."""

    index: str
    field: str
    query: NDArray[np.float32]
    nprobes: int
    boost: float = 1.0


Rank: TypeAlias = FindText | NearestVector


def index_term(index: str, field: str, known: Sequence[str]) -> Term:
    """Returns a field of an index as a term.

    Raises:
        InvalidArgumentError: ``field`` is not text.
        ColumnNotFoundError: the index has no such field.
    """
    if not isinstance(field, str):
        raise InvalidArgumentError(f"an index takes the name of a field in brackets, got {field!r:.80}")
    if field not in known:
        raise ColumnNotFoundError(f"the index {index!r} has no field {field!r}; its fields are {quoted_list(known)}")
    return table_term(INDEX + index, f"`{field.replace('`', '``')}`")


def field_of_index(term: Any, name: str) -> tuple[str, str]:
    """Returns the index and the field that a term names.

    Raises:
        InvalidArgumentError: it is not a field of an index.
    """
    field = _field_named(term.text) if isinstance(term, Term) and term.is_column else None
    if field is not None:
        return field
    raise InvalidArgumentError(f"{name} must be a field of an index, such as index['caption'], got {term!r:.80}")


@lru_cache
def _field_named(text: str) -> tuple[str, str] | None:
    """Returns the index and the field that the text of a column names; None for the column of a table."""
    indexes = [each for each in tables_in(text) if each.startswith(INDEX)]
    return (indexes[0].removeprefix(INDEX), last_name(Term(text, is_column=True))) if indexes else None


def _checked_boost(boost: Any) -> float:
    number = isinstance(boost, int | float | np.integer | np.floating) and not isinstance(boost, bool)
    if not number or not 1 / MOST_BOOST <= boost <= MOST_BOOST:
        raise InvalidArgumentError(
            f"boost must be a number between {1 / MOST_BOOST:g} and {MOST_BOOST:g}, got {boost!r:.80}"
        )
    return float(boost)


class TextFunctions:
    """Functions for text indexes: ``lakefeed.expressions.text``."""

    def field(
        self, expr: Any, field_name: str | None = None, tokenizer: str = "default", positions: bool = False
    ) -> FieldOfText:
        """Returns a field that can be searched for words, for `Project.create_text_index`.

        Args:
            expr: a column with text, as a term.
            field_name: the name of the field; None for that of the column.
            tokenizer: how text is cut into words. ``default`` cuts at everything but letters and digits and takes no
                notice of case; ``en_stem`` also takes English words of one stem as equal; ``whitespace`` cuts at
                spaces; ``raw`` takes the text as one word.
            positions: record the positions of words, so that `phrase` finds them in their order. The index is larger.

        Raises:
            InvalidArgumentError: an argument is malformed, or the value needs a name.
        """
        value = expr.value if isinstance(expr, Named) else expr
        if not isinstance(value, Term):
            raise InvalidArgumentError(f"expr must be a column of a table, such as table['text'], got {expr!r:.80}")
        if field_name is not None and not check_text(field_name, "field_name"):
            raise InvalidArgumentError("field_name='': a field has a name")
        if tokenizer not in TOKENIZERS:
            raise InvalidArgumentError(f"tokenizer={tokenizer!r:.80}: choose one of {quoted_list(TOKENIZERS)}")
        name = expr.name if isinstance(expr, Named) else None
        with_positions = check_flag(positions, "positions")
        return FieldOfText(value, field_name or name or last_name(value), tokenizer, with_positions)

    def find(self, expr: Any, term: str) -> FindText:
        """Returns a ranking by how well a field fits the words of a text (BM25). Rows without any of them are left out.

        Args:
            expr: a text field of an index, such as ``index["caption"]``.
            term: the text.
        """
        index, name = field_of_index(expr, "expr")
        return FindText(index, name, check_text(term, "term"))

    def phrase(self, expr: Any, term: str, slop: int = 0) -> FindText:
        """Returns a ranking by a phrase (BM25). Rows without all words of the text in their order are left out.

        Args:
            expr: a text field of an index that was created with ``text.field(…, positions=True)``.
            term: the text.
            slop: so many other words may be between the words, in sum. The more words the phrase has, the smaller is
                the largest slop: 1,000 for two words, 43 for three, 16 for four. A search raises
                InvalidArgumentError beyond it.

        Raises:
            InvalidArgumentError: an argument is malformed.
        """
        index, name = field_of_index(expr, "expr")
        if not is_whole(slop) or not 0 <= slop <= MOST_SLOP:
            raise InvalidArgumentError(f"slop must be a whole number from 0 to {MOST_SLOP:,}, got {slop!r:.80}")
        return FindText(index, name, check_text(term, "term"), slop=int(slop))

    def boost(self, expr: Any, boost: float) -> Any:
        """Returns a ranking whose scores count ``boost`` times.

        Args:
            expr: a ranking.
            boost: a positive number, between 1e-9 and 1e+09.

        Raises:
            InvalidArgumentError: an argument is malformed.
        """
        if not isinstance(expr, Rank):
            raise InvalidArgumentError(
                f"expr must be a ranking, such as text.find(index['a'], 'word'), got {expr!r:.80}"
            )
        return replace(expr, boost=_checked_boost(expr.boost * _checked_boost(boost)))


class VectorFunctions:
    """Functions for indexes of vectors: ``lakefeed.expressions.vector``."""

    def nearest(self, expr: Any, query: Any, nprobes: int = DEFAULT_PROBES) -> NearestVector:
        """Returns a ranking by how near the vector of a row is to another one.

        Args:
            expr: the field of an index of vectors, such as ``index["embedding"]``.
            query: the vector: a list of numbers, or an array of NumPy, PyArrow or PyTorch.
            nprobes: how thoroughly large indexes are searched; more takes longer and finds more of what is nearest.

        Raises:
            InvalidArgumentError: an argument is malformed, or the vector has NaN or an infinite value.
        """
        index, name = field_of_index(expr, "expr")
        if not is_whole(nprobes) or nprobes < 1:
            raise InvalidArgumentError(f"nprobes must be a whole number of at least 1, got {nprobes!r:.80}")
        return NearestVector(index, name, _vector(query), int(nprobes))


def _vector(query: Any) -> NDArray[np.float32]:
    if isinstance(query, str | bytes | Mapping) or not hasattr(query, "__len__"):
        raise InvalidArgumentError(f"query must be a list of numbers, got {query!r:.80}")
    try:
        vector = np.asarray(query)
        numbers = vector.dtype.kind in "fiu" and vector.ndim == 1 and len(vector) > 0
        with np.errstate(over="ignore"):
            finite = numbers and bool(np.isfinite(vector.astype(np.float32)).all())
    except (TypeError, ValueError, OverflowError, RuntimeError):
        numbers = False
    if not numbers:
        raise InvalidArgumentError(f"query must be a list of numbers, got {query!r:.80}")
    if not finite:
        raise InvalidArgumentError(f"query has a value that is NaN or infinite: {query!r:.80}")
    return vector.astype(np.float32)


def split_text_fields(projections: Sequence[Any]) -> tuple[list[Any], dict[str, str]]:
    """Returns projections without the marks of text fields, and the tokenizer of each text field."""
    plain: list[Any] = []
    tokenizers: dict[str, str] = {}
    for each in projections:
        if isinstance(each, FieldOfText):
            tokenizers[each.name] = each.option
            plain.append(Named(each.value, each.name))
        elif isinstance(each, Mapping):
            values = dict(each)
            for name, value in each.items():
                if isinstance(value, FieldOfText):
                    tokenizers[name] = value.option
                    values[name] = value.value
            plain.append(values)
        else:
            plain.append(each)
    return plain, tokenizers
