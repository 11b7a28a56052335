"""One schema for several inputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakefeed.catalog import null_types
from lakefeed.catalog.categories import widen_index
from lakefeed.catalog.null_casts import has_null
from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError, quoted_list


def common_schema(operation: str, schemas: Sequence[pa.Schema], fill: bool) -> pa.Schema:
    """Returns the schema of all inputs; with ``fill`` the columns of any input, nullable where one lacks them.

    Raises:
        InvalidArgumentError: there are no inputs.
        SchemaError: the columns differ; the message names them.
        TypeMismatchError: a column has several types.
    """
    from lakefeed._sparse import check_widths, field_of_copy  # not on the way to a first row

    if not schemas:
        raise InvalidArgumentError(f"{operation} needs at least one dataset")
    fields: dict[str, pa.Field[Any]] = {}
    for schema in schemas:
        for field in map(widen_index, schema) if len(schemas) > 1 else schema:
            known = fields.setdefault(field.name, field)
            if pa.types.is_null(known.type):
                known = field.with_nullable(True)
            elif pa.types.is_null(field.type):
                field = known.with_nullable(True)
            elif known.type != field.type:
                known = known.with_type(null_types.decide_type(known.type, field.type))
                field = field.with_type(null_types.decide_type(field.type, known.type))
            if known.type != field.type:
                raise TypeMismatchError(
                    f"{operation}: column {field.name!r} is {known.type} in one dataset and {field.type} in "
                    "another; map one of them"
                )
            check_widths(field, known, operation)
            known = field_of_copy(field, known)
            fields[field.name] = known.with_nullable(known.nullable or field.nullable)
    lacking = {name for schema in schemas for name in fields.keys() - frozenset(schema.names)}
    if lacking and not fill:
        raise SchemaError(
            f"{operation}: some datasets lack the columns {quoted_list(sorted(lacking))}; select the same columns, or "
            "fill them with null (fill=True)"
        )
    return pa.schema([field.with_nullable(True) if name in lacking else field for name, field in fields.items()])


def conform_batch(batch: pa.RecordBatch, schema: pa.Schema) -> pa.RecordBatch:
    """Returns the batch with the columns of ``schema`` in its order, null where the batch lacks them."""
    if batch.schema.equals(schema, check_metadata=True):
        return batch
    if not schema.names:
        return batch.select([])  # this keeps the number of rows
    present = frozenset(batch.schema.names)
    columns = [
        batch.column(field.name) if field.name in present else pa.nulls(batch.num_rows, field.type) for field in schema
    ]
    typed = [
        column.cast(field.type) if has_null(column.type) or isinstance(column, pa.DictionaryArray) else column
        for field, column in zip(schema, columns, strict=True)
    ]
    return pa.RecordBatch.from_arrays(typed, schema=schema)


def select_fields(schema: pa.Schema, columns: tuple[str, ...] | None) -> pa.Schema:
    """Returns the schema with only these columns, in its own order."""
    return schema if columns is None else pa.schema([field for field in schema if field.name in columns])
