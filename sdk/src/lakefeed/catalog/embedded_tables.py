"""Tables of the embedded catalog, read from its SQLite file without SQLAlchemy.

A table is one row of the SQLite file; its metadata and files are read as the catalog reads them. Everything else,
errors included, is left to the catalog.
"""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Self

from cachetools import LRUCache
from pyiceberg.exceptions import NoSuchTableError
from pyiceberg.io import PY_IO_IMPL, load_file_io
from pyiceberg.serializers import FromInputFile
from pyiceberg.table import Table

from lakefeed.catalog import file_io
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.embedded_pointers import EmbeddedPointers
from lakefeed.catalog.metadata_cache import METADATA_CACHE_SIZE, MetadataCache

if TYPE_CHECKING:
    from pyiceberg.catalog import Catalog
    from pyiceberg.io import FileIO
    from pyiceberg.table.metadata import TableMetadata
    from pyiceberg.typedef import Identifier

    from lakefeed.config import Settings

S3_VARIABLES = {
    "s3.endpoint": ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"),
    "s3.region": ("AWS_REGION", "AWS_DEFAULT_REGION"),
}
"""The environment variables of each S3 property of PyIceberg. The first one that is set counts."""


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

    def __init__(
        self,
        pointers: EmbeddedPointers,
        properties: dict[str, str],
        open_catalog: Callable[[], Catalog],
        metadata_cache: MetadataCache,
    ) -> None:
        self._pointers = pointers
        self._properties = properties
        self._open_catalog = open_catalog
        self._metadata_cache = metadata_cache
        self._lock = threading.Lock()
        self._ios: LRUCache[str, FileIO] = LRUCache(METADATA_CACHE_SIZE)

    @classmethod
    def of(
        cls,
        settings: Settings,
        open_catalog: Callable[[], Catalog],
        pointers: EmbeddedPointers | None = None,
        metadata_cache: MetadataCache | None = None,
    ) -> Self | None:
        """Returns the tables of the catalog of the settings; None if the catalog itself must be opened.

        Args:
            settings: the settings.
            open_catalog: opens the catalog for everything else.
            pointers: those of the catalog, if they are known.
            metadata_cache: that of the catalog, which has what it committed; None for a cache of its own.
        """
        pointers = EmbeddedPointers.of(settings) if pointers is None else pointers
        if pointers is None:
            return None
        cache = MetadataCache() if metadata_cache is None else metadata_cache
        return cls(pointers, {**sql_properties(settings), **pointers.locations}, open_catalog, cache)

    def load_table(self, identifier: Identifier) -> Table:
        """Returns the table with its newest metadata.

        Raises:
            NoSuchTableError: the table does not exist.
        """
        try:
            location = self._pointers.metadata_location(identifier)
        except sqlite3.Error:
            return self._open_catalog().load_table(identifier)
        if location is None:
            raise NoSuchTableError(f"Table does not exist: {'.'.join(identifier)}")
        metadata = self._metadata(location)
        return EmbeddedTable(identifier, metadata, location, self._io(metadata, location), self._open_catalog)

    def _io(self, metadata: TableMetadata, location: str) -> FileIO:
        """Returns the FileIO of a table. Tables of a local warehouse get the one that they had."""
        with self._lock:
            io = self._ios.get(location)
        if io is None:
            io = file_io.open_io(self._properties, metadata.properties, location)
            if self._pointers.roots is not None:
                with self._lock:
                    self._ios[location] = io
        return io

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
