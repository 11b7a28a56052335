"""Storage of Arrow types in Iceberg tables. Rows come back with the types that they were saved with.

Iceberg has fewer types than Arrow. Other types are *stored* as a wider type that holds every value, and the *declared*
type is a table property, so that reads return it:

    declared                              stored
    int8, int16, uint8, uint16            int32
    uint32                                int64
    uint64                                decimal128(20, 0)
    float16                               float32
    timestamp[s | ms], any time zone      timestamp[us], UTC if there is a zone
    timestamp[ns], time64[ns], duration   int64, in the declared unit
    time32                                time64[us]
    date64                                date32
    null, also inside other types         string, all null; the first rows with values decide the type
    decimal32, decimal64, decimal256      decimal128 (precision up to 38)
    dictionary                            its values
    string_view, binary_view              string, binary
    extension types                       their storage

The declaration of a dictionary column includes its categories (:mod:`lakefeed.catalog.categories`).

Two types change: dictionary indices of less than 32 bits become int32, because appends make dictionaries grow, and the
null values of a dictionary become strings. Types without a lossless storage type (unions, intervals, list views,
run-end encoding, structs without fields, …) raise `TypeMismatchError`.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa
from pyiceberg.schema import Schema, assign_fresh_schema_ids
from pyiceberg.table import Table
from pyiceberg.types import IcebergType, ListType, MapType, NestedField, StructType

from lakefeed.catalog.arrow_types import arrow_type
from lakefeed.catalog.categories import NARROW_INDICES
from lakefeed.catalog.compatibility import check_distinct_names
from lakefeed.catalog.properties import ARROW_TYPES, COLUMN_TYPES, DROPPED_COLUMN_TYPES
from lakefeed.catalog.table_columns import FIELD_ID
from lakefeed.errors import SchemaError, TypeMismatchError, VersionNotFoundError

MEDIA_KEY = b"lakefeed.type"
MAX_DECIMAL_PRECISION = 38
UINT64_AS_DECIMAL = pa.decimal128(20, 0)
DICTIONARY_TEXT = (pa.string(), pa.large_string(), pa.binary(), pa.large_binary())


# ------------------------------------------------------------------------------------------ declared -> stored


def normalize_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the schema that a table created from ``schema`` declares. See the module for the two types that change.

    Raises:
        SchemaError: there are no columns, or two of the same name.
        TypeMismatchError: a type cannot be stored; the message names the column.
    """
    if not schema.names:
        raise SchemaError("a dataset needs at least one column")
    check_distinct_names(schema.names)
    return pa.schema([_normalize_field(field, field.name) for field in schema])


def storage_schema(schema: pa.Schema) -> pa.Schema:
    """Returns the Arrow schema of the data files of a table that declares ``schema``, without field ids.

    Example:
        >>> storage_schema(pa.schema([("label", pa.uint8())])).field("label").type
        DataType(int32)
    """
    return pa.schema([_storage_field(field, field.name) for field in normalize_schema(schema)])


def iceberg_schema(schema: pa.Schema) -> Schema:
    """Returns the Iceberg schema of a new table that declares ``schema``."""
    from pyiceberg.io.pyarrow import _ConvertToIcebergWithoutIDs, visit_pyarrow  # loads pandas

    try:
        return assign_fresh_schema_ids(visit_pyarrow(storage_schema(schema), _ConvertToIcebergWithoutIDs()))
    except ValueError as error:
        raise iceberg_schema_error(error) from None


def iceberg_schema_error(error: ValueError) -> SchemaError:
    """Returns the error for columns that do not make an Iceberg schema."""
    ambiguous = re.search(r"multiple fields for name (.*): -?\d+ and -?\d+", str(error))
    if ambiguous is None:
        return SchemaError(f"cannot make an Iceberg schema of the columns: {error}")
    return SchemaError(
        f"ambiguous field name {ambiguous[1]!r}: Iceberg uses dots for fields of structs and lists. Choose a column "
        "name that is not the path of another field"
    )


def file_schema(declared: pa.Schema, iceberg: Schema) -> pa.Schema:
    """Returns the Arrow schema of a data file: storage types with the field ids of the table."""
    stored = storage_schema(declared)
    return pa.schema([_with_ids(stored.field(field.name), field) for field in iceberg.fields])


