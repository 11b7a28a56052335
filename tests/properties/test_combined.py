"""Concatenated, interleaved, repeated, shuffled and filtered in any nesting: one order, by place."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from unittest import mock

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from lakefeed import Dataset, concatenate, interleave
from lakefeed.loaders.torch_loader import TorchLoader
from lakefeed.plan.interleave_order import CHUNK, STOPPING, Draws, Interleaved
from lakefeed.run import interleaved_partitions
from lakefeed.sources import memory_source

X = pa.schema({"x": pa.int64()})
STEPS: dict[str, Any] = {
    "filter": lambda data: data.filter("x % 3 <> 0"),
    "function": lambda data: data.filter(lambda row: row["x"] % 5 != 1),
    "map": lambda data: data.map(lambda row: {"x": row["x"] + 1}, schema=X),
    "slice": lambda data: data.slice(3, 40),
    "split": lambda data: data.train_test_split(test_size=0.2, seed=4)["train"],
    "window": lambda data: data.shuffle(6, global_=False, window=5),
    "global": lambda data: data.shuffle(7),
    "twice": lambda data: data.repeat(2),
    "sorted": lambda data: data.sort("x"),
}


@contextmanager
def small_parts() -> Iterator[None]:
    """Fragments of 7 rows and stretches of 11, as of tables that are large."""
    with (
        mock.patch.object(memory_source, "FRAGMENT_ROWS", 7),
        mock.patch.object(interleaved_partitions, "INTERLEAVED_BYTES", 88),
    ):
        yield


@st.composite
def combinations(draw: st.DrawFn, depth: int = 2) -> Dataset:
    if depth == 0 or draw(st.integers(0, 3)) == 0:
        start, rows = draw(st.integers(0, 5)) * 1000, draw(st.integers(0, 40))
        data = Dataset.from_dict({"x": list(range(start, start + rows))}, schema=X)
    else:
        parts = draw(st.lists(combinations(depth - 1), min_size=1, max_size=3))
        if draw(st.booleans()):
            data = concatenate(parts)
        else:
            stopping = draw(st.sampled_from(STOPPING))
            chances = draw(st.sampled_from([None, [1 / len(parts)] * len(parts)]))
            data = interleave(parts, chances, seed=draw(st.integers(0, 3)), stopping_strategy=stopping)
    for step in draw(st.lists(st.sampled_from(sorted(STEPS)), max_size=2)):
        data = STEPS[step](data)
    return data


def loader(data: Dataset, size: int, rank: int = 0, ranks: int = 1) -> TorchLoader:
    return data.to_torch(batch_size=size, rank=rank, world_size=ranks, prefetch_batches=0)


def rows_of(loaders: list[TorchLoader]) -> list[int]:
    return [row for batches in zip(*loaders, strict=True) for batch in batches for row in batch["x"].tolist()]


@pytest.mark.slow
@settings(max_examples=2 * settings.default.max_examples // 5)
@given(combinations(), st.integers(1, 9), st.integers(1, 3), st.data())
def test_every_row_once_in_one_order_and_exact_resumes(
    made: Dataset, size: int, ranks: int, data: st.DataObject
) -> None:
    with small_parts():
        expected = [row["x"] for row in made.rows()]
        first = loader(made, size)
        assert rows_of([first]) == expected
        stop = data.draw(st.integers(0, -(-len(expected) // size)))
        begun = loader(made, size)
        batches = iter(begun)
        seen = [row for _ in range(stop) for row in next(batches)["x"].tolist()]
        left = len(expected) - len(seen)
        assume(len(expected) >= ranks and (left == 0 or left >= ranks))
        others = [loader(made, size, rank, ranks) for rank in range(ranks)]
        for other in others:
            other.load_state_dict(json.loads(json.dumps(begun.state_dict())))
        if not left:  # the delivery of the last batch ended the epoch
            assert seen == expected
            return
        assert seen + rows_of(others) == expected


def by_hand(lengths: list[int], draws: Draws, stopping: str) -> list[tuple[int, int]]:
    """One draw after the other, as the operation is described."""
    found = []
    taken, exhausted = [0] * len(lengths), [not ever for ever in draws.drawn]
    for choice in itertools.chain.from_iterable(draws.chunk(number).tolist() for number in itertools.count()):
        if stopping == "first_exhausted" and taken[choice] == lengths[choice]:
            return found
        if taken[choice] < lengths[choice] or (stopping == "all_exhausted" and lengths[choice]):
            found.append((choice, taken[choice] % lengths[choice]))
            taken[choice] += 1
        exhausted[choice] = exhausted[choice] or taken[choice] >= lengths[choice]
        if stopping != "first_exhausted" and all(exhausted):
            return found
    raise AssertionError


@given(
    st.lists(st.one_of(st.integers(0, 30), st.integers(CHUNK - 2, CHUNK + 2)), min_size=1, max_size=4),
    st.sampled_from(STOPPING),
    st.booleans(),
    st.data(),
)
def test_the_place_of_a_row_follows_from_lengths_and_seed(
    lengths: list[int], stopping: Any, in_turn: bool, data: st.DataObject
) -> None:
    weights = np.array([data.draw(st.integers(0, 3)) for _ in lengths[1:]] + [1])
    chances = None if in_turn else tuple((weights / weights.sum()).tolist())
    draws = Draws(len(lengths), chances, data.draw(st.integers(0, 9)))
    order = Interleaved(tuple(lengths), draws, stopping)
    expected = by_hand(lengths, draws, stopping)
    assert len(order) == len(expected)
    start = data.draw(st.integers(0, len(order)))
    stop = data.draw(st.integers(start, len(order)))
    inputs, rows = order.located(start, stop)
    assert list(zip(inputs.tolist(), rows.tolist(), strict=True)) == expected[start:stop]


def test_what_is_never_drawn_stays_so() -> None:
    """Probabilities that add up to a little less than 1 leave a gap at the end."""
    order = Interleaved((20_000, 5), Draws(2, (0.999_999_99, 0.0), 1), "first_exhausted")
    assert Counter(order.located(0, len(order))[0].tolist()) == {0: 20_000}
