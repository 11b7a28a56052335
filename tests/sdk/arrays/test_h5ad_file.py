"""Rows of .h5ad files, compared with what AnnData reads."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")

import anndata  # noqa: E402
import pandas as pd  # noqa: E402
import scipy.sparse  # noqa: E402

from lakefeed.arrays.byte_sources import LocalBytes  # noqa: E402
from lakefeed.arrays.cell_matrix import SparseRows  # noqa: E402
from lakefeed.arrays.chunked_array import ChunkCache, ChunkedArray  # noqa: E402
from lakefeed.arrays.h5ad_file import H5adFile, open_h5ad  # noqa: E402
from lakefeed.arrays.hdf5_layout import read_layout  # noqa: E402
from lakefeed.errors import (  # noqa: E402
    ColumnNotFoundError,
    FormatError,
    InvalidArgumentError,
    MissingFileError,
)
from tests.sdk.arrays.h5ad_files import csr, dense, matrix, write  # noqa: E402


def full(rows: Any, columns: int) -> Any:
    if not isinstance(rows, SparseRows):
        return rows
    parts = (rows.data, rows.indices, rows.indptr)
    return scipy.sparse.csr_matrix(parts, shape=(len(rows.indptr) - 1, columns)).toarray()


def check_rows(file: H5adFile, expected: Any, layer: str | None = None, seed: int = 0) -> None:
    read, random = file.matrix(layer), np.random.default_rng(seed)
    cached = file.matrix(layer, ChunkCache(4, 1 << 20))
    count, columns = expected.shape
    assert read.shape == expected.shape
    assert read.dtype == expected.dtype
    for start, stop in ((0, count), *(sorted(random.integers(0, count + 1, 2)) for _ in range(4))):
        got = full(read.read(int(start), int(stop)), columns)
        assert got.dtype == expected.dtype
        np.testing.assert_array_equal(got, expected[start:stop])
    for size in (0, 1, 9):
        rows = random.integers(0, count, size if count else 0)
        for each in (read, cached, cached):
            np.testing.assert_array_equal(full(each.take(rows), columns), expected[rows])


def test_rows_are_those_that_anndata_reads(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    for kind, options in itertools.product((csr, np.asarray), ({"compression": "gzip"}, {})):
        values = matrix(57, 33)
        layers = {"counts": csr(matrix(57, 33, "i8", seed=1)), "scaled": matrix(57, 33, "f8", seed=2)}
        kinds = pd.Categorical([None, *"ab" * 28])
        data = write(path, kind(values), {"kind": kinds, "n": np.arange(57)}, layers=layers, **options)
        file = pickle.loads(pickle.dumps(open_h5ad(path)))
        check_rows(file, dense(anndata.read_h5ad(path).X))
        for layer in layers:
            check_rows(file, dense(data.layers[layer]), layer)
        assert file.shape == (57, 33)
        assert file.var_names() == list(data.var_names)
        assert file.obs_columns == ["kind", "n"]
        pd.testing.assert_frame_equal(file.obs(), anndata.read_h5ad(path).obs)
        assert list(file.obs(["n"])["n"]) == list(range(57))


def test_files_that_cannot_be_read_are_named(tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    write(path, csr(matrix(40, 9)), layers={"columns": scipy.sparse.csc_matrix(matrix(40, 9))}, compression="gzip")
    file = open_h5ad(path)
    with pytest.raises(InvalidArgumentError, match=r"cells\.h5ad: layers/columns is stored by columns .*tocsr\(\)"):
        file.matrix("columns")
    with pytest.raises(ColumnNotFoundError, match=r"cells\.h5ad has no layer 'x'; its layers are \['columns'\]"):
        file.matrix("x")
    with pytest.raises(ColumnNotFoundError, match=r"no column 'n' in obs of .*cells\.h5ad"):
        file.obs(["n"])
    with pytest.raises(MissingFileError, match="no file"):
        open_h5ad(tmp_path / "none.h5ad")
    whole = path.read_bytes()
    for content in (b"", b"text" * 500, whole[: len(whole) // 2], whole[:-1]):
        (tmp_path / "part.h5ad").write_bytes(content)
        with pytest.raises(FormatError, match=r"part\.h5ad"):
            open_h5ad(tmp_path / "part.h5ad").matrix().read(0, 40)
    path.rename(tmp_path / "cells.csv")
    with pytest.raises(FormatError, match=r"cells\.csv: files of annotated matrices end in \.h5ad"):
        open_h5ad(tmp_path / "cells.csv")
    for odd in (None, 7, b"x", "", [path], "a\0b"):
        with pytest.raises(InvalidArgumentError, match="a file must be a path"):
            open_h5ad(odd)


@pytest.mark.live
@pytest.mark.parametrize("kind", [csr, np.asarray], ids=["csr", "dense"])
def test_rows_of_all_types_and_compressions(kind: Callable[[Any], Any], tmp_path: Path) -> None:
    path = tmp_path / "cells.h5ad"
    compressions: tuple[dict[str, Any], ...] = ({"compression": "gzip"}, {"compression": "lzf"}, {})
    for (rows, columns), options in itertools.product(((0, 3), (1, 1), (257, 33)), compressions):
        for dtype in ("f4", "f8", "u1", "?", *([] if kind is csr else ["f2", ">f4"])):
            values = matrix(rows, columns, dtype)
            write(path, kind(values), **options)
            check_rows(open_h5ad(path), values.astype(values.dtype.newbyteorder("=")))


@pytest.mark.live
@given(data=st.data())
def test_arrays_of_all_chunks_are_read(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    shape = tuple(data.draw(st.lists(st.integers(1, 23), min_size=1, max_size=2)))
    chunks = data.draw(st.none() | st.tuples(*(st.integers(1, size) for size in shape)))
    filters = data.draw(st.sampled_from([{}, {"compression": "gzip"}, {"compression": "gzip", "shuffle": True},
                                         {"compression": "lzf"}, {"fletcher32": True}]))  # fmt: skip
    written = data.draw(st.integers(0, shape[0]))
    path = tmp_path_factory.mktemp("h5", numbered=True) / "array.h5"
    expected = np.full(shape, 7, "i4")
    with h5py.File(path, "w", userblock_size=data.draw(st.sampled_from([0, 512]))) as file:
        array = file.create_dataset(
            "a", shape, "i4", chunks=True if filters and chunks is None else chunks, fillvalue=7, **filters
        )
        expected[:written] = np.arange(expected[:written].size).reshape(expected[:written].shape)
        array[:written] = expected[:written]
        layout = read_layout(array, "array.h5")
    cache = data.draw(st.none() | st.builds(ChunkCache, st.just(3), st.just(1 << 20)))
    array = ChunkedArray(LocalBytes(str(path), "array.h5"), layout, cache)
    for _ in range(3):
        start, stop = sorted(data.draw(st.lists(st.integers(0, shape[0]), min_size=2, max_size=2)))
        np.testing.assert_array_equal(array.read(start, stop), expected[start:stop])
        rows = np.array(data.draw(st.lists(st.integers(0, shape[0] - 1), max_size=5)), np.int64)
        np.testing.assert_array_equal(array.take(rows), expected[rows])
        if len(shape) == 1:
            bounds = np.sort(np.array(data.draw(st.lists(st.integers(0, shape[0]), min_size=2, max_size=6)), np.int64))
            got = array.take_ranges(bounds[:-1], bounds[1:])
            np.testing.assert_array_equal(got, expected[bounds[0] : bounds[-1]])


def test_chunks_of_zstandard_and_blosc_are_decoded(tmp_path: Path) -> None:
    """HDF5 itself reads them with plugins only, so they are written as they are in the file."""
    codecs = pytest.importorskip("numcodecs")
    expected = np.arange(250, dtype="i4").reshape(25, 10)
    for code, encode in (
        (32_015, codecs.zstd.compress),
        (32_001, lambda values: codecs.blosc.compress(values, b"lz4", 5)),
    ):
        stored = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
        stored.set_chunk((10, 10))
        stored.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (0,))
        with h5py.File(tmp_path / "array.h5", "w") as file:
            space = h5py.h5s.create_simple(expected.shape)
            array = h5py.h5d.create(file.id, b"a", h5py.h5t.NATIVE_INT32, space, stored)
            for row in (0, 10, 20):
                part = np.zeros((10, 10), "i4")
                part[: len(expected[row : row + 10])] = expected[row : row + 10]
                array.write_direct_chunk((row, 0), encode(part.tobytes()))
            layout = read_layout(file["a"], "array.h5")
        assert layout.direct
        read = ChunkedArray(LocalBytes(str(tmp_path / "array.h5"), "array.h5"), layout)
        np.testing.assert_array_equal(read.read(3, 25), expected[3:])
