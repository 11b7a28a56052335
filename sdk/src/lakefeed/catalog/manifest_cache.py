"""A cache of the entries of manifests, which never change. To parse a small manifest takes milliseconds."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Final

from cachetools import LRUCache
from pyiceberg.manifest import ManifestEntryStatus

from lakefeed._units import MIB
from lakefeed.catalog.file_io import actual_location
from lakefeed.catalog.version_numbers import NumberedTable

if TYPE_CHECKING:
    from pyiceberg.io import FileIO
    from pyiceberg.manifest import ManifestEntry, ManifestFile
    from pyiceberg.table import Table

CACHED_BYTES: Final = 4 * MIB
"""Bytes of the manifests whose entries are cached. Entries in memory are some ten times larger."""
LARGEST_MANIFEST: Final = CACHED_BYTES // 4


def manifest_entries_of(table: Table, manifest: ManifestFile, removed: bool = False) -> list[ManifestEntry]:
    """Returns the entries of a manifest.

    Args:
        table: the table.
        manifest: the manifest.
        removed: also returns the entries of removed files.
    """
    if isinstance(table, NumberedTable):  # the readers of such a table change the entries
        return manifest.fetch_manifest_entry(table.io, discard_deleted=not removed)
    return cached_entries(table.io, manifest, removed)


def cached_entries(io: FileIO, manifest: ManifestFile, removed: bool = False) -> list[ManifestEntry]:
    """Returns the entries of a manifest, from the cache or the file. They must not be changed."""
    key = actual_location(io, manifest.manifest_path), manifest.sequence_number
    with _lock:
        known = _manifests.get(key)
    if known is None:
        known = manifest.manifest_length, tuple(manifest.fetch_manifest_entry(io, discard_deleted=False))
        if manifest.manifest_length <= LARGEST_MANIFEST:
            with _lock:
                _manifests[key] = known
    return [entry for entry in known[1] if removed or entry.status != ManifestEntryStatus.DELETED]


_manifests: LRUCache[tuple[str, int], tuple[int, tuple[ManifestEntry, ...]]] = LRUCache(
    CACHED_BYTES, getsizeof=lambda known: known[0]
)
_lock = threading.Lock()
