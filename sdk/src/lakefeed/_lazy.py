"""Modules that are imported when something of them is first used, so that ``import lakefeed`` stays cheap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType, ModuleType
from typing import Any


class LazyModule(ModuleType):
    """Stands for a module, and imports it when an attribute is read, set or deleted. Thread-safe.

    It holds no attributes of its own: whoever replaces one (a test) replaces that of the module.
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
    """Returns a ``__getattr__`` for a package: ``from package import module`` then imports nothing yet.

    ``names`` says for each module which of its names the package offers; they are imported when first used. A name must
    not be that of a module. Type checkers and import-linter see ordinary imports, for the names those under
    ``TYPE_CHECKING``. Assign the result ``if not TYPE_CHECKING``: else mypy takes any name.

    Example:
        >>> lazy_attributes("lakefeed.sql")("engine").__name__
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
