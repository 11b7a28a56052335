"""Batches as Python rows and back, for the operations that call a user's function a row at a time."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._typing import Row
from lakefeed.errors import TransformError, quoted_list
from lakefeed.media import column_type, handles
from lakefeed.media.handles import Handle
from lakefeed.plan.arrays import exact_cast

if TYPE_CHECKING:
    from lakefeed.storage import BlobStore


def handle_columns(batch: pa.RecordBatch, store: BlobStore | None) -> dict[str, list[Any]]:
    """The columns as Python lists; file columns as lazy handles when there is a store to open them from."""
    columns: dict[str, list[Any]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        media = column_type(field)
        columns[field.name] = column.to_pylist() if media is None or store is None else handles(column, media, store)
    return columns


def handle_rows(batch: pa.RecordBatch, store: BlobStore | None) -> Iterable[Row]:
    """The rows as dicts; file cells as lazy handles when there is a store to open them from."""
    columns = handle_columns(batch, store)
    if not columns:
        return ({} for _ in range(batch.num_rows))
    names = list(columns)
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True))


def unwrap_handle(cell: Any) -> Any:
    """A cell that a function returned as Arrow takes it: a handle that was passed on becomes its record again."""
    return cell.record() if isinstance(cell, Handle) else cell


def check_batch(batch: pa.RecordBatch, schema: pa.Schema, what: str) -> pa.RecordBatch:
    """The batch in exactly ``schema``; extra or missing columns and values that do not fit are errors.

    Raises:
        TransformError: with the column that does not fit.
    """
    nullable = all(field.nullable for field in schema)
    if nullable and batch.schema.equals(schema, check_metadata=True):
        return batch
    if sorted(batch.schema.names) != sorted(schema.names):
        raise TransformError(
            f"{what} gave columns {quoted_list(batch.schema.names)} where its schema says {quoted_list(schema.names)}"
        )
    columns = [_cast_column(batch.column(field.name), field, what) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: pa.Array[Any], field: pa.Field[Any], what: str) -> pa.Array[Any]:
    if not field.nullable and column.null_count:
        raise TransformError(f"{what} gave null in column {field.name!r}, which its schema says is not nullable")
    if column.type == field.type:
        return column
    try:
        return exact_cast(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TransformError(
            f"{what} gave {column.type} in column {field.name!r}, which does not fit {field.type}: {error}"
        ) from error
