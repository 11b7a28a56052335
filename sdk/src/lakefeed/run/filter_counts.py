"""How many rows a filter keeps of each piece, remembered: a snapshot never changes, so it is counted once.

``<cache>/counts/<fingerprint>.json``; whoever finds none there counts.
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
    """The counts that are kept in a folder."""

    folder: Path

    def of(self, plan: Node, pieces: Sequence[object], count: Callable[[], list[int]]) -> list[int]:
        """Rows of each of the ``pieces`` (what tells them apart) after the steps of ``plan``; ``count`` finds out."""
        if not _lasting(plan):
            return count()
        place = self.folder / f"{fingerprint(plan)}-{digest(list(pieces))}.json"
        found = _read(place, len(pieces))
        if found is None:
            found = count()
            with staged_file(self.folder) as (temporary, file):
                file.write(json.dumps(found).encode())
                file.flush()
                publish(temporary, place)
        return found


def _lasting(plan: Node) -> bool:
    """Whether the fingerprint says all: snapshots, and no function, which may give other rows for other reasons."""
    functions = any(isinstance(node, Step) and node.runs_user_code for node in nodes(plan))
    return not functions and all(source.immutable for source in sources(plan))


def _read(place: Path, pieces: int) -> list[int] | None:
    try:
        found = json.loads(place.read_text())
    except (FileNotFoundError, json.JSONDecodeError):
        return None
    return found if isinstance(found, list) and len(found) == pieces else None
