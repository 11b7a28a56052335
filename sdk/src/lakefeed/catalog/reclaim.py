"""Deletion of the blob store objects of a save that ran out of space (docs/decisions/0011-garbage.md).

It is a garbage collection without grace period, restricted to the objects that the save itself has written.
"""

from __future__ import annotations

import logging
import os
import random
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from threading import Lock

import numpy as np

from lakefeed.catalog.detached_tables import mark_with_detached
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reachable import Marker
from lakefeed.catalog.same_lake import is_same_lake
from lakefeed.catalog.snapshot_builder import PreCommitCheck
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import StorageFullError, UnsupportedError, quoted_list
from lakefeed.storage.blobs.chunk_marker import ChunkMarker
from lakefeed.storage.blobs.collector import (
    StoredObject,
    announce_deletes,
    begin_collection,
    delete_objects,
    is_only_collector,
    still_unneeded,
    wait_for_writers,
)
from lakefeed.storage.blobs.leases import Heartbeat, other_lakes
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""The time that a failed save waits for other saves, which may rely on its objects, and for other collections."""
RETRY_SECONDS = 0.5

NO_DIGESTS = np.empty(0, "S32")


def _no_keys() -> Collection[str]:
    return ()


@dataclass
class _ActiveSaves:
    """The saves of this process that are active in one store.

    Attributes:
        count: the number of active saves.
        garbage: the keys that failed saves have left. The last save that ends deletes them.
        outcome_unknown: a commit of one of them may have succeeded.
    """

    count: int = 0
    garbage: set[str] = field(default_factory=set)
    outcome_unknown: bool = False


_lock = Lock()
_saves: defaultdict[str, _ActiveSaves] = defaultdict(_ActiveSaves)


@contextmanager
def reclaim_when_full(
    lake: Lake, new_objects: Callable[[], Collection[str]] = _no_keys, commit_check: PreCommitCheck | None = None
) -> Iterator[None]:
    """Deletes the objects of a save if the block raises StorageFullError. The block contains the lease of the save.

    If several saves of the process are active, the one that ends last deletes the objects of all. Objects that cannot
    be deleted now stay as garbage, and a note of the error says why.

    Args:
        lake: the lake.
        new_objects: returns the keys of the objects that the save has written.
        commit_check: tells whether the outcome of the commit is unknown; then nothing is deleted.
    """
    store = lake.blobs.url
    with _lock:
        _saves[store].count += 1
    failure: StorageFullError | None = None
    try:
        yield
    except StorageFullError as error:
        failure = error
        raise
    finally:
        outcome_unknown = commit_check is not None and commit_check.outcome_unknown
        garbage = _end_save(store, new_objects() if failure is not None else (), outcome_unknown)
        if garbage:
            _reclaim_or_note(lake, garbage, failure)


@contextmanager
def report_when_full(new_objects: Callable[[], Collection[str]]) -> Iterator[None]:
    """Adds the objects that a part of a save has written to ``remaining_objects`` of a StorageFullError."""
    try:
        yield
    except StorageFullError as error:
        error.remaining_objects = (*error.remaining_objects, *sorted(new_objects()))
        raise


def reclaim(
    lake: Lake, keys: Collection[str], patience: float = PATIENCE_SECONDS, at: StepHook = ignore_step
) -> frozenset[str]:
    """Deletes the objects of the blob store that no version refers to.

    The lease of the save that wrote them must have ended.

    Args:
        lake: the lake.
        keys: the keys of the objects that may be deleted.
        patience: the time to wait for other saves and collections, in seconds.
        at: is called with the name of each step at which other processes may interfere.

    Returns:
        The keys that were deleted.

    Raises:
        UnsupportedError: deletion is not safe now: another save or collection is active, another lake uses the store,
            or a dataset is damaged. The remaining objects stay.
        SharedWarehouseError, FileError: as for a garbage collection.
    """
    require_owner(lake.catalog)
    store, deadline = lake.blobs.backend, time.monotonic() + patience
    if others := other_lakes(store.objects, partial(is_same_lake, lake)):
        raise UnsupportedError(f"the blob store also belongs to {quoted_list(others)}")
    remaining, deleted = sorted(keys), set[str]()
    while remaining:
        sign = begin_collection(store)
        try:
            at("begun")
            if is_only_collector(store, sign):
                some = _list_pending_deletes(sign, list(_existing_objects(store, remaining)))
                at("doomed")
                if wait_for_writers(store, sign, max(deadline - time.monotonic(), 0), lambda: at("waiting")):
                    raise UnsupportedError("another save is active and may rely on them")
                at("waited")
                unused = _unreferenced_objects(lake, store, some)
                at("marked")
                deleted |= {each.info.key for each in delete_objects(store, sign, unused, at)}
                store.index.refresh()
                remaining = [key for key in remaining if some and key > some[-1].info.key]
                continue
        finally:
            sign.end()
        if time.monotonic() >= deadline:
            raise UnsupportedError("another garbage collection is active")
        time.sleep(random.uniform(0, RETRY_SECONDS))  # random, because two that check at once both step back
    return frozenset(deleted)


def _list_pending_deletes(sign: Heartbeat, objects: list[StoredObject]) -> list[StoredObject]:
    """Lists objects as pending deletes; returns as many of the first ones as fit on a disk that is almost full."""
    while True:
        try:
            announce_deletes(sign, objects)
        except StorageFullError:
            if len(objects) <= 1:
                raise
            objects = objects[: len(objects) // 2]
        else:
            return objects


def _end_save(store: str, new_objects: Collection[str], outcome_unknown: bool) -> set[str]:
    """Records that a save of this process has ended; returns the keys to delete now."""
    with _lock:
        saves = _saves[store]
        saves.count -= 1
        saves.garbage.update(new_objects)
        saves.outcome_unknown |= outcome_unknown
        if saves.count:
            return set()
        del _saves[store]
    if saves.outcome_unknown and saves.garbage:
        logger.warning(
            "keeping %d objects of %s: a commit that names them may have succeeded", len(saves.garbage), store
        )
    return set() if saves.outcome_unknown else saves.garbage


def _reclaim_or_note(lake: Lake, keys: Collection[str], failure: StorageFullError | None) -> None:
    try:
        deleted = reclaim(lake, keys, PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001 - any catalog's or store's: it must not hide the error of the save
        note = (
            f"up to {len(keys)} objects that this save has added to the blob store {lake.blobs.url!r} stay there as "
            f"garbage: {error}. Remove them with lakefeed.collect_garbage(dry_run=False, grace=datetime.timedelta(0))"
        )
        logger.warning("%s", note)
        if failure is not None:
            failure.remaining_objects = tuple(sorted(keys))
            failure.add_note(note)
    else:
        logger.info("a save ran out of space; deleted %d objects that it had written", len(deleted))


def _existing_objects(store: PackedBlobs, keys: Collection[str]) -> Iterator[StoredObject]:
    """Yields the objects that exist, in the order of the keys."""
    for key in keys:
        with suppress(FileNotFoundError, NotADirectoryError):
            info = store.objects.info(key)
            yield StoredObject(info, np.empty(0, np.int64), 0, info.size)


def _unreferenced_objects(lake: Lake, store: PackedBlobs, objects: Collection[StoredObject]) -> list[StoredObject]:
    _, reachable = mark_with_detached(lake, Marker(lake))
    if reachable.damaged:
        raise UnsupportedError(
            f"datasets are damaged ({quoted_list(sorted(reachable.damaged))}); which blobs they refer to is unknown"
        )
    return still_unneeded(store, objects, NO_DIGESTS, ChunkMarker(store).mark(reachable.digests))


def _after_fork() -> None:
    """Forgets the saves of the parent process."""
    global _lock
    _lock = Lock()
    _saves.clear()


os.register_at_fork(after_in_child=_after_fork)
