"""Arrow batches as tensors.

One rule a type, whatever the batch holds, so that dtypes never drift:

- integers and floats: a tensor of that dtype, not copied where the memory is the batch's own;
- booleans: a bool tensor; dates, times, timestamps and durations: int64 counts of their unit;
- fixed-size lists of those: a tensor with one more dimension; lists of varying length: a list of tensors;
- text, bytes, structs and everything else: a Python list;
- nulls: NaN in float columns (a null vector is all NaN), None in lists; in integer, boolean and temporal columns an
  error, since every number that could stand for null is also a value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import torch

from lakefeed.errors import TypeMismatchError


def tensors(batch: pa.RecordBatch, *, copy: bool) -> dict[str, Any]:
    """The columns as tensors (shape ``[rows, …]``) or lists.

    ``copy``: the batch's memory belongs to somebody else, so a tensor that a caller may write to must not share it.

    Raises:
        TypeMismatchError: null in an integer, boolean or temporal column.
    """
    return {name: _column(name, column, copy) for name, column in zip(batch.schema.names, batch.columns, strict=True)}


class Columns:
    """Rows of which batches are cut: what can be is made a tensor once, for all of them, as a batch is mostly overhead.

    ``copy`` as in `tensors`.
    """

    def __init__(self, rows: pa.RecordBatch, *, copy: bool) -> None:
        self._copy = copy
        self._columns = [
            (name, column, _column(name, column, False) if _whole(column) else None)
            for name, column in zip(rows.schema.names, rows.columns, strict=True)
        ]

    def batch(self, start: int, stop: int) -> dict[str, Any]:
        """The rows ``[start, stop)``, as `tensors` gives them."""
        made = {}
        for name, column, tensor in self._columns:
            if tensor is None:
                made[name] = _column(name, column.slice(start, stop - start), self._copy)
            else:
                made[name] = tensor[start:stop].clone() if self._copy else tensor[start:stop]
        return made


def cuts_lightly(schema: pa.Schema) -> bool:
    """Whether batches of `Columns` are slices of tensors only."""
    return all(_numeric(_leaf(kind)) for kind in schema.types)


def _whole(column: Any) -> bool:
    """Whether a column becomes one tensor for sure: an error over null must wait until the row's batch is due."""
    leaf = _leaf(column.type)
    return _numeric(leaf) and (pa.types.is_floating(leaf) or not _holds_null(column))


def _holds_null(column: Any) -> bool:
    while pa.types.is_fixed_size_list(column.type) and not column.null_count:
        column = column.flatten()
    return bool(column.null_count)


def _column(name: str, column: Any, copy: bool) -> Any:
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        return _column(name, column.dictionary_decode(), copy)
    if pa.types.is_fixed_size_list(kind) and _numeric(_leaf(kind)):
        return _vectors(name, column, copy)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return _ragged(name, column, copy)
    if not _numeric(kind):
        return column.to_pylist()
    return _numbers(name, column, copy)


def _vectors(name: str, column: Any, copy: bool) -> torch.Tensor:
    kind = column.type
    if not column.null_count:
        inner = column.flatten()
        values = _vectors(name, inner, copy) if pa.types.is_fixed_size_list(inner.type) else _numbers(name, inner, copy)
        return values.reshape(len(column), *_shape(kind))
    if not pa.types.is_floating(_leaf(kind)):
        raise _no_null(name, kind)
    present = column.is_valid()
    values = _vectors(name, column.filter(present), copy)
    whole = torch.full((len(column), *_shape(kind)), torch.nan, dtype=values.dtype)
    whole[torch.from_numpy(np.array(present.to_numpy(zero_copy_only=False)))] = values
    return whole


def _numbers(name: str, column: pa.Array[Any], copy: bool) -> torch.Tensor:
    kind = column.type
    if column.null_count:
        if not pa.types.is_floating(kind):
            raise _no_null(name, kind)
        # Nulls become NaN in memory of our own.
        return torch.from_numpy(np.array(column.to_numpy(zero_copy_only=False), dtype=kind.to_pandas_dtype()))
    if pa.types.is_boolean(kind):
        return torch.from_numpy(np.array(column.to_numpy(zero_copy_only=False)))
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    if not len(column):
        return torch.from_numpy(np.empty(0, column.type.to_pandas_dtype()))
    shared: torch.Tensor = torch.from_dlpack(column)  # type: ignore[attr-defined]  # documented, not in __all__
    return shared.clone() if copy else shared


def _ragged(name: str, column: Any, copy: bool) -> list[Any]:
    if not _numeric(column.type.value_type):
        return list(column.to_pylist())
    values = _numbers(name, column.flatten(), copy)
    present: list[bool] = column.is_valid().to_pylist()
    pieces = torch.split(values, column.value_lengths().fill_null(0).to_pylist())
    return [piece if here else None for piece, here in zip(pieces, present, strict=True)]


def _no_null(name: str, kind: pa.DataType) -> TypeMismatchError:
    return TypeMismatchError(
        f"column {name!r} of type {kind} holds null, for which its tensor has no value; leave such rows out "
        f'(filter("{name} is not null")) or fill them (map)'
    )


def _numeric(kind: pa.DataType) -> bool:
    number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return number or (pa.types.is_temporal(kind) and not pa.types.is_interval(kind))


def _leaf(kind: pa.DataType) -> pa.DataType:
    while pa.types.is_fixed_size_list(kind):
        kind = kind.value_type
    return kind


def _shape(kind: pa.DataType) -> list[int]:
    shape = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return shape
