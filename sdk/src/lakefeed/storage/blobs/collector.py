"""The garbage of a store, and the protocol by which it is deleted; see docs/decisions/0011-garbage.md."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from lakefeed.storage.blobs.chunk_marker import ChunkMarker, Digests, Positions, find_positions
from lakefeed.storage.blobs.damage_marks import read_damage
from lakefeed.storage.blobs.leases import (
    LEASES,
    PENDING_DELETES,
    Heartbeat,
    begin_pending_deletes,
    list_active,
    remove_expired,
)
from lakefeed.storage.blobs.objects import BLOBS, Copy, ObjectInfo, digest_of
from lakefeed.storage.blobs.packed_blobs import PackedBlobs
from lakefeed.storage.blobs.packs import PackEntries, is_pack_key, read_index
from lakefeed.storage.disk.hashing import is_digest

POLL_SECONDS = 0.5
SPARSE_SHARE = 0.5


@dataclass(frozen=True)
class StoredObject:
    """An object with contents.

    Attributes:
        info: the info of the object.
        reachable: the positions of its reachable contents in the array of all reachable digests.
        reachable_bytes: the bytes of its reachable contents.
        total_bytes: the bytes of all its contents.
    """

    info: ObjectInfo
    reachable: Positions
    reachable_bytes: int
    total_bytes: int


@dataclass
class Inventory:
    """The objects of a store, compared with the reachable digests (sorted, distinct), which include chunks."""

    reachable: Digests
    stored: list[StoredObject] = field(default_factory=list)

    @classmethod
    def of(cls, store: PackedBlobs, chunks: ChunkMarker, digests: Digests) -> Inventory:
        """Returns the objects that the store has now, compared with reachable digests and the parts of these."""
        inventory = cls(chunks.mark(digests))
        is_whole = np.zeros(len(inventory.reachable), bool)  # stored itself, not as chunks
        for info, index in chunks.packs:
            inventory._add_pack(info, index)
            is_whole[find_positions(inventory.reachable, index["sha256"][~index["is_recipe"]])[0]] = True
        for info in store.objects.list(BLOBS):
            if not is_digest(digest_of(info.key)):
                continue  # not a blob
            inventory._add_blob(info)
            is_whole[inventory.stored[-1].reachable] = True
        inventory._drop_incomplete(chunks, is_whole)
        if damaged := read_damage(store.objects).union(store.index.damaged):
            inventory._drop_damaged({info.key: index for info, index in chunks.packs}, damaged)
        return inventory

    def find_unneeded(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Returns objects that can all be deleted: their reachable contents are also in objects that stay."""
        covered = np.zeros(len(self.reachable), bool)
        # The fullest objects first, so that they stay if several have the same contents.
        ranked = sorted(
            self.stored, key=lambda stored: (not young(stored.info), -len(stored.reachable), stored.info.key)
        )
        unneeded = []
        for stored in ranked:
            if young(stored.info) or not covered[stored.reachable].all():
                covered[stored.reachable] = True
            else:
                unneeded.append(stored)
        return unneeded

    def find_sparse(self, young: Callable[[ObjectInfo], bool]) -> list[StoredObject]:
        """Returns needed packs of which less than half is reachable."""
        unneeded = {stored.info.key for stored in self.find_unneeded(young)}
        stay = [stored for stored in self.stored if stored.info.key not in unneeded and not young(stored.info)]
        return [
            stored
            for stored in stay
            if is_pack_key(stored.info.key) and stored.reachable_bytes < SPARSE_SHARE * stored.total_bytes
        ]

    def _drop_incomplete(self, chunks: ChunkMarker, is_whole: NDArray[np.bool_]) -> None:
        """Lets no recipe with missing parts count as a copy of its content, if there is a complete copy."""
        complete, incomplete = is_whole.copy(), defaultdict[str, list[int]](list)
        for recipe in chunks.recipes:
            own = int(np.searchsorted(self.reachable, np.array([recipe.digest], "S32"))[0])
            if recipe.parts is not None and is_whole[np.searchsorted(self.reachable, recipe.parts)].all():
                complete[own] = True
            else:
                incomplete[recipe.pack].append(own)
        for number, stored in enumerate(self.stored):
            if dropped := [own for own in incomplete.get(stored.info.key, ()) if complete[own]]:
                self.stored[number] = replace(stored, reachable=np.setdiff1d(stored.reachable, dropped))

    def _drop_damaged(self, packs: Mapping[str, PackEntries], damaged: Collection[Copy]) -> None:
        """Lets no copy that is known to be damaged count, if there is another one."""
        starts = defaultdict[str, list[int]](list)
        for key, start in damaged:
            starts[key].append(start)
        nothing = np.empty(0, np.int64)
        lost: list[Positions] = []
        for stored in self.stored:
            key = stored.info.key
            if key in packs:
                index = packs[key]
                bad = index["sha256"][np.isin(index["offset"], starts.get(key, []))]
                lost.append(np.intersect1d(find_positions(self.reachable, bad)[0], stored.reachable))
            else:
                lost.append(stored.reachable if key in starts else nothing)
        sound = np.zeros(len(self.reachable), bool)
        for stored, own in zip(self.stored, lost, strict=True):
            sound[np.setdiff1d(stored.reachable, own)] = True
        for number, (stored, own) in enumerate(zip(self.stored, lost, strict=True)):
            if dropped := own[sound[own]].tolist():
                self.stored[number] = replace(stored, reachable=np.setdiff1d(stored.reachable, dropped))

    def _add_pack(self, info: ObjectInfo, index: PackEntries) -> None:
        reachable, mask = find_positions(self.reachable, index["sha256"])
        sizes = index["length"]
        self.stored.append(StoredObject(info, reachable, int(sizes[mask].sum()), int(sizes.sum())))

    def _add_blob(self, info: ObjectInfo) -> None:
        reachable, _ = find_positions(self.reachable, np.array([bytes.fromhex(digest_of(info.key))], "S32"))
        self.stored.append(StoredObject(info, reachable, info.size if len(reachable) else 0, info.size))


