"""Rows of a batch by their places, of whatever types."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

WITH_KERNEL = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def taken(batch: pa.RecordBatch, places: Any) -> pa.RecordBatch:
    """The rows at ``places``, in that order."""
    columns = [taken_values(column, places) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if columns else batch.slice(0, len(places))


def taken_values(column: pa.Array[Any], places: Any) -> pa.Array[Any]:
    """The values at ``places``; a place that is null gives null."""
    kernel = WITH_KERNEL.get(column.type)
    if kernel is None:
        return column.take(places)
    values: Any = column.cast(kernel)
    found: pa.Array[Any] = values.take(places).cast(column.type)
    return found
