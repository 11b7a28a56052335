"""`map_anndata`: rows by index, labels, joins of variables, batches for PyTorch."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, WeightedRandomSampler, default_collate

from lakefeed import Dataset
from lakefeed.arrays.mapped_cells import MappedCells, map_anndata
from lakefeed.errors import (
    ClosedError,
    ColumnNotFoundError,
    FormatError,
    InvalidArgumentError,
    RowIndexError,
    SchemaError,
    TypeMismatchError,
)
from tests.sdk.arrays.h5ad_files import csr, matrix, write


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A CSR file and a dense one, with the same variables."""
    folder = tmp_path_factory.mktemp("files")
    first, second = folder / "first.h5ad", folder / "second.h5ad"
    kinds = pd.Categorical(["T", None, "B", "T", "B"], categories=["unused", "T", "B"])
    numbers: dict[str, Any] = {"n": np.arange(5), "f": [0.5, np.nan, 1, 2, 3], "ok": [True, False, True, True, False]}
    write(first, csr(matrix(5, 7)), {"kind": kinds, "donor": ["d1", "d0", "d1", "d1", "d0"], **numbers})
    numbers = {"n": pd.array([1, None, 3], "Int64"), "f": np.arange(3, dtype="f4")}
    labels: dict[str, Any] = {"kind": ["NK", "B", "NK"], "donor": pd.Categorical(["d0", "d9", None])}
    labels["ok"] = pd.array([True, None, False], "boolean")
    write(second, matrix(3, 7, seed=1), {**labels, **numbers}, compression="gzip")
    return [first, second]


VALUES = np.concatenate([matrix(5, 7), matrix(3, 7, seed=1)])


@pytest.mark.parametrize("stream", [False, True])
def test_rows_by_index(files: list[Path], stream: bool) -> None:
    with map_anndata(files, ["kind", "n"], stream=stream) as cells:
        assert (len(cells), cells.shape, cells.var_names[:2]) == (8, (8, 7), ["gene0", "gene1"])
        for index in (0, 7, -1, -8, np.int64(3)):
            values, kind, number = cells[index]
            np.testing.assert_array_equal(values, VALUES[index])
            assert values.dtype == np.float32
            assert (kind.dtype, number.dtype) == (np.int64, np.float64)
        lists: list[Any] = [[7, 0, -1, 0], [], np.array([5, 2]), range(2), torch.tensor([4])]
        for some in (slice(None), slice(6, 1, -2), slice(3, 3), *lists):
            rows = cells[some]
            expected = VALUES[some if isinstance(some, slice) else np.array(list(some), np.int64)]
            assert isinstance(rows, list)
            np.testing.assert_array_equal(np.array([row[0] for row in rows]).reshape(-1, 7), expected)
        assert [row[1] for row in cells[:]] == [2, -1, 0, 2, 0, 1, 0, 1]
        assert cells.encoders == {"kind": {"B": 0, "NK": 1, "T": 2}}
        assert pickle.loads(pickle.dumps(cells))[-1][1:] == cells[-1][1:]
        for index in (8, -9, [0, 8], [-9]):
            with pytest.raises(RowIndexError, match=r"there is no row (8|-9): the dataset has 8"):
                cells[index]
        for odd in (None, 1.5, "x", True, [True, False], [0.5], [[1]], {0}, b"x"):
            with pytest.raises(InvalidArgumentError, match="the index must be"):
                cells[odd]  # type: ignore[index]
        for part in (slice(0, 2.5), slice(None, None, 0)):
            with pytest.raises(InvalidArgumentError, match="cannot be used: slice"):
                cells[part]
    for call in (lambda: cells[0], lambda: cells[:], lambda: cells.get_label_weights("kind")):
        with pytest.raises(RuntimeError, match="closed"):
            call()
    cells.close()
    assert issubclass(ClosedError, RuntimeError)


