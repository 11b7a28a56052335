"""Names, versions and tags of the tables of the embedded catalog, read without PyIceberg.

Each function returns None where the catalog must be opened: it is not embedded, it cannot be read, or this process has
loaded a table, whose metadata is in memory then.
"""

from __future__ import annotations

import sqlite3
import threading
from typing import TYPE_CHECKING, Final, TypeAlias

from cachetools import LRUCache

from lakefeed.catalog import snapshot_facts

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake
    from lakefeed.catalog.snapshot_facts import TableFacts

FileState: TypeAlias = tuple[int, ...]

MAX_FACTS: Final = 8


def locations(lake: Lake) -> dict[str, str] | None:
    """Returns the metadata location of every dataset by name, with one query."""
    pointers = lake.pointers_before_tables()
    try:
        tables = None if pointers is None else pointers.tables()
    except sqlite3.Error:
        return None
    if tables is None:
        return None
    named = ((lake.dataset_name((*namespace.split("."), name)), location) for namespace, name, location in tables)
    return {name: location or "" for name, location in sorted(named, key=str) if name is not None}


def table_facts(lake: Lake, name: str) -> TableFacts | None:
    """Returns the versions, tags and properties of a dataset.

    Returns None also if it does not exist or is damaged, or if its metadata file alone does not tell them.
    """
    identifier = lake.identifier(name)
    pointers = lake.pointers_before_tables()
    try:
        location = None if pointers is None else pointers.metadata_location(identifier)
    except sqlite3.Error:
        return None
    return None if location is None else facts_at(lake, location)


def facts_at(lake: Lake, location: str) -> TableFacts | None:
    """Returns what a metadata file tells; None if PyIceberg must read it."""
    state = file_state(lake, location)
    with _lock:
        facts = None if state is None else _facts.get((location, state))
    if facts is None:
        try:
            facts = snapshot_facts.parse_table_facts(location, lake.read_file(location))
        except OSError:
            return None
        if facts is not None and state is not None:
            with _lock:
                _facts[location, state] = facts
    return facts


def file_state(lake: Lake, location: str) -> FileState | None:
    """Returns numbers that identify a local file in its current state; None if the file does not exist."""
    path = lake.local_file(location)
    try:
        now = None if path is None else path.stat()
    except OSError:
        return None
    return None if now is None else (now.st_size, now.st_mtime_ns, now.st_ctime_ns, now.st_ino)


_facts: LRUCache[tuple[str, FileState], TableFacts] = LRUCache(MAX_FACTS)
"""The tables that were read last."""
_lock = threading.Lock()
