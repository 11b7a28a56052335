"""`code_version`: a text that changes when the code of a routine or a check was changed."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Set
from dataclasses import fields, is_dataclass
from datetime import date, timedelta
from enum import Enum
from pathlib import Path, PurePath
from types import CodeType, FunctionType, MethodType, ModuleType
from typing import Any

import lakefeed

# Libraries: a change of their files does not change the project.
LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
OWN_PACKAGES = frozenset({"lakefeed", "dagster"})
PLAIN_TYPES = (bool, int, float, complex, str, bytes, date, timedelta, Enum, PurePath)


def code_version(*values: Any) -> str:
    """Returns a text that changes when a function, its values or a module of the project that it uses is changed.

    It may also change when nothing of importance did. Then work that was given up is tried again for nothing.

    Args:
        values: functions, dataclasses that hold functions, and plain values.
    """
    digest = hashlib.blake2b(lakefeed.__version__.encode(), digest_size=6)
    visited: set[int] = set()
    modules: dict[str, ModuleType] = {}
    for value in values:
        for part in _describe(value, visited, modules):
            digest.update(part.encode())
    for name in sorted(modules):
        digest.update(_source_hash(modules[name]).encode())
    return digest.hexdigest()


def _describe(value: Any, visited: set[int], modules: dict[str, ModuleType]) -> Iterator[str]:
    """Yields texts that describe a value, and adds the modules of the project that it uses."""
    if id(value) in visited:
        return
    if isinstance(value, functools.partial):
        yield from _describe_all((value.func, value.args, value.keywords), visited, modules)
    elif isinstance(value, MethodType):
        yield from _describe_all((value.__func__, value.__self__), visited, modules)
    elif isinstance(value, FunctionType | type) and _is_own(value.__module__):
        yield value.__qualname__  # its code changes with the version of its package
    elif isinstance(value, FunctionType):
        visited.add(id(value))
        _add_modules(sys.modules.get(value.__module__), modules)
        yield from _describe_code(value.__code__)
        cells = [cell.cell_contents for cell in value.__closure__ or () if _is_filled(cell)]
        wrapped = inspect.unwrap(value)
        others = [] if wrapped is value else [wrapped]
        yield from _describe_all((value.__defaults__, value.__kwdefaults__, *cells, *others), visited, modules)
    elif isinstance(value, type):
        visited.add(id(value))
        _add_modules(sys.modules.get(value.__module__), modules)
        yield value.__qualname__
        methods = [each for _, each in sorted(vars(value).items()) if isinstance(each, FunctionType | property)]
        yield from _describe_all(
            [each.fget if isinstance(each, property) else each for each in methods], visited, modules
        )
    elif isinstance(value, Mapping):
        yield from _describe_all([each for pair in value.items() for each in pair], visited, modules)
    elif isinstance(value, list | tuple):
        yield from _describe_all(value, visited, modules)
    elif is_dataclass(value):
        visited.add(id(value))
        yield from _describe_all(
            [type(value), *(getattr(value, each.name) for each in fields(value))], visited, modules
        )
    elif callable(value) or isinstance(value, Set):
        visited.add(id(value))
        yield from _describe(type(value), visited, modules) if callable(value) else sorted(map(repr, value))
    else:
        # The text of another object may cost a read of it, or name its address.
        yield repr(value) if value is None or isinstance(value, PLAIN_TYPES) else type(value).__qualname__


def _describe_all(values: Any, visited: set[int], modules: dict[str, ModuleType]) -> Iterator[str]:
    for value in values:
        yield "\0"
        yield from _describe(value, visited, modules)


def _describe_code(code: CodeType) -> Iterator[str]:
    """Yields texts that change with the instructions of a function and of those within it, but not with their lines."""
    yield f"{code.co_code.hex()} {code.co_names} {code.co_varnames}"
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _describe_code(constant)
        else:
            yield repr(sorted(map(repr, constant)) if isinstance(constant, frozenset) else constant)


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not cell
    except ValueError:  # of a function that is still being defined
        return False


def _add_modules(module: ModuleType | None, modules: dict[str, ModuleType]) -> None:
    """Adds a module and the modules of the project that it imports, directly or not."""
    waiting = [module]
    while waiting:
        each = waiting.pop()
        if each is None or each.__name__ in modules or not _is_of_project(each):
            continue
        modules[each.__name__] = each
        for value in vars(each).values():
            name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
            waiting.append(sys.modules.get(name) if isinstance(name, str) else None)


def _is_own(module: str | None) -> bool:
    return module is not None and module.partition(".")[0] in OWN_PACKAGES


def _is_of_project(module: ModuleType) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and not _is_own(module.__name__) and not file.startswith(LIBRARIES)


def _source_hash(module: ModuleType) -> str:
    path = Path(str(module.__file__))
    try:
        facts = path.stat()
    except OSError:  # the file went, or the module is in an archive
        return ""
    return _hash_file(path, facts.st_mtime_ns, facts.st_size)


@functools.lru_cache(maxsize=4096)
def _hash_file(path: Path, mtime_ns: int, size: int) -> str:
    """Returns a hash of the content. ``mtime_ns`` and ``size`` make it another entry of the cache when it changes."""
    return hashlib.blake2b(path.read_bytes(), digest_size=6).hexdigest()