def test_labels_are_codes_or_values(files: list[Path]) -> None:
    keys = ["kind", "donor", "ok", "n", "f"]
    cells = map_anndata(files, keys, stream=True)
    columns = {key: [row[1 + number] for row in cells[:]] for number, key in enumerate(keys)}
    assert cells.encoders["donor"] == {"d0": 0, "d1": 1, "d9": 2}
    assert columns["donor"] == [1, 0, 1, 1, 0, 0, 2, -1]
    assert cells.encoders["ok"] == {False: 0, True: 1}
    assert columns["ok"] == [1, 0, 1, 1, 0, 1, -1, 0]
    np.testing.assert_array_equal(columns["n"], [0, 1, 2, 3, 4, 1, np.nan, 3])
    np.testing.assert_array_equal(columns["f"], [0.5, np.nan, 1, 2, 3, 0, 1, 2])
    assert map_anndata(files[0], "n", stream=True)[:][1][1].dtype == np.int64
    assert map_anndata(files[::-1], "donor", stream=True).encoders == {"donor": cells.encoders["donor"]}
    plain = map_anndata(files, ["kind", "ok"], encode_labels=False, stream=True, dict_rows=True)
    assert [row["kind"] for row in plain[:]] == ["T", None, "B", "T", "B", "NK", "B", "NK"]
    np.testing.assert_array_equal([row["ok"] for row in plain[:]], [1, 0, 1, 1, 0, 1, np.nan, 0])
    some = map_anndata(files, ["kind", "n"], encode_labels=["n"], stream=True)
    assert some.encoders == {"n": {0: 0, 1: 1, 2: 2, 3: 3, 4: 4}}
    assert [row[2] for row in some[4:]] == [4, 1, -1, 3]
    counts = np.array([3, 3, 3, 3, 3, 3, 1, 1])
    np.testing.assert_array_equal(cells.get_label_weights("donor"), 1 / counts)
    joint = map_anndata(files[0], stream=True).get_label_weights(["kind", "donor"])
    np.testing.assert_array_equal(joint, [1 / 2, 1, 1, 1 / 2, 1])
    assert joint.dtype == np.float64
    with pytest.raises(ColumnNotFoundError, match=r"'knd' in obs of .*first\.h5ad.*Did you mean 'kind'"):
        cells.get_label_weights(["knd"])


def test_batches_for_pytorch(files: list[Path]) -> None:
    cells = map_anndata(files, ["kind", "f"])
    for rows in (cells.__getitems__([7, 0, 3]), cells[[7, 0, 3]], [cells[7], cells[0], cells[3]]):
        for collate in (cells.collate, default_collate):
            values, kinds, floats = collate(rows)
            assert (values.dtype, kinds.dtype, floats.dtype) == (torch.float32, torch.int64, torch.float64)
            np.testing.assert_array_equal(values.numpy(), VALUES[[7, 0, 3]])
            assert kinds.tolist() == [1, 2, 2]
    sparse = map_anndata(files, "kind", encode_labels=False, sparse=True, dtype="float64", dict_rows=True)
    assert scipy.sparse.issparse(sparse[0]["X"])
    for rows in (sparse.__getitems__([7, 0, 3]), sparse[[7, 0, 3]]):
        batch = default_collate(rows)
        assert (batch["X"].layout, batch["X"].dtype, batch["kind"]) == (
            torch.sparse_csr,
            torch.float64,
            ["NK", "T", "T"],
        )
        np.testing.assert_array_equal(batch["X"].to_dense().numpy(), VALUES[[7, 0, 3]])
    changed = cells.__getitems__([1, 2])
    changed[0][1] = np.int64(9)
    changed[1][0][:] = 5
    values, kinds, _ = default_collate(changed)
    assert (kinds.tolist(), values[1].tolist()) == ([9, 0], [5] * 7)
    loader = DataLoader(cells, batch_size=3, sampler=WeightedRandomSampler(cells.get_label_weights("kind"), 6))
    assert [len(kinds) for _, kinds, _ in loader] == [3, 3]
    assert type(pickle.loads(pickle.dumps(cells[0]))) is list
    for odd in ([], None, "x", 5):
        with pytest.raises(InvalidArgumentError, match="collate needs rows"):
            cells.collate(odd)  # type: ignore[arg-type]


