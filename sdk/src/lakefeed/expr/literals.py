"""Literals of filter text, and their conversion to the type that they are compared with.

A literal takes the type of the other side where it fits without loss, so that the comparison casts no column.
Where it does not fit (`0.5` beside an integer, `300` beside an int8) it keeps a type of its own that holds it.
Beside float32 and float16 a number is rounded to that precision, as the column's values were when written.
A timestamp without an offset is UTC beside a column with a time zone.
"""

from __future__ import annotations

import datetime as dt
import math
import re
import struct
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, TypeAlias
from typing import Literal as OneOf

import numpy as np
import pyarrow as pa

from lakefeed.expr.comparison_types import (
    NS_MAX,
    NS_PER_DAY,
    NS_PER_UNIT,
    WIDE_INTEGER,
    WIDEST_DECIMAL,
    kernel_type,
    kind,
)
from lakefeed.expr.nodes import Literal

INT64_MAX = 2**63 - 1
_EPOCH = dt.datetime(1970, 1, 1)
_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?\s?(Z|[+-]\d\d(?::?\d\d)?)?)?", re.ASCII
)
_ISO_TIME = re.compile(r"(\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?", re.ASCII)
_PACK = {16: "<e", 32: "<f"}


class IncompatibleLiteralError(ValueError):
    """A literal cannot be compared with a type; the message says why."""


@dataclass(frozen=True)
class Number:
    """A number as text, with its sign."""

    text: str

    @property
    def decimal_value(self) -> Decimal:
        """Returns the number without trailing zeros in its fraction and without a positive exponent."""
        number = Decimal(self.text)
        sign, digits, exponent = number.as_tuple()
        places = int(exponent)
        if places >= 0 or not number:
            return Decimal(int(number))
        significant = "".join(map(str, digits)).rstrip("0")
        return Decimal((sign, tuple(map(int, significant)), places + len(digits) - len(significant)))

    def negated(self) -> Number:
        return Number(self.text.removeprefix("-") if self.text.startswith("-") else f"-{self.text}")


@dataclass(frozen=True)
class Text:
    """A quoted string."""

    text: str


@dataclass(frozen=True)
class Blob:
    """Bytes, written as ``x'00ff'``."""

    value: bytes


@dataclass(frozen=True)
class Moment:
    """A date or timestamp as nanoseconds since 1970, in UTC where ``zoned``."""

    form: OneOf["date", "timestamp"]
    ns: int
    zoned: bool = False


@dataclass(frozen=True)
class Null:
    """The literal ``None`` or ``null``."""


RawLiteral: TypeAlias = Number | Text | Blob | Moment | Null


def parse_moment(text: str) -> Moment:
    """Returns the date or timestamp of ISO 8601 text.

    Raises:
        IncompatibleLiteralError: the text is not a date or timestamp.
    """
    match = _ISO.fullmatch(text.strip())
    if match is None:
        raise IncompatibleLiteralError(
            f"invalid date or timestamp {text!r}; write 2024-01-31 or 2024-01-31T12:30:00.5+02:00"
        )
    day, clock, fraction, offset = match.groups()
    try:
        local = dt.datetime.fromisoformat(f"{day}T{clock or '00:00'}{offset or ''}")
        instant = local.astimezone(dt.UTC).replace(tzinfo=None) if offset else local
    except (ValueError, OverflowError) as error:
        raise IncompatibleLiteralError(f"invalid date or timestamp {text!r}: {error}") from None
    ns = (instant - _EPOCH) // dt.timedelta(seconds=1) * NS_PER_UNIT["s"] + _fraction_ns(fraction)
    return Moment("timestamp" if clock else "date", ns, offset is not None)


def infer_literal(raw: RawLiteral) -> Literal:
    """Returns the literal in the type that its text suggests."""
    match raw:
        case Number():
            return coerce_literal(raw, pa.int64() if raw.text.removeprefix("-").isdigit() else pa.float64())
        case Text():
            return coerce_literal(raw, pa.string())
        case Blob():
            return coerce_literal(raw, pa.binary())
        case Moment(form="date"):
            return coerce_literal(raw, pa.date32())
        case Moment():
            return coerce_literal(raw, pa.timestamp("ns" if raw.ns % 1000 else "us", "UTC" if raw.zoned else None))
        case Null():
            raise IncompatibleLiteralError("null has no type; write `is null` or `is not null`")


def coerce_literal(raw: RawLiteral, to: pa.DataType) -> Literal:
    """Returns the literal as a value of ``to`` where it fits without loss, else of a type of its own.

    Raises:
        IncompatibleLiteralError: a literal of this kind cannot be compared with ``to``.
    """
    wanted = kind(to)
    if isinstance(raw, Text) and wanted in ("date", "timestamp", "zoned"):
        raw = parse_moment(raw.text)
    match raw, wanted:
        case Number(), "int":
            return _integer(raw, to)
        case Number(), "float":
            return _float(raw, to)
        case Number(), "decimal":
            return _decimal(raw, to)
        case Text(), "string":
            return Literal(raw.text, kernel_type(to))
        case Blob(), "binary":
            return Literal(raw.value, kernel_type(to))
        case Text(), "time":
            return _time(raw.text, to)
        case Moment(), "date":
            return _date(raw)
        case Moment(), "timestamp" | "zoned":
            return _timestamp(raw, to)
    raise IncompatibleLiteralError(f"{to} cannot be compared with {describe_literal(raw)}")


