"""The locations of tables of the embedded catalog, read from its SQLite file without SQLAlchemy and PyIceberg.

Importing these takes longer than reading the first row of a dataset.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from lakefeed import _paths
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake_record import lock_errors
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots
from lakefeed.catalog.relocation import locate_warehouse
from lakefeed.storage.disk.sqlite_connection import connect

if TYPE_CHECKING:
    from lakefeed.config import Settings

CATALOG_NAME: Final = "lakefeed"
IO_PROPERTY: Final = "py-io-impl"
"""PyIceberg's property that names the FileIO."""
SQLITE_URL = re.compile(r"sqlite:///(?!:memory:|file:)([^?#]+)")
"""The URL of a plain SQLite file."""
HEADS_QUERY = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND metadata_location IS NOT NULL"
IS_TABLE = "(iceberg_type = 'TABLE' OR iceberg_type IS NULL)"
POINTER_QUERY = (
    "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? "
    f"AND {IS_TABLE}"
)
TABLES_QUERY = (
    f"SELECT table_namespace, table_name, metadata_location FROM iceberg_tables WHERE catalog_name = ? AND {IS_TABLE}"
)


class EmbeddedPointers:
    """The metadata locations in a SQLite catalog. Keeps no connection open. Thread-safe.

    Attributes:
        locations: the catalog properties that say where the warehouse is.
    """

    def __init__(self, database: Path, locations: dict[str, str]) -> None:
        self._database = database
        self.locations = locations

    @classmethod
    def of(cls, settings: Settings) -> Self | None:
        """Returns the pointers in the catalog of the settings; None if the catalog itself must be opened.

        That is the case if it is not embedded, does not exist yet, cannot be read, or has special properties.
        """
        database = _sqlite_file(settings)
        if database is None:
            return None
        try:
            _query(
                database, POINTER_QUERY, CATALOG_NAME, "", ""
            )  # raises if the layout is not the current one of PyIceberg
            _, locations = locate_warehouse(
                database, settings.warehouse, lambda: [row[0] for row in _query(database, HEADS_QUERY, CATALOG_NAME)]
            )
        except sqlite3.Error:
            return None
        return cls(database, locations)

    @property
    def roots(self) -> Roots | None:
        """The path roots of the lake; None if its warehouse is not local."""
        text = self.locations.get(ROOTS_PROPERTY)
        return None if text is None else Roots.parse(text)

    def metadata_location(self, identifier: Sequence[str]) -> str | None:
        """Returns the location of the metadata of a table; None if the table does not exist.

        Raises:
            sqlite3.Error: the database cannot be read.
            CatalogUnavailableError: another process held its lock for too long.
        """
        rows = _query(self._database, POINTER_QUERY, CATALOG_NAME, ".".join(identifier[:-1]), identifier[-1])
        return str(rows[0][0]) if rows and rows[0][0] else None

    def tables(self) -> list[tuple[str, str, str | None]]:
        """Returns namespace, name and metadata location of every table.

        Raises:
            sqlite3.Error: the database cannot be read.
        """
        return [tuple(row) for row in _query(self._database, TABLES_QUERY, CATALOG_NAME)]


def _sqlite_file(settings: Settings) -> Path | None:
    """Returns the SQLite file of the catalog; None for other catalogs and for special properties."""
    match = SQLITE_URL.fullmatch(settings.catalog_uri)
    special = {"uri", "warehouse", "schema_version", IO_PROPERTY} & settings.catalog.properties.keys()
    if settings.catalog.type != "sql" or match is None or special:
        return None
    if local_path(settings.warehouse) is not None and re.search("[#?]", settings.warehouse):
        return None
    database = _paths.resolve(match[1])
    return database if _paths.is_file(database) else None


def _query(database: Path, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query. Opens the database read-only and does not create it."""
    with lock_errors(), closing(connect(database, read_only=True)) as connection:
        rows: list[tuple[Any, ...]] = connection.execute(statement, parameters).fetchall()
        return rows
