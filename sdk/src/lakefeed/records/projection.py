"""The registry catches up with the lake: versions that anyone wrote become records.

The catalog is compared with what was read last, and the changed tables are read. All that a version's commit tells is a
function of the lake, so rows that exist are left alone, and lost tables are filled again. Facts that change, such as
the visibility, are not touched.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from cachetools import TTLCache
from sqlalchemy import Connection, and_, bindparam, or_, select, text, update

from lakefeed.catalog.durability import local_path
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.catalog.snapshot_facts import TableFacts, read_table_facts
from lakefeed.errors import FileError
from lakefeed.records import feature_rows, label_rows, origin_rows
from lakefeed.records.catalog_heads import CatalogHeads, TableName
from lakefeed.records.inserts import chunks, insert_new, put
from lakefeed.records.latest_rows import refresh_latest
from lakefeed.records.record_tables import INPUT, PARENT, RECORD, RUN, SYNCED, USER, Presence
from lakefeed.records.table_layout import ADVISORY_LOCK
from lakefeed.records.text_search import search_text
from lakefeed.records.version_rows import Row, SyncedTable, VersionRows, distinct

logger = logging.getLogger(__name__)

Result = TypeVar("Result")

TABLES_PER_TRANSACTION: Final = 250
RETRY_SECONDS: Final = 60.0
"""A process tries that often to read a damaged table, as long as its metadata file is the same."""
MAX_REPORTED: Final = 4096
ROUNDS: Final = 5
"""Other processes may write while the tables are read; what they wrote after that is left to the next query."""

_SYNCED_UUID: Final = select(SYNCED.c.table_uuid).where(
    SYNCED.c.namespace == bindparam("s"), SYNCED.c.name == bindparam("t")
)
_KNOWN: Final = select(RECORD.c.table_uuid, RECORD.c.revision, RECORD.c.presence).where(
    RECORD.c.table_uuid.in_(bindparam("uuids", expanding=True))
)
_SET_PRESENCE: Final = (
    update(RECORD)
    .where(RECORD.c.table_uuid == bindparam("u"), RECORD.c.revision == bindparam("r"))
    .values(presence=bindparam("p"))
)
_ELSEWHERE: Final = select(RECORD).where(
    RECORD.c.table_uuid == bindparam("u"),
    or_(RECORD.c.namespace != bindparam("s"), RECORD.c.table != bindparam("t")),
)


@dataclass(frozen=True)
class _Unreadable:
    """A table whose metadata cannot be read, with the reason."""

    location: str
    reason: str


class Projection:
    """Fills the registry of a lake from its commits. Thread-safe."""

    def __init__(self, lake: Lake, database: RegistryDatabase) -> None:
        self._lake = lake
        self._database = database
        self._heads = CatalogHeads(lake, database)
        self._reported: TTLCache[tuple[TableName, str], bool] = TTLCache(MAX_REPORTED, RETRY_SECONDS)

    def catch_up(self) -> int:
        """Reads what has changed since the last time. Returns the number of tables that were read."""
        tables = 0
        for _ in range(ROUNDS):
            with self._database.read() as connection:
                changes = self._heads.changes(connection)
            fresh = [name for name, each in changes.changed.items() if (name, each) not in self._reported]
            left = 0
            for names in chunks(fresh, TABLES_PER_TRANSACTION):
                tables += len(names)
                read = self._read(names, changes.changed)
                with self._writing() as connection:
                    left += self._write_current(connection, read, changes.known)
            if changes.missing:
                with self._writing() as connection:
                    self._retire(connection, changes.missing)
            if not left:
                break
        return tables

    def catch_up_table(self, name: TableName, work: Callable[[Connection], Result]) -> Result:
        """Reads one table, and returns the result of ``work``, which is called in the transaction that writes it.

        Costs the same whatever the number of other tables. Of those, `work` sees what was read before.
        """
        table: SyncedTable | _Unreadable | None = None
        for _ in range(ROUNDS):
            with self._writing() as connection:
                location = self._heads.locations(connection, [name]).get(name)
                if location is None:
                    break  # it was renamed or deleted meanwhile
                if local_path(location) is not None:
                    table = self._read_table(name, location)
                if table is not None and table.location == location:
                    uuid = connection.scalar(_SYNCED_UUID, {"s": name.namespace, "t": name.name})
                    self._write(connection, {name: table}, {} if uuid is None else {name: uuid})
                    return work(connection)
            table = self._read_table(name, location)  # from a store, while others may write
        self.catch_up()
        with self._writing() as connection:
            return work(connection)

    def is_current(self, connection: Connection) -> bool:
        """Returns whether the registry has read all tables, as a transaction sees them. It may be False without need.

        For catalogs in another database it is always False, because a transaction should not wait for them.
        """
        return self._heads.are_synced(connection)

    def _read(
        self, names: Sequence[TableName], locations: Mapping[TableName, str]
    ) -> dict[TableName, SyncedTable | _Unreadable]:
        def read(name: TableName) -> SyncedTable | _Unreadable:
            return self._read_table(name, locations[name])

        threads = self._lake.settings.read.threads
        if len(names) < 2 or threads < 2 or local_path(locations[names[0]]) is not None:
            return {name: read(name) for name in names}
        with ThreadPoolExecutor(threads, thread_name_prefix="lakefeed-registry") as pool:
            return dict(zip(names, pool.map(read, names), strict=True))

    def _read_table(self, name: TableName, location: str) -> SyncedTable | _Unreadable:
        from lakefeed.catalog.damaged_tables import MISSING_TABLE_ERRORS

        try:
            facts: TableFacts = read_table_facts(self._lake, name.identifier, location)
        except (*MISSING_TABLE_ERRORS, FileError, OSError) as error:
            return _Unreadable(location, " ".join(str(error).split()))
        return SyncedTable(name, location, facts, self._lake.settings.catalog.namespace)

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        """Opens the transaction of the one process that writes records of versions at a time."""
        with self._database.write() as connection:
            if connection.dialect.name == "postgresql":
                connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK + 1})
            yield connection

    def _write_current(
        self,
        connection: Connection,
        tables: Mapping[TableName, SyncedTable | _Unreadable],
        known: Mapping[TableName, str],
    ) -> int:
        """Writes what was read. Returns the number of tables that were changed again meanwhile, and are left out."""
        current = self._heads.locations(connection, tables)
        same = {name: each for name, each in tables.items() if current.get(name) == each.location}
        self._write(connection, same, known)
        return len(tables) - len(same)

    def _write(
        self,
        connection: Connection,
        tables: Mapping[TableName, SyncedTable | _Unreadable],
        known: Mapping[TableName, str],
    ) -> None:
        good = [each for each in tables.values() if isinstance(each, SyncedTable)]
        stems = {each.stem for each in good}
        if good:
            stems |= _project(connection, good, known)
        for name, each in tables.items():
            if isinstance(each, _Unreadable):
                self._report(connection, name, each)
        refresh_latest(connection, stems)

    def _retire(self, connection: Connection, missing: Mapping[TableName, str | None]) -> None:
        """Marks the records of tables that the catalog has no more, unless another process has made them again."""
        current = self._heads.locations(connection, missing)
        gone = {name: uuid for name, uuid in missing.items() if name not in current}
        refresh_latest(connection, _retire(connection, gone))

    def _report(self, connection: Connection, name: TableName, table: _Unreadable) -> None:
        """Records that a table cannot be read. Its records stay as they are."""
        logger.warning("the registry cannot read %s: %s", ".".join(name), table.reason)
        self._reported[name, table.location] = True
        of_name = and_(SYNCED.c.namespace == name.namespace, SYNCED.c.name == name.name)
        known = connection.scalar(select(SYNCED.c.table_uuid).where(of_name))
        put(connection, SYNCED, [_synced_row(name, None, known, table.reason)])


def _project(connection: Connection, tables: Sequence[SyncedTable], known: Mapping[TableName, str]) -> set[str]:
    """Writes the records of tables. Returns the stems of others that changed: new files, and tables of these names."""
    rows = VersionRows()
    presences = _known_versions(connection, [each.facts.table_uuid for each in tables])
    moved: list[Row] = []
    returned: list[Row] = []
    gone: list[Row] = []
    for table in tables:
        uuid, before = table.facts.table_uuid, presences.get(table.facts.table_uuid, {})
        now = {each.version for each in table.facts.versions}
        for version in table.facts.versions:
            if version.version not in before:
                rows.add(table, version)
            elif before[version.version] != table.presence:
                returned.append({"u": uuid, "r": version.version, "p": int(table.presence)})
        gone += [
            {"u": uuid, "r": each, "p": int(Presence.GONE)}
            for each, presence in before.items()
            if each not in now and presence != Presence.GONE
        ]
        if before:
            name = table.name
            moved.append({"uuid": uuid, "namespace": name.namespace, "table": name.name, "dataset": table.dataset})
    stems = _insert(connection, rows)
    origin_rows.write_origins(connection, tables, presences)
    _rename(connection, moved)
    if returned or gone:
        connection.execute(_SET_PRESENCE, [*returned, *gone])
    put(connection, SYNCED, [_synced_row(each.source, each.location, each.facts.table_uuid, None) for each in tables])
    replaced = {known[each.source] for each in tables if known.get(each.source) not in (None, each.facts.table_uuid)}
    return stems | _retire(connection, {}, replaced)


def _known_versions(connection: Connection, uuids: Sequence[str]) -> dict[str, dict[int, int]]:
    """Returns the presence of the known versions of tables."""
    known: dict[str, dict[int, int]] = {}
    for chunk in chunks(uuids):
        for uuid, revision, presence in connection.execute(_KNOWN, {"uuids": chunk}):
            known.setdefault(uuid, {})[revision] = presence
    return known


def _insert(connection: Connection, rows: VersionRows) -> set[str]:
    """Inserts rows. Returns the stems of the files that waited for the commits of the versions."""
    insert_new(connection, RECORD, rows.records)
    insert_new(connection, RUN, distinct(rows.runs, "uid"))
    insert_new(connection, USER, distinct(rows.users, "name"))
    insert_new(connection, INPUT, rows.inputs)
    label_rows.attach_names(connection, rows.labels)
    feature_rows.attach(connection, rows.feature_sets)
    _insert_parents(connection, rows.parents)
    stems: set[str] = set()
    for token, uid in rows.tokens:
        waiting = and_(RECORD.c.token == token, RECORD.c.presence == int(Presence.PENDING))
        stems.update(connection.scalars(select(RECORD.c.stem).where(waiting)))
        connection.execute(update(RECORD).where(waiting).values(presence=int(Presence.PRESENT)))
        connection.execute(update(PARENT).where(PARENT.c.child == token).values(child=uid))
    return stems


def _insert_parents(connection: Connection, parents: Sequence[Row]) -> None:
    """Inserts the parents of versions of file trees: as uids where their records are known, else as ids of trees."""
    resolved = []
    for row in parents:
        dataset, _, key = row["parent"].rpartition("@")
        namespace, _, name = dataset.rpartition(".")
        of_tree = and_(RECORD.c.namespace == namespace, RECORD.c.table == name, RECORD.c.tree_id == key)
        uid = connection.scalar(select(RECORD.c.uid).where(of_tree).limit(1))
        resolved.append({**row, "parent": uid or row["parent"]})
    insert_new(connection, PARENT, resolved)


def _rename(connection: Connection, moved: Sequence[Row]) -> None:
    """Gives the records of tables their names of now. Names that were given to records stay."""
    for table in moved:
        parameters = {"u": table["uuid"], "s": table["namespace"], "t": table["table"]}
        rows = connection.execute(_ELSEWHERE, parameters).mappings()
        values = [_renamed({str(name): value for name, value in row.items()}, table) for row in rows]
        if values:
            columns: Any = {name: bindparam(f"new_{name}") for name in ("namespace", "table", "name", "search_text")}
            changed = update(RECORD).where(RECORD.c.uid == bindparam("of_uid")).values(columns)
            connection.execute(changed, values)


def _renamed(row: Row, table: Row) -> Row:
    """Returns the parameters of the update of a record whose table has another name now."""
    named_after = row["name"] in (row["table"], f"{row['namespace']}.{row['table']}")
    name = table["dataset"] if named_after else row["name"]
    return {
        "of_uid": row["uid"],
        "new_namespace": table["namespace"],
        "new_table": table["table"],
        "new_name": name,
        "new_search_text": search_text({**row, "name": name}),
    }


def _retire(connection: Connection, missing: Mapping[TableName, str | None], uuids: Iterable[str] = ()) -> set[str]:
    """Marks the records of tables that no longer exist. Returns their stems.

    A table that the catalog has under another name still exists.
    """
    for name in missing:
        connection.execute(SYNCED.delete().where(SYNCED.c.namespace == name.namespace, SYNCED.c.name == name.name))
    stems: set[str] = set()
    for uuid in {*(each for each in missing.values() if each is not None), *uuids}:
        if connection.scalar(select(SYNCED.c.name).where(SYNCED.c.table_uuid == uuid).limit(1)) is None:
            of_table = and_(RECORD.c.table_uuid == uuid, RECORD.c.presence != int(Presence.GONE))
            stems |= set(connection.scalars(select(RECORD.c.stem).where(of_table).limit(1)))
            connection.execute(update(RECORD).where(of_table).values(presence=int(Presence.GONE)))
            origin_rows.mark_deleted(connection, uuid)
    return stems


def _synced_row(name: TableName, location: str | None, table_uuid: str | None, error: str | None) -> Row:
    return {
        "namespace": name.namespace,
        "name": name.name,
        "location": location,
        "table_uuid": table_uuid,
        "error": error,
    }


def unreadable_tables(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yields the tables that could not be read, with the reasons."""
    for namespace, name, error in connection.execute(
        select(SYNCED.c.namespace, SYNCED.c.name, SYNCED.c.error).where(SYNCED.c.error.is_not(None))
    ):
        yield f"{namespace}.{name}", error
