"""Moves the reachable contents of packs that consist mostly of garbage to new packs."""

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
"""Garbage up to this length is read too, because another request would take longer."""
READ_BYTES = 8 * MIB


def move_reachable(writer: BlobWriter, objects: Objects, sparse: Collection[StoredObject], reachable: Digests) -> int:
    """Adds each reachable content of the packs to new packs of ``writer`` once. Returns the bytes of these contents.

    A pack with a damaged content stays, because the content is not moved.
    """
    added: set[bytes] = set()
    total = 0
    for pack in sparse:
        for contents in _read_contents(objects, pack, reachable):
            fresh = {digest: data for digest, data in contents.items() if digest not in added}
            added |= fresh.keys()
            total += sum(map(len, fresh.values()))
            if fresh:
                writer.add(fresh)
    writer.flush()
    return total


def _read_contents(objects: Objects, pack: StoredObject, reachable: Digests) -> Iterator[dict[bytes, bytes]]:
    index = read_index(objects, pack.info)
    needed = np.sort(index[find_positions(reachable, index["sha256"])[1]], order="offset")
    for chunk in _split_reads(needed):
        start = int(chunk["offset"][0])
        data = objects.read(pack.info.key, start, int(chunk["offset"][-1] + chunk["length"][-1]))
        entries = zip(raw_digests(chunk), chunk["offset"].tolist(), chunk["length"].tolist(), strict=True)
        contents = {digest: data[at - start : at - start + length] for digest, at, length in entries}
        good = {digest: part for digest, part in contents.items() if hashlib.sha256(part).digest() == digest}
        if len(good) < len(contents):
            logger.warning("%d contents of %s are damaged", len(contents) - len(good), objects.url(pack.info.key))
        yield good


def _split_reads(index: PackEntries) -> Iterator[PackEntries]:
    """Yields the entries, sorted by offset, in groups that are read at once."""
    starts, ends = index["offset"].astype(np.int64), (index["offset"] + index["length"]).astype(np.int64)
    cuts, begun = [0], 0
    for row in range(1, len(index)):
        if starts[row] - ends[row - 1] > GAP_BYTES or ends[row] - starts[begun] > READ_BYTES:
            cuts.append(row)
            begun = row
    for low, high in pairwise([*cuts, len(index)]):
        if high > low:
            yield index[low:high]
