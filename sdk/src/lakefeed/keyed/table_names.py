"""The names of keyed tables: which there are, and how they change."""

from __future__ import annotations

from lakefeed.catalog import renaming
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_key import key_columns
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError


def keyed_names(lake: Lake, prefix: str) -> list[str]:
    """Returns the names that begin with ``prefix`` of the tables that have a key."""
    return [name for name in lake.names() if name.startswith(prefix) and _has_key(lake, name)]


def _has_key(lake: Lake, name: str) -> bool:
    try:
        return bool(key_columns(lake.table(name)))
    except (DatasetNotFoundError, DamagedDatasetError):  # dropped meanwhile, or unreadable
        return False


def rename(lake: Lake, old: str, new: str) -> str:
    """Gives a table another name, and returns it. The table keeps its rows, versions and files.

    Raises:
        DatasetNotFoundError: there is no table ``old``.
        DatasetExistsError: there is a table ``new``.
    """
    if lake.identifier(old) != lake.identifier(new):
        renaming.rename(lake, old, new)
    return new
