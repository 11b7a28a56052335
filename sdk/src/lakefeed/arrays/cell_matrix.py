"""Matrices of .h5ad files by rows: dense ones, and sparse ones whose rows are stored one after the other (CSR)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed._units import MIB
from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.chunked_array import ChunkCache, ChunkedArray, Values, require_sound
from lakefeed.arrays.hdf5_layout import ChunkLayout, format_errors, read_layout
from lakefeed.errors import ColumnNotFoundError, FormatError, InvalidArgumentError, UnsupportedError

Positions: TypeAlias = npt.NDArray[np.int64]

CACHED_BOUNDS: Final = 64
CACHED_BOUNDS_BYTES: Final = 4 * MIB
CSR: Final = "csr_matrix"
CSC: Final = "csc_matrix"


class SparseRows(NamedTuple):
    """Rows of a sparse matrix. Row i has the columns and values from ``indptr[i]`` to before ``indptr[i + 1]``.

    ``indices`` are int32, or int64 if there are more columns. They are as stored: some files have rows that are not
    sorted, or that have one column twice, whose values add up.
    """

    indptr: npt.NDArray[np.int64]
    indices: npt.NDArray[Any]
    data: Values


Rows: TypeAlias = Values | SparseRows


class CellMatrix(Protocol):
    """A matrix whose rows are read by position. Picklable, safe between threads and over forks."""

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows and columns."""
        ...

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values as stored."""
        ...

    @property
    def is_sparse(self) -> bool:
        """True if rows are `SparseRows`, not arrays."""
        ...

    def read(self, start: int, stop: int) -> Rows:
        """Returns the rows from ``start`` to before ``stop``."""
        ...

    def take(self, rows: Positions) -> Rows:
        """Returns rows in any order; a row may occur several times. The positions are not negative."""
        ...


@dataclass(frozen=True)
class DenseMatrix:
    """A dense matrix in a file."""

    array: ChunkedArray

    is_sparse = False

    @property
    def shape(self) -> tuple[int, int]:
        rows, columns = self.array.shape
        return rows, columns

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.array.dtype

    def read(self, start: int, stop: int) -> Values:
        return self.array.read(start, stop)

    def take(self, rows: Positions) -> Values:
        return self.array.take(rows)


@dataclass(frozen=True)
class RowBounds:
    """The bounds of the rows of a CSR matrix among its entries, of which parts are read.

    Attributes:
        name: the name of the file.
        array: the bounds; row i has the entries from value i to before value i + 1.
        entries: the number of entries of the matrix.
    """

    name: str
    array: ChunkedArray
    entries: int

    def read(self, start: int, stop: int) -> Positions:
        """Returns the bounds of the rows from ``start`` to before ``stop``, with the end of the last one."""
        bounds = self.array.read(start, max(stop, start) + 1).astype(np.int64)
        self._check(bounds[:-1], bounds[1:])
        require_sound(start > 0 or not bounds[0], self.name, "the first row of indptr does not begin at 0")
        return bounds

    def take(self, rows: Positions) -> tuple[Positions, Positions]:
        """Returns the begin and the end of rows in any order."""
        starts, stops = (self.array.take(each).astype(np.int64) for each in (rows, rows + 1))
        self._check(starts, stops)
        return starts, stops

    def _check(self, starts: Positions, stops: Positions) -> None:
        wrong = (starts < 0) | (stops < starts) | (stops > self.entries)
        if wrong.any():
            at = int(np.flatnonzero(wrong)[0])
            raise FormatError(
                f"{self.name} is damaged: indptr has a row from {starts[at]} to {stops[at]} of {self.entries} entries"
                + (" (it was written with 32 bits, which do not hold such numbers)" if starts[at] > stops[at] else "")
            )


@dataclass(frozen=True)
class SparseMatrix:
    """A CSR matrix in a file."""

    name: str
    shape: tuple[int, int]
    bounds: RowBounds
    indices: ChunkedArray
    data: ChunkedArray

    is_sparse = True

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.data.dtype

    def read(self, start: int, stop: int) -> SparseRows:
        bounds = self.bounds.read(start, stop)
        low, high = int(bounds[0]), int(bounds[-1])
        indices = self._checked(self.indices.read(low, high))
        return SparseRows(bounds - low, indices, self.data.read(low, high))

    def take(self, rows: Positions) -> SparseRows:
        starts, stops = self.bounds.take(rows)
        indptr = np.concatenate(([0], np.cumsum(stops - starts)))
        indices = self._checked(self.indices.take_ranges(starts, stops))
        return SparseRows(indptr, indices, self.data.take_ranges(starts, stops))

    def _checked(self, indices: Values) -> Values:
        require_columns(indices, self.shape[1], self.name)
        return indices.astype(index_dtype(self.shape[1]), copy=False)


def index_dtype(columns: int) -> np.dtype[Any]:
    """Returns the type of column numbers of a matrix."""
    return np.dtype(np.int32 if columns <= np.iinfo(np.int32).max else np.int64)


def require_columns(indices: Values, columns: int, name: str) -> None:
    """Raises FormatError that names a file if a number is not that of a column."""
    if len(indices):
        require_sound(
            int(indices.max()) < columns and int(indices.min()) >= 0,
            name, f"its indices hold a number that is not one of the {columns} columns",
        )  # fmt: skip


@dataclass(frozen=True)
class MatrixLayout:
    """The parts of a matrix in a file: of a dense one ``data`` only."""

    name: str
    shape: tuple[int, int]
    data: ChunkLayout
    indices: ChunkLayout | None = None
    indptr: ChunkLayout | None = None

    def open(self, source: ByteSource, cache: ChunkCache | None) -> DenseMatrix | SparseMatrix:
        """Returns the matrix."""
        data = ChunkedArray(source, self.data, cache)
        if self.indices is None or self.indptr is None:
            return DenseMatrix(data)
        indptr = ChunkedArray(source, self.indptr, ChunkCache(CACHED_BOUNDS, CACHED_BOUNDS_BYTES))
        bounds = RowBounds(self.name, indptr, self.data.shape[0])
        return SparseMatrix(self.name, self.shape, bounds, ChunkedArray(source, self.indices, cache), data)


def matrix_path(file: Any, layer: str | None, name: str) -> str:
    """Returns the path of X, or of a layer, in an open file.

    Raises:
        ColumnNotFoundError: the file has no layer of this name.
        FormatError: the file has no X.
    """
    if layer is None:
        if "X" not in file:
            raise FormatError(f"{name} has no X; give layer=, one of its layers: {list(file.get('layers', ()))}")
        return "X"
    layers = list(file.get("layers", ()))
    if layer not in layers:
        raise ColumnNotFoundError(f"{name} has no layer {layer!r}; its layers are {layers}")
    return f"layers/{layer}"


def read_matrix_layout(file: Any, layer: str | None, name: str) -> MatrixLayout:
    """Returns the layout of X, or of a layer, of an open .h5ad file.

    Raises:
        InvalidArgumentError: the matrix is stored by columns (CSC).
        ColumnNotFoundError: the file has no layer of this name.
        FormatError: the file has no X, or it is damaged.
    """
    item, path = matrix_item(file, layer, name)
    if hasattr(item, "shape"):
        return MatrixLayout(name, item.shape, read_layout(item, name))
    with format_errors(name):
        return _sparse_layout(item, path, name)


def matrix_item(file: Any, layer: str | None, name: str) -> tuple[Any, str]:
    """Returns X, or a layer, of an open .h5ad file, and its path: a dataset, or the group of a CSR matrix.

    Raises:
        InvalidArgumentError: the matrix is stored by columns (CSC).
        ColumnNotFoundError: the file has no layer of this name.
        FormatError: the file has no X.
        UnsupportedError: the matrix has an encoding that cannot be read.
    """
    path = matrix_path(file, layer, name)
    item = file[path]
    encoding = str(item.attrs.get("encoding-type", item.attrs.get("h5sparse_format", "")))
    encoding = {"csr": CSR, "csc": CSC}.get(encoding, encoding)
    if hasattr(item, "shape"):
        require_sound(len(item.shape) == 2, name, f"{path} has the shape {item.shape}")
    elif encoding == CSC:
        attribute = "X" if layer is None else f"layers[{layer!r}]"
        raise InvalidArgumentError(
            f"{name}: {path} is stored by columns (CSC), so a row cannot be read by itself. Store it by rows: "
            f"adata.{attribute} = adata.{attribute}.tocsr(), and write the file again"
        )
    elif encoding != CSR:
        raise UnsupportedError(f"{name}: {path} has the encoding {encoding!r}; dense and CSR matrices can be read")
    return item, path


def _sparse_layout(item: Any, path: str, name: str) -> MatrixLayout:
    stored_shape = item.attrs["shape"] if "shape" in item.attrs else item.attrs["h5sparse_shape"]
    rows, columns = (int(length) for length in stored_shape)
    data, indices = read_layout(item["data"], name), read_layout(item["indices"], name)
    indptr = read_layout(item["indptr"], name)
    require_sound(indptr.shape == (rows + 1,), name, f"{path}/indptr has the shape {indptr.shape} for {rows} rows")
    sound = data.shape == indices.shape and len(data.shape) == 1
    sound = sound and indices.dtype.kind in "iu" and indptr.dtype.kind in "iu"
    require_sound(sound, name, f"data, indices and indptr of {path} do not fit together")
    return MatrixLayout(name, (rows, columns), data, indices, indptr)
