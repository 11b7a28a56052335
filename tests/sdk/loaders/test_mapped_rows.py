"""Rows of ``mapped()`` in a plain DataLoader of PyTorch."""

from __future__ import annotations

import copy
import datetime as dt
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import ConcatDataset, DataLoader, Subset, default_collate  # noqa: E402

from lakefeed import Dataset  # noqa: E402
from lakefeed.errors import TypeMismatchError  # noqa: E402
from lakefeed.media import Handle  # noqa: E402

ROWS = 7

COLUMNS: dict[str, pa.Array[Any]] = {
    **{name: pa.array(np.arange(ROWS, dtype=name)) for name in ("int8", "uint16", "int64", "float16", "float32")},
    "nan": pa.array([None] + [1.5] * (ROWS - 1), pa.float32()),
    "flag": pa.array([True, False] * 3 + [True]),
    "day": pa.array([dt.date(2020, 1, 1)] * ROWS),
    "us": pa.array(range(ROWS), pa.timestamp("us", tz="UTC")),
    "ns": pa.array(range(ROWS), pa.time64("ns")),
    "took": pa.array(range(ROWS), pa.duration("ms")),
    "text": pa.array(["a", None, "b"] * 2 + ["c"]),
    "view": pa.array(["a", None, "b"] * 2 + ["c"], pa.string_view()),
    "bytes": pa.array([b"x"] * ROWS),
    "vector": pa.array([[row, None] for row in range(ROWS)], pa.list_(pa.float32(), 2)),
    "pixels": pa.array([[row, 2] for row in range(ROWS)], pa.list_(pa.uint8(), 2)),
    "flags": pa.array([[True, False]] * ROWS, pa.list_(pa.bool_(), 2)),
    "matrix": pa.array([[[1, row], [3, 4]] for row in range(ROWS)], pa.list_(pa.list_(pa.int16(), 2), 2)),
    "tensor": pa.FixedShapeTensorArray.from_numpy_ndarray(
        np.arange(ROWS * 6, dtype=np.float32).reshape(ROWS, 2, 3)
    ),
    "tokens": pa.array([list(range(row)) for row in range(ROWS)], pa.list_(pa.int32())),
    "boxes": pa.array([[[1, row]] * row for row in range(ROWS)], pa.list_(pa.list_(pa.float32(), 2))),
    "struct": pa.array([{"a": row, "b": [1.0]} for row in range(ROWS)]),
    "words": pa.array([["a", None]] * ROWS),
    "kind": pa.array(["a", "b", None] * 2 + ["a"]).dictionary_encode(),
    "code": pa.array([5, 6, 5, 6, 5, 6, 5]).dictionary_encode(),
    "runs": pa.RunEndEncodedArray.from_arrays([3, ROWS], [1, 2]),
    "price": pa.array([Decimal("1.20")] * ROWS, pa.decimal128(5, 2)),
    "nothing": pa.nulls(ROWS),
    "map": pa.array([[("k", 1)]] * ROWS, pa.map_(pa.string(), pa.int8())),
}  # fmt: skip


def shown(value: Any) -> Any:
    """A value of a batch, with all that matters of a tensor."""
    if not isinstance(value, torch.Tensor):
        return value
    rows = [row.tolist() for row in value.unbind()] if value.is_nested else value.tolist()
    return str(value.dtype), value.layout, None if value.is_nested else tuple(value.shape), repr(rows)


def shapes(batches: Any) -> list[dict[str, Any]]:
    return [{name: shown(value) for name, value in batch.items()} for batch in batches]


@pytest.fixture(scope="module")
def rows(shared_home: Callable[..., AbstractContextManager[Path]]) -> Any:
    with shared_home():
        yield Dataset.from_arrow(pa.table(COLUMNS))


@pytest.fixture(scope="module")
def expected(rows: Dataset) -> list[dict[str, Any]]:
    return shapes(rows.to_torch(batch_size=4))


@pytest.mark.parametrize(
    ("workers", "method"), [(0, None), (2, "fork"), pytest.param(1, "spawn", marks=pytest.mark.live)]
)
def test_a_plain_dataloader_makes_the_batches_of_to_torch(
    rows: Dataset, expected: list[dict[str, Any]], workers: int, method: str | None
) -> None:
    """docs/loader.md: "PyTorch's default `collate_fn` then makes the batches that `to_torch` makes"."""
    loader = DataLoader(rows.mapped(), batch_size=4, num_workers=workers, multiprocessing_context=method)
    for batch, same in zip(shapes(loader), expected, strict=True):
        assert list(batch) == list(same) == list(COLUMNS)
        assert {name: value for name, value in batch.items() if value != same[name]} == {}


def test_rows_may_go_through_other_datasets(rows: Dataset, expected: list[dict[str, Any]]) -> None:
    mapped = rows.mapped()
    one_by_one = ConcatDataset([Subset(mapped, [0, 1]), Subset(mapped, list(range(2, ROWS)))])
    for dataset in (Subset(mapped, range(ROWS)), one_by_one):
        assert shapes(DataLoader(dataset, batch_size=4)) == expected
    pair = default_collate([(mapped[row], row) for row in range(4)])
    assert (shapes([pair[0]]), pair[1].tolist()) == (expected[:1], [0, 1, 2, 3])
    assert shapes([default_collate([mapped[0]])]) == shapes(rows.to_torch(batch_size=1))[:1]


