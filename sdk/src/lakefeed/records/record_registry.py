"""The registry of a lake: its database, with tables of the current layout."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Final

from cachetools import LRUCache
from sqlalchemy import Connection

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.records.table_layout import ensure_layout

MAX_OPEN: Final = 16


class Registry:
    """The registry of a lake. Construction does no I/O. Thread-safe and fork-safe.

    Attributes:
        lake: the lake.
        database: the database, whose tables are those of `lakefeed.records.record_tables`.
    """

    def __init__(self, lake: Lake) -> None:
        self.lake = lake
        self.database = RegistryDatabase(lake.settings)
        self._ready = False

    @classmethod
    def open(cls, lake: Lake | None = None) -> Registry:
        """Returns the registry of a lake (None: the current one). The same lake gives the same registry."""
        lake = Lake.current() if lake is None else lake
        key = os.getpid(), id(lake)
        registry = _open.get(key)
        if registry is None or registry.lake is not lake:
            registry = _open[key] = cls(lake)
        return registry

    def read(self) -> AbstractContextManager[Connection]:
        """Opens a connection for queries. Makes the tables on first use.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        self._prepare()
        return self.database.read()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Opens a transaction, as `RegistryDatabase.write`. Makes the tables on first use.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        self._prepare()
        with self.database.write() as connection:
            yield connection

    def _prepare(self) -> None:
        if not self._ready:
            ensure_layout(self.database)
            self._ready = True


_open: LRUCache[tuple[int, int], Registry] = LRUCache(MAX_OPEN)
