"""Patterns of LIKE: ``%`` matches any characters, ``_`` one, and a backslash escapes the next character."""

from __future__ import annotations

import enum
from typing import TypeAlias

ESCAPE = "\\"


class Wildcard(enum.Enum):
    """A part of a pattern that matches other characters."""

    ANY = "%"
    ONE = "_"


Part: TypeAlias = str | Wildcard


def parse_pattern(pattern: str) -> tuple[Part, ...]:
    """Returns the pattern as runs of characters and wildcards, without two runs or two ``ANY`` in a row.

    Raises:
        ValueError: the pattern ends with a backslash.

    Example:
        >>> parse_pattern("a%")
        ('a', <Wildcard.ANY: '%'>)
    """
    parsed: list[Part] = []
    rest = iter(pattern)
    for char in rest:
        part: Part = _escaped_character(next(rest, None)) if char == ESCAPE else _WILDCARDS.get(char, char)
        last = parsed[-1] if parsed else None
        if isinstance(part, str) and isinstance(last, str):
            parsed[-1] = last + part
        elif not part is last is Wildcard.ANY:
            parsed.append(part)
    return tuple(parsed)


def literal_prefix(pattern: str) -> str:
    """Returns the characters with which every match starts."""
    first = next(iter(parse_pattern(pattern)), "")
    return first if isinstance(first, str) else ""


def _escaped_character(char: str | None) -> str:
    if char is None:
        raise ValueError("a pattern must not end with a backslash")
    return char


_WILDCARDS = {wild.value: wild for wild in Wildcard}
