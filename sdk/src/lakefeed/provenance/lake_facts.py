"""The facts about origins as the commits of a lake have them, where the registry cannot be asked.

The facts of a table are remembered in this process for the location of its metadata, which every commit changes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Final

from cachetools import LRUCache

from lakefeed.catalog import table_references, tombstones
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import DELETED_PREFIX
from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.catalog.snapshot_facts import read_table_facts
from lakefeed.errors import FileError
from lakefeed.records.catalog_heads import CatalogHeads, TableName
from lakefeed.records.origin_facts import TableFact, table_fact
from lakefeed.records.version_rows import SyncedTable

MAX_TABLES: Final = 20_000

_tables: LRUCache[str, TableFact] = LRUCache(MAX_TABLES)
_lock = threading.Lock()


def read_tables(lake: Lake) -> dict[str, TableFact]:
    """Returns the datasets of a lake by the uuids of their tables, with those in the trash and deleted ones.

    A damaged table is left out.
    """
    tables: dict[str, TableFact] = {}
    for name, location in CatalogHeads(lake, RegistryDatabase(lake.settings)).all_heads().items():
        fact = _read_table(lake, name, location)
        if fact is not None:
            tables[fact.uuid] = fact
    for fact in ended_tables(lake):
        tables.setdefault(fact.uuid, fact)
    return tables


def _read_table(lake: Lake, name: TableName, location: str) -> TableFact | None:
    key = f"{lake.settings.catalog_uri} {'.'.join(name)} {location}"
    with _lock:
        known = _tables.get(key)
    if known is not None:
        return known
    from lakefeed.catalog.damaged_tables import MISSING_TABLE_ERRORS

    try:
        facts = read_table_facts(lake, name.identifier, location)
    except (*MISSING_TABLE_ERRORS, FileError, OSError):
        return None
    fact = table_fact(SyncedTable(name, location, facts, lake.settings.catalog.namespace))
    with _lock:
        _tables[key] = fact
    return fact


def ended_tables(lake: Lake) -> list[TableFact]:
    """Returns the datasets whose names ended, as far as their namespaces record it: with the last name and the first.

    They were deleted, are in the trash, or were renamed.
    """
    endings = sorted(_endings(lake), key=lambda each: (each[1].to not in ("", tombstones.TRASH), -each[1].at))
    names: dict[str, list[str]] = {}
    for name, ending in endings:
        names.setdefault(ending.table, []).append(name)
    return [
        TableFact(uuid, last, "deleted", former[0] if former else None, former_names=tuple(former))
        for uuid, (last, *former) in names.items()
    ]


def _endings(lake: Lake) -> Iterator[tuple[str, tombstones.Deletion]]:
    """Yields each recorded end of the name of a dataset."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    for namespace in table_references.list_namespaces(lake):
        try:
            properties = lake.catalog.load_namespace_properties(namespace)
        except (NoSuchNamespaceError, NotImplementedError):
            continue
        for key, value in properties.items():
            if key.startswith(DELETED_PREFIX):
                name = lake.dataset_name((*namespace, key.removeprefix(DELETED_PREFIX))) or key
                yield from ((name, each) for each in tombstones.parse_deletions(value))
