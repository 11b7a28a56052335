"""The SQL catalog: PyIceberg's, made safe for concurrent processes, forks and lost connections."""

from __future__ import annotations

import logging
from pathlib import Path

from pyiceberg.catalog import Catalog
from pyiceberg.catalog.sql import IcebergNamespaceProperties, IcebergTables, SqlCatalog
from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchNamespaceError,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.io import FileIO
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import CommitTableResponse, StagedTable, Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import TableRequirement, TableUpdate
from pyiceberg.typedef import EMPTY_DICT, Identifier, Properties
from pyiceberg.utils.properties import property_as_bool
from sqlalchemy import Select, bindparam, delete, exists, insert, make_url, or_, select, update
from sqlalchemy.exc import IntegrityError, OperationalError, ProgrammingError, SQLAlchemyError
from sqlalchemy.orm import Session

from lakefeed import _paths
from lakefeed.catalog.database_connection import is_disconnect, open_engine, require_file, retry_reads
from lakefeed.catalog.durability import sync_files, sync_folder
from lakefeed.catalog.file_io import actual_location, open_io
from lakefeed.catalog.lake_record import change_record
from lakefeed.catalog.metadata_cache import MetadataCache
from lakefeed.catalog.metadata_updates import update_beside_snapshots
from lakefeed.catalog.path_roots import ROOTS_PROPERTY, Roots, plain_path
from lakefeed.catalog.properties import ROOT
from lakefeed.catalog.relocation import locate_warehouse
from lakefeed.catalog.table_output import discard_files, new_file
from lakefeed.catalog.tombstones import deletions_key, last_number, parse_deletions
from lakefeed.catalog.version_numbers import AdaptedTable
from lakefeed.catalog.warehouse_owner import Ownership
from lakefeed.storage.disk.disk_errors import storage_errors

logger = logging.getLogger(__name__)

CREATION_ATTEMPTS = 10

_PROPERTIES = IcebergNamespaceProperties.__table__.c
_TABLES = IcebergTables.__table__.c
NAMESPACE_PROPERTIES = select(_PROPERTIES.property_key, _PROPERTIES.property_value).where(
    _PROPERTIES.catalog_name == bindparam("catalog"), _PROPERTIES.namespace == bindparam("namespace")
)
METADATA_LOCATION = select(_TABLES.metadata_location).where(
    _TABLES.catalog_name == bindparam("catalog"),
    _TABLES.table_namespace == bindparam("namespace"),
    _TABLES.table_name == bindparam("table"),
)
"""Made once: to make a statement takes longer than to run it."""


