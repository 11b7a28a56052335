"""Lossless conversion of Python values and Arrow columns to Arrow columns of a type.

Arrow itself silently turns a datetime into a date, drops a time zone, rounds a time to the unit of the column, and
ignores keys of a dict that a struct lacks. Here each of these is an error.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa

AnyColumn = TypeVar("AnyColumn", "pa.Array[Any]", "pa.ChunkedArray[Any]")
TICKS = {"s": 1_000_000, "ms": 1_000, "us": 1, "ns": 1}
"""Microseconds of a unit."""

_TYPES = pa.types
_NO_NUMBER = (bool, np.bool_, np.timedelta64)
PYTHON_TYPES: tuple[tuple[Any, Any, Any], ...] = (
    (_TYPES.is_boolean, (bool, np.bool_), ()),
    (_TYPES.is_integer, (int, np.integer), _NO_NUMBER),
    (_TYPES.is_floating, (int, float, np.integer, np.floating), _NO_NUMBER),
    (_TYPES.is_decimal, (int, Decimal, np.integer), _NO_NUMBER),
    (lambda kind: _TYPES.is_string(kind) or _TYPES.is_large_string(kind), str, ()),
    (lambda kind: _TYPES.is_binary(kind) or _TYPES.is_large_binary(kind), (bytes, bytearray, memoryview), ()),
    (_TYPES.is_date, (dt.date, np.datetime64), dt.datetime),
    (_TYPES.is_timestamp, (dt.datetime, np.datetime64), ()),
    (_TYPES.is_time, dt.time, ()),
    (_TYPES.is_duration, (dt.timedelta, np.timedelta64), ()),
)
"""For each kind of Arrow type: the Python types that it holds, and related ones that it does not."""


def inferred_array(values: Sequence[Any]) -> pa.Array[Any]:
    """Returns the values as an array of the type that they suggest.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError, TypeError, OverflowError, ValueError: the values have
            no common type that keeps each of them.

    Example:
        >>> import datetime
        >>> inferred_array([datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12)])
        Traceback (most recent call last):
            ...
        pyarrow.lib.ArrowInvalid: datetime.datetime(2020, 1, 1, 12, 0) among dates would lose its time of day
    """
    array: pa.Array[Any] = pa.array(values)
    check_lossless(values, array.type, declared=False)
    return array


def exact_array(values: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    """Returns the values as an array of the type. Unlike with Arrow, 0.5 does not become the integer 0.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError, TypeError, OverflowError, ValueError: a value does not
            fit.
    """
    array: pa.Array[Any] = pa.array(values, kind)
    if _holds(kind, pa.types.is_integer, pa.types.is_temporal):
        _check_fractions(values, kind)
    check_lossless(values, kind, declared=True)
    return array


def exact_cast(column: AnyColumn, kind: pa.DataType) -> AnyColumn:
    """Returns the column as another type. Unlike with Arrow, no time of day, time zone or struct field gets lost.

    Raises:
        ArrowInvalid, ArrowTypeError, ArrowNotImplementedError: a value does not fit.
    """
    if column.type.equals(kind):
        return column
    reason = _loss(column.type, kind)
    converted: AnyColumn = column.cast(kind)
    if reason is not None:
        dates = pa.types.is_timestamp(column.type) and pa.types.is_date(kind)
        if not dates or not converted.cast(column.type).equals(column):
            raise pa.ArrowInvalid(reason)
    return converted


def _loss(given: pa.DataType, kind: pa.DataType) -> str | None:
    """Returns the reason why a cast that Arrow allows may lose values; None if there is none."""
    types = pa.types
    if types.is_dictionary(given) or types.is_dictionary(kind):
        plain = [one.value_type if types.is_dictionary(one) else one for one in (given, kind)]
        return _loss(plain[0], plain[1])
    if types.is_timestamp(given):
        if types.is_date(kind) or types.is_time(kind):
            return f"{given} as {kind} would lose a part of the timestamp"
        if types.is_timestamp(kind) and (given.tz is None) != (kind.tz is None):
            return f"{given} as {kind}: the timestamps are ambiguous; give both types a time zone, or none"
    if types.is_boolean(kind) and not (types.is_boolean(given) or types.is_null(given)):
        return f"{given} as {kind} would lose numbers"
    if types.is_struct(given) and types.is_struct(kind):
        known = {field.name: field.type for field in kind}
        extra = [field.name for field in given if field.name not in known]
        if extra:
            return f"{given} has the fields {extra}, which {kind} lacks"
        return next((loss for field in given if (loss := _loss(field.type, known[field.name])) is not None), None)
    if types.is_nested(given) and types.is_nested(kind) and given.num_fields == kind.num_fields:
        pairs = [(given.field(place).type, kind.field(place).type) for place in range(given.num_fields)]
        return next((loss for pair in pairs if (loss := _loss(*pair)) is not None), None)
    return None


# ------------------------------------------------------------------------------------------ Python values


def check_lossless(values: Any, kind: pa.DataType, *, declared: bool) -> None:
    """Checks that an Arrow array of the type keeps the values.

    Args:
        values: the values of which the array was made.
        kind: the type of the array.
        declared: whether a caller asked for the type. Then equivalent values of other Python types are allowed.

    Raises:
        ArrowInvalid: the array would lose a part of a value.
    """
    gaps = False
    if hasattr(values, "dtype"):  # an array or a column of pandas
        if values.dtype != object:
            return _check_numpy(values, kind) if isinstance(values, np.ndarray) else None
        values, gaps = values.tolist(), not isinstance(values, np.ndarray)
    for leaf, cells in _leaves(kind, values, declared):
        for found in set(map(type, cells)) - {type(None)}:
            if not declared and not _is_like(found, leaf):
                wrong = next((cell for cell in cells if type(cell) is found and not (gaps and _is_gap(cell))), None)
                if wrong is not None:
                    raise pa.ArrowInvalid(f"{wrong!r:.80} is a {found.__name__} among values that are {leaf}")
            reason = _reason(found, cells, leaf, declared)
            if reason is not None:
                raise pa.ArrowInvalid(reason)
    return None


def _is_like(python_type: type, kind: pa.DataType) -> bool:
    """Returns whether the Arrow type holds values of the Python type that are in its range."""
    if issubclass(python_type, pa.Scalar):
        return True
    yes, no = next(((yes, no) for test, yes, no in PYTHON_TYPES if test(kind)), (object, ()))
    return issubclass(python_type, yes) and not issubclass(python_type, no)


def _is_gap(cell: Any) -> bool:
    """Returns whether the cell is NaN, NaT or NA of pandas."""
    return type(cell).__name__ == "NAType" or bool(cell != cell)


def _leaves(kind: pa.DataType, values: Iterable[Any], declared: bool) -> Iterator[tuple[pa.DataType, Sequence[Any]]]:
    """Yields the values of each type that is not nested."""
    if isinstance(kind, pa.BaseExtensionType):
        return
    if isinstance(kind, pa.DictionaryType):
        yield from _leaves(kind.value_type, values, declared)
    elif isinstance(kind, pa.StructType):
        rows = [value for value in values if isinstance(value, Mapping)]
        names = {field.name for field in kind}
        for row in rows if declared else ():
            if not names.issuperset(row):
                raise pa.ArrowInvalid(f"{row!r:.80} has keys that {kind} lacks")
        for field in kind:
            yield from _leaves(field.type, [row.get(field.name) for row in rows], declared)
    elif isinstance(kind, pa.MapType):
        pairs = [pair for value in values if value is not None for pair in _pairs(value)]
        yield from _leaves(kind.key_type, [key for key, _ in pairs], declared)
        yield from _leaves(kind.item_type, [item for _, item in pairs], declared)
    elif pa.types.is_nested(kind) and kind.num_fields == 1:
        inside = kind.field(0).type
        cells: list[Any] = []
        for value in values:
            if isinstance(value, np.ndarray) and value.dtype != object:
                _check_numpy(value, inside)
            elif isinstance(value, list | tuple | set | frozenset | np.ndarray):
                cells.extend(value)
        yield from _leaves(inside, cells, declared)
    elif not pa.types.is_nested(kind):
        yield kind, values if isinstance(values, list) else list(values)


def _pairs(value: Any) -> Iterable[Any]:
    return value.items() if isinstance(value, Mapping) else value


def _reason(python_type: type, among: Sequence[Any], kind: pa.DataType, declared: bool) -> str | None:
    """Returns the reason why values of one Python type do not fit the Arrow type; None if they fit."""
    types = pa.types
    if python_type in (str, bytes, int, float, bool):
        return None
    cells = [cell for cell in among if type(cell) is python_type]
    if issubclass(python_type, Decimal) and types.is_integer(kind):
        return _first(cells, lambda cell: cell != int(cell), f"as {kind} would lose its fraction")
    if types.is_date(kind) and issubclass(python_type, dt.datetime):
        return _first(cells, lambda cell: not (declared and _is_day(cell)), "among dates would lose its time of day")
    if types.is_timestamp(kind) and issubclass(python_type, dt.datetime):
        zone = "with a time zone" if kind.tz is not None else "without a time zone"
        wrong = _first(cells, lambda cell: (cell.tzinfo is None) != (kind.tz is None), f"among times {zone}")
        return wrong or _first(cells, lambda cell: _too_fine(cell.microsecond, cell, kind), f"is finer than {kind}")
    if types.is_time(kind) and issubclass(python_type, dt.time):
        wrong = _first(cells, lambda cell: cell.tzinfo is not None, f"would lose its time zone as {kind}")
        return wrong or _first(cells, lambda cell: _too_fine(cell.microsecond, cell, kind), f"is finer than {kind}")
    if types.is_duration(kind) and issubclass(python_type, dt.timedelta):
        return _first(cells, lambda cell: _too_fine(cell.microseconds, cell, kind), f"is finer than {kind}")
    return None


def _first(cells: Iterable[Any], wrong: Any, why: str) -> str | None:
    return next((f"{cell!r} {why}" for cell in cells if cell == cell and wrong(cell)), None)  # NaT differs from itself


def _is_day(moment: dt.datetime) -> bool:
    return moment.tzinfo is None and moment.time() == dt.time() and not getattr(moment, "nanosecond", 0)


def _too_fine(microseconds: int, value: Any, kind: Any) -> bool:
    """Returns whether the unit of the type is coarser than the value, with the nanoseconds of pandas."""
    extra = getattr(value, "nanosecond", 0) or getattr(value, "nanoseconds", 0)
    return bool(microseconds % TICKS[kind.unit] or (extra and kind.unit != "ns"))


def _check_numpy(values: np.ndarray[Any, Any], kind: pa.DataType) -> None:
    """Does as `check_lossless` for a NumPy array."""
    moments = values.dtype.kind == "M" and pa.types.is_date(kind)
    days = values.astype("datetime64[D]") if moments else None
    if days is not None and not np.array_equal(days[~np.isnat(days)], values[~np.isnat(days)]):
        raise pa.ArrowInvalid(f"{values.dtype} as {kind} would lose the time of day")
    if values.dtype.kind == "f" and pa.types.is_integer(kind):
        known = values[~np.isnan(values)]
        if not np.array_equal(known, np.trunc(known)):
            raise pa.ArrowInvalid(f"{values.dtype} as {kind} would lose fractions")


def _check_fractions(values: Sequence[Any], kind: pa.DataType) -> None:
    try:
        inferred: pa.Array[Any] = pa.array(values)
        if _holds(inferred.type, pa.types.is_floating):
            inferred.cast(kind)
    except (pa.ArrowException, TypeError, OverflowError) as error:
        # Other errors only mean that the values need the declared type.
        if "truncated" in str(error):
            raise


def _holds(kind: pa.DataType, *tests: Any) -> bool:
    """Returns whether the type, or a type inside it, passes one of the tests."""
    inside = [kind]
    while inside:
        one = inside.pop()
        if any(test(one) for test in tests):
            return True
        if isinstance(one, pa.DictionaryType):
            inside.append(one.value_type)
        inside.extend(one.field(place).type for place in range(one.num_fields))
    return False


def vector_shape(kind: pa.DataType) -> tuple[int, ...]:
    """Returns the shape of the values of nested fixed-size lists; () for other types."""
    sizes = []
    while pa.types.is_fixed_size_list(kind):
        sizes.append(kind.list_size)
        kind = kind.value_type
    return tuple(sizes)


def vector_array(stacked: np.ndarray[Any, Any], kind: pa.DataType) -> pa.Array[Any]:
    """Returns arrays of n dimensions as nested fixed-size lists, without creating Python values."""
    kinds = [kind]
    while pa.types.is_fixed_size_list(kinds[-1]):
        kinds.append(kinds[-1].value_type)
    array: pa.Array[Any] = pa.array(stacked.reshape(-1)).cast(kinds[-1])
    for outer in reversed(kinds[:-1]):
        array = pa.FixedSizeListArray.from_arrays(array, type=outer)  # type: ignore[call-overload]  # stubs are older
    return array
