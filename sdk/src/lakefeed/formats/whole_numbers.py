"""Decimal types for whole numbers that int64 or float64 cannot hold. Arrow's readers round them to floats."""

from __future__ import annotations

import decimal
import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import types

from lakefeed._arrow import compute as pc
from lakefeed.errors import FormatError

MAX_EXACT_FLOAT = 2**53
"""Floats represent all whole numbers below exactly."""

INT64 = range(-(2**63), 2**63)
MAX_DIGITS = 76
WHOLE_NUMBER = r"^\s*[+-]?[0-9]+\s*$"
LONG_WHOLE = r"^\s*[+-]?[0-9]{16,}\s*$"
LONG_JSON_WHOLE = re.compile(rb"[:,\[]\s*-?[0-9]{16,}\s*[,\]}]")
"""A whole number that may lie beyond `MAX_EXACT_FLOAT`."""


def decimal_type(digits: int) -> pa.DataType | None:
    """Returns the decimal type for whole numbers with this many digits; None if no decimal type holds them.

    Example:
        >>> decimal_type(20)
        Decimal128Type(decimal128(38, 0))
    """
    if digits > MAX_DIGITS:
        return None
    return pa.decimal128(38, 0) if digits <= 38 else pa.decimal256(MAX_DIGITS, 0)


