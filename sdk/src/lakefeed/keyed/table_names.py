"""The names of keyed tables: which there are, and how they change."""

from __future__ import annotations

from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.table_key import key_columns
from lakefeed.errors import DamagedDatasetError, DatasetExistsError, DatasetNotFoundError


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
    source, target = lake.identifier(old), lake.identifier(new)
    if source == target:
        return new
    if lake.exists(new):
        raise DatasetExistsError(f"table {new!r} exists already; drop it, or choose another name")
    lake.ensure_namespace(".".join(target[:-1]))
    try:
        lake.catalog.rename_table(source, target)
    except TableAlreadyExistsError:
        raise DatasetExistsError(f"table {new!r} exists already; drop it, or choose another name") from None
    except NoSuchTableError:
        raise lake.not_found(old) from None
    return new
