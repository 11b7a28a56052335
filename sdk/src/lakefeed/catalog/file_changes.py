"""The data files that a commit added and removed, and those that expired commits did."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from uuid import UUID

from cachetools import LRUCache
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus, ManifestFile
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog.ancestry import is_child
from lakefeed.catalog.damaged_tables import damage_errors
from lakefeed.catalog.delete_files import (
    DeleteIndex,
    checked_delete_entry,
    delete_file_ref,
    delete_index,
    positions_by_path,
)
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.manifest_cache import manifest_entries_of
from lakefeed.catalog.version_files import (
    CACHED_FILES,
    Files,
    file_ref,
    files_of,
    manifest_entries,
    plan_files,
    row_order,
    select_rows,
    with_deletes,
)
from lakefeed.catalog.version_numbers import NumberedTable, has_unstored_numbers
from lakefeed.errors import UnsupportedError

REMOVED_DELETE_FILES = "removed-delete-files"
DELETED_DATA_FILES = "deleted-data-files"


@dataclass(frozen=True)
class FileChanges:
    """The files that commits added and removed.

    Attributes:
        new: added files of new rows.
        moved: added files of rows that older versions wrote.
        removed: removed files.
        deleted: the rows that delete files removed from files that stay.
        revived: the rows of such files that delete files no longer remove.
    """

    new: Files = ()
    moved: Files = ()
    removed: Files = ()
    deleted: Files = ()
    revived: Files = ()

    @property
    def lost(self) -> Files:
        """The files, or parts of them, whose rows are no longer there."""
        return _in_row_order((*self.removed, *self.deleted))

    @property
    def moved_or_revived(self) -> Files:
        """The files, or parts of them, whose rows older versions wrote."""
        return (*self.moved, *self.revived)


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
        UnsupportedError: the version has equality deletes, or its changes are unknown because the parent has expired.
    """
    if not step.has_gap and step.before is not None:
        return _cached_changes(table, step.before, step.after)
    own = _changes_in_own_manifests(table, step.after)
    if not _is_complete(step.after, own):
        raise _ambiguous_rows_error(table, step)
    before, after = _deletes_of_parent(table, step), delete_index(table, step.after)
    deleted, revived = _changed_rows(table, step.after, {file.path for file in (*own.new, *own.moved)}, before, after)
    new, moved, removed = (
        with_deletes(own.new, after),
        with_deletes(own.moved, after),
        with_deletes(own.removed, before),
    )
    return FileChanges(new, moved, removed, deleted, revived)


