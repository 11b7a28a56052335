"""Functions and objects as text that two of them share only if they compute the same.

A function counts by its code, its defaults, the values that it captures, and the global names that it reads: helpers,
constants, classes and modules, recursively. An object counts by the state that pickle would save. Code of libraries
counts by its name, and, for rows that are kept, by the version of its package.
"""

from __future__ import annotations

import builtins
import copyreg
import dis
import hashlib
import pickle
import sys
import sysconfig
from collections.abc import Callable, Iterator, Mapping
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import cache, cached_property, partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path, PurePath
from types import BuiltinFunctionType, CodeType, FunctionType, GetSetDescriptorType, MethodType, ModuleType
from typing import Any
from uuid import UUID

import numpy as np
import pyarrow as pa

MAX_PARTS = 100_000
"""An object of more parts than this is not followed to its end."""

_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})
_NOT_COMPUTED_WITH = frozenset(
    {
        "__module__", "__dict__", "__weakref__", "__doc__", "__firstlineno__", "__static_attributes__",
        "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__", "__parameters__",
        "__orig_bases__", "__slotnames__", "_abc_impl",
    }
)  # fmt: skip
"""Attributes of classes that say nothing about what their methods do; Python adds some of them during a run."""


class InexactError(Exception):
    """A value has a state that cannot be written as text."""


def leaf(value: Any) -> str | None:
    """Returns a value that holds no others as text; None for anything else."""
    match value:
        case None | bool() | int() | float() | complex() | str() | bytes():
            return repr(value)
        case date() | time() | timedelta() | Decimal() | UUID() | PurePath() | Enum() | range() | slice():
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


def captured(function: FunctionType) -> list[Any]:
    """The values that a function has from the function around it."""
    cells = []
    for cell in function.__closure__ or ():
        try:
            cells.append(cell.cell_contents)
        except ValueError:  # a name that is not bound yet
            cells.append(None)
    return cells


class ValueText:
    """Writes values as text.

    Args:
        exact: raise `InexactError` for a state that cannot be written, and name the versions of packages. Else such a
            state counts by the name of its type.
    """

    def __init__(self, *, exact: bool) -> None:
        self._exact = exact
        self._above: dict[int, int] = {}
        self._lowest = 0
        """The depth of the outermost value to which what was written last refers back."""
        self._digests: dict[int, str] = {}
        self._held: list[Any] = []  # so that no other value gets the id of one that has a digest

    def text(self, value: Any) -> str:
        """Returns the text of a value.

        Raises:
            InexactError: it has a state that cannot be written as text.
        """
        plain = leaf(value)
        if plain is not None:
            return plain
        key, depth = id(value), len(self._above)
        if key in self._digests:
            return self._digests[key]
        if key in self._above:
            self._lowest = min(self._lowest, self._above[key])
            return f"^{depth - self._above[key]}"
        if len(self._held) >= MAX_PARTS:
            raise InexactError
        self._held.append(value)
        self._above[key] = depth
        outer, self._lowest = self._lowest, depth
        try:
            digest = _digest(f"{type(value).__qualname__}[{','.join(self._parts(value))}]")
        finally:
            del self._above[key]
            whole, self._lowest = self._lowest >= depth, min(self._lowest, outer)
        if whole:
            self._digests[key] = digest
        return digest

    def _parts(self, value: Any) -> list[str]:
        try:
            if isinstance(value, set | frozenset):
                return sorted(map(self.text, value))
            return [self.text(part) for part in self._content(value)]
        except InexactError:
            if self._exact:
                raise
            return []

    def _content(self, value: Any) -> Iterator[Any]:
        match value:
            case Mapping():
                return iter([*(part for item in value.items() for part in item), getattr(value, "__dict__", None)])
            case list() | tuple() if type(value) in (list, tuple):
                return iter(value)
            case CodeType():
                return iter(_code(value))
            case MethodType():
                return iter((value.__func__, value.__self__))
            case partial():
                return iter((value.func, value.args, value.keywords))
            case BuiltinFunctionType() if not isinstance(value.__self__, ModuleType | None):
                return iter((value.__qualname__, value.__self__))
            case FunctionType() if is_of_library(value):
                return iter((self._name(value), captured(value)))
            case type() | ModuleType() | BuiltinFunctionType() if is_of_library(value):
                return iter((self._name(value),))
            case FunctionType():
                cells = [_unless_module(cell) for cell in captured(value)]
                return iter(
                    (
                        value.__qualname__, value.__code__, value.__defaults__, value.__kwdefaults__,
                        cells, vars(value), [*_names_read(value)],
                    )
                )  # fmt: skip
            case ModuleType():  # nobody knows which of its names are read
                public = {name: member for name, member in vars(value).items() if not name.startswith("__")}
                return iter((self._name(value), public))
            case type():
                members = {name: member for name, member in vars(value).items() if name not in _NOT_COMPUTED_WITH}
                members = {name: each for name, each in members.items() if not isinstance(each, GetSetDescriptorType)}
                return iter((value.__qualname__, value.__bases__, members))
        return _state(value)

    def _name(self, value: Any) -> str:
        if isinstance(value, ModuleType):
            name = module = value.__name__
        else:
            module = getattr(value, "__module__", None) or builtins.__name__
            name = f"{module}.{getattr(value, '__qualname__', value.__name__)}"
        return f"{name} {_package_version(module.partition('.')[0])}" if self._exact else name