def test_variables_are_joined(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.h5ad", "b.h5ad", "c.h5ad")]
    write(paths[0], csr(matrix(4, 3)), names=["x", "y", "z"])
    write(paths[1], csr(matrix(2, 4, seed=1)), names=["z", "w", "x", "v"])
    write(paths[2], matrix(2, 2, seed=2), names=["z", "x"])
    expected = np.concatenate([matrix(4, 3)[:, [0, 2]], matrix(2, 4, seed=1)[:, [2, 0]], matrix(2, 2, seed=2)[:, ::-1]])
    for stream, sparse in ((False, False), (True, True)):
        cells = map_anndata(paths, stream=stream, sparse=sparse)
        assert cells.var_names == ["x", "z"]
        batch = cells.collate(cells.__getitems__([7, 5, 0, 3, 6, 1, 2, 4]))[0]
        np.testing.assert_array_equal(
            (batch.to_dense() if sparse else batch).numpy(), expected[[7, 5, 0, 3, 6, 1, 2, 4]]
        )
    assert map_anndata(paths[:1] * 2, join_vars="inner", stream=True).var_names == ["x", "y", "z"]
    with pytest.raises(SchemaError, match=r"b\.h5ad has 4 variables.*lacks 'y'; only it has 'w', 'v'.*join_vars"):
        map_anndata(paths, join_vars=None)
    write(paths[2], matrix(2, 2), names=["q", "r"])
    with pytest.raises(ValueError, match=r"no variable is in all of .*c\.h5ad"):
        map_anndata([paths[0], paths[2]])
    with pytest.warns(UserWarning, match="not unique"):
        write(paths[2], matrix(2, 2), names=["x", "x"])
    with pytest.raises(ValueError, match=r"c\.h5ad cannot be joined .*'x'.*var_names_make_unique"):
        map_anndata([paths[0], paths[2]])
    assert map_anndata([paths[2]] * 2, stream=True).shape == (4, 2)


def test_mistakes_are_named_at_the_call(files: list[Path], tmp_path: Path) -> None:
    write(tmp_path / "columns.h5ad", scipy.sparse.csc_matrix(matrix(3, 7)), {"kind": [1, 2, 3]})
    with pytest.raises(ValueError, match=r"columns\.h5ad: X is stored by columns.*tocsr"):
        map_anndata([*files, tmp_path / "columns.h5ad"])
    write(tmp_path / "numbers.h5ad", csr(matrix(3, 7)), {"kind": [1, 2, 3]})
    with pytest.raises(TypeMismatchError, match=r"obs\['kind'\] holds numbers .*first\.h5ad.*int64 in .*numbers\.h5ad"):
        map_anndata([*files, tmp_path / "numbers.h5ad"], "kind")
    with pytest.raises(TypeMismatchError, match=r"several types.*text in .*numbers in"):
        map_anndata([*files, tmp_path / "numbers.h5ad"], "kind", encode_labels=["kind"])
    with pytest.raises(ColumnNotFoundError, match=r"'kint' in obs of .*first\.h5ad.*Did you mean 'kind'"):
        map_anndata(files, ["kint"])
    with pytest.raises(ColumnNotFoundError, match="encode_labels names 'n'"):
        map_anndata(files, "kind", encode_labels=["n"])
    (tmp_path / "cells.zarr").touch()
    with pytest.raises(FormatError, match=r"cells\.zarr: files of annotated matrices end in \.h5ad"):
        map_anndata([files[0], tmp_path / "cells.zarr"])
    cases: list[dict[str, Any]] = [
        {"files": []}, {"files": None}, {"files": [None]}, {"files": 5}, {"label_keys": 5},
        {"label_keys": ["kind"] * 2},
        {"join_vars": "outer"}, {"encode_labels": 1}, {"encode_labels": None}, {"parallel": 1}, {"stream": None},
        {"layer": 5}, {"dtype": "text"}, {"dtype": None}, {"dtype": "complex64"}, {"sparse": "yes"}, {"dict_rows": 0},
    ]  # fmt: skip
    for case in cases:
        with pytest.raises(InvalidArgumentError, match=next(iter(case)).replace("files", "file")):
            map_anndata(**{"files": files, **case})


def test_rows_of_one_column_twice_add_up(tmp_path: Path) -> None:
    odd = scipy.sparse.csr_matrix(
        (np.array([1, 2, 4, 8], "f4"), np.array([2, 0, 2, 1]), np.array([0, 3, 3, 4])), shape=(3, 3)
    )
    write(tmp_path / "odd.h5ad", odd)
    for stream in (False, True):
        for sparse in (False, True):
            cells: MappedCells = map_anndata(tmp_path / "odd.h5ad", stream=stream, sparse=sparse)
            values = cells.collate(cells.__getitems__([0, 1, 2, 0]))[0]
            expected = [[2, 0, 5], [0, 0, 0], [0, 8, 0], [2, 0, 5]]
            assert (values.to_dense() if sparse else values).tolist() == expected
            if sparse:
                assert values.col_indices().tolist() == [0, 2, 1, 0, 2]


def test_a_file_without_values_of_a_label_has_any_type(tmp_path: Path) -> None:
    write(tmp_path / "text.h5ad", VALUES[:2], {"kind": ["b", "a"]})
    write(tmp_path / "none.h5ad", VALUES[:2], {"kind": [np.nan, np.nan]})
    cells = map_anndata([tmp_path / "none.h5ad", tmp_path / "text.h5ad"], "kind")
    assert ([row[1] for row in cells[:]], cells.encoders) == ([-1, -1, 1, 0], {"kind": {"a": 0, "b": 1}})
    assert cells.get_label_weights("kind").tolist() == [0.5, 0.5, 1, 1]


def test_half_floats_are_sparse_rows(tmp_path: Path) -> None:
    odd = scipy.sparse.csr_matrix((np.array([1, 2, 4], "f4"), np.array([2, 0, 2]), np.array([0, 3, 3])), shape=(2, 3))
    write(tmp_path / "odd.h5ad", odd)
    write(tmp_path / "half.h5ad", np.array([[0, 0.5, 0], [0, 0, 2]], "f2"))
    expected = [[2, 0, 5], [0, 0, 0], [0, 0.5, 0], [0, 0, 2]]
    for stream in (False, True):
        files = [tmp_path / "odd.h5ad", tmp_path / "half.h5ad"]
        cells = map_anndata(files, stream=stream, sparse=True, dtype="float16")
        values = cells.collate(cells.__getitems__([0, 1, 2, 3]))[0]
        assert values.dtype == torch.float16
        assert values.to_dense().tolist() == expected
    (batch,) = Dataset.from_anndata(tmp_path / "half.h5ad").select(["X"]).to_torch(batch_size=2)
    assert (batch["X"].dtype, batch["X"].to_dense().tolist()) == (torch.float16, expected[2:])


@pytest.mark.live
@given(data=st.data())
def test_rows_in_any_order_of_any_files(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("any", numbered=True)
    names = [f"g{number}" for number in range(9)]
    sizes = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=3))
    parts, labels = [], []
    for number, size in enumerate(sizes):
        some = data.draw(
            st.permutations(names).map(lambda order: ["g0", *(name for name in order[:6] if name != "g0")])
        )
        values = pd.DataFrame(matrix(size, len(some), seed=number), columns=some)
        kinds = data.draw(st.lists(st.sampled_from(["B", "T", None]), min_size=size, max_size=size))
        kind = data.draw(st.sampled_from([csr, np.asarray]))
        options = data.draw(st.sampled_from([{}, {"compression": "gzip"}]))
        write(
            folder / f"{number}.h5ad", kind(values.to_numpy()), {"kind": pd.Categorical(kinds)}, names=some, **options
        )
        parts.append(values)
        labels += kinds
    expected = pd.concat(parts, join="inner", ignore_index=True)
    encoder = {value: code for code, value in enumerate(sorted({value for value in labels if value is not None}))}
    for stream, sparse in ((False, True), (True, False)):
        cells = map_anndata(
            [folder / f"{number}.h5ad" for number in range(len(sizes))], "kind", stream=stream, sparse=sparse
        )
        assert cells.encoders == {"kind": encoder}
        for _ in range(3):
            rows = data.draw(st.lists(st.integers(0, len(labels) - 1), min_size=1, max_size=9)) if labels else []
            if rows:
                values, kinds = cells.collate(cells.__getitems__(rows))
                got = pd.DataFrame((values.to_dense() if sparse else values).numpy(), columns=cells.var_names)
                np.testing.assert_array_equal(got[expected.columns], expected.iloc[rows])
                assert kinds.tolist() == [encoder.get(labels[row], -1) for row in rows]


