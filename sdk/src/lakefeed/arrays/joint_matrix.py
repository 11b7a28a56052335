"""The matrices of several files as one: rows after rows, with the variables that all of them have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lakefeed._sparse import ascends
from lakefeed.arrays.cell_batches import sparse_array
from lakefeed.arrays.cell_matrix import CellMatrix, Positions, Rows, SparseRows
from lakefeed.arrays.chunked_array import Values
from lakefeed.arrays.hdf5_layout import require_library
from lakefeed.arrays.variable_join import Columns, select_columns


class JointMatrix:
    """Rows of several matrices in one type. Picklable, safe between threads and over forks.

    Args:
        parts: the matrices.
        columns: the columns that are read of each matrix; None: all.
        width: the number of columns that are read.
        dtype: the type of the values.
        sparse: whether rows are `SparseRows`, whose columns ascend.
    """

    def __init__(
        self, parts: Sequence[CellMatrix], columns: Sequence[Columns | None], width: int, dtype: Any, sparse: bool
    ) -> None:
        self._parts, self._columns, self._width = list(parts), list(columns), width
        self._dtype, self._sparse = np.dtype(dtype), sparse
        self._starts = np.cumsum([0, *(part.shape[0] for part in parts)])

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""
        return int(self._starts[-1]), self._width

    def take(self, rows: Positions) -> Rows:
        """Returns rows in any order. The positions are not negative. The arrays are new."""
        if len(self._parts) == 1:
            return self._finished(self._rows_of(0, rows))
        numbers = np.searchsorted(self._starts, rows, side="right") - 1
        used = np.unique(numbers).tolist() or [0]
        if len(used) == 1:
            return self._finished(self._rows_of(used[0], rows - self._starts[used[0]]))
        masks = [np.flatnonzero(numbers == number) for number in used]
        blocks = [
            self._rows_of(number, rows[mask] - self._starts[number]) for number, mask in zip(used, masks, strict=True)
        ]
        order = np.empty(len(rows), np.int64)
        order[np.concatenate(masks) if masks else []] = np.arange(len(rows))
        if self._sparse or all(isinstance(block, SparseRows) for block in blocks):
            return self._finished(arrange_rows([self._as_sparse(block) for block in blocks], order, self._dtype))
        out = np.empty((len(rows), self._width), self._dtype)
        for mask, block in zip(masks, blocks, strict=True):
            out[mask] = self._as_dense(block)
        return out

    def close(self) -> None:
        """Closes the matrices that are mapped into memory."""
        for part in self._parts:
            close = getattr(part, "close", None)
            if close is not None:
                close()

    def _rows_of(self, number: int, rows: Positions) -> Rows:
        part, columns = self._parts[number], self._columns[number]
        taken = part.take(rows)
        return taken if columns is None else select_columns(taken, columns, part.shape[1])

    def _finished(self, rows: Rows) -> Rows:
        return self._as_sparse(rows) if self._sparse else self._as_dense(rows)

    def _as_dense(self, rows: Rows) -> Values:
        if not isinstance(rows, SparseRows):
            return rows.astype(self._dtype, copy=False)
        out = np.zeros((len(rows.indptr) - 1, self._width), self._dtype)
        if len(rows.indices):
            typed = rows._replace(data=rows.data.astype(self._dtype, copy=False))
            if self._dtype == np.float16 or self._dtype == np.bool_:  # which scipy does not know, or adds otherwise
                lines = np.repeat(np.arange(len(out)), np.diff(rows.indptr))
                np.add.at(out, (lines, rows.indices), typed.data)
            else:
                sparse_array(typed, self._width).toarray(out=out)
        return out

    def _as_sparse(self, rows: Rows) -> SparseRows:
        if not isinstance(rows, SparseRows):
            stored = require_library("scipy.sparse").csr_array(_known_to_scipy(rows))
            return SparseRows(stored.indptr, stored.indices, stored.data.astype(self._dtype, copy=False))
        rows = rows._replace(data=rows.data.astype(self._dtype, copy=False))
        if ascends(rows.indptr, rows.indices):
            return rows
        array = sparse_array(rows._replace(data=_known_to_scipy(rows.data)), self._width)
        array.sum_duplicates()
        return SparseRows(array.indptr, array.indices, array.data.astype(self._dtype, copy=False))


def arrange_rows(blocks: Sequence[SparseRows], order: Positions, dtype: np.dtype[Any]) -> SparseRows:
    """Returns the rows of several blocks in an order of their positions in all blocks."""
    lengths = np.concatenate([np.diff(block.indptr) for block in blocks])
    starts = np.concatenate(([0], np.cumsum(lengths)))[:-1]
    indices = np.concatenate([block.indices for block in blocks])
    data = np.concatenate([block.data.astype(dtype, copy=False) for block in blocks])
    indptr = np.concatenate(([0], np.cumsum(lengths[order])))
    taken = np.repeat(starts[order] - indptr[:-1], lengths[order]) + np.arange(indptr[-1])
    return SparseRows(indptr, indices[taken], data[taken])


def _known_to_scipy(values: Values) -> Values:
    """Returns values in a type that scipy.sparse has, which holds each of them: it has no half floats."""
    return values.astype(np.float32) if values.dtype == np.float16 else values
