"""Tables that are not in the catalog any more but keep their files, because ``gc.enabled`` is false."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from pyiceberg.table import Table

from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.reachable import Marker, Reachable
from lakefeed.catalog.table_references import is_gc_disabled, newest_metadata
from lakefeed.catalog.warehouse import warehouse_of
from lakefeed.storage.blobs.objects import ObjectInfo

TABLE_FILE: Final = re.compile(r"[^/]+/[a-z][a-z0-9_-]{0,62}-[0-9a-f]{12}/(data|metadata)/[^/]+")


def mark_with_detached(lake: Lake, marker: Marker) -> tuple[list[ObjectInfo], Reachable]:
    """The files in the folders of tables, and what is in use, also by detached tables; ``marker`` knows those then."""
    files, live = list(table_files(lake)), marker.mark()
    marker.detached = tuple(_detached_tables(lake, live, files))
    return files, marker.mark() if marker.detached else live


def table_files(lake: Lake) -> Iterator[ObjectInfo]:
    """The files in the folders that lakefeed has made for tables, whether these tables are still there or not."""
    place = lake.settings.warehouse.rstrip("/")
    for info in warehouse_of(lake).files():
        if TABLE_FILE.fullmatch(info.key):
            yield ObjectInfo(f"{place}/{info.key}", info.size, info.modified)


def path_in_warehouse(location: str) -> str:
    """A file's location below the warehouse: the folder of a table is unique, how the rest is spelt is not."""
    return "/".join(location.rsplit("/", 4)[-4:])


def _detached_tables(lake: Lake, live: Reachable, files: Iterable[ObjectInfo]) -> Iterator[Table]:
    known = {_table_folder(path) for path in live.files}
    folders: dict[str, list[str]] = {}
    for info in files:
        if _table_folder(info.key) not in known:
            folders.setdefault(_table_folder(info.key), []).append(
                f"{lake.warehouse.rstrip('/')}/{path_in_warehouse(info.key)}"
            )
    io = open_io(lake.catalog.properties, {}, lake.warehouse)
    for folder, paths in folders.items():
        if is_gc_disabled(io, paths):
            location, metadata = next(newest_metadata(io, paths))
            yield Table(tuple(folder.split("/")), metadata, location, io, lake.catalog)


def _table_folder(location: str) -> str:
    """Namespace and folder of the table that a file belongs to."""
    return "/".join(location.rsplit("/", 4)[-4:-2])
