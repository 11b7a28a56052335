"""Comparison of a lake with the lake that a mark in a blob store names. Either may have been moved or copied."""

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
    """Returns whether ``text``, written on ``host``, names this lake, perhaps by an earlier path.

    A store in the folder of the catalog was copied with it, so the mark of the original counts too. For any other
    store, a catalog that still exists, or may exist on another machine, is another lake.
    """
    if text == lake.blobs.lake:
        return True
    match = SQLITE_LAKE.fullmatch(text)
    database: Path | None = getattr(lake.catalog, "file", None)
    if match is None or database is None or match["warehouse"].rstrip("/") not in _warehouse_names(lake):
        return False
    store, before = local_path(lake.blobs.url), Path(match["catalog"])
    if store is not None and store.resolve().is_relative_to(database.parent):
        return True
    if before.exists():
        return before.samefile(database)
    return host == platform.node()


def _warehouse_names(lake: Lake) -> set[str]:
    """Returns every name that the warehouse has had, with and without a scheme."""
    warehouse = lake.settings.warehouse.rstrip("/")
    roots = {recorded for recorded, _ in Roots.parse(lake.catalog.properties.get(ROOTS_PROPERTY)).pairs}
    return {warehouse, plain_path(warehouse) or warehouse, *roots, *(f"file://{root}" for root in roots)}
