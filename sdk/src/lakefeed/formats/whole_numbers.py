"""Types for whole numbers that int64 cannot hold: Arrow's readers make floats of them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import types

from lakefeed.errors import FormatError

MAX_EXACT_FLOAT = 2**53
"""Floats hold all whole numbers below."""

INT64 = range(-(2**63), 2**63)
MAX_DIGITS = 76
WHOLE_NUMBER = r"^\s*[+-]?[0-9]+\s*$"


def decimal_type(digits: int) -> pa.DataType | None:
    """Returns the decimal type for whole numbers of so many digits; None if they are too long for all.

    Example:
        >>> decimal_of(20)
        Decimal128Type(decimal128(38, 0))
    """
    if digits > MAX_DIGITS:
        return None
    return pa.decimal128(38, 0) if digits <= 38 else pa.decimal256(MAX_DIGITS, 0)


def may_be_inexact(column: pa.ChunkedArray[Any] | pa.Array[Any]) -> bool:
    """Whether a column has floats, in lists and structs too, that may be rounded whole numbers."""
    chunks = column.chunks if isinstance(column, pa.ChunkedArray) else [column]
    return any(_may_be_rounded(chunk) for chunk in chunks)


def max_digits(texts: pa.ChunkedArray[Any]) -> int | None:
    """Returns how many digits the longest of these texts has, if all are whole numbers; else None."""
    if not pc.all(pc.match_substring_regex(texts, WHOLE_NUMBER)).as_py():
        return None
    digits = pc.replace_substring_regex(pc.utf8_trim_whitespace(texts), r"^[+-]?0*", "")
    longest: int = pc.max(pc.utf8_length(digits)).as_py()
    return longest


def with_whole_numbers(schema: pa.Schema, block: bytes, name: str) -> pa.Schema:
    """Returns the schema of JSON lines with decimals where all numbers are whole and some are beyond int64.

    Args:
        schema: as Arrow reads the lines.
        block: the lines.
        name: of the file, for messages.

    Raises:
        FormatError: a number has more than 76 digits.
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
    """The objects of JSON lines; a text may hold several in a line."""
    decoder = json.JSONDecoder(parse_int=_parsed_int)
    place = _after_space(text, 0)
    while place < len(text):
        value, place = decoder.raw_decode(text, place)
        yield value
        place = _after_space(text, place)


def _after_space(text: str, place: int) -> int:
    while place < len(text) and text[place] in " \t\r\n":
        place += 1
    return place


def _parsed_int(text: str) -> int:
    """The number; for one that no decimal holds any that no decimal holds. Python limits how long a text may be."""
    return int(text) if len(text) <= MAX_DIGITS + 1 else 10**MAX_DIGITS


def _widen_type(kind: pa.DataType, values: list[Any], place: str) -> pa.DataType:
    present = [value for value in values if value is not None]
    if types.is_struct(kind):
        inner = [kind.field(n) for n in range(kind.num_fields)]
        return pa.struct(
            field.with_type(
                _widen_type(field.type, [value.get(field.name) for value in present], f"{place}.{field.name!r}")
            )
            for field in inner
        )
    if types.is_list(kind):
        items = [item for value in present for item in value]
        return pa.list_(kind.value_field.with_type(_widen_type(kind.value_type, items, place)))
    return _decimal_for(present, place) if types.is_float64(kind) and _exceed_int64(present) else kind


def _exceed_int64(values: Iterable[Any]) -> bool:
    whole = list(values)
    return all(type(value) is int for value in whole) and any(value not in INT64 for value in whole)


def _decimal_for(values: Iterable[int], place: str) -> pa.DataType:
    kind = decimal_type(max(len(str(abs(value))) for value in values))
    if kind is None:
        raise FormatError(
            f"{place} has a whole number of more than {MAX_DIGITS} digits, which no type holds; write it as text"
        )
    return kind
