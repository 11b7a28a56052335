"""The options and the order of the commands of routines."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from lakefeed import errors
from lakefeed.cli.declared_work import DeclaredWork, choose, load_work
from lakefeed.routines import Routine


def load_routines(files: Sequence[str], names: Sequence[str]) -> tuple[list[Routine], DeclaredWork]:
    """Returns the routines of these names, those that write a dataset before those that read it, and all work.

    Raises:
        InvalidArgumentError: the files declare no routine, or cannot be loaded.
    """
    work = load_work(files)
    if not work.routines:
        raise errors.InvalidArgumentError(
            f"{', '.join(files)}: no routine is declared; decorate a function with @routine"
        )
    return in_order(choose(work.routines, names, "routine")), work


def load_routine(files: Sequence[str], name: str) -> tuple[Routine, DeclaredWork]:
    """Returns the routine of a name, and all work.

    Raises:
        InvalidArgumentError: as for `load_routines`.
    """
    (routine,), work = load_routines(files, [name])
    return routine, work


def unchecked(routine: Routine) -> Routine:
    """Returns the routine without the condition that versions are checked, whose results Dagster has."""
    return replace(routine, only_checked=False)


def in_order(routines: Sequence[Routine]) -> list[Routine]:
    """Returns the routines so that those that write a dataset come before those that read it, as far as possible."""
    ordered: list[Routine] = []
    entered = set[str]()

    def visit(routine: Routine) -> None:
        if routine.name in entered:
            return
        entered.add(routine.name)
        for other in routines:
            if other.target in routine.sources:
                visit(other)
        ordered.append(routine)

    for each in routines:
        visit(each)
    return ordered
