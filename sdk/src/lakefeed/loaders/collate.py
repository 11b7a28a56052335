"""Arrow batches as tensors.

One rule a type, whatever the batch holds, so that dtypes never drift:

- integers and floats: a tensor of that dtype, not copied where the memory is the batch's own;
- booleans: a bool tensor; dates, times, timestamps and durations: int64 counts of their unit;
- fixed-size lists of those: a tensor with one more dimension; fixed-shape tensors: a tensor of their shape;
- lists of varying length of those: as `RAGGED` says, one nested tensor of layout ``torch.jagged`` by default;
- sparse columns: as `SPARSE` says, one ``torch.sparse_csr`` tensor of shape ``[rows, width]`` by default;
- text, bytes, structs and everything else: a Python list;
- nulls: NaN in float columns (a null vector is all NaN), None in Python lists; anywhere else an error, since every
  number (or length) that could stand for null is also a value.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, get_args

import numpy as np
import pyarrow as pa
import torch

from lakefeed._sparse import ascends, sparse_width
from lakefeed._typing import Ragged, Sparse
from lakefeed.errors import InvalidArgumentError, TypeMismatchError, quoted_list
from lakefeed.plan.take_rows import take_values

RAGGED: tuple[Ragged, ...] = get_args(Ragged)
"""The results of lists of varying length.

- "jagged": one ``torch.nested`` tensor (its ``values()`` share the memory of the rows);
- "pad": a tensor as wide as the longest row of the batch, zeros at its end, and besides the column ``x`` an int64
  tensor ``x_lengths``: ``torch.arange(x.shape[1]) < x_lengths[:, None]`` is the mask of what is there;
- "list": a Python list of tensors.
"""
LENGTHS = "_lengths"
SPARSE: tuple[Sparse, ...] = get_args(Sparse)
"""The results of sparse columns.

