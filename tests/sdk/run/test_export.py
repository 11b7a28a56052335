"""M26, M27 and M15: results in memory, as other libraries have them, over several origins."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import BudgetExceededError, InvalidArgumentError, TypeMismatchError
from lakefeed.run import to_memory
from lakefeed.run.to_memory import LargeResultWarning

TABLE = pa.table(
    {
        "i": pa.array(range(100), pa.int64()),
        "f": pa.array([None if n % 7 == 0 else n / 2 for n in range(100)], pa.float32()),
        "v": pa.array([[n, n + 1] for n in range(100)], pa.list_(pa.float32(), 2)),
        "s": [None if n % 5 == 0 else str(n) for n in range(100)],
        "b": [n % 2 == 0 for n in range(100)],
        "l": [[n] * (n % 3) for n in range(100)],
    }
)


def memory(table: pa.Table) -> Dataset:
    return Dataset.from_arrow(table)


def batches(table: pa.Table) -> Dataset:
    return Dataset.from_batches(lambda: iter(table.to_batches(max_chunksize=9)), schema=table.schema)


def saved(table: pa.Table) -> Dataset:
    return Dataset.from_arrow(table).save("saved", column_types=None)


def appended(table: pa.Table) -> Dataset:
    Dataset.from_arrow(table.slice(0, 30)).save("appended", column_types=None)
    return Dataset.from_arrow(table.slice(30)).append_to("appended")


@pytest.fixture(params=[memory, batches, saved, appended], ids=lambda make: make.__name__)
def origin(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Callable[[pa.Table], Dataset]:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "8")
    make: Callable[[pa.Table], Dataset] = request.param
    return make


def test_the_budget_is_kept_before_more_is_held(origin: Callable[[pa.Table], Dataset]) -> None:
    dataset = origin(TABLE)
    with pytest.raises(BudgetExceededError, match="max_bytes=100"):
        dataset.collect(max_bytes=100)
    assert dataset.collect(max_bytes=1 << 20).equals(TABLE)


def test_the_budget_stops_a_source_that_goes_on() -> None:
    made = []

    def endless() -> Any:
        while True:
            made.append(1)
            yield pa.record_batch({"x": range(1000)})

    dataset = Dataset.from_batches(endless, schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(BudgetExceededError):
        dataset.collect(max_bytes=50_000)
    assert len(made) == 7


def test_a_large_result_warns_once(origin: Callable[[pa.Table], Dataset], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(to_memory, "LARGE_RESULT_BYTES", 100)
    dataset = origin(TABLE).map(lambda row: row, schema=TABLE.schema)
    with pytest.warns(LargeResultWarning) as caught:
        dataset.collect()
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dataset.collect(warn=False)
        dataset.collect(max_bytes=1 << 20)


def test_a_table_in_memory_is_not_copied() -> None:
    taken = Dataset.from_arrow(TABLE).select(["f", "i"]).slice(10, 20).to_arrow()
    assert taken.to_pylist() == TABLE.select(["f", "i"]).slice(10, 10).to_pylist()
    assert taken["i"].chunk(0).buffers()[1].address == TABLE["i"].chunk(0).buffers()[1].address


def test_tensors(origin: Callable[[pa.Table], Dataset]) -> None:
    torch = pytest.importorskip("torch")
    made = origin(TABLE).to_tensors()
    assert list(made) == TABLE.column_names
    assert made["i"].dtype == torch.int64
    assert made["i"].tolist() == TABLE["i"].to_pylist()
    assert made["f"].dtype == torch.float32
    assert [x != x for x in made["f"].tolist()] == [x is None for x in TABLE["f"].to_pylist()]
    assert made["v"].shape == (100, 2)
    assert made["b"].dtype == torch.bool
    assert made["s"] == TABLE["s"].to_pylist()
    assert [piece.tolist() for piece in made["l"]] == TABLE["l"].to_pylist()


def test_numbers_are_not_copied_into_tensors() -> None:
    pytest.importorskip("torch")
    table = pa.table({"x": pa.array(range(50_000), pa.float32())})
    made = Dataset.from_arrow(table).to_tensors()
    assert made["x"].data_ptr() == table["x"].chunk(0).buffers()[1].address


def test_null_in_integers_is_an_error_whatever_the_batch(origin: Callable[[pa.Table], Dataset]) -> None:
    pytest.importorskip("torch")
    with_null = pa.table({"i": pa.array([*range(99), None])})
    with pytest.raises(TypeMismatchError, match="'i' of type int64 holds null"):
        origin(with_null).to_tensors()


def test_no_rows() -> None:
    pytest.importorskip("torch")
    made = Dataset.from_arrow(TABLE.slice(0, 0)).to_tensors()
    assert [len(column) for column in made.values()] == [0] * 6
    assert made["v"].shape == (0, 2)


def test_pandas_keeps_integers_with_nulls(origin: Callable[[pa.Table], Dataset]) -> None:
    pd = pytest.importorskip("pandas")
    large = 2**53 + 1
    table = pa.table(
        {
            "i": pa.array([large, None] * 20),
            "u": pa.array([1, None] * 20, pa.uint8()),
            "b": pa.array([True, None] * 20),
            "n": pa.array(range(40), pa.int32()),
        }
    )
    frame = origin(table).to_pandas()
    assert {name: str(kind) for name, kind in frame.dtypes.items()} == {
        "i": "Int64",
        "u": "UInt8",
        "b": "boolean",
        "n": "int32",
    }
    assert frame["i"][0] == large
    assert frame["i"][1] is pd.NA


def test_polars(origin: Callable[[pa.Table], Dataset]) -> None:
    pl = pytest.importorskip("polars")
    frame = origin(TABLE).to_polars()
    assert isinstance(frame, pl.DataFrame)
    assert frame["i"].to_list() == list(range(100))
    assert frame["f"].null_count() == 15
    assert frame["s"].to_list() == TABLE["s"].to_pylist()


def test_from_polars(origin: Callable[[pa.Table], Dataset]) -> None:
    pl = pytest.importorskip("polars")
    frame = pl.DataFrame({"x": [1, None, 3], "s": ["a", "b", None], "l": [[1], [], None]})
    dataset = Dataset.from_polars(frame)
    assert dataset.to_arrow().to_pylist() == frame.to_dicts()
    assert origin(dataset.to_arrow()).to_polars().equals(frame)
    with pytest.raises(TypeMismatchError, match="collect"):
        Dataset.from_polars(frame.lazy())
    with pytest.raises(TypeMismatchError, match="polars DataFrame"):
        Dataset.from_polars({"x": [1]})  # type: ignore[arg-type]


def test_from_pylist(origin: Callable[[pa.Table], Dataset]) -> None:
    rows = [{"x": 1}, {"x": None, "y": "b"}, {"y": "c"}]
    expected = [{"x": 1, "y": None}, {"x": None, "y": "b"}, {"x": None, "y": "c"}]
    assert origin(Dataset.from_pylist(rows).to_arrow()).to_arrow().to_pylist() == expected


def test_duckdb_streams_and_can_be_asked_again(origin: Callable[[pa.Table], Dataset]) -> None:
    duckdb = pytest.importorskip("duckdb")
    relation = origin(TABLE).to_duckdb()
    for _ in range(2):
        assert relation.filter("i >= 98").project("i, s").fetchall() == [(98, "98"), (99, "99")]
    connection = duckdb.connect()
    origin_view = Dataset.from_arrow(TABLE).filter("i < 10").to_duckdb("few", connection)
    assert len(origin_view) == 10
    assert connection.sql("SELECT sum(i) FROM few").fetchall() == [(45,)]
    assert connection.sql("SELECT count(*) FROM few a JOIN few b USING (i)").fetchall() == [(10,)]


def test_duckdb_arguments() -> None:
    for arguments in (("",), (5,), ("x", "no connection")):
        with pytest.raises(InvalidArgumentError):
            Dataset.from_arrow(TABLE).to_duckdb(*arguments)


def test_file_columns_in_exports(tmp_path: Path) -> None:
    pictures = pytest.importorskip("PIL.Image")
    pictures.new("RGB", (4, 3), "red").save(tmp_path / "a.png")
    dataset = Dataset.from_dict({"image": [str(tmp_path / "a.png")]}).save("pictures")
    content = (tmp_path / "a.png").read_bytes()
    assert dataset.to_duckdb().project("image.width").fetchall() == [(4,)]
    if pytest.importorskip("torch"):
        assert dataset.to_tensors() == {"image": [content]}
        assert dataset.to_tensors(load_files=False)["image"][0]["width"] == 4
