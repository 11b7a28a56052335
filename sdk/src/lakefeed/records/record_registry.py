"""The registry of a lake: its database, with tables of the current layout."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final, TypeVar

from cachetools import LRUCache
from sqlalchemy import Connection

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.registry_database import MissingTablesError, RegistryDatabase
from lakefeed.errors import InvalidArgumentError, quoted_list
from lakefeed.records import entities
from lakefeed.records.catalog_heads import TableName
from lakefeed.records.lost_runs import has_lost_runs, mark_lost_runs
from lakefeed.records.projection import Projection
from lakefeed.records.record import FeatureRow, FeatureSetRow, LabelRow, Record, RunRow, TransformRow, UserRow
from lakefeed.records.record_query import Query, get_record
from lakefeed.records.table_layout import ensure_layout
from lakefeed.records.version_rows import KINDS

Result = TypeVar("Result")

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
        self._projection = Projection(lake, self.database)
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

    def write(self) -> AbstractContextManager[Connection]:
        """Opens a transaction, as `RegistryDatabase.write`. Makes the tables on first use.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        self._prepare()
        return self.database.write()

    def catch_up(self) -> int:
        """Makes records of all versions of the lake that have none. Returns the number of tables that were read.

        Tables that are damaged are reported in the log, and their records stay as they are.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        return self._recover(self._projection.catch_up)

    def query(self, kind: str | None = None) -> Query[Record]:
        """Returns a query of records: of a kind ("dataset", "tree" or "file"), or of all kinds.

        Raises:
            InvalidArgumentError: there is no such kind.
        """
        query = Query(self, entities.RECORD_ENTITY)
        if kind is not None and kind not in KINDS:
            raise InvalidArgumentError(f"kind={kind!r:.80}: choose from {quoted_list(KINDS)}")
        return query if kind is None else query.filter(kind=kind)

    @property
    def runs(self) -> Query[RunRow]:
        """A query of all runs."""
        return Query(self, entities.RUN_ENTITY)

    @property
    def transforms(self) -> Query[TransformRow]:
        """A query of all transforms."""
        return Query(self, entities.TRANSFORM_ENTITY)

    @property
    def labels(self) -> Query[LabelRow]:
        """A query of all labels."""
        return Query(self, entities.LABEL_ENTITY)

    @property
    def features(self) -> Query[FeatureRow]:
        """A query of all features."""
        return Query(self, entities.FEATURE_ENTITY)

    @property
    def feature_sets(self) -> Query[FeatureSetRow]:
        """A query of all feature sets."""
        return Query(self, entities.FEATURE_SET_ENTITY)

    @property
    def users(self) -> Query[UserRow]:
        """A query of all users."""
        return Query(self, entities.USER_ENTITY)

    def get(self, uid: str, kind: str | None = None) -> Record:
        """Returns the record of a uid, of a stem (its newest), or of a prefix that only one has; also from the trash.

        Raises:
            RecordNotFoundError: there is none.
            MultipleRecordsError: several stems have the prefix.
        """
        return get_record(self.query(kind), uid)

    def read_current(self, work: Callable[[Connection], Result]) -> Result:
        """Returns the result of ``work`` on a connection, after the registry has caught up with the lake.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """

        def run() -> Result:
            with self.database.read() as connection:
                if self._projection.is_current(connection) and not has_lost_runs(connection):
                    return work(connection)
            self._projection.catch_up()
            mark_lost_runs(self.database)
            with self.database.read() as connection:
                return work(connection)

        return self._recover(run)

    def write_current(self, work: Callable[[Connection], Result]) -> Result:
        """Returns the result of ``work`` in a transaction that writes, after the registry has caught up with the lake.

        ``work`` is called once for each attempt, of which only the last is committed.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """

        def run() -> Result:
            with self.database.write() as connection:
                if self._projection.is_current(connection):
                    return work(connection)
            self._projection.catch_up()
            with self.database.write() as connection:
                return work(connection)

        return self._recover(run)

    def add_version(self, dataset: str, work: Callable[[Connection], Result]) -> Result:
        """Makes records of the versions of one dataset. Returns the result of ``work`` in the same transaction.

        Raises:
            CatalogUnavailableError: the database cannot be reached or refuses.
        """
        *namespace, name = self.lake.identifier(dataset)
        table = TableName(".".join(namespace), name)
        return self._recover(lambda: self._projection.catch_up_table(table, work))

    def _recover(self, run: Callable[[], Result]) -> Result:
        """Returns the result of a function. Runs it again if tables were dropped, which are made again."""
        self._prepare()
        try:
            return run()
        except MissingTablesError:
            self._ready = False
            self._prepare()
            return run()

    def _prepare(self) -> None:
        if not self._ready:
            ensure_layout(self.database)
            self._ready = True


_open: LRUCache[tuple[int, int], Registry] = LRUCache(MAX_OPEN)
