"""`Dataset.from_anndata`: the cells of .h5ad files as rows, compared with what AnnData reads."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

anndata = pytest.importorskip("anndata")
h5py = pytest.importorskip("h5py")
torch = pytest.importorskip("torch")

import pandas as pd  # noqa: E402
import scipy.sparse  # noqa: E402

from lakefeed import Dataset, World, map_anndata  # noqa: E402
from lakefeed.arrays.cell_matrix import DenseMatrix, SparseMatrix  # noqa: E402
from lakefeed.errors import (  # noqa: E402
    ChangedFileError,
    ColumnNotFoundError,
    FormatError,
    InvalidArgumentError,
    MissingFileError,
    SchemaError,
    StateMismatchError,
    TypeMismatchError,
    UnsupportedError,
)
from lakefeed.sources import anndata_source  # noqa: E402
from tests.sdk.arrays.h5ad_files import annotated, csr, matrix, write  # noqa: E402
from tests.sdk.web import serving  # noqa: E402

WIDTH = 30


def obs(rows: int, first: int = 0) -> dict[str, Any]:
    numbers = np.arange(first, first + rows)
    return {
        "cell": numbers,
        "donor": pd.Categorical([f"d{number % 5}" for number in numbers], [f"d{number}" for number in range(6)]),
        "stage": pd.Categorical(
            [None if number % 7 == 0 else "late" if number % 2 else "early" for number in numbers],
            ["early", "late"],
            ordered=True,
        ),
        "plate": pd.Categorical(numbers % 3),
        "score": np.where(numbers % 4 == 0, np.nan, numbers / 2),
        "good": numbers % 2 == 0,
        "count": pd.array([None if number % 3 == 0 else number for number in numbers], "Int64"),
        "known": pd.array([None if number % 3 == 0 else bool(number % 2) for number in numbers], "boolean"),
        "note": pd.array([f"n{number}" for number in numbers], "string"),
        "gap": pd.array([None if number % 2 else f"é{number}" for number in numbers], "string"),
    }


def plain(values: Any) -> list[Any]:
    return [None if pd.isna(value) else value.item() if hasattr(value, "item") else value for value in values]


def dense(column: Any, width: int = WIDTH) -> np.ndarray[Any, Any]:
    out = np.zeros((len(column), width))
    for row, cell in zip(out, column.to_pylist(), strict=True):
        row[cell["indices"]] = cell["values"]
    return out


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, strings_of_python: None) -> Path:
    """Two files: one as AnnData writes it by default, one compressed, whose variables are in another order."""
    folder = tmp_path_factory.mktemp("cells")
    first, second = matrix(130, WIDTH, seed=1), matrix(70, WIDTH, seed=2)
    write(folder / "a.h5ad", csr(first), obs(130), layers={"raw": first * 2}, convert_strings_to_categoricals=False)
    reversed_names = [f"gene{number}" for number in range(WIDTH)][::-1]
    write(folder / "b.h5ad", csr(second[:, ::-1]), obs(70, 130), names=reversed_names, compression="gzip")
    return folder


MATRIX = np.concatenate([matrix(130, WIDTH, seed=1), matrix(70, WIDTH, seed=2)])


@pytest.fixture
def small_fragments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(anndata_source, "FRAGMENT_BYTES", 6000)


@pytest.fixture
def rows_read(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The numbers of rows of the matrix that were read."""
    read: list[int] = []
    for kind in (SparseMatrix, DenseMatrix):
        whole, some = kind.read, kind.take

        def read_rows(self: Any, start: int, stop: int, whole: Any = whole) -> Any:
            read.append(stop - start)
            return whole(self, start, stop)

        def take_rows(self: Any, rows: Any, some: Any = some) -> Any:
            read.append(len(rows))
            return some(self, rows)

        monkeypatch.setattr(kind, "read", read_rows)
        monkeypatch.setattr(kind, "take", take_rows)
    return read


