from __future__ import annotations

import pickle
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, concatenate, interleave
from lakefeed.config import ReadSettings
from lakefeed.optimize import optimize
from lakefeed.run import interleaved_partitions
from lakefeed.run.partitions import Partitions, partitions_of

X = pa.schema({"x": pa.int64()})


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """100 rows in two files of row groups of 8."""
    for name, start in (("a", 0), ("b", 50)):
        table = pa.table({"x": range(start, start + 50), "even": [row % 2 == 0 for row in range(start, start + 50)]})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=8)
    return Dataset.from_file(str(tmp_path / "*.parquet"))


def partitions(data: Dataset) -> Partitions | None:
    return partitions_of(optimize(data._plan), ReadSettings(), data._runner.spilled)


@pytest.fixture
def short_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interleaved_partitions, "INTERLEAVED_BYTES", 300)


def thirds(row: dict[str, int]) -> bool:
    return row["x"] % 3 == 0


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.record_batch({"x": [value for value in batch["x"].to_pylist() for _ in range(2)]}, X)


PLANS: dict[str, Callable[[Dataset], Dataset]] = {
    "scan": lambda data: data,
    "filter": lambda data: data.filter("x % 5 = 0"),
    "pruned": lambda data: data.filter("x >= 60"),
    "nothing": lambda data: data.filter("x < 0"),
    "function": lambda data: data.filter(thirds),
    "slice": lambda data: data.slice(5, 71),
    "filter, slice": lambda data: data.filter("x % 5 = 0").slice(3, 15),
    "slice, filter": lambda data: data.slice(10, 60).filter("x % 5 = 0"),
    "filter, slice, filter, slice": lambda data: data.filter(thirds).slice(3, 30).filter("x % 2 = 0").slice(1, 9),
    "split": lambda data: data.train_test_split(test_size=0.3, seed=1)["test"],
    "split of a filter": lambda data: data.filter(thirds).train_test_split(test_size=0.3, seed=1)["train"],
    "split of a select": lambda data: data.select(["x"]).train_test_split(test_size=0.3)["train"].filter(thirds),
    "split by key": lambda data: data.train_test_split(test_size=0.3, by="x")["train"],
    "map": lambda data: data.map(lambda row: {"x": row["x"] + 1}, schema=X).filter("x > 7").slice(1, 50),
    "map_batches": lambda data: data.select(["x"]).map_batches(doubled, schema=X).filter("x % 2 = 0").slice(2, 80),
    "constant": lambda data: data.select(["even"]).filter("1 = 1").filter("not even"),
    "concatenated": lambda data: concatenate([data.filter(thirds), data.slice(20, 60).filter("even")]).slice(5, 40),
    "filter above": lambda data: concatenate([data.filter("even"), data.slice(20, 60)]).filter(thirds).slice(2, 30),
    "filled": lambda data: concatenate([data.select(["x"]), data], fill=True).filter("even is null or even"),
    "concatenated twice": lambda data: concatenate([concatenate([data.head(9), data]).skip(3), data.filter(thirds)]),
    "repeated": lambda data: data.filter(thirds).repeat(3).slice(10, 90),
    "no times": lambda data: data.repeat(2).head(0),
    "in turn": lambda data: interleave([data, data.filter(thirds)], stopping_strategy="all_exhausted").slice(3, 150),
    "by chance": lambda data: interleave([data.skip(9), data.filter("even")], [0.3, 0.7], seed=1).filter(thirds),
    "interleaved, one mapped": lambda data: interleave(
        [data.select(["x"]).map(lambda row: {"x": -row["x"]}, schema=X), data.select(["x"])]
    ),
    "an interleave in another": lambda data: interleave(
        [data, interleave([data, data.head(7)], stopping_strategy="all_exhausted_without_replacement")], [0.5, 0.5], 4
    ),
    "a sorted one among them": lambda data: concatenate([data.head(5), data.sort("x", descending=True)]),
    "a shuffled one among them": lambda data: interleave([data.shuffle(3), data]),
}


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("name", PLANS)
def test_pieces_are_the_rows_of_the_plan_and_their_counts(data: Dataset, name: str) -> None:
    wanted = PLANS[name](data)
    found = partitions(wanted)
    assert found is not None
    rows = []
    for index, item in enumerate(found.items):
        partition = [row for batch in found.batches(index) for row in batch.to_pylist()] if item.rows else []
        assert len(partition) == item.rows
        rows += partition
    assert rows == list(wanted.rows())


