"""A cache of parsed metadata files, which never change. Files of many versions take long to parse."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING

from cachetools import LRUCache

from lakefeed.catalog.durability import local_path

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

METADATA_CACHE_SIZE = 16


class MetadataCache:
    """The metadata files that were used last, by location. Thread-safe.

    A local file that was removed or overwritten, which damages a table, is not answered from the cache. It is where its
    folder is away, as that of a disk that is not mounted.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadata: LRUCache[str, tuple[TableMetadata, tuple[int, ...] | None]] = LRUCache(METADATA_CACHE_SIZE)

    def get(self, location: str | None) -> TableMetadata | None:
        """Returns the metadata at a location; None if the cache does not have it."""
        if location is None:
            return None
        with self._lock:
            metadata, status = self._metadata.get(location, (None, None))
        return metadata if status is None or status == _status(location) or _is_folder_away(location) else None

    def add(self, location: str, metadata: TableMetadata) -> None:
        """Adds the metadata at a location."""
        status = _status(location)
        with self._lock:
            self._metadata[location] = metadata, status


def _status(location: str) -> tuple[int, ...] | None:
    """Returns the status of a local file; None if there is none."""
    path = local_path(location)
    if path is None:
        return None
    try:
        status = os.stat(path)  # noqa: PTH116  # called for every read
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns, status.st_ino


def _is_folder_away(location: str) -> bool:
    path = local_path(location)
    return path is not None and not path.parent.exists()