- "csr": a ``torch.sparse_csr`` tensor (its values share the memory of the rows); of a single row, a ``sparse_coo`` one;
- "dense": a tensor with zeros where a row has no entry.
"""


def check_ragged(ragged: Any, schema: pa.Schema) -> None:
    """Checks that batches of these columns can be made.

    Raises:
        InvalidArgumentError: the form is unknown, or the name for the lengths is taken.
    """
    if ragged not in RAGGED:
        raise InvalidArgumentError(f"ragged={ragged!r}: the forms are {quoted_list(RAGGED)}")
    names = [f"{field.name}{LENGTHS}" for field in schema if ragged == "pad" and _is_ragged(field.type)]
    existing = [name for name in names if name in schema.names]
    if existing:
        raise InvalidArgumentError(
            f'ragged="pad" puts the lengths of rows into {quoted_list(existing)}, but there is a column of that name; '
            "rename it"
        )


def check_sparse(sparse: Any, schema: pa.Schema) -> None:
    """Checks the form of sparse columns.

    Raises:
        InvalidArgumentError: the form is unknown.
    """
    if not isinstance(sparse, str) or sparse not in SPARSE:
        raise InvalidArgumentError(f"sparse={sparse!r:.80}: the forms are {quoted_list(SPARSE)}")
    if any(sparse_width(field) is not None for field in schema):
        _quiet_torch()


def tensors(batch: pa.RecordBatch, *, copy: bool, ragged: Ragged = "jagged", sparse: Sparse = "csr") -> dict[str, Any]:
    """The columns as tensors (shape ``[rows, …]``) or lists.

    ``copy``: the batch's memory belongs to somebody else, so a tensor that a caller may write to must not share it.

    Raises:
        TypeMismatchError: null where no tensor can have it.
    """
    tensors_by_name: dict[str, Any] = {}
    for field, column in zip(batch.schema, map(_unwrapped, batch.columns), strict=True):
        name, width = field.name, sparse_width(field)
        if width is not None:
            rows = _SparseRows(name, column, width, sparse)
            tensors_by_name[name] = rows.cut(0, len(column), copy)
            continue
        tensor = _column(name, column, copy, ragged)
        if isinstance(tensor, _Padded):
            tensors_by_name[name], tensors_by_name[f"{name}{LENGTHS}"] = tensor.values, tensor.lengths
        else:
            tensors_by_name[name] = tensor
    return tensors_by_name if copy else _separated(tensors_by_name)


def _separated(batch: dict[str, Any]) -> dict[str, Any]:
    """Returns a batch in which no two columns share their memory, as one does that was made of another as it is."""
    starts: set[int] = set()
    for name, column in batch.items():
        if isinstance(column, torch.Tensor) and column.numel():
            inside = column.is_nested or column.layout is torch.sparse_csr
            start = (column.values() if inside else column).data_ptr()
            if start in starts:
                batch[name] = column.clone()
            starts.add(start)
    return batch


class Columns:
    """Rows of which batches are cut: what can be is made a tensor once, for all of them, as a batch is mostly overhead.

    ``copy``, ``ragged`` and ``sparse`` as in `tensors`.
    """

    def __init__(self, rows: pa.RecordBatch, *, copy: bool, ragged: Ragged = "jagged", sparse: Sparse = "csr") -> None:
        if any(isinstance(kind, pa.FixedShapeTensorType) for kind in rows.schema.types):
            columns = list(map(_unwrapped, rows.columns))
            fields = [field.with_type(column.type) for field, column in zip(rows.schema, columns, strict=True)]
            rows = pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
        self._rows = rows
        self._copy = copy
        self._ragged = ragged
        self._sparse = sparse
        # Slices of numpy arrays become tensors with a storage of their own extent. Views of one tensor would be written
        # whole by torch.save, and autograd would take a change of one batch for a change of another.
        whole = {
            name: _column(name, column, False, ragged)
            for name, column in zip(rows.schema.names, rows.columns, strict=True)
            if _whole(column)
        }
        self._arrays = {name: tensor.numpy() for name, tensor in _separated(whole).items()}
        self._jagged = {
            name: _Jagged(name, column)
            for name, column in zip(rows.schema.names, rows.columns, strict=True)
            if ragged == "jagged" and not copy and _is_ragged(column.type) and not _holds_null(column)
        }
        self._sparse_rows = {
            field.name: whole_rows
            for field, column in zip(rows.schema, rows.columns, strict=True)
            if (whole_rows := _sound_sparse_rows(field, column, sparse)) is not None
        }
        ready = self._arrays.keys() | self._jagged.keys() | self._sparse_rows.keys()
        rest = [name for name in rows.schema.names if name not in ready]
        self._rest = rows.select(rest) if rest else None

    def batches(self, ranges: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
        """For each range of rows (ascending, apart) the batch, as `tensors` gives it."""
        wrap, arrays, rest = torch.from_numpy, self._arrays, self._rest
        if rest is None and not self._jagged and not self._sparse_rows and not self._copy:
            for start, stop in ranges:
                yield {name: wrap(array[start:stop]) for name, array in arrays.items()}
            return
        order = self._rows.schema.names
        for start, stop in ranges:
            batch = {name: wrap(array[start:stop]) for name, array in arrays.items()}
            if self._copy:
                batch = {name: tensor.clone() for name, tensor in batch.items()}
            batch.update((name, jagged.cut(start, stop)) for name, jagged in self._jagged.items())
            batch.update((name, rows.cut(start, stop, self._copy)) for name, rows in self._sparse_rows.items())
            if rest is not None:
                some = rest.slice(start, stop - start)
                batch.update(tensors(some, copy=self._copy, ragged=self._ragged, sparse=self._sparse))
            yield _in_order(batch, order)


def _in_order(batch: dict[str, Any], order: Sequence[str]) -> dict[str, Any]:
    ordered = {}
    for name in order:
        ordered[name] = batch[name]
        if f"{name}{LENGTHS}" in batch:
            ordered[f"{name}{LENGTHS}"] = batch[f"{name}{LENGTHS}"]
    return ordered


class _Jagged:
    """A column of lists without nulls, of which nested tensors are cut without a copy."""

    def __init__(self, name: str, column: Any) -> None:
        self._offsets = torch.from_numpy(_offsets(column))
        self._places: list[int] = self._offsets.tolist()
        self._values = _flat(name, column, False).numpy()

    def cut(self, start: int, stop: int) -> torch.Tensor:
        low, high = self._places[start], self._places[stop]
        return _nested(torch.from_numpy(self._values[low:high]), self._offsets[start : stop + 1] - low)


@cache
def _quiet_torch() -> None:
    """Lets torch warn here and now of what it warns of once in each process: that sparse tensors are new, unchecked."""
    checks: Any = torch.sparse.check_sparse_tensor_invariants
    if not checks.is_enabled():
        checks.disable()  # as it is by default
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
        torch.sparse_csr_tensor(nothing.new_zeros(1), nothing, nothing, size=(0, 0), check_invariants=False)


class _SparseRows:
    """A sparse column, of which tensors are cut without a copy."""

    def __init__(self, name: str, column: Any, width: int, form: Sparse) -> None:
        _quiet_torch()
        if column.null_count:
            raise _no_null(name, column.type)
        indices, values = column.field("indices"), column.field("values")
        for inner in (indices, values):
            if inner.null_count or inner.flatten().null_count:
                raise _no_null(f"{name}.{'indices' if inner is indices else 'values'}", inner.type)
        self._width, self._form = width, form
        self._offsets = _offsets(indices)
        self._columns = _flat(name, indices, False).numpy()
        self._values = _flat(name, values, False).numpy()
        if not np.array_equal(self._offsets, _offsets(values)):
            raise TypeMismatchError(f"sparse column {name!r} has a row with more indices than values, or fewer")
        if len(self._columns) and not (self._columns.min() >= 0 and self._columns.max() < width):
            wrong = self._columns[(self._columns < 0) | (self._columns >= width)][0]
            raise TypeMismatchError(f"sparse column {name!r} has the index {wrong}, but its width is {width}")
        if not ascends(self._offsets, self._columns):
            raise TypeMismatchError(f"sparse column {name!r} has a row whose indices are not ascending and distinct")

    def cut(self, start: int, stop: int, copy: bool) -> torch.Tensor:
        """Returns the rows ``[start, stop)`` as a tensor."""
        low, high = int(self._offsets[start]), int(self._offsets[stop])
        bounds, columns, values = self._offsets[start : stop + 1] - low, self._columns[low:high], self._values[low:high]
        if self._form == "dense":
            dense = np.zeros((stop - start, self._width), values.dtype)
            dense.reshape(-1)[np.repeat(np.arange(stop - start) * self._width, np.diff(bounds)) + columns] = values
            return torch.from_numpy(dense)
        if copy:
            columns, values = columns.copy(), values.copy()
        parts = [torch.from_numpy(part) for part in (bounds.astype(columns.dtype), columns, values)]
        size = (stop - start, self._width)
        # The indices were checked.
        return torch.sparse_csr_tensor(parts[0], parts[1], parts[2], size, check_invariants=False, device="cpu")


def _sound_sparse_rows(field: pa.Field[Any], column: Any, form: Sparse) -> _SparseRows | None:
    """Returns the rows of a sparse column; None of another column, or if one is bad: its batch has the error."""
    width = sparse_width(field)
    if width is None or column.null_count:
        return None
    try:
        return _SparseRows(field.name, column, width, form)
    except TypeMismatchError:
        return None


class _Padded:
    """Rows of one width and how much of each is there."""

    def __init__(self, values: torch.Tensor, lengths: torch.Tensor) -> None:
        self.values = values
        self.lengths = lengths


def is_tensor_type(kind: Any) -> bool:
    """Returns whether columns of a type become tensors, one or several; else they become Python lists."""
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return is_tensor_type(kind.value_type)
    if isinstance(kind, pa.FixedShapeTensorType):
        kind = kind.storage_type
    return _numeric(_leaf(kind)) or _is_ragged(kind)


def _unwrapped(column: Any) -> Any:
    """Returns a column of fixed-shape tensors as fixed-size lists nested to that shape, any other as it is."""
    kind = column.type
    if not isinstance(kind, pa.FixedShapeTensorType) or not math.prod(kind.shape) or not kind.shape:
        return column
    rows, size, shape = len(column), math.prod(kind.shape), kind.shape
    values = column.storage.values.slice(column.storage.offset * size, rows * size)
    order = kind.permutation or list(range(len(shape)))
    if order != sorted(order):
        numbers = np.arange(rows * size).reshape(rows, *shape)
        values = values.take(pa.array(numbers.transpose(0, *(axis + 1 for axis in order)).ravel()))
    for axis in reversed(order[1:]):
        values = pa.FixedSizeListArray.from_arrays(values, shape[axis])
    return pa.FixedSizeListArray.from_arrays(
        values, shape[order[0]], mask=column.storage.is_null() if column.null_count else None
    )


def _whole(column: Any) -> bool:
    """Returns whether a column surely becomes one tensor: an error over null must wait for the batch of the row."""
    leaf = _leaf(column.type)
    return _numeric(leaf) and (pa.types.is_floating(leaf) or not _holds_null(column))


def _holds_null(column: Any) -> bool:
    """Returns whether a null may be an error, in a column, its vectors or its lists."""
    while not column.null_count and (pa.types.is_fixed_size_list(column.type) or _is_list(column.type)):
        column = column.flatten()
    return bool(column.null_count)


def _column(name: str, column: Any, copy: bool, ragged: Ragged) -> Any:
    kind = column.type
    if isinstance(column, pa.DictionaryArray):
        return _column(name, column.dictionary_decode(), copy, ragged)
    if isinstance(column, pa.RunEndEncodedArray):
        return _column(name, _decoded(column), copy, ragged)
    if pa.types.is_fixed_size_list(kind) and _numeric(_leaf(kind)):
        return _vectors(name, column, copy)
    if _is_ragged(kind):
        return _lists(name, column, copy) if ragged == "list" else _packed(name, column, copy, ragged)
    if not _numeric(kind):
        return column.to_pylist()
    return _numbers(name, column, copy)


def _decoded(column: Any) -> Any:
    """Returns run-end encoded values one by one."""
    ends = np.array(np.from_dlpack(column.run_ends), np.int64) - column.offset
    return take_values(column.values, np.searchsorted(ends, np.arange(len(column)), side="right"))


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
    whole = torch.full((len(column), *_shape(kind)), torch.nan, dtype=values.dtype, device="cpu")
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
        return _numbers(name, column.cast(pa.uint8()), False).bool()
    if pa.types.is_temporal(kind):
        column = column.cast(pa.int32() if kind.bit_width == 32 else pa.int64()).cast(pa.int64())
    if not len(column):
        return torch.from_numpy(np.empty(0, column.type.to_pandas_dtype()))
    shared: torch.Tensor = torch.from_dlpack(column)  # type: ignore[attr-defined]  # documented, not in __all__
    return shared.clone() if copy else shared


def _flat(name: str, column: Any, copy: bool) -> torch.Tensor:
    """Returns the values of the lists in succession."""
    inner = column.flatten()
    return _vectors(name, inner, copy) if pa.types.is_fixed_size_list(inner.type) else _numbers(name, inner, copy)


def _lists(name: str, column: Any, copy: bool) -> list[Any]:
    present: list[bool] = column.is_valid().to_pylist()
    values = _flat(name, column, copy).numpy()
    stops = np.cumsum(column.value_lengths().fill_null(0).to_numpy())
    starts = stops - column.value_lengths().fill_null(0).to_numpy()
    return [
        torch.from_numpy(values[start:stop]) if here else None
        for start, stop, here in zip(starts.tolist(), stops.tolist(), present, strict=True)
    ]


def _packed(name: str, column: Any, copy: bool, ragged: Ragged) -> Any:
    if column.null_count:
        raise TypeMismatchError(
            f"column {name!r} of type {column.type} holds null lists, for which its tensor has no value; leave such "
            f'rows out (filter("{name} is not null")), fill them (map), or take ragged="list" in to_torch, '
            "which has None for them"
        )
    values, offsets = _flat(name, column, copy), torch.from_numpy(_offsets(column))
    if ragged == "jagged":
        return _nested(values, offsets)
    lengths = offsets.diff()
    padded = values.new_zeros((len(column), int(lengths.max()) if len(lengths) else 0, *values.shape[1:]))
    padded[torch.arange(padded.shape[1], device="cpu") < lengths[:, None]] = values
    return _Padded(padded, lengths)


def _nested(values: torch.Tensor, offsets: torch.Tensor) -> torch.Tensor:
    nested: torch.Tensor = torch.nested.nested_tensor_from_jagged(values, offsets=offsets)
    return nested


def _offsets(column: Any) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Returns the offsets of the lists among all values, with the end of the last list."""
    if not len(column.offsets):
        return np.empty(0, np.int64)
    offsets = np.array(np.from_dlpack(column.offsets), dtype=np.int64)  # np.asarray(column.offsets) would load pandas
    offsets -= offsets[0]
    return offsets


def _no_null(name: str, kind: pa.DataType) -> TypeMismatchError:
    return TypeMismatchError(
        f"column {name!r} of type {kind} holds null, for which its tensor has no value; leave such rows out "
        f'(filter("{name} is not null")) or fill them (map)'
    )


def _is_list(kind: pa.DataType) -> bool:
    return pa.types.is_list(kind) or pa.types.is_large_list(kind)


def _is_ragged(kind: Any) -> bool:
    return _is_list(kind) and _numeric(_leaf(kind.value_type))


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
