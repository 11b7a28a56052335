"""Sidecars: matrices of .h5ad files, uncompressed on local disk, once for all processes of a machine.

A sidecar is the folder ``arrays/<content>-<matrix>`` of the cache. It appears by one rename after its files are on
disk. A lock lets one process make it. Whoever uses it holds a shared lock, so that it is not removed meanwhile.
"""

from __future__ import annotations

import hashlib
import json
import logging
import math
import os
import time
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self, TypeAlias, cast

import numpy as np

from lakefeed.arrays.cell_matrix import DenseMatrix, SparseMatrix, index_dtype, require_columns
from lakefeed.arrays.chunked_array import Box, Values
from lakefeed.config import Settings
from lakefeed.storage.disk.atomic_write import new_file, sync_directories, sync_file
from lakefeed.storage.disk.disk_errors import storage_errors, wrap_os_errors
from lakefeed.storage.disk.locks import file_lock, lock_descriptor, unlock_and_close
from lakefeed.storage.disk.scratch import scratch_folder

logger = logging.getLogger(__name__)

FOLDER: Final = "arrays"
FORMAT: Final = 1
MANIFEST: Final = "manifest.json"
LOCK: Final = "lock"
NEW: Final = "new-"
ROWS_AT_ONCE: Final = 1 << 20
GRACE_SECONDS: Final = 300.0
"""A sidecar that was opened within this time stays, as a process may be about to open it."""


FileKinds: TypeAlias = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]


@dataclass(frozen=True)
class Manifest:
    """The description of a sidecar.

    Attributes:
        shape: the shape of the matrix.
        data: the type of its values.
        indices: of a sparse matrix, the type of its column numbers.
        values: of a sparse matrix, the number of its values.
        format: the version of the layout.
    """

    shape: tuple[int, int]
    data: str
    indices: str | None = None
    values: int = 0
    format: int = FORMAT

    def files(self) -> FileKinds:
        """Returns the type and the shape of the values of each file."""
        if self.indices is None:
            return {"data": (np.dtype(self.data), self.shape)}
        return {
            "data": (np.dtype(self.data), (self.values,)),
            "indices": (np.dtype(self.indices), (self.values,)),
            "indptr": (np.dtype(np.int64), (self.shape[0] + 1,)),
        }

    def sizes(self) -> dict[str, int]:
        """Returns the size of each file in bytes."""
        return {
            name: int(np.prod(shape, dtype=np.int64)) * dtype.itemsize for name, (dtype, shape) in self.files().items()
        }


def sidecar_folder(content_key: str, layer: str | None) -> Path:
    """Returns the folder of the sidecar of a matrix."""
    matrix = "X" if layer is None else hashlib.sha256(layer.encode()).hexdigest()[:16]
    return Settings.load().cache / FOLDER / f"{content_key}-{matrix}"


def read_manifest(folder: Path) -> Manifest | None:
    """Returns the manifest of a sidecar; None if it does not exist or lacks bytes."""
    try:
        written = json.loads((folder / MANIFEST).read_text())
        manifest = Manifest(**{**written, "shape": tuple(written["shape"])})
        sizes = {name: (folder / name).stat().st_size for name in manifest.sizes()}
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return manifest if manifest.format == FORMAT and sizes == manifest.sizes() else None


