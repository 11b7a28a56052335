from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pytest

from lakefeed.config import ReadSettings
from lakefeed.errors import TransformError
from lakefeed.ops import FilterRows, Scan
from lakefeed.plan import Fragment, Pushdown
from lakefeed.plan.order import POOL_BYTES, order
from lakefeed.run import gather as module
from lakefeed.run.epoch_reader import EpochReader, Range
from lakefeed.run.gather import measured_groups
from lakefeed.run.partitions import partitions_of

# Not of one width, so that a partition has the size that the source says.
SCHEMA = pa.schema({"x": pa.int64(), "text": pa.string()})
SETTINGS = ReadSettings(threads=2, prefetch_bytes=4 * POOL_BYTES)


@dataclass(frozen=True, eq=False)
class Counting:
    """A source of partitions that says which were read, and when."""

    lengths: tuple[int, ...]
    size: int = POOL_BYTES
    reads: list[int] = field(default_factory=list)

    schema = SCHEMA
    identity = "counting"
    ranged = True
    nested = False

    def count(self) -> int:
        return sum(self.lengths)

    def fragments(self, pushdown: Pushdown) -> Iterator[Fragment]:
        return (Fragment(index, rows, self.size) for index, rows in enumerate(self.lengths))

    def read(self, fragment: Fragment, pushdown: Pushdown) -> Iterator[pa.RecordBatch]:
        self.reads.append(fragment.key)
        begin = sum(self.lengths[: fragment.key])
        rows = range(begin, begin + self.lengths[fragment.key])
        yield pa.record_batch({"x": rows, "text": [str(row) for row in rows]}, SCHEMA)

    def describe(self) -> str:
        return "counting"


def feed(source: Counting, seed: int | None, window: int | None) -> EpochReader:
    partitions = partitions_of(Scan(source), SETTINGS)
    assert partitions is not None
    source.reads.clear()
    return EpochReader(partitions, order(partitions.lengths, partitions.sizes, seed, window), SETTINGS)


def values(made: EpochReader, start: int = 0) -> list[int]:
    return [value for _, batch in made.batches(start) for value in batch["x"].to_pylist()]


@pytest.mark.parametrize("seed", [None, 7])
def test_every_piece_is_decoded_once(seed: int | None) -> None:
    source = Counting((5, 0, 9, 3, 8, 1))
    assert sorted(values(feed(source, seed, 4))) == list(range(26))
    assert sorted(source.reads) == [0, 2, 3, 4, 5]


@pytest.mark.parametrize("seed", [None, 7])
def test_a_start_anywhere_gives_the_rest(seed: int | None) -> None:
    made = feed(Counting((5, 0, 9, 3, 8, 1)), seed, 4)
    whole = values(made)
    assert [values(made, start) for start in range(27)] == [whole[start:] for start in range(27)]


@pytest.mark.parametrize("seed", [None, 7])
def test_a_start_near_the_end_decodes_the_last_pieces_only(seed: int | None) -> None:
    source = Counting((10,) * 20)
    assert len(values(feed(source, seed, 10), 191)) == 9
    assert len(source.reads) == 1


def test_pieces_of_which_nothing_is_wanted_are_not_decoded() -> None:
    """A rank whose batches jump over whole partitions."""
    source = Counting((3,) * 40)
    made = feed(source, None, None)

    def wanted(low: int, high: int) -> list[Range]:
        return [
            (max(low, start), min(high, start + 6)) for start in range(0, 120, 60) if start < high and low < start + 6
        ]

    found = [value for _, batch in made.batches(0, wanted) for value in batch["x"].to_pylist()]
    assert found == [*range(6), *range(60, 66)]
    assert sorted(source.reads) == [0, 1, 20, 21]


def test_reading_ahead_is_bounded() -> None:
    source = Counting((10,) * 50)
    batches = feed(source, None, None).batches()
    next(batches)
    batches.close()
    assert len(source.reads) <= 1 + SETTINGS.threads + 1


def test_more_than_the_budget_is_not_read_ahead() -> None:
    source = Counting((10,) * 50, size=5 * POOL_BYTES)
    batches = feed(source, 1, 5).batches()
    next(batches)
    batches.close()
    assert len(source.reads) == 1


def test_closing_leaves_no_thread() -> None:
    batches = feed(Counting((10,) * 50), 3, 5).batches()
    next(batches)
    assert any(thread.name.startswith("lakefeed-feed") for thread in threading.enumerate())
    batches.close()
    assert not any(thread.name.startswith("lakefeed-feed") for thread in threading.enumerate())


def test_wide_gathers_are_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    """A global shuffle must not copy all rows at once."""
    monkeypatch.setattr(module, "GATHER_BYTES", 80)
    made = feed(Counting((50, 50), size=0), 5, None)
    batches = list(made.batches())
    assert 1 < max(batch.num_rows for _, batch in batches) <= 10
    assert [stop - start for (start, stop), _ in batches] == [batch.num_rows for _, batch in batches]
    assert sorted(values(made)) == list(range(100))


def test_ranges_are_grouped_up_to_the_bytes() -> None:
    ranges = [(0, 2), (4, 6), (8, 15)]
    fixed, text = pa.schema({"x": pa.int64()}), pa.schema({"x": pa.string()})
    groups = [[(0, 2), (4, 6)], [(8, 12)], [(12, 15)]]
    assert list(measured_groups(ranges, fixed, lambda _: np.empty(0, np.int64), 32)) == groups
    assert list(measured_groups(ranges, text, lambda positions: np.full(len(positions), 8), 32)) == groups
    # Rows of 0, 1, 2, … bytes: the measured bytes decide, and a row that is larger than the limit stands alone.
    assert list(measured_groups(ranges, text, lambda positions: positions, 12)) == [
        [(0, 2), (4, 6)],
        *([(row, row + 1)] for row in range(8, 15)),
    ]
    assert list(measured_groups([], text, lambda positions: positions, 4)) == []


def test_what_a_user_function_gives_must_not_change() -> None:
    calls: Counter[int] = Counter()

    def fickle(row: dict[str, int]) -> bool:
        calls[row["x"]] += 1
        return calls[row["x"]] == 1 or row["x"] % 2 == 0

    partitions = partitions_of(FilterRows(Scan(Counting((5, 5))), fickle), SETTINGS)
    assert partitions is not None
    made = EpochReader(partitions, order(partitions.lengths, partitions.sizes, None, None), SETTINGS)
    with pytest.raises(TransformError, match=r"5 rows when they were counted and 3 now"):
        values(made)


def test_user_functions_run_in_the_callers_thread() -> None:
    seen: set[str] = set()

    def kept(_: dict[str, int]) -> bool:
        seen.add(threading.current_thread().name)
        return True

    partitions = partitions_of(FilterRows(Scan(Counting((5, 5, 5))), kept), SETTINGS)
    assert partitions is not None
    values(EpochReader(partitions, order(partitions.lengths, partitions.sizes, 1, 3), SETTINGS))
    assert seen == {threading.current_thread().name}


def test_batches_of_resident_rows_in_order_are_lent() -> None:
    resident = feed(Counting((5,), size=0), None, None)
    assert resident.lends
    assert replace(resident, order=order([5], [0], 4, 1)).lends
    assert not replace(resident, order=order([5], [0], 4, 2)).lends
    assert not feed(Counting((5,)), None, None).lends
