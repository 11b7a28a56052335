"""Rows of annotated matrices for PyTorch, whose ``default_collate`` makes the batches of `CellBatch.collate` of them.

Importing this module does not import torch.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any, Final, TypeAlias, overload

import numpy as np
import numpy.typing as npt

from lakefeed._validate import require_torch
from lakefeed.arrays.cell_matrix import Rows, SparseRows
from lakefeed.arrays.hdf5_layout import require_library

VALUES: Final = "X"
_TORCH_MODULE: Final = "torch.utils.data._utils.collate"

Labels: TypeAlias = dict[str, npt.NDArray[Any]]


class CellRow(list[Any]):
    """The values of a row and its labels. A copy, and what is pickled, is a plain list."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)


class CellRecord(dict[str, Any]):
    """The values of a row and its labels by name. A copy, and what is pickled, is a plain dict."""

    __slots__ = ()

    def __reduce__(self) -> tuple[type[dict[str, Any]], tuple[dict[str, Any]]]:
        return dict, (dict(self),)


Cells: TypeAlias = CellRow | CellRecord


class CellBatch(Sequence[Cells]):
    """Rows that were read together. A row is made when it is asked for.

    Args:
        values: the rows of the matrix.
        columns: the number of columns.
        labels: the labels by name.
        dict_rows: whether rows are dicts.
    """

    def __init__(self, values: Rows, columns: int, labels: Labels, dict_rows: bool) -> None:
        self._values, self._columns, self._labels, self._dict_rows = values, columns, labels, dict_rows
        self._length = len(values.indptr) - 1 if isinstance(values, SparseRows) else len(values)
        self._made: dict[int, tuple[Cells, tuple[Any, ...]]] = {}

    def __len__(self) -> int:
        return self._length

    @overload
    def __getitem__(self, index: int) -> Cells: ...
    @overload
    def __getitem__(self, index: slice) -> list[Cells]: ...
    def __getitem__(self, index: int | slice) -> Cells | list[Cells]:
        if isinstance(index, slice):
            return [self[number] for number in range(self._length)[index]]
        number = range(self._length)[index]
        if number not in self._made:
            cells = (self._row(number), *(column[number] for column in self._labels.values()))
            self._made[number] = self._cells(cells), cells
        return self._made[number][0]

    def __iter__(self) -> Iterator[Cells]:
        return map(self.__getitem__, range(self._length))

    def __reduce__(self) -> tuple[type[list[Any]], tuple[list[Any]]]:
        return list, (list(self),)

    def _row(self, number: int) -> Any:
        if not isinstance(self._values, SparseRows):
            return self._values[number]
        start, stop = self._values.indptr[number : number + 2]
        part = SparseRows(np.array([0, stop - start]), self._values.indices[start:stop], self._values.data[start:stop])
        return sparse_array(part, self._columns)

    def _cells(self, cells: Sequence[Any]) -> Cells:
        return CellRecord(zip((VALUES, *self._labels), cells, strict=True)) if self._dict_rows else CellRow(cells)

    def collate(self) -> list[Any] | dict[str, Any]:
        """Returns the rows as tensors: a dense one or a sparse one in CSR for the matrix, and one for each label."""
        if not self._is_unchanged():
            changed: list[Any] | dict[str, Any] = collate_cells(list(self))
            return changed
        parts = [tensor_of_rows(self._values, self._columns), *map(tensor_of_labels, self._labels.values())]
        return dict(zip((VALUES, *self._labels), parts, strict=True)) if self._dict_rows else parts

    def _is_unchanged(self) -> bool:
        """Returns whether no row has been given other cells."""
        return all(
            len(row) == len(cells)
            and all(a is b for a, b in zip(row.values() if isinstance(row, dict) else row, cells, strict=True))
            for row, cells in self._made.values()
        )


def collate_cells(rows: Any, *, collate_fn_map: Any = None) -> Any:
    """Returns rows as a batch of tensors. PyTorch calls this function for rows of these types.

    Cells that were replaced are collated by PyTorch.
    """
    if isinstance(rows, CellBatch):
        return rows.collate()
    if isinstance(rows[0], dict):
        return {key: _collate_column([row[key] for row in rows]) for key in rows[0]}
    return [_collate_column(column) for column in zip(*rows, strict=True)]


def _collate_column(cells: Sequence[Any]) -> Any:
    scipy = sys.modules.get("scipy.sparse")
    if scipy is not None and scipy.issparse(cells[0]):
        joint = scipy.vstack(cells, format="csr")
        return tensor_of_rows(SparseRows(joint.indptr, joint.indices, joint.data), joint.shape[1])
    if isinstance(cells[0], str | None):
        return list(cells)
    _torch()
    return sys.modules[_TORCH_MODULE].default_collate(list(cells))


def tensor_of_rows(values: Rows, columns: int) -> Any:
    """Returns the rows of a matrix as a tensor."""
    torch = _torch()
    if not isinstance(values, SparseRows):
        return torch.from_numpy(values)
    bounds, indices = values.indptr, values.indices
    if len(indices) <= np.iinfo(np.int32).max and indices.dtype == np.int32:  # what PyTorch's MKL computes with
        bounds = bounds.astype(np.int32)
    parts = (torch.from_numpy(np.ascontiguousarray(part)) for part in (bounds, indices, values.data))
    return torch.sparse_csr_tensor(*parts, size=(len(bounds) - 1, columns))


def tensor_of_labels(labels: npt.NDArray[Any]) -> Any:
    """Returns labels as a tensor; text as a list."""
    return labels.tolist() if labels.dtype == object else _torch().from_numpy(np.ascontiguousarray(labels))


def sparse_array(rows: SparseRows, columns: int) -> Any:
    """Returns rows as a ``scipy.sparse.csr_array``."""
    scipy = require_library("scipy.sparse")
    return scipy.csr_array((rows.data, rows.indices, rows.indptr), shape=(len(rows.indptr) - 1, columns))


def register_cells() -> None:
    """Lets PyTorch collate rows with `collate_cells`, once it is imported."""
    collate = sys.modules.get(_TORCH_MODULE)
    if collate is not None and CellRow not in collate.default_collate_fn_map:
        _torch()
        for kind in (CellRow, CellRecord):
            collate.default_collate_fn_map.setdefault(kind, collate_cells)


@cache
def _torch() -> Any:
    with require_torch("collate"):
        import torch
        import torch.utils.data._utils.collate
    with warnings.catch_warnings():
        # PyTorch warns once of sparse CSR tensors, also where those of a worker arrive.
        warnings.simplefilter("ignore")
        torch.sparse_csr_tensor(torch.tensor([0, 0]), torch.tensor([], dtype=torch.int64), torch.tensor([]), (1, 1))
    return torch
