"""Which rows versions added and removed, told by files: the cost grows with what was changed, not with the table.

Iceberg keeps with every file the *data sequence number* of its rows. Our own edits keep it for rows that only moved
into another file, so of the files that an edit brings, those of its own number hold what is new, and the others what
was there before. Where another writer has rewritten files without keeping it, and where an overwrite may bring rows
that were there before, the rows of the files that came are compared with those of the files that went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog.files import DataFileRef, entries, plan, ref, row_order
from lakefeed.catalog.properties import ROWS_ADDED
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.versions import number, snapshots_between
from lakefeed.errors import UnsupportedError

ADDED_DELETE_FILES = "added-delete-files"


@dataclass(frozen=True)
class Delta:
    """The rows of ``files``, less those that the files of ``less`` hold too (each as often as it is there)."""

    files: tuple[DataFileRef, ...]
    less: tuple[DataFileRef, ...] = ()


@dataclass(frozen=True)
class SchemaChanges:
    """How the columns of two versions differ; a column is known by its field id, whatever it is called.

    ``added`` and ``dropped``: name -> type; ``renamed``: old -> new name; ``retyped``: new name -> (old, new type).
    """

    added: Mapping[str, pa.DataType] = field(default_factory=dict)
    dropped: Mapping[str, pa.DataType] = field(default_factory=dict)
    renamed: Mapping[str, str] = field(default_factory=dict)
    retyped: Mapping[str, tuple[pa.DataType, pa.DataType]] = field(default_factory=dict)

    def __bool__(self) -> bool:
        return bool(self.added or self.dropped or self.renamed or self.retyped)


def schema_changes(table: Table, older: int | None, newer: int) -> SchemaChanges:
    """How two schemas of the table differ; ``older=None`` has no columns."""
    before, after = _columns_by_id(table, older), _columns_by_id(table, newer)
    both = [(before[key], after[key]) for key in after if key in before]
    return SchemaChanges(
        added={column.name: column.type for key, column in after.items() if key not in before},
        dropped={column.name: column.type for key, column in before.items() if key not in after},
        renamed={old.name: new.name for old, new in both if old.name != new.name},
        retyped={new.name: (old.type, new.type) for old, new in both if old.type != new.type},
    )


def _columns_by_id(table: Table, schema_id: int | None) -> dict[int, pa.Field[Any]]:
    if schema_id is None:
        return {}
    declared = declared_schema(table, schema_id=schema_id)
    return {one.field_id: declared.field(one.name) for one in table.schemas()[schema_id].fields}


def added_rows(table: Table, from_version: int | None = None, to_version: int | None = None) -> tuple[Delta, ...]:
    """What the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

    Follows the ancestry of the current version. Rows that a version left untouched, or moved into other files, are not
    among what it added; nor are rows that a restore brings back, for the version that wrote them has added them. Where
    older versions have expired, the beginning is the oldest version that is kept, with all its rows.

    Raises:
        VersionNotFoundError: one of the two does not exist.
        UnsupportedError: another writer has rewritten rows by delete files in the range.
    """
    inside = snapshots_between(table, from_version, to_version)
    deltas: list[Delta] = []
    if from_version is None and inside:
        # Whether older ones have expired is not recorded; the first version ever holds only what it added itself.
        deltas.append(Delta(plan(table, inside[0])))
        inside = inside[1:]
    for run in _runs_of_appends(inside):
        deltas.append(_appended(table, run) if _operation(run[0]) is Operation.APPEND else _brought(table, run[0]))
    return tuple(delta for delta in deltas if delta.files)


def removed_rows(table: Table, from_version: int | None = None, to_version: int | None = None) -> tuple[Delta, ...]:
    """What the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

    Rows that an upsert replaced are among them as they were before.

    Raises:
        VersionNotFoundError, UnsupportedError: as for `added_rows`.
    """
    changing = (s for s in snapshots_between(table, from_version, to_version) if _operation(s) is not Operation.APPEND)
    deltas = (_taken(table, snapshot) for snapshot in changing)
    return tuple(delta for delta in deltas if delta.files)


def net_rows(table: Table, older: Snapshot | None, newer: Snapshot) -> tuple[Delta, Delta]:
    """The rows that the newer version has and the older has not, and the other way round; shared files are not read."""
    before, after = plan(table, older) if older is not None else (), plan(table, newer)
    paths_before, paths_after = {file.path for file in before}, {file.path for file in after}
    came = tuple(file for file in after if file.path not in paths_before)
    went = tuple(file for file in before if file.path not in paths_after)
    for file in (*before, *after):
        if file.has_deletes:
            raise _by_delete_files(table, newer)
    return Delta(came, went), Delta(went, came)


def _appended(table: Table, run: list[Snapshot]) -> Delta:
    """The files of a run of appends: its last manifest list names them all, for appends remove nothing."""
    ids = {snapshot.snapshot_id for snapshot in run}
    oldest = number(run[0])
    fresh = [
        manifest
        for manifest in run[-1].manifests(table.io)
        if manifest.content == ManifestContent.DATA
        # Manifests of format version 1 have no sequence number.
        and (manifest.added_snapshot_id in ids or manifest.sequence_number >= oldest)
    ]
    found = (ref(manifest, entry) for manifest, entry in entries(table, fresh) if entry.snapshot_id in ids)
    return Delta(tuple(sorted(found, key=row_order)))


def _brought(table: Table, snapshot: Snapshot) -> Delta:
    if _operation(snapshot) is not Operation.OVERWRITE:
        return Delta(())
    new, moved, gone = _exchanged(table, snapshot)
    if snapshot.summary is not None and ROWS_ADDED in snapshot.summary.additional_properties:
        return Delta(new)
    return Delta((*moved, *new), gone)


def _taken(table: Table, snapshot: Snapshot) -> Delta:
    if _operation(snapshot) is Operation.REPLACE:
        return Delta(())
    new, moved, gone = _exchanged(table, snapshot)
    return Delta(gone, (*moved, *new))


def _exchanged(
    table: Table, snapshot: Snapshot
) -> tuple[tuple[DataFileRef, ...], tuple[DataFileRef, ...], tuple[DataFileRef, ...]]:
    """The files that a version brought, of new rows and of rows that an older version wrote, and those it left out."""
    if snapshot.summary is not None and ADDED_DELETE_FILES in snapshot.summary.additional_properties:
        raise _by_delete_files(table, snapshot)
    own = [
        manifest
        for manifest in snapshot.manifests(table.io)
        if manifest.content == ManifestContent.DATA and manifest.added_snapshot_id == snapshot.snapshot_id
    ]
    new: list[DataFileRef] = []
    moved: list[DataFileRef] = []
    gone: list[DataFileRef] = []
    for manifest, entry in entries(table, own, removed=True):
        if entry.snapshot_id != snapshot.snapshot_id:
            continue
        if entry.status == ManifestEntryStatus.DELETED:
            gone.append(ref(manifest, entry))
        elif entry.status == ManifestEntryStatus.ADDED:
            (new if entry.sequence_number == number(snapshot) else moved).append(ref(manifest, entry))
    return _sorted(new), _sorted(moved), _sorted(gone)


def _sorted(files: Iterable[DataFileRef]) -> tuple[DataFileRef, ...]:
    return tuple(sorted(files, key=row_order))


def _runs_of_appends(snapshots: Iterable[Snapshot]) -> Iterator[list[Snapshot]]:
    """The snapshots in order, neighbouring appends together, every other one by itself."""
    run: list[Snapshot] = []
    for snapshot in snapshots:
        if _operation(snapshot) is Operation.APPEND:
            run.append(snapshot)
            continue
        if run:
            yield run
        yield [snapshot]
        run = []
    if run:
        yield run


def _operation(snapshot: Snapshot) -> Operation:
    return snapshot.summary.operation if snapshot.summary is not None else Operation.APPEND


def _by_delete_files(table: Table, snapshot: Snapshot) -> UnsupportedError:
    return UnsupportedError(
        f"version {number(snapshot)} of {table.name()[-1]!r} deleted rows by delete files (another writer did); what "
        "changed across it cannot be told: start after it"
    )
