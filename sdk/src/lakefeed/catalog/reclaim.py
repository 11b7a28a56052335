"""Deletes at once what a save that ran out of space has added to the blob store; docs/decisions/0011-garbage.md.

It is a collection of garbage restricted to the objects that the save itself has written, with no grace.
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

from lakefeed.catalog.detached import mark_with_detached
from lakefeed.catalog.guard import PreCommitCheck
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reachable import Marker
from lakefeed.catalog.same_lake import is_same_lake
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import StorageFullError, UnsupportedError, quoted_list
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
from lakefeed.storage.blobs.steps import StepHook, ignore_step

logger = logging.getLogger(__name__)

PATIENCE_SECONDS = 10.0
"""How long a failed save waits for other saves, which may rely on its objects, and for other collectors."""
RETRY_SECONDS = 0.5

NO_DIGESTS = np.empty(0, "S32")


def _no_keys() -> Collection[str]:
    return ()


@dataclass
class _ActiveSaves:
    """The saves of this process that are at work in one store.

    Attributes:
        garbage: the keys that failed ones have left, to be deleted by the last that ends.
        in_doubt: of some commit it is not known whether it landed.
    """

    at_work: int = 0
    garbage: set[str] = field(default_factory=set)
    in_doubt: bool = False


_lock = Lock()
_saves: defaultdict[str, _ActiveSaves] = defaultdict(_ActiveSaves)


@contextmanager
def reclaim_when_full(
    lake: Lake, new_objects: Callable[[], Collection[str]] = _no_keys, guard: PreCommitCheck | None = None
) -> Iterator[None]:
    """Surrounds the lease of a save. Where the block raises StorageFullError, the objects that it wrote are deleted.

    A save inside another one, or beside one of another thread, leaves that to the one that ends last. Objects that
    cannot be deleted now stay as garbage, and a note of the error says why.
    """
    store = lake.blobs.url
    with _lock:
        _saves[store].at_work += 1
    failure: StorageFullError | None = None
    try:
        yield
    except StorageFullError as error:
        failure = error
        raise
    finally:
        left = _end_save(store, new_objects() if failure is not None else (), guard is not None and guard.in_doubt)
        if left:
            _reclaim_or_note(lake, left, failure)


@contextmanager
def report_when_full(new_objects: Callable[[], Collection[str]]) -> Iterator[None]:
    """As `reclaim_when_full`, for a part of a save: ``remaining_objects`` of the error tell the save what to delete."""
    try:
        yield
    except StorageFullError as error:
        error.remaining_objects = (*error.remaining_objects, *sorted(new_objects()))
        raise


def reclaim(
    lake: Lake, keys: Collection[str], patience: float = PATIENCE_SECONDS, at: StepHook = ignore_step
) -> frozenset[str]:
    """Deletes those of the objects ``keys`` of the blob store that hold nothing which any version names.

    To be called once the lease of the save that wrote them has ended. ``patience`` is in seconds; ``at`` is called
    with the name of each point at which others may come in between. Returns the keys that were deleted.

    Raises:
        UnsupportedError: it cannot be done safely now: others are at work, or use the store too, or a dataset is
            damaged. The others stay.
        SharedWarehouseError, FileError: as of a collection of garbage.
    """
    require_owner(lake.catalog)
    store, ends = lake.blobs.backend, time.monotonic() + patience
    if others := other_lakes(store.objects, partial(is_same_lake, lake)):
        raise UnsupportedError(f"the blob store also belongs to {quoted_list(others)}")
    left, gone = sorted(keys), set[str]()
    while left:
        sign = begin_collection(store)
        try:
            at("begun")
            if is_only_collector(store, sign):
                some = _list_pending_deletes(sign, list(_existing_objects(store, left)))
                at("doomed")
                if wait_for_writers(store, sign, max(ends - time.monotonic(), 0), lambda: at("waiting")):
                    raise UnsupportedError("another save is at work, which may rely on them")
                at("waited")
                unused = _unreferenced_objects(lake, store, some)
                at("marked")
                gone |= {held.info.key for held in delete_objects(store, sign, unused, at)}
                store.index.refresh()
                left = [key for key in left if some and key > some[-1].info.key]
                continue
        finally:
            sign.end()
        if time.monotonic() >= ends:
            raise UnsupportedError("a collection of garbage is at work")
        time.sleep(random.uniform(0, RETRY_SECONDS))  # two that look at once both give up
    return frozenset(gone)


def _list_pending_deletes(sign: Heartbeat, objects: list[StoredObject]) -> list[StoredObject]:
    """The first of the objects, as many as a disk that is almost full has room to list."""
    while True:
        try:
            announce_deletes(sign, objects)
        except StorageFullError:
            if len(objects) <= 1:
                raise
            objects = objects[: len(objects) // 2]
        else:
            return objects


def _end_save(store: str, new_objects: Collection[str], in_doubt: bool) -> set[str]:
    """Notes that a save of this process has ended; the keys to delete now."""
    with _lock:
        saves = _saves[store]
        saves.at_work -= 1
        saves.garbage.update(new_objects)
        saves.in_doubt |= in_doubt
        if saves.at_work:
            return set()
        del _saves[store]
    if saves.in_doubt and saves.garbage:
        logger.warning("%d objects of %s stay: a commit that names them may have landed", len(saves.garbage), store)
    return set() if saves.in_doubt else saves.garbage


def _reclaim_or_note(lake: Lake, keys: Collection[str], failure: StorageFullError | None) -> None:
    try:
        gone = reclaim(lake, keys, PATIENCE_SECONDS)
    except Exception as error:  # noqa: BLE001 - any catalog's or store's: it must not hide the error of the save
        note = (
            f"up to {len(keys)} objects that this save has added to the blob store {lake.blobs.url!r} stay there as "
            f"garbage: {error}. lakefeed.collect_garbage(dry_run=False, grace=datetime.timedelta(0)) removes them"
        )
        logger.warning("%s", note)
        if failure is not None:
            failure.remaining_objects = tuple(sorted(keys))
            failure.add_note(note)
    else:
        logger.info("a save ran out of space; %d objects that it had written were deleted", len(gone))


def _existing_objects(store: PackedBlobs, keys: Collection[str]) -> Iterator[StoredObject]:
    """Those that are there, in the order of their keys."""
    for key in keys:
        with suppress(FileNotFoundError, NotADirectoryError):
            info = store.objects.info(key)
            yield StoredObject(info, np.empty(0, np.int64), 0, info.size)


def _unreferenced_objects(lake: Lake, store: PackedBlobs, objects: Collection[StoredObject]) -> list[StoredObject]:
    _, live = mark_with_detached(lake, Marker(lake))
    if live.damaged:
        raise UnsupportedError(
            f"datasets are damaged ({quoted_list(sorted(live.damaged))}): what they name is not known"
        )
    return still_unneeded(store, objects, NO_DIGESTS, live.digests)


def _after_fork() -> None:
    """The saves of the parent are none of the child's."""
    global _lock
    _lock = Lock()
    _saves.clear()


os.register_at_fork(after_in_child=_after_fork)
