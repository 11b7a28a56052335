"""Statistics of stored contents, from earlier saves or from probes."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.media.cell_sources import ContentSource, StoredContent
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probes import Probes
from lakefeed.storage.cache.file_fingerprints import FileFingerprints

BATCH_FILES = 256
MAX_PENDING_BYTES = 64 * MIB  # contents that wait to be probed


@dataclass
class PendingStatistics:
    """The statistics of the contents of one column, while probes read them."""

    kind: MediaType
    fingerprints: FileFingerprints
    digests: list[bytes]
    stats: dict[bytes, Stats]
    tasks: list[tuple[list[bytes], Future[list[Stats]]]] = field(default_factory=list)

    def wait(self) -> list[Stats]:
        """Waits for the probes, records their statistics, and returns all in the order of the contents."""
        for digests, task in self.tasks:
            probed = dict(zip(digests, task.result(), strict=True))
            self.stats |= probed
            self.fingerprints.add_facts(self.kind.name, {digest: stats for digest, stats in probed.items() if stats})
        return [self.stats.get(digest, {}) for digest in self.digests]


@dataclass
class StatisticsReader:
    """Reads statistics with bounded memory. For one thread."""

    probes: Probes
    fingerprints: FileFingerprints
    _pending: deque[tuple[int, Future[Any]]] = field(default_factory=deque)

    def begin(
        self, kind: MediaType, stored: Sequence[StoredContent], sources: Sequence[ContentSource]
    ) -> PendingStatistics:
        """Starts to read the statistics of contents, which come from ``sources``. Probes each distinct one once."""
        digests = [content.sha256 for content in stored]
        pending = PendingStatistics(kind, self.fingerprints, digests, {})
        if not kind.stat_fields:
            return pending
        distinct: dict[bytes, tuple[StoredContent, ContentSource]] = {}
        for content, source in zip(stored, sources, strict=True):
            distinct.setdefault(content.sha256, (content, source))
        pending.stats |= self.fingerprints.find_facts(kind.name, list(distinct))
        unknown = [pair for digest, pair in distinct.items() if digest not in pending.stats]
        for start in range(0, len(unknown), BATCH_FILES):
            batch, origins = zip(*unknown[start : start + BATCH_FILES], strict=True)
            task = self._submit(kind, batch, origins)
            pending.tasks.append(([content.sha256 for content in batch], task))
        return pending

    def _submit(
        self, kind: MediaType, contents: Sequence[StoredContent], origins: Sequence[ContentSource]
    ) -> Future[list[Stats]]:
        size = sum(content.size for content in contents if not isinstance(content.probe, str))
        while self._pending and sum(pending for pending, _ in self._pending) + size > MAX_PENDING_BYTES:
            self._pending.popleft()[1].exception()  # waits
        task = self.probes.submit(kind.name, [_probe_source(content) for content in contents], origins)
        if size:
            self._pending.append((size, task))
        return task


def _probe_source(content: StoredContent) -> str | bytes:
    probe = content.probe
    return probe.to_pybytes() if isinstance(probe, pa.Buffer) else probe
