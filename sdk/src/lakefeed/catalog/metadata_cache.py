"""A cache of parsed metadata files, which never change. Files of many versions take long to parse."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from cachetools import LRUCache

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

METADATA_CACHE_SIZE = 16


class MetadataCache:
    """The metadata files that were used last, by location. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._metadata: LRUCache[str, TableMetadata] = LRUCache(METADATA_CACHE_SIZE)

    def get(self, location: str | None) -> TableMetadata | None:
        """Returns the metadata at a location; None if the cache does not have it."""
        with self._lock:
            return self._metadata.get(location) if location is not None else None

    def add(self, location: str, metadata: TableMetadata) -> None:
        """Adds the metadata at a location."""
        with self._lock:
            self._metadata[location] = metadata