def expired_changes(table: Table, step: Step, removed: bool = False) -> FileChanges:
    """Returns the files that the expired commits before a version added and removed.

    Does not include files that they both added and removed: no existing version has them.

    Args:
        table: the table.
        step: the version and its predecessor.
        removed: the caller needs removed rows; else added rows.

    Raises:
        UnsupportedError: the version has equality deletes, or the added (removed) rows cannot be determined.
    """
    if not step.has_gap:
        return FileChanges()
    own = _changes_in_own_manifests(table, step.after)
    if not _is_complete(step.after, own):
        raise _ambiguous_rows_error(table, step)
    added = {file.path for file in (*own.new, *own.moved)}
    deletes = _deletes_of_parent(table, step)
    there = (file for file in plan_files(table, step.after) if file.path not in added)
    parent = with_deletes((*there, *own.removed), deletes)
    before = plan_files(table, step.before) if step.before is not None else ()
    came = subtract_files(_in_row_order(parent), before)
    at_start = step.before is not None and step.start == _number(step.before)
    # A file has the number 0 (unknown) if an expired version of format version 1 wrote it. It is new if `before` is the
    # start and lacks it; its rows are compared with removed rows, if any. If numbers are stored, it is older than all.
    unknown = {file.path for file in came if not file.sequence} if has_unstored_numbers(table) else frozenset()
    new = [file for file in came if file.sequence > step.start or (at_start and file.path in unknown)]
    deleted, revived = compare_deletes(table, before, parent)
    changes = FileChanges(
        new=_in_row_order(new),
        moved=_in_row_order(subtract_files(came, new)),
        removed=subtract_files(_in_row_order(before), parent),
        deleted=deleted,
        revived=revived,
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
    return at_start or not changes.lost or not (removed or changes.new)


def _cached_changes(table: Table, before: Snapshot, after: Snapshot) -> FileChanges:
    """Returns the difference of two snapshots, from the cache or as `_changes_between`.

    Work that lags behind asks for the same changes with each version that it works off.
    """
    if isinstance(table, NumberedTable):  # its numbers of versions depend on what it has
        return _changes_between(table, before, after)
    key = (table.metadata.table_uuid, before.snapshot_id, after.snapshot_id)
    with _lock:
        changes = _changes.get(key)
    if changes is None:
        changes = _changes_between(table, before, after)
        with _lock:
            _changes[key] = changes
    return changes


def _changes_between(table: Table, before: Snapshot, after: Snapshot) -> FileChanges:
    """Returns the difference of two snapshots. Reads only manifests that one of them lacks.

    So it does not depend on entries for removed files, which some writers omit.
    """
    older, newer = _data_manifests(table, before), _data_manifests(table, after)
    removed = _in_row_order(_file_refs(table, (older[path] for path in older if path not in newer)))
    added = _in_row_order(_file_refs(table, (newer[path] for path in newer if path not in older)))
    deletes_before, deletes_after = delete_index(table, before), delete_index(table, after)
    came = with_deletes(subtract_files(added, removed), deletes_after)
    deleted, revived = _changed_rows(table, after, {file.path for file in came}, deletes_before, deletes_after)
    return FileChanges(
        new=_in_row_order(file for file in came if file.sequence == _number(after)),
        moved=_in_row_order(file for file in came if file.sequence != _number(after)),
        removed=with_deletes(subtract_files(removed, added), deletes_before),
        deleted=deleted,
        revived=revived,
    )


def compare_deletes(table: Table, before: Iterable[DataFileRef], after: Iterable[DataFileRef]) -> tuple[Files, Files]:
    """Returns the rows that delete files removed from files that are on both sides, and those that came back."""
    older = {file.path: file for file in before}
    deleted, revived = [], []
    for file in after:
        old = older.get(file.path)
        if old is None or set(old.deletes) == set(file.deletes):
            continue
        deleted.append(replace(old, among=file.deletes))
        revived.append(replace(file, among=old.deletes))
    deleted, revived = ([file for file in files if len(select_rows(table, file))] for files in (deleted, revived))
    return _in_row_order(deleted), _in_row_order(revived)


def _changed_rows(
    table: Table, after: Snapshot, came: set[str], older: DeleteIndex, newer: DeleteIndex
) -> tuple[Files, Files]:
    """Returns the rows that a commit removed by delete files, and those that it brought back."""
    if set(older.files) == set(newer.files):
        return (), ()
    changed = set(older.files) ^ set(newer.files)
    named = {path for file in changed for path in positions_by_path(table, file)} - came
    files = [file for file in files_of(table, after) if file.path in named]
    return compare_deletes(table, with_deletes(files, older), with_deletes(files, newer))


def _deletes_of_parent(table: Table, step: Step) -> DeleteIndex:
    """Returns the delete files of the parent of a version, which may have expired.

    Raises:
        UnsupportedError: the manifests do not name every removed delete file.
    """
    own, before = step.after.snapshot_id, []
    removed = 0
    for manifest in step.after.manifests(table.io):
        if manifest.content != ManifestContent.DELETES:
            continue
        with damage_errors(table.name()[-1], manifest.manifest_path):
            entries = manifest_entries_of(table, manifest, removed=True)
        for entry in entries:
            was_removed = entry.status == ManifestEntryStatus.DELETED
            if was_removed and manifest.added_snapshot_id != own:
                continue
            removed += was_removed
            if was_removed or not (entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == own):
                before.append(delete_file_ref(manifest, checked_delete_entry(table, step.after, entry)))
    if removed < int(_summary_facts(step.after).get(REMOVED_DELETE_FILES, 0)):
        raise _ambiguous_rows_error(table, step)
    return DeleteIndex(before)


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


def operation(snapshot: Snapshot) -> Operation:
    """Returns the operation of a snapshot; OVERWRITE if it is not recorded."""
    return snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE


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


def _weight(changes: FileChanges) -> int:
    """Returns the number of files, within limits: one always fits."""
    fields = (changes.new, changes.moved, changes.removed, changes.deleted, changes.revived)
    return min(sum(map(len, fields)) + 1, CACHED_FILES)


_changes: LRUCache[tuple[UUID, int, int], FileChanges] = LRUCache(CACHED_FILES, getsizeof=_weight)
"""The changes that were used last. A snapshot never changes."""
_lock = threading.Lock()
