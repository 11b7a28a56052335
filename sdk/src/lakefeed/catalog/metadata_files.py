"""Older metadata files of a table, which still have snapshots that have expired since."""

from __future__ import annotations

import functools
from collections.abc import Callable

from pyiceberg.exceptions import ValidationError
from pyiceberg.io import FileIO
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.snapshots import Snapshot

METADATA_CACHE_SIZE = 4


def metadata_file_at(table: Table, timestamp_ms: int) -> str | None:
    """Returns the metadata file that was the newest at a time; None if it is unknown or is the current one."""
    files = [entry for entry in table.metadata.metadata_log if entry.timestamp_ms <= timestamp_ms]
    if not files or timestamp_ms >= table.metadata.last_updated_ms:
        return None
    return max(reversed(files), key=lambda entry: entry.timestamp_ms).metadata_file


def read_metadata(table: Table, location: str) -> TableMetadata | None:
    """Returns the content of a metadata file; None if it cannot be read any more."""
    try:
        return _read_cached(table.io, location)
    except (OSError, ValueError, ValidationError):
        return None


def recorded_ancestor(
    table: Table, child: Snapshot, has_parent: Callable[[Snapshot], bool]
) -> tuple[bool, Snapshot | None]:
    """Finds the newest existing ancestor of a snapshot in older metadata files.

    The metadata file of the commit of a snapshot has all ancestors that existed at that time.

    Returns:
        Whether the files tell, and the ancestor; None if there is none.
    """
    present = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    ancestor, begin = child, child.snapshot_id
    while True:
        location = metadata_file_at(table, ancestor.timestamp_ms)
        older = read_metadata(table, location) if location is not None else None
        by_id = {snapshot.snapshot_id: snapshot for snapshot in older.snapshots} if older is not None else {}
        ancestor = by_id.get(ancestor.snapshot_id, ancestor)
        while ancestor.parent_snapshot_id in by_id:
            ancestor = by_id[ancestor.parent_snapshot_id]
            if ancestor.snapshot_id in present:
                return True, present[ancestor.snapshot_id]
        if ancestor.parent_snapshot_id in present:
            return True, present[ancestor.parent_snapshot_id]
        if not has_parent(ancestor):
            return True, None
        if ancestor.snapshot_id == begin:
            return False, None
        begin = ancestor.snapshot_id


@functools.lru_cache(METADATA_CACHE_SIZE)
def _read_cached(io: FileIO, location: str) -> TableMetadata:
    return FromInputFile.table_metadata(io.new_input(location))
