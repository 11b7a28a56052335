from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.config import Settings
from lakefeed.errors import RowIndexError
from lakefeed.ops import Scan
from lakefeed.plan.order import Shuffled, order
from lakefeed.run import LocalRunner
from lakefeed.run.external_shuffle import external_shuffle
from lakefeed.run.partitions import Partitions, partitions_of
from lakefeed.run.random_access import NO_ROW, RandomAccessReader
from lakefeed.sources.memory_source import MemorySource

ROWS = 3_000
TABLE = pa.table(
    {
        "x": np.arange(ROWS),
        "text": [f"row {number}" for number in range(ROWS)],
        "kind": pa.array(["red", "green", "blue", None] * (ROWS // 4)).dictionary_encode(),
        "list": pa.array([[number] * (number % 3) for number in range(ROWS)], pa.list_(pa.int16())),
    }
)


def partitions(table: pa.Table = TABLE, mapped: int = 0) -> Partitions:
    found = partitions_of(Scan(MemorySource(table)), Settings().read)
    assert found is not None
    return replace(found, mapped=mapped)


def picked(where: Path, places: list[int] | np.ndarray, *, budget: int, gaps: bool = False) -> pa.Table:
    # As large as nothing fits; of many rows less, else each would come in a batch of its own.
    mapped = 1 << 40 if len(places) < 100 else 1 << 24
    picker = RandomAccessReader(partitions(mapped=mapped), budget, where, gaps)
    batches = list(picker.rows(np.asarray(places, np.int64)))
    return pa.Table.from_batches(batches, batches[0].schema if batches else TABLE.schema)


def plain(table: pa.Table) -> pa.Table:
    """The rows in one chunk and without a dictionary, so that equal rows are equal tables."""
    at = table.schema.get_field_index("kind")
    return table.set_column(at, "kind", table["kind"].cast(pa.string())).combine_chunks()


@pytest.mark.parametrize(
    ("count", "budget"),
    [
        *((count, budget) for count in (1, 17) for budget in (1 << 40, 100_000, 2_000)),
        *((ROWS, budget) for budget in (1 << 40, 200_000)),
        pytest.param(ROWS, 2_000, marks=pytest.mark.live),
        (3 * ROWS, 1 << 40),
        pytest.param(3 * ROWS, 400_000, marks=pytest.mark.live),
    ],
)
def test_rows_in_any_order_and_as_often_as_named(tmp_path: Path, budget: int, count: int) -> None:
    places = np.random.default_rng(count).integers(0, ROWS, count)
    assert plain(picked(tmp_path, places, budget=budget)).equals(plain(TABLE.take(places)))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("budget", [1 << 40, 200_000, pytest.param(20_000, marks=pytest.mark.live)])
def test_gaps_are_rows_of_nulls(tmp_path: Path, budget: int) -> None:
    places = np.random.default_rng(0).integers(NO_ROW, ROWS, ROWS)
    places[::7] = NO_ROW
    expected = TABLE.take(pa.array(places, mask=places == NO_ROW))
    assert plain(picked(tmp_path, places, budget=budget, gaps=True)).equals(plain(expected))
    assert picked(tmp_path, [NO_ROW] * 3, budget=budget, gaps=True)["x"].to_pylist() == [None] * 3


@given(st.lists(st.integers(NO_ROW, 60), max_size=80), st.sampled_from([1, 500, 5_000, 1 << 30]))
def test_any_places_under_any_budget(places: list[int], budget: int) -> None:
    small = TABLE.slice(0, 61)
    wanted = np.asarray(places, np.int64)
    with tempfile.TemporaryDirectory() as folder:
        picker = RandomAccessReader(partitions(small, mapped=1 << 40), budget, Path(folder), gaps=True)
        found = [row for batch in picker.rows(wanted) for row in batch.to_pylist()]
    assert found == small.take(pa.array(wanted, mask=wanted == NO_ROW)).to_pylist()


def test_places_outside_are_errors(tmp_path: Path) -> None:
    for places in ([ROWS], [-1], [0, -2]):
        with pytest.raises(RowIndexError, match="there are"):
            picked(tmp_path, places, budget=1)
    with pytest.raises(RowIndexError):
        picked(tmp_path, [-2], budget=1, gaps=True)


def wide(rows: int) -> Dataset:
    def batches():  # type: ignore[no-untyped-def]
        for start in range(0, rows, 10_000):
            numbers = np.arange(start, start + 10_000)
            yield pa.record_batch({"x": numbers, "text": [f"{number:0300d}" for number in numbers.tolist()]})

    return Dataset.from_batches(batches, schema=pa.schema({"x": pa.int64(), "text": pa.string()}))


@pytest.mark.parametrize("seed", [0, pytest.param(7, marks=pytest.mark.live)])
def test_a_global_shuffle_beyond_the_budget_has_the_same_order(tmp_path: Path, seed: int) -> None:
    plan = wide(200_000)._plan
    small, large = (LocalRunner(Settings.load(**{"sql.memory_bytes": size << 20})) for size in (32, 4_096))
    feeds = [runner.feed(plan, seed, None) for runner in (large, small)]
    assert isinstance(feeds[0].order, Shuffled)
    assert not isinstance(feeds[1].order, Shuffled)
    expected, found = (np.concatenate([batch["x"].to_numpy() for _, batch in feed.batches()]) for feed in feeds)
    assert np.array_equal(expected, found)
    for start in (0, 1, 99_999, 199_999):
        _, first = next(iter(feeds[1].batches(start)))
        assert first["x"][0].as_py() == expected[start]
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


@pytest.mark.live
def test_memory_is_bounded_by_the_budget_not_by_the_rows(tmp_path: Path) -> None:
    runner = LocalRunner(Settings.load(**{"sql.memory_bytes": 32 << 20}))
    plan = wide(400_000)._plan  # 120 MB
    runner.feed(plan, 1, None)
    before = pa.total_allocated_bytes()
    peak = 0
    found = replace(runner.partitions(plan), mapped=120 << 20)
    chosen = order(found.lengths, found.sizes, 1, None)
    assert isinstance(chosen, Shuffled)
    for _ in external_shuffle(found, chosen, 32 << 20, tmp_path):
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 40 << 20
