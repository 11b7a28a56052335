"""Tables by their uuid: a table that was renamed since is looked up under its other name."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final

from cachetools import LRUCache

from lakefeed.catalog import tombstones
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.renaming import current_name
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError

if TYPE_CHECKING:
    from pyiceberg.table import Table

CACHED_NAMES: Final = 10_000


def find_table(lake: Lake, name: str, table_uuid: str) -> tuple[str, Table] | None:
    """Returns the name that a table has now, and its newest metadata; None if it was deleted.

    A rename is followed by its record, or the names of all tables are looked through, once in a process.

    Args:
        lake: the lake.
        name: a name that the table had.
        table_uuid: the table.
    """
    key = (lake.key, table_uuid)
    with _names_lock:
        known = _names.get(key, name)
    for candidate in dict.fromkeys((known, name)):
        table = _table(lake, candidate)
        if table is not None and str(table.metadata.table_uuid) == table_uuid:
            return candidate, table
    candidate = current_name(lake, name, table_uuid)
    table = None if candidate == name else _table(lake, candidate)
    if not _has_uuid(table, table_uuid):
        deletion = tombstones.deletion_of_table(lake.deletions(name), table_uuid)
        if deletion is not None and not deletion.to:
            return None
        candidate, table = _look_through(lake, table_uuid)
    if table is None:
        return None
    with _names_lock:
        _names[key] = candidate
    return candidate, table


def find_table_or_successor(lake: Lake, name: str, table_uuid: str) -> tuple[str, Table] | None:
    """Returns the name and the metadata of a table; if it was deleted, those of the table that has its name now.

    None if there is neither.
    """
    key = (lake.key, table_uuid)
    with _names_lock:
        successor = _successors.get(key)
    table = _table(lake, name) if successor is not None else None
    if table is not None and _has_uuid(table, str(successor)):
        return name, table
    match = find_table(lake, name, table_uuid)
    if match is not None:
        return match
    table = _table(lake, name)
    if table is None:
        return None
    with _names_lock:
        _successors[key] = str(table.metadata.table_uuid)
    return name, table


_names: LRUCache[tuple[str, str], str] = LRUCache(CACHED_NAMES)
"""The names of renamed tables by their uuid."""
_successors: LRUCache[tuple[str, str], str] = LRUCache(CACHED_NAMES)
"""The uuid of the table that has the name of a deleted one, by the uuid of that."""
_names_lock = threading.Lock()


def _has_uuid(table: Any, table_uuid: str) -> bool:
    return table is not None and str(table.metadata.table_uuid) == table_uuid


def _table(lake: Lake, name: str) -> Table | None:
    try:
        return lake.table(name)
    except DatasetNotFoundError:
        return None


def _look_through(lake: Lake, table_uuid: str) -> tuple[str, Table | None]:
    for name in lake.names():
        try:
            table = lake.table(name)
        except (DatasetNotFoundError, DamagedDatasetError):
            continue
        if _has_uuid(table, table_uuid):
            return name, table
    return "", None