def test_cells_are_rows_of_all_types(folder: Path, small_fragments: None) -> None:
    cells = Dataset.from_anndata(folder / "*.h5ad")
    table = cells.to_arrow()
    expected = obs(200)
    assert table.column_names == ["obs_names", *expected, "X"]
    assert len(cells) == cells.count() == 200
    assert table["obs_names"].to_pylist() == [f"cell{n}" for n in (*range(130), *range(70))]
    for name, values in expected.items():
        assert table[name].to_pylist() == plain(values), name
    assert cells.schema.field("stage").type == pa.dictionary(pa.int32(), pa.string(), ordered=True)
    assert cells.schema.field("plate").type.value_type == pa.int64()
    assert "X: sparse[30] of float" in repr(cells.select(["X"]))
    assert (dense(table["X"]) == MATRIX).all()
    assert {field.name: field.type for field in cells.schema}["count"] == pa.int64()
    # The order of one file, and of a list, is that of the call.
    assert (
        Dataset.from_anndata([folder / "b.h5ad", folder / "a.h5ad"], x=None).head(1).to_arrow()["cell"][0].as_py()
        == 130
    )


def test_the_matrix_is_dense_or_a_layer(folder: Path, small_fragments: None) -> None:
    raw = Dataset.from_anndata(folder / "a.h5ad", layer="raw", x="dense", obs=["cell"])
    assert raw.schema.names == ["obs_names", "cell", "X"]
    batches = list(raw.to_torch(batch_size=40))
    assert (torch.cat([batch["X"] for batch in batches]).numpy() == 2 * MATRIX[:130]).all()
    again = Dataset.from_anndata(folder / "a.h5ad", layer="raw").to_arrow()["X"]
    assert (dense(again) == 2 * MATRIX[:130]).all()
    both = Dataset.from_anndata(folder / "*.h5ad", x="dense", obs=()).to_torch(batch_size=64)
    assert (torch.cat([batch["X"] for batch in both]).numpy() == MATRIX).all()


def test_a_file_may_come_twice_or_be_empty(folder: Path, tmp_path: Path) -> None:
    twice = Dataset.from_anndata([folder / "a.h5ad", folder / "a.h5ad"]).select(["cell", "X"])
    assert twice.to_arrow()["cell"].to_pylist() == [*range(130), *range(130)]
    assert twice.filter("cell = 129").count() == 2
    for number, values in enumerate((matrix(0, WIDTH), csr(matrix(0, WIDTH)), csr(matrix(3, WIDTH)))):
        write(tmp_path / f"{number}.h5ad", values)
    assert Dataset.from_anndata(tmp_path / "0.h5ad").to_arrow().num_rows == 0
    assert Dataset.from_anndata(tmp_path / "*.h5ad", x="dense").count() == 3
    assert (dense(Dataset.from_anndata(tmp_path / "*.h5ad").to_arrow()["X"]) == matrix(3, WIDTH)).all()


def test_saved_cells_are_the_same(folder: Path, small_fragments: None) -> None:
    cells = Dataset.from_anndata(folder / "*.h5ad")
    saved = cells.save("cells")
    assert saved.schema.equals(cells.schema)
    assert saved.to_arrow().to_pylist() == cells.to_arrow().to_pylist()
    assert "X: sparse[30]" in repr(saved.select(["X"]))


def test_only_rows_that_match_are_read_of_the_matrix(folder: Path, small_fragments: None, rows_read: list[int]) -> None:
    cells = Dataset.from_anndata(folder / "*.h5ad")
    found = cells.filter("donor == 'd3' and score > 40").to_arrow()
    numbers = [n for n in range(200) if n % 5 == 3 and n % 4 and n / 2 > 40]
    assert found["cell"].to_pylist() == numbers
    assert (dense(found["X"]) == MATRIX[numbers]).all()
    assert sum(rows_read) == len(numbers)
    rows_read.clear()
    assert cells.filter("good").select(["cell", "note"]).count() == 100
    assert cells.select(["donor"]).to_arrow().num_rows == 200
    assert Dataset.from_anndata(folder / "a.h5ad", x=None).schema.names[-1] == "gap"
    assert rows_read == []
    assert cells.filter("X.values[0] is null").count() == int((MATRIX == 0).all(axis=1).sum())


