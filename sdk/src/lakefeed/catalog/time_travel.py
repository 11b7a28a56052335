"""The current snapshot of a table at a time, by its snapshot log.

The log has every snapshot that became the current one, also by a rollback or when a branch was published. Entries of
expired snapshots are missing; then the metadata file of that time tells.
"""

from __future__ import annotations

from itertools import takewhile

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.metadata_files import metadata_file_at, read_metadata
from lakefeed.errors import VersionNotFoundError


def current_at(table: Table, timestamp_ms: int) -> Snapshot | None:
    """Returns the current snapshot at a time; None if the table had none, as far as known.

    Raises:
        VersionNotFoundError: the snapshot has expired, or is unknown because versions have expired.
    """
    snapshot, since = _logged_at(table, timestamp_ms)
    if snapshot is None or not _may_have_expired(table, snapshot, timestamp_ms):
        return snapshot
    return _by_metadata_files(table, snapshot, since, timestamp_ms)


def _logged_at(table: Table, timestamp_ms: int) -> tuple[Snapshot | None, int]:
    """Returns the snapshot of the last log entry up to a time, and the time of the entry."""
    for entry in reversed(table.metadata.snapshot_log):
        snapshot = table.metadata.snapshot_by_id(entry.snapshot_id)
        if snapshot is not None and entry.timestamp_ms <= timestamp_ms:
            return snapshot, entry.timestamp_ms
    # Other programs truncate the log when snapshots expire, or write none.
    for snapshot in ancestry(table):
        if snapshot.timestamp_ms <= timestamp_ms:
            return snapshot, snapshot.timestamp_ms
    return None, 0


def _may_have_expired(table: Table, logged: Snapshot, timestamp_ms: int) -> bool:
    """Returns whether an expired snapshot may have been the current one after ``logged``, up to the time."""
    times = {snapshot.sequence_number or 0: snapshot.timestamp_ms for snapshot in table.metadata.snapshots}
    later = range((logged.sequence_number or 0) + 1, max(times) + 1)
    # Numbers ascend with time, so numbers after a later commit are later too.
    earlier = takewhile(lambda number: times.get(number, 0) <= timestamp_ms, later)
    return any(number not in times for number in earlier)


def _by_metadata_files(table: Table, logged: Snapshot, since: int, timestamp_ms: int) -> Snapshot:
    """Returns the current snapshot of the metadata file that was the newest at the time."""
    if timestamp_ms >= table.metadata.last_updated_ms:
        return logged
    location = metadata_file_at(table, timestamp_ms)
    if location is None:
        raise _unknown_version_error(table, logged)
    if location == metadata_file_at(table, since):
        return logged  # nothing was committed in between
    metadata = read_metadata(table, location)
    if metadata is None:
        raise _unknown_version_error(table, logged)
    snapshot = table.metadata.snapshot_by_id(metadata.current_snapshot_id or 0)
    if snapshot is None:
        raise VersionNotFoundError(
            f"the version of {table.name()[-1]!r} as of that time has expired; version {logged.sequence_number} is the "
            "newest one before it"
        )
    return snapshot


def _unknown_version_error(table: Table, logged: Snapshot) -> VersionNotFoundError:
    return VersionNotFoundError(
        f"the newest version of {table.name()[-1]!r} at that time is unknown: version {logged.sequence_number}, or a "
        "later one that has expired. Pass a version number"
    )
