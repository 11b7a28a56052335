"""Rows of a batch by their positions or by a mask, of any types.

Arrow has no such kernels for views of strings and bytes, for run-end encoded values, and for types with those inside.
Its kernel for lists moves one value at a time; lists of values of a fixed width are moved as bytes here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from lakefeed._lazy import LazyModule
from lakefeed._rng import Indices
from lakefeed.plan.row_bytes import fixed_width, list_offsets, position_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lakefeed.plan import byte_runs
    from lakefeed.plan.byte_runs import Mask
else:
    byte_runs = LazyModule("lakefeed.plan.byte_runs")  # of lists only

VIEW_BYTES = 16
FEW = 64
"""Arrow's kernel is faster where fewer than one value in so many is taken, because it reads only those."""
FILTERED = 8
"""Where at least one row in so many passes a filter, lists are moved as bytes; Arrow's filter moves single values."""
_COPIES = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}


def take_rows(batch: pa.RecordBatch, positions: Any) -> pa.RecordBatch:
    """Returns the rows at ``positions``, in that order."""
    if isinstance(positions, np.ndarray) and batch.num_columns > 1:
        positions = position_array(positions)  # once, not for each column
    columns = [take_values(column, positions) for column in batch.columns]
    return pa.RecordBatch.from_arrays(columns, schema=batch.schema) if columns else batch.slice(0, len(positions))


def take_values(column: pa.Array[Any], positions: Any) -> pa.Array[Any]:
    """Returns the values at ``positions``; a position that is null gives null."""
    kind = column.type
    if not (_lacks_kernel(kind) or _moves_as_bytes(column, len(positions))):
        return column.take(position_array(positions) if isinstance(positions, np.ndarray) else positions)
    if isinstance(positions, pa.Array) and positions.null_count:
        valid: Mask | None = np.asarray(positions.is_valid())
        positions = positions.fill_null(0)
    else:
        valid = None
    return _take(column, np.asarray(positions).astype(np.int64, copy=False), valid)


