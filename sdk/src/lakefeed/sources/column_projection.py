"""Which columns of a table a data file holds, and what stands for those that it lacks: Iceberg's column projection.

A column is known by its field id. A file without field ids, such as one that was added to the table as it was, is read
through the table's name mapping (``schema.name-mapping.default``). A column that is not in the file has the value of
the file's partition, where the table is partitioned by that very column; else its initial default; else null.
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

    ``names``: the name of each in the file, None where the file lacks it. ``constants``: the values of those that it
    lacks, where they are not null. ``reshaped``: what makes a column of the file one of the schema, where fields inside
    it have changed.
    """

    footer: Footer
    names: Mapping[str, str | None]
    constants: Mapping[str, Any] = field(default_factory=dict)
    reshaped: Mapping[str, Reshape] = field(default_factory=dict)

    @property
    def by_path(self) -> dict[str, str | None]:
        """The names in the file by which statistics of the columns, and of fields inside them, can be asked for."""
        return {name: None if name in self.reshaped else stored for name, stored in self.names.items()}


@dataclass(frozen=True)
class FieldNames:
    """The names that files without ids have for a field, and for those inside it."""

    id: int | None
    names: tuple[str, ...]
    inside: tuple[FieldNames, ...] = ()


@dataclass(frozen=True)
class FileField:
    """A field in a file: its name, its id (None: the schema has no such field), and the fields inside it."""

    name: str
    id: int | None
    inside: tuple[FileField, ...] = ()


class TableProjection:
    """The rules for one schema of a table. Thread-safe."""

    def __init__(self, table: Table, schema: Schema) -> None:
        self._schema = schema
        self._specs = table.specs()
        mapping = table.metadata.name_mapping()
        mapped = _mapping_from_schemas(table) if mapping is None else tuple(map(_field_names, mapping.root))
        self._mapped = _mapping_of_schema(mapped, schema.as_struct())
        self._known: dict[str, FileProjection] = {}

    def columns(self, file: DataFileRef, footer: Footer) -> FileProjection:
        """The columns of the schema in a file."""
        known = self._known.get(file.path)
        if known is None:
            known = self._columns(file, footer)
            if len(self._known) >= CACHED_FILES:
                self._known.clear()
            self._known[file.path] = known
        return known

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
        """By the id of the column, the values of the partition that are values of a column."""
        spec = self._specs.get(file.spec_id)
        if spec is None:
            return {}
        pairs = zip(spec.fields, file.partition, strict=False)
        return {part.source_id: value for part, value in pairs if isinstance(part.transform, IdentityTransform)}


# ------------------------------------------------------------------------------------------ names of files without ids


def _field_names(mapped: MappedField) -> FieldNames:
    return FieldNames(mapped.field_id, tuple(mapped.names), tuple(map(_field_names, mapped.fields)))


def _mapping_from_schemas(table: Table) -> tuple[FieldNames, ...]:
    """For a table without a name mapping: every name that a field has ever had; of two fields, the newer one has it."""
    mapped: tuple[FieldNames, ...] = ()
    for schema in sorted(table.metadata.schemas, key=lambda each: each.schema_id):
        mapped = _extend_mapping(mapped, schema.as_struct())
    return mapped


def _extend_mapping(mapped: Sequence[FieldNames], kind: IcebergType) -> tuple[FieldNames, ...]:
    fields = _child_fields(kind)
    taken = {name: one.field_id for name, one in fields}
    older = {
        one.id: replace(one, names=tuple(n for n in one.names if taken.get(n, one.id) == one.id)) for one in mapped
    }
    for name, one in fields:
        before = older.get(one.field_id, FieldNames(one.field_id, ()))
        names = before.names if name in before.names else (*before.names, name)
        older[one.field_id] = FieldNames(one.field_id, names, _extend_mapping(before.inside, one.field_type))
    return tuple(older.values())


def _mapping_of_schema(mapped: Sequence[FieldNames], kind: IcebergType) -> tuple[FieldNames, ...]:
    """The mapping of the fields of a schema.

    A field that the mapping does not know goes by its name, unless that is the name of an older field, which was
    dropped. So an old version finds its columns, although their names belong to newer ones now.
    """
    known = {one.id: one for one in mapped}
    owner = {name: one.id for one in mapped for name in one.names}
    own = {
        name: one.field_id
        for name, one in _child_fields(kind)
        if one.field_id not in known and (owner.get(name) or one.field_id) >= one.field_id
    }
    found = []
    for name, one in _child_fields(kind):
        before = known.get(one.field_id)
        names: tuple[str, ...] = (name,) if name in own else ()
        if before is not None:
            names = tuple(each for each in before.names if each not in own)
        inside = before.inside if before is not None else ()
        found.append(FieldNames(one.field_id, names, _mapping_of_schema(inside, one.field_type)))
    return tuple(found)


def _child_fields(kind: IcebergType) -> list[tuple[str, NestedField]]:
    """The fields inside a type, by the names that they have in a mapping."""
    match kind:
        case StructType():
            return [(one.name, one) for one in kind.fields]
        case ListType():
            return [("element", kind.element_field)]
        case MapType():
            return [("key", kind.key_field), ("value", kind.value_field)]
        case _:
            return []


# ------------------------------------------------------------------------------------------ what is in a file


