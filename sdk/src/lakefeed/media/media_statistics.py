"""Statistics of stored contents: those that are known already, the others from probes, many at a time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.media.cell_sources import StoredContent
from lakefeed.media.media_type import MediaType, Stats
from lakefeed.media.probes import Probes
from lakefeed.storage.cache.file_fingerprints import FileFingerprints

BATCH_FILES = 256
MAX_PENDING_BYTES = 64 * MIB  # of contents that wait to be probed


@dataclass
class PendingStatistics:
    """The statistics of one column's contents, as they come in."""

    kind: MediaType
    seen: FileFingerprints
    digests: list[bytes]
    found: dict[bytes, Stats]
    tasks: list[tuple[list[bytes], Future[list[Stats]]]] = field(default_factory=list)

    def wait(self) -> list[Stats]:
        """The statistics in the order of the contents; those of probes are kept for the next save."""
        for digests, task in self.tasks:
            fresh = dict(zip(digests, task.result(), strict=True))
            self.found |= fresh
            self.seen.add_facts(self.kind.name, {digest: stats for digest, stats in fresh.items() if stats})
        return [self.found.get(digest, {}) for digest in self.digests]


@dataclass
class StatisticsReader:
    """Asks the probes, in bounded memory; for one thread."""

    probes: Probes
    seen: FileFingerprints
    _held: deque[tuple[int, Future[Any]]] = field(default_factory=deque)

    def ask(self, kind: MediaType, stored: Sequence[StoredContent]) -> PendingStatistics:
        """Begins to find the statistics of contents; each distinct one is looked at once."""
        digests = [content.sha256 for content in stored]
        known = PendingStatistics(kind, self.seen, digests, {})
        if not kind.stat_fields:
            return known
        distinct = {content.sha256: content for content in stored}
        known.found |= self.seen.facts(kind.name, list(distinct))
        unknown = [content for digest, content in distinct.items() if digest not in known.found]
        for start in range(0, len(unknown), BATCH_FILES):
            some = unknown[start : start + BATCH_FILES]
            task = self._submit(kind, some)
            known.tasks.append(([content.sha256 for content in some], task))
        return known

    def _submit(self, kind: MediaType, contents: Sequence[StoredContent]) -> Future[list[Stats]]:
        size = sum(content.size for content in contents if not isinstance(content.probe, str))
        while self._held and sum(held for held, _ in self._held) + size > MAX_PENDING_BYTES:
            self._held.popleft()[1].exception()  # waits
        task = self.probes.submit(kind.name, [_probe_source(content) for content in contents])
        if size:
            self._held.append((size, task))
        return task


def _probe_source(content: StoredContent) -> str | bytes:
    probe = content.probe
    return probe.to_pybytes() if isinstance(probe, pa.Buffer) else probe
