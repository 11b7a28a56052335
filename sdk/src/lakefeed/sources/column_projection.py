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

from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.list_arrays import list_like, with_values
from lakefeed.catalog.table_columns import FieldNames, TableColumns, child_fields, field_id
from lakefeed.formats.parquet_footer import Footer

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
class FileField:
    """A field in a file: its name, its id (None: not in the schema), and its nested fields."""

    name: str
    id: int | None
    children: tuple[FileField, ...] = ()


class TableProjection:
    """The projection rules for one schema of a table. Thread-safe."""

    def __init__(self, columns: TableColumns) -> None:
        self._table = columns
        self._mapped = _mapping_of_schema(columns.names, pa.struct(list(columns.stored)))
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
        constants = self._constants(file)
        names: dict[str, str | None] = {}
        absent: dict[str, Any] = {}
        reshaped: dict[str, Reshape] = {}
        for column in self._table.stored:
            stored = by_id.get(field_id(column))
            names[column.name] = stored.name if stored is not None else None
            if stored is None:
                value = _constant(column, constants)
                if value is not None:
                    absent[column.name] = value
            elif not _has_same_shape(stored, column.type):
                reshaped[column.name] = partial(_reshape, stored, column.type, constants)
        return FileProjection(footer, names, absent, reshaped)

    def _constants(self, file: DataFileRef) -> Constants:
        """Returns the values of columns that the file lacks by field id: those of its partition, else the defaults."""
        partition = {
            column: file.partition[index]
            for index, column in self._table.partitions.get(file.spec_id, ())
            if index < len(file.partition) and file.partition[index] is not None
        }
        return {**self._table.defaults, **partition}


# ------------------------------------------------------------------------------------------ names of files without ids


def _mapping_of_schema(mapped: Sequence[FieldNames], kind: pa.DataType) -> tuple[FieldNames, ...]:
    """Returns the mapping of the fields of a schema.

    A field that the mapping lacks has its own name, unless that is the name of an older field that was dropped. So an
    old version finds its columns, although their names belong to newer columns now.
    """
    known = {one.id: one for one in mapped}
    owner = {name: one.id for one in mapped for name in one.names}
    fields = [(name, field_id(one) or 0, one.type) for name, one in child_fields(kind)]
    own = {name: number for name, number, _ in fields if number not in known and (owner.get(name) or number) >= number}
    mapping = []
    for name, number, inner in fields:
        previous = known.get(number)
        names: tuple[str, ...] = (name,) if name in own else ()
        if previous is not None:
            names = tuple(each for each in previous.names if each not in own)
        children = previous.children if previous is not None else ()
        mapping.append(FieldNames(number, names, _mapping_of_schema(children, inner)))
    return tuple(mapping)


# ------------------------------------------------------------------------------------------ fields of a file


def file_fields(fields: Iterable[pa.Field[Any]], mapped: Sequence[FieldNames]) -> tuple[FileField, ...]:
    """Returns the fields of a file (or struct) with their ids; fields without ids get those of the mapping."""
    by_id = {one.id: one for one in mapped}
    by_name = {name: one for one in mapped for name in one.names}
    stored_fields, ranks = [], []
    for one in fields:
        own = field_id(one)
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
    own = field_id(part)
    number = own if own is not None or match is None else match.id
    return FileField(part.name, number, _file_children(part.type, match.children if match is not None else ()))


# ------------------------------------------------------------------------------------------ values


def _constant(column: pa.Field[Any], constants: Constants) -> Any:
    """Returns the value of a column that a file lacks as a scalar; None for null."""
    value = constants.get(field_id(column) or 0)
    return None if value is None else pa.scalar(value, column.type)


def _has_same_shape(stored: FileField, kind: pa.DataType) -> bool:
    """Returns whether nested fields of a column are those of the schema, in its order."""
    fields = [one for _, one in child_fields(kind)]
    if isinstance(kind, pa.StructType):
        if [(one.id, one.name) for one in stored.children] != [(field_id(one), one.name) for one in fields]:
            return False
    elif len(stored.children) != len(fields):
        return not fields
    elif fields and stored.children[-1].id != field_id(fields[-1]):
        return False
    return all(_has_same_shape(inner, one.type) for inner, one in zip(stored.children, fields, strict=True))


def _reshape(stored: FileField, kind: pa.DataType, constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the array with the nested fields of the schema; the types are those of the file."""
    match array, kind:
        case pa.StructArray(), pa.StructType():
            return _reshape_struct(stored, kind, constants, array)
        case pa.MapArray(), pa.MapType():
            keys = _reshape(stored.children[0], kind.key_type, constants, array.keys)
            items = _reshape_part(stored.children[1], kind.item_field, constants, array.items)
            fields = [pa.field("key", keys.type, False), pa.field("value", items.type)]
            entries = pa.StructArray.from_arrays([keys, items], fields=fields)
            return with_values(array, pa.map_(keys.type, items.type), entries)
        case ((pa.ListArray() | pa.LargeListArray() | pa.FixedSizeListArray()), pa.LargeListType()):
            values = _reshape_part(stored.children[0], kind.value_field, constants, array.values)
            return with_values(array, list_like(array.type, values.type), values)
        case _:
            return array


def _reshape_part(stored: FileField, part: pa.Field[Any], constants: Constants, array: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the elements of a list or the values of a map; untyped nulls get the type of the schema."""
    if stored.id != field_id(part) and array.null_count == len(array):
        absent: pa.Array[Any] = pa.nulls(len(array), part.type)
        return absent
    return _reshape(stored, part.type, constants, array)


def _reshape_struct(
    stored: FileField, kind: pa.StructType, constants: Constants, array: pa.StructArray
) -> pa.Array[Any]:
    indices = {one.id: index for index, one in enumerate(stored.children)}
    columns: list[pa.Array[Any]] = []
    for one in kind.fields:
        index = indices.get(field_id(one))
        if index is None:
            value = _constant(one, constants)
            columns.append(pa.nulls(len(array), one.type) if value is None else pa.repeat(value, len(array)))
        else:
            columns.append(_reshape(stored.children[index], one.type, constants, array.field(index)))
    fields = [pa.field(one.name, column.type) for one, column in zip(kind.fields, columns, strict=True)]
    mask = array.is_null() if array.null_count else None
    struct: pa.Array[Any] = pa.StructArray.from_arrays(columns, fields=fields, mask=mask)
    return struct