def test_text_is_bytes_and_categories_are_shared_in_old_files(tmp_path: Path) -> None:
    import h5py

    path = tmp_path / "old.h5ad"
    write(path, matrix(3, 2), {"kind": pd.Categorical(["b", None, "a"]), "n": [1, 2, 3]})
    with h5py.File(path, "r+") as file:
        obs, kinds = file["obs"], file["obs/kind/codes"][()]
        del obs["kind"], file["var/_index"]
        shared = obs.create_dataset("__categories/kind", data=["a", "b"], dtype=h5py.string_dtype())
        obs["kind"] = kinds
        obs["kind"].attrs["categories"] = shared.ref
        file["var/_index"] = np.array([b"g0", b"g1"])
        for table in ("obs", "var"):
            file[table].attrs["encoding-version"] = "0.1.0"
    write(tmp_path / "new.h5ad", matrix(1, 2), {"kind": ["a"], "n": [4]}, names=["g0", "g1"])
    cells = map_anndata([path, tmp_path / "new.h5ad"], ["kind", "n"])
    assert cells.encoders == {"kind": {"a": 0, "b": 1}}
    assert [row[1:] for row in cells[:]] == [[1, 1], [-1, 2], [0, 3], [0, 4]]
    assert cells.var_names == ["g0", "g1"]
    with pytest.raises(InvalidArgumentError, match="dict_rows"):
        map_anndata(write_labels(tmp_path), "X", dict_rows=True)
    assert map_anndata(write_labels(tmp_path), "X")[1][1] == 7


def write_labels(folder: Path) -> Path:
    write(folder / "labels.h5ad", matrix(2, 2), {"X": [6, 7]})
    return folder / "labels.h5ad"
