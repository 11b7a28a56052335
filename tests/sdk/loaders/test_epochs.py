from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.loaders.epochs import Epochs

X = pa.schema({"x": pa.int64()})


def double(row: dict[str, int]) -> dict[str, int]:
    return {"x": row["x"] * 2}


def twice(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"x": [value for value in batch["x"].to_pylist() for _ in range(2)]}, X)


@pytest.fixture(scope="module")
def data(shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    """300 rows in three files."""
    with shared_home():
        for start in range(0, 300, 100):
            Dataset.from_dict({"x": list(range(start, start + 100))}).save("rows", if_exists="append")
        return Dataset("rows", version=3)


def epochs(data: Dataset) -> Epochs:
    return Epochs(data._plan, data._runner)


def values(made: Epochs, epoch: int) -> list[int]:
    places = made.places(epoch)
    start, stop = (made.shift, None) if places is None else places
    found = []
    for (low, high), batch in made.feed(epoch).batches(start):
        if stop is not None and low >= stop:
            break
        for step in made.late:
            batch = step.apply(batch, 0)
        found += batch["x"].to_pylist()[: None if stop is None else min(high, stop) - low]
    return found


def windowed(data: Dataset, seed: int = 5) -> Dataset:
    return data.shuffle(seed, global_=False, window=16)


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "as it is": lambda data: data,
    "global": lambda data: data.shuffle(5),
    "windowed": windowed,
    "filtered": lambda data: windowed(data.filter("x % 3 = 0")),
    "filtered above": lambda data: windowed(data).filter("x % 3 = 0"),
    "mapped below": lambda data: windowed(data.map(double, schema=X)),
    "mapped above": lambda data: windowed(data).map(double, schema=X),
    "mapped both": lambda data: windowed(data.map(double, schema=X)).map(double, schema=X),
    "mapped, global": lambda data: data.map(double, schema=X).shuffle(5),
    "slice above": lambda data: windowed(data).slice(40, 120),
    "slice, map, slice": lambda data: windowed(data).slice(40, 120).map(double, schema=X).slice(3, 50),
    "head below": lambda data: windowed(data.head(50)),
    "split": lambda data: windowed(data.train_test_split(test_size=0.3)["train"]),
    "split above": lambda data: windowed(data).train_test_split(test_size=0.3)["test"],
    "twice": lambda data: windowed(windowed(data, 1).slice(0, 100), 2),
    "map_batches": lambda data: data.map_batches(twice, schema=X).shuffle(1),
    "map_batches above": lambda data: data.shuffle(1).map_batches(twice, schema=X),
    "window of one": lambda data: data.shuffle(5, global_=False, window=1),
}


@pytest.mark.parametrize("name", PLANS)
def test_epoch_zero_has_the_order_of_rows(data: Dataset, name: str) -> None:
    plan = PLANS[name](data)
    assert values(epochs(plan), 0) == [row["x"] for row in plan.rows()]
    assert values(epochs(plan), 0) == [value for batch in plan.batches(7) for value in batch["x"]]


@pytest.mark.parametrize("name", PLANS)
def test_an_epoch_is_added_to_the_seed(data: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """order(seed 42, epoch 1) == order(seed 43, epoch 0), for every shuffle of the plan."""
    plan = PLANS[name](data)
    later = values(epochs(plan), 1)
    original = Dataset.shuffle

    def next_seed(data: Dataset, seed: int, **options: object) -> Dataset:
        return original(data, seed + 1, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Dataset, "shuffle", next_seed)
    assert values(epochs(PLANS[name](data)), 0) == later


def test_late_steps_are_those_that_can_wait(data: Dataset) -> None:
    def late(plan: Dataset) -> list[str]:
        return [type(step).__name__ for step in epochs(plan).late]

    assert late(PLANS["mapped both"](data)) == ["Map", "Map"]
    assert late(PLANS["filtered above"](data)) == []
    assert late(data.filter("x > 1").map(double, schema=X)) == ["Map"]
    assert late(data.map(double, schema=X).filter("x > 1")) == []


def test_rows_may_differ_between_epochs(data: Dataset) -> None:
    """A filter above a range of shuffled rows."""
    made = epochs(data.shuffle(1).head(50).filter("x < 150"))
    rows = [made.rows(epoch) for epoch in range(4)]
    assert len(set(rows)) > 1
    assert [len(values(made, epoch)) for epoch in range(4)] == rows


def test_pieces_are_found_once_for_all_epochs(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = epochs(windowed(data.filter("x % 3 = 0")))
    values(made, 0)
    monkeypatch.setattr(type(made.runner), "partitions", None)
    assert sorted(values(made, 1)) == list(range(0, 300, 3))


def test_a_global_shuffle_of_files_reads_them_once(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = epochs(data.shuffle(1))
    values(made, 0)
    source = type(data._plan.source)  # type: ignore[attr-defined]
    monkeypatch.setattr(source, "read", None)
    assert sorted(values(made, 3)) == list(range(300))


def test_files_are_spilled_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n" + "\n".join(map(str, range(20))))
    made = epochs(Dataset.from_file(str(tmp_path / "a.csv")).shuffle(2))
    assert sorted(values(made, 0)) == list(range(20))
    assert list((tmp_path / "cache" / "spill").iterdir()) == []
