"""Whether the lake that a mark in a blob store names is this one, which may have been moved or copied since."""

from __future__ import annotations

import platform
import re
from pathlib import Path
from typing import Final

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots, plain_path
from lakefeed.storage.urls import local_path

SQLITE_LAKE: Final = re.compile(r"the sql catalog sqlite:///(?P<catalog>.*), warehouse (?P<warehouse>.*)")


def is_same_lake(lake: Lake, text: str, host: str | None) -> bool:
    """Whether ``text``, written on ``host``, names this lake, also by what it was called before.

    In a store that lies in the folder of the catalog, that of its original counts too: the store was copied with it.
    Elsewhere a catalog that is still there, or may be on another machine, is another lake.
    """
    if text == lake.blobs.lake:
        return True
    named = SQLITE_LAKE.fullmatch(text)
    database: Path | None = getattr(lake.catalog, "file", None)
    if named is None or database is None or named["warehouse"].rstrip("/") not in _warehouse_names(lake):
        return False
    store, before = local_path(lake.blobs.url), Path(named["catalog"])
    if store is not None and store.resolve().is_relative_to(database.parent):
        return True
    if before.exists():
        return before.samefile(database)
    return host == platform.node()


def _warehouse_names(lake: Lake) -> set[str]:
    """The warehouse under every name that it has had, with and without a scheme."""
    warehouse = lake.settings.warehouse.rstrip("/")
    roots = {recorded for recorded, _ in Roots.parse(lake.catalog.properties.get(ROOTS_PROPERTY)).pairs}
    return {warehouse, plain_path(warehouse) or warehouse, *roots, *(f"file://{root}" for root in roots)}
