"""Conversion of Iceberg types to Arrow types.

PyIceberg's own conversion is in a module that loads pandas, which takes longer than reading a dataset.
"""

from __future__ import annotations

from typing import Any

import pyarrow as pa
from pyiceberg import types
from pyiceberg.schema import Schema
from pyiceberg.types import IcebergType, NestedField

from lakefeed.catalog.table_columns import FIELD_ID

PRIMITIVE_TYPES: dict[type[IcebergType], pa.DataType] = {
    types.BooleanType: pa.bool_(),
    types.IntegerType: pa.int32(),
    types.LongType: pa.int64(),
    types.FloatType: pa.float32(),
    types.DoubleType: pa.float64(),
    types.DateType: pa.date32(),
    types.TimeType: pa.time64("us"),
    types.TimestampType: pa.timestamp("us"),
    types.TimestamptzType: pa.timestamp("us", "UTC"),
    types.TimestampNanoType: pa.timestamp("ns"),
    types.TimestamptzNanoType: pa.timestamp("ns", "UTC"),
    types.StringType: pa.large_string(),
    types.BinaryType: pa.large_binary(),
    types.UUIDType: pa.uuid(),
    types.UnknownType: pa.null(),
}


def arrow_fields(schema: Schema) -> list[pa.Field[Any]]:
    """Returns the Arrow fields of a schema, with the field ids of all nested fields.

    Example:
        >>> from pyiceberg.types import LongType
        >>> [field.type for field in arrow_fields(Schema(NestedField(1, "id", LongType())))]
        [DataType(int64)]
    """
    return [arrow_field(field) for field in schema.fields]


def arrow_field(field: NestedField) -> pa.Field[Any]:
    """Returns the Arrow field of an Iceberg field, with its field ids."""
    metadata: dict[bytes | str, bytes | str] = {FIELD_ID: str(field.field_id)}
    return pa.field(field.name, arrow_type(field.field_type), field.optional, metadata)


def arrow_type(kind: IcebergType) -> pa.DataType:
    """Returns the Arrow type of an Iceberg type."""
    match kind:
        case types.StructType():
            return pa.struct([arrow_field(field) for field in kind.fields])
        case types.ListType():
            return pa.large_list(arrow_field(kind.element_field))
        case types.MapType():
            key, item = arrow_field(kind.key_field), arrow_field(kind.value_field)
            return pa.map_(key, item)  # type: ignore[call-overload, no-any-return]  # types known at run time
        case types.FixedType():
            return pa.binary(len(kind))
        case types.DecimalType():
            return pa.decimal128(kind.precision, kind.scale)
    primitive = PRIMITIVE_TYPES.get(type(kind))
    return _convert_with_pyiceberg(kind) if primitive is None else primitive


def _convert_with_pyiceberg(kind: IcebergType) -> pa.DataType:
    """Converts types of later Iceberg versions, such as geographies."""
    from pyiceberg.io.pyarrow import schema_to_pyarrow  # loads pandas

    converted: pa.DataType = schema_to_pyarrow(Schema(NestedField(1, "value", kind))).field(0).type
    return converted
