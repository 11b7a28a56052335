"""Rows of a batch by their positions or by a mask, with columns of any type."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

WITH_KERNEL = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def take_rows(batch: pa.RecordBatch, places: Any) -> pa.RecordBatch:
    """Returns the rows at ``places``, in that order."""
    columns = [take_values(column, places) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if columns else batch.slice(0, len(places))


def take_values(column: pa.Array[Any], places: Any) -> pa.Array[Any]:
    """Returns the values at ``places``; a null position gives null."""
    kernel = WITH_KERNEL.get(column.type)
    if kernel is None:
        return column.take(places)
    values: Any = column.cast(kernel)
    found: pa.Array[Any] = values.take(places).cast(column.type)
    return found


def filter_by_mask(batch: pa.RecordBatch, mask: pa.Array[Any]) -> pa.RecordBatch:
    """Returns the rows for which the mask is true. Null counts as false."""
    if isinstance(mask, pa.BooleanArray) and mask.true_count == len(mask):
        return batch
    try:
        return batch.filter(mask, null_selection_behavior="drop")
    except pa.ArrowNotImplementedError:
        # Arrow has no such kernel for views of strings and bytes.
        columns = [_filtered(column, mask) for column in batch.columns]
        return pa.RecordBatch.from_arrays(columns, schema=batch.schema)


def _filtered(column: pa.Array[Any], mask: pa.Array[Any]) -> pa.Array[Any]:
    kernel = WITH_KERNEL.get(column.type)
    values: Any = column if kernel is None else column.cast(kernel)
    found: pa.Array[Any] = values.filter(mask)
    return found if kernel is None else found.cast(column.type)
