"""Fingerprints of plans: short texts that are the same in every process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from types import CodeType, FunctionType
from typing import Any

from lakefeed.plan.node import Node
from lakefeed.plan.value_text import InexactError, callable_text, captured, is_user_callable, leaf
from lakefeed.plan.walk import nodes

DIGEST_CHARS = 16
MARK_CHARS = 6
OWN_MODULES = "lakefeed."


def fingerprint(plan: Node) -> str:
    """A digest of operations, arguments, functions and sources: equal plans over equal data have equal fingerprints.

    A function counts by what it computes (:mod:`lakefeed.plan.value_text`), not by where it lives in memory.
    """
    return _short("\n".join(f"{_kind(node)} {_text(node.identity())}" for node in nodes(plan)))


def marks(plan: Node) -> list[str]:
    """A short mark for each node, root first: what a mismatch is explained with."""
    return [f"{type(node).__name__}:{digest(node.identity())[:MARK_CHARS]}" for node in nodes(plan)]


def _kind(node: Node) -> str:
    """The name of the operation; with its module if it comes from another package, where names may be ours too."""
    kind = type(node)
    return kind.__name__ if kind.__module__.startswith(OWN_MODULES) else f"{kind.__module__}.{kind.__qualname__}"


def digest(value: Any) -> str:
    """A digest of a function or another value, the same in every process."""
    return _short(_text(value))


def _short(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_CHARS]


def _text(value: Any, above: tuple[int, ...] = ()) -> str:
    """The value as text; ``above``: what it is part of, since functions and containers may hold themselves."""
    if id(value) in above:
        return "…"

    def inner(part: Any) -> str:
        return _text(part, (*above, id(value)))

    plain = leaf(value)
    if plain is not None:
        return plain
    if is_user_callable(value):
        return _callable_text(value)
    match value:
        case Mapping():
            return "{" + ",".join(f"{inner(key)}:{inner(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(inner, value)) + "]"
        case set() | frozenset():
            return "{" + ",".join(sorted(map(inner, value))) + "}"
    parts = _parts(value)
    if parts is not None:
        return f"{type(value).__name__}[{','.join(map(inner, parts))}]"
    if hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    return type(value).__qualname__


def _callable_text(value: Any) -> str:
    try:
        return callable_text(value)
    except (InexactError, RecursionError):  # larger than can be followed
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _parts(value: Any) -> tuple[Any, ...] | None:
    """Returns the parts of a function or a dataclass; None for anything else."""
    if isinstance(value, FunctionType):  # of lakefeed
        return value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, captured(value)
    if isinstance(value, CodeType):
        return value.co_code, value.co_consts, value.co_names, value.co_varnames
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return None
