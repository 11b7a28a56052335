"""Patterns of LIKE: ``%`` stands for any characters, ``_`` for one, a backslash takes the next one as it is."""

from __future__ import annotations

import enum
from typing import TypeAlias

ESCAPE = "\\"


class Wildcard(enum.Enum):
    """What stands for other characters."""

    ANY = "%"
    ONE = "_"


Part: TypeAlias = str | Wildcard


def parse_pattern(pattern: str) -> tuple[Part, ...]:
    """The pattern as runs of characters and wildcards; no two runs, no two ``ANY``, beside each other.

    Raises:
        ValueError: the pattern ends with a backslash.

    Example:
        >>> parse_pattern("a%")
        ('a', <Wildcard.ANY: '%'>)
    """
    found: list[Part] = []
    rest = iter(pattern)
    for char in rest:
        part: Part = _escaped_character(next(rest, None)) if char == ESCAPE else _WILDCARDS.get(char, char)
        last = found[-1] if found else None
        if isinstance(part, str) and isinstance(last, str):
            found[-1] = last + part
        elif not part is last is Wildcard.ANY:
            found.append(part)
    return tuple(found)


def literal_prefix(pattern: str) -> str:
    """What every match starts with."""
    first = next(iter(parse_pattern(pattern)), "")
    return first if isinstance(first, str) else ""


def _escaped_character(char: str | None) -> str:
    if char is None:
        raise ValueError("a pattern must not end with a backslash")
    return char


_WILDCARDS = {wild.value: wild for wild in Wildcard}
