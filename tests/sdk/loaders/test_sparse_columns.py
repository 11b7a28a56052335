"""Sparse columns: declared, saved, read back, shown, and given as sparse tensors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from lakefeed import Dataset, concatenate, sparse_field  # noqa: E402
from lakefeed._sparse import sparse_width, type_text  # noqa: E402
from lakefeed.errors import InvalidArgumentError, TypeMismatchError  # noqa: E402
from lakefeed.loaders.collate import Columns, tensors  # noqa: E402

SCHEMA = pa.schema([("id", pa.int64()), sparse_field("x", 6)])
DTYPES = {pa.float64(): torch.float64, pa.int32(): torch.int32, pa.bool_(): torch.bool, pa.float16(): torch.float16}
DENSE = [[1.0, 0, 0, 0, 0, 2], [0] * 6, [0, 0, 0, 7, 0, 0], [0, 4, 0, 0, 0, 0]]


def cell(row: list[float]) -> dict[str, list[Any]]:
    indices = [index for index, value in enumerate(row) if value]
    return {"indices": indices, "values": [row[index] for index in indices]}


def rows(schema: pa.Schema = SCHEMA) -> Dataset:
    return Dataset.from_dict({"id": list(range(4)), "x": list(map(cell, DENSE))}, schema)


def dense(batches: Any) -> list[list[float]]:
    return [row for batch in batches for row in batch["x"].to_dense().tolist()]


def test_the_width_stays_with_the_column(home: Path) -> None:
    saved = rows().save("cells")
    again = [
        saved,
        rows().append_to("cells").filter("id < 2").select(["x"]),
        Dataset("cells", version=1).rename({"id": "n"}).drop(["n"]),
        Dataset("cells").sort("id").cache(),
        Dataset("cells").sql("SELECT x, id FROM data ORDER BY id"),
        concatenate([rows(), saved]),
        concatenate([rows(pa.schema([field.remove_metadata() for field in SCHEMA])), saved]),
        rows().rename({"x": "y"}).with_column("x", "y").drop(["y"]),
    ]
    for each in again:
        assert sparse_width(each.schema.field("x")) == 6
        assert "x: sparse[6] of float" in repr(each)
    assert "sparse[6] of float" in repr(saved.profile())
    assert dense(saved.to_torch(batch_size=3)) == DENSE
    # An expression over its parts is an ordinary column.
    assert saved.sql("SELECT len(x.indices) AS entries FROM data").to_arrow()["entries"].to_pylist() == [2, 0, 1, 1]
    assert sparse_width(saved.sql("SELECT {'indices': id, 'values': id} AS x FROM data").schema.field("x")) is None


def test_batches_are_csr_or_dense(home: Path) -> None:
    source = rows()
    for options in ({}, {"num_workers": 1}):
        batches = list(source.to_torch(batch_size=3, **options))
        assert all(batch["x"].layout is torch.sparse_csr and batch["x"].shape[1] == 6 for batch in batches)
        assert dense(batches) == DENSE
        if options:
            break
        full = list(source.to_torch(batch_size=3, sparse="dense"))
        assert all(batch["x"].layout is torch.strided for batch in full)
        assert dense(full) == DENSE
    single = [row["x"] for row in source.to_torch()]
    assert [row.to_dense().tolist() for row in single] == DENSE
    assert source.to_tensors()["x"].to_dense().tolist() == DENSE
    mapped = torch.utils.data.DataLoader(source.save("cells").mapped(), batch_size=2)
    assert dense(mapped) == DENSE
    with pytest.raises(InvalidArgumentError, match="'csr', 'dense'"):
        source.to_torch(sparse="coo")


@pytest.mark.parametrize("kind", DTYPES)
def test_values_keep_their_type(kind: pa.DataType) -> None:
    schema = pa.schema([sparse_field("x", 3, kind)])
    assert type_text(schema.field("x")) == f"sparse[3] of {kind}"
    batch = pa.RecordBatch.from_pylist(
        [{"x": {"indices": [2], "values": [True if kind == pa.bool_() else 1]}}] * 3, schema
    )
    for copy in (False, True):
        whole = tensors(batch.slice(1), copy=copy)["x"]
        (part,) = Columns(batch, copy=copy).batches([(1, 3)])
        assert whole.dtype == part["x"].dtype == DTYPES[kind]
        expected = [[0, 0, 1]] * 2
        assert whole.to_dense().tolist() == part["x"].to_dense().tolist() == expected
    wide = pa.struct({"indices": pa.large_list(pa.int64()), "values": pa.large_list(kind)})
    field = schema.field("x").with_type(wide)
    cells = pa.array([{"indices": [2], "values": [True if kind == pa.bool_() else 1]}] * 2, wide)
    found = tensors(pa.record_batch([cells], schema=pa.schema([field])), copy=False)["x"]
    assert found.col_indices().dtype == torch.int64
    assert found.to_dense().tolist() == expected


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"indices": [6], "values": [1.0]}, "index 6, but its width is 6"),
        ({"indices": [-1], "values": [1.0]}, "index -1"),
        ({"indices": [1, 2], "values": [1.0]}, "more indices than values"),
        ({"indices": [2, 1], "values": [1.0, 2.0]}, "not ascending and distinct"),
        ({"indices": [1, 1], "values": [1.0, 2.0]}, "not ascending and distinct"),
        ({"indices": [None], "values": [1.0]}, "'x.indices'"),
        (None, "holds null"),
    ],
)
def test_a_row_that_is_not_one_is_an_error(wrong: Any, message: str) -> None:
    table = pa.Table.from_pylist([{"id": 0, "x": cell(DENSE[0])}, {"id": 1, "x": wrong}], SCHEMA)
    with pytest.raises(TypeMismatchError, match=message):
        list(Dataset.from_arrow(table).to_torch(batch_size=2))


def test_a_bad_row_is_the_error_of_its_batch() -> None:
    good, schema = {"indices": [1, 3], "values": [1.0, 2.0]}, pa.schema([sparse_field("x", 4)])
    for wrong in ({"indices": [2, 1], "values": [1.0, 2.0]}, {"indices": [9], "values": [1.0]}, None):
        rows = Dataset.from_dict({"x": [good] * 7 + [wrong] + [good] * 2}, schema)
        for forms in ({"sparse": "csr"}, {"sparse": "dense"}):
            batches = iter(rows.to_torch(batch_size=2, **forms))  # type: ignore[arg-type]
            assert [next(batches)["x"].shape[0] for _ in range(3)] == [2, 2, 2]
            with pytest.raises(TypeMismatchError, match="'x'"):
                next(batches)


def test_nulls_of_other_rows_are_no_error() -> None:
    cells = [cell(DENSE[0]), {"indices": [1], "values": [None]}, cell(DENSE[2])]
    data = Dataset.from_arrow(pa.Table.from_pylist([{"id": id, "x": each} for id, each in enumerate(cells)], SCHEMA))
    assert dense(data.head(1).to_torch(batch_size=2)) == DENSE[:1]
    assert dense(data.slice(2, 3).to_torch(batch_size=2)) == DENSE[2:3]
    with pytest.raises(TypeMismatchError, match=r"'x\.values'"):
        list(data.to_torch(batch_size=3))


@pytest.mark.parametrize("width", ["-1", "", "x", "2147483648", "9" * 5000])
def test_a_width_that_is_none_is_ignored(width: str) -> None:
    field = SCHEMA.field("x").with_metadata({"lakefeed.width": width})
    assert sparse_width(field) is None


def test_rows_of_another_width_do_not_fit(home: Path) -> None:
    rows().save("cells")
    wider = rows(pa.schema([("id", pa.int64()), sparse_field("x", 7)]))
    for combine in (
        lambda: wider.append_to("cells"),
        lambda: concatenate([Dataset("cells"), wider]),
        lambda: wider.upsert_into("cells", "id"),
    ):
        with pytest.raises(TypeMismatchError, match=r"'x'.*7 columns.*6"):
            combine()
    assert Dataset("cells").version == 1
    plain = pa.schema([field.remove_metadata() for field in SCHEMA])
    assert dense(rows(plain).append_to("cells").to_torch(batch_size=8)) == DENSE * 2


def test_shuffled_rows_are_gathered_whole(home: Path) -> None:
    random = np.random.default_rng(1)
    matrix = np.where(random.random((500, 40)) < 0.3, random.integers(1, 9, (500, 40)), 0).astype(float).tolist()
    schema = pa.schema([("id", pa.int64()), sparse_field("x", 40)])
    data = Dataset.from_dict({"id": list(range(500)), "x": list(map(cell, matrix))}, schema).save("cells")
    for batch in data.shuffle(seed=1, window=100, global_=False).to_torch(batch_size=64):
        assert batch["x"].to_dense().tolist() == [matrix[index] for index in batch["id"].tolist()]