def _digest(content: str) -> str:
    return hashlib.sha256(content.encode(errors="surrogatepass")).hexdigest()


def _code(code: CodeType) -> tuple[Any, ...]:
    return (
        code.co_code, code.co_consts, code.co_names, code.co_varnames, code.co_freevars, code.co_flags,
        code.co_argcount, code.co_kwonlyargcount, code.co_exceptiontable,
    )  # fmt: skip


def _state(value: Any) -> Iterator[Any]:
    """Yields the parts of an object that pickle would save."""
    match value:
        case property():
            return iter((value.fget, value.fset))
        case staticmethod() | classmethod():
            return iter((value.__func__,))
        case cached_property():
            return iter((value.func,))
    tensor = _tensor_content(value)
    if tensor is not None:
        return tensor
    try:
        registered = copyreg.dispatch_table.get(type(value))
        reduced = value.__reduce_ex__(pickle.DEFAULT_PROTOCOL) if registered is None else registered(value)
    except (TypeError, AttributeError, ValueError, RuntimeError, NotImplementedError, pickle.PickleError):
        raise InexactError from None
    if isinstance(reduced, str):  # the name under which pickle would look it up; a decorator holds the function
        return iter((reduced, getattr(value, "__wrapped__", None)))
    return (list(part) if position > 2 and part is not None else part for position, part in enumerate(reduced))


def _tensor_content(value: Any) -> Iterator[Any] | None:
    """Returns the content of a tensor of torch, None for anything else."""
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(value, torch.Tensor):
        return None
    if value.layout is not torch.strided or value.is_quantized or value.is_nested:
        raise InexactError
    whole = value.detach().cpu().contiguous().flatten()
    data = whole.view(torch.uint8).numpy() if whole.numel() else np.empty(0, np.uint8)
    return iter((str(value.dtype), tuple(value.shape), str(value.device), np.asarray(data)))


def _unless_module(value: Any) -> Any:
    return value.__name__ if isinstance(value, ModuleType) else value


def _names_read(function: FunctionType) -> Iterator[tuple[str, Any]]:
    """Yields the global names that a function reads, with their values, and what it reads of modules."""
    code = function.__code__
    for module in captured(function):
        if isinstance(module, ModuleType):
            yield from _members(module, tuple(_all_names(code)), set())
    yield from _globals(code, function.__globals__)


def _all_names(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_names(constant)


def _globals(code: CodeType, names: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields the global names that code reads, with their values, and what it reads of the modules among them.

    Names that the code itself assigns (``global model``) are its results, which change as it runs.
    """
    assigned = {step.argval for step in dis.get_instructions(code) if step.opname == "STORE_GLOBAL"}
    for name in code.co_names:
        module = _imported(code, name)
        if name in names and name not in assigned:
            value = names[name]
            yield name, _unless_module(value)
            module = value if isinstance(value, ModuleType) else module
        if module is not None:
            yield from _members(module, code.co_names, set())
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _globals(constant, names)


def _imported(code: CodeType, name: str) -> ModuleType | None:
    """Returns the module that code imports by this name, if it is loaded."""
    imports = any(step.opname == "IMPORT_NAME" and step.argval == name for step in dis.get_instructions(code))
    return sys.modules.get(name) if imports else None


def _members(module: ModuleType, names: tuple[str, ...], above: set[str]) -> Iterator[tuple[str, Any]]:
    if is_of_library(module) or module.__name__ in above:
        return
    members = vars(module)
    for name in names:
        if name in members:
            yield name, _unless_module(members[name])
            if isinstance(members[name], ModuleType):
                yield from _members(members[name], names, {*above, module.__name__})


def is_of_library(value: Any) -> bool:
    """Returns whether a function, class or module comes with Python or an installed package."""
    name = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", None)
    return _is_library(name) if isinstance(name, str) else True


def _is_library(module: str) -> bool:
    if module == builtins.__name__ or module.partition(".")[0] == "lakefeed":
        return True
    file = getattr(sys.modules.get(module), "__file__", None)
    if file is None:
        return module != "__main__" and module in sys.modules
    return any(Path(file).is_relative_to(folder) for folder in _LIBRARIES if folder)


@cache
def _package_version(package: str) -> str:
    if package == "lakefeed":
        return ""  # its operations keep their meaning
    if package in sys.stdlib_module_names:
        return f"{sys.version_info.major}.{sys.version_info.minor}"
    declared = getattr(sys.modules.get(package), "__version__", None)
    if isinstance(declared, str):
        return declared
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def is_user_callable(value: Any) -> bool:
    """Returns whether a value is a function, class or callable object that does not come with lakefeed."""
    if not callable(value):
        return False
    owner = value if isinstance(value, FunctionType | MethodType | BuiltinFunctionType | type) else type(value)
    return str(getattr(owner, "__module__", "")).partition(".")[0] != "lakefeed"


def callable_text(value: Callable[..., Any]) -> str:
    """Returns the text of a function for a checkpoint: a state that cannot be written counts by its type."""
    return ValueText(exact=False).text(value)
