"""Which objects of a store nobody needs, and the protocol by which they are deleted; docs/decisions/0011-garbage.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lakefeed.storage.blobs.leases import (
    LEASES,
    PENDING_DELETES,
    Heartbeat,
    begin_pending_deletes,
    list_active,
    remove_expired,
)
from lakefeed.storage.blobs.objects import BLOBS, ObjectInfo, digest_of
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.packs import FOLDER, is_pack_key, read_index

Digests = NDArray[np.bytes_]
Positions = NDArray[np.int64]

POLL_SECONDS = 0.5
SPARSE_SHARE = 0.5


@dataclass(frozen=True)
class StoredObject:
    """An object that holds contents: which of the reachable ones (places in their array), the bytes of these, and of all."""

    info: ObjectInfo
    reachable: Positions
    reachable_bytes: int
    total_bytes: int


@dataclass
class Inventory:
    """What a store holds, seen against the digests that are reachable (sorted, distinct)."""

    reachable: Digests
    stored: list[StoredObject] = field(default_factory=list)

    @classmethod
    def of(cls, store: PackedBlobs, reachable: Digests) -> Inventory:
        """Everything that is in the store now."""
        inventory = cls(reachable)
        for info in store.objects.list(FOLDER):
            if is_pack_key(info.key):
                inventory._add_pack(store, info)
        for info in store.objects.list(BLOBS):
            inventory._add_blob(info)
        return inventory

    def find_unneeded(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Objects that can all go: every reachable content that one of them holds is also in an object that stays."""
        covered = np.zeros(len(self.reachable), bool)
        # What holds most is kept first, so that of several objects with the same contents the fuller ones stay.
        ranked = sorted(
            self.stored, key=lambda stored: (not young(stored.info), -len(stored.reachable), stored.info.key)
        )
        found = []
        for stored in ranked:
            if young(stored.info) or not covered[stored.reachable].all():
                covered[stored.reachable] = True
            else:
                found.append(stored)
        return found

    def find_sparse(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Packs that cannot go for the sake of less than half of what they hold."""
        unneeded = {stored.info.key for stored in self.find_unneeded(young)}
        stay = [stored for stored in self.stored if stored.info.key not in unneeded and not young(stored.info)]
        return [
            stored
            for stored in stay
            if is_pack_key(stored.info.key) and stored.reachable_bytes < SPARSE_SHARE * stored.total_bytes
        ]

    def _add_pack(self, store: PackedBlobs, info: ObjectInfo) -> None:
        index = read_index(store.objects, info)
        reachable, found = find_positions(self.reachable, index["sha256"])
        sizes = index["length"]
        self.stored.append(StoredObject(info, reachable, int(sizes[found].sum()), int(sizes.sum())))

    def _add_blob(self, info: ObjectInfo) -> None:
        try:
            digest = bytes.fromhex(digest_of(info.key))
        except ValueError:
            return  # no blob of ours
        reachable, _ = find_positions(self.reachable, np.array([digest], "S32"))
        self.stored.append(StoredObject(info, reachable, info.size if len(reachable) else 0, info.size))


def still_unneeded(
    store: PackedBlobs, pending: Collection[StoredObject], before: Digests, now: Digests
) -> list[StoredObject]:
    """Those of the pending objects that can still go, given what has become reachable since they were chosen."""
    fresh = np.setdiff1d(now, before, assume_unique=True)
    if not len(fresh):
        return list(pending)
    return [stored for stored in pending if not _holds_any(store, stored.info, fresh)]


def is_only_collector(store: PackedBlobs, heartbeat: Heartbeat) -> bool:
    """Whether no other collector is at work. Each says that it is there before it looks, so two never both think so."""
    since = heartbeat.modified
    others = [sign for sign in list_active(store.objects, PENDING_DELETES, since) if sign.key != heartbeat.key]
    if not others:
        remove_expired(store.objects, PENDING_DELETES, since)
    return not others


def wait_for_writers(store: PackedBlobs, heartbeat: Heartbeat, patience: float, look: Callable[[], object]) -> int:
    """How many savers that may not have seen the doom list are still at work after so many seconds.

    Those that come later have seen it.
    """
    waiting = {lease.key for lease in list_active(store.objects, LEASES, heartbeat.modified)}
    ends = time.monotonic() + patience
    while waiting:
        look()
        waiting &= {lease.key for lease in list_active(store.objects, LEASES, heartbeat.modified)}
        if not waiting or time.monotonic() >= ends:
            break
        time.sleep(min(POLL_SECONDS, max(ends - time.monotonic(), 0)))
    return len(waiting)


def delete_objects(
    store: PackedBlobs, heartbeat: Heartbeat, pending: Collection[StoredObject], deleting: Callable[[str], object]
) -> list[StoredObject]:
    """Deletes objects for as long as nobody can take this collector for dead; those that are gone now."""
    gone = []
    for stored in pending:
        deleting(stored.info.key)
        if not heartbeat.is_valid:
            break
        store.objects.delete(stored.info.key)
        gone.append(stored)
    return gone


def find_positions(reachable: Digests, digests: Digests) -> tuple[Positions, NDArray[np.bool_]]:
    """Where in ``reachable`` the digests are that are there, and which these are."""
    if not len(reachable):
        return np.empty(0, np.int64), np.zeros(len(digests), bool)
    where = np.searchsorted(reachable, digests)
    where[where == len(reachable)] = 0
    found = reachable[where] == digests
    return where[found], found


def _holds_any(store: PackedBlobs, info: ObjectInfo, digests: Digests) -> bool:
    if not is_pack_key(info.key):
        return bool(np.isin(np.array([bytes.fromhex(digest_of(info.key))], "S32"), digests).any())
    return bool(np.isin(read_index(store.objects, info)["sha256"], digests).any())


def announce_deletes(heartbeat: Heartbeat, pending: Collection[StoredObject]) -> None:
    """Writes down what is about to be deleted."""
    heartbeat.content["objects"] = sorted(stored.info.key for stored in pending)
    heartbeat.renew()


def begin_collection(store: PackedBlobs) -> Heartbeat:
    """Says that a collector is at work."""
    return begin_pending_deletes(store.objects)


def list_leftovers(store: PackedBlobs, older: Callable[[ObjectInfo], bool]) -> Iterator[ObjectInfo]:
    """Files that killed processes were writing."""
    return (info for info in store.objects.list("tmp") if older(info))
