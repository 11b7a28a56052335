"""Version numbers for snapshots that have no sequence number of their own.

Iceberg numbers snapshots since format version 2. Snapshots of a table of format version 1 all have number 0, also after
the table was upgraded. Here they get the numbers 1, 2, … in the order in which they were committed. A snapshot that
another program commits after an upgrade may have a number that is given already; it gets the next free one. With the
first write by lakefeed the numbers are stored in a table property, so that they stay when old snapshots expire.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.properties import VERSION_NUMBERS


class NumberedTable(Table):
    """A table with the numbers filled in. Only for reading: what is committed does not hold them."""

    snapshot_numbers: Mapping[int, int]
    """The number of each snapshot, by its id; where numbers are stored, also of those that have expired."""
    sequence_numbers: Mapping[int, int]
    """The number of each snapshot that has a sequence number, by that."""

    def number_of(self, sequence_number: int | None, snapshot_id: int | None) -> int:
        """The number of the version that wrote the rows of a manifest entry; 0 where that version has expired.

        Manifests of format version 1 say only which snapshot it was.
        """
        if sequence_number:
            return self.sequence_numbers.get(sequence_number, sequence_number)
        return self.snapshot_numbers.get(snapshot_id, 0) if snapshot_id is not None else 0


def with_version_numbers(table: Table) -> Table:
    """The table with a number for every snapshot; the same object where all snapshots have one.

    The numbers are distinct, and ascend in the order of the commits. A later commit changes none of them.
    """
    snapshots = table.metadata.snapshots
    if all(snapshot.sequence_number for snapshot in snapshots) and VERSION_NUMBERS not in table.properties:
        return table
    numbers = version_numbers(snapshots, _stored_numbers(table))
    filled = [snapshot.model_copy(update={"sequence_number": numbers[snapshot.snapshot_id]}) for snapshot in snapshots]
    metadata = table.metadata.model_copy(update={"snapshots": filled})
    found = NumberedTable(table.name(), metadata, table.metadata_location, table.io, table.catalog, table.config)
    found.snapshot_numbers = {**_stored_numbers(table), **numbers}
    found.sequence_numbers = {s.sequence_number: numbers[s.snapshot_id] for s in snapshots if s.sequence_number}
    return found


def numbers_property(table: Table) -> dict[str, str]:
    """The table property that keeps the numbers; empty where it is there, or every snapshot has its own number."""
    if not isinstance(table, NumberedTable) or VERSION_NUMBERS in table.properties:
        return {}
    return {VERSION_NUMBERS: json.dumps({str(key): number for key, number in table.snapshot_numbers.items()})}


def number_of_snapshot(table: Table, snapshot_id: int) -> int | None:
    """Returns the number of a snapshot; None where it has expired and its number is not stored."""
    if isinstance(table, NumberedTable):
        return table.snapshot_numbers.get(snapshot_id)
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    return None if snapshot is None else snapshot.sequence_number


def has_unstored_numbers(table: Table) -> bool:
    """Returns whether numbers of versions move when another program expires older snapshots: they are not stored."""
    return isinstance(table, NumberedTable) and VERSION_NUMBERS not in table.properties


def ids_of_unstored_numbers(table: Table) -> dict[int, int]:
    """Returns the ids of the snapshots by their numbers, if the numbers may move; else nothing."""
    if not isinstance(table, NumberedTable) or not has_unstored_numbers(table):
        return {}
    return {number: snapshot_id for snapshot_id, number in table.snapshot_numbers.items()}


def _stored_numbers(table: Table) -> dict[int, int]:
    stored: dict[str, int] = json.loads(table.properties.get(VERSION_NUMBERS, "{}"))
    return {int(key): number for key, number in stored.items()}


def version_numbers(snapshots: Sequence[Snapshot], stored: Mapping[int, int] = MappingProxyType({})) -> dict[int, int]:
    """The number of each snapshot, by its id.

    That is the stored one; else its own, where that is higher than all before it; else the next one.

    Example:
        >>> old = [Snapshot(snapshot_id=n, timestamp_ms=n, manifest_list="", sequence_number=0) for n in (7, 9)]
        >>> version_numbers([*old, Snapshot(snapshot_id=8, timestamp_ms=10, manifest_list="", sequence_number=1)])
        {7: 1, 9: 2, 8: 3}
    """
    numbers: dict[int, int] = {}
    last = 0
    for snapshot in _in_commit_order(snapshots):
        last = stored.get(snapshot.snapshot_id) or max(snapshot.sequence_number or 0, last + 1)
        numbers[snapshot.snapshot_id] = last
    return numbers


def next_number(metadata: TableMetadata) -> int:
    """The number of the next snapshot: higher than every one that a snapshot of the table has."""
    taken = max((snapshot.sequence_number or 0 for snapshot in metadata.snapshots), default=0)
    return max(metadata.next_sequence_number(), taken + 1)


def _in_commit_order(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """The snapshots in the order of their commits: a parent is before its child, also where clocks differ."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    moments: dict[int, tuple[int, int]] = {}
    for snapshot in snapshots:
        at, depth = 0, 0
        for one in reversed(list(_unknown_ancestors(snapshot, by_id, moments))):
            if one.parent_snapshot_id in moments:
                at, depth = moments[one.parent_snapshot_id]
            at, depth = max(at, one.timestamp_ms), depth + 1
            moments[one.snapshot_id] = at, depth
    return sorted(snapshots, key=lambda each: (each.sequence_number or 0, *moments[each.snapshot_id]))


def _unknown_ancestors(
    snapshot: Snapshot, by_id: dict[int, Snapshot], known: dict[int, tuple[int, int]]
) -> Iterator[Snapshot]:
    at: Snapshot | None = snapshot
    while at is not None and at.snapshot_id not in known:
        yield at
        at = by_id.get(at.parent_snapshot_id) if at.parent_snapshot_id is not None else None
