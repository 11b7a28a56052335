"""Packs of which most is garbage: what is left in them moves to new ones, so that they can go."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator
from itertools import pairwise

import numpy as np

from lakefeed._units import KIB, MIB
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.blobs.collector import Digests, StoredObject, find_positions
from lakefeed.storage.blobs.objects import Objects
from lakefeed.storage.blobs.packs import PackEntries, raw_digests, read_index

logger = logging.getLogger(__name__)

GAP_BYTES = 256 * KIB
"""Garbage up to this length is read along: another request would take longer."""
READ_BYTES = 8 * MIB


def move_reachable(writer: BlobWriter, objects: Objects, sparse: Collection[StoredObject], reachable: Digests) -> int:
    """Adds what is reachable in these packs to new packs of ``writer``, each content once; the bytes of it.

    A content that is damaged is left where it is, and so its pack stays.
    """
    seen: set[bytes] = set()
    total = 0
    for pack in sparse:
        for contents in _read_contents(objects, pack, reachable):
            fresh = {digest: data for digest, data in contents.items() if digest not in seen}
            seen |= fresh.keys()
            total += sum(map(len, fresh.values()))
            if fresh:
                writer.add(fresh)
    writer.flush()
    return total


def _read_contents(objects: Objects, pack: StoredObject, reachable: Digests) -> Iterator[dict[bytes, bytes]]:
    index = read_index(objects, pack.info)
    needed = np.sort(index[find_positions(reachable, index["sha256"])[1]], order="offset")
    for some in _split_reads(needed):
        start = int(some["offset"][0])
        data = objects.read(pack.info.key, start, int(some["offset"][-1] + some["length"][-1]))
        parts = zip(raw_digests(some), some["offset"].tolist(), some["length"].tolist(), strict=True)
        found = {digest: data[at - start : at - start + length] for digest, at, length in parts}
        good = {digest: part for digest, part in found.items() if hashlib.sha256(part).digest() == digest}
        if len(good) < len(found):
            logger.warning("%d contents of %s are damaged", len(found) - len(good), objects.url(pack.info.key))
        yield good


def _split_reads(index: PackEntries) -> Iterator[PackEntries]:
    """What is read at a time, of entries in the order of their places."""
    starts, ends = index["offset"].astype(np.int64), (index["offset"] + index["length"]).astype(np.int64)
    cuts, begun = [0], 0
    for row in range(1, len(index)):
        if starts[row] - ends[row - 1] > GAP_BYTES or ends[row] - starts[begun] > READ_BYTES:
            cuts.append(row)
            begun = row
    for low, high in pairwise([*cuts, len(index)]):
        if high > low:
            yield index[low:high]
