"""The visibility of records."""

from __future__ import annotations

from enum import IntEnum


class Visibility(IntEnum):
    """The queries that show a record.

    Example:
        >>> Visibility.trash.value
        2
    """

    default = 0
    """Queries show it."""
    hidden = 1
    """Queries show it only if they ask for hidden records."""
    trash = 2
    """It was deleted, and can be restored."""
