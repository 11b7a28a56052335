"""The tokenizer of filter text, and errors that point into the text."""

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
    """A token of the text. ``text`` is unquoted for strings and names, and lower case for words."""

    kind: TokenKind
    text: str
    offset: int

    def __str__(self) -> str:
        return "the end" if self.kind == "end" else repr(self.text)


def tokenize(text: str) -> list[Token]:
    """Returns the tokens of the text; the last one has kind ``end``.

    Raises:
        ExpressionError: a part of the text is not a token.
    """
    tokens: list[Token] = []
    offset = 0
    while not tokens or tokens[-1].kind != "end":
        match = _TOKEN.match(text, offset)
        if match is None:
            raise _unreadable_error(text, offset)
        tokens.append(_token(match))
        offset = match.end()
    return tokens


def syntax_error(text: str, offset: int, message: str) -> ExpressionError:
    """Returns the error with the message and the text around ``offset``."""
    return ExpressionError(f"{message}\n{point_at(text, offset)}")


def point_at(text: str, offset: int) -> str:
    """Returns the part of the text around ``offset``, with a caret below it."""
    start, stop = max(0, offset - SHOWN_BEFORE), offset + SHOWN_AFTER
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shown = re.sub(r"\s", " ", text[start:stop])
    return f"    {before}{shown}{after}\n    {' ' * (len(before) + offset - start)}^"


def _token(match: re.Match[str]) -> Token:
    kind, text = str(match.lastgroup), match[str(match.lastgroup)]
    offset = match.start(kind)
    if kind == "string":
        quote = text[0]
        return Token("string", text[1:-1].replace(quote * 2, quote), offset)
    if kind == "quoted":
        return Token("quoted", text.replace("``", "`"), offset - 1)
    if kind == "name" and text.lower() in WORDS:
        return Token("word", text.lower(), offset)
    return Token(_KIND[kind], text, offset)


def _unreadable_error(text: str, after: int) -> ExpressionError:
    offset = after + len(text[after:]) - len(text[after:].lstrip())
    char = text[offset]
    if char in "'\"`":
        return syntax_error(text, offset, f"the {'name' if char == '`' else 'string'} that begins here is not closed")
    if char.isdigit() or char == ".":
        return syntax_error(text, offset, "invalid number; write a name that begins with a digit in backticks")
    hint = f"; {_ADVICE[char]}" if char in _ADVICE else ""
    return syntax_error(text, offset, f"unexpected character {char!r}{hint}")


_KIND: dict[str, TokenKind] = {"number": "number", "name": "name", "operator": "operator", "end": "end"}
