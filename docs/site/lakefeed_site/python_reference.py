"""The reference of the Python API: a page for each public module, with the docstring of each public name."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Sequence
from functools import cache
from types import ModuleType
from typing import Any

import lakefeed

INTERNAL_MODULES = frozenset(
    {
        "caching", "catalog", "cli", "client", "combine", "config", "dataset", "diagnosis", "expr", "formats",
        "garbage", "loaders",
        "media", "ops", "optimize", "plan", "profiles", "run", "search", "sources", "sql", "statistics",
        "storage",
    }
)  # fmt: skip
"""Modules whose public names are those of ``lakefeed`` itself, and the engine. All others have a page."""


@cache
def public_modules() -> Sequence[str]:
    """Returns the modules that users import from: ``lakefeed`` itself first."""
    names = sorted(module.name for module in pkgutil.iter_modules(lakefeed.__path__))
    shown = [f"lakefeed.{name}" for name in names if name[0] != "_" and name not in INTERNAL_MODULES]
    return ["lakefeed", *(name for name in shown if public_names(name))]


def public_names(module: str) -> list[str]:
    """Returns the public names of a module: its ``__all__``, or what it defines."""
    loaded = importlib.import_module(module)
    declared = getattr(loaded, "__all__", None)
    if declared is not None:
        return [name for name in declared if not name.startswith("__") and not _is_module(loaded, name)]
    return [name for name, value in vars(loaded).items() if name[0] != "_" and _is_defined_in(value, loaded)]


def page_of(module: str) -> str:
    """Returns the name of the page of a module, without suffix."""
    return f"reference/{module}"


def page_text(module: str) -> str:
    """Returns the page of a module in reStructuredText."""
    title = f"``{module}``"
    lines = [title, "=" * len(title), "", f".. automodule:: {module}", "   :no-members:", ""]
    lines += [f".. py:currentmodule:: {module}", "", *_summary(module)]
    for name in public_names(module):
        lines += _entry(module, name)
    return "\n".join(lines) + "\n"


def markdown_text(module: str) -> str:
    """Returns the docstrings of a module in Markdown, for programs that read the site."""
    lines = [f"# {module}", "", _doc(importlib.import_module(module)), ""]
    for name, value in _all_names(module).items():
        lines += [f"## {name}{_signature(value)}", "", _doc(value), ""]
        members = [each for each in dir(value) if _is_public_member(value, each)] if inspect.isclass(value) else []
        for member in members:
            item = inspect.getattr_static(value, member)
            lines += [f"### {name}.{member}{_signature(getattr(value, member))}", "", _doc(item), ""]
    return "\n".join(lines)


def _doc(value: object) -> str:
    shown = inspect.ismodule(value) or inspect.isclass(value) or inspect.isroutine(value) or isinstance(value, property)
    return (inspect.getdoc(value) or "") if shown else ""


def _signature(value: object) -> str:
    try:
        return str(inspect.signature(value)) if callable(value) else ""
    except (TypeError, ValueError):  # some built-in types have none
        return ""


def _summary(module: str) -> list[str]:
    """Returns a table of the names, each with the first sentence of its docstring."""
    lines = [".. list-table::", "   :widths: 1 3", ""]
    for name, value in _all_names(module).items():
        text = inspect.getdoc(value) if inspect.isclass(value) or inspect.isroutine(value) else ""
        sentence = re.split(r"(?<=\.)\s", " ".join((text or "").partition("\n\n")[0].split()))[0]
        lines += [f"   * - :py:obj:`{name} <{module}.{name}>`", f"     - {sentence}"]
    return [*lines, ""]


def _entry(module: str, name: str) -> list[str]:
    value = getattr(importlib.import_module(module), name)
    full = f"{module}.{name}"
    first = _first_module_of(value, name)
    if first is not None and first != module:
        return [f"``{name}`` is :py:obj:`{first}.{name}`.", ""]
    if inspect.isclass(value):
        if issubclass(value, BaseException):
            return [f".. autoexception:: {full}", "   :show-inheritance:", ""]
        members = [member for member in dir(value) if _is_public_member(value, member)]
        shown = [f"   :members: {', '.join(members)}"] if members else []
        return [f".. autoclass:: {full}", *shown, "   :show-inheritance:", ""]
    if inspect.isroutine(value):
        return [f".. autofunction:: {full}", ""]
    return [f".. autodata:: {full}", "   :no-value:", ""]


def _is_public_member(kind: type, name: str) -> bool:
    """Returns whether a member is public, of lakefeed, and not described with a public base class."""
    owner = next((each for each in kind.__mro__ if name in vars(each)), object)
    if name.startswith("_") or not owner.__module__.startswith("lakefeed"):
        return False
    return not any(owner in base.__mro__ and _is_described(base) for base in kind.__mro__[1:])


@cache
def _is_described(kind: type) -> bool:
    return _first_module_of(kind, kind.__name__) is not None


def _first_module_of(value: Any, name: str) -> str | None:
    """Returns the first public module that has this value under this name."""
    return next((module for module in public_modules() if _all_names(module).get(name) is value), None)


@cache
def _all_names(module: str) -> dict[str, Any]:
    loaded = importlib.import_module(module)
    return {name: getattr(loaded, name) for name in public_names(module)}


def _is_module(loaded: ModuleType, name: str) -> bool:
    return inspect.ismodule(getattr(loaded, name))


def _is_defined_in(value: object, module: ModuleType) -> bool:
    return (inspect.isclass(value) or inspect.isroutine(value)) and value.__module__ == module.__name__
