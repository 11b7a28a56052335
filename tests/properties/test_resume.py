from __future__ import annotations

import json
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

pytest.importorskip("torch")

from lakefeed import Dataset
from lakefeed.loaders.torch_loader import TorchLoader

X = pa.schema({"x": pa.int64()})


def plus_one(row: dict[str, int]) -> dict[str, int]:
    return {"x": row["x"] + 1}


STEPS: dict[str, Any] = {
    "filter": lambda data: data.filter("x % 3 <> 0"),
    "function": lambda data: data.filter(lambda row: row["x"] % 5 != 1),
    "map": lambda data: data.map(plus_one, schema=X),
    "slice": lambda data: data.slice(3, 40),
    "split": lambda data: data.train_test_split(test_size=0.2, seed=4)["train"],
    "window": lambda data: data.shuffle(6, global_=False, window=5),
    "global": lambda data: data.shuffle(7),
}
PLANS = st.lists(st.sampled_from(sorted(STEPS)), max_size=5)


def loader(rows: int, steps: list[str], size: int, rank: int = 0, ranks: int = 1) -> TorchLoader:
    data = Dataset.from_dict({"x": list(range(rows))}, schema=X)
    for step in steps:
        data = STEPS[step](data)
    return data.to_torch(batch_size=size, rank=rank, world_size=ranks, prefetch_batches=0)


def rows_of(loaders: list[TorchLoader]) -> list[int]:
    return [row for batches in zip(*loaders, strict=True) for batch in batches for row in batch["x"].tolist()]


@given(st.integers(0, 60), PLANS, st.integers(1, 9), st.integers(0, 2), st.data())
def test_a_resume_goes_on_as_without_one(
    rows: int, steps: list[str], size: int, epoch: int, data: st.DataObject
) -> None:
    whole = loader(rows, steps, size)
    whole.set_epoch(epoch)
    batches = [batch["x"].tolist() for batch in whole]
    stop = data.draw(st.integers(0, len(batches)))
    first = loader(rows, steps, size)
    first.set_epoch(epoch)
    for _ in zip(range(stop), first, strict=False):
        pass
    resumed = loader(rows, steps, size)
    resumed.load_state_dict(json.loads(json.dumps(first.state_dict())))
    if resumed.epoch == epoch:
        assert [batch["x"].tolist() for batch in resumed] == batches[stop:]


@given(st.integers(4, 60), PLANS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.data())
def test_another_world_sees_exactly_the_rest(
    rows: int, steps: list[str], size: int, other_size: int, ranks: int, data: st.DataObject
) -> None:
    expected = rows_of([loader(rows, steps, size)])
    first = loader(rows, steps, size)
    stop = data.draw(st.integers(0, -(-len(expected) // size)))  # the length of a stream is unknown
    batches = iter(first)
    seen = [row for _ in range(stop) for row in next(batches)["x"].tolist()]
    left = len(expected) - len(seen)
    assume(len(expected) >= ranks and (left == 0 or left >= ranks))
    others = [loader(rows, steps, other_size, rank, ranks) for rank in range(ranks)]
    for other in others:
        other.load_state_dict(first.state_dict())
    if not left:  # the delivery of the last batch ended the epoch
        assert {other.epoch for other in others} == {1}
        return
    assert seen + rows_of(others) == expected
