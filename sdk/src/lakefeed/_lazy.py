"""Modules that are imported at first use, so that ``import lakefeed`` stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any


class LazyModule(ModuleType):
    """A stand-in for a module. It imports the module when an attribute is read, set or deleted. Thread-safe.

    It has no attributes of its own: a test that replaces one replaces that of the module.
    """

    @property
    def __dict__(self) -> dict[str, Any]:  # type: ignore[override]  # where pytest looks for what it has to put back
        return import_module(self.__name__).__dict__

    def __getattr__(self, name: str) -> Any:
        return getattr(import_module(self.__name__), name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(import_module(self.__name__), name, value)

    def __delattr__(self, name: str) -> None:
        delattr(import_module(self.__name__), name)

    def __dir__(self) -> list[str]:
        return dir(import_module(self.__name__))

    def __reduce__(self) -> tuple[Callable[[str], ModuleType], tuple[str]]:
        return import_module, (self.__name__,)


def lazy_attributes(package: str, names: Mapping[str, Sequence[str]] = MappingProxyType({})) -> Callable[[str], Any]:
    """Returns a ``__getattr__`` for a package, with which ``from package import module`` imports nothing yet.

    Type checkers and import-linter see ordinary imports; names need imports under ``TYPE_CHECKING``. Assign the result
    under ``if not TYPE_CHECKING``, or mypy accepts any name.

    Args:
        package: the name of the package.
        names: for each module, the names that the package exports. They are imported at first use. A name must not be
            that of a module.

    Example:
        >>> lazy_attributes("lakefeed.sql")("query_engine").__name__
        'lakefeed.sql.query_engine'
    """
    module_of = {name: f"{package}.{module}" for module, offered in names.items() for name in offered}

    def attribute(name: str) -> Any:
        if name in module_of:
            value = getattr(import_module(module_of[name]), name)
            setattr(import_module(package), name, value)
            return value
        path = f"{package}.{name}"
        if name.startswith("__") or find_spec(path) is None:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return LazyModule(path)

    return attribute
