"""Regular expressions of tantivy for the terms that a LIKE pattern or a comparison of text matches."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from lakefeed.expr.like import Wildcard, parse_pattern

SPECIAL: Final = frozenset("\\.+*?()|[]{}^$#&-~/")
ONE: Final = "(.|\n)"
ANY: Final = "(.|\n)*"
NESTED_CHARACTERS: Final = 16
"""Alternatives are nested so deeply; a longer text gives several patterns."""
LAST_BEFORE_SURROGATES: Final = 0xD7FF
FIRST_AFTER_SURROGATES: Final = 0xE000
LAST_CHARACTER: Final = 0x10FFFF


def like_pattern(pattern: str) -> str:
    """Returns the regular expression of a LIKE pattern."""
    wildcards = {Wildcard.ANY: ANY, Wildcard.ONE: ONE}
    return "".join(_escaped(part) if isinstance(part, str) else wildcards[part] for part in parse_pattern(pattern))


def less_patterns(text: str, or_equal: bool) -> Iterator[str]:
    """Yields patterns, one of which matches each text that comes before another one in the order of UTF-8.

    Example:
        >>> len(list(less_patterns("b" * 20, True)))
        3
    """
    for start in range(0, len(text), NESTED_CHARACTERS):
        pattern = ""
        for character in reversed(text[start : start + NESTED_CHARACTERS]):
            longer = [_escaped(character) + pattern] if pattern else []
            pattern = f"({'|'.join([*_class(0, ord(character) - 1), *longer])})?"  # a prefix comes before, too
        yield _escaped(text[:start]) + pattern
    if or_equal:
        yield _escaped(text)


def greater_patterns(text: str, or_equal: bool) -> Iterator[str]:
    """Yields patterns, one of which matches each text that comes after another one in the order of UTF-8."""
    for start in range(0, len(text), NESTED_CHARACTERS):
        pattern = ""
        for character in reversed(text[start : start + NESTED_CHARACTERS]):
            longer = [_escaped(character) + pattern] if pattern else []
            alternatives = [*_class(ord(character) + 1, LAST_CHARACTER), *longer]
            pattern = f"({'|'.join(alternatives)})" if alternatives else ""
        if pattern:
            yield _escaped(text[:start]) + pattern
    yield _escaped(text) + ("" if or_equal else ONE) + ANY


def _class(low: int, high: int) -> list[str]:
    """Returns the pattern of a character of a range, with anything after it; none for an empty range."""
    below = (low, min(high, LAST_BEFORE_SURROGATES))
    above = (max(low, FIRST_AFTER_SURROGATES), high)
    ranges = "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in (below, above) if first <= last)
    return [f"[{ranges}]{ANY}"] if ranges else []


def _escaped(text: str) -> str:
    return "".join(f"\\{each}" if each in SPECIAL else each for each in text)
