"""A metadata file of a table as plain values, without PyIceberg's models.

To read a file this way takes a tenth of the time, and PyIceberg need not be imported. The checks are at least as strict
as those of PyIceberg. For a file that does not pass, and for one of another format version, there is no result: the
caller loads the table with PyIceberg, which reads it or raises the error.
"""

from __future__ import annotations

import gzip
import json
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

SURROGATES: Final = (rb"\ud", rb"\uD")
"""Escapes that are valid in pairs only, which the parser of PyIceberg checks."""
GZIP_ENDING: Final = ".gz.metadata.json"
FORMAT_VERSION: Final = 2
OPERATIONS: Final = frozenset({"append", "replace", "overwrite", "delete"})
TAG: Final = "tag"
BRANCH: Final = "branch"
PRIMITIVE: Final = re.compile(
    r"boolean|int|long|float|double|date|time|timestamp|timestamptz|string|uuid|binary|fixed\[\d+\]|"
    r"decimal\(\d+, ?\d+\)"
)
TRANSFORM: Final = re.compile(r"identity|void|year|month|day|hour|(bucket|truncate)\[\d+\]")


@dataclass(frozen=True)
class PlainSnapshot:
    """A snapshot.

    Attributes:
        id: its id.
        parent_id: the id of its parent; None if there is none.
        number: the sequence number; 0 in tables of format version 1.
        timestamp_ms: the time of the commit, in milliseconds since 1970 (UTC).
        operation: Iceberg's name for the change.
        manifests: the location of the manifest list.
        schema_id: the id of the schema.
        summary: the other entries of the summary.
    """

    id: int
    parent_id: int | None
    number: int
    timestamp_ms: int
    operation: str
    manifests: str
    schema_id: int | None
    summary: Mapping[str, str]


@dataclass(frozen=True)
class PlainMetadata:
    """The metadata of a table.

    Attributes:
        table_uuid: the uuid of the table.
        location: the folder of the table.
        schemas: the schemas, as the file has them.
        properties: the table properties.
        fields: the names of the columns of the current schema, by field id.
        snapshots: the snapshots by id.
        current_id: the id of the current snapshot; None if there is none.
        tags: the ids of the snapshots of the tags, by name.
        branches: the ids of the newest snapshots of the branches, by name.
    """

    table_uuid: str
    location: str
    schemas: Sequence[Mapping[str, Any]]
    properties: Mapping[str, str]
    fields: Mapping[int, str]
    snapshots: Mapping[int, PlainSnapshot]
    current_id: int | None
    tags: Mapping[str, int]
    branches: Mapping[str, int]


def parse_metadata(location: str, content: bytes) -> PlainMetadata | None:
    """Returns the metadata in a file; None if PyIceberg has to read it."""
    try:
        if location.endswith(GZIP_ENDING):
            content = gzip.decompress(content)
        if any(escape in content for escape in SURROGATES):
            return None
        metadata = json.loads(content.decode())  # of bytes, it would guess the encoding
        return _parse(metadata) if _is_valid(metadata) else None
    except (ValueError, OSError, EOFError, zlib.error, RecursionError):
        return None


def _parse(metadata: Mapping[str, Any]) -> PlainMetadata | None:
    snapshots = {each["snapshot-id"]: _parse_snapshot(each) for each in metadata.get("snapshots") or ()}
    current = metadata.get("current-snapshot-id")
    current = None if current == -1 else current
    refs = metadata.get("refs") or {}
    if current not in (None, *snapshots) or any(each["snapshot-id"] not in snapshots for each in refs.values()):
        return None
    if len(snapshots) < len(metadata.get("snapshots") or ()):
        return None
    schema = next(each for each in metadata["schemas"] if each["schema-id"] == metadata["current-schema-id"])
    return PlainMetadata(
        table_uuid=str(UUID(metadata["table-uuid"])),
        location=metadata["location"],
        schemas=metadata["schemas"],
        properties=metadata.get("properties") or {},
        fields={field["id"]: field["name"] for field in schema["fields"]},
        snapshots=snapshots,
        current_id=current,
        tags={name: each["snapshot-id"] for name, each in sorted(refs.items()) if each["type"] == TAG},
        branches={name: each["snapshot-id"] for name, each in sorted(refs.items()) if each["type"] == BRANCH},
    )


def _parse_snapshot(snapshot: Mapping[str, Any]) -> PlainSnapshot:
    summary = dict(snapshot["summary"])
    return PlainSnapshot(
        id=snapshot["snapshot-id"],
        parent_id=snapshot.get("parent-snapshot-id"),
        number=snapshot.get("sequence-number") or 0,
        timestamp_ms=snapshot["timestamp-ms"],
        operation=summary.pop("operation"),
        manifests=snapshot["manifest-list"],
        schema_id=snapshot.get("schema-id"),
        summary=summary,
    )


# ------------------------------------------------------------------------------------------ checks


