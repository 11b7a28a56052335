"""Lookups: the keywords of a filter, such as ``name__contains="x"``, as conditions of SQL."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, TypeAlias

from sqlalchemy import BigInteger, Boolean, Column, ColumnElement, SmallInteger, Text, and_, false, not_, or_

from lakefeed._validate import check_text
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.records.text_search import contains, starts_with

Condition: TypeAlias = ColumnElement[bool]
Relation: TypeAlias = Callable[[Any], Condition]
"""Returns the condition that a row is related to a thing, by its uid or name."""

OPERATORS: Final = ("exact", "in", "contains", "startswith", "gt", "gte", "lt", "lte", "isnull")
RELATION_OPERATORS: Final = ("exact", "in", "isnull")
MAX_VALUES: Final = 10_000

_ORDERED: Final[Mapping[str, Callable[[Any, Any], Condition]]] = MappingProxyType(
    {
        "gt": lambda column, value: column > value,
        "gte": lambda column, value: column >= value,
        "lt": lambda column, value: column < value,
        "lte": lambda column, value: column <= value,
    }
)


class TimeColumn:
    """A column of milliseconds that is compared with times."""

    def __init__(self, column: Column[Any]) -> None:
        self.column = column


Field: TypeAlias = Column[Any] | TimeColumn


def parse_lookup(lookup: str, names: Iterable[str], kind: str) -> tuple[str, str]:
    """Returns the field or relation, and the operator, of a lookup.

    Raises:
        InvalidArgumentError: there is none of this name. The message names similar ones.
    """
    name, separator, operator = lookup.partition("__")
    known = sorted(names)
    if name not in known:
        near = difflib.get_close_matches(name, known, n=3)
        hint = f" Did you mean {quoted_list(near)}?" if near else ""
        raise InvalidArgumentError(
            f"{lookup!r} is no lookup of a {kind}: there is no field {name!r}.{hint} The fields are "
            f"{quoted_list(known, len(known))}"
        )
    if separator and operator not in OPERATORS:
        near = difflib.get_close_matches(operator, OPERATORS, n=3)
        hint = f" Did you mean {quoted_list(f'{name}__{each}' for each in near)}?" if near else ""
        raise InvalidArgumentError(
            f"{lookup!r} is no lookup of a {kind}: there is no operator {operator!r}.{hint} The operators are "
            f"{quoted_list(OPERATORS)}"
        )
    return name, operator or "exact"


def field_condition(field: Field, lookup: str, operator: str, value: Any) -> Condition:
    """Returns the condition of a lookup of a field.

    Raises:
        InvalidArgumentError: the value does not fit.
    """
    column = field.column if isinstance(field, TimeColumn) else field
    if operator == "isnull":
        return column.is_(None) if _flag(lookup, value) else column.is_not(None)
    if operator == "in":
        values = _values(lookup, value)
        given = [_value(field, lookup, each) for each in values if each is not None]
        condition: Condition = column.in_(given) if given else false()
        return or_(condition, column.is_(None)) if None in values else condition
    if value is None and operator == "exact":
        return column.is_(None)
    if operator in ("contains", "startswith"):
        if not isinstance(column.type, Text) or not isinstance(value, str):
            raise InvalidArgumentError(f"{lookup}={value!r:.80}: it compares text with text")
        check_text(value, lookup)
        return contains(column, value) if operator == "contains" else starts_with(column, value)
    typed = _value(field, lookup, value)
    return column == typed if operator == "exact" else _ORDERED[operator](column, typed)


def relation_condition(relation: Relation, lookup: str, operator: str, value: Any, anything: Condition) -> Condition:
    """Returns the condition of a lookup of a relation; ``anything`` is that of a row that has any.

    A list means all of them, and ``__in`` any of them.

    Raises:
        InvalidArgumentError: the value does not fit, or relations do not have the operator.
    """
    if operator not in RELATION_OPERATORS:
        raise InvalidArgumentError(f"{lookup!r}: this lookup has the operators {quoted_list(RELATION_OPERATORS)} only")
    if operator == "isnull":
        return not_(anything) if _flag(lookup, value) else anything
    if operator == "in":
        return or_(false(), *(relation(reference(lookup, each)) for each in _values(lookup, value)))
    if value is None:
        return not_(anything)
    if isinstance(value, list | tuple | set | frozenset):
        return and_(*(relation(reference(lookup, each)) for each in _values(lookup, value)))
    return relation(reference(lookup, value))


def reference(lookup: str, value: Any) -> str:
    """Returns the uid or the name that a value refers to: text, or an object with a uid."""
    uid = value if isinstance(value, str) else getattr(value, "uid", None)
    if not isinstance(uid, str) or not uid:
        raise InvalidArgumentError(f"{lookup}={value!r:.80}: give a uid, a name, or a record")
    return check_text(uid, lookup)


def time_ms(value: Any, name: str) -> int:
    """Returns a time as milliseconds: of a datetime, a date, a text in ISO format, or milliseconds.

    Times without a zone are in UTC.

    Raises:
        InvalidArgumentError: this is none of them.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    try:
        given = dt.datetime.fromisoformat(value) if isinstance(value, str) else value
    except ValueError:
        given = None
    if isinstance(given, dt.date) and not isinstance(given, dt.datetime):
        given = dt.datetime.combine(given, dt.time())
    if not isinstance(given, dt.datetime):
        raise InvalidArgumentError(
            f"{name}={value!r:.80}: give a datetime, a date, a text such as '2026-11-30', or milliseconds since 1970"
        )
    return round((given if given.tzinfo else given.replace(tzinfo=dt.UTC)).timestamp() * 1000)


def _value(field: Field, lookup: str, value: Any) -> Any:
    if isinstance(field, TimeColumn):
        return time_ms(value, lookup)
    kind = field.type
    if isinstance(kind, Boolean):
        return _flag(lookup, value)
    if isinstance(kind, Text):
        if isinstance(value, str):
            return check_text(value, lookup)
        return reference(lookup, value)
    is_number = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1 << 63
    if isinstance(kind, BigInteger | SmallInteger) or kind.python_type is int:
        if not is_number:
            raise InvalidArgumentError(f"{lookup}={value!r:.80}: give a whole number")
        return value
    raise AssertionError(f"no lookup of columns of type {kind}")


def _flag(lookup: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise InvalidArgumentError(f"{lookup}={value!r:.80}: it is True or False")
    return value


def _values(lookup: str, value: Any) -> list[Any]:
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise InvalidArgumentError(f"{lookup}={value!r:.80}: give a list")
    values = list(value)
    if len(values) > MAX_VALUES:
        raise InvalidArgumentError(f"{lookup} has {len(values)} values; at most {MAX_VALUES} are compared at once")
    return values
