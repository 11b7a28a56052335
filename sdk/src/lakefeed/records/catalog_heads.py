"""The tables of the catalog of which the registry has not read the newest metadata."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import Connection, and_, bindparam, column, func, inspect, or_, select, table, tuple_

from lakefeed.catalog import trash
from lakefeed.catalog.embedded_pointers import CATALOG_NAME
from lakefeed.catalog.hidden_tables import HiddenTables
from lakefeed.catalog.lake import NAME_PART, Lake
from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.errors import DamagedDatasetError, DatasetNotFoundError, FileError
from lakefeed.records.inserts import chunks
from lakefeed.records.record_tables import SYNCED

if TYPE_CHECKING:
    from sqlalchemy import TableClause

POINTERS: Final[TableClause] = table(
    "iceberg_tables",
    column("catalog_name"),
    column("table_namespace"),
    column("table_name"),
    column("metadata_location"),
)
"""The table of an SQL catalog. Its rows are the current metadata of the tables."""

_SAME: Final = and_(SYNCED.c.namespace == POINTERS.c.table_namespace, SYNCED.c.name == POINTERS.c.table_name)
_OWN: Final = and_(POINTERS.c.catalog_name == CATALOG_NAME, POINTERS.c.metadata_location.is_not(None))
_CHANGED: Final = (
    select(POINTERS.c.table_namespace, POINTERS.c.table_name, POINTERS.c.metadata_location, SYNCED.c.table_uuid)
    .select_from(POINTERS.outerjoin(SYNCED, _SAME))
    .where(
        _OWN,
        or_(SYNCED.c.location.is_(None), SYNCED.c.location != POINTERS.c.metadata_location),
        or_(POINTERS.c.table_namespace == trash.NAMESPACE, func.substr(POINTERS.c.table_namespace, 1, 1) != "_"),
    )
)
_MISSING: Final = (
    select(SYNCED.c.namespace, SYNCED.c.name, SYNCED.c.table_uuid)
    .select_from(SYNCED.outerjoin(POINTERS, and_(_SAME, _OWN)))
    .where(POINTERS.c.table_name.is_(None))
)
_POINTER: Final = tuple_(POINTERS.c.table_namespace, POINTERS.c.table_name)
_LOCATIONS: Final = select(POINTERS.c.table_namespace, POINTERS.c.table_name, POINTERS.c.metadata_location).where(
    _OWN, _POINTER.in_(bindparam("names", expanding=True))
)


class TableName(NamedTuple):
    """The namespace and the name of a table in the catalog."""

    namespace: str
    name: str

    @property
    def is_dataset(self) -> bool:
        """True for a dataset, also one in the trash; False for a table that no list shows."""
        parts = [self.name] if self.in_trash else [*self.namespace.split("."), self.name]
        return len(parts) <= 3 and all(NAME_PART.fullmatch(part) for part in parts)

    @property
    def in_trash(self) -> bool:
        """True for a table of the trash."""
        return self.namespace == trash.NAMESPACE

    @property
    def identifier(self) -> tuple[str, ...]:
        """The identifier in the catalog."""
        return *self.namespace.split("."), self.name


@dataclass(frozen=True)
class Changes:
    """The difference between the catalog and what the registry has read.

    Attributes:
        changed: the location of the metadata of each table that is new or has changed.
        known: the uuids of the tables that had these names when the registry read them.
        missing: the tables that the catalog has no more, with their uuids.
    """

    changed: Mapping[TableName, str]
    known: Mapping[TableName, str]
    missing: Mapping[TableName, str | None]

    def __bool__(self) -> bool:
        return bool(self.changed or self.missing)


class CatalogHeads:
    """Compares the catalog with the registry.

    Takes two small queries where both are in one database. Other SQL catalogs are asked for all tables with one query,
    and catalogs of other kinds table by table.
    """

    def __init__(self, lake: Lake, database: RegistryDatabase) -> None:
        self._lake = lake
        self._is_catalog = database.is_catalog
        self._has_pointers = False

    def changes(self, connection: Connection) -> Changes:
        """Returns the tables that were changed, made or removed since the registry has read them."""
        if not self._is_catalog:
            return _compare(self.all_heads(), connection)
        if not self._has_pointers:
            self._has_pointers = inspect(connection).has_table(POINTERS.name)  # the catalog makes it on its first use
            if not self._has_pointers:
                return Changes({}, {}, {})
        changed = [(TableName(row[0], row[1]), row[2], row[3]) for row in connection.execute(_CHANGED)]
        datasets = [each for each in changed if each[0].is_dataset]
        return Changes(
            {name: location for name, location, _ in datasets},
            {name: uuid for name, _, uuid in datasets if uuid is not None},
            {TableName(row[0], row[1]): row[2] for row in connection.execute(_MISSING)},
        )

    def are_synced(self, connection: Connection) -> bool:
        """Returns whether nothing has changed; False also where that takes more than two small queries."""
        return self._is_catalog and self._has_pointers and not self.changes(connection)

    def locations(self, connection: Connection, names: Iterable[TableName]) -> dict[TableName, str]:
        """Returns the current location of the metadata of tables. Those that are gone are left out."""
        if not self._is_catalog:
            locations = ((name, self.location(name)) for name in names)
            return {name: location for name, location in locations if location is not None}
        current: dict[TableName, str] = {}
        for chunk in chunks(names, 200):
            rows = connection.execute(_LOCATIONS, {"names": [tuple(each) for each in chunk]})
            current |= {TableName(row[0], row[1]): str(row[2]) for row in rows}
        return current

    def all_heads(self) -> dict[TableName, str]:
        """Returns the location of the metadata of each dataset, also in the trash, as the catalog has it."""
        from lakefeed.catalog.sql_catalog import LakeSqlCatalog

        catalog = self._lake.catalog
        if isinstance(catalog, LakeSqlCatalog):
            return _datasets((TableName(namespace, name), location) for namespace, name, location in catalog.heads())
        names = [TableName(".".join(identifier[:-1]), identifier[-1]) for identifier in self._identifiers()]
        heads = ((name, self.location(name)) for name in names)
        return _datasets((name, location) for name, location in heads if location is not None)

    def _identifiers(self) -> Iterator[tuple[str, ...]]:
        yield from (self._lake.identifier(name) for name in self._lake.names())
        yield from ((trash.NAMESPACE, name) for name in HiddenTables(self._lake, trash.NAMESPACE).names())

    def location(self, name: TableName) -> str | None:
        """Returns the location of the metadata; a text that is none if it cannot be read; None without the table."""
        from lakefeed.catalog import damaged_tables

        location = self._lake.metadata_location(name.identifier)
        if location is not None:
            return location
        try:
            return damaged_tables.load_table(self._lake.catalog, name.identifier).metadata_location
        except (*damaged_tables.MISSING_TABLE_ERRORS, DatasetNotFoundError):
            return None
        except (DamagedDatasetError, FileError) as error:
            return f"damaged: {error}"


def _datasets(heads: Iterable[tuple[TableName, str]]) -> dict[TableName, str]:
    return {name: location for name, location in heads if name.is_dataset}


def _compare(heads: Mapping[TableName, str], connection: Connection) -> Changes:
    rows = connection.execute(select(SYNCED.c.namespace, SYNCED.c.name, SYNCED.c.location, SYNCED.c.table_uuid))
    known = {TableName(namespace, name): (location, uuid) for namespace, name, location, uuid in rows}
    changed = {name: location for name, location in heads.items() if known.get(name, (None, None))[0] != location}
    return Changes(
        changed,
        {name: uuid for name, (_, uuid) in known.items() if name in changed and uuid is not None},
        {name: uuid for name, (_, uuid) in known.items() if name not in heads},
    )
