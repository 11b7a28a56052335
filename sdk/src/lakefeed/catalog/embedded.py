"""Tables of the embedded catalog, read from its SQLite file without the catalog.

A catalog of PyIceberg brings SQLAlchemy, and importing that takes longer than reading the first row of a dataset. To
load a table takes one row of the SQLite file; its metadata and files are read as the catalog itself reads them. What is
not plain reading of a catalog that is there, errors included, is left to the catalog.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable
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
from lakefeed.catalog.object_store import s3_properties_from_environment
from lakefeed.catalog.parsed_metadata import MetadataCache
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
LOCK_TIMEOUT_SECONDS = 60.0
HEADS_QUERY = "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND metadata_location IS NOT NULL"
POINTER_QUERY = (
    "SELECT metadata_location FROM iceberg_tables WHERE catalog_name = ? AND table_namespace = ? AND table_name = ? "
    "AND (iceberg_type = 'TABLE' OR iceberg_type IS NULL)"
)


def catalog_properties(settings: Settings) -> dict[str, str]:
    """Returns the properties of a catalog of PyIceberg."""
    places = {"uri": settings.catalog_uri, "warehouse": settings.warehouse}
    return {**s3_properties_from_environment(), **places, **settings.catalog.properties}


def sql_properties(settings: Settings) -> dict[str, str]:
    """Returns the properties of an SQL catalog, whose local files are opened by ours."""
    properties = catalog_properties(settings)
    if local_path(settings.warehouse) is None and PY_IO_IMPL in properties:
        properties[file_io.DELEGATE_PROPERTY] = properties.pop(PY_IO_IMPL)
    properties.setdefault(PY_IO_IMPL, file_io.IMPLEMENTATION)
    return properties


class EmbeddedTables:
    """Loads tables of a SQLite catalog as the catalog does, which ``open_catalog`` opens for all else.

    No connection is kept open. Safe between threads.
    """

    def __init__(self, database: Path, properties: dict[str, str], open_catalog: Callable[[], Catalog]) -> None:
        self._database = database
        self._properties = properties
        self._open_catalog = open_catalog
        self._parsed = MetadataCache()

    @classmethod
    def of(cls, settings: Settings, open_catalog: Callable[[], Catalog]) -> Self | None:
        """Returns the tables of the catalog of the settings; None where the catalog itself has to be opened.

        That is so where it is not an embedded one, is not there yet, cannot be read, or has special properties.
        """
        database = _sqlite_file(settings)
        if database is None:
            return None
        try:
            _query(database, POINTER_QUERY, CATALOG_NAME, "", "")  # as PyIceberg lays it out today
            _, places = locate_warehouse(
                database, settings.warehouse, lambda: [row[0] for row in _query(database, HEADS_QUERY, CATALOG_NAME)]
            )
        except sqlite3.Error:
            return None
        return cls(database, {**sql_properties(settings), **places}, open_catalog)

    def load_table(self, identifier: Identifier) -> Table:
        """Returns the table with its newest metadata.

        Raises:
            NoSuchTableError: there is none of that name.
        """
        try:
            row = next(iter(_query(self._database, POINTER_QUERY, CATALOG_NAME, *identifier)), None)
        except sqlite3.Error:
            return self._open_catalog().load_table(identifier)
        if row is None or not row[0]:
            raise NoSuchTableError(f"Table does not exist: {'.'.join(identifier)}")
        location = str(row[0])
        metadata = self._metadata(location)
        io = file_io.open_io(self._properties, metadata.properties, location)
        return EmbeddedTable(identifier, metadata, location, io, self._open_catalog)

    def _metadata(self, location: str) -> TableMetadata:
        metadata = self._parsed.get(location)
        if metadata is None:
            io = load_file_io(self._properties, location)
            metadata = FromInputFile.table_metadata(io.new_input(location))
            self._parsed.add(location, metadata)
        return metadata


class EmbeddedTable(Table):
    """A table whose catalog is opened when it is asked for: to write, or to load the table anew."""

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
        """Takes what the base class sets, which is no catalog yet."""


def _sqlite_file(settings: Settings) -> Path | None:
    """The SQLite file of the catalog; None where the catalog is of another kind or told special things."""
    match = SQLITE_URL.fullmatch(settings.catalog_uri)
    special = {"uri", "warehouse", "schema_version", PY_IO_IMPL} & settings.catalog.properties.keys()
    if settings.catalog.type != "sql" or match is None or special:
        return None
    if local_path(settings.warehouse) is not None and re.search("[#?]", settings.warehouse):
        return None
    database = Path(match[1]).resolve()
    return database if database.is_file() else None


def _query(database: Path, question: str, *given: str) -> list[tuple[Any, ...]]:
    """The rows that answer a question; the database is only read, and not made where it is not there."""
    address = f"file:{quote(str(database))}?mode=ro"
    with closing(sqlite3.connect(address, uri=True, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as connection:
        return connection.execute(question, given).fetchall()
