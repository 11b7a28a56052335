"""Versions that a routine has not read although their numbers are below its position.

Numbers ascend in the order of commits, including commits to branches. When another client rolls the dataset back and
publishes a branch or an older commit, these versions may be older than those that the routine has read.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog import list_versions
from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.version_numbers import is_column_snapshot
from lakefeed.routines.routine_declaration import Routine
from lakefeed.routines.routine_position import Position
from lakefeed.routines.snapshots import number_at


def find_late_versions(
    routine: Routine, source: str, table: Table, target: Table | None, at: Position
) -> frozenset[int]:
    """Returns the numbers of these versions; none if the position is one of the current versions."""
    numbers = {snapshot.sequence_number or 0: snapshot for snapshot in _versions(table)}
    below = [number for number in _ancestors(table, None) if number <= at.version]
    if at.version in below or at.version not in numbers:  # if it has expired, nothing says that it was rolled back
        return frozenset()
    read = set(_ancestors(table, at.version))
    if read.isdisjoint(below):
        return frozenset()
    for earlier in _positions(routine, source, table, target):
        read.update((earlier, *(_ancestors(table, earlier) if earlier in numbers else ())))
    return frozenset(below).difference(read)


def _versions(table: Table) -> list[Snapshot]:
    return [snapshot for snapshot in table.metadata.snapshots if not is_column_snapshot(snapshot)]


def _ancestors(table: Table, number: int | None) -> list[int]:
    """The numbers of a version (None: the newest) and its ancestors."""
    heads = (each for each in _versions(table) if each.sequence_number == number)
    return [snapshot.sequence_number or 0 for snapshot in ancestry(table, next(heads, None))]


def _positions(routine: Routine, source: str, table: Table, target: Table | None) -> Iterator[int]:
    """Yields the routine's position in the source after each of its commits."""
    for version in list_versions(target) if target is not None else ():
        work = json.loads(version.work or "{}")
        if work.get("routine") in routine.names:
            for span in work["read"]:
                if span["source"] == source and span["to_version"] is not None:
                    yield number_at(table, int(span["to_version"]), span.get("to_snapshot"))
