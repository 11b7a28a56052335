"""`routine`, which declares a function as a routine, and routines that are declared together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from lakefeed.routines.routine_declaration import Routine, RoutineFn


def routine(
    *, on: str | Sequence[str], into: str | None, name: str | None = None, **settings: Any
) -> Callable[[RoutineFn], Routine]:
    """Declares a function as a routine over the rows appended to a dataset.

    The function takes a Dataset for each source. It returns a Dataset or a Table, or yields record batches. Each row is
    read exactly once; with ``into=None``, at least once. `run_versions`, ``lakefeed routine run`` and Dagster run it.

    Args:
        on: the name of the source, or several names.
        into: the name of the output. None is for side effects.
        name: the name of the routine. None takes that of the function.
        settings: other arguments of `lakefeed.routines.Routine`, such as ``when=`` and ``retries=``.

    Example:
        >>> @routine(on="photos", into="captions")
        ... def captions(rows):
        ...     return rows.select(["id"]).with_column("caption", "'a photo'")
        >>> captions.sources, captions.output
        (('photos',), 'captions')
    """

    def declare(fn: RoutineFn) -> Routine:
        source = on if isinstance(on, str) else tuple(on)
        return Routine(name or fn.__name__, fn, source=source, output=into, **settings)

    return declare


def with_neighbours(routines: Sequence[Routine]) -> list[Routine]:
    """Returns the routines, each of which knows the others that append to the same output.

    So none of them is taken for a former name of another.

    Args:
        routines: all routines that are declared together.
    """
    targets: dict[str, list[Routine]] = {}
    for each in routines:
        targets.setdefault(each.target, []).append(each)
    return [
        replace(
            each, beside=(*each.beside, *(other.stored_name for other in targets[each.target] if other is not each))
        )
        for each in routines
    ]