def _normalize_field(field: pa.Field[Any], path: str) -> pa.Field[Any]:
    metadata = {key: value for key, value in (field.metadata or {}).items() if key != FIELD_ID}
    is_null = pa.types.is_null(field.type)
    kind = field.type if is_null else _normalize_type(field.type, path)
    return pa.field(field.name, kind, field.nullable or is_null, metadata or None)


def _normalize_inner_field(field: pa.Field[Any], path: str) -> pa.Field[Any]:
    kind = field.type
    # Arrow encodes text only where the dictionary is not the column itself.
    if isinstance(kind, pa.DictionaryType) and kind.value_type not in DICTIONARY_TEXT:
        raise TypeMismatchError(f"column {path!r} has type {kind} inside another type; cast it to its value type first")
    return _normalize_field(field, path)


def _normalize_type(kind: pa.DataType, path: str) -> pa.DataType:
    match kind:
        case pa.DictionaryType():
            index = pa.int32() if kind.index_type in NARROW_INDICES else kind.index_type
            values = pa.string() if pa.types.is_null(kind.value_type) else _normalize_type(kind.value_type, path)
            return _dictionary(index, values, kind.ordered)
        case _ if _is_nested(kind):
            return _map_inner_fields(kind, path, _normalize_inner_field)
        case _:
            return kind


def _storage_field(field: pa.Field[Any], path: str) -> pa.Field[Any]:
    return pa.field(field.name, storage_type(field.type, path), field.nullable)


def storage_type(kind: pa.DataType, path: str) -> pa.DataType:
    """Returns the storage type of a declared type. ``path`` names the column in errors."""
    if isinstance(kind, pa.UuidType):
        return kind
    if isinstance(kind, pa.BaseExtensionType):
        return storage_type(kind.storage_type, path)
    if isinstance(kind, pa.DictionaryType):
        return storage_type(kind.value_type, path)
    if _is_nested(kind):
        return _map_inner_fields(kind, path, _storage_field)
    return _storage_leaf(kind, path)


def _storage_leaf(kind: pa.DataType, path: str) -> pa.DataType:
    types = pa.types
    if kind in _UNCHANGED_TYPES or (types.is_fixed_size_binary(kind) and kind.byte_width > 0):
        return kind
    if kind in _WIDER_TYPES:
        return _WIDER_TYPES[kind]
    if types.is_timestamp(kind):
        return pa.int64() if kind.unit == "ns" else pa.timestamp("us", "UTC" if kind.tz is not None else None)
    if types.is_decimal(kind) and 0 <= kind.scale <= kind.precision <= MAX_DECIMAL_PRECISION:
        return pa.decimal128(kind.precision, kind.scale)
    raise TypeMismatchError(f"column {path!r} has type {kind}, which cannot be stored without loss; cast it first")


_UNCHANGED_TYPES: frozenset[pa.DataType] = frozenset(
    {
        pa.bool_(), pa.int32(), pa.int64(), pa.float32(), pa.float64(), pa.date32(), pa.time64("us"),
        pa.string(), pa.large_string(), pa.binary(), pa.large_binary(),
    }
)  # fmt: skip
_WIDER_TYPES: dict[pa.DataType, pa.DataType] = {
    pa.null(): pa.string(),
    pa.int8(): pa.int32(),
    pa.int16(): pa.int32(),
    pa.uint8(): pa.int32(),
    pa.uint16(): pa.int32(),
    pa.uint32(): pa.int64(),
    pa.uint64(): UINT64_AS_DECIMAL,
    pa.float16(): pa.float32(),
    pa.time32("s"): pa.time64("us"),
    pa.time32("ms"): pa.time64("us"),
    pa.time64("ns"): pa.int64(),
    pa.date64(): pa.date32(),
    pa.string_view(): pa.string(),
    pa.binary_view(): pa.binary(),
    pa.duration("s"): pa.int64(),
    pa.duration("ms"): pa.int64(),
    pa.duration("us"): pa.int64(),
    pa.duration("ns"): pa.int64(),
}


# ------------------------------------------------------------------------------------------ stored -> declared


def declared_schema(table: Table, snapshot_id: int | None = None, schema_id: int | None = None) -> pa.Schema:
    """Returns the declared Arrow schema of a snapshot.

    The field metadata of file columns has ``lakefeed.type``, by the current column types.

    Args:
        table: the table.
        snapshot_id: the snapshot; None for the current schema of the table.
        schema_id: one of the schemas of the table, instead of a snapshot.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
    """
    iceberg = snapshot_schema(table, snapshot_id) if schema_id is None else table.schemas()[schema_id]
    declared = _declared_fields(table.properties, iceberg.schema_id)
    media = _media_by_id(table)
    return pa.schema(
        [_with_media_type(_declared_field(field, declared), media.get(field.field_id)) for field in iceberg.fields]
    )


