"""Metadata files that were parsed last: they never change, and those of many versions take long to parse."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

METADATA_CACHE_SIZE = 16
"""Metadata of a table with thousands of versions takes a quarter of a second to parse."""


class MetadataCache:
    """Metadata by its location. Safe between threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, TableMetadata] = OrderedDict()

    def get(self, location: str | None) -> TableMetadata | None:
        """Returns the metadata of the file at a location; None where it was not parsed lately."""
        with self._lock:
            return self._files.get(location) if location is not None else None

    def add(self, location: str, metadata: TableMetadata) -> None:
        """Remembers the metadata of a file, in place of that which was added first."""
        with self._lock:
            self._files[location] = metadata
            while len(self._files) > METADATA_CACHE_SIZE:
                self._files.popitem(last=False)
