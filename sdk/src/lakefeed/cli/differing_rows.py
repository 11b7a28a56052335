"""The rows that differ between two versions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lakefeed import Changes


def differing_rows(changes: Changes, number: int) -> Iterator[dict[str, Any]]:
    """Yields rows with their change, and their values before and after: removed, added, then changed ones.

    Args:
        changes: the differences.
        number: the most rows of each kind.
    """
    rows = changes.rows()
    for kind, count in (("removed", changes.removed), ("added", changes.added), ("changed", changes.changed)):
        if count:
            yield from rows.filter(f"change == '{kind}'").head(number).rows()


def signed_rows(changes: Changes, names: Sequence[str], number: int) -> Iterator[tuple[Any, ...]]:
    """Yields a sign and the values of each row.

    "-" is removed, "+" is added. A changed row is two: "~-" with its values before, "~+" with those after.

    Args:
        changes: the differences.
        names: the columns.
        number: the most rows of each kind.
    """
    for row in differing_rows(changes, number):
        sign = "~" if row["change"] == "changed" else ""
        for values, side in ((row["before"], "-"), (row["after"], "+")):
            if values is not None:
                yield sign + side, *(values[name] for name in names)