class LakeSqlCatalog(SqlCatalog):
    """An SQL catalog that is safe to use from several processes and threads.

    It has the same tables as PyIceberg's own SQL catalog, so both can use one database. In addition, lost connections
    are replaced, several processes may create the tables at once, and a failed commit removes its metadata file.
    """

    def __init__(
        self, name: str, *, patience: float = 0.0, metadata_cache: MetadataCache | None = None, **properties: str
    ) -> None:
        self._patience = patience
        self._metadata_cache = MetadataCache() if metadata_cache is None else metadata_cache
        self._ownership: Ownership | None = None
        self._claimed = set[str]()
        super().__init__(name, **properties)

    @property
    def file(self) -> Path | None:
        """The SQLite file of the catalog, with symbolic links resolved; None for other databases."""
        url = make_url(str(self.properties["uri"]))
        name = url.database if url.get_backend_name() == "sqlite" else None
        return None if not name or name == ":memory:" or name.startswith("file:") else _paths.resolve(name)

    def locate(self, warehouse: str) -> None:
        """Sets the path roots of a lake that may have been moved or copied, and the ownership of its warehouse."""
        database, path = self.file, plain_path(warehouse)
        if database is None:
            return
        root, properties = locate_warehouse(database, warehouse, lambda: [location for *_, location in self.heads()])
        self.properties.update(properties)
        local = None if path is None else _paths.resolve(path)
        self._ownership = Ownership(database, warehouse, local, root, lambda: self._load_file_io(location=warehouse))

    def require_owner(self) -> None:
        """Checks that this catalog may write to its warehouse. Checks once per process.

        Raises:
            SharedWarehouseError: the warehouse belongs to another catalog.
        """
        if self._ownership is not None:
            self._ownership.check()
            self._ownership = None

    def _load_file_io(self, properties: Properties = EMPTY_DICT, location: str | None = None) -> FileIO:
        return open_io(self.properties, properties, location or str(self.properties["warehouse"]))

    def _init_catalog(self) -> None:
        url = make_url(str(self.properties["uri"]))
        if url.get_backend_name() == "sqlite":
            _make_parent(url.database)
        self.engine.dispose()
        self.engine = open_engine(url, self._patience)
        for attempt in range(CREATION_ATTEMPTS):
            try:
                super()._init_catalog()
                break
            except (OperationalError, ProgrammingError, IntegrityError):
                # Another process is creating the same tables; the next attempt finds them.
                if attempt + 1 == CREATION_ATTEMPTS:
                    raise
        if self.file is not None:
            require_file(self.engine, self.file)

    def _convert_orm_to_iceberg(self, orm_table: IcebergTables) -> Table:
        location = orm_table.metadata_location
        cached = self._metadata_cache.get(location)
        if cached is None:
            loaded = super()._convert_orm_to_iceberg(orm_table)
            self._metadata_cache.add(loaded.metadata_location, loaded.metadata)
            return loaded
        identifier = (*Catalog.identifier_to_tuple(orm_table.table_namespace), orm_table.table_name)
        io = self._load_file_io(cached.properties, location)
        return Table(identifier, cached, str(location), io, self)

    @retry_reads
    def load_table(self, identifier: str | Identifier) -> Table:
        return super().load_table(identifier)

    @retry_reads
    def table_exists(self, identifier: str | Identifier) -> bool:
        return super().table_exists(identifier)

    @retry_reads
    def list_tables(self, namespace: str | Identifier) -> list[Identifier]:
        return super().list_tables(namespace)

    @retry_reads
    def list_namespaces(self, namespace: str | Identifier = ()) -> list[Identifier]:
        return super().list_namespaces(namespace)

    @retry_reads
    def namespace_exists(self, namespace: str | Identifier) -> bool:
        name = Catalog.namespace_to_string(namespace, NoSuchNamespaceError)
        columns = (
            (IcebergTables.catalog_name, IcebergTables.table_namespace),
            (IcebergNamespaceProperties.catalog_name, IcebergNamespaceProperties.namespace),
        )
        matches = [
            exists().where(owner == self.name, or_(column == name, column.startswith(f"{name}.", autoescape=True)))
            for owner, column in columns
        ]
        with Session(self.engine) as session:
            return bool(session.scalar(select(or_(*matches))))

    @retry_reads
    def load_namespace_properties(self, namespace: str | Identifier) -> Properties:
        wanted = {"catalog": self.name, "namespace": Catalog.namespace_to_string(namespace)}
        with self.engine.connect() as connection:
            properties = {row[0]: row[1] for row in connection.execute(NAMESPACE_PROPERTIES, wanted)}
        return properties or super().load_namespace_properties(namespace)  # which tells whether the namespace exists

    @retry_reads
    def heads(self) -> list[tuple[str, str, str]]:
        """Returns namespace, name and metadata location of every table, with one query."""
        statement = select(
            IcebergTables.table_namespace, IcebergTables.table_name, IcebergTables.metadata_location
        ).where(IcebergTables.catalog_name == self.name, IcebergTables.metadata_location.is_not(None))
        with Session(self.engine) as session:
            return [(namespace, name, str(location)) for namespace, name, location in session.execute(statement)]

    def commit_table(
        self, table: Table, requirements: tuple[TableRequirement, ...], updates: tuple[TableUpdate, ...]
    ) -> CommitTableResponse:
        self.require_owner()
        current = self._load_current(table)
        if current is not None and ROOT in current.properties:
            self.claim(current.metadata.location)
        staged = self._stage(current, table.name(), requirements, updates)
        if current is not None and staged.metadata == current.metadata:
            return CommitTableResponse(metadata=current.metadata, metadata_location=current.metadata_location)
        with new_file(staged.io, staged.metadata_location) as output:
            ToOutputFile.table_metadata(staged.metadata, output)
            path = actual_location(staged.io, staged.metadata_location)
            sync_files([path])
            sync_folder(path)
        try:
            self._swap_metadata_location(staged, current)
        except (CommitFailedException, TableAlreadyExistsError):
            discard_files(staged.io, [staged.metadata_location])
            raise
        except BaseException as error:
            if is_disconnect(error):
                raise CommitStateUnknownException("the connection to the catalog ended during a commit") from error
            if self._points_elsewhere(staged):
                discard_files(staged.io, [staged.metadata_location])
            raise
        if current is not None:
            self._delete_dropped_metadata(staged.io, current.metadata, staged.metadata)
        self._metadata_cache.add(staged.metadata_location, staged.metadata)
        return CommitTableResponse(metadata=staged.metadata, metadata_location=staged.metadata_location)

    def _stage(
        self,
        current: Table | None,
        identifier: Identifier,
        requirements: tuple[TableRequirement, ...],
        updates: tuple[TableUpdate, ...],
    ) -> StagedTable:
        """Returns the updated table, which is not written yet."""
        if current is None:
            return self._update_and_stage_table(current, identifier, requirements, updates)
        for requirement in requirements:
            requirement.validate(current.metadata)
        staged: list[StagedTable] = []

        def update(metadata: TableMetadata) -> TableMetadata:
            light = Table(identifier, metadata, current.metadata_location, current.io, self)
            staged.append(self._update_and_stage_table(light, identifier, (), updates))
            return staged[0].metadata

        metadata = update_beside_snapshots(current.metadata, updates, update)
        staged[0].metadata = metadata
        return staged[0]

    @retry_reads
    def metadata_location(self, identifier: str | Identifier) -> str | None:
        """Returns the location of the metadata of a table, which may be unreadable; None without a table."""
        namespace = Catalog.namespace_to_string(Catalog.namespace_from(identifier))
        wanted = {"catalog": self.name, "namespace": namespace, "table": Catalog.table_name_from(identifier)}
        with self.engine.connect() as connection:
            location: str | None = connection.scalar(METADATA_LOCATION, wanted)
        return location

    def owns(self, location: str) -> bool:
        """Returns whether files below a location belong to this lake only, not also to a copy or another lake."""
        path = plain_path(location)
        if self.file is None or location in self._claimed:
            return True
        if path is None:
            return f"{location}/".startswith(f"{str(self.properties['warehouse']).rstrip('/')}/")
        roots = [recorded for recorded, _ in Roots.parse(self.properties.get(ROOTS_PROPERTY)).pairs]
        return any(f"{path}/".startswith(f"{root}/") for root in roots)

    def claim(self, location: str) -> None:
        """Makes this catalog the owner of the location of a table outside the warehouse.

        Raises:
            SharedWarehouseError: it belongs to another catalog.
        """
        if self.file is not None and location not in self._claimed:
            actual = Roots.parse(self.properties.get(ROOTS_PROPERTY)).actual(location)
            path = plain_path(actual)
            local = None if path is None else _paths.resolve(path)
            Ownership(self.file, actual, local, location, lambda: self._load_file_io(location=actual)).check()
            self._claimed.add(location)

    def add_root(self, root: str) -> None:
        """Records a local root of tables that is in the folder of the catalog, so that it moves with the lake."""
        path = plain_path(root)
        if self.file is None or path is None or not _paths.resolve(path).is_relative_to(self.file.parent):
            return
        folder = str(_paths.resolve(path).relative_to(self.file.parent))
        change_record(self.file, lambda record: record.with_roots({path: folder}))

    def _load_current(self, table: Table) -> Table | None:
        """Returns the current table; the given one if it has not changed."""
        location = self.metadata_location(table.name())
        if location is None:
            return None
        if location == table.metadata_location and not isinstance(table, StagedTable | AdaptedTable):
            return table
        try:
            return self.load_table(table.name())
        except NoSuchTableError:
            return None

    def _points_elsewhere(self, staged: Table) -> bool:
        """Returns whether the catalog refers to another metadata file; False if that is unknown."""
        try:
            return self.metadata_location(staged.name()) != staged.metadata_location
        except (SQLAlchemyError, OSError) as error:
            logger.warning("keeping %s, to which the catalog may refer: %s", staged.metadata_location, error)
            return False

    def _swap_metadata_location(self, staged: Table, current: Table | None) -> None:
        """Sets the metadata location of a table with one compare-and-swap."""
        namespace, name = self._names(staged)
        with Session(self.engine) as session:
            if current is None:
                try:
                    session.execute(
                        insert(IcebergTables).values(
                            **self._create_table_row(namespace, name, staged.metadata_location)
                        )
                    )
                    self._check_numbers(session, staged)
                    session.commit()
                except IntegrityError as error:
                    raise TableAlreadyExistsError(f"Table {namespace}.{name} already exists") from error
                return
            swapped = session.execute(
                update(IcebergTables)
                .where(
                    IcebergTables.catalog_name == self.name,
                    IcebergTables.table_namespace == namespace,
                    IcebergTables.table_name == name,
                    IcebergTables.metadata_location == current.metadata_location,
                )
                .values(
                    metadata_location=staged.metadata_location,
                    previous_metadata_location=current.metadata_location,
                )
            )
            if swapped.rowcount < 1:  # type: ignore[attr-defined]  # a DML result is a CursorResult
                raise CommitFailedException(f"Table has been updated by another process: {namespace}.{name}")
            session.commit()

    def _check_numbers(self, session: Session, staged: Table) -> None:
        """Checks that the version numbers of a new table follow those of deleted tables of its name.

        Runs after the insert of the table. A delete records the number in the same transaction, so by then all numbers
        are recorded.

        Raises:
            CommitFailedException: they do not.
        """
        namespace, name = self._names(staged)
        record: str | None = session.scalar(self._select_property(namespace, deletions_key(name)))
        first = min((snapshot.sequence_number or 0 for snapshot in staged.metadata.snapshots), default=None)
        if first is not None and first <= last_number(parse_deletions(record)):
            raise CommitFailedException(f"Table {namespace}.{name} was created and deleted by another process")

    def _select_property(self, namespace: str, key: str) -> Select[str]:
        return select(IcebergNamespaceProperties.property_value).where(
            IcebergNamespaceProperties.catalog_name == self.name,
            IcebergNamespaceProperties.namespace == namespace,
            IcebergNamespaceProperties.property_key == key,
        )

    @retry_reads
    def retire(self, identifier: Identifier, metadata_location: str, key: str, value: str) -> bool:
        """Drops a table and sets a property of its namespace in one transaction.

        Returns False, without a change, if the table has another metadata location.
        """
        namespace = Catalog.namespace_to_string(Catalog.namespace_from(identifier))
        name = Catalog.table_name_from(identifier)
        row = {"catalog_name": self.name, "namespace": namespace, "property_key": key}
        with Session(self.engine) as session:
            dropped = session.execute(
                delete(IcebergTables).where(
                    IcebergTables.catalog_name == self.name,
                    IcebergTables.table_namespace == namespace,
                    IcebergTables.table_name == name,
                    IcebergTables.metadata_location == metadata_location,
                )
            )
            if dropped.rowcount < 1:  # type: ignore[attr-defined]  # a DML result is a CursorResult
                # An earlier attempt may have succeeded although its answer was lost.
                recorded: str | None = session.scalar(self._select_property(namespace, key))
                return recorded == value
            session.execute(delete(IcebergNamespaceProperties).filter_by(**row))
            session.execute(insert(IcebergNamespaceProperties).values(**row, property_value=value))
            session.commit()
        return True

    def _delete_dropped_metadata(self, io: FileIO, before: TableMetadata, after: TableMetadata) -> None:
        """Deletes metadata files that dropped out of the log, unless other tables may refer to them."""
        dropped = {entry.metadata_file for entry in before.metadata_log} - {
            entry.metadata_file for entry in after.metadata_log
        }
        if not dropped or not self.owns(after.location) or not property_as_bool(after.properties, "gc.enabled", True):
            return
        if dropped.isdisjoint(location for *_, location in self.heads()):
            self._delete_old_metadata(io, before, after)

    @staticmethod
    def _names(table: Table) -> tuple[str, str]:
        identifier = table.name()
        return Catalog.namespace_to_string(Catalog.namespace_from(identifier)), Catalog.table_name_from(identifier)


def _make_parent(database: str | None) -> None:
    if database and database != ":memory:":
        with storage_errors(database):
            Path(database).parent.mkdir(parents=True, exist_ok=True)
