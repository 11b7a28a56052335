"""Compatibility of rows with a declared schema, and casts between declared types and storage types."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any

import pyarrow as pa

from lakefeed.catalog.categories import declared_categories, encode_categories
from lakefeed.catalog.null_casts import cast_to_null, has_null
from lakefeed.catalog.required_fields import LIST_TYPES, fill_required, has_required, inner_fields
from lakefeed.errors import ColumnNotFoundError, SchemaError, TypeMismatchError, quoted_list

SIGNIFICAND_BITS = {pa.float16(): 11, pa.float32(): 24, pa.float64(): 53}
"""The bits of an integer that a float type represents exactly."""
INTEGER_DIGITS = {8: 3, 16: 5, 32: 10, 64: 20}
"""The decimal digits of an integer, by its number of bits."""
TIME_UNITS = ("s", "ms", "us", "ns")


def check_compatible(incoming: pa.Schema, declared: pa.Schema) -> None:
    """Checks that rows of ``incoming`` can be appended to ``declared`` without loss.

    Columns are matched by name. A missing nullable column becomes null. Types may widen.

    Raises:
        SchemaError: a column is not declared (`ColumnNotFoundError`), occurs twice, or is required and missing.
        TypeMismatchError: a type is not compatible; the message names the column.
    """
    from lakefeed._sparse import check_widths  # not on the way to a first row

    check_distinct_names(incoming.names)
    incoming_fields = {field.name: field for field in incoming}
    known = {field.name for field in declared}
    extra = [name for name in incoming_fields if name not in known]
    if extra:
        raise ColumnNotFoundError.of(extra, declared.names, "the dataset")
    for field in declared:
        if field.name in incoming_fields:
            _check_field(incoming_fields[field.name].type, field.type, field.name)
            check_widths(incoming_fields[field.name], field, "the dataset")
        elif not field.nullable:
            raise SchemaError(
                f"required column {field.name!r} is missing; the columns are {quoted_list(incoming_fields)}"
            )


def check_distinct_names(names: Iterable[str]) -> None:
    """Checks that no name occurs twice.

    Raises:
        SchemaError: a name occurs twice.
    """
    duplicates = [name for name, count in Counter(names).items() if count > 1]
    if duplicates:
        raise SchemaError(f"duplicate column names: {quoted_list(duplicates)}")


def cast(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Casts a batch to a schema, including metadata. Returns the same object if it has that schema already.

    Columns are matched by name. A missing nullable column becomes null.

    Raises:
        SchemaError: a required column is missing or has nulls.
        TypeMismatchError: a value does not fit its type; the message names the column.
    """
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    columns = [_column(batch, field) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema) if columns else _without_columns(batch, schema)


def cast_to_storage(batch: pa.RecordBatch, declared: pa.Schema, file_schema: pa.Schema) -> pa.RecordBatch:
    """Casts a batch to the declared types, then to the storage types of a data file."""
    return cast(cast(batch, declared), file_schema)


def check_round_trip(declared: pa.Schema, file_schema: pa.Schema) -> None:
    """Checks that rows of the declared types can be stored and read back.

    Raises:
        TypeMismatchError: Arrow has no cast for one of the types; the message names the column.
    """
    for field, storage in zip(declared, file_schema, strict=True):
        empty: pa.Array[Any] = pa.array([], storage.type)
        _cast(_cast(empty, field), storage)


def _column(batch: pa.RecordBatch, field: pa.Field[Any]) -> pa.Array[Any]:
    position = batch.schema.get_field_index(field.name)
    if position < 0:
        return _missing_column(field, batch.num_rows)
    array = batch.column(position)
    if not array.type.equals(field.type) or declared_categories(field) is not None:
        array = _cast(array, field)
    _check_nulls(array, field, field.name)
    filled: pa.Array[Any] = fill_required(array)
    return filled


def _cast(array: pa.Array[Any], field: pa.Field[Any]) -> pa.Array[Any]:
    kind = field.type
    try:
        values = fill_required(_decode_dictionary(array))  # Arrow also rejects required nulls within nulls
        if has_null(kind):
            nulls: pa.Array[Any] = cast_to_null(values, kind, field.name)
            return nulls
        converted: pa.Array[Any] = (
            encode_categories(values, field) if isinstance(kind, pa.DictionaryType) else values.cast(kind)
        )
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TypeMismatchError(
            f"column {field.name!r}: a value of type {array.type} does not fit {kind}: {error}"
        ) from None
    return converted


def _decode_dictionary(array: pa.Array[Any]) -> pa.Array[Any]:
    # Arrow casts dictionaries to some types only.
    return array.dictionary_decode() if isinstance(array, pa.DictionaryArray) else array


def _missing_column(field: pa.Field[Any], rows: int) -> pa.Array[Any]:
    if not field.nullable:
        raise SchemaError(f"required column {field.name!r} is missing")
    nulls: pa.Array[Any] = fill_required(pa.nulls(rows, field.type))
    return nulls


def _check_nulls(array: pa.Array[Any], field: pa.Field[Any], path: str) -> None:
    if not field.nullable and array.null_count:
        raise SchemaError(f"required column {path!r} has {array.null_count} null values")
    if has_required(field.type):
        for child, inner, suffix in _child_arrays(array):
            _check_nulls(child, inner, f"{path}{suffix}")


