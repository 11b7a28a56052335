"""The numbers of rows that a filter keeps of each partition, counted once for a snapshot, which never changes.

They are in ``<cache>/counts/<fingerprint>.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from lakefeed.plan import Node, Step, fingerprint
from lakefeed.plan.fingerprint import digest
from lakefeed.plan.walk import nodes, sources
from lakefeed.storage.disk.atomic_write import publish, staged_file


@dataclass(frozen=True)
class FilterCounts:
    """Counts in a folder."""

    folder: Path

    def of(self, plan: Node, partitions: Sequence[object], count: Callable[[], list[int]]) -> list[int]:
        """Returns the rows of each partition (a value that identifies it) after ``plan``; ``count`` counts them."""
        if not _lasting(plan):
            return count()
        path = self.folder / f"{fingerprint(plan)}-{digest(list(partitions))}.json"
        counts = _read(path, len(partitions))
        if counts is None:
            counts = count()
            with staged_file(self.folder) as (temporary, file):
                file.write(json.dumps(counts).encode())
                file.flush()
                publish(temporary, path)
        return counts


def _lasting(plan: Node) -> bool:
    """Returns whether the fingerprint determines the counts: only snapshots, and no functions of the user."""
    functions = any(isinstance(node, Step) and node.runs_user_code for node in nodes(plan))
    return not functions and all(source.immutable for source in sources(plan))


def _read(path: Path, partitions: int) -> list[int] | None:
    try:
        counts = json.loads(path.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return counts if isinstance(counts, list) and len(counts) == partitions else None
