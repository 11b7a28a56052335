"""A .h5ad file: its tables by AnnData's own reader, its matrices by their chunks."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from lakefeed.arrays.byte_sources import ByteSource, byte_source, check_suffix
from lakefeed.arrays.cell_matrix import DenseMatrix, MatrixLayout, SparseMatrix, read_matrix_layout
from lakefeed.arrays.chunked_array import ChunkCache, require_sound
from lakefeed.arrays.hdf5_layout import format_errors, open_hdf5, require_library
from lakefeed.arrays.obs_columns import text_values
from lakefeed.errors import ColumnNotFoundError, FormatError, UnsupportedError
from lakefeed.storage.urls import display_url

if TYPE_CHECKING:
    import pandas as pd

SUFFIXES: Final = (".h5ad",)
TABLE_VERSION: Final = "0.2.0"
"""The version of AnnData's tables in which each column is an element of its own."""


class H5adFile:
    """A .h5ad file, of which nothing stays open. Picklable; safe between threads and over forks.

    Args:
        source: the file.
    """

    def __init__(self, source: ByteSource) -> None:
        self.source = source
        self._layouts: dict[str | None, MatrixLayout] = {}
        self._shape: tuple[int, int] | None = None

    @property
    def name(self) -> str:
        """The path or URL of the file."""
        return self.source.name

    @property
    def shape(self) -> tuple[int, int]:
        """The number of observations and of variables."""
        if self._shape is None:
            with open_hdf5(self.source) as file:
                self._shape = _length(file, "obs", self.name), _length(file, "var", self.name)
        return self._shape

    @property
    def layers(self) -> list[str]:
        """The names of the layers."""
        with open_hdf5(self.source) as file:
            return list(file.get("layers", ()))

    @property
    def obs_columns(self) -> list[str]:
        """The names of the columns of obs."""
        return self._columns("obs")

    def obs(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Returns obs, or columns of it, without its index.

        Args:
            columns: the names of the columns; None for all, with the index.

        Raises:
            ColumnNotFoundError: a column does not exist.
            FormatError: the file is damaged.
        """
        return self._frame("obs", columns)

    def var(self, columns: Sequence[str] | None = None) -> pd.DataFrame:
        """Returns var, or columns of it, without its index."""
        return self._frame("var", columns)

    def var_names(self) -> list[str]:
        """Returns the names of the variables."""
        with open_hdf5(self.source) as file:
            return [_text(name) for name in _read_index(file, "var", self.name)]

    def matrix(self, layer: str | None = None, cache: ChunkCache | None = None) -> DenseMatrix | SparseMatrix:
        """Returns X, or a layer, as a `CellMatrix`.

        Args:
            layer: the name of a layer; None for X.
            cache: decoded chunks for reads in any order; None: each read decodes its chunks.

        Raises:
            InvalidArgumentError: the matrix is stored by columns (CSC).
            ColumnNotFoundError: the file has no such layer.
            FormatError: the file has no X, or is damaged.
            UnsupportedError: the values are not numbers.
        """
        if layer not in self._layouts:
            with open_hdf5(self.source) as file:
                layout = read_matrix_layout(file, layer, self.name)
                shape = _length(file, "obs", self.name), _length(file, "var", self.name)
            require_sound(layout.shape == shape, self.name, f"the matrix has the shape {layout.shape}, not {shape}")
            self._layouts[layer] = layout
        return self._layouts[layer].open(self.source, cache)

    def _columns(self, table: str) -> list[str]:
        with open_hdf5(self.source) as file:
            return _column_names(file, table, self.name)

    def _frame(self, table: str, columns: Sequence[str] | None) -> pd.DataFrame:
        import pandas as pd

        with open_hdf5(self.source) as file:
            if columns is None:
                return _read_frame(file, table, self.name)
            existing = _column_names(file, table, self.name)
            missing = [name for name in columns if name not in existing]
            if missing:
                raise ColumnNotFoundError.of(missing, existing, f"{table} of {self.name}")
            if not has_columns(file[table]):
                return _read_frame(file, table, self.name)[list(columns)]
            length = _length(file, table, self.name)
            read = {name: _read_element(file[table][name], self.name) for name in columns}
            for name, values in read.items():
                require_sound(len(values) == length, self.name, f"{table}[{name!r}] has {len(values)} rows of {length}")
            return pd.DataFrame(read, index=pd.RangeIndex(length))

    def __getstate__(self) -> dict[str, Any]:
        return {"source": self.source}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["source"])  # type: ignore[misc]  # a new object


def locate_h5ad(file: Any) -> H5adFile:
    """Returns a .h5ad file whose name was checked, but not its content; see `open_h5ad`."""
    require_no_zarr(file)
    source = byte_source(file)
    check_suffix(source, SUFFIXES)
    return H5adFile(source)


def require_no_zarr(location: Any) -> None:
    """Raises UnsupportedError if this is the path or URL of a .zarr store."""
    if not isinstance(location, str | os.PathLike) or os.path.isfile(location):  # noqa: PTH113 - it may be a URL
        return
    if str(os.fspath(location)).rstrip("/").lower().endswith(".zarr"):
        name = display_url(os.fspath(location))
        raise UnsupportedError(
            f"{name} is a .zarr store, and .h5ad files can be read: anndata.read_zarr({name}).write_h5ad(…) writes one"
        )


def open_h5ad(file: Any) -> H5adFile:
    """Returns a .h5ad file, after a check that it is one.

    Args:
        file: a path, a URL (``s3://``, ``https://``), or a file of a dataset such as `lakefeed.File`.

    Raises:
        InvalidArgumentError: it is none of these.
        MissingFileError: the file does not exist.
        FormatError: the file is not a .h5ad file, or it is damaged or truncated.
    """
    opened = locate_h5ad(file)
    opened.shape  # noqa: B018 - reads the file
    return opened


def has_columns(table: Any) -> bool:
    """Returns whether each column of a table is an element of its own. Of older formats, the table is read whole."""
    return hasattr(table, "keys") and _text(table.attrs.get("encoding-version", "")) == TABLE_VERSION


def _table(file: Any, table: str, name: str) -> Any:
    if table not in file:
        raise FormatError(f"{name} is not a .h5ad file: it has no {table}")
    return file[table]


def _column_names(file: Any, table: str, name: str) -> list[str]:
    item = _table(file, table, name)
    if hasattr(item, "dtype"):  # of AnnData before 0.7
        return [str(field) for field in (item.dtype.names or ()) if field != "index"]
    with format_errors(name):
        order = item.attrs.get("column-order", ())
        return list(map(_text, order))


def _read_frame(file: Any, table: str, name: str) -> pd.DataFrame:
    import pandas as pd

    item = _table(file, table, name)
    if hasattr(item, "dtype"):
        with format_errors(name):
            records = item[()]
            records_frame = pd.DataFrame({field: _decoded(records[field]) for field in records.dtype.names})
            return records_frame.set_index("index") if "index" in records_frame else records_frame
    frame: pd.DataFrame = _read_element(item, name)
    require_sound(isinstance(frame, pd.DataFrame), name, f"{table} is not a table")
    return frame


def _decoded(values: Any) -> Any:
    return values.astype(str) if values.dtype.kind == "S" else values


def _read_index(file: Any, table: str, name: str) -> Any:
    item = _table(file, table, name)
    if hasattr(item, "dtype"):
        return _read_frame(file, table, name).index
    with format_errors(name):
        index = item[_text(item.attrs.get("_index", "_index"))]
        text = text_values(index)  # what most files have; AnnData takes a second to import
        return _read_element(index, name) if text is None else text.to_pylist()


def _length(file: Any, table: str, name: str) -> int:
    item = _table(file, table, name)
    if hasattr(item, "dtype"):
        return len(item)
    with format_errors(name):
        index = item[_text(item.attrs.get("_index", "_index"))]
        values = index if hasattr(index, "shape") else index["values"] if "values" in index else index["codes"]
        return int(values.shape[0])


def _read_element(item: Any, name: str) -> Any:
    """Returns an element of any encoding, read by AnnData."""
    read = require_library("anndata.io").read_elem
    unknown_encoding = require_library("anndata._io.specs.registry").IORegistryError  # AnnData exports no name of it
    with format_errors(name), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of old formats
        try:
            return read(item)
        except (unknown_encoding, ArithmeticError, AssertionError, AttributeError, IndexError) as error:
            raise ValueError(f"{item.name}: {error}") from error


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
