"""Sources and operations of other packages: looked up by name, called, and checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from lakefeed._plugins import Plugins
from lakefeed.errors import InvalidArgumentError, TypeMismatchError, quoted_list
from lakefeed.ops import Scan
from lakefeed.plan import Node

SOURCE_ATTRIBUTES = ("schema", "identity", "fragments", "read")


def _validate(name: str, part: Any) -> Callable[..., Any]:
    if not callable(part):
        raise TypeError(f"{part!r:.80} must be callable")
    return part  # type: ignore[no-any-return]  # any arguments


SOURCES: Plugins[Callable[..., Any]] = Plugins("sources", {}, _validate)
OPERATIONS: Plugins[Callable[..., Any]] = Plugins("operations", {}, _validate)


def scan_of(source: Any, args: Sequence[Any], options: Mapping[str, Any]) -> Scan:
    """Returns the scan of a source, of what a function returns, or of an installed source by name.

    Raises:
        InvalidArgumentError: no installed package declares a source of this name.
        PluginError: the package that declares it cannot be loaded.
        TypeMismatchError: this is not a source.
    """
    part = _named(SOURCES, source, "source")
    result = part(*args, **options) if callable(part) else part
    if not all(hasattr(result, name) for name in SOURCE_ATTRIBUTES):
        raise TypeMismatchError(f"from_source takes a Source or a function that returns one, not {result!r:.80}")
    return Scan(result)


def apply_operation(
    operation: Any, dataset: Any, plan: Node, args: Sequence[Any], options: Mapping[str, Any], kind: type
) -> Any:
    """Returns a node of the plan, or the dataset (an instance of ``kind``) that a function returns.

    Raises:
        InvalidArgumentError: no installed package declares an operation of this name.
        PluginError: the package that declares it cannot be loaded.
        TypeMismatchError: this is not a function, or it does not return a dataset.
    """
    part = _named(OPERATIONS, operation, "operation")
    if isinstance(part, type) and issubclass(part, Node):
        make: Callable[..., Node] = part
        return make(plan, *args, **options)
    if not callable(part):
        raise TypeMismatchError(f"pipe takes a function or the name of an operation, not {operation!r:.80}")
    result = part(dataset, *args, **options)
    if not isinstance(result, kind):
        raise TypeMismatchError(f"operation {operation!r:.80} must return a Dataset, got {type(result).__name__}")
    return result


def _named(plugins: Plugins[Callable[..., Any]], part: Any, kind: str) -> Any:
    if not isinstance(part, str):
        return part
    if part not in plugins:
        raise InvalidArgumentError(
            f"no installed package declares {kind} {part!r}; the installed ones are {quoted_list(plugins)}"
        )
    return plugins[part]
