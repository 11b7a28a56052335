from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.caching import arrow_folder
from lakefeed.catalog.lake import Lake
from lakefeed.errors import InvalidArgumentError, MissingFileError, RowIndexError
from tests.sdk.processes import context

ROWS = 5_000


@pytest.fixture
def table() -> pa.Table:
    return pa.table(
        {
            "x": np.arange(ROWS),
            "maybe": pa.array([None if row % 7 == 0 else row for row in range(ROWS)], pa.int16()),
            "v": pa.FixedSizeListArray.from_arrays(np.arange(2 * ROWS, dtype=np.float32), 2),
            "tokens": [list(range(row % 4)) for row in range(ROWS)],
            "text": [f"row {row}" for row in range(ROWS)],
            "kind": pa.array([f"k{row % 3}" for row in range(ROWS)]).dictionary_encode(),
            "s": [{"a": row, "b": None} for row in range(ROWS)],
            "flag": [row % 2 == 0 for row in range(ROWS)],
        }
    )


@pytest.fixture
def data(table: pa.Table, lake: Lake, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setattr(arrow_folder, "PART_BYTES", 64 * 1024)
    return Dataset.from_arrow(table)


def test_mapped_rows_are_the_rows(data: Dataset, table: pa.Table) -> None:
    found = data.mapped()
    assert found.to_arrow().cast(table.schema) == table
    assert len(found) == ROWS
    assert found.schema == data.schema
    assert found.filter("x % 1000 = 1").select(["text"]).to_arrow().to_pydict() == {
        "text": [f"row {row}" for row in range(1, ROWS, 1000)]
    }
    assert found.slice(1_500, 1_503).to_arrow() == table.slice(1_500, 3)


def test_random_access_gives_rows(data: Dataset, table: pa.Table) -> None:
    found, rows = data.mapped(), table.to_pylist()
    assert found[17] == rows[17]
    assert found[-1] == rows[-1]
    assert found[np.int64(3)] == rows[3]
    wanted = [4_999, 0, 3_000, 0, -2, 1_500]
    assert found[wanted] == [rows[place] for place in wanted]
    assert found[np.array(wanted)] == found[wanted]
    assert found[2_000:2_004] == rows[2_000:2_004]
    assert found[::-1_000] == rows[::-1_000]
    assert found[[]] == found[3:3] == []


@pytest.mark.parametrize("place", [ROWS, -ROWS - 1, [0, ROWS]])
def test_a_row_that_is_not_there_is_an_index_error(data: Dataset, place: Any) -> None:
    with pytest.raises(RowIndexError, match="there is no row"):
        data.mapped()[place]


@pytest.mark.parametrize("place", ["x", 1.5, [[1]], [True], None])
def test_places_are_whole_numbers(data: Dataset, place: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="must be a whole number, a slice or a list"):
        data.mapped()[place]


def test_it_is_made_once_for_a_version_and_plan(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    first = data.save("rows")
    first.mapped()
    source = type(first._plan.source)  # type: ignore[attr-defined]
    with monkeypatch.context() as patched:
        patched.setattr(source, "read", None)
        assert first.mapped()[3]["x"] == 3
    second = Dataset.from_arrow(first.to_arrow().slice(0, 1)).append_to("rows")
    assert len(second.mapped()) == ROWS + 1


def test_at_a_path_of_ones_own(data: Dataset, tmp_path: Path) -> None:
    assert data.mapped(tmp_path / "here")[3]["x"] == 3
    assert (tmp_path / "here" / "manifest.json").exists()
    with pytest.raises(InvalidArgumentError, match="of another plan"):
        data.filter("x > 3").mapped(tmp_path / "here")


def test_rows_that_were_removed_are_missing(data: Dataset, tmp_path: Path) -> None:
    found = data.mapped(tmp_path / "here")
    for path in (tmp_path / "here").glob("*.arrow"):
        path.unlink()
    with pytest.raises(MissingFileError, match="call mapped"):
        found[0]
    assert data.mapped(tmp_path / "here")[0]["x"] == 0


def test_a_failure_leaves_nothing(lake: Lake, tmp_path: Path) -> None:
    def failing() -> Any:
        yield pa.record_batch({"x": [1]})
        raise OSError("gone")

    rows = Dataset.from_batches(failing, schema=pa.schema({"x": pa.int64()}))
    with pytest.raises(OSError, match="gone"):
        rows.mapped(tmp_path / "here")
    assert [path.name for path in (tmp_path / "here").iterdir()] == ["lock"]


def test_no_rows(lake: Lake) -> None:
    none = Dataset.from_dict({"x": []}, schema=pa.schema({"x": pa.int64()})).mapped()
    assert (len(none), none.to_arrow().num_rows, none[:]) == (0, 0, [])


def test_it_pickles(data: Dataset) -> None:
    assert pickle.loads(pickle.dumps(data.mapped()))[7]["x"] == 7


def sum_of(data: Any) -> int:
    return sum(row["x"] for row in data[::50])


def test_processes_share_it(data: Dataset) -> None:
    with context().Pool(1) as pool:
        assert pool.apply(sum_of, (data.mapped(),)) == sum(range(0, ROWS, 50))


def test_a_plain_dataloader_with_any_sampler(data: Dataset) -> None:
    torch = pytest.importorskip("torch")
    rows = data.select(["x", "v"]).mapped()
    sampler = torch.utils.data.WeightedRandomSampler([1.0] * 10 + [0.0] * (ROWS - 10), 64)
    loader = torch.utils.data.DataLoader(rows, batch_size=16, sampler=sampler, num_workers=1)
    batches = [batch["x"].tolist() for batch in loader]
    assert [len(batch) for batch in batches] == [16] * 4
    assert {row for batch in batches for row in batch} <= set(range(10))


@pytest.mark.parametrize("shuffle", [{}, {"seed": 1}, {"seed": 1, "global_": False, "window": 100}])
def test_a_loader_over_it_shares_no_memory_with_it(data: Dataset, shuffle: dict[str, Any]) -> None:
    """The map is private: writing to a batch neither crashes nor shows anywhere else."""
    pytest.importorskip("torch")
    rows = data.select(["x", "v", "tokens"]).mapped()
    loader = (rows.shuffle(**shuffle) if shuffle else rows).to_torch(batch_size=256)
    epochs = []
    for _ in range(2):
        loader.set_epoch(0)
        seen = []
        for batch in loader:
            seen += batch["x"].tolist()
            batch["x"].fill_(-1)
            batch["v"].fill_(-1)
            batch["tokens"].values().fill_(-1)
        epochs.append(seen)
    assert epochs[0] == epochs[1]
    assert sorted(epochs[0]) == list(range(ROWS))
    assert rows[0]["v"] == [0.0, 1.0]


def test_batches_in_order_are_not_copied(data: Dataset) -> None:
    pytest.importorskip("torch")
    first, second, *_ = (batch["x"] for batch in data.select(["x"]).mapped().to_torch(batch_size=8))
    assert second.data_ptr() - first.data_ptr() == 64