def test_a_batch_has_memory_of_its_own(rows: Dataset) -> None:
    mapped = rows.mapped()
    some = mapped[[2, 3]]
    for chosen in (some, [mapped[2]]):
        batch = default_collate(chosen)
        for name in ("int64", "pixels", "tensor"):
            batch[name].fill_(9)
        batch["tokens"].values().fill_(9)
        again = default_collate(chosen)
        assert (again["int64"][0], again["pixels"][0, 0], again["tokens"][0].tolist()) == (2, 2, [0, 1])
    assert mapped[2]["pixels"] == [2, 2]


def test_columns_that_were_changed_are_collated_as_they_are(rows: Dataset) -> None:
    """docs/loader.md: "Columns that your code changed in the rows are collated by PyTorch"."""
    chosen = rows.select(["int8", "pixels", "tokens", "text"]).mapped()[[1, 2]]
    chosen[0]["pixels"][0] = 7  # in place
    for row in chosen:
        row["int8"] = row["int8"] / 2
        row["tokens"] = torch.zeros(3)
        row["new"] = [1.0, 2.0]
        del row["text"]
    batch = default_collate(chosen)
    assert list(batch) == ["int8", "pixels", "tokens", "new"]
    assert (batch["int8"].dtype, batch["int8"].tolist()) == (torch.float64, [0.5, 1.0])
    assert (batch["pixels"].dtype, batch["pixels"].tolist()) == (torch.uint8, [[7, 2], [2, 2]])
    assert batch["tokens"].shape == (2, 3)
    assert len(batch["new"]) == 2
    chosen[0]["pixels"][0] = 300  # does not fit the type of the column
    assert [column.tolist() for column in default_collate(chosen)["pixels"]] == [[300, 2], [2, 2]]


def test_rows_are_plain_dicts_elsewhere(rows: Dataset) -> None:
    mapped = rows.select(["int8", "text"]).mapped()
    for row in (mapped[1], mapped[[1]][0]):
        assert (row, repr(row)) == ({"int8": 1, "text": None}, "{'int8': 1, 'text': None}")
        assert [type(each) for each in (copy.copy(row), pickle.loads(pickle.dumps(row)), row | {})] == [dict] * 3
    loader = DataLoader(mapped, batch_size=4, collate_fn=list, num_workers=1)
    assert next(iter(loader))[1] == {"int8": 1, "text": None}
    assert DataLoader(mapped, batch_size=None).dataset[1] == mapped[1]
    assert [row["int8"] for row in DataLoader(mapped, batch_size=None)] == list(range(ROWS))
    other = Dataset.from_dict({"int8": [5], "text": ["b"]}).mapped()  # int64
    assert default_collate([mapped[0], other[0]])["int8"].tolist() == [0, 5]


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array([1, None]), "column 'c' of type int64 holds null.*filter\\(\"c is not null\"\\)"),
        (pa.array([[1], None]), "column 'c' of type list<item: int64> holds null lists"),
        (pa.array([[1], [None]], pa.list_(pa.int8(), 1)), "column 'c' of type"),
    ],
)
def test_null_that_no_tensor_can_hold_names_the_column(column: pa.Array[Any], message: str) -> None:
    """docs/loader.md: "a null in an integer column is an error that names it"."""
    rows = Dataset.from_arrow(pa.table({"c": column})).mapped()
    with pytest.raises(TypeMismatchError, match=message):
        list(DataLoader(rows, batch_size=2))


@pytest.mark.parametrize("workers", [0, 1])
def test_files_are_handles(tmp_path: Path, workers: int) -> None:
    paths = [tmp_path / f"{row}.bin" for row in range(3)]
    for row, path in enumerate(paths):
        path.write_bytes(b"%d" % row)
    rows = Dataset.from_dict({"x": list(range(3)), "f": [str(path) for path in paths]})
    saved = rows.save("files", column_types={"f": "file"})
    (batch,) = DataLoader(saved.mapped(), batch_size=3, num_workers=workers)
    assert all(isinstance(handle, Handle) for handle in batch["f"])
    assert [handle.bytes() for handle in batch["f"]] == [b"0", b"1", b"2"]
    (batch,) = DataLoader(saved.load_files("bytes").mapped(), batch_size=3, num_workers=workers)
    assert batch["f"] == [b"0", b"1", b"2"]


@pytest.mark.parametrize("ragged", ["jagged", "list"])
def test_fixed_shape_tensors_keep_their_shape(ragged: Any) -> None:
    """docs/loader.md: "fixed-size lists of those, fixed-shape tensors"."""
    values = np.arange(24, dtype=np.int16).reshape(4, 2, 3)
    plain = pa.FixedShapeTensorArray.from_numpy_ndarray(values)
    swapped = pa.ExtensionArray.from_storage(
        pa.fixed_shape_tensor(pa.int16(), [2, 3], permutation=[1, 0]), plain.storage
    )
    floats = pa.fixed_shape_tensor(pa.float32(), [2])
    holes = pa.ExtensionArray.from_storage(floats, pa.array([[1, 2], None, [3, 4], [5, 6]], pa.list_(pa.float32(), 2)))
    rows = Dataset.from_arrow(pa.table({"plain": plain, "swapped": swapped, "holes": holes}).slice(1))
    for loader in (rows.to_torch(batch_size=2, ragged=ragged), DataLoader(rows.mapped(), batch_size=2)):
        first, second = loader
        assert torch.equal(first["plain"], torch.from_numpy(values[1:3]))
        assert torch.equal(second["swapped"], torch.from_numpy(swapped.to_numpy_ndarray()[3:].copy()))
        assert (first["holes"].isnan().tolist(), second["holes"].tolist()) == ([[True] * 2, [False] * 2], [[5, 6]])