def hold_sidecar(folder: Path) -> tuple[Manifest, int] | None:
    """Returns the manifest and a descriptor that keeps the sidecar until it is closed; None if there is no sidecar."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        lock_descriptor(descriptor, shared=True)  # waits for a process that removes it
        manifest = read_manifest(folder)
        if manifest is not None:
            with suppress(OSError):  # of another user in a shared cache, or a read-only disk
                os.utime(folder / MANIFEST)
            return manifest, descriptor
    except BaseException:
        os.close(descriptor)
        raise
    os.close(descriptor)
    return None


def make_sidecar(folder: Path, matrix: DenseMatrix | SparseMatrix, name: str) -> None:
    """Makes the sidecar of a matrix, unless another process does so first.

    Raises:
        StorageError: the cache cannot be written to, or is full.
        FormatError: the file of the matrix is damaged.
    """
    with (
        wrap_os_errors(f"cannot store the matrix of {name} uncompressed (stream=True needs no such copy)"),
        file_lock(folder.with_name(f"{folder.name}.lock"), temporary=True),
    ):
        if read_manifest(folder) is not None:
            return
        manifest = _manifest_of(matrix)
        evict_sidecars(folder.parent, Settings.load().cache_limit, sum(manifest.sizes().values()))
        with scratch_folder(folder.parent, NEW) as scratch:
            if folder.exists():  # it lacks bytes
                folder.rename(scratch / "damaged")
            new = scratch / "sidecar"
            with storage_errors(new):
                new.mkdir()
            _write(new, manifest, matrix, name)
            with storage_errors(folder):
                new.rename(folder)
        sync_directories([folder.parent])


def evict_sidecars(root: Path, limit: int, needed: int) -> None:
    """Removes sidecars that no process uses, the oldest first, until the others and ``needed`` bytes fit ``limit``."""
    used: list[tuple[float, Path, int]] = []
    for folder in root.iterdir() if root.is_dir() else ():
        with suppress(OSError, ValueError, TypeError, KeyError):
            size = sum(file.stat().st_size for file in folder.iterdir())
            used.append(((folder / MANIFEST).stat().st_mtime, folder, size))
    total = needed + sum(size for _, _, size in used)
    for at, folder, size in sorted(used):
        if total <= limit or at > time.time() - GRACE_SECONDS:
            return
        if _remove(folder):
            total -= size


def _remove(folder: Path) -> bool:
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        if not lock_descriptor(descriptor, timeout=0):
            return False
        logger.info("removing the uncompressed matrix %s", folder)
        with scratch_folder(folder.parent, NEW) as scratch:  # which removes it, also after a kill
            folder.rename(scratch / "sidecar")
    finally:
        unlock_and_close(descriptor)
    return True


def _manifest_of(matrix: DenseMatrix | SparseMatrix) -> Manifest:
    if isinstance(matrix, DenseMatrix):
        return Manifest(matrix.shape, matrix.dtype.str)
    rows, columns = matrix.shape
    return Manifest(matrix.shape, matrix.dtype.str, index_dtype(columns).str, int(matrix.bounds.read(rows, rows)[0]))


def _write(folder: Path, manifest: Manifest, matrix: DenseMatrix | SparseMatrix, name: str) -> None:
    files = manifest.files()
    with _NewArray(folder / "data", *files["data"]) as data:
        (matrix.array if isinstance(matrix, DenseMatrix) else matrix.data).visit_all(data.write_box, data.shape[0])
    if isinstance(matrix, SparseMatrix):
        with _NewArray(folder / "indptr", *files["indptr"]) as indptr:
            for start in range(0, max(matrix.shape[0], 1), ROWS_AT_ONCE):
                bounds = matrix.bounds.read(start, min(start + ROWS_AT_ONCE, matrix.shape[0]))
                indptr.write_box((slice(start, start + len(bounds)),), bounds)
        with _NewArray(folder / "indices", *files["indices"]) as indices:

            def copy_box(box: Box, part: Values) -> None:
                require_columns(part, matrix.shape[1], name)
                indices.write_box(box, part)

            matrix.indices.visit_all(copy_box, indices.shape[0])
    for path, text in ((folder / LOCK, ""), (folder / MANIFEST, json.dumps(asdict(manifest)))):
        with new_file(path) as sink:
            sink.write(text.encode())
            sync_file(sink)
    sync_directories([folder])


class _NewArray:
    """A new file with the values of an array, of which threads write parts. It is on disk at the end of the block."""

    def __init__(self, path: Path, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self._path, self._dtype, self.shape = path, dtype, shape
        self._row_bytes = math.prod(shape[1:]) * dtype.itemsize

    def __enter__(self) -> Self:
        with storage_errors(self._path):
            self._descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        return self

    def write_box(self, box: Box, values: Values) -> None:
        """Writes a part of the array. Values beyond its end are left out."""
        rows, *columns = box
        part = np.ascontiguousarray(values[: self.shape[0] - rows.start], self._dtype)
        size = part.nbytes // max(len(part), 1)
        first = columns[0].start * self._dtype.itemsize if columns else 0
        with storage_errors(self._path, part.nbytes):
            if size == self._row_bytes:
                self._write(part, rows.start * size)
                return
            for number, row in enumerate(part, rows.start):
                self._write(row, number * self._row_bytes + first)

    def _write(self, values: Values, start: int) -> None:
        left = memoryview(cast(Any, values)).cast("B")
        while len(left):  # a call takes at most 2 GiB
            written = os.pwrite(self._descriptor, left, start)
            left, start = left[written:], start + written

    def __exit__(self, *error: object) -> None:
        try:
            if error[0] is None:
                with storage_errors(self._path):
                    os.fsync(self._descriptor)
        finally:
            os.close(self._descriptor)
