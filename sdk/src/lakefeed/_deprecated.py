"""Old names of public things, which warn and give the new ones."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any


def deprecated_names(
    package: str, names: Mapping[str, str], otherwise: Callable[[str], Any] | None = None
) -> Callable[[str], Any]:
    """Returns a ``__getattr__`` for a module some of whose names have new ones.

    Args:
        package: the name of the module.
        names: for each old name the new one, in the same module.
        otherwise: the ``__getattr__`` that answers for all other names.

    Example:
        >>> import warnings
        >>> with warnings.catch_warnings(record=True) as caught:
        ...     warnings.simplefilter("always")
        ...     old = deprecated_names("lakefeed.errors", {"FileProblem": "FileError"})("FileProblem")
        >>> old.__name__, str(caught[0].message)
        ('FileError', 'lakefeed.errors.FileProblem is deprecated; use lakefeed.errors.FileError')
    """

    def attribute(name: str) -> Any:
        if name in names:
            new = names[name]
            warnings.warn(f"{package}.{name} is deprecated; use {package}.{new}", DeprecationWarning, stacklevel=2)
            return getattr(import_module(package), new)
        if otherwise is not None:
            return otherwise(name)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    return attribute
