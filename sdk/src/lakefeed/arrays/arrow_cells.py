"""Cells as Arrow columns: the column of a matrix, and all columns of an AnnData object in memory."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, Literal, TypeAlias, get_args

import numpy as np
import pyarrow as pa

from lakefeed._sparse import sparse_field
from lakefeed._units import MIB
from lakefeed._validate import check_text, is_list, list_names
from lakefeed.arrays.arrow_arrays import number_array
from lakefeed.arrays.cell_matrix import Rows, SparseRows
from lakefeed.arrays.joint_matrix import JointMatrix
from lakefeed.arrays.memory_cells import MemoryCells, is_anndata
from lakefeed.arrays.obs_columns import OBS_NAMES, arrow_values
from lakefeed.errors import InvalidArgumentError, SchemaError, quoted_list

MatrixForm: TypeAlias = Literal["sparse", "dense"]

FORMS: Final[tuple[MatrixForm, ...]] = get_args(MatrixForm)
X: Final = "X"
CHUNK_BYTES: Final = 64 * MIB
"""The bytes of the dense rows of a chunk, which so has fewer entries than 32-bit offsets hold."""

__all__ = ["FORMS", "MatrixForm", "X", "cells_table", "check_columns", "is_anndata", "matrix_array", "matrix_field"]


def cells_table(data: Any, layer: Any, form: Any, obs: Any) -> pa.Table:
    """Returns the cells of an AnnData object in memory as a table; as `Dataset.from_anndata` has them."""
    names = check_columns(layer, form, obs)
    cells = MemoryCells(data)
    frame = cells.obs(names)
    columns = [arrow_values(frame.index.astype(str).to_series(), OBS_NAMES, cells.name).cast(pa.string())]
    columns += [arrow_values(frame[name], name, cells.name) for name in frame.columns]
    fields = [pa.field(name, each.type) for name, each in zip((OBS_NAMES, *frame.columns), columns, strict=True)]
    duplicates = [name for name, times in Counter(each.name for each in fields).items() if times > 1]
    if duplicates or (form is not None and X in frame.columns):
        raise SchemaError(
            f"obs has a column {(duplicates or [X])[0]!r}, which is another name; name the columns to read: "
            "from_anndata(…, obs=[…])"
        )
    table = pa.Table.from_arrays(columns, schema=pa.schema(fields))
    if form is None:
        return table
    matrix = cells.matrix(layer)
    rows = JointMatrix([matrix], [None], matrix.shape[1], matrix.dtype, form == "sparse")
    column = matrix_field(form, matrix.shape[1], matrix.dtype)
    step = max(CHUNK_BYTES // max(matrix.shape[1] * (matrix.dtype.itemsize + 4), 1), 1)
    parts = [np.arange(start, min(start + step, len(frame))) for start in range(0, len(frame), step)]
    chunks = [matrix_array(rows.take(part), column.type) for part in parts]
    return table.append_column(column, pa.chunked_array(chunks, column.type))


def check_columns(layer: Any, form: Any, obs: Any) -> tuple[str, ...] | None:
    """Returns the names of columns of obs to read, after a check of the arguments."""
    if form is not None and (not isinstance(form, str) or form not in FORMS):
        raise InvalidArgumentError(f"x={form!r:.80}: the forms are {quoted_list(FORMS)}, and None to read no matrix")
    if layer is not None and not check_text(layer, "layer"):
        raise InvalidArgumentError("layer must be the name of a layer, got ''")
    if layer is not None and form is None:
        raise InvalidArgumentError(f"layer={layer!r} with x=None: a layer is read in place of X; give x=")
    names = None if obs is None else list_names(obs)
    if names == () and not (is_list(obs) and not list(obs)):
        raise InvalidArgumentError(f"obs must be a list of column names, got {obs!r:.80}")
    if names is not None and len(set(names)) < len(names):
        raise InvalidArgumentError(f"obs={obs!r:.80}: name each column once")
    return names


def matrix_field(form: MatrixForm, width: int, dtype: np.dtype[Any]) -> pa.Field[Any]:
    """Returns the field of the column of a matrix."""
    kind = pa.from_numpy_dtype(dtype)
    if form == "sparse":
        return sparse_field(X, width, kind, nullable=False)
    return pa.field(X, pa.list_(pa.field("item", kind, nullable=False), width), nullable=False)


def matrix_array(values: Rows, kind: Any) -> pa.Array[Any]:
    """Returns rows of a matrix as a column of a type."""
    return _sparse_array(values, kind) if isinstance(values, SparseRows) else _vectors(values, kind)


def _sparse_array(rows: SparseRows, kind: Any) -> pa.Array[Any]:
    offsets = number_array(rows.indptr.astype(np.int32))
    inner = {"indices": number_array(rows.indices.astype(np.int32, copy=False)), "values": number_array(rows.data)}
    lists = [
        pa.Array.from_buffers(each.type, len(offsets) - 1, [None, offsets.buffers()[1]], children=[inner[each.name]])
        for each in kind
    ]
    array: pa.Array[Any] = pa.Array.from_buffers(kind, len(offsets) - 1, [None], children=lists)
    return array


def _vectors(rows: Any, kind: Any) -> pa.Array[Any]:
    values = number_array(rows.reshape(-1))
    array: pa.Array[Any] = pa.Array.from_buffers(kind, len(rows), [None], children=[values])
    return array
