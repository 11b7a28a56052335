"""The versions of a table as its metadata file tells them, read without PyIceberg's models.

To read many tables this way takes a tenth of the time. Tables with expired snapshots, or with snapshots that have no
number, are loaded with PyIceberg, which knows their ancestry.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import HAS_COLUMN_FILES, ROWS, VERSION_NUMBERS

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.typedef import Identifier

Columns: TypeAlias = tuple[tuple[str, str], ...]
"""The names and types of columns."""

GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class SnapshotFacts:
    """A version of a table.

    Attributes:
        version: the number.
        snapshot_id: the id of the snapshot.
        timestamp_ms: the time of the commit, in milliseconds since 1970 (UTC).
        rows: the number of rows.
        bytes: the size of its data files.
        summary: the entries of the snapshot summary.
        parent_id: the id of the parent snapshot; None for the first.
        manifests: the location of the manifest list.
        schema_id: the id of the schema.
    """

    version: int
    snapshot_id: int
    timestamp_ms: int
    rows: int
    bytes: int
    summary: Mapping[str, str]
    parent_id: int | None = None
    manifests: str = ""
    schema_id: int | None = None


@dataclass(frozen=True)
class TableFacts:
    """A table at one metadata file.

    Attributes:
        table_uuid: the uuid of the table.
        properties: the table properties.
        versions: the versions, newest first.
        location: the folder of the table.
        schemas: the schemas, as the metadata file has them.
    """

    table_uuid: str
    properties: Mapping[str, str]
    versions: tuple[SnapshotFacts, ...]
    location: str = ""
    schemas: Sequence[Mapping[str, Any]] = ()

    @property
    def columns(self) -> dict[int, Columns]:
        """The names and types of the columns of each schema, by its id."""
        return {int(each.get("schema-id") or 0): _columns(each) for each in self.schemas}


def read_table_facts(lake: Lake, identifier: Identifier, location: str) -> TableFacts:
    """Returns the versions that a metadata file of a table has.

    Raises:
        NoSuchTableError: the table does not exist any more.
        DamagedDatasetError: the metadata is missing or invalid.
        FileError: it cannot be read.
    """
    from lakefeed.catalog import damaged_tables, version_numbers

    with damaged_tables.damage_errors(".".join(identifier), location):
        facts = _parse(_read(lake, location))
    if facts is not None:
        return facts
    return _facts_of_table(version_numbers.with_version_numbers(damaged_tables.load_table(lake.catalog, identifier)))


def _read(lake: Lake, location: str) -> bytes:
    content = lake.read_file(location)
    return gzip.decompress(content) if content[:2] == GZIP_MAGIC else content


def _parse(content: bytes) -> TableFacts | None:
    metadata = json.loads(content)
    try:
        return _facts_of_json(metadata)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"this is not the metadata of a table: {error}") from error


def _facts_of_json(metadata: Mapping[str, Any]) -> TableFacts | None:
    """Returns the versions; None if the file alone does not tell them."""
    properties = metadata.get("properties") or {}
    snapshots = {
        each["snapshot-id"]: each
        for each in metadata.get("snapshots") or ()
        if HAS_COLUMN_FILES not in (each.get("summary") or {})
    }
    if VERSION_NUMBERS in properties or not all(each.get("sequence-number") for each in snapshots.values()):
        return None
    lineage: list[Mapping[str, Any]] = []
    head = snapshots.get(metadata.get("current-snapshot-id"))
    while head is not None:
        lineage.append(head)
        head = snapshots.get(head.get("parent-snapshot-id"))
    if lineage and any(each["sequence-number"] < lineage[-1]["sequence-number"] for each in snapshots.values()):
        return None  # an older snapshot may be an ancestor whose child has expired
    versions = [_version_of_json(each) for each in lineage]
    known = tuple(each for each in versions if each is not None)
    if len(known) < len(versions):
        return None
    location = str(metadata.get("location") or "").rstrip("/")
    return TableFacts(str(metadata["table-uuid"]), properties, known, location, metadata.get("schemas") or ())


def _version_of_json(snapshot: Mapping[str, Any]) -> SnapshotFacts | None:
    summary = snapshot.get("summary") or {}
    rows = summary.get(ROWS) or (None if int(summary.get("total-delete-files", 0)) else summary.get("total-records"))
    if rows is None:
        return None
    return SnapshotFacts(
        snapshot["sequence-number"],
        snapshot["snapshot-id"],
        snapshot["timestamp-ms"],
        int(rows),
        int(summary.get("total-files-size", 0)),
        summary,
        snapshot.get("parent-snapshot-id"),
        snapshot.get("manifest-list") or "",
        snapshot.get("schema-id"),
    )


def _facts_of_table(table: Table) -> TableFacts:
    from lakefeed.catalog import ancestry, row_totals, versions

    lineage = ancestry.ancestry(table)
    summaries = [{} if each.summary is None else dict(each.summary.additional_properties) for each in lineage]
    return TableFacts(
        str(table.metadata.table_uuid),
        table.properties,
        tuple(
            SnapshotFacts(
                versions.version_number(each),
                each.snapshot_id,
                each.timestamp_ms,
                row_totals.count_rows(each, table),
                int(summary.get("total-files-size", 0)),
                summary,
                each.parent_snapshot_id,
                each.manifest_list or "",
                each.schema_id,
            )
            for each, summary in zip(lineage, summaries, strict=True)
        ),
        table.metadata.location.rstrip("/"),
        [json.loads(each.model_dump_json()) for each in table.metadata.schemas],
    )


def columns_of(table: Table) -> Columns:
    """Returns the names and types of the columns of a table."""
    return _columns(json.loads(table.schema().model_dump_json()))


def _columns(schema: Mapping[str, Any]) -> Columns:
    return tuple((str(each["name"]), _type_text(each["type"])) for each in schema.get("fields") or ())


def _type_text(value: Any) -> str:
    """Returns a type of Iceberg as text, such as ``list<long>``."""
    if not isinstance(value, dict):
        return str(value)
    match value.get("type"):
        case "struct":
            return f"struct<{', '.join(f'{name}: {text}' for name, text in _columns(value))}>"
        case "list":
            return f"list<{_type_text(value.get('element'))}>"
        case "map":
            return f"map<{_type_text(value.get('key'))}, {_type_text(value.get('value'))}>"
        case other:
            return str(other)
