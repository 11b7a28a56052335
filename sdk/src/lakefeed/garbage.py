"""`collect_garbage`: removes files that deleted datasets and failed saves leave behind."""

from __future__ import annotations

import datetime as dt
import logging
import math
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from lakefeed._validate import check_flag
from lakefeed.catalog.detached_tables import mark_with_detached, path_in_warehouse
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reachable import Marker, Reachable
from lakefeed.catalog.same_lake import is_same_lake
from lakefeed.catalog.staged_files import remove_expired_marks
from lakefeed.catalog.table_locations import remove_outside
from lakefeed.catalog.table_references import is_below, lexical_path
from lakefeed.catalog.warehouse import warehouse_of
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import InvalidArgumentError, UnsupportedError, quoted_list
from lakefeed.storage.blobs.chunk_marker import ChunkMarker, Digests
from lakefeed.storage.blobs.collector import (
    Inventory,
    StoredObject,
    announce_deletes,
    begin_collection,
    delete_objects,
    is_only_collector,
    list_leftovers,
    still_unneeded,
    wait_for_writers,
)
from lakefeed.storage.blobs.leases import LEASES, Heartbeat, other_lakes, remove_expired
from lakefeed.storage.blobs.objects import ObjectInfo
from lakefeed.storage.blobs.packs import is_pack_key
from lakefeed.storage.blobs.repack import move_reachable
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step

logger = logging.getLogger(__name__)

GRACE = dt.timedelta(hours=24)
MIN_GRACE = dt.timedelta(hours=1)
"""Younger table files and half-written files are never removed: the lease of their writer may appear a minute late."""
PATIENCE = dt.timedelta(minutes=10)
MAX_LOCATIONS = 1_000


@dataclass(frozen=True)
class GarbageReport:
    """The files that a collection found and, unless it was a dry run, removed.

    Attributes:
        dry_run: nothing was removed.
        blobs: the number of contents that are stored as single files.
        packs: the number of packs of small contents.
        table_files: the number of data and metadata files that no version names.
        unfinished: the number of files that killed processes left half written.
        bytes: the bytes of all these files.
        locations: the URLs of the first thousand files.
        postponed: the reason for which some or all files were not removed. None if all were.
        sparse_packs: the number of packs of which less than half is in use. The used contents move to new packs.
        moved_bytes: the bytes that move to new packs.
        damaged: datasets whose metadata is lost or unreadable. No blob is removed, and nothing in their folders,
            because the files that they need are unknown.
        files_read: the number of data files that were read. Files of earlier collections are remembered.
    """

    dry_run: bool
    blobs: int = 0
    packs: int = 0
    table_files: int = 0
    unfinished: int = 0
    bytes: int = 0
    locations: tuple[str, ...] = field(default=(), repr=False)
    postponed: str | None = None
    files_read: int = 0
    sparse_packs: int = 0
    moved_bytes: int = 0
    damaged: tuple[str, ...] = ()


def collect_garbage(
    dry_run: bool = True, grace: dt.timedelta = GRACE, *, patience: dt.timedelta = PATIENCE
) -> GarbageReport:
    """Finds files that no version of any dataset needs, and removes them with ``dry_run=False``.

    It is safe while others read and write: see docs/storage.md. The blob store must belong to this lake alone.

    Args:
        dry_run: only report.
        grace: keep files that are younger than this.
        patience: how long to wait for saves that began before the collection. If they take longer, nothing is removed,
            and the report says so.

    Returns:
        The files that were found or removed.

    Raises:
        FileError: a table's file or the store cannot be reached. Nothing is removed.
        SharedWarehouseError: the warehouse belongs to another catalog. Nothing is removed.
        CatalogUnavailableError: the registry cannot be read. Nothing is removed.
        UnsupportedError: another lake saves into the same blob store.
        InvalidArgumentError: a time is negative or not a ``datetime.timedelta``.

    Example:
        >>> collect_garbage().bytes
        0
    """
    check_flag(dry_run, "dry_run")
    for value, name in ((grace, "grace"), (patience, "patience")):
        span: object = value
        if not isinstance(span, dt.timedelta) or span < dt.timedelta(0):
            raise InvalidArgumentError(f"{name} must be a datetime.timedelta that is not negative, got {value!r:.80}")
    return collect(Lake.current(), dry_run, grace, patience)