def snapshot_schema(table: Table, snapshot_id: int | None = None) -> Schema:
    """Returns the Iceberg schema of a snapshot; the current one for ``None``.

    Raises:
        VersionNotFoundError: the table has no such snapshot.
    """
    if snapshot_id is None:
        return table.schema()
    snapshot = table.metadata.snapshot_by_id(snapshot_id)
    if snapshot is None:
        raise VersionNotFoundError(f"{table.name()[-1]!r} has no snapshot {snapshot_id}; it may have expired")
    return table.schema() if snapshot.schema_id is None else table.schemas()[snapshot.schema_id]


def column_types(table: Table) -> dict[str, str]:
    """Returns the media types of the file columns of a table, by name."""
    types: dict[str, str] = json.loads(table.properties.get(COLUMN_TYPES, "{}"))
    return types


def dropped_column_types(table: Table) -> dict[str, str]:
    """Returns the media types of the file columns that only older versions have, by field id."""
    types: dict[str, str] = json.loads(table.properties.get(DROPPED_COLUMN_TYPES, "{}"))
    return types


def _media_by_id(table: Table) -> dict[int, str]:
    types = column_types(table)
    current = {field.field_id: types[field.name] for field in table.schema().fields if field.name in types}
    return {int(field_id): media for field_id, media in dropped_column_types(table).items()} | current


def arrow_types_property(declared: pa.Schema, iceberg: Schema) -> dict[str, str]:
    """Returns the table property with declared types that differ from Iceberg's; empty if none does."""
    fields = _differing_fields(declared, iceberg)
    return {ARROW_TYPES: json.dumps(fields)} if fields else {}


def evolved_arrow_types_property(declared: pa.Schema, iceberg: Schema, schema_id: int) -> dict[str, str]:
    """Returns the table property with declared types for an evolved schema. It applies from ``schema_id`` on."""
    return {f"{ARROW_TYPES}.{schema_id}": json.dumps(_differing_fields(declared, iceberg))}


def _differing_fields(declared: pa.Schema, iceberg: Schema) -> dict[str, str]:
    return {
        str(field.field_id): _serialize_field(declared.field(field.name))
        for field in iceberg.fields
        if not _plain_field(field).equals(declared.field(field.name), check_metadata=True)
    }


def with_media(schema: pa.Schema, media: Mapping[str, str]) -> pa.Schema:
    """Returns the schema with only these columns marked as file columns."""
    return pa.schema([_with_media_type(field, media.get(field.name)) for field in schema])


def media_of(schema: pa.Schema) -> dict[str, str]:
    """Returns the media types of the columns that are marked as file columns, by name."""
    types = ((field.name, (field.metadata or {}).get(MEDIA_KEY)) for field in schema)
    return {name: media.decode() for name, media in types if media is not None}


def _declared_field(field: NestedField, declared: Mapping[str, str]) -> pa.Field[Any]:
    plain = _plain_field(field)
    packed = declared.get(str(field.field_id))
    field_declared = _deserialize_field(packed) if packed is not None else None
    # Another writer may have changed the column since; then Iceberg's type counts.
    if field_declared is None or not _same_storage(field_declared, plain):
        return plain
    return field_declared.with_name(field.name).with_nullable(field.optional)


def _same_storage(declared: pa.Field[Any], plain: pa.Field[Any]) -> bool:
    return _canonical_type(storage_type(declared.type, declared.name)).equals(
        _canonical_type(storage_type(plain.type, plain.name))
    )


def _plain_field(field: NestedField) -> pa.Field[Any]:
    """Returns the Arrow field of an Iceberg field without a declared type."""
    doc: dict[bytes | str, bytes | str] | None = {b"doc": field.doc} if field.doc else None
    return pa.field(field.name, _canonical_type(arrow_type(field.field_type)), field.optional, doc)


