"""Which data files a commit brought and left out, and which ones commits did that have expired since."""

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
    """Files of ``new`` rows, files of rows that older versions wrote (``moved``), and files that were left out."""

    new: Files = ()
    moved: Files = ()
    gone: Files = ()


@dataclass(frozen=True)
class Step:
    """A version and the one before it that is kept; rows up to the number ``start`` are known already.

    ``start`` is the number of ``before``, or a later one that is not kept. ``before`` is None for the oldest version.
    """

    before: Snapshot | None
    after: Snapshot
    start: int

    @property
    def has_gap(self) -> bool:
        """Whether versions may have expired between the two."""
        return self.before is None or not is_child(self.after, self.before)


def committed_changes(table: Table, step: Step) -> FileChanges:
    """What the commit of the version exchanged.

    Raises:
        UnsupportedError: it deleted rows by delete files; or it cannot be told, because the version before has expired.
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
    """What the commits exchanged that have expired before the version: of files that are still there, or were.

    What they both brought and left out is not told: no version that is kept has had it.

    Raises:
        UnsupportedError: they deleted rows by delete files; or which rows are new (``removed``: gone) cannot be told.
    """
    if not step.has_gap:
        return FileChanges()
    _check_delete_files(table, step)
    own = _changes_in_own_manifests(table, step.after)
    if not _is_complete(step.after, own):
        raise _ambiguous_rows_error(table, step)
    brought = {file.path for file in (*own.new, *own.moved)}
    then = [*(file for file in plan_files(table, step.after) if file.path not in brought), *own.gone]
    before = plan_files(table, step.before) if step.before is not None else ()
    came = subtract_files(_in_row_order(then), before)
    at_start = step.before is not None and step.start == _number(step.before)
    # The number of a file is 0, which is not known, where an expired version of format version 1 wrote it. Such a file
    # is new where `before` is the start and lacks it; its rows are compared with those that are gone, if there are any.
    # Once numbers are stored, it is older than all of them.
    unknown = {file.path for file in came if not file.sequence} if has_unstored_numbers(table) else frozenset()
    new = [file for file in came if file.sequence > step.start or (at_start and file.path in unknown)]
    found = FileChanges(
        new=_in_row_order(new),
        moved=_in_row_order(subtract_files(came, new)),
        gone=subtract_files(_in_row_order(before), then),
    )
    if (unknown and not at_start) or not _is_unambiguous(step, found, removed):
        raise _ambiguous_rows_error(table, step)
    return found


def _is_unambiguous(step: Step, found: FileChanges, removed: bool) -> bool:
    """Whether new rows are told from rows that were written again, also where the rows at ``start`` are not known."""
    if step.before is None:
        # There is nothing to compare with. Where rows from before are left, the new ones stand beside them.
        return removed or not found.new or bool(found.moved)
    at_start = step.start == _number(step.before)
    return at_start or not found.gone or not (removed or found.new)


def _changes_between(table: Table, before: Snapshot, after: Snapshot) -> FileChanges:
    """The difference of two snapshots; only manifests that one of them lacks are read.

    So it does not depend on what the writer says of the files that it left out.
    """
    older, newer = _data_manifests(table, before), _data_manifests(table, after)
    left_out = _in_row_order(_file_refs(table, (older[path] for path in older if path not in newer)))
    brought = _in_row_order(_file_refs(table, (newer[path] for path in newer if path not in older)))
    came = subtract_files(brought, left_out)
    return FileChanges(
        new=_in_row_order(file for file in came if file.sequence == _number(after)),
        moved=_in_row_order(file for file in came if file.sequence != _number(after)),
        gone=subtract_files(left_out, brought),
    )


def subtract_files(files: Iterable[DataFileRef], others: Iterable[DataFileRef]) -> Files:
    """The files that are not among the others. A table may name a file more than once: it counts each time."""
    times = Counter(file.path for file in others)
    left = []
    for file in files:
        if times[file.path]:
            times[file.path] -= 1
        else:
            left.append(file)
    return tuple(left)


def _changes_in_own_manifests(table: Table, snapshot: Snapshot) -> FileChanges:
    """What the manifests that the snapshot itself added say of it."""
    own = [m for m in _data_manifests(table, snapshot).values() if m.added_snapshot_id == snapshot.snapshot_id]
    new: list[DataFileRef] = []
    moved: list[DataFileRef] = []
    gone: list[DataFileRef] = []
    for manifest, entry in manifest_entries(table, own, removed=True):
        # Some writers leave the id of the older snapshot in the entries of files that they leave out.
        if entry.status == ManifestEntryStatus.DELETED:
            gone.append(file_ref(manifest, entry))
        elif entry.status == ManifestEntryStatus.ADDED and entry.snapshot_id == snapshot.snapshot_id:
            (new if entry.sequence_number == _number(snapshot) else moved).append(file_ref(manifest, entry))
    return FileChanges(_in_row_order(new), _in_row_order(moved), _in_row_order(gone))


def _is_complete(snapshot: Snapshot, own: FileChanges) -> bool:
    """Whether the manifests name every file that the snapshot left out: some writers drop such entries on merges."""
    if operation(snapshot) is Operation.APPEND:
        return True
    return len(own.gone) >= int(_summary_facts(snapshot).get(DELETED_DATA_FILES, 0))


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
    """Iceberg's name for what the snapshot did; one that does not say may have done anything."""
    return snapshot.summary.operation if snapshot.summary is not None else Operation.OVERWRITE


def delete_files_error(table: Table, snapshot: Snapshot) -> UnsupportedError:
    """The error for a version of which not only the files say which rows it has."""
    return UnsupportedError(
        f"version {_number(snapshot)} of {table.name()[-1]!r} deleted rows by delete files (another writer did); what "
        "changed across it cannot be told: start after it"
    )


def _ambiguous_rows_error(table: Table, step: Step) -> UnsupportedError:
    number = _number(step.after)
    return UnsupportedError(
        f"versions of {table.name()[-1]!r} between {step.start} and {number} have expired, and they wrote rows again "
        f"that were there before; which rows are new cannot be told. Start at version {number}: it has all rows that "
        "are left"
    )


def _in_row_order(files: Iterable[DataFileRef]) -> Files:
    return tuple(sorted(files, key=row_order))


def _summary_facts(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary is not None else {}


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0