def file_fields(fields: Iterable[pa.Field[Any]], mapped: Sequence[FieldNames]) -> tuple[FileField, ...]:
    """The fields of a file (or of a struct in it) with their ids; those that carry none get the ids of the mapping."""
    by_id = {one.id: one for one in mapped}
    by_name = {name: one for one in mapped for name in one.names}
    found, ranks = [], []
    for one in fields:
        own = _field_id(one)
        match = by_name.get(one.name) if own is None else by_id.get(own)
        ranks.append(match.names.index(one.name) if match is not None and own is None else -1)
        number = own if own is not None or match is None else match.id
        found.append(FileField(one.name, number, _file_children(one.type, match.inside if match is not None else ())))
    # Where several names of one field are in the file, the first one in the mapping is the oldest, and counts.
    best: dict[int | None, int] = {}
    for rank, stored in zip(ranks, found, strict=True):
        best[stored.id] = min(rank, best.get(stored.id, rank))
    pairs = zip(ranks, found, strict=True)
    return tuple(stored if rank == best[stored.id] else replace(stored, id=None) for rank, stored in pairs)


def _file_children(kind: pa.DataType, mapped: Sequence[FieldNames]) -> tuple[FileField, ...]:
    match kind:
        case pa.StructType():
            return file_fields([kind.field(place) for place in range(kind.num_fields)], mapped)
        case pa.ListType() | pa.LargeListType() | pa.FixedSizeListType():
            return (_file_child(kind.value_field, "element", mapped),)
        case pa.MapType():
            return (_file_child(kind.key_field, "key", mapped), _file_child(kind.item_field, "value", mapped))
        case _:
            return ()


def _file_child(part: pa.Field[Any], name: str, mapped: Sequence[FieldNames]) -> FileField:
    """The elements of a list, or the keys or values of a map: what they are called in the file says nothing."""
    match = next((one for one in mapped if name in one.names), None)
    own = _field_id(part)
    number = own if own is not None or match is None else match.id
    return FileField(part.name, number, _file_children(part.type, match.inside if match is not None else ()))


def _field_id(one: pa.Field[Any]) -> int | None:
    text = (one.metadata or {}).get(FIELD_ID)
    return None if text is None else int(text)


# ------------------------------------------------------------------------------------------ values


def _default_value(column: NestedField, constants: Constants) -> Any:
    """The value of a column that a file lacks, as a scalar; None for null."""
    value = constants.get(column.field_id)
    value = column.initial_default if value is None else value
    if value is None:
        return None
    return pa.scalar(value, arrow_type(column.field_type))


def _has_same_shape(stored: FileField, kind: IcebergType) -> bool:
    """Whether the structs in a column have the fields of the schema, in its order, and lists and maps its values."""
    fields = [one for _, one in _child_fields(kind)]
    if isinstance(kind, StructType):
        if [(one.id, one.name) for one in stored.inside] != [(one.field_id, one.name) for one in fields]:
            return False
    elif len(stored.inside) != len(fields):
        return not fields
    elif fields and stored.inside[-1].id != fields[-1].field_id:
        return False
    return all(_has_same_shape(inner, one.field_type) for inner, one in zip(stored.inside, fields, strict=True))


def _reshape(stored: FileField, kind: IcebergType, constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """The array with the fields that structs in it have in the schema; types are those of the file."""
    match array, kind:
        case pa.StructArray(), StructType():
            return _reshape_struct(stored, kind, constants, array)
        case pa.MapArray(), MapType():
            keys = _reshape(stored.inside[0], kind.key_type, constants, array.keys)
            items = _reshape_part(stored.inside[1], kind.value_field, constants, array.items)
            fields = [pa.field("key", keys.type, False), pa.field("value", items.type)]
            entries = pa.StructArray.from_arrays([keys, items], fields=fields)
            return with_values(array, pa.map_(keys.type, items.type), entries)
        case ((pa.ListArray() | pa.LargeListArray() | pa.FixedSizeListArray()), ListType()):
            values = _reshape_part(stored.inside[0], kind.element_field, constants, array.values)
            return with_values(array, list_like(array.type, values.type), values)
        case _:
            return array


def _reshape_part(stored: FileField, part: NestedField, constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """The elements of a list, or the values of a map; nulls that had no type when they were written have it now."""
    if stored.id != part.field_id and array.null_count == len(array):
        kind: Any = arrow_type(part.field_type)
        absent: pa.Array[Any] = pa.nulls(len(array), kind)
        return absent
    return _reshape(stored, part.field_type, constants, array)


def _reshape_struct(stored: FileField, kind: StructType, constants: Constants, array: pa.StructArray) -> pa.Array[Any]:
    places = {one.id: place for place, one in enumerate(stored.inside)}
    columns: list[pa.Array[Any]] = []
    for one in kind.fields:
        place = places.get(one.field_id)
        if place is None:
            absent: Any = arrow_type(one.field_type)
            value = _default_value(one, constants)
            columns.append(pa.nulls(len(array), absent) if value is None else pa.repeat(value, len(array)))
        else:
            columns.append(_reshape(stored.inside[place], one.field_type, constants, array.field(place)))
    fields = [pa.field(one.name, column.type) for one, column in zip(kind.fields, columns, strict=True)]
    mask = array.is_null() if array.null_count else None
    found: pa.Array[Any] = pa.StructArray.from_arrays(columns, fields=fields, mask=mask)
    return found