def collect(
    lake: Lake, dry_run: bool, grace: dt.timedelta, patience: dt.timedelta, at: StepHook = ignore_step
) -> GarbageReport:
    """Collects garbage as `collect_garbage` does. Calls ``at`` with the name of each step, for tests of races."""
    require_owner(lake.catalog)
    if others := other_lakes(lake.blobs.backend.objects, partial(is_same_lake, lake)):
        raise UnsupportedError(
            f"the blob store {lake.blobs.url!r} also belongs to {quoted_list(others)}, whose blobs cannot be told from "
            "garbage. Give each lake its own store. If the other lake no longer exists, remove its mark"
        )
    marker, store = Marker(lake), lake.blobs.backend
    if dry_run:
        candidates = _find_candidates(lake, marker, ChunkMarker(store), grace, time.time())
        return candidates.with_sparse().report(True, marker)
    sign = begin_collection(store)
    try:
        at("begun")
        if not is_only_collector(store, sign):
            return GarbageReport(False, postponed="another collection is running")
        return _collect_and_remove(lake, marker, grace, patience, sign, at)
    finally:
        sign.end()


@dataclass
class _Candidates:
    """Files that may be removed, and the files that were reachable when these were found."""

    lake: Lake
    reachable: Reachable
    digests: Digests
    """Those that are reachable, with those of their chunks."""
    objects: list[StoredObject]
    files: list[ObjectInfo]
    unfinished: list[ObjectInfo]
    sparse: list[StoredObject] = field(default_factory=list)

    def with_sparse(self) -> _Candidates:
        """Returns the candidates with the sparse packs, whose used contents have moved."""
        return replace(self, objects=[*self.objects, *self.sparse])

    def report(self, dry_run: bool, marker: Marker) -> GarbageReport:
        objects = [held.info for held in self.objects]
        everything = [*objects, *self.files, *self.unfinished]
        store = self.lake.blobs.backend.objects
        urls = [store.url(info.key) for info in (*objects, *self.unfinished)] + [info.key for info in self.files]
        return GarbageReport(
            dry_run,
            blobs=sum(not is_pack_key(info.key) for info in objects),
            packs=sum(is_pack_key(info.key) for info in objects),
            table_files=len(self.files),
            unfinished=len(self.unfinished),
            bytes=sum(info.size for info in everything),
            locations=tuple(urls[:MAX_LOCATIONS]),
            files_read=marker.files_read,
            sparse_packs=len(self.sparse),
            moved_bytes=sum(held.reachable_bytes for held in self.sparse),
            damaged=tuple(sorted(self.reachable.damaged)),
            postponed=_postponed(self.reachable),
        )


