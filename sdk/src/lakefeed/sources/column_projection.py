"""Iceberg's column projection: finds the columns of a table in a data file, and the values of columns that it lacks.

Columns are matched by field id. A file without field ids, such as one that was added to the table unchanged, is read
through the table's name mapping (``schema.name-mapping.default``). A column that the file lacks has the value of the
file's partition, if the table is partitioned by that column; else its initial default; else null.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, TypeAlias

import pyarrow as pa
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.table.name_mapping import MappedField
from pyiceberg.transforms import IdentityTransform
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from lakefeed.catalog.arrow_types import arrow_type
from lakefeed.catalog.list_arrays import list_like, with_values
from lakefeed.catalog.version_files import DataFileRef
from lakefeed.formats.parquet_footer import FIELD_ID, Footer

CACHED_FILES = 64

Reshape: TypeAlias = "Callable[[pa.Array[Any]], pa.Array[Any]]"
Constants: TypeAlias = Mapping[int, Any]


@dataclass(frozen=True, eq=False)
class FileProjection:
    """The columns of a schema in one file.

    ``names``: the name of each column in the file, None where the file lacks it. ``constants``: the values of missing
    columns, where they are not null. ``reshaped``: functions that turn columns of the file into columns of the schema,
    where nested fields have changed.
    """

    footer: Footer
    names: Mapping[str, str | None]
    constants: Mapping[str, Any] = field(default_factory=dict)
    reshaped: Mapping[str, Reshape] = field(default_factory=dict)

    @property
    def by_path(self) -> dict[str, str | None]:
        """Returns the names in the file under which statistics of columns and nested fields are stored."""
        return {name: None if name in self.reshaped else stored for name, stored in self.names.items()}


@dataclass(frozen=True)
class FieldNames:
    """The names of a field in files without ids, and those of its nested fields."""

    id: int | None
    names: tuple[str, ...]
    children: tuple[FieldNames, ...] = ()


@dataclass(frozen=True)
class FileField:
    """A field in a file: its name, its id (None: not in the schema), and its nested fields."""

    name: str
    id: int | None
    children: tuple[FileField, ...] = ()


class TableProjection:
    """The projection rules for one schema of a table. Thread-safe."""

    def __init__(self, table: Table, schema: Schema) -> None:
        self._schema = schema
        self._specs = table.specs()
        mapping = table.metadata.name_mapping()
        mapped = _mapping_from_schemas(table) if mapping is None else tuple(map(_field_names, mapping.root))
        self._mapped = _mapping_of_schema(mapped, schema.as_struct())
        self._cache: dict[str, FileProjection] = {}

    def columns(self, file: DataFileRef, footer: Footer) -> FileProjection:
        """Returns the columns of the schema in a file."""
        projection = self._cache.get(file.path)
        if projection is None:
            projection = self._columns(file, footer)
            if len(self._cache) >= CACHED_FILES:
                self._cache.clear()
            self._cache[file.path] = projection
        return projection

    def _columns(self, file: DataFileRef, footer: Footer) -> FileProjection:
        by_id = {stored.id: stored for stored in file_fields(footer.schema, self._mapped)}
        constants = self._partition(file)
        names: dict[str, str | None] = {}
        absent: dict[str, Any] = {}
        reshaped: dict[str, Reshape] = {}
        for column in self._schema.fields:
            stored = by_id.get(column.field_id)
            names[column.name] = stored.name if stored is not None else None
            if stored is None:
                value = _default_value(column, constants)
                if value is not None:
                    absent[column.name] = value
            elif not _has_same_shape(stored, column.field_type):
                reshaped[column.name] = partial(_reshape, stored, column.field_type, constants)
        return FileProjection(footer, names, absent, reshaped)

    def _partition(self, file: DataFileRef) -> Constants:
        """Returns the partition values that are values of a column, by the id of the column."""
        spec = self._specs.get(file.spec_id)
        if spec is None:
            return {}
        pairs = zip(spec.fields, file.partition, strict=False)
        return {part.source_id: value for part, value in pairs if isinstance(part.transform, IdentityTransform)}


# ------------------------------------------------------------------------------------------ names of files without ids


def _field_names(mapped: MappedField) -> FieldNames:
    return FieldNames(mapped.field_id, tuple(mapped.names), tuple(map(_field_names, mapped.fields)))


def _mapping_from_schemas(table: Table) -> tuple[FieldNames, ...]:
    """Returns all names that fields ever had, for a table without a name mapping; newer fields win."""
    mapped: tuple[FieldNames, ...] = ()
    for schema in sorted(table.metadata.schemas, key=lambda each: each.schema_id):
        mapped = _extend_mapping(mapped, schema.as_struct())
    return mapped


def _extend_mapping(mapped: Sequence[FieldNames], kind: IcebergType) -> tuple[FieldNames, ...]:
    fields = _child_fields(kind)
    owners = {name: one.field_id for name, one in fields}
    older = {
        one.id: replace(one, names=tuple(n for n in one.names if owners.get(n, one.id) == one.id)) for one in mapped
    }
    for name, one in fields:
        previous = older.get(one.field_id, FieldNames(one.field_id, ()))
        names = previous.names if name in previous.names else (*previous.names, name)
        older[one.field_id] = FieldNames(one.field_id, names, _extend_mapping(previous.children, one.field_type))
    return tuple(older.values())


def _mapping_of_schema(mapped: Sequence[FieldNames], kind: IcebergType) -> tuple[FieldNames, ...]:
    """Returns the mapping of the fields of a schema.

    A field that the mapping lacks has its own name, unless that is the name of an older field that was dropped. So an
    old version finds its columns, although their names belong to newer columns now.
    """
    known = {one.id: one for one in mapped}
    owner = {name: one.id for one in mapped for name in one.names}
    own = {
        name: one.field_id
        for name, one in _child_fields(kind)
        if one.field_id not in known and (owner.get(name) or one.field_id) >= one.field_id
    }
    mapping = []
    for name, one in _child_fields(kind):
        previous = known.get(one.field_id)
        names: tuple[str, ...] = (name,) if name in own else ()
        if previous is not None:
            names = tuple(each for each in previous.names if each not in own)
        children = previous.children if previous is not None else ()
        mapping.append(FieldNames(one.field_id, names, _mapping_of_schema(children, one.field_type)))
    return tuple(mapping)


def _child_fields(kind: IcebergType) -> list[tuple[str, NestedField]]:
    """Returns the fields inside a type, with their names in a mapping."""
    match kind:
        case StructType():
            return [(one.name, one) for one in kind.fields]
        case ListType():
            return [("element", kind.element_field)]
        case MapType():
            return [("key", kind.key_field), ("value", kind.value_field)]
        case _:
            return []


# ------------------------------------------------------------------------------------------ fields of a file


def file_fields(fields: Iterable[pa.Field[Any]], mapped: Sequence[FieldNames]) -> tuple[FileField, ...]:
    """Returns the fields of a file (or struct) with their ids; fields without ids get those of the mapping."""
    by_id = {one.id: one for one in mapped}
    by_name = {name: one for one in mapped for name in one.names}
    stored_fields, ranks = [], []
    for one in fields:
        own = _field_id(one)
        match = by_name.get(one.name) if own is None else by_id.get(own)
        ranks.append(match.names.index(one.name) if match is not None and own is None else -1)
        number = own if own is not None or match is None else match.id
        stored_fields.append(
            FileField(one.name, number, _file_children(one.type, match.children if match is not None else ()))
        )
    # If the file has several names of one field, the first in the mapping, which is the oldest, wins.
    best: dict[int | None, int] = {}
    for rank, stored in zip(ranks, stored_fields, strict=True):
        best[stored.id] = min(rank, best.get(stored.id, rank))
    pairs = zip(ranks, stored_fields, strict=True)
    return tuple(stored if rank == best[stored.id] else replace(stored, id=None) for rank, stored in pairs)


def _file_children(kind: pa.DataType, mapped: Sequence[FieldNames]) -> tuple[FileField, ...]:
    match kind:
        case pa.StructType():
            return file_fields([kind.field(index) for index in range(kind.num_fields)], mapped)
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType():
            return (_file_child(kind.value_field, "element", mapped),)
        case pa.MapType():
            return (_file_child(kind.key_field, "key", mapped), _file_child(kind.item_field, "value", mapped))
        case _:
            return ()


def _file_child(part: pa.Field[Any], name: str, mapped: Sequence[FieldNames]) -> FileField:
    """Returns the elements of a list, or the keys or values of a map, whose names in the file do not matter."""
    match = next((one for one in mapped if name in one.names), None)
    own = _field_id(part)
    number = own if own is not None or match is None else match.id
    return FileField(part.name, number, _file_children(part.type, match.children if match is not None else ()))


def _field_id(one: pa.Field[Any]) -> int | None:
    text = (one.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


# ------------------------------------------------------------------------------------------ values


def _default_value(column: NestedField, constants: Constants) -> Any:
    """Returns the value of a column that a file lacks as a scalar; None for null."""
    value = constants.get(column.field_id)
    value = column.initial_default if value is None else value
    if value is None:
        return None
    return pa.scalar(value, arrow_type(column.field_type))


def _has_same_shape(stored: FileField, kind: IcebergType) -> bool:
    """Returns whether nested fields of a column are those of the schema, in its order."""
    fields = [one for _, one in _child_fields(kind)]
    if isinstance(kind, StructType):
        if [(one.id, one.name) for one in stored.children] != [(one.field_id, one.name) for one in fields]:
            return False
    elif len(stored.children) != len(fields):
        return not fields
    elif fields and stored.children[-1].id != fields[-1].field_id:
        return False
    return all(_has_same_shape(inner, one.field_type) for inner, one in zip(stored.children, fields, strict=True))


def _reshape(stored: FileField, kind: IcebergType, constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the array with the nested fields of the schema; the types are those of the file."""
    match array, kind:
        case pa.StructArray(), StructType():
            return _reshape_struct(stored, kind, constants, array)
        case pa.MapArray(), MapType():
            keys = _reshape(stored.children[0], kind.key_type, constants, array.keys)
            items = _reshape_part(stored.children[1], kind.value_field, constants, array.items)
            fields = [pa.field("key", keys.type, False), pa.field("value", items.type)]
            entries = pa.StructArray.from_arrays([keys, items], fields=fields)
            return with_values(array, pa.map_(keys.type, items.type), entries)
        case ((pa.ListArray() | pa.LargeListArray() | pa.FixedSizeListArray()), ListType()):
            values = _reshape_part(stored.children[0], kind.element_field, constants, array.values)
            return with_values(array, list_like(array.type, values.type), values)
        case _:
            return array


def _reshape_part(stored: FileField, part: NestedField, constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the elements of a list or the values of a map; untyped nulls get the type of the schema."""
    if stored.id != part.field_id and array.null_count == len(array):
        kind: Any = arrow_type(part.field_type)
        absent: pa.Array[Any] = pa.nulls(len(array), kind)
        return absent
    return _reshape(stored, part.field_type, constants, array)


def _reshape_struct(stored: FileField, kind: StructType, constants: Constants, array: pa.StructArray) -> pa.Array[Any]:
    indices = {one.id: index for index, one in enumerate(stored.children)}
    columns: list[pa.Array[Any]] = []
    for one in kind.fields:
        index = indices.get(one.field_id)
        if index is None:
            absent: Any = arrow_type(one.field_type)
            value = _default_value(one, constants)
            columns.append(pa.nulls(len(array), absent) if value is None else pa.repeat(value, len(array)))
        else:
            columns.append(_reshape(stored.children[index], one.field_type, constants, array.field(index)))
    fields = [pa.field(one.name, column.type) for one, column in zip(kind.fields, columns, strict=True)]
    mask = array.is_null() if array.null_count else None
    struct: pa.Array[Any] = pa.StructArray.from_arrays(columns, fields=fields, mask=mask)
    return struct
