"""The origins of versions in SQL: a copy of what commits say, for lineages that read only tables that are connected.

They are written with the records, and are read table by table.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BindParameter, Connection, Select, Text, and_, bindparam, cast, literal, or_, select, update

from lakefeed.catalog.properties import FIRST_NAME
from lakefeed.catalog.snapshot_facts import Columns
from lakefeed.records.catalog_heads import TableName
from lakefeed.records.inserts import chunks, insert_new, put
from lakefeed.records.origin_facts import (
    TableFact,
    VersionFact,
    columns_text,
    name_source,
    parse_columns,
    snapshot_source,
    upstream_sources,
    version_of_values,
    version_values,
)
from lakefeed.records.record_tables import ORIGIN, RECORD, TABLE, UPSTREAM, Presence
from lakefeed.records.version_rows import Row, SyncedTable

STATES: Final[Mapping[int, str]] = {
    Presence.PRESENT: "present",
    Presence.DATASET_IN_TRASH: "trash",
    Presence.GONE: "deleted",
}

_UUIDS: Final[BindParameter[Any]] = bindparam("keys", expanding=True)
_KNOWN: Final = select(TABLE.c.uuid).where(TABLE.c.uuid.in_(_UUIDS))
_TABLES: Final = select(TABLE).where(TABLE.c.uuid.in_(_UUIDS))
_SOURCES: Final = select(UPSTREAM.c.source).where(UPSTREAM.c.table_uuid.in_(_UUIDS)).distinct()
_SNAPSHOTS: Final = select(literal(snapshot_source("")) + cast(ORIGIN.c.snapshot, Text)).where(
    ORIGIN.c.table_uuid.in_(_UUIDS)
)
_NAMED: Final = select(UPSTREAM.c.table_uuid).where(UPSTREAM.c.source.in_(_UUIDS)).distinct()
_OF_SNAPSHOTS: Final = select(UPSTREAM.c.table_uuid).where(UPSTREAM.c.source.in_(_SNAPSHOTS)).distinct()
_HOLDERS: Final = select(ORIGIN.c.table_uuid).where(ORIGIN.c.snapshot.in_(_UUIDS)).distinct()
_WRITTEN: Final = select(ORIGIN.c.table_uuid).where(ORIGIN.c.run.in_(_UUIDS)).distinct()
_STEMS: Final = select(TABLE.c.uuid).where(TABLE.c.stem.in_(_UUIDS))
_FIRST_NAMES: Final = select(TABLE.c.uuid).where(TABLE.c.first_name.in_(_UUIDS))
_VERSIONS: Final = (
    select(ORIGIN.c.table_uuid, ORIGIN.c.json, RECORD.c.presence)
    .select_from(
        ORIGIN.outerjoin(
            RECORD, and_(RECORD.c.table_uuid == ORIGIN.c.table_uuid, RECORD.c.revision == ORIGIN.c.revision)
        )
    )
    .where(ORIGIN.c.table_uuid.in_(_UUIDS))
    .order_by(ORIGIN.c.table_uuid, ORIGIN.c.revision)
)


def write_origins(
    connection: Connection, tables: Sequence[SyncedTable], known: Mapping[str, Mapping[int, int]]
) -> None:
    """Writes the origins of the new versions of tables.

    Args:
        connection: a transaction.
        tables: the tables.
        known: the versions of which the records have been written before, by the uuids of the tables.
    """
    present = set(_scalars(connection, _KNOWN, [each.facts.table_uuid for each in tables]))
    origins: list[Row] = []
    sources: list[Row] = []
    for table in tables:
        uuid = table.facts.table_uuid
        before: Mapping[int, int] = known.get(uuid, {}) if uuid in present else {}
        values = [version_values(table, each) for each in table.facts.versions if each.version not in before]
        origins += [_origin_row(uuid, each) for each in values]
        distinct = dict.fromkeys(source for each in values for source in upstream_sources(table, each))
        sources += [{"table_uuid": uuid, "source": each} for each in distinct]
    insert_new(connection, ORIGIN, origins)
    insert_new(connection, UPSTREAM, sources)
    put(connection, TABLE, [_table_row(each) for each in tables])


def mark_deleted(connection: Connection, table_uuid: str) -> None:
    """Marks a table that does not exist any more."""
    connection.execute(update(TABLE).where(TABLE.c.uuid == table_uuid).values(presence=int(Presence.GONE)))


def _origin_row(uuid: str, values: Mapping[str, Any]) -> Row:
    text = json.dumps(values, separators=(",", ":"))
    return {
        "table_uuid": uuid,
        "revision": values["number"],
        "snapshot": values["snapshot"],
        "run": values.get("run"),
        "json": text,
    }


def _table_row(table: SyncedTable) -> Row:
    return {
        "uuid": table.facts.table_uuid,
        "stem": table.stem,
        "namespace": table.name.namespace,
        "name": table.name.name,
        "first_name": table.facts.properties.get(FIRST_NAME),
        "presence": int(table.presence),
        "location": table.facts.location,
        "schemas_json": columns_text(table.facts.columns),
    }


class OriginReader:
    """Reads tables and their origins on one connection.

    Args:
        connection: a connection to the registry, which has caught up with the lake.
        own_namespace: the namespace of names without one.
    """

    def __init__(self, connection: Connection, own_namespace: str) -> None:
        self._connection = connection
        self._own_namespace = own_namespace

    def tables(self, uuids: Iterable[str]) -> Iterator[TableFact]:
        """Yields tables with their versions. Unknown ones are left out."""
        rows = {row.uuid: row for row in self._rows(_TABLES, uuids)}
        schemas = {uuid: parse_columns(row.schemas_json) for uuid, row in rows.items()}
        versions: dict[str, dict[int, VersionFact]] = {uuid: {} for uuid in rows}
        for uuid, text, presence in self._rows(_VERSIONS, rows):
            fact = _version(text, schemas[uuid], presence)
            versions[uuid][fact.number] = fact
        for uuid, row in rows.items():
            name = self._dataset_name(row.namespace, row.name)
            yield TableFact(uuid, name, STATES[row.presence], row.first_name, row.location, versions[uuid])

    def known(self, uuids: Iterable[str]) -> set[str]:
        """Returns the uuids of the tables that the registry knows."""
        return set(_scalars(self._connection, _KNOWN, uuids))

    def named(self, names: Iterable[str]) -> set[str]:
        """Returns the uuids of the tables that have these names, or had them first."""
        uuids: set[str] = set()
        for chunk in chunks(names):
            keys = [TableName(*self._split(name)) for name in chunk]
            condition = or_(*(and_(TABLE.c.namespace == key.namespace, TABLE.c.name == key.name) for key in keys))
            uuids |= set(self._connection.scalars(select(TABLE.c.uuid).where(condition)))
            uuids |= set(self._connection.scalars(_FIRST_NAMES, {"keys": chunk}))
        return uuids

    def of_stems(self, stems: Iterable[str]) -> set[str]:
        """Returns the uuids of the tables of the first parts of uids."""
        return set(_scalars(self._connection, _STEMS, stems))

    def written_by(self, runs: Iterable[str]) -> set[str]:
        """Returns the uuids of the tables of which runs have written versions. Commits name a run by these texts."""
        return set(_scalars(self._connection, _WRITTEN, runs))

    def above(self, uuids: Iterable[str]) -> set[str]:
        """Returns the uuids of the tables that versions of these tables were made of."""
        named: set[str] = set()
        snapshots: set[int] = set()
        tables: set[str] = set()
        for source in _scalars(self._connection, _SOURCES, uuids):
            kind, colon, value = source.partition(":")
            if not colon:
                tables.add(source)
            elif kind == "name":
                named.add(value)
            else:
                snapshots.add(int(value))
        return tables | self.named(named) | set(_scalars(self._connection, _HOLDERS, snapshots))

    def below(self, tables: Iterable[TableFact]) -> set[str]:
        """Returns the uuids of the tables whose versions were made of versions of these tables."""
        known = list(tables)
        names = [name_source(name) for each in known for name in each.names]
        uuids = [each.uuid for each in known]
        named = set(_scalars(self._connection, _NAMED, [*uuids, *names]))
        return named | set(_scalars(self._connection, _OF_SNAPSHOTS, uuids))

    def _rows(self, query: Select[Any], keys: Iterable[str]) -> Iterator[Any]:
        for chunk in chunks(keys):
            yield from self._connection.execute(query, {"keys": chunk})

    def _split(self, dataset: str) -> tuple[str, str]:
        namespace, _, name = dataset.rpartition(".")
        return namespace or self._own_namespace, name

    def _dataset_name(self, namespace: str, name: str) -> str:
        return name if namespace == self._own_namespace else f"{namespace}.{name}"


def _version(text: str, schemas: Mapping[int, Columns], presence: int | None) -> VersionFact:
    return version_of_values(json.loads(text), schemas, presence is None or presence == Presence.GONE)


def _scalars(connection: Connection, query: Select[Any], keys: Iterable[Any]) -> Iterator[Any]:
    for chunk in chunks(keys):
        yield from connection.scalars(query, {"keys": chunk})