def _collect_and_remove(
    lake: Lake, marker: Marker, grace: dt.timedelta, patience: dt.timedelta, sign: Heartbeat, at: StepHook
) -> GarbageReport:
    store, since = lake.blobs.backend, sign.modified
    chunks = ChunkMarker(store)
    candidates = _find_candidates(lake, marker, chunks, grace, since)
    sparse, moved_bytes = candidates.sparse, 0
    if sparse:
        with lake.blobs.open_writer() as writer:
            moved_bytes = move_reachable(writer, store.objects, sparse, candidates.digests)
        at("moved")
        candidates = _find_candidates(lake, marker, chunks, grace, since)
    at("marked")
    announce_deletes(sign, candidates.objects)
    at("doomed")
    if savers := wait_for_writers(store, sign, patience.total_seconds(), lambda: at("waiting")):
        return GarbageReport(
            False, postponed=f"{savers} saves were still running after {patience}", files_read=marker.files_read
        )
    at("waited")
    now = marker.mark()
    at("marked again")
    objects = (
        [] if now.damaged else still_unneeded(store, candidates.objects, candidates.digests, chunks.mark(now.digests))
    )
    removed = replace(
        candidates,
        reachable=now,
        objects=delete_objects(store, sign, objects, at),
        files=_remove_table_files(lake, candidates.files, now, sign),
        unfinished=_remove_unfinished(lake, candidates.unfinished, sign),
    )
    store.index.refresh()
    remove_expired(store.objects, LEASES, sign.modified)
    remove_expired_marks(lake)
    went = {held.info.key for held in removed.objects} & {held.info.key for held in sparse}
    report = replace(removed.report(False, marker), sparse_packs=len(went), moved_bytes=moved_bytes)
    logger.info("collected %d bytes of garbage: %s", report.bytes, report)
    return report if sign.is_valid else replace(report, postponed="the collector lost contact with the store")


def _find_candidates(lake: Lake, marker: Marker, chunks: ChunkMarker, grace: dt.timedelta, since: float) -> _Candidates:
    """Returns the files that may be removed. Ages count from ``since``, on the clock of the store."""
    files, reachable = mark_with_detached(lake, marker)
    store, least = lake.blobs.backend, max(grace, MIN_GRACE)
    inventory = Inventory.of(store, chunks, reachable.digests)

    def young(info: ObjectInfo) -> bool:
        return bool(reachable.damaged) or since - info.modified < grace.total_seconds()

    return _Candidates(
        lake,
        reachable,
        inventory.reachable,
        inventory.find_unneeded(young),
        _orphans(lake, reachable, files, since - least.total_seconds()),
        list(list_leftovers(store, lambda info: info.modified <= since - least.total_seconds())),
        inventory.find_sparse(young),
    )


def _postponed(reachable: Reachable) -> str | None:
    """Returns the reason for which not all garbage may be removed; None if all may."""
    if not reachable.damaged:
        return None
    return (
        f"datasets are damaged ({quoted_list(sorted(reachable.damaged))}), so blobs and their folders stay; restore "
        "them or remove them with Dataset.delete(force=True), those of the trash with Dataset.empty_trash()"
    )


def _orphans(lake: Lake, reachable: Reachable, files: list[ObjectInfo], before: float) -> list[ObjectInfo]:
    named, io = (
        {path_in_warehouse(path) for path in reachable.files},
        open_io(lake.catalog.properties, {}, lake.warehouse),
    )
    protected = [lexical_path(io, folder) for folder in reachable.protected]
    return [
        info
        for info in files
        if info.modified <= before
        and path_in_warehouse(info.key) not in named
        and not is_below(lexical_path(io, info.key), protected)
    ]


def _remove_table_files(lake: Lake, files: list[ObjectInfo], now: Reachable, sign: Heartbeat) -> list[ObjectInfo]:
    """Removes files of tables and returns those removed."""
    warehouse, removed = warehouse_of(lake), []
    for info in _orphans(lake, now, files, math.inf):
        if not sign.is_valid:
            break
        if not remove_outside(lake, info.key):
            warehouse.remove(info.key.removeprefix(f"{lake.settings.warehouse.rstrip('/')}/"))
        _remove_empty_folders(local_path(info.key))
        removed.append(info)
    return removed


def _remove_empty_folders(path: Path | None) -> None:
    """Removes the folders of a removed file that are empty, up to that of the table."""
    for folder in list(path.parents)[:2] if path is not None else ():
        try:
            folder.rmdir()
        except OSError:  # it is not empty, or gone already
            return


def _remove_unfinished(lake: Lake, files: list[ObjectInfo], sign: Heartbeat) -> list[ObjectInfo]:
    """Removes files that killed processes left half written, and returns those removed."""
    removed = []
    for info in files:
        if sign.is_valid:
            lake.blobs.backend.objects.delete(info.key)
            removed.append(info)
    return removed
