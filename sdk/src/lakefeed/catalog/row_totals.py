"""The number of rows of a version, which Iceberg's totals do not tell if delete files remove some."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

from cachetools import LRUCache

from lakefeed.catalog.properties import ROWS
from lakefeed.errors import DamagedDatasetError, UnsupportedError

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

TOTAL_DELETE_FILES: Final = "total-delete-files"
TOTAL_ROWS: Final = "total-records"
REMOVED_FILES: Final = ("deleted-data-files", "removed-delete-files")
CACHED_COUNTS: Final = 4096


def count_rows(snapshot: Snapshot, table: Table | None) -> int:
    """Returns the number of rows of a snapshot.

    The summaries tell it, unless another program removed data files of a table with delete files. Then the manifests
    and delete files are read. Without a table, or if they cannot be read, the number is an estimate.
    """
    change, at = 0, snapshot
    while True:
        facts = _facts(at)
        base = known_rows(facts)
        if base is not None:
            return base + change
        parent = None if table is None else table.metadata.snapshot_by_id(at.parent_snapshot_id or -1)
        if parent is None or TOTAL_ROWS not in facts or any(int(facts.get(key, 0)) for key in REMOVED_FILES):
            return _read_count(snapshot, table)
        change += int(facts.get("added-records", 0)) - int(facts.get("added-position-deletes", 0))
        at = parent


def count_change(snapshot: Snapshot, table: Table | None) -> int:
    """Returns by how many rows a snapshot differs from its parent; without the parent, as its summary tells."""
    facts = _facts(snapshot)
    change = change_in_summary(facts)
    if change is not None:
        return change
    parent = None if table is None else table.metadata.snapshot_by_id(snapshot.parent_snapshot_id or -1)
    if parent is not None:
        return count_rows(snapshot, table) - count_rows(parent, table)
    return change_without_parent(facts)


def change_in_summary(facts: Mapping[str, str]) -> int | None:
    """Returns by how many rows a snapshot differs from its parent; None if its summary does not tell it exactly."""
    if TOTAL_ROWS in facts and not any(key.endswith("-delete-files") and facts[key] != "0" for key in facts):
        return _change_of_files(facts)
    return None


def change_without_parent(facts: Mapping[str, str]) -> int:
    """Returns by how many rows a snapshot differs from its parent, which is unknown, as its summary tells."""
    deletes = int(facts.get("added-position-deletes", 0)) - int(facts.get("removed-position-deletes", 0))
    return _change_of_files(facts) - deletes


def _change_of_files(facts: Mapping[str, str]) -> int:
    return int(facts.get("added-records", 0)) - int(facts.get("deleted-records", 0))


def known_rows(facts: Mapping[str, str]) -> int | None:
    """Returns the number of rows that a summary tells; None if it has only totals that include deleted rows."""
    if ROWS in facts:
        return int(facts[ROWS])
    return None if TOTAL_ROWS not in facts or int(facts.get(TOTAL_DELETE_FILES, 0)) else int(facts[TOTAL_ROWS])


def _read_count(snapshot: Snapshot, table: Table | None) -> int:
    from lakefeed.catalog.version_files import live_rows, plan_without_columns

    facts = _facts(snapshot)
    estimate = max(0, int(facts.get(TOTAL_ROWS, 0)) - int(facts.get("total-position-deletes", 0)))
    if table is None:
        return estimate
    key = table.metadata.table_uuid, snapshot.snapshot_id
    with _lock:
        rows = _counts.get(key)
    if rows is None:
        try:
            rows = sum(live_rows(table, file) for file in plan_without_columns(table, snapshot))
        except (DamagedDatasetError, UnsupportedError):
            return estimate
        with _lock:
            _counts[key] = rows
    return rows


def _facts(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary is not None else {}


_counts: LRUCache[tuple[UUID, int], int] = LRUCache(CACHED_COUNTS)
"""The numbers of rows that were read. A snapshot never changes."""
_lock = threading.Lock()
