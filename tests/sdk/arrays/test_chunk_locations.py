"""Chunks are located in the B-tree of a file, and structures are read of remote files, without reads of all of them."""

from __future__ import annotations

import io
import os
import pickle
import struct
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

h5py = pytest.importorskip("h5py")
pytest.importorskip("anndata")

from lakefeed import Dataset, map_anndata  # noqa: E402
from lakefeed.arrays import file_blocks  # noqa: E402
from lakefeed.arrays.byte_sources import LocalBytes  # noqa: E402
from lakefeed.arrays.chunk_locations import KnownLocations, TreeLocations  # noqa: E402
from lakefeed.arrays.chunked_array import ChunkedArray  # noqa: E402
from lakefeed.arrays.hdf5_layout import open_hdf5, read_layout  # noqa: E402
from lakefeed.errors import FormatError, UnsupportedError  # noqa: E402
from tests.sdk.arrays.h5ad_files import csr, matrix, write  # noqa: E402
from tests.sdk.web import serving  # noqa: E402


class CountedBytes(LocalBytes):
    """A file that counts what is read of it."""

    reads: ClassVar[list[tuple[int, int]]] = []

    def read(self, start: int, size: int) -> bytes:
        self.reads.append((start, size))
        return super().read(start, size)


def layouts(path: Path) -> tuple[Any, Any]:
    """Returns the layout of the array of a file as it is read, and as HDF5 lists its chunks."""
    with open_hdf5(LocalBytes(str(path), path.name)) as file:
        found = read_layout(file["a"], path.name)
    with h5py.File(path) as file:
        return found, read_layout(file["a"], path.name)


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_chunks_are_where_hdf5_finds_them(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "array.h5"
    shape = data.draw(st.sampled_from([(9001,), (700, 41), (130, 3), (23, 900)]))
    chunks = tuple(data.draw(st.integers(1, max(1, size // 10))) for size in shape)
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", shape, "i4", chunks=chunks, fillvalue=7, compression="gzip")
        for _ in range(data.draw(st.integers(0, 40))):  # in any order, with gaps
            start = [random.integers(0, size) for size in shape]
            box = tuple(slice(at, at + random.integers(1, size)) for at, size in zip(start, shape, strict=True))
            array[box] = random.integers(0, 1000)
        expected = array[()]
    found, listed = layouts(path)
    assert isinstance(listed.locations, KnownLocations)
    numbers = np.arange(np.prod(found.grid))
    source = LocalBytes(str(path), path.name)
    some = np.flatnonzero(random.random(len(numbers)) < 0.1)
    for each in (some, numbers, some):
        for located, known in zip(found.locations.find(each, source), listed.locations.find(each, source), strict=True):
            np.testing.assert_array_equal(located, known)
    copy = ChunkedArray(source, pickle.loads(pickle.dumps(found)))
    np.testing.assert_array_equal(copy.read(0, shape[0]), expected)
    rows = random.integers(0, shape[0], 20)
    np.testing.assert_array_equal(copy.take(rows), expected[rows])


def test_few_nodes_are_read_of_a_large_array(tmp_path: Path) -> None:
    path = tmp_path / "array.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", (60_000,), "i4", chunks=(10,))
        array[...] = np.arange(60_000)
    found, _ = layouts(path)
    source = CountedBytes(str(path), "array.h5")
    CountedBytes.reads.clear()
    values = ChunkedArray(source, found)
    np.testing.assert_array_equal(values.read(30_000, 30_010), np.arange(30_000, 30_010))
    assert len(CountedBytes.reads) <= 4
    values.read(30_020, 30_030)
    assert len(CountedBytes.reads) <= 6


def test_an_index_of_chunks_that_were_all_removed_is_empty(tmp_path: Path) -> None:
    path = tmp_path / "array.h5"
    with h5py.File(path, "w") as file:
        array = file.create_dataset("a", (6_000,), "i4", chunks=(10,), maxshape=(None,), fillvalue=7)
        array[...] = 1
        array.resize((0,))
        array.resize((1_000,))
    found, _ = layouts(path)
    assert isinstance(found.locations, TreeLocations)
    np.testing.assert_array_equal(ChunkedArray(LocalBytes(str(path), path.name), found).read(0, 1_000), [7] * 1_000)
    with h5py.File(path, "r+") as file:
        file["a"][500:505] = 2
        expected = file["a"][()]
    found, _ = layouts(path)
    np.testing.assert_array_equal(ChunkedArray(LocalBytes(str(path), path.name), found).read(0, 1_000), expected)


def test_a_remote_file_that_became_shorter_is_an_error() -> None:
    class Shortened(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(size)[:100]

    blocks = file_blocks.FileBlocks(Shortened(bytes(1000)))
    with pytest.raises(OSError, match="not fetched"):
        blocks.read(200)
    blocks.fetch_missing()
    with pytest.raises(EOFError, match="ends before its end"):
        blocks.read(200)


def test_a_damaged_index_of_chunks_is_named(tmp_path: Path) -> None:
    path = tmp_path / "array.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("a", (60_000,), "i4", chunks=(10,))[...] = 1
    found, _ = layouts(path)
    assert isinstance(found.locations, TreeLocations)
    address, whole = found.locations._root.address, path.read_bytes()
    loop = struct.pack("<Q", address)
    child = address + 24 + found.locations._root.key_type.itemsize
    for damage in ((address, b"EERT"), (address + 6, b"\xff\xff"), (child, loop), (child + 7, b"\x7f")):
        content = bytearray(whole)
        content[damage[0] : damage[0] + len(damage[1])] = damage[1]
        path.write_bytes(content)
        with pytest.raises(FormatError, match=r"array\.h5 is damaged: .*index of its chunks"):
            ChunkedArray(LocalBytes(str(path), "array.h5"), pickle.loads(pickle.dumps(found))).read(0, 20)
    path.write_bytes(whole[: address + 100])
    with pytest.raises(FormatError, match=r"array\.h5"):
        ChunkedArray(LocalBytes(str(path), "array.h5"), pickle.loads(pickle.dumps(found))).read(0, 20)


def test_values_in_other_files_are_an_error(tmp_path: Path) -> None:
    """HDF5 gives zeros where it does not find them."""
    path = tmp_path / "a.h5ad"
    write(path, matrix(10, 4), {"n": np.arange(10)})
    with h5py.File(tmp_path / "other.h5", "w") as other:
        other["m"] = matrix(10, 4)
    with h5py.File(path, "r+") as file:
        attributes = dict(file["X"].attrs)
        del file["X"]
        virtual = h5py.VirtualLayout((10, 4), "f4")
        virtual[:] = h5py.VirtualSource(tmp_path / "other.h5", "m", (10, 4))
        file.create_virtual_dataset("X", virtual).attrs.update(attributes)
    for read in (map_anndata, Dataset.from_anndata):
        with pytest.raises(UnsupportedError, match=r"a\.h5ad: the values of /X are in other files"):
            read(path)
    assert Dataset.from_anndata(path, x=None).count() == 10


@pytest.mark.live
def test_structures_of_remote_files_are_read_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_blocks, "BLOCK_BYTES", 2048)  # so that there are many parts
    monkeypatch.setattr(file_blocks, "MOST_AHEAD", 2)
    path = tmp_path / "a.h5ad"
    write(path, csr(matrix(300, 40)), {"kind": ["a", "b"] * 150, "n": np.arange(300)}, compression="gzip")
    expected = Dataset.from_anndata(path).to_arrow()
    with serving() as site:
        urls = [site.put(f"{number}.h5ad", path.read_bytes()) for number in range(6)]
        site.latency = 0.01
        cells = Dataset.from_anndata(urls)
        assert site.most_at_once >= 3
        assert cells.count() == 1800
        table = cells.to_arrow()
        assert table["X"].to_pylist() == expected["X"].to_pylist() * 6
        assert table["kind"].to_pylist() == expected["kind"].to_pylist() * 6
        assert table["obs_names"].to_pylist() == expected["obs_names"].to_pylist() * 6
        rows = map_anndata(urls, "kind", stream=True)
        assert len(rows) == 1800
        assert [row[1] for row in rows[::300]] == [0] * 6
        site.put("3.h5ad", path.read_bytes()[: os.path.getsize(path) // 2])  # noqa: PTH202
        with pytest.raises(FormatError, match=r"3\.h5ad"):
            Dataset.from_anndata(urls)
