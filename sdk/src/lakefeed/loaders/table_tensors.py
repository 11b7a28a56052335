"""Tensors of a whole result."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from lakefeed.loaders.collate import tensors

MAX_OFFSET = (1 << 31) - 1


def table_tensors(table: pa.Table) -> dict[str, Any]:
    """Returns the columns as tensors (see `lakefeed.loaders.collate`). Numbers in a single chunk are not copied."""
    arrays = [_whole(column) for column in table.columns]
    return tensors(pa.RecordBatch.from_arrays(arrays, schema=_schema(table, arrays)), copy=False)


def _whole(column: pa.ChunkedArray[Any]) -> pa.Array[Any]:
    if column.num_chunks == 1:
        (only,) = column.chunks
        return only
    if column.nbytes > MAX_OFFSET and (pa.types.is_string(column.type) or pa.types.is_binary(column.type)):
        column = column.cast(pa.large_string() if pa.types.is_string(column.type) else pa.large_binary())
    whole: Any = column.combine_chunks()
    assert isinstance(whole, pa.Array), "offsets are large enough"
    return whole


def _schema(table: pa.Table, arrays: list[pa.Array[Any]]) -> pa.Schema:
    return pa.schema([field.with_type(array.type) for field, array in zip(table.schema, arrays, strict=True)])
