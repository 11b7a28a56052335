"""Lazy access to an .h5ad file: annotations as a whole, rows of the matrix as they are asked for."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property
from types import TracebackType
from typing import Any, Self

import numpy as np

from lakefeed.arrays.byte_sources import StreamBytes
from lakefeed.arrays.cell_matrix import DenseMatrix, SparseMatrix
from lakefeed.arrays.h5ad_file import open_h5ad
from lakefeed.errors import ClosedError, RowIndexError


class MatrixAccess:
    """The matrix of an .h5ad file: ``matrix[rows]`` reads these rows only.

    Attributes:
        shape: the numbers of rows and columns.
    """

    def __init__(self, matrix: DenseMatrix | SparseMatrix, require_open: Callable[[], None]) -> None:
        self._matrix, self._require_open = matrix, require_open
        self.shape: tuple[int, int] = matrix.shape

    def __getitem__(self, rows: Any) -> Any:
        """Returns rows as an array, or as a CSR matrix of SciPy if the file has one.

        Args:
            rows: a number, a slice, a list of numbers or a mask. Negative numbers count from the end.

        Raises:
            RowIndexError: there is no such row.
            ClosedError: the file was closed.
        """
        self._require_open()
        taken = self._matrix.take(self._numbers(rows))
        if not isinstance(self._matrix, SparseMatrix):
            return taken
        from scipy.sparse import csr_matrix

        indptr, indices, data = taken
        return csr_matrix((data, indices, indptr), shape=(len(indptr) - 1, self.shape[1]))

    def _numbers(self, rows: Any) -> Any:
        if isinstance(rows, slice):
            return np.arange(self.shape[0])[rows]
        given = np.atleast_1d(np.asarray(rows, dtype=None if np.size(rows) else np.int64))
        numbers = np.flatnonzero(given) if given.dtype == np.bool_ else given
        if not np.issubdtype(numbers.dtype, np.integer):
            raise RowIndexError(f"rows must be whole numbers, a slice or a mask, got {rows!r:.80}")
        wrong = numbers[(numbers < -self.shape[0]) | (numbers >= self.shape[0])]
        if len(wrong):
            raise RowIndexError(f"there is no row {wrong[0]}; the matrix has {self.shape[0]} rows")
        return np.where(numbers < 0, numbers + self.shape[0], numbers).astype(np.int64)

    def __len__(self) -> int:
        return self.shape[0]


class ArrayAccess:
    """An .h5ad file, of which those bytes are read only that are asked for. A context manager.

    What was read before the end of the block stays valid; a later read is a `ClosedError`.

    Args:
        file: the path of the file, or a file of a dataset.
    """

    def __init__(self, file: Any) -> None:
        self._file = open_h5ad(file)
        source = self._file.source
        self._closed = False
        self._finalizer = weakref.finalize(self, source.close) if isinstance(source, StreamBytes) else None

    @property
    def obs(self) -> Any:
        """The annotations of the rows, as a DataFrame."""
        self._require_open()
        return self._obs

    @property
    def var(self) -> Any:
        """The annotations of the columns, as a DataFrame."""
        self._require_open()
        return self._var

    @property
    def X(self) -> MatrixAccess:  # noqa: N802 - the name that AnnData gives it
        """The matrix."""
        self._require_open()
        return self._x

    @cached_property
    def _obs(self) -> Any:
        return self._file.obs()

    @cached_property
    def _var(self) -> Any:
        return self._file.var()

    @cached_property
    def _x(self) -> MatrixAccess:
        return MatrixAccess(self._file.matrix(), self._require_open)

    @property
    def shape(self) -> tuple[int, int]:
        """The numbers of rows and columns."""
        self._require_open()
        return self._file.shape

    @property
    def obs_names(self) -> Any:
        """The names of the rows."""
        return self.obs.index

    @property
    def var_names(self) -> Any:
        """The names of the columns."""
        return self.var.index

    def close(self) -> None:
        """Closes the file. It may be called again."""
        self._closed = True
        if self._finalizer is not None:
            self._finalizer()

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError(f"{self._file.name} was closed at the end of its with block; call backed() again")

    def __enter__(self) -> Self:
        self._require_open()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
