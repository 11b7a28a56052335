"""Changes of columns in the same commit as rows: columns and struct fields are added, widened and dropped."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
from pyiceberg.schema import assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.table.update import TableUpdate
from pyiceberg.types import NestedField, StructType

from lakefeed.catalog.column_decisions import ColumnDecision, decide_columns
from lakefeed.catalog.column_files import has_column_files
from lakefeed.catalog.column_schema import apply_updates, column_file_ids
from lakefeed.catalog.compatibility import check_round_trip, is_compatible
from lakefeed.catalog.null_types import unique_comment
from lakefeed.catalog.schema import MEDIA_KEY, iceberg_schema, media_of, normalize_schema, storage_schema
from lakefeed.catalog.schema_evolution import Columns, columns_of, evolution_updates, is_wider
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError, quoted_list

NextId = Callable[[], int]


def unite_columns(
    table: Table, incoming: pa.Schema | None, dropped: Sequence[str] = (), in_column_files: Sequence[str] = ()
) -> ColumnDecision:
    """Returns the columns of a table after rows of the schema ``incoming`` are written and columns are dropped.

    A column or struct field that the table lacks is added, and is null in older rows. A type becomes wider where that
    loses nothing.

    Args:
        table: the table.
        incoming: the columns of the rows; None if there are none.
        dropped: the paths of columns to drop. Dots lead into structs.
        in_column_files: columns whose values will be in column files, if the table has such. One that is in the rows
            now becomes a new column of the same name, for files of older versions keep the old values.

    Raises:
        ColumnNotFoundError: a dropped column does not exist. None is dropped.
        SchemaError: a dropped column is of the key, or nothing would be left of the table or of a struct.
        TypeMismatchError: a type does not fit, or cannot be stored.
    """
    decided = decide_columns(table, incoming)
    before = columns_of(decided.table)
    next_id = itertools.count(decided.table.metadata.last_column_id + 1).__next__
    after = before if incoming is None else _with_incoming(before, incoming, next_id)
    after = _without(after, dropped)
    names = in_column_files if has_column_files(table) else ()
    after, apart = _set_apart(after, names, column_file_ids(decided.table), next_id)
    if after is before:
        return decided
    return _changed(decided, evolution_updates(decided.table, after, apart)[1], table)


def publish_columns(decided: ColumnDecision, remaining: frozenset[int], current: Table) -> ColumnDecision:
    """Returns the columns after a commit that leaves only the columns ``remaining`` in column files.

    Args:
        decided: the columns before.
        remaining: the ids of columns.
        current: the table before the commit.
    """
    columns = columns_of(decided.table)
    return _changed(decided, evolution_updates(decided.table, columns, remaining)[1], current)


def _changed(decided: ColumnDecision, updates: tuple[TableUpdate, ...], current: Table) -> ColumnDecision:
    changed = apply_updates(decided.table, updates)
    return ColumnDecision(changed, (*decided.updates, *updates), current.metadata.current_schema_id)


def _set_apart(
    columns: Columns, names: Sequence[str], apart: frozenset[int], next_id: NextId
) -> tuple[Columns, frozenset[int]]:
    """Returns the columns, of which those of these names are in column files, and the ids of all such columns."""
    moved = {each.name for each in columns.fields if each.name in names and each.field_id not in apart}
    if not moved:
        return columns, apart
    fields: list[NestedField] = []
    for each in columns.fields:
        fields += assign_fresh_schema_ids(_schema_of(each), next_id).fields if each.name in moved else [each]
    ids = frozenset(each.field_id for each in fields if each.name in moved)
    return replace(columns, fields=tuple(fields)), apart | ids


def _with_incoming(columns: Columns, incoming: pa.Schema, next_id: NextId) -> Columns:
    fields, declared = {each.name: each for each in columns.fields}, dict(columns.declared)
    for field in incoming:
        if field.name not in fields:
            fields[field.name], declared[field.name] = _new_column(field, next_id)
            continue
        known = declared[field.name]
        union = united_field(known, field)
        if union is not known:
            fields[field.name] = _united_iceberg_field(fields[field.name], known, union, next_id)
            declared[field.name] = union
    if all(declared[name] is columns.declared.get(name) for name in declared):
        return columns
    media = {**columns.media, **media_of(pa.schema(list(declared.values())))}
    return replace(columns, fields=tuple(fields.values()), declared=declared, media=media)


def _new_column(field: pa.Field[Any], next_id: NextId) -> tuple[NestedField, pa.Field[Any]]:
    (declared,) = normalize_schema(pa.schema([field.with_nullable(True)]))
    check_round_trip(pa.schema([declared]), storage_schema(pa.schema([declared])))
    (new,) = assign_fresh_schema_ids(iceberg_schema(pa.schema([declared])), next_id).fields
    return new, declared


def is_open_struct(field: pa.Field[Any]) -> bool:
    """Returns whether a column is a struct of which each field is written on its own; the record of a file is not."""
    return pa.types.is_struct(field.type) and MEDIA_KEY not in (field.metadata or {})


def united_field(known: pa.Field[Any], incoming: pa.Field[Any]) -> pa.Field[Any]:
    """Returns ``known`` with the new struct fields and the wider types of ``incoming``; itself if there are none.

    Raises:
        TypeMismatchError: the types do not fit together.
    """
    kind = united_type(known, incoming, known.name)
    return known if kind == known.type else known.with_type(kind)


def united_type(known: pa.Field[Any], incoming: pa.Field[Any], path: str) -> pa.DataType:
    """Returns the type that holds the values of both columns.

    Raises:
        TypeMismatchError: there is none.
    """
    if known.type == incoming.type or pa.types.is_null(incoming.type):
        return _type(known)
    if is_open_struct(known) and pa.types.is_struct(incoming.type):
        fields = {field.name: field for field in known.type}
        for field in incoming.type:
            own = fields.get(field.name)
            fields[field.name] = (
                field.with_nullable(True)
                if own is None
                else own.with_type(united_type(own, field, f"{path}.{field.name}"))
            )
        return pa.struct(list(fields.values()))
    if is_compatible(incoming.type, known.type, path):
        return _type(known)
    if is_compatible(known.type, incoming.type, path) and not pa.types.is_nested(known.type):
        return _type(incoming)
    raise TypeMismatchError(
        f"column {path!r} has type {known.type} in the table, which {incoming.type} does not fit; cast it first"
    )


def _type(field: pa.Field[Any]) -> pa.DataType:
    kind: pa.DataType = field.type
    return kind


def _united_iceberg_field(
    field: NestedField, known: pa.Field[Any], union: pa.Field[Any], next_id: NextId
) -> NestedField:
    """Returns the Iceberg field of ``union``. Fields that exist keep their ids."""
    check_round_trip(pa.schema([union]), storage_schema(pa.schema([union])))
    (plain,) = iceberg_schema(pa.schema([union])).fields
    after = _adopt(field, plain, known, union, next_id)
    return (
        field.model_copy(update={"doc": unique_comment(field, f"declared as {union.type}")})
        if after == field
        else after
    )


def _adopt(
    field: NestedField, plain: NestedField, known: pa.Field[Any], union: pa.Field[Any], next_id: NextId
) -> NestedField:
    if known.type == union.type:
        return field
    if isinstance(field.field_type, StructType) and isinstance(plain.field_type, StructType):
        own = {each.name: each for each in field.field_type.fields}
        declared: Mapping[str, pa.Field[Any]] = {each.name: each for each in known.type}
        inner = []
        for each, kind in zip(plain.field_type.fields, union.type, strict=True):
            if each.name in own:
                inner.append(_adopt(own[each.name], each, declared[each.name], kind, next_id))
            else:
                inner.extend(assign_fresh_schema_ids(_schema_of(each), next_id).fields)
        return field.model_copy(update={"field_type": StructType(*inner)})
    if not is_wider(known.type, union.type, field.field_type, plain.field_type):
        raise TypeMismatchError(
            f"column {field.name!r} has type {known.type} in the table and {union.type} in the rows; cast it first"
        )
    return field.model_copy(update={"field_type": plain.field_type})


def _schema_of(field: NestedField) -> Any:
    from pyiceberg.schema import Schema

    return Schema(field)


# ------------------------------------------------------------------------------------------ dropped columns


def _without(columns: Columns, dropped: Sequence[str]) -> Columns:
    if not dropped:
        return columns
    paths = [_path(columns, name) for name in dropped]
    columns.check_key_remains([path[0] for path in paths])
    fields, declared = list(columns.fields), dict(columns.declared)
    media, lost = dict(columns.media), dict(columns.dropped_media)
    for path in sorted(set(paths), key=len, reverse=True):
        index = next((index for index, each in enumerate(fields) if each.name == path[0]), None)
        if index is None:
            continue  # its struct is dropped as well
        field = fields[index]
        if len(path) == 1:
            if field.name in media:
                lost[str(field.field_id)] = media.pop(field.name)
            del fields[index], declared[field.name]
        else:
            fields[index] = _without_inner(field, path[1:])
            declared[field.name] = _without_inner_type(declared[field.name], path[1:])
    if not fields:
        raise SchemaError(f"cannot drop all columns ({quoted_list(dropped)}); drop the table instead")
    return replace(columns, fields=tuple(fields), declared=declared, media=media, dropped_media=lost)


def _path(columns: Columns, name: str) -> tuple[str, ...]:
    if name in columns.declared:
        return (name,)
    path = tuple(name.split("."))
    field = columns.declared.get(path[0])
    for step in path[1:]:
        inner = {} if field is None or not is_open_struct(field) else {each.name: each for each in field.type}
        field = inner.get(step)
    if field is None:
        raise ColumnNotFoundError.of(name, leaf_paths(columns.declared.values()))
    return path


def leaf_paths(fields: Any) -> list[str]:
    """Returns the paths of the columns and of the fields of structs, with dots."""
    paths: list[str] = []
    for field in fields:
        inner = leaf_paths(field.type) if is_open_struct(field) else []
        paths += [f"{field.name}.{each}" for each in inner] or [field.name]
    return paths


def _without_inner(field: NestedField, path: tuple[str, ...]) -> NestedField:
    assert isinstance(field.field_type, StructType), "the path leads into structs"
    inner = [
        each if each.name != path[0] else _without_inner(each, path[1:])
        for each in field.field_type.fields
        if each.name != path[0] or len(path) > 1
    ]
    if not inner:
        raise SchemaError(f"cannot drop all fields of {field.name!r}; drop the column {field.name!r} itself")
    return field.model_copy(update={"field_type": StructType(*inner)})


def _without_inner_type(field: pa.Field[Any], path: tuple[str, ...]) -> pa.Field[Any]:
    inner = [
        each if each.name != path[0] else _without_inner_type(each, path[1:])
        for each in field.type
        if each.name != path[0] or len(path) > 1
    ]
    return field.with_type(pa.struct(inner))
