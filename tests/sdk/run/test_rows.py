"""Streams of batches: cut, counted, chained, collected."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.ops import Scan, Slice
from lakefeed.run.rebatch import rebatch
from lakefeed.run.row_count import known_rows
from lakefeed.run.step_chain import run_chain
from lakefeed.sources.memory_source import MemorySource

X = pa.schema({"x": pa.int64()})


def cut(sizes: list[int]) -> list[pa.RecordBatch]:
    place, batches = 0, []
    for size in sizes:
        batches.append(pa.record_batch({"x": pa.array(range(place, place + size), pa.int64())}))
        place += size
    return batches


@given(sizes=st.lists(st.integers(0, 9), max_size=12), size=st.integers(1, 20))
def test_rebatch_is_exact(sizes: list[int], size: int) -> None:
    batches = list(rebatch(iter(cut(sizes)), size))
    total = sum(sizes)
    assert [batch.num_rows for batch in batches] == [size] * (total // size) + ([total % size] if total % size else [])
    assert [x for batch in batches for x in batch["x"].to_pylist()] == list(range(total))


def test_rebatch_copies_nothing_inside_a_batch() -> None:
    (batch,) = cut([10])
    parts = list(rebatch([batch], 5))
    addresses = {part["x"].buffers()[1].address for part in parts}
    assert addresses == {batch["x"].buffers()[1].address}


def test_dictionaries_that_differ_are_joined() -> None:
    batches = [pa.record_batch({"d": pa.array(words).dictionary_encode()}) for words in (["a", "b"], ["c", "a"])]
    dataset = Dataset.from_batches(lambda: batches, schema=batches[0].schema)
    assert [batch["d"] for batch in dataset.batches(3)] == [["a", "b", "c"], ["a"]]
    assert sorted(row["d"] for row in dataset.shuffle(1)) == ["a", "a", "b", "c"]


def test_many_rows_with_dictionaries_that_differ_shuffle() -> None:
    Dataset.from_arrow(pa.table({"d": pa.array(["a", "b"] * 6_000).dictionary_encode()})).save("t")
    for words in (["c", "b"], ["d"]):
        Dataset.from_arrow(pa.table({"d": pa.array(words * 6_000).dictionary_encode()})).append_to("t")
    shuffled = Dataset("t").shuffle(1)
    assert shuffled.to_arrow()["d"].value_counts().to_pylist() != []
    assert sorted(row["d"] for row in shuffled) == sorted(row["d"] for row in Dataset("t"))


def test_a_chain_stops_drawing_when_nothing_more_can_come() -> None:
    drawn = []

    def batches() -> Iterator[pa.RecordBatch]:
        for batch in cut([5] * 10):
            drawn.append(1)
            yield batch

    step = Slice(Scan(MemorySource(pa.table({"x": range(50)}))), 3, 8)
    assert [batch.num_rows for batch in run_chain((step,), batches())] == [2, 3]
    assert len(drawn) == 2


@pytest.mark.parametrize(
    ("make", "rows"),
    [
        (lambda d: d, 100),
        (lambda d: d.head(7), 7),
        (lambda d: d.slice(95, 200), 5),
        (lambda d: d.slice(200), 0),
        (lambda d: d.select(["x"]).map(dict, schema=X).slice(90), 10),
        (lambda d: d.shuffle(1).slice(10).shuffle(2, global_=False).head(50), 50),
        (lambda d: d.train_test_split(test_size=0.25)["test"], 25),
        (lambda d: d.train_test_split(test_size=0.25)["train"].head(70).train_test_split()["test"], 14),
        (lambda d: d.filter("x > 1"), None),
        (lambda d: d.map_batches(lambda b: b, schema=X), None),
        (lambda d: d.filter("x > 1").head(3), None),
    ],
)
def test_what_is_known_of_lengths_is_true(make: object, rows: int | None) -> None:
    for origin in (Dataset.from_dict({"x": list(range(100))}), Dataset.from_dict({"x": list(range(100))}).save("t")):
        derived = make(origin)  # type: ignore[operator]
        assert known_rows(derived._plan) == rows
        assert derived.count() == derived.to_arrow().num_rows == (rows if rows is not None else derived.count())
        if rows is None:
            with pytest.raises(TypeError, match=r"count\(\)"):
                len(derived)


def test_hundreds_of_shuffles_have_a_length() -> None:
    dataset = Dataset.from_dict({"x": [1, 2, 3]})
    for seed in range(1_000):
        dataset = dataset.shuffle(seed)
    assert len(dataset) == 3
