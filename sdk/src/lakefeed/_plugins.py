"""Parts that other installed packages add: formats, media types, sources and operations, by entry points."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from threading import RLock
from typing import Any, Generic, TypeVar

from lakefeed.errors import PluginError, quoted_list

GROUP_PREFIX = "lakefeed."
GROUPS = ("formats", "media_types", "operations", "sources")

Part = TypeVar("Part")
_logger = logging.getLogger(__name__)


class Plugins(Mapping[str, Part], Generic[Part]):
    """The parts of a kind by name: those of lakefeed, then those that other packages declare as entry points.

    The entry points are looked up when a name is not one of lakefeed's own, and a package is imported when its part is
    used. The name of a part of lakefeed, and a name that two packages declare, cannot be used by a plug-in.

    Args:
        group: the entry point group, without ``lakefeed.``: one of `GROUPS`.
        builtin: the parts of lakefeed itself.
        validate: returns the part for the object that an entry point names. Raises TypeError or ValueError if the
            object cannot be one.
    """

    def __init__(
        self, group: str, builtin: Mapping[str, Part], validate: Callable[[str, Any], Part] = lambda name, part: part
    ) -> None:
        self.group = GROUP_PREFIX + group
        self.builtin = dict(builtin)
        self._validate = validate
        self._loaded: dict[str, Part] = {}
        self._broken: set[str] = set()
        self._lock = RLock()

    def __getitem__(self, name: str) -> Part:
        """Returns a part. Raises KeyError if there is none of this name, PluginError if it cannot be loaded."""
        if name in self.builtin:
            return self.builtin[name]
        with self._lock:
            if name not in self._loaded:
                self._loaded[name] = self._load(name)
            return self._loaded[name]

    def __contains__(self, name: object) -> bool:
        return name in self.builtin or name in self._installed

    def __iter__(self) -> Iterator[str]:
        yield from self.builtin
        yield from self._installed

    def __len__(self) -> int:
        return len(self.builtin) + len(self._installed)

    def usable(self) -> Iterator[tuple[str, Part]]:
        """Yields the parts by name. A plug-in that cannot be loaded is left out, with one warning in the log."""
        yield from self.builtin.items()
        for name in self._installed:
            try:
                part = self[name]
            except PluginError as error:
                if name not in self._broken:
                    self._broken.add(name)
                    _logger.warning("%s", error)
                continue
            yield name, part

    def packages(self) -> dict[str, str]:
        """Returns the packages of the plug-ins by name of the part."""
        return {name: quoted_list(map(_package, found)) for name, found in self._installed.items()}

    @cached_property
    def _installed(self) -> dict[str, list[EntryPoint]]:
        """The entry points by name, without the names of lakefeed's own parts. None is loaded."""
        installed: dict[str, list[EntryPoint]] = {}
        for point in entry_points(group=self.group):
            if point.name in self.builtin:
                _logger.warning(
                    "package %r declares %r in %s, a name that lakefeed uses itself; it is ignored",
                    _package(point), point.name, self.group,
                )  # fmt: skip
            elif point not in installed.setdefault(point.name, []):
                installed[point.name].append(point)
        return installed

    def _load(self, name: str) -> Part:
        points = self._installed[name]
        if len(points) > 1:
            raise PluginError(
                f"packages {quoted_list(map(_package, points))} declare {name!r} in {self.group}; uninstall all but one"
            )
        (point,) = points
        try:
            return self._validate(name, point.load())
        except Exception as error:  # code of another package: any error is one of the plug-in
            raise PluginError(
                f"{name!r} in {self.group} of package {_package(point)!r} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else point.value


def instance_with(name: str, part: Any, attributes: tuple[str, ...]) -> Any:
    """Returns a part; of a class, an instance made without arguments.

    Raises:
        TypeError: it lacks one of the ``attributes``.
        ValueError: its ``name`` is another one.
    """
    instance = part() if isinstance(part, type) else part
    missing = [each for each in attributes if not hasattr(instance, each)]
    if missing:
        raise TypeError(f"{instance!r:.80} lacks {quoted_list(missing)}")
    if instance.name != name:
        raise ValueError(f"its name is {instance.name!r}, and the entry point is called {name!r}")
    return instance
