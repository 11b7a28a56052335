"""The columns of one schema of a table, and the rules by which data files have them. Without types of PyIceberg."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa

FIELD_ID = b"PARQUET:field_id"


@dataclass(frozen=True)
class FieldNames:
    """The names of a field in files without ids, and those of its nested fields."""

    id: int | None
    names: tuple[str, ...]
    children: tuple[FieldNames, ...] = ()


@dataclass(frozen=True)
class TableColumns:
    """The columns of a schema.

    Attributes:
        declared: the schema of the rows that are read.
        stored: the Iceberg schema as Arrow types, with the ids of all fields.
        schema_id: the schema of the snapshot.
        names: the name mapping of the table, or all names that its fields ever had.
        partitions: for each partition spec, the indices of the values that are values of a column, with its id.
        defaults: the initial defaults that are not null, by field id.
        in_column_files: the ids of the columns that are in column files.
    """

    declared: pa.Schema
    stored: pa.Schema
    schema_id: int
    names: tuple[FieldNames, ...] = ()
    partitions: Mapping[int, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    defaults: Mapping[int, Any] = field(default_factory=dict)
    in_column_files: frozenset[int] = frozenset()


def with_former_ids(columns: TableColumns, former: TableColumns) -> TableColumns:
    """Returns columns by which files of an older version are read.

    A column that was derived anew since has another id. It gets the id that it had, if its type is the same.

    Args:
        columns: the columns.
        former: those of the older version.
    """
    ids = {field_id(each) for each in columns.stored}
    known = {field_id(each) for each in former.stored}
    by_name = {each.name: each for each in former.stored if field_id(each) not in ids}
    renewed = {
        each.name: by_name[each.name]
        for each in columns.stored
        if field_id(each) not in known and each.name in by_name and by_name[each.name].type == each.type
    }
    if not renewed:
        return columns
    return replace(
        columns,
        stored=pa.schema([renewed.get(each.name, each) for each in columns.stored]),
        names=(*columns.names, *former.names),
        in_column_files=columns.in_column_files | former.in_column_files,
    )


def field_id(one: pa.Field[Any]) -> int | None:
    """Returns the id of a field; None if it has none."""
    text = (one.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


def columns_digest(columns: TableColumns, names: Collection[str]) -> str:
    """Returns a digest of the ids and types of some columns. A column that is dropped and added again has another one.

    Args:
        columns: the columns of a schema.
        names: the names.
    """
    identity = [
        (each.name, _ids(each), str(each.type), str(columns.declared.field(each.name).type))
        for each in columns.stored
        if each.name in names
    ]
    return hashlib.sha256(repr(identity).encode()).hexdigest()[:16]


def _ids(one: pa.Field[Any]) -> list[Any]:
    return [field_id(one), *(_ids(inner) for _, inner in child_fields(one.type))]


def child_fields(kind: pa.DataType) -> list[tuple[str, pa.Field[Any]]]:
    """Returns the fields inside a type, with their names in a name mapping."""
    match kind:
        case pa.StructType():
            return [(one.name, one) for one in kind.fields]
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType():
            return [("element", kind.value_field)]
        case pa.MapType():
            return [("key", kind.key_field), ("value", kind.item_field)]
        case _:
            return []
