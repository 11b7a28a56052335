"""Text to tokens, and errors that point into the text."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from lakefeed.errors import ExpressionError

TokenKind: TypeAlias = Literal["number", "string", "name", "quoted", "word", "operator", "end"]

WORDS = frozenset(("and", "or", "not", "in", "is", "null", "none", "true", "false", "like", "between"))
SHOWN_BEFORE, SHOWN_AFTER = 60, 40
_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number>(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,4}(?![0-9]))?(?![\w.]))
      | (?P<string>'(?:[^']|'')*'|"(?:[^"]|"")*")
      | (?P<name>[^\W\d]\w*)
      | `(?P<quoted>(?:[^`]|``)+)`
      | (?P<operator>==|!=|<>|<=|>=|\|\||[=<>+\-*/%()\[\],.])
      | (?P<end>\Z)
    )""",
    re.VERBOSE,
)
_ADVICE = {"&": "write `and`", "|": "write `or`", "!": "write `not` or `!=`", "~": "write `not`", ";": "leave it out"}


@dataclass(frozen=True)
class Token:
    """A piece of the text; ``text`` is unquoted for strings and names, lower case for words."""

    kind: TokenKind
    text: str
    at: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def tokenize(text: str) -> list[Token]:
    """The tokens of the text, the last of them of kind ``end``.

    Raises:
        ExpressionError: something in the text belongs to no token.
    """
    found: list[Token] = []
    at = 0
    while not found or found[-1].kind != "end":
        match = _TOKEN.match(text, at)
        if match is None:
            raise _unreadable_error(text, at)
        found.append(_token(match))
        at = match.end()
    return found


def syntax_error(text: str, at: int, what: str) -> ExpressionError:
    """The error that says what is wrong and shows where."""
    return ExpressionError(f"{what}\n{point_at(text, at)}")


def point_at(text: str, at: int) -> str:
    """The part of the text around the place, with a caret line below it."""
    start, stop = max(0, at - SHOWN_BEFORE), at + SHOWN_AFTER
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shown = re.sub(r"\s", " ", text[start:stop])
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + at - start)}^"


def _token(match: re.Match[str]) -> Token:
    kind, text = str(match.lastgroup), match[str(match.lastgroup)]
    at = match.start(kind)
    if kind == "string":
        quote = text[0]
        return Token("string", text[1:-1].replace(quote * 2, quote), at)
    if kind == "quoted":
        return Token("quoted", text.replace("``", "`"), at - 1)
    if kind == "name" and text.lower() in WORDS:
        return Token("word", text.lower(), at)
    return Token(_KIND[kind], text, at)


def _unreadable_error(text: str, after: int) -> ExpressionError:
    at = after + len(text[after:]) - len(text[after:].lstrip())
    char = text[at]
    if char in "'\"`":
        return syntax_error(text, at, f"the {'name' if char == '`' else 'string'} that begins here does not end")
    if char.isdigit() or char == ".":
        return syntax_error(text, at, "this is no number; a name that begins with a digit goes into backticks")
    hint = f"; {_ADVICE[char]}" if char in _ADVICE else ""
    return syntax_error(text, at, f"{char!r} has no meaning here{hint}")


_KIND: dict[str, TokenKind] = {"number": "number", "name": "name", "operator": "operator", "end": "end"}
