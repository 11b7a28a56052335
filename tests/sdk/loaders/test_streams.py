"""Rows without addresses (CSV, generators, filters above a windowed shuffle) are streamed, not put on disk first."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

torch = pytest.importorskip("torch")

from lakefeed import Dataset, World, concatenate, interleave  # noqa: E402
from lakefeed.catalog.lake import Lake  # noqa: E402
from lakefeed.errors import InvalidArgumentError, StateMismatchError, TransformError  # noqa: E402

X = pa.schema({"x": pa.int64()})
pytestmark = pytest.mark.usefixtures("lake")


class Numbers:
    """Batches of whole numbers, counted as they are drawn."""

    def __init__(self, rows: int, size: int = 10) -> None:
        self.rows, self.size, self.batches = rows, size, 0

    def __call__(self) -> Iterator[pa.RecordBatch]:
        for start in range(0, self.rows, self.size):
            self.batches += 1
            yield numbers(start, min(start + self.size, self.rows))


def numbers(start: int, stop: int) -> pa.RecordBatch:
    return pa.record_batch({"x": pa.array(range(start, stop))}, schema=X)


def endless() -> Iterator[pa.RecordBatch]:
    start = 0
    while True:
        yield numbers(start, start + 10)
        start += 10


def stream(rows: int = 2_000, size: int = 10) -> Dataset:
    return Dataset.from_batches(Numbers(rows, size), schema=X)


def values(batches: Any) -> list[int]:
    return [value for batch in batches for value in np.atleast_1d(np.asarray(batch["x"])).tolist()]


def windowed(data: Dataset, window: int | None = 100, seed: int = 1) -> Dataset:
    return data.shuffle(seed, global_=False, window=window)


def spilled(cache: Path) -> list[Path]:
    return [path for path in (cache / "spill").rglob("*") if path.is_file()] if (cache / "spill").exists() else []


def test_the_first_batch_comes_after_the_first_batches_of_the_source() -> None:
    for plan, most in ((lambda data: data, 12), (windowed, 24), (lambda data: windowed(data).filter("x >= 0"), 24)):
        for first in (
            lambda data: next(iter(data.to_torch(batch_size=8))),
            lambda data: next(iter(data.to_torch(batch_size=8, rank=1, world_size=2))),
            lambda data: next(iter(data.batches())),
            lambda data: next(iter(data.rows())),
        ):
            source = Numbers(100_000)
            first(plan(Dataset.from_batches(source, schema=X)))
            assert source.batches <= most


def test_an_endless_stream_gives_batches_and_has_no_length() -> None:
    for data in (Dataset.from_batches(endless, schema=X), windowed(Dataset.from_batches(endless, schema=X))):
        loader = data.to_torch(batch_size=4)
        assert len(values(islice(loader, 5))) == 20
        with pytest.raises(TypeError, match="length of a stream is unknown"):
            len(loader)
        assert len(list(islice(data.rows(), 30))) == 30


def test_nothing_is_written_while_an_epoch_streams(lake: Lake, tmp_path: Path) -> None:
    table = tmp_path / "x.csv"
    table.write_text("x\n" + "".join(f"{value}\n" for value in range(3_000)))
    csv = Dataset.from_file(str(table))
    mixed = interleave([csv, Dataset.from_dict({"x": list(range(100))})])
    for data in (csv, windowed(csv), windowed(csv).filter("x >= 0"), mixed, windowed(concatenate([csv, csv]))):
        assert values(data.to_torch(batch_size=64))
        assert spilled(lake.settings.cache) == []
    loader = csv.shuffle(1).to_torch(batch_size=64)
    next(iter(loader))  # a global shuffle is the choice to put them there
    assert len(loader) == 47


@pytest.mark.parametrize("world_size", [1, 2, 7])
def test_ranks_get_the_batches_that_they_would_get_if_the_rows_were_counted(world_size: int) -> None:
    rows = 403
    counted = Dataset.from_dict({"x": list(range(rows))})
    sizes = ((1, False), (64, False), (64, True), (None, True)) if world_size < 7 else ((1, False), (64, False))
    for size, drop_last in sizes:

        def batches(data: Dataset, rank: int, size: Any = size, drop_last: bool = drop_last) -> list[list[int]]:
            loader = data.to_torch(batch_size=size, rank=rank, world_size=world_size, drop_last=drop_last)
            return [np.atleast_1d(np.asarray(batch["x"])).tolist() for batch in loader]

        for part in (13, rows):
            got = [batches(stream(rows, part), rank) for rank in range(world_size)]
            assert got == [batches(counted, rank) for rank in range(world_size)]
            shuffled = [batches(windowed(stream(rows, part)), rank) for rank in range(world_size)]
            assert [list(map(len, rank)) for rank in shuffled] == [list(map(len, rank)) for rank in got]
            loader = stream(rows, part).to_torch(batch_size=size, rank=0, world_size=world_size, drop_last=True)
            kept = sum(len(np.atleast_1d(np.asarray(batch["x"]))) for batch in loader)
            assert (loader.metrics.rows, loader.metrics.rows_read) == (kept, rows)
            if not drop_last:
                assert sorted(value for rank in shuffled for batch in rank for value in batch) == list(range(rows))


def test_fewer_rows_than_ranks_are_an_error_at_the_end_of_the_stream() -> None:
    for rank in range(3):
        with pytest.raises(InvalidArgumentError, match="2 rows are too few for 3 ranks"):
            list(stream(2).to_torch(batch_size=4, rank=rank, world_size=3))
    assert list(stream(0).to_torch(batch_size=4, rank=0, world_size=3)) == []


def test_a_windowed_order_depends_on_rows_window_seed_and_epoch_alone() -> None:
    order = values(windowed(stream()).to_torch(batch_size=64))
    assert sorted(order) == list(range(2_000)) != order
    assert all(abs(position - value) < 100 for position, value in enumerate(order))
    for size in (1, 7, 2_000):
        assert values(windowed(stream(size=size)).to_torch(batch_size=3)) == order
        assert [row["x"] for row in windowed(stream(size=size)).rows()] == order
    assert values(windowed(stream(), seed=2).to_torch(batch_size=64)) != order
    assert values(windowed(stream(), window=1).to_torch(batch_size=64)) == list(range(2_000))
    fair = values(windowed(stream(), window=5_000).to_torch(batch_size=64))
    assert abs(np.corrcoef(fair, range(2_000))[0, 1]) < 0.1
    loader = windowed(stream()).to_torch(batch_size=64)
    loader.set_epoch(1)
    assert values(loader) == values(windowed(stream(), seed=2).to_torch(batch_size=64))


def test_a_window_that_nobody_chose_is_bounded_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakefeed.ops.shuffle.WINDOW_BYTES", 1 << 16)
    wide = pa.schema({"x": pa.int64(), "text": pa.string()})

    def rows(size: int) -> Dataset:
        def batches() -> Iterator[pa.RecordBatch]:
            for start in range(0, 400, size):
                part = range(start, min(start + size, 400))
                text = ["a" * (10 if value < 300 else 20_000) for value in part]
                yield pa.record_batch({"x": pa.array(part), "text": text}, schema=wide)

        return Dataset.from_batches(batches, schema=wide)

    order = values(windowed(rows(7), None).to_torch(batch_size=16))
    assert sorted(order) == list(range(400))
    assert values(windowed(rows(400), None).to_torch(batch_size=16)) == order
    assert max(abs(position - value) for position, value in enumerate(order) if value >= 304) < 4
    assert max(abs(position - value) for position, value in enumerate(order)) > 100
    for batches in (1, 18, 20, 23):
        loader = windowed(rows(7), None).to_torch(batch_size=16)
        head = values(islice(loader, batches))
        resumed = windowed(rows(9), None).to_torch(batch_size=5)
        state = json.loads(json.dumps(loader.state_dict()))
        resumed.load_state_dict({**state, **identity_of(resumed)})
        assert head + values(resumed) == order


def identity_of(loader: Any) -> dict[str, Any]:
    """The function here is another object over the same rows, as in a new process."""
    return {name: loader.state_dict()[name] for name in ("fingerprint", "snapshot", "plan")}


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "in order": lambda data: data,
    "windowed": windowed,
    "default window": lambda data: windowed(data, None),
    "filter below": lambda data: windowed(data.filter("x % 3 = 0")),
    "filter above": lambda data: windowed(data).filter("x % 3 = 0"),
    "map": lambda data: windowed(data.map(lambda row: {"x": row["x"] + 1}, schema=X)),
    "slice above": lambda data: windowed(data).slice(50, 1_500),
    "slice below": lambda data: windowed(data.slice(50, 1_500)),
    "interleave": lambda data: interleave([data, Dataset.from_dict({"x": list(range(5_000, 5_100))})], seed=1),
}


QUICK = ("windowed", "filter above", "interleave")


@pytest.mark.parametrize(
    "name", [*QUICK, *(pytest.param(each, marks=pytest.mark.live) for each in PLANS if each not in QUICK)]
)
def test_a_resume_is_exact_with_other_batches_ranks_and_workers(name: str) -> None:
    source = stream()
    order = values(PLANS[name](source).to_torch(batch_size=7))
    for batches in (0, 1, 20):
        loader = PLANS[name](source).to_torch(batch_size=7)
        head = values(islice(loader, batches))
        state = json.loads(json.dumps(loader.state_dict()))
        assert len(json.dumps(state)) < 1_000
        ranks: list[list[Any]] = []
        for rank in range(2):
            resumed = PLANS[name](source).to_torch(batch_size=5, rank=rank, world_size=2)
            resumed.load_state_dict(state)
            assert resumed.state_dict() == state
            ranks.append([batch["x"].tolist() for batch in resumed])
            assert resumed.state_dict()["epoch"] == 1
        assert head + [value for step in zip(*ranks, strict=True) for batch in step for value in batch] == order
    resumed = PLANS[name](source).to_torch(batch_size=5, num_workers=1)
    resumed.load_state_dict(state)
    assert head + values(resumed) == order


def test_a_stream_that_gives_other_rows_is_refused(tmp_path: Path) -> None:
    rows = tmp_path / "rows"

    def batches() -> Iterator[pa.RecordBatch]:
        first, count = map(int, rows.read_text().split())
        for start in range(first, first + count, 10):
            yield numbers(start, start + 10)

    data = Dataset.from_batches(batches, schema=X)
    for plan in (data, windowed(data)):
        rows.write_text("0 500")
        loader = plan.to_torch(batch_size=8)
        list(islice(loader, 20))
        state = loader.state_dict()
        for other in ("1 500", "0 100"):
            rows.write_text(other)
            resumed = plan.to_torch(batch_size=8)
            resumed.load_state_dict(state)
            with pytest.raises(StateMismatchError, match="source that gives the same rows"):
                next(iter(resumed))


def test_a_checkpoint_of_the_order_on_disk_is_refused_where_the_rows_are_streamed_now() -> None:
    """Also where their number is known, so that it does not differ."""
    some = Dataset.from_dict({"x": list(range(100))})
    streamed = windowed(concatenate([windowed(some), some]), 50)
    for plan, refused in ((streamed, True), (windowed(some, 50), False), (concatenate([windowed(some), some]), False)):
        loader = plan.to_torch(batch_size=10)
        list(islice(loader, 3))
        resumed, state = plan.to_torch(batch_size=10), {**loader.state_dict(), "format": 2}
        assert state["rows"] in (100, 200)
        if refused:
            with pytest.raises(StateMismatchError, match="streamed in another order now"):
                resumed.load_state_dict(state)
        else:
            resumed.load_state_dict(state)
            assert values(resumed) == values(plan.to_torch(batch_size=10))[30:]


def test_shards_of_a_shuffled_stream_are_mixed(tmp_path: Path) -> None:
    paths = []
    for shard in range(9):
        paths.append(tmp_path / f"{shard}.jsonl")
        paths[-1].write_text("".join(json.dumps({"x": shard * 1_000 + row}) + "\n" for row in range(1_000)))
    data = Dataset.from_file([str(path) for path in paths])
    plan = windowed(data, 500)
    order = values(plan.to_torch(batch_size=50))
    assert sorted(order) == list(range(9_000))
    assert len({value // 1_000 for value in order[:500]}) == 2
    assert len({value // 1_000 for value in order[:2_000]}) >= 4
    assert [row["x"] for row in plan.rows()] == order
    assert values(data.to_torch(batch_size=50)) == list(range(9_000))
    later = plan.to_torch(batch_size=50)
    later.set_epoch(1)
    assert [value // 1_000 for value in values(later)] != [value // 1_000 for value in order]
    loader = plan.to_torch(batch_size=50)
    head = values(islice(loader, 70))
    ranks = []
    for rank in range(2):
        resumed = plan.to_torch(batch_size=64, world=World(rank, 2))
        resumed.load_state_dict(loader.state_dict())
        ranks.append([batch["x"].tolist() for batch in resumed])
    assert head + [value for step in zip(*ranks, strict=True) for batch in step for value in batch] == order


def test_what_says_that_it_has_more_rows_than_it_gives_is_an_error(lake: Lake) -> None:
    def fails() -> Iterator[pa.RecordBatch]:
        yield numbers(0, 10)
        raise StopIteration

    with pytest.raises((RuntimeError, TransformError)):
        list(Dataset.from_batches(fails, schema=X).to_torch(batch_size=4))


def test_an_infinite_loader_over_a_stream_goes_from_epoch_to_epoch() -> None:
    loader = windowed(stream(30)).to_torch(batch_size=10, infinite=True)
    batches = [batch["x"].tolist() for batch in islice(loader, 6)]
    assert sorted(value for batch in batches[:3] for value in batch) == list(range(30))
    assert batches[:3] != batches[3:]
    with pytest.raises(InvalidArgumentError, match="would never end"):
        next(iter(stream(0).to_torch(infinite=True)))