def describe_literal(raw: RawLiteral) -> str:
    """Returns the literal in words, for errors."""
    match raw:
        case Number():
            return f"the number {raw.text}"
        case Text():
            return f"the string {raw.text!r}"
        case Blob():
            return f"the bytes x'{raw.value.hex()}'"
        case Moment():
            return f"a {raw.form}"
        case Null():
            return "null"


def format_value(literal: Literal) -> str:
    """Returns the value as text without quotes or type, such as the date in ``date '2024-01-31'``."""
    value: Any = literal.value
    match kind(literal.type):
        case "bool":
            return str(value).lower()
        case "float":
            return _format_float(value, literal.type)
        case "decimal":
            return format(value, "f")
        case "binary":
            return str(value.hex())
        case "date":
            return (_EPOCH + dt.timedelta(days=value)).date().isoformat()
        case "timestamp" | "zoned" | "time":
            return _format_iso(literal)
        case _:
            return str(value)


def _integer(raw: Number, to: Any) -> Literal:
    number = raw.decimal_value
    if int(number.as_tuple().exponent) < 0:
        return Literal(float(raw.text), pa.float64())
    value = int(number)
    low, high = _integer_range(to)
    if low <= value <= high:
        return Literal(value, to)
    if -INT64_MAX - 1 <= value <= INT64_MAX:
        return Literal(value, pa.int64())
    if abs(value) < 10**WIDEST_DECIMAL:
        return Literal(Decimal(value), WIDE_INTEGER)
    return Literal(float(raw.text), pa.float64())


def _integer_range(of: Any) -> tuple[int, int]:
    if pa.types.is_signed_integer(of):
        return -(2 ** (of.bit_width - 1)), 2 ** (of.bit_width - 1) - 1
    return 0, int(2**of.bit_width) - 1


def _float(raw: Number, to: Any) -> Literal:
    value = float(raw.text)
    if to.bit_width == 64:
        return Literal(value, to)
    form = _PACK[to.bit_width]
    try:
        return Literal(struct.unpack(form, struct.pack(form, value))[0], to)
    except OverflowError:
        return Literal(value, pa.float64())


def _decimal(raw: Number, to: Any) -> Literal:
    number = raw.decimal_value
    _, digits, exponent = number.as_tuple()
    scale = max(0, -int(exponent))
    whole = max(0, len(digits) + int(exponent)) if number else 0
    if scale <= to.scale and whole <= to.precision - to.scale:
        return Literal(number, to)
    if scale + whole <= WIDEST_DECIMAL:
        return Literal(number, pa.decimal128(max(1, scale + whole), scale))
    return Literal(float(raw.text), pa.float64())


def _date(raw: Moment) -> Literal:
    if raw.zoned:
        raise IncompatibleLiteralError("a date cannot be compared with a timestamp that has an offset")
    days, rest = divmod(raw.ns, NS_PER_DAY)
    return Literal(days, pa.date32()) if rest == 0 else _timestamp(raw, pa.timestamp("us"))


def _timestamp(raw: Moment, to: Any) -> Literal:
    if raw.zoned and to.tz is None:
        raise IncompatibleLiteralError(f"{to} has no time zone; write the timestamp without an offset")
    value, rest = divmod(raw.ns, NS_PER_UNIT[to.unit])
    if rest == 0:
        return Literal(_clamp_ns(value), to)
    if raw.ns % NS_PER_UNIT["us"]:
        # In nanoseconds the column's years beyond 2262 would not fit.
        raise IncompatibleLiteralError(f"{to} is less precise; write at most 6 digits after the seconds")
    return Literal(raw.ns // NS_PER_UNIT["us"], pa.timestamp("us", None if to.tz is None else "UTC"))


def _clamp_ns(value: int) -> int:
    # timestamp[ns] ends in 2262; '9999-12-31' stands for the end of time.
    return max(-NS_MAX, min(NS_MAX, value))


def _time(text: str, to: Any) -> Literal:
    match = _ISO_TIME.fullmatch(text.strip())
    if match is None:
        raise IncompatibleLiteralError(f"invalid time of day {text!r}; write 12:30:00.5")
    try:
        clock = dt.time.fromisoformat(match[1])
    except ValueError as error:
        raise IncompatibleLiteralError(f"invalid time of day {text!r}: {error}") from None
    ns = (clock.hour * 3600 + clock.minute * 60 + clock.second) * NS_PER_UNIT["s"] + _fraction_ns(match[2])
    value, rest = divmod(ns, NS_PER_UNIT[to.unit])
    return Literal(value, to) if rest == 0 else Literal(ns, pa.time64("ns"))


def _format_iso(literal: Literal) -> str:
    unit: Any = literal.type
    per_second = NS_PER_UNIT["s"] // NS_PER_UNIT[unit.unit]
    seconds, fraction = divmod(int(literal.value), per_second)
    at = _EPOCH + dt.timedelta(seconds=seconds)
    digits = f".{fraction:0{round(math.log10(per_second))}d}".rstrip("0") if fraction else ""
    if kind(unit) == "time":
        return at.time().isoformat() + digits
    return at.isoformat() + digits + ("" if unit.tz is None else "+00:00")


def _format_float(value: float, of: Any) -> str:
    narrow = {16: np.float16, 32: np.float32}.get(of.bit_width)
    return repr(value) if narrow is None else str(narrow(value))


def _fraction_ns(digits: str | None) -> int:
    return int((digits or "0").ljust(9, "0"))
