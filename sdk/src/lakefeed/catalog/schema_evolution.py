"""Columns added, renamed, dropped and widened: changes of the metadata that make no version and write no row.

A version keeps the columns that it was written with, and a reader of the newest rows sees the columns as they are now:
those added since are null in older rows, and a column is known by its field id whatever it is called. So an evolved
schema is a new Iceberg schema; the Arrow types that it declares are kept beside it (:mod:`lakefeed.catalog.schema`).
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table, TableProperties
from pyiceberg.table.name_mapping import NameMapping, create_mapping_from_schema
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AssertCurrentSchemaId,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
)
from pyiceberg.types import (
    DecimalType,
    DoubleType,
    FloatType,
    IcebergType,
    IntegerType,
    LongType,
    NestedField,
)

from lakefeed.catalog.commit_retry import commit_metadata, unchanged_requirements
from lakefeed.catalog.compatibility import check_round_trip, is_compatible
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.null_types import decide_field, decide_iceberg_field
from lakefeed.catalog.properties import COLUMN_TYPES, DROPPED_COLUMN_TYPES
from lakefeed.catalog.schema import (
    declared_schema,
    dropped_column_types,
    evolved_arrow_types_property,
    iceberg_schema,
    iceberg_schema_error,
    media_of,
    normalize_schema,
    storage_schema,
)
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError, quoted_list


@dataclass(frozen=True)
class Columns:
    """The columns of a table: as Iceberg has them, as Arrow declares them, and which hold files."""

    fields: tuple[NestedField, ...]
    declared: Mapping[str, pa.Field[Any]]
    media: Mapping[str, str]
    dropped_media: Mapping[str, str] = field(default_factory=dict)

    def __getitem__(self, name: str) -> NestedField:
        for one in self.fields:
            if one.name == name:
                return one
        raise ColumnNotFoundError.of(name, list(self.declared))

    def with_column(self, old: NestedField, new: NestedField, declared: pa.Field[Any]) -> Columns:
        """These, with one as another of the same name."""
        return Columns(
            tuple(new if one is old else one for one in self.fields),
            {**self.declared, declared.name: declared},
            self.media,
            self.dropped_media,
        )

    def free(self, name: str) -> None:
        """Passes where no column has that name."""
        if name in self.declared:
            raise SchemaError(f"there is a column {name!r} already; the columns are {quoted_list(self.declared)}")


def add_column(lake: Lake, name: str, column: pa.Field[Any]) -> pa.Schema:
    """The schema with one more column, at the end; it is null in the rows that are there.

    Raises:
        SchemaError: there is a column of that name.
        TypeMismatchError: the type cannot be kept.
    """
    added = normalize_schema(pa.schema([column.with_nullable(True)]))
    check_round_trip(added, storage_schema(added))
    (declared,) = added

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        columns.free(declared.name)
        (new,) = assign_fresh_schema_ids(iceberg_schema(pa.schema([declared])), next_id).fields
        return Columns(
            (*columns.fields, new),
            {**columns.declared, declared.name: declared},
            {**columns.media, **media_of(pa.schema([declared]))},
            columns.dropped_media,
        )

    return _evolve(lake, name, change)


def rename_column(lake: Lake, name: str, old: str, new: str) -> pa.Schema:
    """The schema with a column under another name.

    Raises:
        ColumnNotFoundError: there is no column ``old``.
        SchemaError: there is a column ``new``.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        found = columns[old]
        if old == new:
            return columns
        columns.free(new)
        declared = (kind.with_name(new) if key == old else kind for key, kind in columns.declared.items())
        return Columns(
            tuple(found.model_copy(update={"name": new}) if one is found else one for one in columns.fields),
            {kind.name: kind for kind in declared},
            {new if key == old else key: media for key, media in columns.media.items()},
            columns.dropped_media,
        )

    return _evolve(lake, name, change)


def drop_columns(lake: Lake, name: str, dropped: Sequence[str]) -> pa.Schema:
    """The schema without these columns; older versions still have them.

    Raises:
        ColumnNotFoundError: one of them does not exist; then none is dropped.
        SchemaError: no column would be left.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        gone = [columns[column] for column in dropped]
        if len(gone) >= len(columns.fields):
            raise SchemaError(f"{quoted_list(dropped)} are all the columns there are; delete the dataset instead")
        types = {str(one.field_id): columns.media[one.name] for one in gone if one.name in columns.media}
        return Columns(
            tuple(one for one in columns.fields if one not in gone),
            {key: kind for key, kind in columns.declared.items() if key not in dropped},
            {key: media for key, media in columns.media.items() if key not in dropped},
            {**columns.dropped_media, **types},
        )

    return _evolve(lake, name, change)


def widen_column(lake: Lake, name: str, column: str, kind: pa.DataType) -> pa.Schema:
    """The schema with a column of a wider type, which holds every value of the one that it has.

    Raises:
        ColumnNotFoundError: there is no such column.
        TypeMismatchError: it is not wider, or files that are there could not be read as it.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        found, declared = columns[column], columns.declared[column]
        (wider,) = normalize_schema(pa.schema([declared.with_type(kind)]))
        check_round_trip(pa.schema([wider]), storage_schema(pa.schema([wider])))
        if wider.type == declared.type:
            return columns
        if decide_field(declared, wider).type == wider.type:  # which gives types to nulls, and changes no other
            wider = decide_field(declared, wider)
            return columns.with_column(found, decide_iceberg_field(found, declared, wider, next_id), wider)
        (stored,) = iceberg_schema(pa.schema([wider])).fields
        if not _is_wider(declared.type, wider.type, found.field_type, stored.field_type):
            raise TypeMismatchError(
                f"column {column!r} is {declared.type} and cannot become {kind}: only a type of the same kind that "
                "holds every value will do, such as int64 for int32. Add a column and fill it instead"
            )
        # Where the stored type stays, the comment makes it another schema all the same: it declares another type.
        new = found.model_copy(update={"field_type": stored.field_type, "doc": f"declared as {wider.type}"})
        return columns.with_column(found, new, wider)

    return _evolve(lake, name, change)


