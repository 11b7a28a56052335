"""Schemas of tables of which some columns are in column files.

Other engines must not see such a column: they would find nulls in its place. So the Iceberg schema of the table lacks
it. A second schema has these columns alone, and a table property says to which schemas of the table it belongs. Each
schema id has one meaning: a commit that puts a column into column files, or takes one out, adds a new schema.
"""

from __future__ import annotations

import copy
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from uuid import UUID

from cachetools import LRUCache
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.update import (
    AddSchemaUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableUpdate,
    update_table_metadata,
)
from pyiceberg.types import NestedField

from lakefeed.catalog.properties import COLUMN_SCHEMA_PREFIX
from lakefeed.catalog.version_numbers import AdaptedTable

CACHED_SCHEMAS = 256
COMMENT = re.compile(r"(; )?schema \d+$")


def with_column_schemas(table: Table) -> Table:
    """Returns the table with schemas that have the columns in column files, too; the same object if it has none."""
    return _with_schemas(table, partial(_cached, table.metadata.table_uuid))


def _with_schemas(table: Table, widen: Callable[[Schema, Schema], Schema]) -> Table:
    ids = _column_schema_ids(table.properties)
    if not ids:
        return table
    schemas = table.schemas()
    pairs = ((each, schemas.get(_entry_at(ids, each.schema_id))) for each in table.metadata.schemas)
    widened = [each if beside is None else widen(each, beside) for each, beside in pairs]
    metadata = table.metadata.model_copy(update={"schemas": widened})
    if not isinstance(table, AdaptedTable):
        return AdaptedTable(table.name(), metadata, table.metadata_location, table.io, table.catalog, table.config)
    result = copy.copy(table)
    result.metadata = metadata
    return result


def apply_updates(table: Table, updates: Sequence[TableUpdate]) -> Table:
    """Returns the table after updates that are not committed yet."""
    metadata = update_table_metadata(table.metadata, tuple(updates))
    changed = Table(table.name(), metadata, table.metadata_location, table.io, table.catalog)
    return _with_schemas(changed, _widened)  # another writer may give the ids of these schemas to others


def column_file_ids(table: Table, schema: Schema | None = None) -> frozenset[int]:
    """Returns the ids of the columns of a schema (None: the current one) that are in column files."""
    fields = table.schema() if schema is None else schema
    beside = column_schema(table.metadata, fields.schema_id)
    present = {field.field_id for field in fields.fields}
    return frozenset() if beside is None else frozenset(field.field_id for field in beside.fields) & present


def column_schema(metadata: TableMetadata, schema_id: int | None = None) -> Schema | None:
    """Returns the schema of the columns in column files that belongs to a schema (None: the current one), if any."""
    at = metadata.current_schema_id if schema_id is None else schema_id
    number = _entry_at(_column_schema_ids(metadata.properties), at)
    return next((schema for schema in metadata.schemas if schema.schema_id == number), None)


def schema_updates(
    table: Table, fields: Sequence[NestedField], identifiers: Sequence[int], in_column_files: frozenset[int]
) -> tuple[Schema, tuple[TableUpdate, ...]]:
    """Returns a new schema of a table, and the updates that make it current.

    Args:
        table: the table.
        fields: all columns.
        identifiers: the ids of the key columns.
        in_column_files: the ids of the columns that are in column files.

    Raises:
        ValueError: the columns do not make an Iceberg schema.
    """
    own = [field for field in fields if field.field_id not in in_column_files]
    beside = [field for field in fields if field.field_id in in_column_files]
    next_id = max(schema.schema_id for schema in table.metadata.schemas) + 1
    if not beside and _entry_at(_column_schema_ids(table.properties), next_id) < 0:
        schema = Schema(*own, schema_id=next_id, identifier_field_ids=list(identifiers))
        return schema, (AddSchemaUpdate(schema_=schema), SetCurrentSchemaUpdate(schema_id=-1))
    updates: list[TableUpdate] = []
    entry = ""
    if beside:
        known = next((each for each in table.metadata.schemas if list(each.fields) == beside), None)
        if known is None:
            known = Schema(*beside, schema_id=next_id)
            updates.append(AddSchemaUpdate(schema_=known))
            next_id += 1
        entry = str(known.schema_id)
    # A catalog may answer with the id of an equal schema; the comment makes each one new.
    comment = COMMENT.sub("", own[-1].doc or "")
    own[-1] = own[-1].model_copy(update={"doc": f"{comment}; schema {next_id}".removeprefix("; ")})
    stored = Schema(*own, schema_id=next_id, identifier_field_ids=list(identifiers))
    updates += [
        AddSchemaUpdate(schema_=stored),
        SetCurrentSchemaUpdate(schema_id=-1),
        SetPropertiesUpdate(updates={f"{COLUMN_SCHEMA_PREFIX}{next_id}": entry}),
    ]
    return Schema(*own, *beside, schema_id=next_id, identifier_field_ids=list(identifiers)), tuple(updates)


def entry_of_next_schema(metadata: TableMetadata, schema_id: int) -> dict[str, str]:
    """Returns the table property by which the next schema has the columns in column files of an older schema.

    Another program derives its next schema from the current one. If that is older than others, its columns in column
    files are not those of the newest entry. Returns nothing if they are.
    """
    ids = _column_schema_ids(metadata.properties)
    next_id = max(schema.schema_id for schema in metadata.schemas) + 1
    entry = _entry_at(ids, schema_id)
    if entry == _entry_at(ids, next_id):
        return {}
    return {f"{COLUMN_SCHEMA_PREFIX}{next_id}": "" if entry < 0 else str(entry)}


def _column_schema_ids(properties: Mapping[str, str]) -> dict[int, str]:
    """Returns the entries of the table properties: ids of schemas of columns in column files, by schema id."""
    return {
        int(key.removeprefix(COLUMN_SCHEMA_PREFIX)): value
        for key, value in properties.items()
        if key.startswith(COLUMN_SCHEMA_PREFIX)
    }


def _entry_at(ids: Mapping[int, str], schema_id: int) -> int:
    """Returns the id of the schema that belongs to a schema: that of the newest entry that is not newer; -1 for none.

    A schema that another program adds keeps the columns of the one before.
    """
    newest = max((first for first in ids if first <= schema_id), default=None)
    return int(ids[newest]) if newest is not None and ids[newest] else -1


def _cached(table: UUID, schema: Schema, beside: Schema) -> Schema:
    """Returns the same as `_widened`, from the cache: wide schemas take long to make, and each id has one meaning."""
    key = table, schema.schema_id, beside.schema_id
    with _lock:
        widened = _schemas.get(key)
    if widened is None:
        widened = _widened(schema, beside)
        with _lock:
            _schemas[key] = widened
    return widened


def _widened(schema: Schema, beside: Schema) -> Schema:
    known, names = set(schema.field_ids), {field.name for field in schema.fields}
    more = [field for field in beside.fields if field.field_id not in known and field.name not in names]
    if not more:
        return schema
    return Schema(
        *schema.fields, *more, schema_id=schema.schema_id, identifier_field_ids=list(schema.identifier_field_ids)
    )


_schemas: LRUCache[tuple[UUID, int, int], Schema] = LRUCache(CACHED_SCHEMAS)
_lock = threading.Lock()
