"""Schema evolution: columns are added, renamed, dropped and widened. This makes no version and writes no rows.

A version keeps the columns that it was written with. The newest version has the current columns: added columns are null
in older rows, and columns are matched by field id. An evolved schema is a new Iceberg schema; its declared Arrow types
are a table property (:mod:`lakefeed.catalog.schema`).
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

from lakefeed.catalog.column_schema import column_file_ids, entry_of_next_schema, schema_updates
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
from lakefeed.catalog.table_key import key_columns
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError, quoted_list


@dataclass(frozen=True)
class Columns:
    """The columns of a table.

    Attributes:
        fields: the Iceberg fields.
        declared: the declared Arrow fields, by name.
        media: the media types of file columns, by name.
        dropped_media: the media types of dropped file columns, by field id.
        key: the names of the key columns.
    """

    fields: tuple[NestedField, ...]
    declared: Mapping[str, pa.Field[Any]]
    media: Mapping[str, str]
    dropped_media: Mapping[str, str] = field(default_factory=dict)
    key: tuple[str, ...] = ()

    def __getitem__(self, name: str) -> NestedField:
        for each in self.fields:
            if each.name == name:
                return each
        raise ColumnNotFoundError.of(name, list(self.declared))

    def with_column(self, old: NestedField, new: NestedField, declared: pa.Field[Any]) -> Columns:
        """Returns the columns with one replaced by another of the same name."""
        return Columns(
            tuple(new if each is old else each for each in self.fields),
            {**self.declared, declared.name: declared},
            self.media,
            self.dropped_media,
        )

    def check_key_remains(self, dropped: Sequence[str]) -> None:
        """Checks that no key column is dropped.

        Raises:
            SchemaError: a key column is dropped.
        """
        lost = [name for name in dropped if name in self.key]
        if lost:
            raise SchemaError(
                f"cannot drop {quoted_list(lost)}: a key column identifies the rows. Rename it, or save the rows as a "
                "new dataset"
            )

    def check_new_name(self, name: str) -> None:
        """Checks that no column has that name.

        Raises:
            SchemaError: a column has that name.
        """
        if name in self.declared:
            raise SchemaError(f"column {name!r} exists already; the columns are {quoted_list(self.declared)}")


def add_column(lake: Lake, name: str, column: pa.Field[Any]) -> pa.Schema:
    """Adds a column at the end, which is null in existing rows. Returns the new schema.

    Raises:
        SchemaError: a column has that name.
        TypeMismatchError: the type cannot be stored.
    """
    added = normalize_schema(pa.schema([column.with_nullable(True)]))
    check_round_trip(added, storage_schema(added))
    (declared,) = added

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        columns.check_new_name(declared.name)
        (new,) = assign_fresh_schema_ids(iceberg_schema(pa.schema([declared])), next_id).fields
        return Columns(
            (*columns.fields, new),
            {**columns.declared, declared.name: declared},
            {**columns.media, **media_of(pa.schema([declared]))},
            columns.dropped_media,
        )

    return _evolve(lake, name, change)


def rename_column(lake: Lake, name: str, old: str, new: str) -> pa.Schema:
    """Renames a column. Returns the new schema.

    Raises:
        ColumnNotFoundError: there is no column ``old``.
        SchemaError: there is a column ``new``.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        field = columns[old]
        if old == new:
            return columns
        columns.check_new_name(new)
        declared = (kind.with_name(new) if key == old else kind for key, kind in columns.declared.items())
        return Columns(
            tuple(field.model_copy(update={"name": new}) if each is field else each for each in columns.fields),
            {kind.name: kind for kind in declared},
            {new if key == old else key: media for key, media in columns.media.items()},
            columns.dropped_media,
        )

    return _evolve(lake, name, change)