def test_counting_a_filter_reads_its_columns_only(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[object] = []
    source = optimize(data._plan).source  # type: ignore[attr-defined]
    original = type(source).read

    def spied(self: object, fragment: object, pushdown: object) -> object:
        read.append(pushdown.columns)  # type: ignore[attr-defined]
        return original(self, fragment, pushdown)

    monkeypatch.setattr(type(source), "read", spied)
    found = partitions(data.filter("even"))
    assert found is not None
    assert set(read) == {("even",)}
    assert sum(found.lengths) == 50


def test_counting_nothing_costs_no_read(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    source = optimize(data._plan).source  # type: ignore[attr-defined]
    monkeypatch.setattr(type(source), "read", None)
    found = partitions(data.slice(3, 90).train_test_split()["train"])
    assert found is not None
    assert sum(found.lengths) == 70


def test_rows_that_only_running_tells_are_no_pieces(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("x\n1\n2\n")
    assert partitions(Dataset.from_file(str(tmp_path / "a.csv"))) is None
    assert partitions(Dataset.from_dict({"x": [1, 2]}).shuffle(1)) is None


def test_only_rows_in_memory_are_resident(data: Dataset) -> None:
    in_memory, in_files = partitions(Dataset.from_dict({"x": [1]})), partitions(data)
    assert in_memory is not None
    assert in_memory.resident
    assert in_files is not None
    assert not in_files.resident


class Reads:
    """The rows of files that were decoded."""

    def __init__(self, data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
        self.rows = 0
        source = type(optimize(data._plan).source)  # type: ignore[attr-defined]
        original = source.read

        def counted(source: object, fragment: object, pushdown: object) -> object:
            for batch in original(source, fragment, pushdown):
                self.rows += batch.num_rows
                yield batch

        monkeypatch.setattr(source, "read", counted)


COMBINED: dict[str, Callable[[Dataset], Dataset]] = {
    "concatenated": lambda data: concatenate([data, data.skip(4)]),
    "in turn": lambda data: interleave([data, data]),
    "by chance": lambda data: interleave([data, data], [0.5, 0.5], 1, "all_exhausted_without_replacement"),
    "nested": lambda data: concatenate([interleave([data, data]), data.repeat(3)]),
    "repeated": lambda data: data.repeat(9),
}


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("name", COMBINED)
def test_a_place_near_the_end_costs_what_it_takes(data: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Combined inputs are not run into a file, and what lies before the place is not decoded."""
    monkeypatch.setattr("lakefeed.run.local_runner.spill", None)
    made = COMBINED[name](data)
    expected = [row["x"] for row in made.rows()]
    reads = Reads(data, monkeypatch)
    feed = made._runner.feed(optimize(made._plan), None, None)
    assert reads.rows == 0, "what is known is not counted"
    start = len(expected) - 3
    found = [value for _, batch in feed.batches(start) for value in batch["x"].to_pylist()]
    assert found[-3:] == expected[-3:]
    assert reads.rows <= 60, f"of {len(expected)} rows"


@pytest.mark.usefixtures("short_stretches")
@pytest.mark.parametrize("name", COMBINED)
def test_in_order_every_piece_is_decoded_about_once(data: Dataset, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made = COMBINED[name](data)
    feed = replace(made._runner.feed(optimize(made._plan), None, None), settings=ReadSettings(threads=1))
    reads = Reads(data, monkeypatch)
    rows = sum(batch.num_rows for _, batch in feed.batches())
    assert rows <= reads.rows <= rows + 50, "stretches share the partitions on their edges"


@pytest.mark.usefixtures("short_stretches")
def test_functions_see_the_rows_of_an_interleaved_input_once(data: Dataset) -> None:
    seen: list[int] = []

    def noted(row: dict[str, int]) -> dict[str, int]:
        seen.append(row["x"])
        return {"x": row["x"]}

    x = data.select(["x"])
    made = interleave([x.map(noted, schema=X), x, x])
    feed = made._runner.feed(optimize(made._plan), None, None)
    assert sum(batch.num_rows for _, batch in feed.batches()) == 300
    assert sorted(seen) == list(range(100))


@pytest.mark.usefixtures("short_stretches")
def test_recent_rows_of_interleaved_partitions_go_with_the_reader(data: Dataset) -> None:
    made = interleave([interleave([data, data]), data])
    feed = made._runner.feed(optimize(made._plan), None, None)
    with closing(feed.batches()) as batches:
        next(batches)
    (stretch, *_) = [item.reading for item in feed.partitions.items]
    assert isinstance(stretch, interleaved_partitions.InterleavedPartition)
    inner = stretch.mixed.inputs[0][0].reading
    assert isinstance(inner, interleaved_partitions.InterleavedPartition)
    recent = [*stretch.mixed.recent, *inner.mixed.recent]
    assert not any(each.rows._values or each.raw._values for each in recent)
    assert pickle.loads(pickle.dumps(stretch)).mixed.recent[0].rows._values == {}


def test_only_the_input_that_must_be_run_is_run_into_a_file(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    made = concatenate([data.select(["x"]), data.select(["x"]).sort("x").head(30)])
    reads = Reads(data, monkeypatch)
    found = partitions(made)
    assert found is not None
    assert 0 < found.mapped < 1000
    assert found.shared, "rows of a map must not be written to"
    assert not found.resident
    assert reads.rows <= 2 * 100, "keys, and rows, of what is sorted"


def test_the_number_of_combined_rows_is_known(data: Dataset) -> None:
    assert len(concatenate([data, data.head(7)]).repeat(3).shuffle(1).skip(1)) == 3 * 107 - 1
    with pytest.raises(TypeError, match="not known"):
        len(concatenate([data, data.filter("even")]))


def test_a_plan_of_many_combinations_is_no_deep_recursion(data: Dataset) -> None:
    made = one = Dataset.from_dict({"x": [1, 2]})
    for _ in range(1500):
        made = concatenate([made, one])
    found = partitions(made)
    assert found is not None
    assert sum(found.lengths) == len(made) == 3002
