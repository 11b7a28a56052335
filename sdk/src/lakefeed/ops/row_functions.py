"""Conversion between batches and Python rows, for operations that call a function for each row."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from operator import is_
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakefeed._typing import Row
from lakefeed.errors import TransformError, quoted_list
from lakefeed.media import column_type, handles
from lakefeed.media.handles import Handle
from lakefeed.plan.arrays import exact_array, exact_cast, vector_array, vector_shape

if TYPE_CHECKING:
    from lakefeed.storage import BlobStore


def handle_columns(batch: pa.RecordBatch, store: BlobStore | None) -> dict[str, list[Any]]:
    """Returns the columns as Python lists; file columns as lazy handles if there is a store."""
    if store is None:
        return {name: column.to_pylist() for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    columns: dict[str, list[Any]] = {}
    for field, column in zip(batch.schema, batch.columns, strict=True):
        media = column_type(field)
        columns[field.name] = column.to_pylist() if media is None else handles(column, media, store)
    return columns


def handle_rows(batch: pa.RecordBatch, store: BlobStore | None) -> Iterable[Row]:
    """Returns the rows as dicts; file cells as lazy handles if there is a store."""
    columns = handle_columns(batch, store)
    if not columns:
        return ({} for _ in range(batch.num_rows))
    names = list(columns)
    return (dict(zip(names, cells, strict=True)) for cells in zip(*columns.values(), strict=True))


def unwrap_handle(cell: Any) -> Any:
    """Returns a cell for Arrow: a handle becomes its record."""
    return cell.record() if isinstance(cell, Handle) else cell


def build_column(cells: Sequence[Any], kind: pa.DataType) -> pa.Array[Any]:
    """Returns cells that a function returned as a column. Tensors of torch and arrays of any dimension are values."""
    values = [_untensored(unwrap_handle(cell)) for cell in cells]
    if isinstance(kind, pa.FixedShapeTensorType) and kind.permutation is None:
        shape = tuple(kind.shape)
        values = [cell.ravel() if isinstance(cell, np.ndarray) and cell.shape == shape else cell for cell in values]
    shape = vector_shape(kind)
    if len(shape) > 1 and values and all(isinstance(cell, np.ndarray) and cell.shape == shape for cell in values):
        return vector_array(np.stack(values), kind)
    plain = [cell.tolist() if isinstance(cell, np.ndarray) and cell.ndim != 1 else cell for cell in values]
    try:
        return exact_array(plain, kind)
    except (pa.ArrowException, TypeError, ValueError):
        if not kind.num_fields:
            raise
        inside = [_unpacked(cell) for cell in plain]
        if all(map(is_, inside, plain)):
            raise
        return exact_array(inside, kind)


def _unpacked(cell: Any) -> Any:
    """Returns a cell with tensors and arrays inside lists and structs as lists; the same object if there are none."""
    if isinstance(cell, Mapping):
        unpacked: Any = {name: _unpacked(value) for name, value in cell.items()}
        return cell if all(map(is_, unpacked.values(), cell.values())) else unpacked
    if isinstance(cell, list | tuple):
        unpacked = [_unpacked(value) for value in cell]
        return cell if all(map(is_, unpacked, cell)) else unpacked
    value = _untensored(cell)
    return value.tolist() if isinstance(value, np.ndarray) else value


def _untensored(cell: Any) -> Any:
    torch = sys.modules.get("torch")
    if torch is None or not isinstance(cell, torch.Tensor):
        return cell
    tensor = cell.detach().cpu()
    return (tensor.float() if tensor.dtype is torch.bfloat16 else tensor).numpy()  # NumPy has no bfloat16


def check_batch(batch: pa.RecordBatch, schema: pa.Schema, function: str) -> pa.RecordBatch:
    """Returns the batch in exactly ``schema``.

    Raises:
        TransformError: columns are missing or unexpected, or values do not fit; the message names the column.
    """
    nullable = all(field.nullable for field in schema)
    if nullable and batch.schema.equals(schema, check_metadata=True):
        return batch
    if sorted(batch.schema.names) != sorted(schema.names):
        raise TransformError(
            f"{function} returned columns {quoted_list(batch.schema.names)} where its schema says "
            f"{quoted_list(schema.names)}"
        )
    columns = [_cast_column(batch.column(field.name), field, function) for field in schema]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _cast_column(column: pa.Array[Any], field: pa.Field[Any], function: str) -> pa.Array[Any]:
    if not field.nullable and column.null_count:
        raise TransformError(f"{function} returned null in column {field.name!r}, which is not nullable in its schema")
    if column.type == field.type:
        return column
    try:
        return exact_cast(column, field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, pa.ArrowTypeError) as error:
        raise TransformError(
            f"{function} returned {column.type} in column {field.name!r}, which does not fit {field.type}: {error}"
        ) from error
