"""The ancestry of a snapshot, across expired snapshots.

A snapshot names its parent. If the parent has expired, older snapshots may still exist. Which of them are ancestors is
in the summary of a snapshot that lakefeed has committed. For other writers, a snapshot counts as an
ancestor if the files of the snapshot prove it, or if the metadata file of its commit says so. If that file is missing,
it counts if it was the current snapshot before, by the snapshot log, and no file contradicts that. Snapshots that were
rolled back, and those of unpublished branches, are not ancestors.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from cachetools import LRUCache
from pyiceberg.avro.file import AvroFile
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.metadata_files import recorded_ancestor
from lakefeed.catalog.properties import SIDE_SNAPSHOTS
from lakefeed.catalog.version_files import manifest_entries
from lakefeed.catalog.version_numbers import NumberedTable, is_column_snapshot

ORIGIN_CACHE_SIZE = 8
PARENT_HEADER = "parent-snapshot-id"
MAX_SIDE_SNAPSHOTS = 50
"""With more of them, a version does not record which snapshots are not its ancestors."""


def ancestry(table: Table, head: Snapshot | None = None) -> list[Snapshot]:
    """Returns a snapshot (None: the current one) and its ancestors that have not expired, newest first."""
    by_id = {each.snapshot_id: each for each in table.metadata.snapshots if not is_column_snapshot(each)}
    snapshot = head if head is not None else table.metadata.current_snapshot()
    lineage: list[Snapshot] = []
    while snapshot is not None:
        lineage.append(snapshot)
        snapshot = _parent(snapshot, by_id) or _ancestor_over_gap(table, snapshot, by_id)
    return lineage


def side_entry(table: Table) -> dict[str, str]:
    """Returns the summary entry of the next snapshot that names the snapshots that are not its ancestors.

    Snapshots without this entry: those of column files, and all if there are more than `MAX_SIDE_SNAPSHOTS` others.
    """
    ancestors = {each.snapshot_id for each in ancestry(table)}
    versions = (each for each in table.metadata.snapshots if not is_column_snapshot(each))
    others = sorted(each.snapshot_id for each in versions if each.snapshot_id not in ancestors)
    return {SIDE_SNAPSHOTS: ",".join(map(str, others))} if len(others) <= MAX_SIDE_SNAPSHOTS else {}


def _side_snapshots(snapshot: Snapshot) -> frozenset[int] | None:
    """Returns the ids in the entry of `side_entry`; None without it."""
    entry = None if snapshot.summary is None else snapshot.summary.additional_properties.get(SIDE_SNAPSHOTS)
    return None if entry is None else frozenset(int(each) for each in entry.split(",") if each)


def is_child(snapshot: Snapshot, parent: Snapshot) -> bool:
    """Returns whether ``parent`` is the parent of the snapshot."""
    return snapshot.parent_snapshot_id == parent.snapshot_id


def _parent(snapshot: Snapshot, by_id: Mapping[int, Snapshot]) -> Snapshot | None:
    parent = snapshot.parent_snapshot_id
    return by_id.get(parent) if parent is not None else None


def _segment(snapshot: Snapshot, by_id: Mapping[int, Snapshot]) -> list[Snapshot]:
    """Returns the snapshot and its ancestors down to the first whose parent has expired, newest first."""
    segment: list[Snapshot] = []
    ancestor: Snapshot | None = snapshot
    while ancestor is not None:
        segment.append(ancestor)
        ancestor = _parent(ancestor, by_id)
    return segment


def _ancestor_over_gap(table: Table, child: Snapshot, by_id: Mapping[int, Snapshot]) -> Snapshot | None:
    """Returns the newest ancestor of a snapshot whose parent has expired; None if there is none."""
    older = sorted((each for each in by_id.values() if _number(each) < _number(child)), key=_number, reverse=True)
    sides = _side_snapshots(child)
    if sides is not None:
        # Numbers ascend with each commit, so all older snapshots existed at the commit of the child.
        return next((each for each in older if each.snapshot_id not in sides), None)
    origin = _origin(table, child) if older else None
    if origin is not None and not origin.has_parent:
        return None
    if not older or (origin is not None and older[0].snapshot_id in origin.adders):
        return older[0] if older else None
    is_recorded, recorded = recorded_ancestor(table, child, functools.partial(_has_parent, table))
    if is_recorded:
        return recorded
    logged = _logged_before(table, child, by_id)
    for each in older:
        if origin is not None and each.snapshot_id in origin.adders:
            return each
        if each.snapshot_id in logged and not (origin and _contradicts_ancestor(table, origin, each, by_id)):
            return each
    return None


def _contradicts_ancestor(table: Table, origin: _Origin, older: Snapshot, by_id: Mapping[int, Snapshot]) -> bool:
    """Returns whether the files of a snapshot prove that ``older`` is not an ancestor.

    The log does not tell of a rollback to a snapshot that has expired since.
    """
    older_origin = _origin(table, older)
    if older_origin is None:
        return False
    # A file that was added by then and still exists must be among the files of every version in between.
    if any(0 < added <= _number(older) and path not in older_origin.files for path, added in origin.before.items()):
        return True
    # All files that the versions since the last gap added are gone, but files from before the gap remain.
    segment = _segment(older, by_id)
    if any(each.snapshot_id in origin.adders for each in segment):
        return False
    survives = any(0 < added < _number(segment[-1]) for added in origin.before.values())
    return survives and any(_adds_files(table, each) for each in segment)


def _logged_before(table: Table, child: Snapshot, by_id: Mapping[int, Snapshot]) -> frozenset[int]:
    """Returns the ids of the versions before ``child``, by the snapshot log.

    Returns none if it was committed to a branch. Then the log entries before it are not its ancestors.
    """
    before: dict[int, int | None] = {}  # for each version the previous one, also across gaps
    head: int | None = None
    for entry in table.metadata.snapshot_log:
        snapshot = by_id.get(entry.snapshot_id)
        if snapshot is None:
            continue
        is_commit = entry.timestamp_ms == snapshot.timestamp_ms
        if snapshot.snapshot_id == child.snapshot_id:
            return frozenset(_follow_parents(head, before) if is_commit else ())
        while snapshot.snapshot_id not in before:
            parent = _parent(snapshot, by_id)
            if parent is None:
                line = _follow_parents(head, before) if is_commit else ()
                older = (each for each in line if _number(by_id[each]) < _number(snapshot))
                before[snapshot.snapshot_id] = next(older, None)
                break
            before[snapshot.snapshot_id] = parent.snapshot_id
            snapshot = parent
        head = entry.snapshot_id
    return frozenset()


def _follow_parents(head: int | None, before: Mapping[int, int | None]) -> Iterator[int]:
    while head is not None:
        yield head
        head = before[head]


@dataclass(frozen=True)
class _Origin:
    """The origin of the rows of a snapshot.

    Attributes:
        has_parent: the snapshot had a parent when it was committed.
        adders: the ids of the snapshots that added its manifests and files, and the files that it removed.
        files: the paths of its files.
        before: the number of the version that added each file of it or of its parent, by path (0: unknown).
    """

    has_parent: bool
    adders: frozenset[int]
    files: frozenset[str]
    before: Mapping[str, int]


def _origin(table: Table, snapshot: Snapshot) -> _Origin | None:
    """Returns the origin of a snapshot; None if its manifests cannot be read any more."""
    key = table.metadata.table_uuid, snapshot.snapshot_id
    with _lock:
        origin = _origins.get(key)
    if origin is None:
        try:
            origin = _read_origin(table, snapshot)
        except OSError:
            return None
        with _lock:
            _origins[key] = origin
    return origin


def _read_origin(table: Table, snapshot: Snapshot) -> _Origin:
    everything = snapshot.manifests(table.io)
    manifests = [each for each in everything if each.content == ManifestContent.DATA]
    adders = {each.added_snapshot_id for each in everything}
    by_number = {each.sequence_number: each.snapshot_id for each in table.metadata.snapshots if each.sequence_number}
    files: set[str] = set()
    before: dict[str, int] = {}
    for manifest, entry in manifest_entries(table, manifests, removed=True):
        path = entry.data_file.file_path
        if entry.status != ManifestEntryStatus.DELETED:
            adders.add(entry.snapshot_id)
            files.add(path)
        elif manifest.added_snapshot_id != snapshot.snapshot_id:
            continue
        before[path] = entry.file_sequence_number or 0
        # Also of a file that the snapshot has removed: its parent had it.
        adders.add(by_number.get(_version_of_number(table, before[path])))
    known = frozenset(each for each in adders if each is not None)
    return _Origin(_has_parent(table, snapshot), known, frozenset(files), before)


def _version_of_number(table: Table, sequence_number: int) -> int:
    """Returns the number of the version that has a sequence number of Iceberg; 0 if it is unknown."""
    return table.number_of(sequence_number, None) if isinstance(table, NumberedTable) else sequence_number


def _adds_files(table: Table, snapshot: Snapshot) -> bool:
    manifests = (each for each in snapshot.manifests(table.io) if each.added_snapshot_id == snapshot.snapshot_id)
    return any(each.content == ManifestContent.DATA and each.has_added_files() for each in manifests)


def _has_parent(table: Table, snapshot: Snapshot) -> bool:
    """Returns whether the snapshot had a parent when it was committed. Metadata forgets expired parents."""
    if snapshot.parent_snapshot_id is not None:
        return True
    # AvroFile is generic over records; only the header is read here.
    file: AvroFile[object] = AvroFile(table.io.new_input(snapshot.manifest_list))  # type: ignore[type-var]
    try:
        with file as opened:
            return opened.header.meta.get(PARENT_HEADER) != "null"
    except OSError:
        return True


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


_origins: LRUCache[tuple[UUID, int], _Origin] = LRUCache(ORIGIN_CACHE_SIZE)
"""The origins that were read last. A snapshot never changes."""
_lock = threading.Lock()
