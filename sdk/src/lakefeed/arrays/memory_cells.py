"""AnnData objects in memory, as the files that they could be written to."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from lakefeed.arrays.cell_matrix import Positions, Rows, SparseRows, index_dtype
from lakefeed.arrays.chunked_array import Values
from lakefeed.arrays.hdf5_layout import NUMERIC_KINDS, require_library
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, UnsupportedError

if TYPE_CHECKING:
    import pandas as pd

NAME = "an AnnData object"


def is_anndata(value: Any) -> bool:
    """Returns whether this is an AnnData object. Does not import anndata."""
    return any(kind.__name__ == "AnnData" and kind.__module__.startswith("anndata") for kind in type(value).__mro__)


class MemoryCells:
    """An AnnData object that is read as a `lakefeed.arrays.h5ad_file.H5adFile` is. Its arrays are not copied.

    Args:
        data: the object.

    Raises:
        InvalidArgumentError: its matrix is in a file ("backed").
    """

    name = NAME

    def __init__(self, data: Any) -> None:
        if data.isbacked:
            raise InvalidArgumentError(
                f"the matrix of this AnnData object is in a file: give the path {str(data.filename)!r}, or "
                "data.to_memory()"
            )
        self._data = data

    def obs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Returns obs, or columns of it.

        Raises:
            ColumnNotFoundError: a column does not exist.
        """
        frame: pd.DataFrame = self._data.obs
        missing = [name for name in columns or () if name not in frame.columns]
        if missing:
            raise ColumnNotFoundError.of(missing, list(frame.columns), f"obs of {NAME}")
        return frame if columns is None else frame[list(columns)]

    def var_names(self) -> list[str]:
        """Returns the names of the variables."""
        return list(map(str, self._data.var_names))

    def matrix(self, layer: str | None = None, cache: object = None) -> MemoryMatrix:
        """Returns X, or a layer. One that is stored by columns is converted.

        Raises:
            ColumnNotFoundError: the object has no layer of this name.
            InvalidArgumentError: the object has no X.
            UnsupportedError: it is neither an array of NumPy nor a matrix of SciPy, of numbers.
        """
        layers = list(self._data.layers)
        if layer is not None and layer not in layers:
            raise ColumnNotFoundError(f"{NAME} has no layer {layer!r}; its layers are {layers}")
        values = self._data.X if layer is None else self._data.layers[layer]
        if values is None:
            raise InvalidArgumentError(f"{NAME} has no X; give layer=, one of its layers: {layers}")
        if require_library("scipy.sparse").issparse(values):
            values = values.tocsr()
        elif not isinstance(values, np.ndarray):
            raise UnsupportedError(
                f"{NAME} has a matrix of the type {type(values).__name__}; arrays of NumPy and matrices of SciPy can "
                "be read"
            )
        if values.dtype.kind not in NUMERIC_KINDS:
            raise UnsupportedError(f"{NAME} has a matrix of {values.dtype}; a matrix holds numbers or booleans")
        return MemoryMatrix(values)


class MemoryMatrix:
    """A matrix in memory, as a `lakefeed.arrays.cell_matrix.CellMatrix`.

    Args:
        values: a dense array, or a CSR matrix.
    """

    def __init__(self, values: Any) -> None:
        self.shape: tuple[int, int] = values.shape
        self.is_sparse = not isinstance(values, np.ndarray)
        self.dtype: np.dtype[Any] = values.dtype.newbyteorder("=")
        self._values = values if self.is_sparse else np.asarray(values)

    def read(self, start: int, stop: int) -> Rows:
        """Returns the rows from ``start`` to before ``stop``."""
        return self._rows(self._values[start:stop])

    def take(self, rows: Positions) -> Rows:
        """Returns rows in any order."""
        return self._rows(self._values[rows])

    def _rows(self, some: Any) -> Rows:
        if not self.is_sparse:
            dense: Values = some.astype(self.dtype)
            return dense
        return SparseRows(
            some.indptr.astype(np.int64), some.indices.astype(index_dtype(self.shape[1])), some.data.astype(self.dtype)
        )
