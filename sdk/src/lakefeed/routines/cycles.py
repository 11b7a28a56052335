"""Cycles of routines that feed themselves, directly or through others."""

from __future__ import annotations

from collections.abc import Iterable

from lakefeed.routines.routine_declaration import Routine


def cycles(routines: Iterable[Routine]) -> list[tuple[Routine, ...]]:
    """Returns each chain of routines whose last one writes what the first one reads.

    Such a chain is allowed. Rows carry the number of routines that they passed, and `Routine.max_depth` ends the cycle.

    Args:
        routines: the routines.

    Example:
        >>> ping = Routine("ping", lambda rows: rows, "a", "b")
        >>> pong = Routine("pong", lambda rows: rows, "b", "a")
        >>> [[routine.name for routine in chain] for chain in cycles([ping, pong])]
        [['ping', 'pong']]
    """
    every = list(routines)
    readers: dict[str, list[Routine]] = {}
    for routine in every:
        for source in routine.sources:
            readers.setdefault(source, []).append(routine)
    chains: list[tuple[Routine, ...]] = []
    done: set[str] = set()
    for begin in every:
        if begin.name not in done:
            _walk(begin, readers, done, chains)
    return chains


def _walk(begin: Routine, readers: dict[str, list[Routine]], done: set[str], chains: list[tuple[Routine, ...]]) -> None:
    """Searches depth first with a stack of its own, because a chain of routines may be longer than Python recurses."""
    trail, rest = [begin], [_following(begin, readers)]
    while trail:
        if not rest[-1]:
            done.add(trail.pop().name)
            rest.pop()
            continue
        following = rest[-1].pop(0)
        if following in trail:
            chains.append(tuple(trail[trail.index(following) :]))
        elif following.name not in done:
            trail.append(following)
            rest.append(_following(following, readers))


def _following(routine: Routine, readers: dict[str, list[Routine]]) -> list[Routine]:
    # A routine that derives columns adds no rows, so it starts no other routine.
    return [] if routine.columns else list(readers.get(routine.output or "", ()))
