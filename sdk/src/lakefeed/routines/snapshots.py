"""The snapshot that a position means, where version numbers may move.

Iceberg does not number the snapshots of a table of format version 1. Their numbers move when another program expires
old snapshots before lakefeed first writes to the table. So a position in such a table has the snapshot's id as well.
"""

from __future__ import annotations

from dataclasses import replace

from pyiceberg.table import Table

from lakefeed.catalog.version_numbers import number_of_snapshot
from lakefeed.errors import StateMismatchError
from lakefeed.routines.routine_position import Position


def located(position: Position, table: Table) -> Position:
    """Returns the position with the numbers that its snapshots have now.

    Raises:
        StateMismatchError: a snapshot of it has expired, and nothing says which number it would have.
    """
    version = number_at(table, position.version, position.snapshot_id)
    within = position.within
    if within is not None:
        within = number_at(table, within, position.within_id)
    return replace(position, version=version, within=within)


def number_at(table: Table, version: int, snapshot_id: int | None) -> int:
    """Returns the number that a version has now, which had ``version`` when it was written down.

    Raises:
        StateMismatchError: as for `located`.
    """
    return version if snapshot_id is None else _number(table, snapshot_id)


def _number(table: Table, snapshot_id: int) -> int:
    number = number_of_snapshot(table, snapshot_id)
    if number is None:
        name = table.name()[-1]
        raise StateMismatchError(
            f"rows of {name!r} are read up to snapshot {snapshot_id}, which another program has expired. The table was "
            "of format version 1, where numbers of versions move then, so which rows are new cannot be told. Write to "
            "another output, or delete the output, and all rows that are left are read. Any write by lakefeed to "
            f"{name!r} numbers its versions for good, so that this cannot happen again"
        )
    return number