def detach_views(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Returns the batch with views copied, so that it holds and writes only the bytes of its own values."""
    if not any(map(_lacks_kernel, batch.schema.types)):
        return batch
    return take_rows(batch, np.arange(batch.num_rows))


def filter_by_mask(batch: pa.RecordBatch, mask: pa.Array[Any]) -> pa.RecordBatch:
    """Returns the rows for which the mask is true; null is not."""
    if isinstance(mask, pa.BooleanArray) and mask.true_count == len(mask):
        return batch
    selected: Any = mask
    many = selected.true_count * FILTERED >= len(mask)
    if not any(_lacks_kernel(kind) or (many and _has_plain_lists(kind)) for kind in batch.schema.types):
        return batch.filter(mask, null_selection_behavior="drop")
    return take_rows(batch, np.flatnonzero(selected.fill_null(False).to_numpy(zero_copy_only=False)))


def _take(column: Any, positions: Indices, valid: Mask | None) -> pa.Array[Any]:
    """Returns the values at ``positions``; null where ``valid`` is false (None: it never is)."""
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        wrapped: pa.Array[Any] = kind.wrap_array(_take(column.storage, positions, valid))
        return wrapped
    if kind in _COPIES:
        return _take_views(column, positions, valid)
    if pa.types.is_run_end_encoded(kind):
        return _take_runs(column, positions, valid)
    if _is_list(kind) and (_moves_as_bytes(column, len(positions)) or _lacks_kernel(kind)):
        return _take_lists(column, positions, valid)
    if pa.types.is_fixed_size_list(kind) and _lacks_kernel(kind):
        return _take_fixed_size_lists(column, positions, valid)
    if pa.types.is_struct(kind) and (_moves_as_bytes(column, len(positions)) or _lacks_kernel(kind)):
        fields = [_take(column.field(index), positions, valid) for index in range(kind.num_fields)]
        validity = _bitmap(_validity(column, positions, valid))
        array: pa.Array[Any] = pa.Array.from_buffers(kind, len(positions), [validity], children=fields)
        return array
    plain: pa.Array[Any] = column.take(position_array(positions, valid))
    return plain


def _take_views(column: Any, positions: Indices, valid: Mask | None) -> pa.Array[Any]:
    if not len(column):
        empty: pa.Array[Any] = pa.nulls(len(positions), column.type)
        return empty
    validity, views, *data = column.buffers()
    rows = np.frombuffer(views, np.uint8, len(column) * VIEW_BYTES, column.offset * VIEW_BYTES)
    selected = _buffer(rows.reshape(-1, VIEW_BYTES)[positions])
    validity = _bitmap(_validity(column, positions, valid))
    lent: Any = pa.Array.from_buffers(column.type, len(positions), [validity, selected, *data])
    # A copy: otherwise few values hold the memory of all.
    copied: pa.Array[Any] = lent.cast(_COPIES[column.type]).cast(column.type)
    return copied


def _take_runs(column: Any, positions: Indices, valid: Mask | None) -> pa.Array[Any]:
    kind = column.type
    ends = np.asarray(column.run_ends).astype(np.int64) - column.offset
    runs = np.searchsorted(ends, positions, side="right")
    chosen = runs if valid is None else np.where(valid, runs, -1)
    # Equal neighbours stay one run.
    edges = np.flatnonzero(np.diff(chosen)) + 1
    first = np.concatenate([[0], edges]).astype(np.int64) if len(chosen) else np.empty(0, np.int64)
    run_ends = pa.array(np.concatenate([edges, [len(chosen)]])[: len(first)]).cast(kind.run_end_type)
    values = _take(column.values, runs[first], None if valid is None else valid[first])
    encoded: pa.Array[Any] = pa.RunEndEncodedArray.from_arrays(run_ends, values, kind)
    return encoded


def _take_lists(column: Any, positions: Indices, valid: Mask | None) -> pa.Array[Any]:
    kind = column.type
    if not len(column):
        empty: pa.Array[Any] = pa.nulls(len(positions), kind)
        return empty
    validity = _validity(column, positions, valid)
    runs = byte_runs.byte_runs(column) if _moves_as_bytes(column, len(positions)) else None
    if runs is not None:
        return byte_runs.take_runs(runs, kind, positions, validity)
    offsets = list_offsets(column)
    starts = offsets[positions]
    lengths = offsets[positions + 1] - starts
    if validity is not None:
        lengths = np.where(validity, lengths, 0)
    ends = np.cumsum(lengths)
    total = int(ends[-1]) if len(ends) else 0
    children = np.repeat(starts - (ends - lengths), lengths) + np.arange(total)
    values = (
        pa.StructArray.from_arrays([column.keys, column.items], fields=[kind.key_field, kind.item_field])
        if (pa.types.is_map(kind))
        else column.values
    )
    return _list(kind, np.concatenate([[0], ends]), validity, _take(values, children, None))


def _take_fixed_size_lists(column: Any, positions: Indices, valid: Mask | None) -> pa.Array[Any]:
    kind = column.type
    children = ((positions + column.offset)[:, None] * kind.list_size + np.arange(kind.list_size)).ravel()
    validity = _bitmap(_validity(column, positions, valid))
    array: pa.Array[Any] = pa.Array.from_buffers(
        kind, len(positions), [validity], children=[_take(column.values, children, None)]
    )
    return array


def _list(kind: pa.DataType, offsets: Any, validity: Mask | None, values: pa.Array[Any]) -> pa.Array[Any]:
    width = np.int64 if pa.types.is_large_list(kind) else np.int32
    if len(offsets) and int(offsets[-1]) > np.iinfo(width).max:
        raise pa.ArrowInvalid(f"offset overflow: lists of type {kind} with {int(offsets[-1])} values in one batch")
    buffers = [_bitmap(validity), _buffer(np.ascontiguousarray(offsets, width))]
    array: pa.Array[Any] = pa.Array.from_buffers(kind, len(offsets) - 1, buffers, children=[values])
    return array


def _validity(column: Any, positions: Indices, valid: Mask | None) -> Mask | None:
    if not column.null_count:
        return valid
    mine: Mask = np.asarray(column.is_valid())[positions]
    return mine if valid is None else mine & valid


def _bitmap(validity: Mask | None) -> pa.Buffer | None:
    return None if validity is None else _buffer(np.packbits(validity, bitorder="little"))


def _buffer(values: Any) -> pa.Buffer:
    return pa.py_buffer(values)


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_map(kind)


def _moves_as_bytes(column: Any, count: int) -> bool:
    """Returns whether lists are moved as bytes, in the column or in the structs of it.

    Their values have a fixed width and no nulls, and the rows are not few.
    """
    kind = column.type
    if pa.types.is_struct(kind):
        return any(_moves_as_bytes(column.field(index), count) for index in range(kind.num_fields))
    if not (pa.types.is_list(kind) or pa.types.is_large_list(kind)) or count * FEW < len(column):
        return False
    return bool(len(column.values)) and byte_runs.byte_runs(column) is not None


def _has_plain_lists(kind: pa.DataType) -> bool:
    """Returns whether the type is that of lists of values of a fixed width, or of structs with such lists."""
    if pa.types.is_struct(kind):
        return any(_has_plain_lists(kind.field(index).type) for index in range(kind.num_fields))
    return (pa.types.is_list(kind) or pa.types.is_large_list(kind)) and bool(fixed_width(kind.value_type))


def _lacks_kernel(kind: pa.DataType) -> bool:
    """Returns whether Arrow cannot take values of the type."""
    if isinstance(kind, pa.BaseExtensionType):
        return _lacks_kernel(kind.storage_type)
    if kind in _COPIES or pa.types.is_run_end_encoded(kind):
        return True
    if pa.types.is_dictionary(kind) or pa.types.is_union(kind):
        return False
    return any(_lacks_kernel(kind.field(index).type) for index in range(kind.num_fields))


def take_sorted(batches: Iterator[pa.RecordBatch], positions: Indices) -> Iterator[pa.RecordBatch]:
    """Yields the rows of a stream at sorted positions."""
    start = 0
    for batch in batches:
        low, high = np.searchsorted(positions, [start, start + batch.num_rows])
        if high - low == batch.num_rows:
            yield batch
        elif low < high:
            yield take_rows(batch, positions[low:high] - start)
        start += batch.num_rows
