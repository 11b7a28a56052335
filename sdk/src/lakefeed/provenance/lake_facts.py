"""The facts about lineage that the commits of a lake have: who wrote each version, with which code, made of what.

They are in the summaries of the snapshots, so they do not need the registry. The facts of a table are remembered in
this process for the location of its metadata, which every commit changes.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from cachetools import LRUCache

from lakefeed.catalog import table_references, tombstones, version_numbers
from lakefeed.catalog.current_run import VersionRead, parse_inputs
from lakefeed.catalog.damaged_tables import load_table
from lakefeed.catalog.lake import NAME_PART, Lake
from lakefeed.catalog.properties import (
    CODE,
    DELETED_PREFIX,
    FIRST_NAME,
    INPUTS,
    LABEL,
    MESSAGE,
    ROWS,
    RUN,
    TRASHED,
    USER,
    WORK,
)
from lakefeed.catalog.trash import NAMESPACE as TRASH_NAMESPACE
from lakefeed.errors import DamagedDatasetError

if TYPE_CHECKING:
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

Columns: TypeAlias = tuple[tuple[str, str], ...]
"""The names and types of columns."""

MAX_TABLES: Final = 20_000
DAGSTER_PREFIX: Final = "dagster:"
EMPTY: Final[Mapping[str, Any]] = {}


@dataclass(frozen=True)
class SourceSpan:
    """The versions of a source that a routine has read: those after ``since`` up to ``version``."""

    dataset: str
    version: int
    since: int | None = None
    snapshot: int | None = None


@dataclass(frozen=True)
class VersionFact:
    """A version, and what its commit says about its origin.

    Attributes:
        number: the number of the version.
        snapshot: the id of the snapshot.
        parent: the number of the version before it; None for the first, and where all rows were replaced.
        at: the time of the commit, in milliseconds since 1970 (UTC).
        rows: the number of rows.
        run: the id of the run.
        code: the code, as text.
        inputs: the versions that the run had read before the commit.
        more_inputs: the number of further inputs.
        routine: the name of the routine.
        spans: the versions that the routine has read.
        columns: for each column, the columns of datasets that it is made of, if the commit says so.
        user: who wrote it.
        label: the label of a file tree.
        message: the message.
        schema: the names and types of the columns.
        manifests: the location of the manifest list, which is in the folder of the table that wrote it first.
    """

    number: int
    snapshot: int
    parent: int | None
    at: int
    rows: int
    run: str | None = None
    code: str | None = None
    inputs: tuple[VersionRead, ...] = ()
    more_inputs: int = 0
    routine: str | None = None
    spans: tuple[SourceSpan, ...] = ()
    columns: Mapping[str, tuple[tuple[str, str], ...]] | None = field(default=None, compare=False)
    user: str | None = None
    label: str | None = None
    message: str | None = None
    manifests: str = field(default="", repr=False)
    schema: Columns = field(default=(), repr=False, compare=False)


@dataclass(frozen=True)
class TableFact:
    """A dataset and its versions.

    Attributes:
        uuid: the uuid of the table.
        name: the name of the dataset; of a deleted one the last.
        state: "present", "trash", "deleted" or "damaged".
        first_name: the first name of a dataset that was renamed.
        location: the folder of the table.
        versions: the versions by number.
    """

    uuid: str
    name: str
    state: str = "present"
    first_name: str | None = None
    location: str = ""
    versions: Mapping[int, VersionFact] = field(default_factory=dict)


_tables: LRUCache[str, TableFact] = LRUCache(MAX_TABLES)
_lock = threading.Lock()


def read_tables(lake: Lake) -> dict[str, TableFact]:
    """Returns the datasets of a lake by the uuids of their tables, with those in the trash and deleted ones.

    A damaged table is left out.
    """
    tables: dict[str, TableFact] = {}
    for identifier, location in _identifiers(lake):
        fact = _read_table(lake, identifier, location)
        if fact is not None:
            tables[fact.uuid] = fact
    for fact in _deleted(lake):
        tables.setdefault(fact.uuid, fact)
    return tables


def _identifiers(lake: Lake) -> Iterator[tuple[tuple[str, ...], str | None]]:
    """Yields the tables of datasets, with the locations of their metadata where one query tells them."""
    from lakefeed.catalog.sql_catalog import LakeSqlCatalog

    catalog = lake.catalog
    if isinstance(catalog, LakeSqlCatalog):
        rows = (((*namespace.split("."), name), location) for namespace, name, location in catalog.heads())
        yield from ((identifier, location) for identifier, location in rows if _is_dataset(identifier))
    else:
        yield from ((tuple(each), None) for each in table_references.table_identifiers(lake) if _is_dataset(each))


def _is_dataset(identifier: Iterable[str]) -> bool:
    *namespace, name = identifier
    return namespace == [TRASH_NAMESPACE] or all(NAME_PART.fullmatch(part) for part in (*namespace, name))


def _read_table(lake: Lake, identifier: tuple[str, ...], location: str | None) -> TableFact | None:
    key = None if location is None else f"{lake.settings.catalog_uri} {'.'.join(identifier)} {location}"
    if key is not None:
        with _lock:
            known = _tables.get(key)
        if known is not None:
            return known
    from lakefeed.catalog.damaged_tables import MISSING_TABLE_ERRORS

    try:
        table = version_numbers.with_version_numbers(load_table(lake.catalog, identifier))
    except (*MISSING_TABLE_ERRORS, DamagedDatasetError):
        return None
    fact = _table_fact(lake, identifier, table)
    if key is not None and table.metadata_location == location:
        with _lock:
            _tables[key] = fact
    return fact


def _table_fact(lake: Lake, identifier: tuple[str, ...], table: Table) -> TableFact:
    name, state = lake.dataset_name(identifier) or identifier[-1], "present"
    if identifier[0] == TRASH_NAMESPACE:
        name, state = _name_in_trash(table, name), "trash"
    snapshots = [each for each in table.metadata.snapshots if not version_numbers.is_column_snapshot(each)]
    numbers = {each.snapshot_id: each.sequence_number or 0 for each in snapshots}
    rows = {each.snapshot_id: _rows(each) for each in snapshots}
    schemas = {each.schema_id: _fields(each) for each in table.metadata.schemas}
    facts = (_version_fact(each, numbers, rows, schemas) for each in snapshots)
    return TableFact(
        str(table.metadata.table_uuid),
        name,
        state,
        table.properties.get(FIRST_NAME),
        table.metadata.location.rstrip("/"),
        {each.number: each for each in sorted(facts, key=lambda fact: fact.number)},
    )


def _name_in_trash(table: Table, name: str) -> str:
    try:
        return str(json.loads(table.properties[TRASHED])["name"])
    except (KeyError, ValueError, TypeError):
        return name


def _entries(snapshot: Snapshot) -> Mapping[str, str]:
    return EMPTY if snapshot.summary is None else snapshot.summary.additional_properties


def canonical_run(run: str | None) -> str | None:
    """Returns the id of a run. A run of Dagster has its id there, with or without a prefix."""
    return None if run is None else run.removeprefix(DAGSTER_PREFIX) or run


def _rows(snapshot: Snapshot) -> int:
    entries = _entries(snapshot)
    text = entries.get(ROWS) or entries.get("total-records") or "0"
    return int(text) if text.isdecimal() else 0


def _fields(schema: Schema) -> Columns:
    return tuple((each.name, str(each.field_type)) for each in schema.fields)


def columns_of(table: Table) -> Columns:
    """Returns the names and types of the columns of a table."""
    return _fields(table.schema())


def _version_fact(
    snapshot: Snapshot, numbers: Mapping[int, int], rows: Mapping[int, int], schemas: Mapping[int, Columns]
) -> VersionFact:
    entries = _entries(snapshot)
    inputs, more = parse_inputs(entries.get(INPUTS), snapshot.timestamp_ms)
    work = _work(entries.get(WORK))
    before = snapshot.parent_snapshot_id
    return VersionFact(
        numbers[snapshot.snapshot_id],
        snapshot.snapshot_id,
        None if before is None or _replaces_all(entries, rows.get(before, 0)) else numbers.get(before),
        snapshot.timestamp_ms,
        rows[snapshot.snapshot_id],
        canonical_run(entries.get(RUN)),
        entries.get(CODE),
        inputs,
        more,
        _text(work.get("routine")),
        tuple(_spans(work)),
        _columns(work.get("columns")),
        entries.get(USER),
        entries.get(LABEL),
        entries.get(MESSAGE),
        snapshot.manifest_list or "",
        schemas.get(snapshot.schema_id or 0, ()),
    )


def _replaces_all(entries: Mapping[str, str], before: int) -> bool:
    deleted = entries.get("deleted-records", "0")
    return before > 0 and deleted.isdecimal() and int(deleted) >= before and "lakefeed.rows-added" not in entries


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _work(text: str | None) -> Mapping[str, Any]:
    try:
        work = json.loads(text or "{}")
    except ValueError:  # of another program
        return EMPTY
    return work if isinstance(work, dict) else EMPTY


def _spans(work: Mapping[str, Any]) -> Iterator[SourceSpan]:
    read = work.get("read")
    for each in read if isinstance(read, list) else ():
        if isinstance(each, dict) and isinstance(each.get("source"), str) and type(each.get("to_version")) is int:
            yield SourceSpan(each["source"], each["to_version"], each.get("from_version"), each.get("to_snapshot"))


def _columns(value: object) -> Mapping[str, tuple[tuple[str, str], ...]] | None:
    if not isinstance(value, dict):
        return None
    try:
        return {name: tuple((str(dataset), str(column)) for dataset, column in of) for name, of in value.items()}
    except (TypeError, ValueError):
        return None


def _deleted(lake: Lake) -> list[TableFact]:
    """Returns the datasets that were deleted, as far as their namespaces record them, with their last names."""
    endings = sorted(_endings(lake), key=lambda each: (each[1].to not in ("", tombstones.TRASH), -each[1].at))
    last: dict[str, TableFact] = {}
    for name, ending in endings:
        known = last.get(ending.table)
        if known is None:
            last[ending.table] = TableFact(ending.table, name, "deleted")
        elif known.first_name is None:
            last[ending.table] = replace(known, first_name=name)
    return list(last.values())


def _endings(lake: Lake) -> Iterator[tuple[str, tombstones.Deletion]]:
    """Yields each recorded end of the name of a dataset."""
    from pyiceberg.exceptions import NoSuchNamespaceError

    for namespace in table_references.list_namespaces(lake):
        try:
            properties = lake.catalog.load_namespace_properties(namespace)
        except (NoSuchNamespaceError, NotImplementedError):
            continue
        for key, value in properties.items():
            if key.startswith(DELETED_PREFIX):
                name = lake.dataset_name((*namespace, key.removeprefix(DELETED_PREFIX))) or key
                yield from ((name, each) for each in tombstones.parse_deletions(value))
