"""Tables of the embedded catalog, read from its SQLite file without SQLAlchemy.

Importing SQLAlchemy, which PyIceberg's catalog needs, takes longer than reading the first row of a dataset. A table is
one row of the SQLite file; its metadata and files are read as the catalog reads them. Everything else, errors included,
is left to the catalog.
"""

from __future__ import annotations

import os
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import quote

from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import PY_IO_IMPL, load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

from lakefeed.catalog import file_io
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.metadata_cache import MetadataCache
from lakefeed.catalog.relocation import locate_warehouse

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.typedef import Identifier

    from lakefeed.config import Settings

CATALOG_NAME = "lakefeed"
SQLITE_URL = re.compile(r"sqlite:///(?!:memory:|file:)([^?#]+)")
"""The URL of a plain SQLite file."""
S3_VARIABLES = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""The environment variables of each S3 property of PyIceberg. The first one that is set counts."""
LOCK_TIMEOUT_SECONDS = 60.0
HEADS_QUERY = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND metadata_location IS NOT NULL"
POINTER_QUERY = (
    "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? "
    "AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)"
)


def s3_properties_from_environment(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Returns S3 properties that only one of PyIceberg's two S3 clients reads from the environment.

    Both clients find keys and roles themselves.

    Example:
        >>> s3_properties_from_environment({"AWS_ENDPOINT_URL": "https://s3.example.com"})
        {'s3.endpoint': 'https://s3.example.com'}
    """
    values = {key: next(filter(None, map(environment.get, names)), None) for key, names in S3_VARIABLES.items()}
    return {key: value for key, value in values.items() if value}


def catalog_properties(settings: Settings) -> dict[str, str]:
    """Returns the properties of a PyIceberg catalog."""
    locations = {"uri": settings.catalog_uri, "warehouse": settings.warehouse}
    return {**s3_properties_from_environment(), **locations, **settings.catalog.properties}


def sql_properties(settings: Settings) -> dict[str, str]:
    """Returns the properties of an SQL catalog, with lakefeed's FileIO for local files."""
    properties = catalog_properties(settings)
    if local_path(settings.warehouse) is None and PY_IO_IMPL in properties:
        properties[file_io.DELEGATE_PROPERTY] = properties.pop(PY_IO_IMPL)
    properties.setdefault(PY_IO_IMPL, file_io.IMPLEMENTATION)
    return properties


class EmbeddedTables:
    """Loads tables of a SQLite catalog. ``open_catalog`` opens the catalog for everything else.

    Keeps no connection open. Thread-safe.
    """

    def __init__(self, database: Path, properties: dict[str, str], open_catalog: Callable[[], Catalog]) -> None:
        self._database = database
        self._properties = properties
        self._open_catalog = open_catalog
        self._metadata_cache = MetadataCache()

    @classmethod
    def of(cls, settings: Settings, open_catalog: Callable[[], Catalog]) -> Self | None:
        """Returns the tables of the catalog of the settings; None if the catalog itself must be opened.

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
        return cls(database, {**sql_properties(settings), **locations}, open_catalog)

    def load_table(self, identifier: Identifier) -> Table:
        """Returns the table with its newest metadata.

        Raises:
            NoSuchTableError: the table does not exist.
        """
        namespace, name = ".".join(identifier[:-1]), identifier[-1]
        try:
            row = next(iter(_query(self._database, POINTER_QUERY, CATALOG_NAME, namespace, name)), None)
        except sqlite3.Error:
            return self._open_catalog().load_table(identifier)
        if row is None or not row[0]:
            raise NoSuchTableError(f"Table does not exist: {'.'.join(identifier)}")
        location = str(row[0])
        metadata = self._metadata(location)
        io = file_io.open_io(self._properties, metadata.properties, location)
        return EmbeddedTable(identifier, metadata, location, io, self._open_catalog)

    def _metadata(self, location: str) -> TableMetadata:
        metadata = self._metadata_cache.get(location)
        if metadata is None:
            io = load_file_io(self._properties, location)
            metadata = FromInputFile.table_metadata(io.new_input(location))
            self._metadata_cache.add(location, metadata)
        return metadata


class EmbeddedTable(Table):
    """A table that opens its catalog on first use: to write, or to reload the table."""

    def __init__(
        self,
        identifier: Identifier,
        metadata: TableMetadata,
        metadata_location: str,
        io: FileIO,
        open_catalog: Callable[[], Catalog],
    ) -> None:
        self._open_catalog = open_catalog
        super().__init__(identifier, metadata, metadata_location, io, None)  # type: ignore[arg-type]  # see below

    @property
    def catalog(self) -> Catalog:
        """The catalog."""
        return self._open_catalog()

    @catalog.setter
    def catalog(self, value: Catalog | None) -> None:
        """Ignores the value that the base class sets."""


def _sqlite_file(settings: Settings) -> Path | None:
    """Returns the SQLite file of the catalog; None for other catalogs and for special properties."""
    match = SQLITE_URL.fullmatch(settings.catalog_uri)
    special = {"uri", "warehouse", "schema_version", PY_IO_IMPL} & settings.catalog.properties.keys()
    if settings.catalog.type != "sql" or match is None or special:
        return None
    if local_path(settings.warehouse) is not None and re.search("[#?]", settings.warehouse):
        return None
    database = Path(match[1]).resolve()
    return database if database.is_file() else None


def _query(database: Path, statement: str, *parameters: str) -> list[tuple[Any, ...]]:
    """Returns the rows of a query. Opens the database read-only and does not create it."""
    address = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as connection:
        return connection.execute(statement, parameters).fetchall()
