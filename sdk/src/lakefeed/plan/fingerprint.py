"""What a plan computes, as a short text that is the same in every process."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum
from functools import partial
from pathlib import PurePath
from types import CodeType, FunctionType, MethodType
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

from lakefeed.plan.node import Node
from lakefeed.plan.walk import nodes

DIGEST_CHARS = 16
MARK_CHARS = 6


def fingerprint(plan: Node) -> str:
    """A digest of operations, arguments, functions and sources: equal plans over equal data have equal fingerprints.

    A function counts by its code, constants, defaults and captured values, not by where it lives in memory.
    """
    return _short("\n".join(f"{type(node).__name__} {_text(node.identity())}" for node in nodes(plan)))


def marks(plan: Node) -> list[str]:
    """A short mark for each node, root first: what a mismatch is explained with."""
    return [f"{type(node).__name__}:{digest(node.identity())[:MARK_CHARS]}" for node in nodes(plan)]


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


def leaf(value: Any) -> str | None:
    """Returns a value that holds no others as text; None for anything else."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(value)
        case dt.date() | dt.time() | dt.timedelta() | Decimal() | UUID() | PurePath() | Enum() | range() | slice():
            return repr(value)
        case pa.DataType() | pa.Field():
            return str(value)
        case pa.Schema():
            return value.to_string(show_schema_metadata=False)
        case np.generic():
            return repr(value)
        case np.ndarray() if not value.dtype.hasobject:
            return f"{value.dtype}{value.shape}:{hashlib.sha256(np.ascontiguousarray(value).tobytes()).hexdigest()}"
    return None


def _parts(value: Any) -> tuple[Any, ...] | None:
    """What a function or a dataclass is made of; None for anything else."""
    match value:
        case CodeType():
            return value.co_code, value.co_consts, value.co_names, value.co_varnames
        case FunctionType():
            return value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__, captured(value)
        case MethodType():
            return value.__func__, value.__self__
        case partial():
            return value.func, value.args, value.keywords
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return tuple(getattr(value, field.name) for field in dataclasses.fields(value))
    return None


def captured(function: FunctionType) -> list[Any]:
    """The values that a function has from the function around it."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # a name that is not bound yet
            cells.append(None)
    return cells
