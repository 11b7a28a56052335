"""Which snapshot was the current one at a time, by the snapshot log of the table.

The log names every snapshot that became the current one, also by a rollback or when a branch was published. Where
snapshots have expired, their entries are gone; then the metadata file of that time says which one it was.
"""

from __future__ import annotations

from itertools import takewhile

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.metadata_files import metadata_file_at, read_metadata
from lakefeed.errors import VersionNotFoundError


def current_at(table: Table, timestamp_ms: int) -> Snapshot | None:
    """The snapshot that was the current one at a time; None where the table had none that is known of.

    Raises:
        VersionNotFoundError: it has expired, or versions have expired so that it cannot be told.
    """
    found, since = _logged_at(table, timestamp_ms)
    if found is None or not _may_have_expired(table, found, timestamp_ms):
        return found
    return _by_metadata_files(table, found, since, timestamp_ms)


def _logged_at(table: Table, timestamp_ms: int) -> tuple[Snapshot | None, int]:
    """The snapshot of the last entry up to a time, and since when it was the current one."""
    for entry in reversed(table.metadata.snapshot_log):
        snapshot = table.metadata.snapshot_by_id(entry.snapshot_id)
        if snapshot is not None and entry.timestamp_ms <= timestamp_ms:
            return snapshot, entry.timestamp_ms
    # Other programs cut the log where snapshots expire, or write none.
    for snapshot in ancestry(table):
        if snapshot.timestamp_ms <= timestamp_ms:
            return snapshot, snapshot.timestamp_ms
    return None, 0


def _may_have_expired(table: Table, found: Snapshot, timestamp_ms: int) -> bool:
    """Whether a snapshot that is not kept may have been the current one later than ``found``, up to the time."""
    kept = {snapshot.sequence_number or 0: snapshot.timestamp_ms for snapshot in table.metadata.snapshots}
    later = range((found.sequence_number or 0) + 1, max(kept) + 1)
    # Numbers ascend with time: those after one that was committed later are later, too.
    earlier = takewhile(lambda number: kept.get(number, 0) <= timestamp_ms, later)
    return any(number not in kept for number in earlier)


def _by_metadata_files(table: Table, found: Snapshot, since: int, timestamp_ms: int) -> Snapshot:
    """The current snapshot of the metadata file that was the newest at the time."""
    if timestamp_ms >= table.metadata.last_updated_ms:
        return found
    location = metadata_file_at(table, timestamp_ms)
    if location is None:
        raise _unknown_version_error(table, found)
    if location == metadata_file_at(table, since):
        return found  # nothing was committed in between
    then = read_metadata(table, location)
    if then is None:
        raise _unknown_version_error(table, found)
    snapshot = table.metadata.snapshot_by_id(then.current_snapshot_id or 0)
    if snapshot is None:
        raise VersionNotFoundError(
            f"the version of {table.name()[-1]!r} as of then has expired; version {found.sequence_number} is the "
            "newest before it that is kept"
        )
    return snapshot


def _unknown_version_error(table: Table, found: Snapshot) -> VersionNotFoundError:
    return VersionNotFoundError(
        f"which version of {table.name()[-1]!r} was the newest then cannot be told: version {found.sequence_number} "
        "was, or one after it that has expired. Give a version number"
    )