def _child_arrays(array: Any) -> list[tuple[pa.Array[Any], pa.Field[Any], str]]:
    """Returns the arrays inside a nested array, without values under its nulls, with their fields and path suffixes."""
    fields = inner_fields(array.type)
    if isinstance(array.type, pa.StructType):
        present = array.filter(array.is_valid()) if array.null_count else array
        return [(present.field(i), field, f".{field.name}") for i, field in enumerate(fields)]
    if isinstance(array.type, pa.MapType):
        return [(array.items, fields[0], "{value}")]
    return [(array.flatten(), fields[0], "[]")]


def _without_columns(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    # A batch without columns still has rows.
    return batch.select([]).replace_schema_metadata(schema.metadata)


def _check_field(source: pa.DataType, declared: pa.DataType, path: str) -> None:
    if not is_compatible(source, declared, path):
        raise TypeMismatchError(
            f"column {path!r} has type {declared} in the dataset, which {source} does not fit; cast it first"
        )


def is_compatible(source: pa.DataType, declared: pa.DataType, path: str = "") -> bool:
    """Returns whether ``declared`` holds every value of ``source``, or a cast detects those it does not."""
    # A column without a type accepts any type.
    if source.equals(declared) or pa.types.is_null(source) or pa.types.is_null(declared):
        return True
    if isinstance(source, pa.BaseExtensionType) and isinstance(declared, pa.BaseExtensionType):
        return False  # the same storage may have another meaning, such as a tensor of another shape
    if isinstance(source, pa.BaseExtensionType):
        return is_compatible(source.storage_type, declared, path)
    if isinstance(declared, pa.BaseExtensionType):
        return is_compatible(source, declared.storage_type, path)
    if isinstance(source, pa.DictionaryType):
        return is_compatible(source.value_type, declared, path)
    if isinstance(declared, pa.DictionaryType):
        return is_compatible(source, declared.value_type, path)
    return (
        _is_nested_compatible(source, declared, path)
        if pa.types.is_nested(declared)
        else _is_leaf_compatible(source, declared)
    )


def _is_nested_compatible(source: pa.DataType, declared: pa.DataType, path: str) -> bool:
    if isinstance(declared, pa.StructType) and isinstance(source, pa.StructType):
        return _is_struct_compatible(source, declared, path)
    if isinstance(declared, pa.MapType) and isinstance(source, pa.MapType):
        _check_field(source.key_type, declared.key_type, f"{path}{{key}}")
        _check_field(source.item_type, declared.item_type, f"{path}{{value}}")
        return True
    if isinstance(declared, LIST_TYPES) and isinstance(source, LIST_TYPES):
        _check_field(source.value_type, declared.value_type, f"{path}[]")
        return _list_size(source) is None or _list_size(declared) in (None, _list_size(source))
    return False


def _list_size(kind: pa.DataType) -> int | None:
    return kind.list_size if isinstance(kind, pa.FixedSizeListType) else None


def _is_struct_compatible(source: pa.StructType, declared: pa.StructType, path: str) -> bool:
    known = {declared.field(i).name: declared.field(i) for i in range(declared.num_fields)}
    names = [source.field(i).name for i in range(source.num_fields)]
    extra = [name for name in names if name not in known]
    if extra:
        raise ColumnNotFoundError.of(extra, list(known), f"column {path!r}")
    for name, field in known.items():
        if name in names:
            _check_field(source.field(name).type, field.type, f"{path}.{name}")
        elif not field.nullable:
            raise SchemaError(f"required field '{path}.{name}' is missing; the fields are {quoted_list(names)}")
    return True


def _is_leaf_compatible(source: pa.DataType, declared: pa.DataType) -> bool:
    types = pa.types
    if types.is_integer(source):
        return _is_integer_compatible(source, declared)
    if types.is_floating(source):
        return types.is_floating(declared) and bool(source.bit_width <= declared.bit_width)
    if types.is_decimal(source) and types.is_decimal(declared):
        integer_digits, declared_digits = source.precision - source.scale, declared.precision - declared.scale
        return bool(source.scale <= declared.scale and integer_digits <= declared_digits)
    if types.is_timestamp(source) and types.is_timestamp(declared):
        return (source.tz is None) == (declared.tz is None) and _is_unit_compatible(source.unit, declared.unit)
    if (types.is_time(source) and types.is_time(declared)) or (
        types.is_duration(source) and types.is_duration(declared)
    ):
        return _is_unit_compatible(source.unit, declared.unit)
    return any(check(source) and check(declared) for check in (_is_text, _is_bytes, types.is_date))


def _is_integer_compatible(source: pa.DataType, declared: pa.DataType) -> bool:
    signed = pa.types.is_signed_integer(source)
    if pa.types.is_integer(declared):
        if signed == pa.types.is_signed_integer(declared):
            return bool(source.bit_width <= declared.bit_width)
        return not signed and bool(source.bit_width < declared.bit_width)
    if declared in SIGNIFICAND_BITS:
        return bool(source.bit_width - signed <= SIGNIFICAND_BITS[declared])
    if pa.types.is_decimal(declared):
        return bool(INTEGER_DIGITS[source.bit_width] <= declared.precision - declared.scale)
    return False


def _is_unit_compatible(source: str, declared: str) -> bool:
    return TIME_UNITS.index(source) <= TIME_UNITS.index(declared)


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    checks = (pa.types.is_binary, pa.types.is_large_binary, pa.types.is_binary_view, pa.types.is_fixed_size_binary)
    return any(check(kind) for check in checks)
