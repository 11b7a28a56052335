"""The comparison of a table with declared features. It finds all differences at once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import pyarrow as pa
import pyarrow.types as kinds

from lakefeed._arrow import compute as pc
from lakefeed.errors import InvalidArgumentError, ValidationError, quoted_list

MAX_ROWS: Final = 5
"""The number of rows that a problem shows."""
MAX_PROBLEMS: Final = 10
"""The number of problems that the message shows."""


@dataclass(frozen=True)
class DeclaredFeature:
    """The facts of a feature that a column is validated against.

    Attributes:
        name: the name of the column.
        dtype: the type, one of `DTYPES`; None for any.
        label_type: the type of the labels that are its values; None if they are not labels.
        labels: the names of the labels of that type.
    """

    name: str
    dtype: str | None = None
    label_type: str | None = None
    labels: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Problem:
    """A difference between a column and its declared feature.

    Attributes:
        column: the name of the column.
        kind: "unknown column", "type" or "value".
        expected: the expected type or values.
        actual: the actual type or values.
        rows: the numbers of the first rows that differ, from 0; empty for an unknown column.
        slot: the part of the data: "columns", or "obs" or "var" of an AnnData.
    """

    column: str
    kind: str
    expected: str
    actual: str
    rows: tuple[int, ...] = ()
    slot: str = "columns"

    def __str__(self) -> str:
        where = f" (rows {', '.join(map(str, self.rows))}, …)" if self.rows else ""
        part = "" if self.slot == "columns" else f"{self.slot} "
        return f"{part}column {self.column!r}: {self.kind}: expected {self.expected}, got {self.actual}{where}"


def _is_text(kind: pa.DataType) -> bool:
    return kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_string_view(kind)


def _is_number(kind: pa.DataType) -> bool:
    return kinds.is_integer(kind) or kinds.is_floating(kind) or kinds.is_decimal(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    return kinds.is_binary(kind) or kinds.is_large_binary(kind) or kinds.is_fixed_size_binary(kind)


DTYPES: Final[Mapping[str, Callable[[pa.DataType], bool]]] = {
    "int": kinds.is_integer,
    "float": _is_number,
    "number": _is_number,
    "str": _is_text,
    "category": lambda kind: _is_text(kind) or kinds.is_integer(kind) or kinds.is_boolean(kind),
    "bool": kinds.is_boolean,
    "bytes": _is_bytes,
    "date": kinds.is_date,
    "datetime": kinds.is_timestamp,
    "time": kinds.is_time,
    "timedelta": kinds.is_duration,
    "list": lambda kind: kinds.is_list(kind) or kinds.is_large_list(kind) or kinds.is_fixed_size_list(kind),
    "struct": kinds.is_struct,
}
"""The types of features, with the Arrow types that fit. Dictionaries count as the type of their values."""
SYNONYMS: Final = {"cat": "category", "string": "str", "boolean": "bool", "integer": "int"}


def check_dtype(value: Any) -> str | None:
    """Returns the type of a feature by its usual name: of a name, or of a Python type such as ``float``.

    Raises:
        InvalidArgumentError: there is no such type.
    """
    if value is None:
        return None
    name = value.__name__ if isinstance(value, type) else value
    chosen = SYNONYMS.get(name, name) if isinstance(name, str) else None
    if chosen not in DTYPES:
        raise InvalidArgumentError(f"dtype must be one of {quoted_list(DTYPES, 20)}, or None, got {value!r:.80}")
    return chosen


def find_problems(
    table: pa.Table, declared: Mapping[str, DeclaredFeature], slot: str = "columns", registry: str = "Feature.name"
) -> list[Problem]:
    """Returns all differences between the columns of a table and the declared features, in the order of the columns.

    Nulls fit every feature. Whole numbers fit "float"; floats fit "int" where they are whole, as in a column of pandas
    that has nulls.

    Args:
        table: the table.
        declared: the declared features by name.
        slot: the part of the data that the table is.
        registry: the field that declares the features, for messages.

    Example:
        >>> problems = find_problems(pa.table({"x": ["a"]}), {"x": DeclaredFeature("x", "int")})
        >>> print(problems[0])
        column 'x': type: expected int, got string (rows 0, …)
    """
    problems: list[Problem] = []
    for name, column in zip(table.column_names, table.columns, strict=True):
        feature = declared.get(name)
        if feature is None:
            problems.append(Problem(name, "unknown column", f"a name of {registry}", repr(name), (), slot))
        else:
            problems += _problems_of_column(column, feature, slot)
    return problems


def find_unknown_names(names: Sequence[str], known: Collection[str], slot: str, registry: str) -> list[Problem]:
    """Returns a problem for each name that a registry does not declare, with the position of the name."""
    expected = f"a name of {registry}"
    return [
        Problem(name, "unknown column", expected, repr(name), (position,), slot)
        for position, name in enumerate(names)
        if name not in known
    ]


def _problems_of_column(column: Any, feature: DeclaredFeature, slot: str) -> list[Problem]:
    values = _without_dictionary(column)
    if feature.dtype is not None and not kinds.is_null(values.type) and not DTYPES[feature.dtype](values.type):
        if feature.dtype != "int" or not kinds.is_floating(values.type):
            rows = _first_rows(pc.is_valid(values))
            return [Problem(feature.name, "type", feature.dtype, str(values.type), rows, slot)]
        return _problems_of_values(values, _is_fraction(values), feature, "whole numbers", slot)
    if feature.label_type is None:
        return []
    text = values.cast(pa.string())
    allowed = pa.array(sorted(feature.labels), pa.string())
    wrong = pc.and_(pc.is_valid(text), pc.invert(pc.is_in(text, value_set=allowed)))
    return _problems_of_values(text, wrong, feature, f"labels of the type {feature.label_type!r}", slot)


def _problems_of_values(values: Any, wrong: Any, feature: DeclaredFeature, expected: str, slot: str) -> list[Problem]:
    rows = _first_rows(wrong)
    if not rows:
        return []
    actual = quoted_list(values.filter(wrong).unique().to_pylist())
    return [Problem(feature.name, "value", expected, actual, rows, slot)]


def _is_fraction(values: Any) -> Any:
    finite = pc.fill_null(pc.is_finite(values), False)
    differs = pc.fill_null(pc.not_equal(values, pc.trunc(values)), False)
    missing = pc.fill_null(pc.is_nan(values), True)  # NaN is the null of pandas
    return pc.and_(pc.or_(differs, pc.invert(finite)), pc.invert(missing))


def _without_dictionary(column: Any) -> Any:
    kind = column.type
    return column.cast(kind.value_type) if kinds.is_dictionary(kind) else column


def _first_rows(mask: Any) -> tuple[int, ...]:
    return tuple(pc.indices_nonzero(mask)[:MAX_ROWS].to_pylist())


def raise_problems(problems: Iterable[Problem]) -> None:
    """Raises one error with all problems, if there are any.

    Raises:
        ValidationError: there are problems.
    """
    every = tuple(problems)
    if every:
        lines = [f"- {each}" for each in every[:MAX_PROBLEMS]]
        more = f"\n- and {len(every) - MAX_PROBLEMS} more" if len(every) > MAX_PROBLEMS else ""
        raise ValidationError(
            f"the data differ from the declared features in {len(every)} ways:\n" + "\n".join(lines) + more, every
        )
