"""Positions of other routines in an output: a routine that was renamed must not read its sources again."""

from __future__ import annotations

from collections.abc import Iterator

from pyiceberg.table import Table

from lakefeed.catalog.properties import FENCE_PREFIX
from lakefeed.errors import StateMismatchError
from lakefeed.routines.former_sources import first_names
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_position import is_position_text


def check_first_read(routine: Routine, target: Table) -> None:
    """Checks that a routine without a position is not another one under a new name.

    Raises:
        StateMismatchError: another routine has read one of its sources into the same output.
    """
    for name, sources in _stored_routines(target):
        names = zip(routine.sources, first_names(routine.sources), strict=True)
        shared = [source for source, first in names if source in sources or first in sources]
        if not shared or name in routine.beside:
            continue
        if name in routine.names:
            raise StateMismatchError(
                f"routine {routine.name!r} reads {_list(routine.sources)} now, but its position in {routine.target!r} "
                f"is for {_list(sources)}: it would read all rows of {_list(shared)} again. Name the sources as "
                f"before, or write to another output. To read them again on purpose, declare beside=({name!r},)"
            )
        raise StateMismatchError(
            f"routine {routine.name!r} has no position in {routine.target!r}, but routine {name!r} has read "
            f"{_list(shared)} into it: {routine.name!r} would append the same rows again. If {name!r} was renamed to "
            f"{routine.name!r}, declare formerly={name!r}, and it goes on where {name!r} stopped. If both append rows "
            f"of their own, declare beside=({name!r},)"
        )


def _stored_routines(target: Table) -> Iterator[tuple[str, list[str]]]:
    """Yields the names and the sources of the routines whose positions an output stores."""
    for key, value in sorted(target.properties.items()):
        name, _, sources = key.removeprefix(FENCE_PREFIX).partition("/")
        if key.startswith(FENCE_PREFIX) and is_position_text(value):
            yield name, sources.split("+")


def _list(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(map(repr, names))
