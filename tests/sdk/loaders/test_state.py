from __future__ import annotations

import json
from typing import Any

import pytest

from lakefeed import Dataset
from lakefeed.errors import StateMismatchError
from lakefeed.loaders.loader_state import LoaderState, PlanIdentity


def identity(data: Dataset, seed: int | None = None) -> PlanIdentity:
    return PlanIdentity.of(data._plan, seed)


@pytest.fixture
def data() -> Dataset:
    return Dataset.from_dict({"x": list(range(10)), "y": list(range(10))})


@pytest.fixture
def state(data: Dataset) -> dict[str, Any]:
    return LoaderState(identity(data.shuffle(3), 3), 10, 2, 4).to_json()


def refused(state: Any, now: PlanIdentity, rows: int = 10) -> str:
    with pytest.raises(StateMismatchError) as caught:
        LoaderState.from_json(state, now, lambda _: rows)
    return str(caught.value)


def test_a_state_comes_back_through_json(data: Dataset, state: dict[str, Any]) -> None:
    now = identity(data.shuffle(3), 3)
    assert LoaderState.from_json(json.loads(json.dumps(state)), now, lambda _: 10) == LoaderState(now, 10, 2, 4)


def test_a_state_is_small_whatever_the_plan(data: Dataset) -> None:
    for _ in range(40):
        data = data.filter("x >= 0 and y >= 0 and x < 1000000")
    assert len(json.dumps(LoaderState(identity(data), 2**62, 2**62, 2**62).to_json())) < 1024


def test_another_seed_is_named(data: Dataset, state: dict[str, Any]) -> None:
    message = refused(state, identity(data.shuffle(4), 4))
    assert "seed was 3 and is 4" in message
    assert "plan had" not in message


def test_other_data_is_named(state: dict[str, Any]) -> None:
    other = Dataset.from_dict({"x": [1], "y": [2]}).shuffle(3)
    assert "the data was 'memory:" in refused(state, identity(other, 3))


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda data: data.filter("x > 1").shuffle(3), "had no such step and now has Filter:"),
        (lambda data: data.shuffle(3, global_=False), "had Shuffle:"),
        (lambda data: data.shuffle(3).select(["x"]), "now has Project:"),
    ],
)
def test_another_plan_is_named(data: Dataset, state: dict[str, Any], change: Any, named: str) -> None:
    assert named in refused(state, identity(change(data), 3))


def test_another_filter_is_named(data: Dataset) -> None:
    state = LoaderState(identity(data.filter("x > 1")), 8, 0, 0).to_json()
    message = refused(state, identity(data.filter("x > 2")), 7)
    assert "the plan had Filter:" in message
    assert "now has Filter:" in message


def test_steps_in_another_order_are_noticed(data: Dataset) -> None:
    first = data.filter("x > 1").slice(0, 3)
    state = LoaderState(identity(first), 3, 0, 0).to_json()
    assert "in another order" in refused(state, identity(data.slice(0, 3).filter("x > 1")))


def test_another_function_is_noticed(data: Dataset) -> None:
    def kept(bound: int) -> Dataset:
        return data.filter(lambda row: row["x"] > bound)

    state = LoaderState(identity(kept(1)), 8, 0, 0).to_json()
    assert "the plan had FilterRows:" in refused(state, identity(kept(2)))
    LoaderState.from_json(state, identity(kept(1)), lambda _: 8)


def test_a_source_that_gives_other_rows_is_noticed(data: Dataset, state: dict[str, Any]) -> None:
    assert "epoch 2 had 10 rows and has 11" in refused(state, identity(data.shuffle(3), 3), rows=11)


@pytest.mark.parametrize("garbage", [None, 3, [], "state", {}, {"format": 1}, {"format": 2}, {"format": 3}])
def test_garbage_is_no_state(data: Dataset, garbage: Any) -> None:
    assert "not a state of a lakefeed loader" in refused(garbage, identity(data))


@pytest.mark.parametrize(
    "change",
    [{"position": "4"}, {"position": 1.5}, {"epoch": True}, {"plan": None}, {"seed": "3"}, {"rows": []}, {"format": 9}],
)
def test_values_of_other_types_are_no_state(data: Dataset, state: dict[str, Any], change: dict[str, Any]) -> None:
    assert "not a state of a lakefeed loader" in refused(state | change, identity(data.shuffle(3), 3))


@pytest.mark.parametrize("change", [{"position": -1}, {"position": 11}, {"epoch": -1}])
def test_places_outside_the_epoch_are_refused(data: Dataset, state: dict[str, Any], change: dict[str, Any]) -> None:
    assert "there is no position" in refused(state | change, identity(data.shuffle(3), 3))


def test_a_window_bounded_by_bytes_is_part_of_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lakefeed.ops.shuffle.WINDOW_BYTES", 1_000)
    rows = {"x": list(range(100)), "text": [f"{number:0100d}" for number in range(100)]}
    saved = Dataset.from_dict(rows).save("large", column_types=None)
    loader = saved.shuffle(3, global_=False).to_torch(batch_size=10)
    batches = iter(loader)
    next(batches)
    state = loader.state_dict()
    assert 2 <= state["window_rows"] < 100
    rest = [batch["x"].tolist() for batch in batches]
    resumed = saved.shuffle(3, global_=False).to_torch(batch_size=10)
    resumed.load_state_dict(state)
    assert [batch["x"].tolist() for batch in resumed] == rest
    for other in (
        {name: value for name, value in state.items() if name != "window_rows"},
        state | {"window_rows": 99},
        {name: value for name, value in state.items() if name != "window_rows"} | {"format": 2},
    ):
        with pytest.raises(StateMismatchError, match="bounded by bytes"):
            saved.shuffle(3, global_=False).to_torch(batch_size=10).load_state_dict(other)
    assert "window_rows" not in saved.shuffle(3, global_=False, window=50).to_torch(batch_size=10).state_dict()
