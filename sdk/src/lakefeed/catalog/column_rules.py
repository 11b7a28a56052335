"""The columns of a schema of a table, from its metadata."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.name_mapping import MappedField
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from lakefeed.catalog import column_schema
from lakefeed.catalog.arrow_types import arrow_fields
from lakefeed.catalog.properties import COLUMN_BRANCH
from lakefeed.catalog.schema import declared_schema, snapshot_schema
from lakefeed.catalog.table_columns import FieldNames, TableColumns, child_fields, field_id


def table_columns(table: Table, snapshot_id: int | None = None, schema_id: int | None = None) -> TableColumns:
    """Returns the columns of a snapshot.

    Args:
        table: the table.
        snapshot_id: the snapshot; None for the current schema of the table.
        schema_id: one of the schemas of the table, instead of that of the snapshot.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
    """
    of_snapshot = snapshot_schema(table, snapshot_id)
    schema = of_snapshot if schema_id is None else table.schemas()[schema_id]
    mapping, beside = table.metadata.name_mapping(), COLUMN_BRANCH in table.metadata.refs
    return TableColumns(
        declared=declared_schema(table, snapshot_id, schema_id),
        stored=pa.schema(arrow_fields(schema)),
        schema_id=of_snapshot.schema_id,
        names=_names_in_schemas(table) if mapping is None else tuple(map(_field_names, mapping.root)),
        partitions=_column_partitions(table),
        defaults=dict(_defaults(schema.fields)),
        in_column_files=column_schema.column_file_ids(table, schema) if beside else frozenset(),
    )


def _column_partitions(table: Table) -> Mapping[int, tuple[tuple[int, int], ...]]:
    return {
        spec_id: tuple(
            (index, part.source_id)
            for index, part in enumerate(spec.fields)
            if isinstance(part.transform, IdentityTransform)
        )
        for spec_id, spec in table.specs().items()
    }


def _defaults(fields: Sequence[NestedField]) -> Iterator[tuple[int, Any]]:
    for one in fields:
        if one.initial_default is not None:
            yield one.field_id, one.initial_default
        yield from _defaults(_inner_fields(one.field_type))


def _inner_fields(kind: IcebergType) -> Sequence[NestedField]:
    match kind:
        case StructType():
            return kind.fields
        case ListType():
            return (kind.element_field,)
        case MapType():
            return kind.key_field, kind.value_field
        case _:
            return ()


def _field_names(mapped: MappedField) -> FieldNames:
    return FieldNames(mapped.field_id, tuple(mapped.names), tuple(map(_field_names, mapped.fields)))


def _names_in_schemas(table: Table) -> tuple[FieldNames, ...]:
    """Returns all names that fields ever had, for a table without a name mapping; newer fields win."""
    names: tuple[FieldNames, ...] = ()
    for schema in sorted(table.metadata.schemas, key=lambda each: each.schema_id):
        names = _extend_names(names, _struct(schema))
    return names


def _extend_names(names: Sequence[FieldNames], kind: pa.DataType) -> tuple[FieldNames, ...]:
    fields = [(name, field_id(one), one.type) for name, one in child_fields(kind)]
    owners = {name: number for name, number, _ in fields}
    older = {
        one.id: replace(one, names=tuple(n for n in one.names if owners.get(n, one.id) == one.id)) for one in names
    }
    for name, number, inner in fields:
        previous = older.get(number, FieldNames(number, ()))
        extended = previous.names if name in previous.names else (*previous.names, name)
        older[number] = FieldNames(number, extended, _extend_names(previous.children, inner))
    return tuple(older.values())


def _struct(schema: Schema) -> pa.DataType:
    return pa.struct(arrow_fields(schema))
