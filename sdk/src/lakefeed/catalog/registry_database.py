"""Connections to the database of the registry, which is that of the catalog if the catalog is an SQL catalog."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, event, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError

from lakefeed.catalog.database_connection import open_engine
from lakefeed.config import Settings
from lakefeed.errors import CatalogUnavailableError, ConfigError, MissingDependencyError
from lakefeed.storage.disk.disk_errors import storage_errors
from lakefeed.storage.urls import redact

MISSING_TABLE: Final = re.compile(r"no such table: lakefeed_|relation \"lakefeed_\w+\" does not exist")
WRITES: Final = "lakefeed_writes"
"""The execution option of a connection whose transaction writes."""


class MissingTablesError(CatalogUnavailableError):
    """A table of the registry was dropped."""


class RegistryDatabase:
    """The database of the registry. Connects on first use. Thread-safe and fork-safe.

    Args:
        settings: the settings, which name the database.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._lock = threading.Lock()
        self._pid = os.getpid()
        self._engine: Engine | None = None

    @property
    def is_catalog(self) -> bool:
        """True if this is the database of the catalog, so that one query can read the tables of both."""
        settings = self.settings
        return settings.catalog.type == "sql" and settings.registry_uri == settings.catalog_uri

    @property
    def path(self) -> Path | None:
        """The SQLite file; None for another database."""
        url = make_url(self.settings.registry_uri)
        return Path(url.database) if url.get_backend_name() == "sqlite" and url.database else None

    @property
    def description(self) -> str:
        """The URL without a password."""
        return redact(self.settings.registry_uri)

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """Opens a connection for queries.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        with self._errors(), self.engine.connect() as connection:
            yield connection

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """Opens a transaction that writes. It is committed at the end of the block, or rolled back after an error.

        In SQLite it excludes other writers from the start, so that what it reads is still so when it writes.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        with (
            self._errors(),
            self.engine.connect().execution_options(**{WRITES: True}) as connection,
            connection.begin(),
        ):
            yield connection

    @property
    def engine(self) -> Engine:
        """The engine of SQLAlchemy. A child process opens its own."""
        if self._pid != os.getpid():
            self._lock, self._engine, self._pid = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._engine is None:
                with self._errors():
                    self._engine = _open(self.settings)
            return self._engine

    def close(self) -> None:
        """Closes the connections. They are opened again on use."""
        with self._lock:
            if self._engine is not None and self._pid == os.getpid():
                self._engine.dispose()
            self._engine = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        """Raises errors of connecting, and of the database, as errors that name the setting."""
        try:
            yield
        except (ArgumentError, NoSuchModuleError) as error:
            raise ConfigError(
                f"registry.uri={self.description!r} is not the URL of a database, such as "
                "'sqlite:////data/lake/registry.db' or 'postgresql+psycopg2://user@host/database'"
            ) from error
        except ModuleNotFoundError as error:
            raise MissingDependencyError(
                f"the registry {self.description!r} needs {error.name}: pip install 'lakefeed[postgres]'"
            ) from error
        except DBAPIError as error:
            reason = " ".join(str(error.orig).split())
            kind = MissingTablesError if MISSING_TABLE.search(reason) else CatalogUnavailableError
            raise kind(f"the database of the registry {self.description!r} cannot be used: {reason}") from error


def _open(settings: Settings) -> Engine:
    url = make_url(settings.registry_uri)
    engine = open_engine(url, settings.catalog.patience)
    if url.get_backend_name() == "sqlite":
        if url.database:
            with storage_errors(url.database):
                Path(url.database).parent.mkdir(parents=True, exist_ok=True)
        event.listen(engine, "connect", _leave_transactions)
        event.listen(engine, "begin", _begin)
    return engine


def _leave_transactions(connection: Any, _: Any) -> None:
    # The driver would begin transactions late, after the first reads of a transaction that writes.
    connection.isolation_level = None


def _begin(connection: Connection) -> None:
    writes = connection.get_execution_options().get(WRITES, False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")