def schema_switch_updates(table: Table, old: Snapshot) -> tuple[TableUpdate, ...]:
    """What makes the columns of an old snapshot the current ones; nothing where they are."""
    if old.schema_id is None or old.schema_id == table.metadata.current_schema_id:
        return ()
    then, now = declared_schema(table, old.snapshot_id), columns_of(table)
    kept = {one.field_id for one in table.schemas()[old.schema_id].fields}
    dropped = {
        str(one.field_id): now.media[one.name]
        for one in now.fields
        if one.name in now.media and one.field_id not in kept
    }
    properties = _media_properties(media_of(then), {**now.dropped_media, **dropped})
    return (SetCurrentSchemaUpdate(schema_id=old.schema_id), SetPropertiesUpdate(updates=properties))


def _evolve(lake: Lake, name: str, change: Callable[[Columns, Callable[[], int]], Columns]) -> pa.Schema:
    evolved: list[pa.Schema] = []

    def commit(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        before = columns_of(table)
        after = change(before, itertools.count(table.metadata.last_column_id + 1).__next__)
        if after is before:
            evolved[:] = [pa.schema(list(after.declared.values()))]
            return (), ()
        declared, updates = evolution_updates(table, after)
        evolved[:] = [declared]
        same = AssertCurrentSchemaId(current_schema_id=table.metadata.current_schema_id)
        return (*unchanged_requirements(table), same), updates

    commit_metadata(lake, name, commit)
    return evolved[0]


def evolution_updates(table: Table, after: Columns) -> tuple[pa.Schema, tuple[TableUpdate, ...]]:
    """The columns as they are declared, and the updates that make them the table's.

    Raises:
        SchemaError: they make no Iceberg schema.
    """
    declared = pa.schema(list(after.declared.values()))
    schema_id = max(schema.schema_id for schema in table.metadata.schemas) + 1
    try:
        schema = Schema(*after.fields, schema_id=schema_id, identifier_field_ids=_identifier_fields(table, after))
    except ValueError as error:
        raise iceberg_schema_error(error) from None
    properties = {
        **evolved_arrow_types_property(declared, schema, schema_id),
        **_media_properties(after.media, after.dropped_media),
        **_name_mapping(table, after.fields),
    }
    updates = (
        AddSchemaUpdate(schema_=schema),
        SetCurrentSchemaUpdate(schema_id=-1),
        SetPropertiesUpdate(updates=properties),
    )
    return declared, updates


def columns_of(table: Table) -> Columns:
    """The columns as they are now."""
    declared = declared_schema(table)
    return Columns(
        tuple(table.schema().fields),
        {one.name: one for one in declared},
        media_of(declared),
        dropped_column_types(table),
    )


def _media_properties(media: Mapping[str, str], dropped: Mapping[str, str]) -> dict[str, str]:
    properties = {COLUMN_TYPES: json.dumps(dict(media), sort_keys=True)}
    return properties | ({DROPPED_COLUMN_TYPES: json.dumps(dict(dropped), sort_keys=True)} if dropped else {})


def _name_mapping(table: Table, fields: Sequence[NestedField]) -> dict[str, str]:
    """The property by which files without field ids are read, with the names that the columns have now.

    A name that files use for a column that was dropped stays with that one: its values do not come back.
    """
    mapping = table.metadata.name_mapping()
    if mapping is None:
        return {}
    by_id = {mapped.field_id: mapped for mapped in mapping.root}
    owners = {name: mapped.field_id for mapped in mapping.root for name in mapped.names}
    for one in fields:
        if owners.setdefault(one.name, one.field_id) != one.field_id:
            continue
        (new,) = create_mapping_from_schema(Schema(one)).root
        known = by_id.setdefault(one.field_id, new)
        if one.name not in known.names:
            by_id[one.field_id] = known.model_copy(update={"names": [*known.names, one.name]})
    return {TableProperties.DEFAULT_NAME_MAPPING: NameMapping(list(by_id.values())).model_dump_json()}


def _identifier_fields(table: Table, columns: Columns) -> list[int]:
    kept = {one.field_id for one in columns.fields}
    return [identifier for identifier in table.schema().identifier_field_ids if identifier in kept]


def _is_wider(old: pa.DataType, new: pa.DataType, stored: IcebergType, wider: IcebergType) -> bool:
    if pa.types.is_nested(old) or pa.types.is_nested(new) or pa.types.is_duration(old):
        return False  # a duration is stored as a number of its unit
    return is_compatible(old, new) and (stored == wider or _is_promotion(stored, wider))


def _is_promotion(stored: IcebergType, wider: IcebergType) -> bool:
    """Whether Iceberg reads the one as the other."""
    match stored, wider:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return stored.scale == wider.scale and stored.precision <= wider.precision
        case _:
            return False
