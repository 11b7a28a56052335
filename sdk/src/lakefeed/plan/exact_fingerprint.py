"""A fingerprint for rows that are kept on disk: it tells apart all that gives other rows, or says that it cannot.

A checkpoint compares functions by their code (:mod:`lakefeed.plan.fingerprint`). Rows that are kept outlive the
process, so here also the global names count that a function reads, the functions that it calls, and the state of
objects. What libraries define counts by its name alone.
"""

from __future__ import annotations

import builtins
import pickle
import sys
import sysconfig
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from lakefeed.plan.fingerprint import captured, digest, fingerprint, leaf
from lakefeed.plan.node import Node
from lakefeed.plan.walk import nodes, sources

MAX_PARTS = 100_000
"""An object of more parts than this is not followed to its end."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class InexactError(Exception):
    """A value has a state that cannot be written as text."""


def exact_fingerprint(plan: Node) -> str | None:
    """Returns a digest that two plans share only if they give the same rows; None where that cannot be told.

    Files and servers that functions read are not seen.
    """
    if not all(source.exact_identity for source in sources(plan)):
        return None
    functions = [value for node in nodes(plan) for value in node.identity().values() if callable(value)]
    if not functions:
        return fingerprint(plan)
    try:
        return digest([fingerprint(plan), *map(_Teller().text, functions)])
    except (InexactError, RecursionError):
        return None


class _Teller:
    """Writes values as text. What occurs again is written as its number."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}
        self._held: list[Any] = []  # so that no other value gets the id of one that has a number

    def text(self, value: Any) -> str:
        plain = leaf(value)
        if plain is not None:
            return plain
        number = self._numbers.get(id(value))
        if number is not None:
            return f"@{number}"
        if len(self._held) >= MAX_PARTS:
            raise InexactError
        self._numbers[id(value)] = len(self._held)
        self._held.append(value)
        return f"{type(value).__qualname__}[{','.join(map(self.text, _parts(value)))}]"


def _parts(value: Any) -> Iterator[Any] | tuple[Any, ...]:
    match value:
        case Mapping():
            return (part for item in value.items() for part in item)
        case list() | tuple():
            return iter(value)
        case set() | frozenset():
            return iter(sorted(map(_alone, value)))
        case CodeType():
            return value.co_code, value.co_consts, value.co_names, value.co_varnames
        case MethodType():
            return value.__func__, value.__self__
        case partial():
            return value.func, value.args, value.keywords
        case BuiltinFunctionType() if not isinstance(value.__self__, ModuleType | None):
            return value.__qualname__, value.__self__
        case FunctionType() | type() | ModuleType() | BuiltinFunctionType() if _of_library(value):
            return (_name(value),)
        case FunctionType():
            return (
                value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__,
                captured(value), [*_globals(value.__code__, value.__globals__)],
            )  # fmt: skip
        case ModuleType():
            return (_name(value),)
        case type():
            members = {name: member for name, member in vars(value).items() if name not in _OF_ALL_CLASSES}
            return value.__qualname__, value.__bases__, members
    return _state(value)


_OF_ALL_CLASSES = {"__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__"}


def _alone(value: Any) -> str:
    """The text of a member of a set, whose order says nothing."""
    return _Teller().text(value)


def _state(value: Any) -> Iterator[Any]:
    """What pickle would keep of an object."""
    if isinstance(value, property | staticmethod | classmethod):
        functions = (value.fget, value.fset) if isinstance(value, property) else (value.__func__,)
        return iter(functions)
    try:
        reduced = value.__reduce_ex__(pickle.DEFAULT_PROTOCOL)
    except (TypeError, AttributeError, ValueError, RuntimeError, NotImplementedError, pickle.PickleError):
        raise InexactError from None
    if isinstance(reduced, str):
        return iter((reduced,))
    return (list(part) if position > 2 and part is not None else part for position, part in enumerate(reduced))


def _globals(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The global names that code reads, with their values, and what it reads of the modules among them."""
    for name in code.co_names:
        if name in names:
            value = names[name]
            yield name, value
            if isinstance(value, ModuleType) and not _of_library(value):
                members = vars(value)
                yield from ((other, members[other]) for other in code.co_names if other in members)
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant, names)


def _name(value: Any) -> str:
    return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', value.__name__)}"


def _of_library(value: Any) -> bool:
    """Whether a function, class or module comes with Python or an installed package."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    if name in (None, builtins.__name__) or name.partition(".")[0] == "lakefeed":
        return True
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None:
        return name != "__main__" and name in sys.modules
    return any(Path(file).is_relative_to(folder) for folder in _LIBRARIES if folder)
