"""Detached tables: they are not in the catalog any more, but keep their files because ``gc.enabled`` is false."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from pyiceberg.table import Table

from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reachable import Marker, Reachable
from lakefeed.catalog.table_locations import files_outside
from lakefeed.catalog.table_references import is_gc_disabled, newest_metadata
from lakefeed.catalog.warehouse import warehouse_of
from lakefeed.storage.blobs.objects import ObjectInfo

TABLE_FILE: Final = re.compile(r"([^/]+/){1,2}[a-z][a-z0-9_-]{0,62}-[0-9a-f]{12}/(data|metadata)/[^/]+")


def mark_with_detached(lake: Lake, marker: Marker) -> tuple[list[ObjectInfo], Reachable]:
    """Returns the files in the folders of tables, and everything reachable, also from detached tables.

    Sets ``marker.detached``.
    """
    files, reachable = list(table_files(lake)), marker.mark()
    marker.detached = tuple(_detached_tables(lake, reachable, files))
    return files, marker.mark() if marker.detached else reachable


def table_files(lake: Lake) -> Iterator[ObjectInfo]:
    """Yields the files in the folders that lakefeed has created for tables, even tables that no longer exist."""
    warehouse = lake.settings.warehouse.rstrip("/")
    for info in warehouse_of(lake).files():
        if TABLE_FILE.fullmatch(info.key):
            yield ObjectInfo(f"{warehouse}/{info.key}", info.size, info.modified)
    yield from files_outside(lake)


def path_in_warehouse(location: str) -> str:
    """Returns the last four parts of a location: namespace, table folder, data or metadata folder, and file."""
    return "/".join(location.rsplit("/", 4)[-4:])


def _detached_tables(lake: Lake, reachable: Reachable, files: Iterable[ObjectInfo]) -> Iterator[Table]:
    known = {_table_folder(path) for path in reachable.files}
    folders: dict[str, list[str]] = {}
    for info in files:
        if _table_folder(info.key) not in known:
            folders.setdefault(_table_folder(info.key), []).append(_recorded_location(lake, info.key))
    io = open_io(lake.catalog.properties, {}, lake.warehouse)
    for folder, paths in folders.items():
        if is_gc_disabled(io, paths):
            location, metadata = next(newest_metadata(io, paths))
            yield Table(tuple(folder.split("/")), metadata, location, io, lake.catalog)


def _recorded_location(lake: Lake, location: str) -> str:
    """Returns the location of a file as metadata names it."""
    warehouse = lake.settings.warehouse.rstrip("/")
    inside = location.startswith(f"{warehouse}/")
    return f"{lake.warehouse.rstrip('/')}{location.removeprefix(warehouse)}" if inside else location


def _table_folder(location: str) -> str:
    """Returns the namespace and the folder of the table that a file belongs to."""
    return "/".join(location.rsplit("/", 4)[-4:-2])
