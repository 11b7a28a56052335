"""Names that occur more than once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable


def duplicate_names(names: Iterable[str]) -> list[str]:
    """Returns the names that occur more than once, sorted.

    Example:
        >>> duplicate_names(["b", "a", "b"])
        ['b']
    """
    return sorted(name for name, times in Counter(names).items() if times > 1)
