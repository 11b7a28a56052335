"""Version numbers of snapshots without a sequence number.

Iceberg numbers snapshots since format version 2. Snapshots of format version 1 have the number 0, even after an upgrade
of the table. Here they get the numbers 1, 2, … in commit order. A snapshot that another program commits after an
upgrade may have a number that is already in use; it gets the next free one. The first write by lakefeed stores the
numbers in a table property, so that they do not change when old snapshots expire.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.properties import HAS_COLUMN_FILES, VERSION_NUMBERS


class AdaptedTable(Table):
    """A table whose metadata differs from what the catalog has. Only for reading: commits start from the catalog's."""


class NumberedTable(AdaptedTable):
    """A table whose snapshots all have version numbers."""

    snapshot_numbers: Mapping[int, int]
    """The version number of each snapshot, by its id. Stored numbers include expired snapshots."""
    sequence_numbers: Mapping[int, int]
    """The version number of each snapshot that has a sequence number, by the sequence number."""

    def number_of(self, sequence_number: int | None, snapshot_id: int | None) -> int:
        """Returns the number of the version that wrote the rows of a manifest entry; 0 if it has expired.

        Manifests of format version 1 have only the snapshot id.
        """
        if sequence_number:
            return self.sequence_numbers.get(sequence_number, sequence_number)
        return self.snapshot_numbers.get(snapshot_id, 0) if snapshot_id is not None else 0


def is_column_snapshot(snapshot: Snapshot) -> bool:
    """Returns whether a snapshot has column files. Such a snapshot does not count as a version."""
    return snapshot.summary is not None and HAS_COLUMN_FILES in snapshot.summary.additional_properties


def with_version_numbers(table: Table) -> Table:
    """Returns the table with a number for every snapshot; the same object if all have one.

    The numbers are distinct and ascend in commit order. Later commits do not change them.
    """
    if VERSION_NUMBERS not in table.properties and all(each.sequence_number for each in table.metadata.snapshots):
        return table
    snapshots = [snapshot for snapshot in table.metadata.snapshots if not is_column_snapshot(snapshot)]
    if all(snapshot.sequence_number for snapshot in snapshots) and VERSION_NUMBERS not in table.properties:
        return table
    numbers = version_numbers(snapshots, _stored_numbers(table))
    numbered = [
        snapshot.model_copy(update={"sequence_number": numbers.get(snapshot.snapshot_id, snapshot.sequence_number)})
        for snapshot in table.metadata.snapshots
    ]
    metadata = table.metadata.model_copy(update={"snapshots": numbered})
    result = NumberedTable(table.name(), metadata, table.metadata_location, table.io, table.catalog, table.config)
    result.snapshot_numbers = {**_stored_numbers(table), **numbers}
    result.sequence_numbers = {s.sequence_number: numbers[s.snapshot_id] for s in snapshots if s.sequence_number}
    return result


def numbers_property(table: Table) -> dict[str, str]:
    """Returns the table property with the numbers; empty if the table has it or needs none."""
    if not isinstance(table, NumberedTable) or VERSION_NUMBERS in table.properties:
        return {}
    return {VERSION_NUMBERS: json.dumps({str(key): number for key, number in table.snapshot_numbers.items()})}


def number_of_snapshot(table: Table, snapshot_id: int) -> int | None:
    """Returns the version number of a snapshot; None if it has expired and its number is not stored."""
    if isinstance(table, NumberedTable):
        return table.snapshot_numbers.get(snapshot_id)
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    return None if snapshot is None else snapshot.sequence_number


def has_unstored_numbers(table: Table) -> bool:
    """Returns whether the version numbers are not stored. Then they change when another program expires snapshots."""
    return isinstance(table, NumberedTable) and VERSION_NUMBERS not in table.properties


def ids_of_unstored_numbers(table: Table) -> dict[int, int]:
    """Returns the snapshot ids by version number if the numbers are not stored; else an empty mapping."""
    if not isinstance(table, NumberedTable) or not has_unstored_numbers(table):
        return {}
    return {number: snapshot_id for snapshot_id, number in table.snapshot_numbers.items()}


def _stored_numbers(table: Table) -> dict[int, int]:
    stored: dict[str, int] = json.loads(table.properties.get(VERSION_NUMBERS, "{}"))
    return {int(key): number for key, number in stored.items()}


def version_numbers(snapshots: Sequence[Snapshot], stored: Mapping[int, int] = MappingProxyType({})) -> dict[int, int]:
    """Returns the version number of each snapshot, by its id.

    It is the stored number; else the sequence number, if it is higher than all before it; else the next number.

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
    """Returns the number of the next snapshot, which is higher than all others."""
    highest = max((snapshot.sequence_number or 0 for snapshot in metadata.snapshots), default=0)
    return max(metadata.next_sequence_number(), highest + 1)


def _in_commit_order(snapshots: Sequence[Snapshot]) -> list[Snapshot]:
    """Returns the snapshots in commit order. A parent precedes its child even if clocks differ."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in snapshots}
    keys: dict[int, tuple[int, int]] = {}
    for snapshot in snapshots:
        timestamp, depth = 0, 0
        for each in reversed(list(_ancestors_without_key(snapshot, by_id, keys))):
            if each.parent_snapshot_id in keys:
                timestamp, depth = keys[each.parent_snapshot_id]
            timestamp, depth = max(timestamp, each.timestamp_ms), depth + 1
            keys[each.snapshot_id] = timestamp, depth
    return sorted(snapshots, key=lambda each: (each.sequence_number or 0, *keys[each.snapshot_id]))


def _ancestors_without_key(
    snapshot: Snapshot, by_id: dict[int, Snapshot], keys: dict[int, tuple[int, int]]
) -> Iterator[Snapshot]:
    ancestor: Snapshot | None = snapshot
    while ancestor is not None and ancestor.snapshot_id not in keys:
        yield ancestor
        parent = ancestor.parent_snapshot_id
        ancestor = by_id.get(parent) if parent is not None else None
