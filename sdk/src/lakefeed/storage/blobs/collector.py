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
    """An object that holds contents: which of the live ones (places in their array), the bytes of these, and of all."""

    info: ObjectInfo
    live: Positions
    live_bytes: int
    all_bytes: int


@dataclass
class Inventory:
    """What a store holds, seen against the digests that are live (sorted, distinct)."""

    live: Digests
    held: list[StoredObject] = field(default_factory=list)

    @classmethod
    def of(cls, store: PackedBlobs, live: Digests) -> Inventory:
        """Everything that is in the store now."""
        inventory = cls(live)
        for info in store.objects.list(FOLDER):
            if is_pack_key(info.key):
                inventory._add_pack(store, info)
        for info in store.objects.list(BLOBS):
            inventory._add_alone(info)
        return inventory

    def unneeded(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Objects that can all go: every live content that one of them holds is also in an object that stays."""
        covered = np.zeros(len(self.live), bool)
        # What holds most is kept first, so that of several objects with the same contents the fuller ones stay.
        ranked = sorted(self.held, key=lambda held: (not young(held.info), -len(held.live), held.info.key))
        found = []
        for held in ranked:
            if young(held.info) or not covered[held.live].all():
                covered[held.live] = True
            else:
                found.append(held)
        return found

    def sparse(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Packs that cannot go for the sake of less than half of what they hold."""
        unneeded = {held.info.key for held in self.unneeded(young)}
        stay = [held for held in self.held if held.info.key not in unneeded and not young(held.info)]
        return [held for held in stay if is_pack_key(held.info.key) and held.live_bytes < SPARSE_SHARE * held.all_bytes]

    def _add_pack(self, store: PackedBlobs, info: ObjectInfo) -> None:
        index = read_index(store.objects, info)
        live, found = find_positions(self.live, index["sha256"])
        sizes = index["length"]
        self.held.append(StoredObject(info, live, int(sizes[found].sum()), int(sizes.sum())))

    def _add_alone(self, info: ObjectInfo) -> None:
        try:
            digest = bytes.fromhex(digest_of(info.key))
        except ValueError:
            return  # no blob of ours
        live, _ = find_positions(self.live, np.array([digest], "S32"))
        self.held.append(StoredObject(info, live, info.size if len(live) else 0, info.size))


def still_unneeded(
    store: PackedBlobs, doomed: Collection[StoredObject], before: Digests, now: Digests
) -> list[StoredObject]:
    """Those of the doomed objects that can still go, given what has become live since they were chosen."""
    fresh = np.setdiff1d(now, before, assume_unique=True)
    if not len(fresh):
        return list(doomed)
    return [held for held in doomed if not _holds_any(store, held.info, fresh)]


def is_only_collector(store: PackedBlobs, own: Heartbeat) -> bool:
    """Whether no other collector is at work. Each says that it is there before it looks, so two never both think so."""
    since = own.modified
    others = [sign for sign in list_active(store.objects, PENDING_DELETES, since) if sign.key != own.key]
    if not others:
        remove_expired(store.objects, PENDING_DELETES, since)
    return not others


def wait_for_writers(store: PackedBlobs, own: Heartbeat, patience: float, look: Callable[[], object]) -> int:
    """How many savers that may not have seen the doom list are still at work after so many seconds.

    Those that come later have seen it.
    """
    waiting = {lease.key for lease in list_active(store.objects, LEASES, own.modified)}
    ends = time.monotonic() + patience
    while waiting:
        look()
        waiting &= {lease.key for lease in list_active(store.objects, LEASES, own.modified)}
        if not waiting or time.monotonic() >= ends:
            break
        time.sleep(min(POLL_SECONDS, max(ends - time.monotonic(), 0)))
    return len(waiting)


def delete_objects(
    store: PackedBlobs, own: Heartbeat, doomed: Collection[StoredObject], deleting: Callable[[str], object]
) -> list[StoredObject]:
    """Deletes objects for as long as nobody can take this collector for dead; those that are gone now."""
    gone = []
    for held in doomed:
        deleting(held.info.key)
        if not own.alive:
            break
        store.objects.delete(held.info.key)
        gone.append(held)
    return gone


def find_positions(live: Digests, digests: Digests) -> tuple[Positions, NDArray[np.bool_]]:
    """Where in ``live`` the digests are that are there, and which these are."""
    if not len(live):
        return np.empty(0, np.int64), np.zeros(len(digests), bool)
    where = np.searchsorted(live, digests)
    where[where == len(live)] = 0
    found = live[where] == digests
    return where[found], found


def _holds_any(store: PackedBlobs, info: ObjectInfo, digests: Digests) -> bool:
    if not is_pack_key(info.key):
        return bool(np.isin(np.array([bytes.fromhex(digest_of(info.key))], "S32"), digests).any())
    return bool(np.isin(read_index(store.objects, info)["sha256"], digests).any())


def announce_deletes(own: Heartbeat, doomed: Collection[StoredObject]) -> None:
    """Writes down what is about to be deleted."""
    own.content["objects"] = sorted(held.info.key for held in doomed)
    own.renew()


def begin_collection(store: PackedBlobs) -> Heartbeat:
    """Says that a collector is at work."""
    return begin_pending_deletes(store.objects)


def list_leftovers(store: PackedBlobs, older: Callable[[ObjectInfo], bool]) -> Iterator[ObjectInfo]:
    """Files that killed processes were writing."""
    return (info for info in store.objects.list("tmp") if older(info))
