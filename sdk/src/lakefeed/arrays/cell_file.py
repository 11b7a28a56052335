"""The structure of a .h5ad file in one state: the columns of obs, and the shape and type of a matrix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.cell_matrix import MatrixLayout, matrix_path, read_matrix_layout
from lakefeed.arrays.chunked_array import require_sound
from lakefeed.arrays.decode_threads import map_in_threads
from lakefeed.arrays.h5ad_file import H5adFile, has_columns
from lakefeed.arrays.hdf5_layout import format_errors, open_hdf5, read_hdf5
from lakefeed.arrays.obs_columns import OBS_NAMES, LoadedColumn, ObsColumn, arrow_values, column_values, obs_column
from lakefeed.errors import ColumnNotFoundError, FormatError, UnsupportedError

NO_NAMES = pa.nulls(0, pa.string())


@dataclass(frozen=True)
class MatrixFacts:
    """The shape and type of a matrix.

    Attributes:
        width: the number of columns.
        dtype: the type of its values.
        row_bytes: about the bytes of a row, stored as it is.
        layout: its parts in the file.
    """

    width: int
    dtype: np.dtype[Any]
    row_bytes: int
    layout: MatrixLayout

    @property
    def is_sparse(self) -> bool:
        """True if only its entries are stored."""
        return self.layout.indices is not None


@dataclass(frozen=True)
class CellFile:
    """The structure of a file.

    Attributes:
        rows: the number of observations.
        columns: the columns of obs, with its index as `OBS_NAMES`.
        matrix: X or a layer; None if it was not asked for.
        var_names: the names of the variables, as text; none if no matrix was asked for.
    """

    rows: int
    columns: Mapping[str, ObsColumn]
    matrix: MatrixFacts | None
    var_names: pa.Array[Any]


def read_cell_file(
    source: ByteSource, layer: str | None, columns: Sequence[str] | None, *, with_matrix: bool
) -> CellFile:
    """Returns the structure of a file. It reads no values of a matrix.

    Args:
        source: the file.
        layer: the layer that is the matrix; None for X.
        columns: the names of columns of obs; None for all.
        with_matrix: whether a matrix is asked for.

    Raises:
        FormatError: the file is not a .h5ad file, or it is damaged or truncated.
        ColumnNotFoundError: obs lacks a column, or the file lacks the layer.
        InvalidArgumentError: the matrix is stored by columns (CSC).
        UnsupportedError: a column or the matrix has a type that cannot be read.
        MissingDependencyError: the extra ``anndata`` is not installed.
    """

    def read(file: Any) -> CellFile:
        tables = [file.get(name) for name in ("obs", "var")]
        if all(table is not None and has_columns(table) for table in tables):
            return _structure(file, source.name, layer, columns, with_matrix=with_matrix)
        return _old_structure(H5adFile(source), layer, columns, with_matrix=with_matrix)

    return read_hdf5(source, read)


def read_cell_files(
    sources: Sequence[ByteSource], layer: str | None, columns: Sequence[str] | None, *, with_matrix: bool
) -> list[CellFile]:
    """Returns the structures of files, of which several are read at the same time; see `read_cell_file`."""
    return map_in_threads(lambda source: read_cell_file(source, layer, columns, with_matrix=with_matrix), sources)


def _structure(
    file: Any, name: str, layer: str | None, columns: Sequence[str] | None, *, with_matrix: bool
) -> CellFile:
    """Returns the structure of an open file whose tables have columns of their own."""
    obs, var = file["obs"], file["var"]
    with format_errors(name):
        existing = [_text(column) for column in obs.attrs["column-order"]]
    wanted = _wanted(existing, columns, name)
    index = obs_column(_column(obs, _index_key(obs), OBS_NAMES, name), OBS_NAMES, None, name)
    rows = len(index)
    loaded: dict[str, ObsColumn] = {OBS_NAMES: index}
    for column in wanted:
        loaded[column] = obs_column(_column(obs, column, column, name), column, rows, name)
    if not with_matrix:
        return CellFile(rows, loaded, None, NO_NAMES)
    names = column_values(_column(var, _index_key(var), "its index", name), "var", name)
    matrix = _matrix_facts(file, layer, (rows, len(names)), name)
    return CellFile(rows, loaded, matrix, _as_text(names))


def _old_structure(whole: H5adFile, layer: str | None, columns: Sequence[str] | None, *, with_matrix: bool) -> CellFile:
    """Returns the structure of a file of an older format, with obs in memory."""
    rows, width = whole.shape
    wanted = _wanted(whole.obs_columns, columns, whole.name)
    frame = whole.obs()
    require_sound(len(frame) == rows, whole.name, f"obs has {len(frame)} rows of {rows}")
    values = {OBS_NAMES: frame.index.to_series(), **{name: frame[name] for name in wanted}}
    loaded = {name: LoadedColumn(arrow_values(each, name, whole.name)) for name, each in values.items()}
    if not with_matrix:
        return CellFile(rows, loaded, None, NO_NAMES)
    with open_hdf5(whole.source) as file:
        matrix = _matrix_facts(file, layer, (rows, width), whole.name)
    return CellFile(rows, loaded, matrix, pa.array(whole.var_names(), pa.string()))


def _wanted(existing: Sequence[str], columns: Sequence[str] | None, name: str) -> list[str]:
    missing = [column for column in columns or () if column not in existing]
    if missing:
        raise ColumnNotFoundError.of(missing, existing, f"obs of {name}")
    wanted = list(existing if columns is None else columns)
    if OBS_NAMES in wanted:
        raise UnsupportedError(
            f"{name}: obs has a column {OBS_NAMES!r}, the name for its index. Name the other columns to read: "
            "from_anndata(…, obs=[…])"
        )
    return wanted


def _index_key(table: Any) -> str:
    return _text(table.attrs.get("_index", "_index"))


def _column(table: Any, key: str, column: str, name: str) -> Any:
    if key not in table:
        raise FormatError(f"{name} is damaged: {table.name} lacks {column!r}")
    return table[key]


def _matrix_facts(file: Any, layer: str | None, shape: tuple[int, int], name: str) -> MatrixFacts:
    layout = read_matrix_layout(file, layer, name)
    path = matrix_path(file, layer, name)
    require_sound(layout.shape == shape, name, f"{path} has the shape {layout.shape}, and obs and var have {shape}")
    dtype = layout.data.dtype.newbyteorder("=")
    row_bytes = dtype.itemsize * shape[1]
    if layout.indices is not None:
        row_bytes = (dtype.itemsize + 4) * layout.data.shape[0] // max(shape[0], 1)
    return MatrixFacts(shape[1], dtype, row_bytes, layout)


def _as_text(names: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the values of an index as text, as AnnData has them."""
    if isinstance(names, pa.DictionaryArray):
        names = names.dictionary_decode()
    return names if names.type == pa.string() else pa.array([str(each) for each in names.to_pylist()], pa.string())


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
