"""What a plan computes, as a short text that is the same in every process."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import partial
from types import CodeType, FunctionType, MethodType
from typing import Any

import pyarrow as pa

from lakefeed.plan.node import Node
from lakefeed.plan.source import Source
from lakefeed.plan.walk import nodes

DIGEST_CHARS = 16
MARK_CHARS = 6


def fingerprint(plan: Node) -> str:
    """A digest of operations, arguments, functions and sources: equal plans over equal data have equal fingerprints.

    A function counts by its code, constants, defaults and captured values, not by where it lives in memory.
    """
    return _digest("\n".join(f"{type(node).__name__} {_text(node.identity())}" for node in nodes(plan)))


def marks(plan: Node) -> list[str]:
    """A short mark for each node, root first: what a mismatch is explained with."""
    return [f"{type(node).__name__}:{_digest(_text(node.identity()))[:MARK_CHARS]}" for node in nodes(plan)]


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()[:DIGEST_CHARS]


def _text(value: Any) -> str:
    match value:
        case None | bool() | int() | float() | str() | bytes():
            return repr(value)
        case Mapping():
            return "{" + ",".join(f"{_text(key)}:{_text(item)}" for key, item in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_text, value)) + "]"
        case set() | frozenset():
            return "{" + ",".join(sorted(map(_text, value))) + "}"
        case pa.Schema():
            return value.to_string(show_schema_metadata=False)
        case Source():
            return value.identity
        case CodeType():
            return _text((value.co_code, value.co_consts, value.co_names, value.co_varnames))
        case FunctionType():
            cells = [cell.cell_contents for cell in value.__closure__ or ()]
            return _text((value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, cells))
        case MethodType():
            return _text((value.__func__, value.__self__))
        case partial():
            return _text((value.func, value.args, value.keywords))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return type(value).__name__ + _text(fields)
    if hasattr(value, "__qualname__"):
        return f"{getattr(value, '__module__', '')}.{value.__qualname__}"
    return type(value).__qualname__