def drop_columns(lake: Lake, name: str, dropped: Sequence[str]) -> pa.Schema:
    """Drops columns. Older versions still have them. Returns the new schema.

    Raises:
        ColumnNotFoundError: a column does not exist. None is dropped.
        SchemaError: no column would be left.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        fields = [columns[column] for column in dropped]
        columns.check_key_remains(dropped)
        if len(fields) >= len(columns.fields):
            raise SchemaError(f"cannot drop all columns ({quoted_list(dropped)}); delete the dataset instead")
        types = {str(each.field_id): columns.media[each.name] for each in fields if each.name in columns.media}
        return Columns(
            tuple(each for each in columns.fields if each not in fields),
            {key: kind for key, kind in columns.declared.items() if key not in dropped},
            {key: media for key, media in columns.media.items() if key not in dropped},
            {**columns.dropped_media, **types},
        )

    return _evolve(lake, name, change)


def widen_column(lake: Lake, name: str, column: str, kind: pa.DataType) -> pa.Schema:
    """Changes the type of a column to a wider one, which holds every value of the current type. Returns the new schema.

    Raises:
        ColumnNotFoundError: the column does not exist.
        TypeMismatchError: the type is not wider, or existing files cannot be read as that type.
    """

    def change(columns: Columns, next_id: Callable[[], int]) -> Columns:
        field, declared = columns[column], columns.declared[column]
        (wider,) = normalize_schema(pa.schema([declared.with_type(kind)]))
        check_round_trip(pa.schema([wider]), storage_schema(pa.schema([wider])))
        if wider.type == declared.type:
            return columns
        if decide_field(declared, wider).type == wider.type:  # it only decides null types
            wider = decide_field(declared, wider)
            return columns.with_column(field, decide_iceberg_field(field, declared, wider, next_id), wider)
        (stored,) = iceberg_schema(pa.schema([wider])).fields
        if not is_wider(declared.type, wider.type, field.field_type, stored.field_type):
            raise TypeMismatchError(
                f"cannot widen column {column!r} from {declared.type} to {kind}; choose a type of the same kind that "
                "holds every value, such as int64 for int32, or add a column and fill it"
            )
        # If the stored type does not change, the comment makes it a new schema.
        new = field.model_copy(update={"field_type": stored.field_type, "doc": f"declared as {wider.type}"})
        return columns.with_column(field, new, wider)

    return _evolve(lake, name, change)


def schema_switch_updates(table: Table, old: Snapshot) -> tuple[TableUpdate, ...]:
    """Returns the updates that make the columns of an old snapshot current; none if they are."""
    if old.schema_id is None or old.schema_id == table.metadata.current_schema_id:
        return ()
    old_columns, current = declared_schema(table, old.snapshot_id), columns_of(table)
    old_ids = {each.field_id for each in table.schemas()[old.schema_id].fields}
    dropped = {
        str(each.field_id): current.media[each.name]
        for each in current.fields
        if each.name in current.media and each.field_id not in old_ids
    }
    properties = _media_properties(media_of(old_columns), {**current.dropped_media, **dropped})
    properties |= entry_of_next_schema(table.metadata, old.schema_id)
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


def evolution_updates(
    table: Table, after: Columns, in_column_files: frozenset[int] | None = None
) -> tuple[pa.Schema, tuple[TableUpdate, ...]]:
    """Returns the declared schema of new columns, and the updates that set them.

    Args:
        table: the table.
        after: the new columns.
        in_column_files: the ids of the columns that are in column files; None for those that are now.

    Raises:
        SchemaError: the columns do not make an Iceberg schema.
    """
    apart = column_file_ids(table) if in_column_files is None else in_column_files
    try:
        schema, updates = schema_updates(table, after.fields, _identifier_fields(table, after), apart)
    except ValueError as error:
        raise iceberg_schema_error(error) from None
    declared = pa.schema([after.declared[each.name] for each in schema.fields])
    properties = {
        **evolved_arrow_types_property(declared, schema, schema.schema_id),
        **_media_properties(after.media, after.dropped_media),
        **_name_mapping(table, after.fields),
    }
    return declared, (*updates, SetPropertiesUpdate(updates=properties))


def columns_of(table: Table) -> Columns:
    """Returns the current columns of a table."""
    declared = declared_schema(table)
    return Columns(
        tuple(table.schema().fields),
        {each.name: each for each in declared},
        media_of(declared),
        dropped_column_types(table),
        key_columns(table),
    )


def _media_properties(media: Mapping[str, str], dropped: Mapping[str, str]) -> dict[str, str]:
    properties = {COLUMN_TYPES: json.dumps(dict(media), sort_keys=True)}
    return properties | ({DROPPED_COLUMN_TYPES: json.dumps(dict(dropped), sort_keys=True)} if dropped else {})


def _name_mapping(table: Table, fields: Sequence[NestedField]) -> dict[str, str]:
    """Returns the name mapping for files without field ids, with the current names of the columns.

    A name that files use for a dropped column stays with that column, so its values do not reappear.
    """
    mapping = table.metadata.name_mapping()
    if mapping is None:
        return {}
    by_id = {mapped.field_id: mapped for mapped in mapping.root}
    owners = {name: mapped.field_id for mapped in mapping.root for name in mapped.names}
    for each in fields:
        if owners.setdefault(each.name, each.field_id) != each.field_id:
            continue
        (new,) = create_mapping_from_schema(Schema(each)).root
        known = by_id.setdefault(each.field_id, new)
        if each.name not in known.names:
            by_id[each.field_id] = known.model_copy(update={"names": [*known.names, each.name]})
    return {TableProperties.DEFAULT_NAME_MAPPING: NameMapping(list(by_id.values())).model_dump_json()}


def _identifier_fields(table: Table, columns: Columns) -> list[int]:
    ids = {each.field_id for each in columns.fields}
    return [identifier for identifier in table.schema().identifier_field_ids if identifier in ids]


def is_wider(old: pa.DataType, new: pa.DataType, stored: IcebergType, wider: IcebergType) -> bool:
    """Returns whether the declared type ``new``, stored as ``wider``, holds every value of ``old``."""
    if pa.types.is_nested(old) or pa.types.is_nested(new) or pa.types.is_duration(old):
        return False  # a duration is stored as a number of its unit
    return is_compatible(old, new) and (stored == wider or _is_promotion(stored, wider))


def _is_promotion(stored: IcebergType, wider: IcebergType) -> bool:
    """Returns whether Iceberg can read the stored type as the wider each."""
    match stored, wider:
        case (IntegerType(), LongType()) | (FloatType(), DoubleType()):
            return True
        case DecimalType(), DecimalType():
            return stored.scale == wider.scale and stored.precision <= wider.precision
        case _:
            return False
