"""Which snapshots come before one, also where snapshots in between have expired.

A snapshot names its parent. Where the parent was removed from the metadata, older snapshots may still be kept. One of
them counts as an ancestor if the files of the snapshot prove it, or if the metadata file of its commit says so. Where
that file is gone, it counts if it was the current one before, by the snapshot log, and no file speaks against it.
Snapshots that were rolled back, and those of branches that were never published, are no ancestors.
"""

from __future__ import annotations

import functools
import threading
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from uuid import UUID

from pyiceberg.avro.file import AvroFile
from pyiceberg.manifest import ManifestContent, ManifestEntryStatus
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.metadata_files import recorded_ancestor
from lakefeed.catalog.version_files import manifest_entries

ORIGINS_KEPT = 8
PARENT_HEADER = "parent-snapshot-id"


def ancestry(table: Table, head: Snapshot | None = None) -> list[Snapshot]:
    """The snapshot ``head`` (None: the current one) and its ancestors as far as they are kept, newest first."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in table.metadata.snapshots}
    snapshot = head if head is not None else table.metadata.current_snapshot()
    lineage: list[Snapshot] = []
    while snapshot is not None:
        lineage.append(snapshot)
        snapshot = _parent(snapshot, by_id) or _ancestor_over_gap(table, snapshot, by_id)
    return lineage


def is_child(snapshot: Snapshot, before: Snapshot) -> bool:
    """Whether no snapshot was committed between the two."""
    return snapshot.parent_snapshot_id == before.snapshot_id


def _parent(snapshot: Snapshot, by_id: Mapping[int, Snapshot]) -> Snapshot | None:
    parent = snapshot.parent_snapshot_id
    return by_id.get(parent) if parent is not None else None


def _segment(snapshot: Snapshot, by_id: Mapping[int, Snapshot]) -> list[Snapshot]:
    """The snapshot and its ancestors down to the first whose parent is not kept, newest first."""
    found: list[Snapshot] = []
    at: Snapshot | None = snapshot
    while at is not None:
        found.append(at)
        at = _parent(at, by_id)
    return found


def _ancestor_over_gap(table: Table, child: Snapshot, by_id: Mapping[int, Snapshot]) -> Snapshot | None:
    """The newest kept ancestor of a snapshot whose parent is not kept; None where there is none."""
    older = sorted((each for each in by_id.values() if _number(each) < _number(child)), key=_number, reverse=True)
    origin = _origin(table, child) if older else None
    if origin is not None and not origin.has_parent:
        return None
    if not older or (origin is not None and older[0].snapshot_id in origin.adders):
        return older[0] if older else None
    told, recorded = recorded_ancestor(table, child, functools.partial(_has_parent, table))
    if told:
        return recorded
    logged = _logged_before(table, child, by_id)
    for each in older:
        if origin is not None and each.snapshot_id in origin.adders:
            return each
        if each.snapshot_id in logged and not (origin and _contradicts_ancestor(table, origin, each, by_id)):
            return each
    return None


def _contradicts_ancestor(table: Table, origin: _Origin, older: Snapshot, by_id: Mapping[int, Snapshot]) -> bool:
    """Whether the files of a snapshot say that ``older`` is not among its ancestors, whatever the log says.

    The log says nothing of a rollback to a snapshot that has expired since.
    """
    then = _origin(table, older)
    if then is None:
        return False
    # A file that was there by then, and still is, must be among the files of every version in between.
    if any(0 < added <= _number(older) and path not in then.files for path, added in origin.before.items()):
        return True
    # What the versions since the last gap added is gone to the last file, but what there was before is not.
    segment = _segment(older, by_id)
    if any(each.snapshot_id in origin.adders for each in segment):
        return False
    survives = any(0 < added < _number(segment[-1]) for added in origin.before.values())
    return survives and any(_adds_files(table, each) for each in segment)


def _logged_before(table: Table, child: Snapshot, by_id: Mapping[int, Snapshot]) -> frozenset[int]:
    """The ids of the versions that there were right before ``child`` was committed, as the snapshot log says.

    None where it was committed to a branch: then its parents are not those that the log names before it.
    """
    before: dict[int, int | None] = {}  # for each version the one before it, also over gaps
    head: int | None = None
    for entry in table.metadata.snapshot_log:
        at = by_id.get(entry.snapshot_id)
        if at is None:
            continue
        is_commit = entry.timestamp_ms == at.timestamp_ms
        if at.snapshot_id == child.snapshot_id:
            return frozenset(_follow_parents(head, before) if is_commit else ())
        while at.snapshot_id not in before:
            parent = _parent(at, by_id)
            if parent is None:
                line = _follow_parents(head, before) if is_commit else ()
                older = (each for each in line if _number(by_id[each]) < _number(at))
                before[at.snapshot_id] = next(older, None)
                break
            before[at.snapshot_id] = parent.snapshot_id
            at = parent
        head = entry.snapshot_id
    return frozenset()


def _follow_parents(head: int | None, before: Mapping[int, int | None]) -> Iterator[int]:
    while head is not None:
        yield head
        head = before[head]


@dataclass(frozen=True)
class _Origin:
    """Where the rows of a snapshot come from.

    ``adders`` are the snapshots that added its manifests and files; ``files`` are its files. ``before`` maps them, and
    those that it left out, to the number of the version that added each (0: not known).
    """

    has_parent: bool
    adders: frozenset[int]
    files: frozenset[str]
    before: Mapping[str, int]


def _origin(table: Table, snapshot: Snapshot) -> _Origin | None:
    """The origin of a snapshot; None where its manifests cannot be read any more."""
    key = table.metadata.table_uuid, snapshot.snapshot_id
    found = _origins.get(key)
    if found is None:
        try:
            found = _read_origin(table, snapshot)
        except OSError:
            return None
        _origins.put(key, found)
    return found


def _read_origin(table: Table, snapshot: Snapshot) -> _Origin:
    manifests = [each for each in snapshot.manifests(table.io) if each.content == ManifestContent.DATA]
    adders = {each.added_snapshot_id for each in manifests}
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
    known = frozenset(each for each in adders if each is not None)
    return _Origin(_has_parent(table, snapshot), known, frozenset(files), before)


def _adds_files(table: Table, snapshot: Snapshot) -> bool:
    manifests = (each for each in snapshot.manifests(table.io) if each.added_snapshot_id == snapshot.snapshot_id)
    return any(each.content == ManifestContent.DATA and each.has_added_files() for each in manifests)


def _has_parent(table: Table, snapshot: Snapshot) -> bool:
    """Whether the snapshot had a parent when it was committed: the metadata forgets parents that have expired."""
    if snapshot.parent_snapshot_id is not None:
        return True
    # AvroFile is generic over records, and only the header is read here.
    file: AvroFile[object] = AvroFile(table.io.new_input(snapshot.manifest_list))  # type: ignore[type-var]
    try:
        with file as opened:
            return opened.header.meta.get(PARENT_HEADER) != "null"
    except OSError:
        return True


def _number(snapshot: Snapshot) -> int:
    return snapshot.sequence_number or 0


class _Origins:
    """The origins that were looked at last, by table and snapshot; safe between threads. A snapshot never changes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._origins: OrderedDict[tuple[UUID, int], _Origin] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: tuple[UUID, int]) -> _Origin | None:
        with self._lock:
            return self._origins.get(key)

    def put(self, key: tuple[UUID, int], origin: _Origin) -> None:
        with self._lock:
            self._origins[key] = origin
            while len(self._origins) > self._most:
                self._origins.popitem(last=False)


_origins = _Origins(ORIGINS_KEPT)
