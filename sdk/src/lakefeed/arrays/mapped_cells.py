"""`map_anndata`: rows of .h5ad files by index, for the data loaders of PyTorch."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed._units import MIB
from lakefeed._validate import check_flag, check_text, is_whole, list_names
from lakefeed.arrays.byte_sources import FileHandle
from lakefeed.arrays.cell_batches import VALUES, CellBatch, Cells, collate_cells, register_cells
from lakefeed.arrays.chunked_array import ChunkCache
from lakefeed.arrays.decode_threads import map_in_threads
from lakefeed.arrays.h5ad_file import H5adFile, locate_h5ad
from lakefeed.arrays.hdf5_layout import read_hdf5
from lakefeed.arrays.joint_matrix import JointMatrix
from lakefeed.arrays.label_columns import Encoder, LabelColumn, group_numbers, label_column
from lakefeed.arrays.mapped_matrix import MappedMatrix
from lakefeed.arrays.memory_cells import MemoryCells, is_anndata
from lakefeed.arrays.variable_join import JoinVars, check_join, join_variables
from lakefeed.errors import ClosedError, ColumnNotFoundError, InvalidArgumentError, RowIndexError, quoted_list

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

AnyFile: TypeAlias = "str | os.PathLike[str] | FileHandle | AnnData"
Files: TypeAlias = "AnyFile | Iterable[AnyFile]"
Index: TypeAlias = int | slice | Sequence[int] | npt.NDArray[np.integer[Any]]

CACHED_CHUNKS: Final = 64
CACHED_BYTES: Final = 256 * MIB


class MappedCells:
    """Rows of .h5ad files by index: a map-style dataset for ``torch.utils.data.DataLoader``.

    A row is a list of its values and its labels, in the order of ``label_keys``. PyTorch's ``default_collate`` makes
    the batches of `collate` of rows. Rows may be read in any order, by threads, and by processes that are forked or
    spawned. `map_anndata` makes it.

    Example:
        >>> from torch.utils.data import DataLoader  # doctest: +SKIP
        >>> cells = lakefeed.map_anndata(["a.h5ad", "b.h5ad"], label_keys=["cell_type"])  # doctest: +SKIP
        >>> for values, cell_type in DataLoader(cells, batch_size=128, shuffle=True):  # doctest: +SKIP
        ...     pass
    """

    def __init__(
        self,
        files: Sequence[H5adFile | MemoryCells],
        matrix: JointMatrix,
        var_names: Sequence[str],
        labels: dict[str, LabelColumn],
        dict_rows: bool,
    ) -> None:
        self._files, self._matrix, self._var_names = list(files), matrix, list(var_names)
        self._labels, self._dict_rows = labels, dict_rows
        self._closed = False

    def __len__(self) -> int:
        """Returns the number of rows of all files."""
        register_cells()  # a sampler asks for it, in the process that gets the batches of workers
        return self._matrix.shape[0]

    @property
    def shape(self) -> tuple[int, int]:
        """The number of rows of all files, and of variables."""
        return self._matrix.shape

    @property
    def var_names(self) -> list[str]:
        """The names of the variables, in the order of the values of a row."""
        return list(self._var_names)

    @property
    def label_keys(self) -> list[str]:
        """The names of the labels."""
        return list(self._labels)

    @property
    def encoders(self) -> dict[str, Encoder]:
        """For each encoded label, the code of each value. Missing values have the code -1."""
        return {key: dict(column.encoder) for key, column in self._labels.items() if column.encoder is not None}

    def __getitem__(self, index: Index) -> Cells | list[Cells]:
        """Returns one row, or a list of rows.

        Args:
            index: the index of a row, a slice, or a list of indices. Negative indices count from the end.

        Raises:
            RowIndexError: a row of this index does not exist.
            InvalidArgumentError: the index is none of these.
            ClosedError: the dataset was closed.
        """
        if is_whole(index) and not getattr(index, "ndim", 0):
            return self._batch(np.array([self._position(index)], np.int64))[0]
        return list(self._batch(self._positions(index)))

    def __getitems__(self, indices: Sequence[int]) -> Sequence[Cells]:
        """Returns the rows of a batch, which are read together. PyTorch calls this method.

        Args:
            indices: the indices of the rows.

        Raises:
            RowIndexError: a row of one of the indices does not exist.
            ClosedError: the dataset was closed.
        """
        return self._batch(self._positions(indices))

    def collate(self, rows: Any) -> Any:
        """Returns rows as tensors: the values (dense, or sparse in CSR), then each label; text is a list.

        Args:
            rows: rows of this dataset.

        Raises:
            InvalidArgumentError: there are no rows.
            MissingDependencyError: PyTorch is not installed.
        """
        if not _are_rows(rows):
            raise InvalidArgumentError(f"collate needs rows of this dataset, got {rows!r:.80}")
        return collate_cells(rows)

    def get_label_weights(self, keys: str | Sequence[str]) -> npt.NDArray[np.float64]:
        """Returns a weight for each row: 1 / the number of rows with the same labels.

        For ``torch.utils.data.WeightedRandomSampler``. Missing values count as equal.

        Args:
            keys: the name of a column of obs, or a list of names whose values are counted together.

        Raises:
            ColumnNotFoundError: a file has no such column.
        """
        names = list_names(keys)
        if not names:
            raise InvalidArgumentError(f"keys must be the name of a column of obs or a list of names, got {keys!r:.80}")
        self._require_open()
        missing = [name for name in names if name not in self._labels]
        frames = [(file.name, file.obs(missing)) for file in self._files] if missing else []
        labels = {**self._labels, **_labels(missing, True, frames)}
        groups = group_numbers([labels[name].values for name in names])
        weights: npt.NDArray[np.float64] = 1.0 / np.bincount(groups)[groups] if len(groups) else np.empty(0)
        return weights

    def close(self) -> None:
        """Lets go of the files in the cache. The dataset cannot be used any more; rows that were read stay valid."""
        self._closed = True
        self._matrix.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __repr__(self) -> str:
        rows, columns = self.shape
        labels = f", labels {quoted_list(self._labels)}" if self._labels else ""
        return f"MappedCells({rows:,} x {columns:,} of {quoted_list((file.name for file in self._files), 3)}{labels})"

    def _require_open(self) -> None:
        if self._closed:
            raise ClosedError("the dataset was closed; call map_anndata again")

    def _batch(self, positions: npt.NDArray[np.int64]) -> CellBatch:
        self._require_open()
        register_cells()
        labels = {key: column.values[positions] for key, column in self._labels.items()}
        return CellBatch(self._matrix.take(positions), self.shape[1], labels, self._dict_rows)

    def _position(self, index: Any) -> int:
        position = int(index) + (len(self) if index < 0 else 0)
        if not 0 <= position < len(self):
            raise RowIndexError(f"there is no row {index}: the dataset has {len(self)}")
        return position

    def _positions(self, index: Any) -> npt.NDArray[np.int64]:
        if isinstance(index, slice):
            try:
                return np.arange(len(self), dtype=np.int64)[index]
            except (TypeError, ValueError) as error:
                raise InvalidArgumentError(f"the index {index!r:.80} cannot be used: {error}") from error
        wanted = np.asarray(index) if isinstance(index, Sequence) or hasattr(index, "__array__") else np.array(None)
        if wanted.ndim != 1 or (wanted.dtype.kind not in "iu" and wanted.size):
            raise InvalidArgumentError(
                f"the index must be a whole number, a slice or a list of them, got {index!r:.80}"
            )
        positions = wanted.astype(np.int64)
        positions = np.where(positions < 0, positions + len(self), positions)
        outside = (positions < 0) | (positions >= len(self))
        if outside.any():
            raise RowIndexError(f"there is no row {wanted[outside][0]}: the dataset has {len(self)}")
        return positions


def map_anndata(
    files: Files,
    label_keys: str | Sequence[str] | None = None,
    join_vars: JoinVars = "auto",
    encode_labels: bool | Sequence[str] = True,
    parallel: bool = False,
    stream: bool = False,
    *,
    layer: str | None = None,
    dtype: npt.DTypeLike = "float32",
    sparse: bool = False,
    dict_rows: bool = False,
) -> MappedCells:
    """Returns the rows of .h5ad files of AnnData by index, as a map-style dataset for PyTorch.

    The matrix of each file is stored uncompressed in the cache folder, once for all processes of a machine, and mapped
    into memory, so that rows in any order are fast.

    Args:
        files: a path, a URL, a file of a dataset (`lakefeed.File`) or an AnnData object in memory, or several, whose
            rows follow one another.
        label_keys: columns of obs that become labels.
        join_vars: how files are joined that have other variables: "auto" and "inner" take the variables that all files
            have, in the order of the first file; None requires equal ones.
        encode_labels: replace text, categories and booleans by codes. Codes are those of the sorted values of all
            files, and -1 for a missing value. Or the keys of the labels that become codes, also of numbers.
        parallel: accepted for the sake of other libraries; any number of processes may read the rows.
        stream: make no copy in the cache, but read and decompress the chunks that hold the rows.
        layer: the name of a layer; None for X.
        dtype: the type of the values.
        sparse: return sparse rows, and collate them to sparse tensors in CSR.
        dict_rows: return rows as dicts, with the values under "X".

    Raises:
        MissingFileError: a file does not exist.
        FormatError: a file is not a .h5ad file, or it is damaged.
        ColumnNotFoundError: a file lacks a column or the layer.
        SchemaError: the variables of the files differ and cannot be joined.
        InvalidArgumentError: a matrix is stored by columns (CSC), or an argument has another value than described.
        StorageError: the cache is full; ``stream=True`` needs no space.
    """
    keys = _check_label_keys(label_keys)
    join = check_join(join_vars)
    encode = _check_encode(encode_labels, keys)
    for value, name in ((parallel, "parallel"), (stream, "stream"), (sparse, "sparse"), (dict_rows, "dict_rows")):
        check_flag(value, name)
    if dict_rows and VALUES in keys:
        raise InvalidArgumentError(
            f"dict_rows=True has the values of a row under {VALUES!r}, which is a label too; use rows that are lists"
        )
    value_type = _check_dtype(dtype)
    if layer is not None:
        check_text(layer, "layer")
    structures = _structures(_check_files(files), keys, layer)
    opened = [each.file for each in structures]
    var_names, columns = join_variables([each.var_names for each in structures], [file.name for file in opened], join)
    labels = _labels(keys, encode, [(each.file.name, each.obs) for each in structures])
    if stream:
        cache = ChunkCache(CACHED_CHUNKS, CACHED_BYTES)
        parts: list[Any] = [file.matrix(layer, cache) for file in opened]
    else:
        parts = [
            file.matrix(layer)
            if isinstance(file, MemoryCells)
            else MappedMatrix(file.source, layer, file.source.content_key())
            for file in opened
        ]
    matrix = JointMatrix(parts, columns, len(var_names), value_type, sparse)
    return MappedCells(opened, matrix, var_names, labels, dict_rows)


def _are_rows(rows: Any) -> bool:
    if isinstance(rows, CellBatch):
        return len(rows) > 0
    listed = isinstance(rows, list | tuple) and len(rows) > 0
    return listed and all(isinstance(row, list | tuple | dict) and len(row) for row in rows)


def _check_files(files: Any) -> list[Any]:
    if isinstance(files, str | os.PathLike | FileHandle) or is_anndata(files):
        return [files]
    listed = list(files) if isinstance(files, Iterable) and not isinstance(files, bytes | dict) else []
    if not listed:
        raise InvalidArgumentError(
            f"files must be a path, a URL, a file of a dataset, an AnnData object, or a list of them, got {files!r:.80}"
        )
    return listed


def _check_label_keys(label_keys: Any) -> tuple[str, ...]:
    keys = list_names(label_keys)
    none = label_keys is None or (isinstance(label_keys, list | tuple) and not label_keys)
    if not (keys or none) or len(set(keys)) < len(keys):
        raise InvalidArgumentError(
            f"label_keys must be the name of a column of obs or a list of different names, got {label_keys!r:.80}"
        )
    return keys


def _check_encode(encode_labels: Any, keys: Sequence[str]) -> bool | tuple[str, ...]:
    if isinstance(encode_labels, bool):
        return encode_labels
    names = list_names(encode_labels)
    unknown = [name for name in names if name not in keys]
    if unknown:
        raise ColumnNotFoundError(
            f"encode_labels names {quoted_list(unknown)}, which are not among the label_keys {quoted_list(keys)}"
        )
    if not names:
        raise InvalidArgumentError(
            f"encode_labels must be True, False or a list of label_keys, got {encode_labels!r:.80}"
        )
    return names


def _check_dtype(dtype: Any) -> np.dtype[Any]:
    try:
        value_type = np.dtype(dtype) if dtype is not None else None
    except (TypeError, ValueError, SyntaxError):
        value_type = None
    if value_type is None or value_type.kind not in "iuf" or value_type.itemsize > 8:
        raise InvalidArgumentError(f'dtype must be a type of numbers such as "float32", got {dtype!r:.80}')
    native: np.dtype[Any] = value_type.newbyteorder("=")
    return native


class _Structure(NamedTuple):
    """What is read of a file before its rows."""

    file: H5adFile | MemoryCells
    var_names: list[str]
    obs: pd.DataFrame


def _structures(locations: Sequence[Any], keys: Sequence[str], layer: str | None) -> list[_Structure]:
    """Returns what is read of each file; raises errors of all its parts before a copy is made."""

    def read_structure(location: Any) -> _Structure:
        if is_anndata(location):
            cells = MemoryCells(location)
            cells.matrix(layer)
            return _Structure(cells, cells.var_names(), cells.obs(keys))
        file = locate_h5ad(location)

        def read(_: Any) -> _Structure:
            names, obs = file.var_names(), file.obs(keys)
            file.matrix(layer)
            return _Structure(file, names, obs)

        return read_hdf5(file.source, read)

    return map_in_threads(read_structure, locations)


def _labels(
    keys: Sequence[str], encode: bool | Sequence[str], frames: Sequence[tuple[str, pd.DataFrame]]
) -> dict[str, LabelColumn]:
    """Returns the labels by key. ``frames``: the name and obs of each file.

    Raises:
        TypeMismatchError: the files hold values that are no labels, or that cannot be encoded together.
    """
    return {
        key: label_column(key, [(name, frame[key]) for name, frame in frames], _is_encoded(key, encode)) for key in keys
    }


def _is_encoded(key: str, encode: bool | Sequence[str]) -> bool | None:
    """Returns whether a label becomes codes; None: unless it is a number."""
    if isinstance(encode, bool):
        return None if encode else False
    return key in encode
