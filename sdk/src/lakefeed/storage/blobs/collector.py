"""Which objects of a store nobody needs, and the protocol by which they are deleted; docs/decisions/0011-garbage.md."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lakefeed.storage.blobs.leases import DOOMED, LEASES, Sign, doom_list, living, remove_dead
from lakefeed.storage.blobs.objects import BLOBS, ObjectInfo, digest_of
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.packs import FOLDER, is_pack, read_index

Digests = NDArray[np.bytes_]
Places = NDArray[np.int64]

LOOK_SECONDS = 0.5
SPARSE_SHARE = 0.5


@dataclass(frozen=True)
class Held:
    """An object that holds contents: which of the live ones (places in their array), the bytes of these, and of all."""

    info: ObjectInfo
    live: Places
    live_bytes: int
    all_bytes: int


@dataclass
class Inventory:
    """What a store holds, seen against the digests that are live (sorted, distinct)."""

    live: Digests
    held: list[Held] = field(default_factory=list)

    @classmethod
    def of(cls, store: PackedBlobs, live: Digests) -> Inventory:
        """Everything that is in the store now."""
        inventory = cls(live)
        for info in store.objects.list(FOLDER):
            if is_pack(info.key):
                inventory._add_pack(store, info)
        for info in store.objects.list(BLOBS):
            inventory._add_alone(info)
        return inventory

    def unneeded(self, young: Callable[[ObjectInfo], bool]) -> list[Held]:
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

    def sparse(self, young: Callable[[ObjectInfo], bool]) -> list[Held]:
        """Packs that cannot go for the sake of less than half of what they hold."""
        unneeded = {held.info.key for held in self.unneeded(young)}
        stay = [held for held in self.held if held.info.key not in unneeded and not young(held.info)]
        return [held for held in stay if is_pack(held.info.key) and held.live_bytes < SPARSE_SHARE * held.all_bytes]

    def _add_pack(self, store: PackedBlobs, info: ObjectInfo) -> None:
        index = read_index(store.objects, info)
        live, found = places(self.live, index["sha256"])
        sizes = index["length"]
        self.held.append(Held(info, live, int(sizes[found].sum()), int(sizes.sum())))

    def _add_alone(self, info: ObjectInfo) -> None:
        try:
            digest = bytes.fromhex(digest_of(info.key))
        except ValueError:
            return  # no blob of ours
        live, _ = places(self.live, np.array([digest], "S32"))
        self.held.append(Held(info, live, info.size if len(live) else 0, info.size))


def spared(store: PackedBlobs, doomed: Collection[Held], before: Digests, now: Digests) -> list[Held]:
    """Those of the doomed objects that can still go, given what has become live since they were chosen."""
    fresh = np.setdiff1d(now, before, assume_unique=True)
    if not len(fresh):
        return list(doomed)
    return [held for held in doomed if not _holds_any(store, held.info, fresh)]


def alone_at_work(store: PackedBlobs, own: Sign) -> bool:
    """Whether no other collector is at work. Each says that it is there before it looks, so two never both think so."""
    since = own.modified
    others = [sign for sign in living(store.objects, DOOMED, since) if sign.key != own.key]
    if not others:
        remove_dead(store.objects, DOOMED, since)
    return not others


def wait_for_savers(store: PackedBlobs, own: Sign, patience: float, look: Callable[[], object]) -> int:
    """How many savers that may not have seen the doom list are still at work after so many seconds.

    Those that come later have seen it.
    """
    waiting = {lease.key for lease in living(store.objects, LEASES, own.modified)}
    ends = time.monotonic() + patience
    while waiting:
        look()
        waiting &= {lease.key for lease in living(store.objects, LEASES, own.modified)}
        if not waiting or time.monotonic() >= ends:
            break
        time.sleep(min(LOOK_SECONDS, max(ends - time.monotonic(), 0)))
    return len(waiting)


def sweep(store: PackedBlobs, own: Sign, doomed: Collection[Held], deleting: Callable[[str], object]) -> list[Held]:
    """Deletes objects for as long as nobody can take this collector for dead; those that are gone now."""
    gone = []
    for held in doomed:
        deleting(held.info.key)
        if not own.alive:
            break
        store.objects.delete(held.info.key)
        gone.append(held)
    return gone


def places(live: Digests, digests: Digests) -> tuple[Places, NDArray[np.bool_]]:
    """Where in ``live`` the digests are that are there, and which these are."""
    if not len(live):
        return np.empty(0, np.int64), np.zeros(len(digests), bool)
    where = np.searchsorted(live, digests)
    where[where == len(live)] = 0
    found = live[where] == digests
    return where[found], found


def _holds_any(store: PackedBlobs, info: ObjectInfo, digests: Digests) -> bool:
    if not is_pack(info.key):
        return bool(np.isin(np.array([bytes.fromhex(digest_of(info.key))], "S32"), digests).any())
    return bool(np.isin(read_index(store.objects, info)["sha256"], digests).any())


def doom(own: Sign, doomed: Collection[Held]) -> None:
    """Writes down what is about to be deleted."""
    own.content["objects"] = sorted(held.info.key for held in doomed)
    own.renew()


def begin(store: PackedBlobs) -> Sign:
    """Says that a collector is at work."""
    return doom_list(store.objects)


def leftovers(store: PackedBlobs, older: Callable[[ObjectInfo], bool]) -> Iterator[ObjectInfo]:
    """Files that killed processes were writing."""
    return (info for info in store.objects.list("tmp") if older(info))
