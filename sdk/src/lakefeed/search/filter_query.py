"""Conditions over filter fields as queries of tantivy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Final

import numpy as np
import pyarrow as pa

from lakefeed.errors import InvalidArgumentError, UnsupportedError
from lakefeed.expr import Column, Compare, Expr, In, IsNull, Like, Literal, Not, Or, conjuncts, to_text
from lakefeed.expr.comparison_types import ns_per_unit
from lakefeed.expr.nodes import NEGATED, And, CompareOp, children, columns
from lakefeed.search.term_patterns import greater_patterns, less_patterns, like_pattern
from lakefeed.search.text_schema import TextField, TextSchema, tantivy, term_of_text, units_of_decimal

MOST_CHARACTERS: Final = 1_000
"""Regular expressions of tantivy have at most so many states."""
SHOWN_CHARACTERS: Final = 80


def check_conjunction(filters: Expr) -> None:
    """Checks that a condition has no ``or``.

    Raises:
        InvalidArgumentError: it has.
    """
    if isinstance(filters, Or) or any(isinstance(each, Or) for each in _descendants(filters)):
        raise InvalidArgumentError(
            f"filters: `{to_text(filters)}` has an `or`; filters of a search are joined with `and` (&). Use `in` for "
            "several values of one field, or search twice"
        )
    negated = (each.term for each in (filters, *_descendants(filters)) if isinstance(each, Not))
    if any(isinstance(each, And) and len({column.path for column in columns(each)}) > 1 for each in negated):
        raise InvalidArgumentError(
            f"filters: `{to_text(filters)}` negates an `and`, which is an `or`; filters of a search are joined with "
            "`and` (&)"
        )


def _descendants(expr: Expr) -> Iterator[Expr]:
    for each in children(expr):
        yield each
        yield from _descendants(each)


@dataclass(frozen=True)
class FilterQuery:
    """Makes queries of conditions that have no ``or``.

    Attributes:
        schema: the fields.
        name_of: returns the name of the field that a column is.
    """

    schema: TextSchema
    name_of: Callable[[Column], str]

    def queries(self, filters: Expr) -> list[Any]:
        """Returns queries that are all true for exactly the rows for which a condition is true.

        Raises:
            UnsupportedError: a part of the condition cannot be a query.
        """
        return [self._term(each, False) for each in conjuncts(filters)]

    def _term(self, expr: Expr, negated: bool) -> Any:
        match expr:
            case Not():
                return self._term(expr.term, not negated)
            case And() if negated:  # `not between`
                return self._any([self._term(each, True) for each in expr.terms])
            case Literal():
                return self._constant(bool(expr.value) != negated)
            case Column():
                return self._equal(self._field(expr, expr), [not negated])
            case Compare(op, Column() as column, Literal() as literal):
                return self._compare(NEGATED[op] if negated else op, column, literal, expr, negated)
            case In(term=Column() as column):
                return self._in(expr, column, negated)
            case Like(term=Column() as column):
                field = self._field(column, expr)
                if field.kind != "string":
                    raise self._unsupported(expr)
                query = self._matching(field, [like_pattern(expr.pattern)], expr)
                return self._without(field, query) if negated else query
            case IsNull(term=Column() as column):
                exists = tantivy().Query.exists_query(self._field(column, expr).stored_name)
                return exists if negated else self._all_but(exists)
        raise self._unsupported(expr)

    @property
    def _compiled(self) -> Any:
        return self.schema.compiled

    def _field(self, column: Column, expr: Expr) -> TextField:
        if not all(isinstance(step, str) for step in column.path):
            raise self._unsupported(expr)
        return self.schema.field(self.name_of(column))

    def _unsupported(self, expr: Expr) -> UnsupportedError:
        return UnsupportedError(
            f"filters: `{to_text(expr)}` cannot be searched for. A filter compares one field with a value (==, !=, <, "
            "<=, >, >=, between), or is `in`, `like`, `is null`, or a boolean field. Filter the rows of the keys that "
            "were found for other conditions"
        )

    def _constant(self, value: bool) -> Any:
        query = tantivy().Query
        return query.all_query() if value else query.empty_query()

    def _any(self, queries: list[Any]) -> Any:
        module = tantivy()
        if len(queries) == 1:
            return queries[0]
        return module.Query.boolean_query([(module.Occur.Should, query) for query in queries])

    def _all_but(self, query: Any) -> Any:
        module = tantivy()
        return module.Query.boolean_query(
            [(module.Occur.Must, module.Query.all_query()), (module.Occur.MustNot, query)]
        )

    def _without(self, field: TextField, query: Any) -> Any:
        """Returns the query for the rows that have a value and for which ``query`` is not true."""
        module = tantivy()
        exists = module.Query.exists_query(field.stored_name)
        return module.Query.boolean_query([(module.Occur.Must, exists), (module.Occur.MustNot, query)])

    def _equal(self, field: TextField, values: list[Any]) -> Any:
        if not values:
            return self._constant(False)
        query = tantivy().Query
        terms = [term_of_text(value) if isinstance(value, str) else value for value in values]
        return self._any([query.term_query(self._compiled, field.stored_name, term) for term in terms])

    def _matching(self, field: TextField, patterns: Sequence[str], expr: Expr) -> Any:
        """Returns the query for the texts that match one of some regular expressions."""
        query = tantivy().Query
        if not patterns:
            return self._constant(False)
        try:
            return self._any([query.regex_query(self._compiled, field.stored_name, each) for each in patterns])
        except ValueError:
            raise _too_long(expr) from None

    def _in(self, expr: In, column: Column, negated: bool) -> Any:
        field = self._field(column, expr)
        if negated and expr.nulls:
            return self._constant(False)
        queries = [self._compare("==", column, literal, expr, False) for literal in expr.values]
        query = self._any(queries) if queries else self._constant(False)
        return self._without(field, query) if negated else query

    def _compare(self, op: CompareOp, column: Column, literal: Literal, expr: Expr, negated: bool) -> Any:
        field = self._field(column, expr)
        match field.kind:
            case "string" | "boolean" if op in ("==", "!="):
                query = self._equal(field, [literal.value])
                return self._without(field, query) if op == "!=" else query
            case "string":
                text, patterns = str(literal.value), less_patterns if op in ("<", "<=") else greater_patterns
                if len(text) > MOST_CHARACTERS:
                    raise _too_long(expr)
                return self._matching(field, list(patterns(text, op in ("<=", ">="))), expr)
            case "integer" | "unsigned":
                return self._whole(op, field, literal)
            case "float":
                return self._real(op, field, literal, expr, negated)
        raise self._unsupported(expr)

    def _range(self, field: TextField, low: Any, high: Any, with_low: bool = True, with_high: bool = True) -> Any:
        module = tantivy()
        kind = getattr(module.FieldType, field.kind.capitalize())
        return module.Query.range_query(
            self._compiled, field.stored_name, kind, low, high, include_lower=with_low, include_upper=with_high
        )

    def _whole(self, op: CompareOp, field: TextField, literal: Literal) -> Any:
        """Returns a comparison of integers, in which the literal may be any number."""
        value = _in_unit(literal, field.type)
        least, most = (0, 2**64 - 1) if field.kind == "unsigned" else (-(2**63), 2**63 - 1)
        if op == "!=":
            return self._without(field, self._whole("==", field, literal))
        if isinstance(value, float) and not math.isfinite(value):
            low, high = (least, most) if (value > 0) == (op in ("<", "<=")) else (most, least)
        else:
            low = {"==": math.ceil(value), ">": math.floor(value) + 1, ">=": math.ceil(value)}.get(op, least)
            high = {"==": math.floor(value), "<": math.ceil(value) - 1, "<=": math.floor(value)}.get(op, most)
        low, high = max(low, least), min(high, most)
        return self._range(field, low, high) if low <= high else self._constant(False)

    def _real(self, op: CompareOp, field: TextField, literal: Literal, expr: Expr, negated: bool) -> Any:
        """Returns a comparison of floats. NaN is greater or less than nothing, as for Arrow."""
        value = float(literal.value) + 0.0
        if isinstance(expr, Compare) and expr.domain == pa.float32():
            value = float(np.float32(value))
        if op == "!=":
            return self._without(field, self._range(field, value, value))
        if negated:  # a value that is not less than a number may be NaN
            return self._without(field, self._real(NEGATED[op], field, literal, expr, False))
        match op:
            case "==":
                return self._range(field, value, value)
            case "<" | "<=":
                return self._range(field, -math.inf, value, True, op == "<=")
        return self._range(field, value, math.inf, op == ">=", True)


def _too_long(expr: Expr) -> UnsupportedError:
    shown = to_text(expr)
    shown = shown if len(shown) <= SHOWN_CHARACTERS else f"{shown[:SHOWN_CHARACTERS]}…"
    return UnsupportedError(f"filters: the text of `{shown}` is too long to search for; compare with a shorter one")


def _in_unit(literal: Literal, kind: pa.DataType) -> Any:
    """Returns the value of a literal in the unit of a column of integers, decimals, dates or times."""
    value: Any = literal.value
    if pa.types.is_decimal(kind):
        infinite = isinstance(value, float) and not math.isfinite(value)
        return value if infinite else Fraction(value) * units_of_decimal(kind)
    if not pa.types.is_temporal(kind):
        return value
    return Fraction(value) * ns_per_unit(literal.type) / ns_per_unit(kind)