def _canonical_type(kind: pa.DataType) -> pa.DataType:
    """Returns the type with 32-bit offsets, lists of variable size, and the usual names of nested fields."""
    if pa.types.is_large_string(kind):
        return pa.string()
    if pa.types.is_large_binary(kind):
        return pa.binary()
    if isinstance(kind, pa.LargeListType | pa.FixedSizeListType | pa.ListType):
        return pa.list_(pa.field("item", _canonical_type(kind.value_type), kind.value_field.nullable))
    if _is_nested(kind):
        return _map_inner_fields(
            kind, "", lambda field, _: pa.field(field.name, _canonical_type(field.type), field.nullable)
        )
    return kind


def _with_media_type(field: pa.Field[Any], media: str | None) -> pa.Field[Any]:
    metadata: dict[bytes | str, bytes | str] = {
        key: value for key, value in (field.metadata or {}).items() if key != MEDIA_KEY
    }
    if media is not None:
        metadata[MEDIA_KEY] = media.encode()
    return field.with_metadata(metadata) if metadata else field.remove_metadata()


def _declared_fields(properties: Mapping[str, str], schema_id: int) -> dict[str, str]:
    """Returns the declared fields of a schema, from the newest entry that is not newer than the schema."""
    prefix = f"{ARROW_TYPES}."
    since = [int(key.removeprefix(prefix)) for key in properties if key.startswith(prefix)]
    newest = max((first for first in since if first <= schema_id), default=None)
    key = ARROW_TYPES if newest is None else f"{prefix}{newest}"
    fields: dict[str, str] = json.loads(properties.get(key, "{}"))
    return fields


def _serialize_field(field: pa.Field[Any]) -> str:
    return base64.b64encode(pa.schema([field]).serialize().to_pybytes()).decode()


def _deserialize_field(packed: str) -> pa.Field[Any] | None:
    try:
        return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(packed))).field(0)
    except (binascii.Error, pa.ArrowInvalid):
        return None


# ------------------------------------------------------------------------------------------ nested types


def _is_nested(kind: pa.DataType) -> bool:
    return isinstance(kind, pa.ListType | pa.LargeListType | pa.FixedSizeListType | pa.StructType | pa.MapType)


def _map_inner_fields(
    kind: pa.DataType, path: str, change: Callable[[pa.Field[Any], str], pa.Field[Any]]
) -> pa.DataType:
    """Returns a nested type with ``change(field, path)`` applied to each of its fields."""
    match kind:
        case pa.FixedSizeListType() if kind.list_size > 0:
            return pa.list_(change(kind.value_field, f"{path}[]"), kind.list_size)
        case pa.ListType():
            return pa.list_(change(kind.value_field, f"{path}[]"))
        case pa.LargeListType():
            return pa.large_list(change(kind.value_field, f"{path}[]"))
        case pa.StructType() if kind.num_fields > 0:
            return pa.struct([change(kind.field(i), f"{path}.{kind.field(i).name}") for i in range(kind.num_fields)])
        case pa.MapType():
            key, item = change(kind.key_field, f"{path}{{key}}"), change(kind.item_field, f"{path}{{value}}")
            return _map(key, item, kind.keys_sorted)
        case _:
            raise TypeMismatchError(f"column {path!r} has type {kind}, which has no values to store; drop it")


def _with_ids(field: pa.Field[Any], iceberg: NestedField) -> pa.Field[Any]:
    kind = _type_with_ids(field.type, iceberg.field_type)
    return pa.field(field.name, kind, iceberg.optional, {FIELD_ID: str(iceberg.field_id)})


def _dictionary(index: pa.DataType, values: pa.DataType, ordered: bool) -> pa.DataType:
    kind: pa.DataType = pa.dictionary(index, values, ordered)  # type: ignore[call-overload]  # types known at run time
    return kind


def _map(key: pa.Field[Any], item: pa.Field[Any], keys_sorted: bool) -> pa.DataType:
    kind: pa.DataType = pa.map_(key, item, keys_sorted)  # type: ignore[call-overload]  # types known at run time
    return kind


def _type_with_ids(kind: pa.DataType, iceberg: IcebergType) -> pa.DataType:
    match iceberg:
        case ListType():
            return _map_inner_fields(kind, "", lambda field, _: _with_ids(field, iceberg.element_field))
        case MapType():
            ids = {"{key}": iceberg.key_field, "{value}": iceberg.value_field}
            return _map_inner_fields(kind, "", lambda field, path: _with_ids(field, ids[path]))
        case StructType():
            by_name = {field.name: field for field in iceberg.fields}
            return _map_inner_fields(kind, "", lambda field, _: _with_ids(field, by_name[field.name]))
        case _:
            return kind