def _is_valid(metadata: Any) -> bool:
    if not _has(metadata, "format-version", _is_int) or metadata["format-version"] != FORMAT_VERSION:
        return False
    return (
        _has(metadata, "table-uuid", _is_uuid)
        and _has(metadata, "location", _is_text)
        and _has(metadata, "last-updated-ms", _is_int)
        and _has(metadata, "last-column-id", _is_int)
        and _has_one(metadata, "schemas", "schema-id", "current-schema-id", _is_schema)
        and _has_one(metadata, "partition-specs", "spec-id", "default-spec-id", _is_partition_spec)
        and _has_sort_order(metadata)
        and _may_have(metadata, "last-sequence-number", _is_int)
        and _may_be_null(metadata, "last-partition-id", _is_int)
        and _may_have(metadata, "properties", _is_text_mapping)
        and _may_be_null(metadata, "current-snapshot-id", _is_int)
        and _may_have(metadata, "snapshots", lambda value: _is_list(value, _is_snapshot))
        and _may_have(metadata, "refs", lambda value: isinstance(value, dict) and all(map(_is_ref, value.values())))
        and _may_have(metadata, "snapshot-log", lambda value: _is_list(value, _is_log_entry))
        and _may_have(metadata, "metadata-log", lambda value: _is_list(value, _is_metadata_entry))
        and metadata.get("statistics", []) == metadata.get("partition-statistics", []) == []
    )


def _is_snapshot(value: Any) -> bool:
    return (
        _has(value, "snapshot-id", _is_int)
        and _has(value, "manifest-list", _is_text)
        and _has(value, "timestamp-ms", _is_int)
        and _has(value, "summary", _is_text_mapping)
        and value["summary"].get("operation") in OPERATIONS
        and all(_may_be_null(value, key, _is_int) for key in ("parent-snapshot-id", "sequence-number", "schema-id"))
    )


def _is_ref(value: Any) -> bool:
    numbers = ("max-ref-age-ms", "max-snapshot-age-ms", "min-snapshots-to-keep")
    return (
        _has(value, "snapshot-id", _is_int)
        and value.get("type") in (TAG, BRANCH)
        and all(_may_be_null(value, key, _is_int) for key in numbers)
    )


def _is_log_entry(value: Any) -> bool:
    return _has(value, "snapshot-id", _is_int) and _has(value, "timestamp-ms", _is_int)


def _is_metadata_entry(value: Any) -> bool:
    return _has(value, "metadata-file", _is_text) and _has(value, "timestamp-ms", _is_int)


def _is_schema(value: Any) -> bool:
    ids = "identifier-field-ids"
    return _is_struct(value) and _may_have(value, ids, lambda given: _is_list(given, _is_int))


def _is_struct(value: Any) -> bool:
    return isinstance(value, dict) and value.get("type") == "struct" and _is_list(value.get("fields"), _is_field)


def _is_field(value: Any) -> bool:
    return (
        _has(value, "id", _is_int)
        and _has(value, "name", _is_text)
        and _has(value, "required", _is_flag)
        and _has(value, "type", _is_type)
        and _may_be_null(value, "doc", _is_text)
        and value.get("initial-default") is None
        and value.get("write-default") is None
    )


def _is_type(value: Any) -> bool:
    if isinstance(value, str):
        return PRIMITIVE.fullmatch(value) is not None
    match value:
        case {"type": "list"}:
            return _has_inner(value, "element")
        case {"type": "map"}:
            return _has(value, "key-id", _is_int) and _has(value, "key", _is_type) and _has_inner(value, "value")
    return _is_struct(value)


def _has_inner(value: Mapping[str, Any], name: str) -> bool:
    return (
        _has(value, f"{name}-id", _is_int) and _has(value, f"{name}-required", _is_flag) and _has(value, name, _is_type)
    )


def _is_partition_spec(value: Any) -> bool:
    def is_field(field: Any) -> bool:
        ids = _has(field, "source-id", _is_int) and _has(field, "field-id", _is_int)
        return ids and _has(field, "name", _is_text) and _has(field, "transform", _is_transform)

    return isinstance(value, dict) and _is_list(value.get("fields"), is_field)


def _has_sort_order(metadata: Mapping[str, Any]) -> bool:
    def is_field(field: Any) -> bool:
        order = _has(field, "direction", _is_text) and _has(field, "null-order", _is_text)
        known = order and field["direction"] in ("asc", "desc") and field["null-order"] in ("nulls-first", "nulls-last")
        return known and _has(field, "source-id", _is_int) and _has(field, "transform", _is_transform)

    def is_order(order: Any) -> bool:
        return isinstance(order, dict) and _is_list(order.get("fields"), is_field)

    return _has_one(metadata, "sort-orders", "order-id", "default-sort-order-id", is_order)


def _has_one(
    metadata: Mapping[str, Any], key: str, id_key: str, chosen_key: str, is_entry: Callable[[Any], bool]
) -> bool:
    """Returns whether there is a list of entries with ids, one of which is chosen."""
    entries = metadata.get(key)
    if not _is_list(entries, lambda entry: is_entry(entry) and _has(entry, id_key, _is_int)):
        return False
    return _has(metadata, chosen_key, _is_int) and metadata[chosen_key] in {entry[id_key] for entry in entries or ()}


def _has(value: Any, key: str, is_kind: Callable[[Any], bool]) -> bool:
    return isinstance(value, dict) and key in value and is_kind(value[key])


def _may_have(value: Mapping[str, Any], key: str, is_kind: Callable[[Any], bool]) -> bool:
    return key not in value or is_kind(value[key])


def _may_be_null(value: Mapping[str, Any], key: str, is_kind: Callable[[Any], bool]) -> bool:
    return value.get(key) is None or is_kind(value[key])


def _is_list(value: Any, is_item: Callable[[Any], bool]) -> bool:
    return isinstance(value, list) and all(map(is_item, value))


def _is_int(value: Any) -> bool:
    return type(value) is int


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool)


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_uuid(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(UUID(value))
    except ValueError:
        return False


def _is_transform(value: Any) -> bool:
    return isinstance(value, str) and TRANSFORM.fullmatch(value) is not None


def _is_text_mapping(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(each, str) for each in value.values())