def may_be_inexact(column: pa.ChunkedArray[Any] | pa.Array[Any]) -> bool:
    """Returns whether a column has floats, also in lists and structs, that may be rounded whole numbers."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return any(_may_be_rounded(chunk) for chunk in chunks)


def max_digits(texts: pa.ChunkedArray[Any]) -> int | None:
    """Returns the maximum number of digits if all texts are whole numbers, else None."""
    if not pc.all(pc.match_substring_regex(texts, WHOLE_NUMBER)).as_py():
        return None
    digits = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^[+-]?0*", "")
    longest: int = pc.max(pc.utf8_length(digits)).as_py()
    return longest


def decimal_with(numbers: Iterable[decimal.Decimal]) -> pa.DataType | None:
    """Returns the decimal type that holds all numbers exactly; None if there is none.

    Example:
        >>> decimal_with([decimal.Decimal("9007199254740993"), decimal.Decimal("0.5")])
        Decimal128Type(decimal128(38, 1))
    """
    integer_digits = scale = 0
    for number in numbers:
        exponent = number.as_tuple().exponent
        if not isinstance(exponent, int):  # NaN or infinity
            return None
        integer_digits, scale = max(integer_digits, number.adjusted() + 1), max(scale, -exponent)
    if integer_digits + scale > MAX_DIGITS:
        return None
    return pa.decimal128(38, scale) if integer_digits + scale <= 38 else pa.decimal256(MAX_DIGITS, scale)


def is_rounded(number: int) -> bool:
    """Returns whether float64 would round a whole number."""
    try:
        return int(float(number)) != number
    except OverflowError:
        return True


def rounded_text(texts: pa.ChunkedArray[Any]) -> str | None:
    """Returns the first text with a whole number that float64 would round; None if there is none."""
    is_long: Any = pc.match_substring_regex(texts, LONG_WHOLE).fill_null(False)
    candidates: list[Any] = texts.filter(is_long).to_pylist()
    return next((text for text in candidates if is_rounded(_parsed_int(text.strip()))), None)


def decimal_of_texts(texts: pa.ChunkedArray[Any]) -> pa.DataType | None:
    """Returns the decimal type that holds the numbers in all texts exactly; None if there is none."""
    present: list[Any] = texts.drop_null().to_pylist()
    try:
        return decimal_with(decimal.Decimal(text.strip()) for text in present)
    except decimal.InvalidOperation:
        return None


def rounded_number(schema: pa.Schema, block: bytes) -> str | None:
    """Returns a message about the first whole number in JSON lines that a float column would round, or None."""
    if LONG_JSON_WHOLE.search(block) is None:
        return None
    for value in _parse_objects(block.decode()):
        for field in schema:
            number = _rounded_inside(field.type, value.get(field.name))
            if number is not None:
                return f"{field.name!r} has {number}, which {pa.float64()} would round; earlier rows are doubles"
    return None


def _rounded_inside(kind: pa.DataType, value: Any) -> int | None:
    if types.is_float64(kind):
        return value if type(value) is int and is_rounded(value) else None
    children: list[tuple[pa.DataType, Any]] = []
    if types.is_struct(kind) and isinstance(value, dict):
        children = [(kind.field(n).type, value.get(kind.field(n).name)) for n in range(kind.num_fields)]
    if types.is_list(kind) and isinstance(value, list):
        children = [(kind.value_type, item) for item in value]
    return next((number for child in children if (number := _rounded_inside(*child)) is not None), None)


def with_whole_numbers(schema: pa.Schema, block: bytes, name: str) -> pa.Schema:
    """Returns the schema of JSON lines with decimals for whole numbers beyond int64, or that floats would round.

    Args:
        schema: the schema that Arrow infers.
        block: the lines.
        name: the name of the file for messages.

    Raises:
        FormatError: no decimal holds the numbers.
    """
    values = list(_parse_objects(block.decode()))
    fields = [
        field.with_type(_widen_type(field.type, [value.get(field.name) for value in values], f"{name}: {field.name!r}"))
        for field in schema
    ]
    return pa.schema(fields)


def _may_be_rounded(array: Any) -> bool:
    kind = array.type
    if types.is_float64(kind):
        return bool((np.abs(array.drop_null().to_numpy(zero_copy_only=False)) >= MAX_EXACT_FLOAT).any())
    if types.is_struct(kind):
        return any(_may_be_rounded(child) for child in array.flatten())
    return types.is_list(kind) and _may_be_rounded(array.flatten())


def _parse_objects(text: str) -> Iterator[dict[str, Any]]:
    """Yields the objects of JSON lines. One line may hold several objects."""
    decoder = json.JSONDecoder(parse_int=_parsed_int, parse_float=decimal.Decimal)
    position = _skip_space(text, 0)
    while position < len(text):
        value, position = decoder.raw_decode(text, position)
        yield value
        position = _skip_space(text, position)


def _skip_space(text: str, position: int) -> int:
    while position < len(text) and text[position] in " \t\r\n":
        position += 1
    return position


def _parsed_int(text: str) -> int:
    """Returns the number, or a number beyond all decimals if the text is too long. Python limits the length of text."""
    return int(text) if len(text) <= MAX_DIGITS + 1 else 10**MAX_DIGITS


def _widen_type(kind: pa.DataType, values: list[Any], location: str) -> pa.DataType:
    present = [value for value in values if value is not None]
    if types.is_struct(kind):
        inner = [kind.field(n) for n in range(kind.num_fields)]
        return pa.struct(
            field.with_type(
                _widen_type(field.type, [value.get(field.name) for value in present], f"{location}.{field.name!r}")
            )
            for field in inner
        )
    if types.is_list(kind):
        items = [item for value in present for item in value]
        return pa.list_(kind.value_field.with_type(_widen_type(kind.value_type, items, location)))
    return _decimal_for(present, location) if types.is_float64(kind) and _needs_decimal(present) else kind


def _needs_decimal(values: Iterable[Any]) -> bool:
    numbers = list(values)
    integers = [value for value in numbers if type(value) is int]
    if len(integers) == len(numbers):
        return any(value not in INT64 for value in integers)
    return any(map(is_rounded, integers))


def _decimal_for(values: Iterable[Any], location: str) -> pa.DataType:
    numbers = list(values)
    kind = decimal_with(map(decimal.Decimal, numbers))
    if kind is None and all(type(number) is int for number in numbers):
        raise FormatError(
            f"{location} has a whole number of more than {MAX_DIGITS} digits, which no type holds; write it as text"
        )
    if kind is None:
        raise FormatError(
            f"{location} has a whole number that float64 would round, and no decimal of {MAX_DIGITS} digits holds it "
            "and the other numbers; write them as text, or declare them as floats with schema="
        )
    return kind
