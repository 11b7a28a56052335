"""Globs for relative paths, matched part by part while a folder is walked."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Callable
from functools import lru_cache
from typing import TypeAlias

from lakefeed.storage.disk.delivery_names import FREQUENT_ENDINGS, IGNORED_PREFIXES, is_ignored_name, names_ignored

ANY_DEPTH = "**"

Matcher: TypeAlias = Callable[[str], bool]
States: TypeAlias = tuple[int, ...]
"""The segments of a pattern that the next part of a path may match, by their index."""


class PathPattern:
    """A glob of segments between slashes. ``*`` stays within a part of a path, and ``**`` matches any number of parts.

    Names that mark no deliveries match only where a segment asks for them: ``*.part`` matches ``a.part``, and ``*``
    does not.

    Example:
        >>> pattern = PathPattern("**/*.csv")
        >>> [path for path in ("a.csv", "b/c.csv", "b/.d.csv", "e.txt") if pattern.matches(path)]
        ['a.csv', 'b/c.csv']
    """

    def __init__(self, pattern: str) -> None:
        self._segments = tuple(part for part in pattern.split("/") if part not in ("", "."))
        self._matchers = tuple(map(_matcher, self._segments))
        self._end = len(self._segments)

    @property
    def start(self) -> States:
        """The states before the first part of a path."""
        return self._skip_depths((0,))

    @property
    def depth(self) -> int | None:
        """The number of parts of the paths that match; None if there is no limit."""
        return None if ANY_DEPTH in self._segments else self._end

    def matches(self, path: str) -> bool:
        """Returns whether a relative path matches."""
        states = self.start
        *folders, name = path.split("/")
        for folder in folders:
            states = self.enter(states, folder)
        return self.name_test(states)(name)

    def name_test(self, states: States) -> Matcher:
        """Returns a function that says whether a file with a name matches in a folder with these states."""
        tests = [self._matchers[state] for state in states if self._is_last(state)]
        return tests[0] if len(tests) == 1 else lambda name: any(test(name) for test in tests)

    def enter(self, states: States, folder: str, *, is_link: bool = False) -> States:
        """Returns the states inside a folder; none if no file below it can match.

        ``**`` does not enter links, which may lead in a circle.
        """
        inside: list[int] = []
        for state in states:
            if state >= self._end or not self._matchers[state](folder):
                continue
            if self._segments[state] != ANY_DEPTH:
                inside.append(state + 1)
            elif not is_link:
                inside.append(state)
        return self._skip_depths(inside)

    def _is_last(self, state: int) -> bool:
        return all(segment == ANY_DEPTH for segment in self._segments[state + 1 :])

    def _skip_depths(self, states: tuple[int, ...] | list[int]) -> States:
        """Returns the states and those after each ``**``, which may match nothing."""
        reached = dict.fromkeys(states)
        for state in states:
            while state < self._end and self._segments[state] == ANY_DEPTH:
                state += 1
                reached[state] = None
        return tuple(state for state in reached if state < self._end)


@lru_cache(256)
def _matcher(segment: str) -> Matcher:
    """Returns a function that says whether a name matches a segment."""
    takes_ignored = names_ignored(segment)
    suffix = segment[1:]
    if segment in (ANY_DEPTH, "*"):
        return (lambda name: True) if takes_ignored else (lambda name: not is_ignored_name(name))
    if segment[0] == "*" and suffix in FREQUENT_ENDINGS:  # fast, for the most frequent patterns
        return lambda name: name.endswith(suffix) and not name.startswith(IGNORED_PREFIXES)
    match = re.compile(fnmatch.translate(segment)).match
    return lambda name: match(name) is not None and (takes_ignored or not is_ignored_name(name))