def still_unneeded(
    store: PackedBlobs, pending: Collection[StoredObject], before: Digests, now: Digests
) -> list[StoredObject]:
    """Returns those pending objects that can still be deleted, given the digests that have become reachable since."""
    fresh = np.setdiff1d(now, before, assume_unique=True)
    if not len(fresh):
        return list(pending)
    return [stored for stored in pending if not _holds_any(store, stored.info, fresh)]


def is_only_collector(store: PackedBlobs, heartbeat: Heartbeat) -> bool:
    """Returns whether no other collector works.

    Each writes its heartbeat before it looks, so two never both get True.
    """
    since = heartbeat.modified
    others = [sign for sign in list_active(store.objects, PENDING_DELETES, since) if sign.key != heartbeat.key]
    if not others:
        remove_expired(store.objects, PENDING_DELETES, since)
    return not others


def wait_for_writers(store: PackedBlobs, heartbeat: Heartbeat, patience: float, on_poll: Callable[[], object]) -> int:
    """Waits for writers that may not have seen the list of pending deletes. Later writers see it.

    Returns:
        The number of such writers that still work after ``patience`` seconds.
    """
    waiting = {lease.key for lease in list_active(store.objects, LEASES, heartbeat.modified)}
    ends = time.monotonic() + patience
    while waiting:
        on_poll()
        waiting &= {lease.key for lease in list_active(store.objects, LEASES, heartbeat.modified)}
        if not waiting or time.monotonic() >= ends:
            break
        time.sleep(min(POLL_SECONDS, max(ends - time.monotonic(), 0)))
    return len(waiting)


def delete_objects(
    store: PackedBlobs, heartbeat: Heartbeat, pending: Collection[StoredObject], deleting: Callable[[str], object]
) -> list[StoredObject]:
    """Deletes objects while the heartbeat is valid. Returns the deleted objects."""
    deleted = []
    for stored in pending:
        deleting(stored.info.key)
        if not heartbeat.is_valid:
            break
        store.objects.delete(stored.info.key)
        deleted.append(stored)
    return deleted


def _holds_any(store: PackedBlobs, info: ObjectInfo, digests: Digests) -> bool:
    if not is_pack_key(info.key):
        return bool(np.isin(np.array([bytes.fromhex(digest_of(info.key))], "S32"), digests).any())
    return bool(np.isin(read_index(store.objects, info)["sha256"], digests).any())


def announce_deletes(heartbeat: Heartbeat, pending: Collection[StoredObject]) -> None:
    """Writes the list of pending deletes."""
    heartbeat.content["objects"] = sorted(stored.info.key for stored in pending)
    heartbeat.renew()


def begin_collection(store: PackedBlobs) -> Heartbeat:
    """Announces a collector. Returns its heartbeat."""
    return begin_pending_deletes(store.objects)


def list_leftovers(store: PackedBlobs, older: Callable[[ObjectInfo], bool]) -> Iterator[ObjectInfo]:
    """Yields the temporary files that killed processes have left."""
    return (info for info in store.objects.list("tmp") if older(info))