def test_shuffles_splits_and_ranks(folder: Path, small_fragments: None) -> None:
    cells = Dataset.from_anndata(folder / "*.h5ad").select(["cell", "donor", "X"])
    splits = cells.train_test_split(by="donor", test_size=0.4, seed=1)
    donors = [set(splits[part].to_arrow()["donor"].to_pylist()) for part in ("train", "test")]
    assert all(donors)
    assert not donors[0] & donors[1]
    seen: list[int] = []
    for rank in range(3):
        loader = cells.shuffle(seed=1, window=50, global_=False).to_torch(batch_size=16, world=World(rank, 3))
        for batch in loader:
            assert (batch["X"].to_dense().numpy() == MATRIX[batch["cell"].numpy()]).all()
            seen += batch["cell"].tolist()
    assert sorted(seen) == list(range(200))
    assert seen[:20] != sorted(seen[:20])


def delivered(cells: Dataset, state: Any, ranks: int, steps: int, workers: int = 0) -> tuple[list[int], Any]:
    """Returns the cells that ranks deliver in so many steps, and the state that the last one has then."""
    seen: list[int] = []
    for rank in range(ranks):
        loader = cells.shuffle(seed=5, window=60, global_=False).to_torch(
            batch_size=7, world=World(rank, ranks), num_workers=workers
        )
        if state is not None:
            loader.load_state_dict(state)
        batches = iter(loader)
        for _ in range(steps):
            batch = next(batches, None)
            if batch is None:
                break
            assert (batch["X"].to_dense().numpy() == MATRIX[batch["cell"].numpy()]).all()
            seen += batch["cell"].tolist()
        after = loader.state_dict()
        batches.close()
    return seen, after


def resumes_exactly(folder: Path, plan: list[tuple[int, int, int]]) -> None:
    """Delivers an epoch in turns of (ranks, steps, workers); the last turn goes on to the end."""
    cells = Dataset.from_anndata(folder / "*.h5ad").select(["cell", "X"])
    seen: list[int] = []
    state = None
    *turns, (last_ranks, _, last_workers) = plan
    for ranks, steps, workers in turns:
        if len(seen) == 200:
            break
        some, state = delivered(cells, state, ranks, steps, workers)
        seen += some
        assert len(pickle.dumps(state)) < 2000
    if len(seen) < 200:  # else the epoch is over, and the next one is due
        seen += delivered(cells, state, last_ranks, 1000, last_workers)[0]
    assert sorted(seen) == list(range(200))


@settings(max_examples=4, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 4), st.just(0)), min_size=2, max_size=3))
def test_an_interrupted_epoch_goes_on_with_any_ranks(
    folder: Path, small_fragments: None, plan: list[tuple[int, int, int]]
) -> None:
    resumes_exactly(folder, plan)


@pytest.mark.live
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.integers(1, 3), st.integers(0, 9), st.integers(0, 2)), min_size=2, max_size=3))
def test_an_interrupted_epoch_goes_on_with_any_workers(
    folder: Path, small_fragments: None, plan: list[tuple[int, int, int]]
) -> None:
    resumes_exactly(folder, plan)


@pytest.mark.live
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_an_epoch_of_some_cells_goes_on_over_files_of_any_size(
    data: st.DataObject, small_fragments: None, tmp_path_factory: pytest.TempPathFactory
) -> None:
    root, first = tmp_path_factory.mktemp("sizes"), 0
    sizes = [*data.draw(st.lists(st.sampled_from([0, 1, 17, 90]), min_size=1, max_size=4)), 40]
    for number, size in enumerate(sizes):
        columns = {name: obs(size, first)[name] for name in ("cell", "donor")}
        write(root / f"{number}.h5ad", csr(matrix(size, 9)), columns)
        first += size
    cells = Dataset.from_anndata(root / "*.h5ad").select(["cell", "donor", "X"])
    if data.draw(st.booleans()):
        cells = cells.filter("donor != 'd2' and cell % 3 != 1")
    if data.draw(st.booleans()):
        cells = cells.train_test_split(by="donor", test_size=0.3, seed=2)["train"]
    expected = sorted(cells.to_arrow()["cell"].to_pylist())
    window = data.draw(st.sampled_from([20, 1000]))
    order = cells.shuffle(seed=3, window=window, global_=False)
    seen: list[int] = []
    state = None
    for steps in (data.draw(st.integers(0, 3)), data.draw(st.integers(0, 3)), 1000):
        if len(seen) == len(expected):
            break
        ranks = data.draw(st.integers(1, 3)) if len(expected) - len(seen) > 3 else 1
        for rank in range(ranks):
            loader = order.to_torch(batch_size=3, world=World(rank, ranks))
            if state is not None:
                loader.load_state_dict(state)
            batches = iter(loader)
            seen += [cell for batch in islice(batches, steps) for cell in batch["cell"].tolist()]
            after = loader.state_dict()
            batches.close()
        state = after
    assert sorted(seen) == expected


