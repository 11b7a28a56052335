"""Files that were on this machine when they were wanted, and those that were not."""

from __future__ import annotations

from threading import Lock


class CacheStatistics:
    """Counts of files; safe between threads."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._counts = 0, 0

    def add(self, hits: int, misses: int) -> None:
        """So many more were there, and were fetched."""
        with self._lock:
            self._counts = self._counts[0] + hits, self._counts[1] + misses

    def read(self) -> tuple[int, int]:
        """Those that were there, and those that were fetched."""
        return self._counts

    def taken(self) -> tuple[int, int]:
        """As `read`, beginning anew."""
        with self._lock:
            counts, self._counts = self._counts, (0, 0)
        return counts

    def __reduce__(self) -> tuple[type[CacheStatistics], tuple[()]]:
        return CacheStatistics, ()  # another process counts its own
