"""Matrices of .h5ad files in memory maps of their sidecars."""

from __future__ import annotations

import mmap
import os
import weakref
from pathlib import Path
from typing import Any

import numpy as np

from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.cell_matrix import Positions, Rows, SparseRows
from lakefeed.arrays.chunked_array import Values
from lakefeed.arrays.h5ad_file import H5adFile
from lakefeed.arrays.sidecar_files import Manifest, hold_sidecar, make_sidecar, sidecar_folder
from lakefeed.errors import StorageError

TRIES = 3


class MappedMatrix:
    """X, or a layer, of a .h5ad file as a `CellMatrix` in a memory map. A pickled copy opens the map again.

    Args:
        source: the file.
        layer: the name of a layer; None for X.
        content_key: identifies the content of the file.

    Raises:
        StorageError: the sidecar cannot be made.
    """

    def __init__(self, source: ByteSource, layer: str | None, content_key: str) -> None:
        self._origin = source, layer, content_key
        self._folder = sidecar_folder(content_key, layer)
        self._manifest, descriptor = _hold(self._folder, source, layer)
        self._close = weakref.finalize(self, os.close, descriptor)
        self._close.atexit = False
        arrays = {name: _map(self._folder / name, *kind) for name, kind in self._manifest.files().items()}
        self._data, self._indices, self._indptr = arrays["data"], arrays.get("indices"), arrays.get("indptr")

    @property
    def shape(self) -> tuple[int, int]:
        return self._manifest.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self._data.dtype

    @property
    def is_sparse(self) -> bool:
        return self._indices is not None

    def read(self, start: int, stop: int) -> Rows:
        if self._indices is None or self._indptr is None:
            return self._data[start:stop]
        bounds = self._indptr[start : max(stop, start) + 1]
        low, high = int(bounds[0]), int(bounds[-1])
        return SparseRows(bounds - low, self._indices[low:high], self._data[low:high])

    def take(self, rows: Positions) -> Rows:
        if self._indices is None or self._indptr is None:
            return self._data[rows]
        starts, stops = self._indptr[rows], self._indptr[rows + 1]
        indptr = np.zeros(len(rows) + 1, np.int64)
        np.cumsum(stops - starts, out=indptr[1:])
        total = int(indptr[-1])
        indices, data = np.empty(total, self._indices.dtype), np.empty(total, self._data.dtype)
        for low, high, begin in zip(starts.tolist(), stops.tolist(), indptr.tolist(), strict=False):
            end = begin + high - low
            indices[begin:end] = self._indices[low:high]
            data[begin:end] = self._data[low:high]
        return SparseRows(indptr, indices, data)

    def close(self) -> None:
        """Lets the sidecar be removed when the cache is full. Arrays that were read stay valid."""
        self._close()

    def __reduce__(self) -> tuple[type[MappedMatrix], tuple[ByteSource, str | None, str]]:
        return MappedMatrix, self._origin


def _hold(folder: Path, source: ByteSource, layer: str | None) -> tuple[Manifest, int]:
    for _ in range(TRIES):
        held = hold_sidecar(folder)
        if held is not None:
            return held
        make_sidecar(folder, H5adFile(source).matrix(layer), source.name)
    raise StorageError(f"{folder} is removed again and again by another program")


def _map(path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Values:
    if not np.prod(shape, dtype=np.int64):
        return np.empty(shape, dtype)
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        mapped = mmap.mmap(descriptor, 0, access=mmap.ACCESS_READ)
    finally:
        os.close(descriptor)
    return np.frombuffer(mapped, dtype).reshape(shape)