def test_a_state_belongs_to_the_content_of_the_files(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.h5ad"
    shutil.copyfile(folder / "a.h5ad", path)
    before = Dataset.from_anndata(path)
    state = before.to_torch(batch_size=8).state_dict()
    identity = before._plan.source.identity  # type: ignore[attr-defined]  # a scan
    assert Dataset.from_anndata(path)._plan.source.identity == identity  # type: ignore[attr-defined]
    assert Dataset.from_anndata(path, layer="raw")._plan.source.identity != identity  # type: ignore[attr-defined]
    write(path, csr(matrix(130, WIDTH, seed=9)), obs(130))
    with pytest.raises(ChangedFileError, match=r"a\.h5ad"):
        before.to_arrow()
    after = Dataset.from_anndata(path)
    assert after._plan.source.identity != identity  # type: ignore[attr-defined]
    with pytest.raises(StateMismatchError):
        after.to_torch(batch_size=8).load_state_dict(state)
    path.unlink()
    with pytest.raises(MissingFileError, match=r"a\.h5ad"):
        after.to_arrow()


def test_variables_are_joined_by_name(tmp_path: Path) -> None:
    first, second = matrix(9, 4, seed=1), matrix(8, 4, seed=2)
    write(tmp_path / "1.h5ad", csr(first), names=["a", "b", "c", "d"])
    write(tmp_path / "2.h5ad", second, names=["d", "x", "b", "y"])
    found = Dataset.from_anndata(tmp_path / "*.h5ad").to_arrow()["X"]
    assert (dense(found, 2) == np.concatenate([first[:, [1, 3]], second[:, [2, 0]]])).all()
    inner = Dataset.from_anndata(tmp_path / "*.h5ad", join_vars="inner", x="dense").to_arrow()["X"].to_pylist()
    assert inner == dense(found, 2).tolist()
    with pytest.raises(SchemaError, match=r"2\.h5ad.*lacks 'a', 'c'"):
        Dataset.from_anndata(tmp_path / "*.h5ad", join_vars=None)
    write(tmp_path / "3.h5ad", csr(first), names=["p", "q", "r", "s"])
    with pytest.raises(SchemaError, match=r"no variable is in all of '[^']*1\.h5ad', "):
        Dataset.from_anndata(tmp_path / "*.h5ad")
    assert Dataset.from_anndata(tmp_path / "*.h5ad", x=None).count() == 26


def test_columns_of_several_files_have_one_type(tmp_path: Path) -> None:
    values = csr(matrix(4, 3))
    write(tmp_path / "1.h5ad", values, {"n": [1, 2, 3, 4], "c": pd.Categorical(list("abab")), "t": list("wxyz")})
    write(
        tmp_path / "2.h5ad", values.astype("f8"),
        {"n": [0.5, 1, 2, np.nan], "c": pd.Categorical(list("cbcb"), ordered=True),
         "t": pd.array(list("wxyz"), "string")},
    )  # fmt: skip
    cells = Dataset.from_anndata(tmp_path / "*.h5ad")
    table = cells.to_arrow()
    assert table["n"].to_pylist() == [1, 2, 3, 4, 0.5, 1, 2, None]
    assert table["c"].to_pylist() == list("ababcbcb")
    assert cells.schema.field("c").type == pa.dictionary(pa.int32(), pa.string())
    assert table["t"].to_pylist() == list("wxyzwxyz")
    assert cells.schema.field("X").type.field("values").type.value_type == pa.float64()
    write(tmp_path / "3.h5ad", values, {"n": list("abcd"), "c": list("abcd"), "t": list("wxyz")})
    with pytest.raises(TypeMismatchError, match=r"'n'.*obs=\["):
        Dataset.from_anndata(tmp_path / "*.h5ad")
    write(tmp_path / "3.h5ad", values, {"c": list("abcd")})
    with pytest.raises(SchemaError, match=r"3\.h5ad.*obs=\['c'\]"):
        Dataset.from_anndata(tmp_path / "*.h5ad")
    with pytest.raises(ColumnNotFoundError, match=r"'n'.*3\.h5ad|3\.h5ad"):
        Dataset.from_anndata(tmp_path / "*.h5ad", obs=["n"])
    assert Dataset.from_anndata(tmp_path / "*.h5ad", obs=["c"]).count() == 12
    write(tmp_path / "1.h5ad", values, {"big": np.array([2**63, 0, 0, 0], "u8"), "exact": [2**60 + 1, 0, 0, 0]})
    write(tmp_path / "2.h5ad", values, {"big": [-1, 0, 0, 0], "exact": [0.5, 1, 2, 3]})
    for name in ("big", "exact"):
        with pytest.raises(TypeMismatchError, match=rf"'{name}'.*lacks a value of '.*1\.h5ad'"):
            Dataset.from_anndata([tmp_path / "1.h5ad", tmp_path / "2.h5ad"], obs=[name]).to_arrow()


def test_columns_without_values_fit_any_type(tmp_path: Path) -> None:
    values, missing = csr(matrix(2, 3)), [np.nan, np.nan]
    write(tmp_path / "1.h5ad", values, {"t": ["a", "b"], "s": pd.array(["a", None], "string"), "c": list("xy")})
    write(tmp_path / "2.h5ad", values, {"t": missing, "s": missing, "c": pd.Categorical([None, None])})
    with h5py.File(tmp_path / "2.h5ad", "r+") as file:  # an index of numbers, which is text for AnnData
        del file["obs/_index"]
        file["obs/_index"] = np.arange(2)
        file["obs/_index"].attrs.update({"encoding-type": "array", "encoding-version": "0.2.0"})
    for files in ("12", "21"):
        cells = Dataset.from_anndata([tmp_path / f"{number}.h5ad" for number in files])
        table = cells.to_arrow()
        for name, expected in (("t", ["a", "b"]), ("s", ["a", None]), ("c", ["x", "y"]), ("obs_names", None)):
            parts = [["0", "1"] if expected is None else [None, None], expected or ["cell0", "cell1"]]
            assert table[name].to_pylist() == (parts[0] + parts[1] if files == "21" else parts[1] + parts[0])
        assert cells.filter("t = 'a'").count() == 1


def test_a_matrix_whose_entries_are_in_disorder(tmp_path: Path) -> None:
    stored = scipy.sparse.csr_matrix(([1.0, 2, 3, 4, 5], [2, 0, 1, 1, 0], [0, 2, 4, 5]), shape=(3, 3))
    stored.has_canonical_format = True  # as a writer may claim
    write(tmp_path / "a.h5ad", csr(matrix(3, 3)))
    with h5py.File(tmp_path / "a.h5ad", "r+") as file:
        del file["X"]
        group = file.create_group("X")
        group.attrs.update({"encoding-type": "csr_matrix", "encoding-version": "0.1.0", "shape": (3, 3)})
        group.update({"data": stored.data, "indices": stored.indices, "indptr": stored.indptr})
    found = Dataset.from_anndata(tmp_path / "a.h5ad").to_arrow()["X"].to_pylist()
    assert found == [
        {"indices": [0, 2], "values": [2.0, 1.0]},
        {"indices": [1], "values": [7.0]},
        {"indices": [0], "values": [5.0]},
    ]


def test_files_of_old_formats(tmp_path: Path) -> None:
    path = tmp_path / "old.h5ad"
    values = matrix(5, 3)
    write(path, csr(values), {"n": [1, 2, 3, 4, 5], "c": pd.Categorical(list("abcab"))})
    with h5py.File(path, "r+") as file:
        del file["obs"]
        records = np.array([(b"c%d" % n, n, n / 2) for n in range(5)], [("index", "S4"), ("n", "i8"), ("f", "f4")])
        file["obs"] = records
    found = Dataset.from_anndata(path)
    assert found.to_arrow()["n"].to_pylist() == [0, 1, 2, 3, 4]
    assert found.to_arrow()["obs_names"].to_pylist() == ["c0", "c1", "c2", "c3", "c4"]
    assert (dense(found.slice(1, 4).to_arrow()["X"], 3) == values[1:4]).all()


def test_what_does_not_fit_is_an_error_of_the_call(folder: Path, tmp_path: Path) -> None:
    good = folder / "a.h5ad"
    write(tmp_path / "csc.h5ad", scipy.sparse.csc_matrix(matrix(5, 3)))
    with pytest.raises(InvalidArgumentError, match=r"csc\.h5ad.*tocsr"):
        Dataset.from_anndata(tmp_path / "csc.h5ad")
    assert Dataset.from_anndata(tmp_path / "csc.h5ad", x=None).count() == 5
    with pytest.raises(ColumnNotFoundError, match=r"'donr'.*'donor'"):
        Dataset.from_anndata(good, obs=["donr"])
    with pytest.raises(ColumnNotFoundError, match=r"'rew'.*raw"):
        Dataset.from_anndata(good, layer="rew")
    (tmp_path / "cut.h5ad").write_bytes(good.read_bytes()[:9000])
    (tmp_path / "text.h5ad").write_text("no matrix")
    (tmp_path / "empty.h5ad").write_bytes(b"")
    for name in ("cut", "text", "empty"):
        with pytest.raises(FormatError, match=rf"{name}\.h5ad"):
            Dataset.from_anndata(tmp_path / f"{name}.h5ad")
    (tmp_path / "rows.csv").write_text("a\n1\n")
    with pytest.raises(FormatError, match=r"rows\.csv.*\.h5ad"):
        Dataset.from_anndata(tmp_path / "rows.csv")
    for missing in ("gone.h5ad", "gone/*.h5ad"):
        with pytest.raises(MissingFileError, match="gone"):
            Dataset.from_anndata(tmp_path / missing)
    write(tmp_path / "x.h5ad", csr(matrix(5, 3)), {"X": [1, 2, 3, 4, 5]})
    with pytest.raises(SchemaError, match=r"'X'.*obs=\["):
        Dataset.from_anndata(tmp_path / "x.h5ad")
    assert Dataset.from_anndata(tmp_path / "x.h5ad", x=None).to_arrow()["X"].to_pylist() == [1, 2, 3, 4, 5]
    write(tmp_path / "n.h5ad", csr(matrix(2, 3)), {"obs_names": ["a", "b"]})
    with pytest.raises(UnsupportedError, match=r"'obs_names'.*obs=\["):
        Dataset.from_anndata(tmp_path / "n.h5ad")
    for wrong in ({"x": "csr"}, {"layer": ""}, {"layer": "raw", "x": None}, {"obs": ["cell", "cell"]}, {"obs": 7}):
        with pytest.raises(InvalidArgumentError):
            Dataset.from_anndata(good, **wrong)
    with pytest.raises(InvalidArgumentError, match="archive"):
        Dataset.from_anndata(f"zip://a.h5ad::{tmp_path}/x.zip")


def test_damaged_values_name_the_file(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "bad.h5ad"
    write(path, csr(matrix(40, 8)), {"c": pd.Categorical(["a", "b"] * 20)}, compression="gzip")
    with h5py.File(path, "r+") as file:
        file["obs/c/codes"][3] = 9
    cells = Dataset.from_anndata(path)
    with pytest.raises(FormatError, match=r"bad\.h5ad.*obs\['c'\]"):
        cells.to_arrow()
    assert cells.select(["X"]).to_arrow().num_rows == 40
    with h5py.File(path, "r+") as file:
        chunk = file["X/indices"].id.get_chunk_info(0)
    content = bytearray(path.read_bytes())
    content[chunk.byte_offset : chunk.byte_offset + chunk.size] = b"\xff" * chunk.size
    path.write_bytes(content)
    with pytest.raises(FormatError, match=r"bad\.h5ad"):
        Dataset.from_anndata(path).select(["X"]).to_arrow()


def test_files_at_urls_are_read_by_ranges(folder: Path, tmp_path: Path) -> None:
    many = matrix(2000, 400, density=0.9, seed=3)
    write(tmp_path / "large.h5ad", csr(many), {"cell": np.arange(2000)})
    content = (tmp_path / "large.h5ad").read_bytes()
    with serving() as site:
        url = site.put("large.h5ad", content)
        cells = Dataset.from_anndata(url)
        assert cells.filter("cell >= 1990").select(["cell"]).count() == 10
        assert site.sent < len(content) / 3
        found = cells.slice(700, 720).to_arrow()
        assert (dense(found["X"], 400) == many[700:720]).all()
        again = pickle.loads(pickle.dumps(cells._plan)).source
        assert again.identity == cells._plan.source.identity  # type: ignore[attr-defined]  # a scan
        site.files["/large.h5ad"] = content[:-1] + b"x"
        with pytest.raises(ChangedFileError, match=r"large\.h5ad"):
            cells.to_arrow()


@pytest.mark.filterwarnings("ignore:The 'mode.chained_assignment' option")  # of anndata with pandas 3
def test_cells_in_memory_are_those_of_their_file(tmp_path: Path) -> None:
    values = matrix(70, 9)
    stage = pd.Categorical(["late" if n % 2 else "early" for n in range(70)], ["early", "late"], ordered=True)
    columns = {"cell": np.arange(70), "stage": stage, "note": pd.array([None, "a"] * 35, "string")}
    for number, stored in enumerate((csr(values), values, scipy.sparse.csc_matrix(values), csr(values.astype("i8")))):
        data = annotated(stored, columns, layers={"twice": csr(2 * values)})
        path = tmp_path / f"{number}.h5ad"
        if number != 2:  # a file must not be stored by columns
            data.write_h5ad(path)
            from_file = Dataset.from_anndata(path)
            assert Dataset.from_anndata(data).schema.equals(from_file.schema)
            assert Dataset.from_anndata(data).to_arrow().to_pylist() == from_file.to_arrow().to_pylist()
        cells = Dataset.from_anndata(data, obs=["cell"]).shuffle(seed=1, window=16, global_=False)
        for batch in cells.to_torch(batch_size=8):
            assert (batch["X"].to_dense().numpy() == values[batch["cell"].numpy()]).all()
        dense_rows = Dataset.from_anndata(data, layer="twice", x="dense", obs=[]).to_arrow()["X"].to_pylist()
        assert (np.array(dense_rows) == 2 * values).all()
        rows = map_anndata([data, data[10:20]], ["stage", "cell"], stream=bool(number % 2))
        assert len(rows) == 80
        assert (rows.encoders["stage"], rows[-1][2]) == ({"early": 0, "late": 1}, 19)
        assert (rows[75][0] == values[15]).all()
        assert (pickle.loads(pickle.dumps(rows))[3][0] == values[3]).all()
    assert Dataset.from_anndata(data, x=None).schema.names == ["obs_names", *columns]
    for read in (map_anndata, Dataset.from_anndata):
        with pytest.raises(ColumnNotFoundError, match="no layer 'none'; its layers are"):
            read(data, layer="none")
        with pytest.raises(InvalidArgumentError, match=r"is in a file: give the path .*0\.h5ad"):
            read(anndata.read_h5ad(tmp_path / "0.h5ad", backed="r"))
        for store in (tmp_path / "a.zarr", "s3://bucket/a.zarr/"):
            with pytest.raises(UnsupportedError, match=r"a\.zarr.* is a \.zarr store.*write_h5ad"):
                read(store)
    with pytest.raises(SchemaError, match="'X'"):
        Dataset.from_anndata(annotated(values, {"X": columns["cell"]}))


@pytest.mark.live
def test_a_first_batch_loads_neither_pandas_nor_anndata(folder: Path) -> None:
    code = """
import sys, torch
from lakefeed import Dataset
cells = Dataset.from_anndata(sys.argv[1], obs=["cell", "donor", "note"]).shuffle(seed=1, window=16, global_=False)
next(iter(cells.to_torch(batch_size=8)))
assert not {"pandas", "anndata", "scipy"} & set(sys.modules)
"""
    subprocess.run([sys.executable, "-c", code, str(folder / "b.h5ad")], check=True)
