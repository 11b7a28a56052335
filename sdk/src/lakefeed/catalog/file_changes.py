"""The data files that a commit added and removed, and those that expired commits did."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from pyiceberg.manifest import ManifestContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog.ancestry import is_child
from lakefeed.catalog.version_files import DataFileRef, file_ref, manifest_entries, plan_files, row_order
from lakefeed.catalog.version_numbers import has_unstored_numbers
from lakefeed.errors import UnsupportedError

ADDED_DELETE_FILES = "added-delete-files"
DELETED_DATA_FILES = "deleted-data-files"

Files = tuple[DataFileRef, ...]


@dataclass(frozen=True)
class FileChanges:
    """The files that commits added and removed.

    Attributes:
        new: added files of new rows.
        moved: added files of rows that older versions wrote.
        removed: removed files.
    """

    new: Files = ()
    moved: Files = ()
    removed: Files = ()


@dataclass(frozen=True)
class Step:
    """A version and its predecessor.

    Attributes:
        before: the newest ancestor that has not expired; None for the oldest version.
        after: the snapshot of the version.
        start: rows of versions up to this number are not new. It is the number of ``before``, or a later expired one.
    """

    before: Snapshot | None
    after: Snapshot
    start: int

    @property
    def has_gap(self) -> bool:
        """Returns whether versions may have expired between the two."""
        return self.before is None or not is_child(self.after, self.before)


def committed_changes(table: Table, step: Step) -> FileChanges:
    """Returns the files that the commit of a version added and removed.

    Raises:
        UnsupportedError: the commit added delete files, or its changes are unknown because the parent has expired.
    """
    if ADDED_DELETE_FILES in _summary_facts(step.after):
        raise delete_files_error(table, step.after)
    if not step.has_gap and step.before is not None:
        return _changes_between(table, step.before, step.after)
    own = _changes_in_own_manifests(table, step.after)
    if not _is_complete(step.after, own):
        raise _ambiguous_rows_error(table, step)
    return own


def expired_changes(table: Table, step: Step, removed: bool = False) -> FileChanges:
    """Returns the files that the expired commits before a version added and removed.

    Does not include files that they both added and removed: no existing version has them.

    Args:
        table: the table.
        step: the version and its predecessor.
        removed: the caller needs removed rows; else added rows.

    Raises:
        UnsupportedError: the commits added delete files, or the added (removed) rows cannot be determined.
    """
    if not step.has_gap:
        return FileChanges()
    _check_delete_files(table, step)
    own = _changes_in_own_manifests(table, step.after)
    if not _is_complete(step.after, own):
        raise _ambiguous_rows_error(table, step)
    added = {file.path for file in (*own.new, *own.moved)}
    parent = [*(file for file in plan_files(table, step.after) if file.path not in added), *own.removed]
    before = plan_files(table, step.before) if step.before is not None else ()
    came = subtract_files(_in_row_order(parent), before)
    at_start = step.before is not None and step.start == _number(step.before)
    # A file has the number 0 (unknown) if an expired version of format version 1 wrote it. It is new if `before` is the
    # start and lacks it; its rows are compared with removed rows, if any. If numbers are stored, it is older than all.
    unknown = {file.path for file in came if not file.sequence} if has_unstored_numbers(table) else frozenset()
    new = [file for file in came if file.sequence > step.start or (at_start and file.path in unknown)]
    changes = FileChanges(
        new=_in_row_order(new),
        moved=_in_row_order(subtract_files(came, new)),
        removed=subtract_files(_in_row_order(before), parent),
    )
    if (unknown and not at_start) or not _is_unambiguous(step, changes, removed):
        raise _ambiguous_rows_error(table, step)
    return changes


def _is_unambiguous(step: Step, changes: FileChanges, removed: bool) -> bool:
    """Returns whether new rows can be told from rewritten rows, even if the rows at ``start`` are unknown."""
    if step.before is None:
        # There is nothing to compare with. If old rows remain, the new ones were not written with them.
        return removed or not changes.new or bool(changes.moved)
    at_start = step.start == _number(step.before)
    return at_start or not changes.removed or not (removed or changes.new)


def _changes_between(table: Table, before: Snapshot, after: Snapshot) -> FileChanges:
    """Returns the difference of two snapshots. Reads only manifests that one of them lacks.

    So it does not depend on entries for removed files, which some writers omit.
    """
    older, newer = _data_manifests(table, before), _data_manifests(table, after)
    removed = _in_row_order(_file_refs(table, (older[path] for path in older if path not in newer)))
    added = _in_row_order(_file_refs(table, (newer[path] for path in newer if path not in older)))
    came = subtract_files(added, removed)
    return FileChanges(
        new=_in_row_order(file for file in came if file.sequence == _number(after)),
        moved=_in_row_order(file for file in came if file.sequence != _number(after)),
        removed=subtract_files(removed, added),
    )


def subtract_files(files: Iterable[DataFileRef], others: Iterable[DataFileRef]) -> Files:
    """Returns the files without the others. A table may name a file more than once; each time counts."""
    counts = Counter(file.path for file in others)
    remaining = []
    for file in files:
        if counts[file.path]:
            counts[file.path] -= 1
        else:
            remaining.append(file)
    return tuple(remaining)


def _changes_in_own_manifests(table: Table, snapshot: Snapshot) -> FileChanges:
    """Returns the changes by the manifests that the snapshot itself added."""
    own = [m for m in _data_manifests(table, snapshot).values() if m.added_snapshot_id == snapshot.snapshot_id]
    new: list[DataFileRef] = []
    moved: list[DataFileRef] = []
    removed: list[DataFileRef] = []
    for manifest, entry in manifest_entries(table, own, removed=True):
        # Some writers keep the id of the older snapshot in entries of removed files.
        if entry.status == ManifestEntryStatus.DELETED:
            removed.append(file_ref(manifest, entry))
        elif entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id:
            (new if entry.sequence_number == _number(snapshot) else moved).append(file_ref(manifest, entry))
    return FileChanges(_in_row_order(new), _in_row_order(moved), _in_row_order(removed))


def _is_complete(snapshot: Snapshot, own: FileChanges) -> bool:
    """Returns whether the manifests name every removed file. Some writers drop such entries in merges."""
    if operation(snapshot) is Operation.APPEND:
        return True
    return len(own.removed) >= int(_summary_facts(snapshot).get(DELETED_DATA_FILES, 0))


def _data_manifests(table: Table, snapshot: Snapshot) -> dict[str, ManifestFile]:
    manifests = snapshot.manifests(table.io)
    return {each.manifest_path: each for each in manifests if each.content == ManifestContent.DATA}


def _file_refs(table: Table, manifests: Iterable[ManifestFile]) -> Iterable[DataFileRef]:
    return (file_ref(manifest, entry) for manifest, entry in manifest_entries(table, manifests))


def _check_delete_files(table: Table, step: Step) -> None:
    for manifest in step.after.manifests(table.io):
        if manifest.content == ManifestContent.DELETES and manifest.sequence_number > step.start:
            raise delete_files_error(table, step.after)


def operation(snapshot: Snapshot) -> Operation:
    """Returns the operation of a snapshot; OVERWRITE if it is not recorded."""
    return snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE


def delete_files_error(table: Table, snapshot: Snapshot) -> UnsupportedError:
    """Returns the error for a version that has deleted rows by delete files."""
    return UnsupportedError(
        f"another writer deleted rows of {table.name()[-1]!r} by delete files in version {_number(snapshot)}, so "
        "changes across it cannot be determined; start after it"
    )


def _ambiguous_rows_error(table: Table, step: Step) -> UnsupportedError:
    number = _number(step.after)
    return UnsupportedError(
        f"versions of {table.name()[-1]!r} between {step.start} and {number} have expired. They rewrote existing rows, "
        f"so new rows cannot be determined. Start at version {number}, which has all remaining rows"
    )


def _in_row_order(files: Iterable[DataFileRef]) -> Files:
    return tuple(sorted(files, key=row_order))


def _summary_facts(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary is not None else {}


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0
