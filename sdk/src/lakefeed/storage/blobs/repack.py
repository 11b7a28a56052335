"""Moves the reachable contents of packs that consist mostly of garbage to new packs."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Collection, Iterator

from lakefeed.errors import IntegrityError
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.blobs.chunk_marker import Digests, find_positions
from lakefeed.storage.blobs.collector import StoredObject
from lakefeed.storage.blobs.content_reads import group_ranges, read_group
from lakefeed.storage.blobs.objects import ObjectRange, Objects
from lakefeed.storage.blobs.packs import raw_digests, read_index
from lakefeed.storage.blobs.recipes import decode_recipe

logger = logging.getLogger(__name__)


def move_reachable(writer: BlobWriter, objects: Objects, sparse: Collection[StoredObject], reachable: Digests) -> int:
    """Adds each reachable content of the packs to new packs of ``writer`` once. Returns the bytes of these contents.

    A pack with a damaged content stays, because the content is not moved.
    """
    added: set[tuple[bytes, bool]] = set()
    total = 0
    for pack in sparse:
        for are_recipes, contents in _read_contents(objects, pack, reachable):
            fresh = {digest: data for digest, data in contents.items() if (digest, are_recipes) not in added}
            added |= {(digest, are_recipes) for digest in fresh}
            total += sum(map(len, fresh.values()))
            if fresh:
                writer.add(fresh, are_recipes)
    writer.flush()
    return total


def _read_contents(
    objects: Objects, pack: StoredObject, reachable: Digests
) -> Iterator[tuple[bool, dict[bytes, bytes]]]:
    """Yields the reachable contents that are not damaged, and whether they are recipes."""
    index = read_index(objects, pack.info)
    needed = index[find_positions(reachable, index["sha256"])[1]]
    for are_recipes in (False, True):
        entries = needed[needed["is_recipe"] == are_recipes]
        positions = zip(raw_digests(entries), entries["offset"].tolist(), entries["length"].tolist(), strict=True)
        for group in group_ranges((digest, ObjectRange(pack.info.key, *each)) for digest, *each in positions):
            contents = dict(read_group(objects, group))
            good = {digest: data for digest, data in contents.items() if _is_good(digest, data, are_recipes)}
            if len(good) < len(contents):
                logger.warning("%d contents of %s are damaged", len(contents) - len(good), objects.url(pack.info.key))
            yield are_recipes, good


def _is_good(digest: bytes, data: bytes, is_recipe: bool) -> bool:
    if not is_recipe:
        return hashlib.sha256(data).digest() == digest
    try:
        decode_recipe(digest, data, "")
    except IntegrityError:
        return False
    return True
