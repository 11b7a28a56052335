"""What older metadata files of a table say, as far as they are kept: they still know snapshots that have expired."""

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
    """The metadata file that was the newest at a time; None where it is not known, or is the current one."""
    files = [entry for entry in table.metadata.metadata_log if entry.timestamp_ms <= timestamp_ms]
    if not files or timestamp_ms >= table.metadata.last_updated_ms:
        return None
    return max(reversed(files), key=lambda entry: entry.timestamp_ms).metadata_file


def read_metadata(table: Table, location: str) -> TableMetadata | None:
    """What a metadata file says; None where it cannot be read any more."""
    try:
        return _read_cached(table.io, location)
    except (OSError, ValueError, ValidationError):
        return None


def recorded_ancestor(
    table: Table, child: Snapshot, has_parent: Callable[[Snapshot], bool]
) -> tuple[bool, Snapshot | None]:
    """Whether metadata files tell which kept snapshot is the newest ancestor of one, and that snapshot, if any.

    The file that a snapshot was committed with holds all its ancestors that were kept by then.
    """
    kept = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    at, begin = child, child.snapshot_id
    while True:
        location = metadata_file_at(table, at.timestamp_ms)
        then = read_metadata(table, location) if location is not None else None
        known = {snapshot.snapshot_id: snapshot for snapshot in then.snapshots} if then is not None else {}
        at = known.get(at.snapshot_id, at)
        while at.parent_snapshot_id in known:
            at = known[at.parent_snapshot_id]
            if at.snapshot_id in kept:
                return True, kept[at.snapshot_id]
        if at.parent_snapshot_id in kept:
            return True, kept[at.parent_snapshot_id]
        if not has_parent(at):
            return True, None
        if at.snapshot_id == begin:
            return False, None
        begin = at.snapshot_id


@functools.lru_cache(METADATA_CACHE_SIZE)
def _read_cached(io: FileIO, location: str) -> TableMetadata:
    return FromInputFile.table_metadata(io.new_input(location))
