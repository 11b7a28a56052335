"""The files whose rows or column files changed between two versions. Indexes over a dataset are refreshed from them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog.column_files import column_snapshot_id
from lakefeed.catalog.deltas import added_rows, net_rows, removed_rows
from lakefeed.catalog.file_changes import Step, committed_changes, operation
from lakefeed.catalog.file_refs import DataFileRef, Delta
from lakefeed.catalog.properties import COLUMN_BRANCH, DERIVED
from lakefeed.catalog.version_files import files_of, plan_files, with_last_columns_of
from lakefeed.catalog.versions import find_snapshot, steps_between, version_number


@dataclass(frozen=True)
class PatchedFile:
    """A data file that is in a version and in a later one, with other column files. Its rows are the same.

    Attributes:
        before: the file in the older version.
        after: the file in the newer version.
        older: the snapshot of the older version.
        newer: the snapshot of the newer version.
    """

    before: DataFileRef
    after: DataFileRef
    older: Snapshot
    newer: Snapshot


@dataclass(frozen=True)
class TouchedFiles:
    """The differences between two versions, by files.

    Attributes:
        gained: the rows that came, in the columns of the newer version.
        lost: the rows that went.
        patched: the files whose rows stayed, and of which a column has other column files.
    """

    gained: tuple[Delta, ...] = ()
    lost: tuple[Delta, ...] = ()
    patched: tuple[PatchedFile, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost or self.patched)


def touched_files(table: Table, from_version: int | None, to_version: int | None = None) -> TouchedFiles:
    """Returns the files whose rows or column files changed after ``from_version`` up to ``to_version``.

    Each row that differs between the two versions is in one of these files. A row may be in several, and rows that came
    and went in between are there, too. Merges and compactions touch no file. The cost is that of the changes, not of
    the table, unless versions in between have expired: then the two versions are compared.

    Args:
        table: the table.
        from_version: the older version; None for a table without rows.
        to_version: the newer version; None for the newest.

    Raises:
        VersionNotFoundError: one of the versions does not exist, or has expired.
        InvalidArgumentError: ``from_version`` is newer than ``to_version``.
        UnsupportedError: a version has equality deletes of another program.
    """
    if to_version is None and table.metadata.current_snapshot() is None:
        return TouchedFiles()
    newer = find_snapshot(table, to_version)
    if from_version is None:
        files = plan_files(table, newer)
        return TouchedFiles((Delta(files),)) if files else TouchedFiles()
    older = find_snapshot(table, from_version, newer)
    steps = steps_between(table, from_version, version_number(newer), newer)
    if any(step.has_gap for step in steps):
        gained, lost = net_rows(table, older, newer)
        came, went = ((each,) if each.files else () for each in (gained, lost))
        return TouchedFiles(came, went, tuple(patched_files(table, older, newer)))
    added = added_rows(table, from_version, version_number(newer), newer)
    restored = tuple(delta for step in steps for delta in _restored_rows(table, step))
    removed = removed_rows(table, from_version, version_number(newer), newer)
    return TouchedFiles(
        with_last_columns_of(table, newer, (*added, *restored)),
        with_last_columns_of(table, newer, removed),
        tuple(each for step in steps if step.before for each in patched_files(table, step.before, step.after)),
    )


def patched_files(table: Table, older: Snapshot, newer: Snapshot) -> Iterator[PatchedFile]:
    """Yields the files that two versions have, of which a column has other column files."""
    if COLUMN_BRANCH not in table.metadata.refs:
        return
    if column_snapshot_id(table, older) == column_snapshot_id(table, newer):
        return
    before = {file.path: file for file in files_of(table, older)}
    for file in files_of(table, newer):
        old = before.get(file.path)
        if old is not None and old.columns != file.columns:
            yield PatchedFile(old, file, older, newer)


def _restored_rows(table: Table, step: Step) -> tuple[Delta, ...]:
    """Returns the rows of older versions that a version brought back, or to which it gave other values.

    The rows of a merge are removed by it, too.
    """
    if operation(step.after) is Operation.APPEND or (
        operation(step.after) is Operation.REPLACE and not _derives(step.after)
    ):
        return ()
    changes = committed_changes(table, step)
    back = changes.moved_or_revived
    return (Delta(back, changes.lost),) if back else ()


def _derives(snapshot: Snapshot) -> bool:
    """Returns whether a version has derived values by writing rows again."""
    return snapshot.summary is not None and DERIVED in snapshot.summary.additional_properties
