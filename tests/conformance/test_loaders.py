"""Every way to the rows, stopped at every step: what comes after a resume is what would have come without."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

pytest.importorskip("torch")

from lakefeed import Dataset
from lakefeed.loaders.torch_loader import TorchLoader
from lakefeed.plan import order

ROWS = 60
X = pa.schema({"x": pa.int64()})


def table(start: int, stop: int) -> pa.Table:
    return pa.table({"x": range(start, stop), "text": [f"row {row}" for row in range(start, stop)]})


def memory() -> Dataset:
    return Dataset.from_arrow(pa.concat_tables([table(0, 17), table(17, ROWS)]))


@pytest.fixture(scope="module")
def saved(shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    """Three versions, three files, row groups of 7."""
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="7"):
        Dataset.from_arrow(table(0, 25)).save("rows")
        Dataset.from_arrow(table(25, 26)).append_to("rows")
        return Dataset.from_arrow(table(26, ROWS)).append_to("rows")


def csv(tmp_path: Path) -> Dataset:
    (tmp_path / "rows.csv").write_text("x,text\n" + "\n".join(f"{row},row {row}" for row in range(ROWS)))
    return Dataset.from_file(str(tmp_path / "rows.csv"))


def negated(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": -row["x"]}


def repeated(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"x": [value for value in batch["x"].to_pylist() for _ in range(value % 3)]}, X)


def windowed(data: Dataset) -> Dataset:
    return data.shuffle(3, global_=False, window=12)


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "in order": lambda data: data,
    "windowed": windowed,
    "global": lambda data: data.shuffle(3),
    "filtered": lambda data: windowed(data.filter("x % 3 <> 1")),
    "filtered, in order": lambda data: data.filter("x >= 13 and x % 3 <> 1"),
    "filtered by function": lambda data: data.filter(lambda row: row["x"] % 3 != 1).shuffle(3),
    "filtered above": lambda data: data.shuffle(3).filter("x % 3 <> 1"),
    "filter of a head": lambda data: data.shuffle(3).head(40).filter("x % 2 = 0"),
    "map below": lambda data: windowed(data.map(negated, schema=X)),
    "map above": lambda data: windowed(data).map(negated, schema=X),
    "slice above": lambda data: windowed(data).slice(11, 52),
    "head below": lambda data: windowed(data.head(40)),
    "train side": lambda data: windowed(data.train_test_split(test_size=0.3, seed=1)["train"]),
    "test side by key": lambda data: data.train_test_split(test_size=0.5, seed=1, by="x")["test"].shuffle(3),
    "map_batches": lambda data: windowed(data.map_batches(repeated, schema=X)),
}


@pytest.fixture(params=["memory", "saved", pytest.param("pools", marks=pytest.mark.live), "csv"])
def data(request: pytest.FixtureRequest, saved: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Dataset:
    if request.param == "pools":  # as of a table that is too large to be mixed at once
        monkeypatch.setattr(order, "POOL_BYTES", 500)
    elif request.param != "saved":
        return memory() if request.param == "memory" else csv(tmp_path)
    return saved


def taken(loader: TorchLoader, steps: int | None = None) -> list[list[int]]:
    """The ids of so many batches (None: of the epoch)."""
    found: list[list[int]] = []
    for batch in loader:
        found.append(batch["x"].tolist())
        if len(found) == steps:
            break
    return found


def flat(batches: list[list[int]]) -> list[int]:
    return [row for batch in batches for row in batch]


def length(loader: TorchLoader) -> int | None:
    """The steps of a loader; None of a stream, whose length is unknown."""
    try:
        return len(loader)
    except TypeError:
        return None


def resumed(make: Callable[..., TorchLoader], loader: TorchLoader, **options: Any) -> TorchLoader:
    state = json.loads(json.dumps(loader.state_dict()))
    assert len(json.dumps(state)) < 1024
    fresh = make(**options)
    fresh.load_state_dict(state)
    return fresh


@pytest.mark.slow
@pytest.mark.parametrize("plan", PLANS)
def test_a_resume_at_every_step_goes_on_as_without(data: Dataset, plan: str) -> None:
    prepared = PLANS[plan](data)

    def make() -> TorchLoader:
        return prepared.to_torch(batch_size=11)

    whole = make()
    epochs = [taken(whole), taken(whole)]
    assert flat(epochs[0]) == [row["x"] for row in prepared.rows()]
    for step in range(1, len(epochs[0]) + 1):
        first = make()
        assert taken(first, step) == epochs[0][:step]
        second = resumed(make, first)
        left = epochs[0][step:]
        assert length(second) in (None, len(epochs[0]))
        if not left:  # the delivery of the last batch ended the epoch
            assert (second.epoch, taken(second)) == (1, epochs[1])
            continue
        assert taken(second, 2) == left[:2]
        third = resumed(make, second)
        if len(left) > 2:
            assert taken(third) == left[2:]
        assert third.epoch == 1  # no more than two were left: their delivery had ended the epoch
        assert taken(third) == epochs[1]


WITH_WORKERS = ("in order", "windowed", "global", "filtered by function", "filter of a head")


@pytest.mark.live
@pytest.mark.parametrize(
    ("source", "plan"),
    [
        *(("saved", plan) for plan in WITH_WORKERS),
        *(("memory", plan) for plan in ("in order", "filter of a head")),
        *(pytest.param("memory", plan, marks=pytest.mark.soak) for plan in WITH_WORKERS[1:4]),
    ],
)
def test_workers_resume_as_exactly(plan: str, source: str, saved: Dataset) -> None:
    prepared = PLANS[plan](memory() if source == "memory" else saved)

    def make(workers: int) -> TorchLoader:
        return prepared.to_torch(batch_size=8, num_workers=workers)

    whole = make(0)
    epochs = [taken(whole), taken(whole)]
    first = make(2)
    assert taken(first, 1) == epochs[0][:1]
    second = resumed(make, first, workers=2)
    assert taken(second, 1) == epochs[0][1:2]
    third = resumed(make, second, workers=0)
    assert taken(third) == epochs[0][2:]
    fourth = resumed(make, third, workers=2)
    assert taken(fourth) == epochs[1]


def ranked(prepared: Dataset, state: dict[str, Any] | None, size: int, ranks: int, **options: Any) -> list[TorchLoader]:
    loaders = [prepared.to_torch(batch_size=size, rank=rank, world_size=ranks, **options) for rank in range(ranks)]
    for loader in loaders:
        if state is not None:
            loader.load_state_dict(state)
    return loaders


def in_step(loaders: list[TorchLoader], steps: int | None = None) -> Iterator[int]:
    """The rows that all ranks see together, step by step."""
    for step, batches in enumerate(zip(*loaders, strict=True)):
        if step == steps:
            return
        for batch in batches:
            yield from batch["x"].tolist()


@pytest.mark.parametrize("plan", ["in order", "windowed", "global", "filtered", "slice above"])
def test_another_world_goes_on_with_exactly_the_rows_not_seen(data: Dataset, plan: str) -> None:
    prepared = PLANS[plan](data)
    expected = [row["x"] for row in prepared.rows()]
    for step in (0, 1, 3):
        loaders = ranked(prepared, None, 8, 2)
        seen = []
        for batches in zip(*map(iter, loaders), strict=True):
            if len(seen) == step * 16:
                break
            for batch in batches:
                seen += batch["x"].tolist()
            states = [loader.state_dict() for loader in loaders]
            assert states[0] == states[1]
            state = states[0]
        if not step:
            state = ranked(prepared, None, 8, 2)[0].state_dict()
        assert seen == expected[: step * 16]
        if state["epoch"]:  # all rows were seen
            assert len(expected) == len(seen)
            continue
        for size, ranks, options in ((5, 3, {}), (7, 1, {}), (8, 2, {"drop_last": False})):
            assert list(in_step(ranked(prepared, state, size, ranks, **options))) == expected[step * 16 :]


def test_another_world_with_workers(saved: Dataset) -> None:
    prepared = windowed(saved)
    expected = [row["x"] for row in prepared.rows()]
    first = prepared.to_torch(batch_size=8, num_workers=2)
    assert flat(taken(first, 4)) == expected[:32]
    rest = ranked(prepared, first.state_dict(), 5, 3, num_workers=1)
    assert list(in_step(rest)) == expected[32:]
    assert flat(taken(ranked(prepared, first.state_dict(), 16, 1, num_workers=2)[0])) == expected[32:]


@pytest.mark.parametrize("ranks", [1, 2, 3, 7])
def test_ranks_are_disjoint_complete_and_in_step(data: Dataset, ranks: int) -> None:
    prepared = windowed(data)
    expected = [row["x"] for row in prepared.rows()]
    for size in (1, 4, 100):
        loaders = ranked(prepared, None, size, ranks)
        assert len(set(map(length, loaders))) == 1
        assert list(in_step(loaders)) == expected


def test_drop_last_drops_on_all_ranks(data: Dataset) -> None:
    loaders = ranked(windowed(data), None, 4, 3, drop_last=True)
    sizes = [[len(batch["x"]) for batch in loader] for loader in loaders]
    assert sizes == [[4] * 5] * 3
    assert [loader.epoch for loader in loaders] == [1, 1, 1]
