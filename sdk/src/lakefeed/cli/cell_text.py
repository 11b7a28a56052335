"""Values as text: for a terminal, for a pipe and for JSON."""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from pathlib import PurePath
from typing import Any, Literal

MAX_CELL_CHARS = 80
MAX_ITEMS = 8
"""Items of a list, or fields of a struct, that a terminal shows."""
CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
BACKSLASH_OR_CONTROL = re.compile(r"[\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
ESCAPES = {"\t": "\\t", "\n": "\\n", "\r": "\\r", "\\": "\\\\"}
UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB")


@dataclass(frozen=True)
class Column:
    """A column of a result.

    Attributes:
        name: its name.
        kind: "value" for anything, "version" for version numbers, "count" for numbers with separators, "bytes" for
            sizes, "time" for milliseconds since 1970, "list" for several texts.
    """

    name: str
    kind: Literal["value", "version", "count", "bytes", "time", "list"] = "value"

    def to_terminal(self, value: Any) -> str:
        """Returns the text of a value for a terminal. Long values are cut."""
        if value is None:
            return "-" if self.kind != "value" else ""
        if self.kind == "version":
            return f"v{value}"
        if self.kind == "count":
            return f"{value:,}"
        if self.kind == "bytes":
            return human_size(value)
        if self.kind == "time":
            return _local_time(value)
        if self.kind == "list":
            return ", ".join(map(escape, value))
        return shorten(display_text(value))

    def to_pipe(self, value: Any) -> str:
        """Returns the complete text of a value for tab-separated output. Null is empty."""
        if value is None:
            return ""
        if self.kind == "time":
            return _iso_time(value)
        if self.kind == "list":
            return ",".join(map(escape, value))
        return escape(value) if isinstance(value, str) else escape(_plain_text(value))

    def to_json(self, value: Any) -> Any:
        """Returns the value as JSON has it."""
        return _iso_time(value) if self.kind == "time" and value is not None else to_json(value)


def _moment(milliseconds: int) -> dt.datetime:
    return dt.datetime.fromtimestamp(milliseconds / 1000, dt.UTC)


def _iso_time(milliseconds: int) -> str:
    try:
        return _moment(milliseconds).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"  # no calendar has it: another writer had a clock or a unit that is wrong


def _local_time(milliseconds: int) -> str:
    try:
        return _moment(milliseconds).astimezone().strftime("%Y-%m-%d %H:%M")
    except (OverflowError, ValueError, OSError):
        return f"{milliseconds} ms"


def to_json(value: Any) -> Any:
    """Returns a value as JSON has it.

    Times are in ISO 8601, bytes in base64, decimals are text, and NaN and infinity are null.
    """
    match value:
        case None | bool() | int() | str():
            return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
        case float():
            return value if math.isfinite(value) else None
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Mapping():
            return {str(key): to_json(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [to_json(item) for item in value]
        case Decimal() | PurePath():
            return str(value)
    if hasattr(value, "tolist"):  # of NumPy
        return to_json(value.tolist())
    return to_json(value.record()) if hasattr(value, "record") else str(value)


def _plain_text(value: Any) -> str:
    """Returns a value as text, complete: a scalar by itself, a nested value as JSON."""
    if isinstance(value, float):
        return repr(value)
    plain = to_json(value)
    if isinstance(plain, bool | list | dict):
        return json.dumps(plain, ensure_ascii=False)
    return str(plain)


def display_text(value: Any) -> str:
    """Returns a value as text to look at: lists, structs and bytes are cut."""
    match value:
        case None:
            return "null"
        case str():
            return escape(value[: 2 * MAX_CELL_CHARS], backslash=False)
        case bool():
            return str(value).lower()
        case bytes() | bytearray() | memoryview():
            start = bytes(value[:8]).hex()
            return f"<{len(value):,} bytes {start}{'…' if len(value) > 8 else ''}>" if len(value) else "<0 bytes>"
        case float():
            return repr(value)
        case Mapping():
            fields = [f"{key}: {display_text(item)}" for key, item in list(value.items())[:MAX_ITEMS]]
            return "{" + ", ".join(fields) + _more(len(value)) + "}"
        case list() | tuple():
            return "[" + ", ".join(display_text(item) for item in value[:MAX_ITEMS]) + _more(len(value)) + "]"
    if hasattr(value, "record"):  # of a file column
        return escape(repr(value), backslash=False)
    return escape(str(to_json(value)), backslash=False)


def _more(items: int) -> str:
    return f", … {items - MAX_ITEMS:,} more" if items > MAX_ITEMS else ""


def shorten(text: str, most: int = MAX_CELL_CHARS) -> str:
    """Returns a text of at most ``most`` characters."""
    return text if len(text) <= most else text[: most - 1] + "…"


def escape(text: str, *, backslash: bool = True) -> str:
    """Returns a text without control characters: they would move columns, or change the terminal."""
    return (BACKSLASH_OR_CONTROL if backslash else CONTROL).sub(_escape_character, text)


def escape_lines(text: str) -> str:
    """Returns a text of several lines without control characters."""
    return "\n".join(escape(line, backslash=False) for line in text.splitlines())


def _escape_character(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    return ESCAPES.get(character) or (f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}")


def human_size(size: int) -> str:
    """Returns a number of bytes with its unit.

    Example:
        >>> human_size(1536)
        '1.5 KiB'
    """
    power = min(max(size.bit_length() - 1, 0) // 10, len(UNITS) - 1)
    return f"{size / 1024**power:.{1 if power else 0}f} {UNITS[power]}"


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun.

    Example:
        >>> counted(1, "row"), counted(2500, "row")
        ('1 row', '2,500 rows')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"
