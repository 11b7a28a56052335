from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from lakefeed.loaders.world import RankSharding, World
from lakefeed.plan.order import POOL_BYTES, order

PIECES = st.lists(st.tuples(st.integers(0, 40), st.sampled_from([0, 1, POOL_BYTES // 3, POOL_BYTES])), max_size=12)
WINDOWS = st.one_of(st.none(), st.integers(1, 400))
SEEDS = st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1))


def numbered(lengths: list[int], sizes: list[int], seed: int | None, window: int | None, start: int = 0) -> list[int]:
    begins = np.cumsum(lengths, dtype=np.int64) - lengths
    found: list[int] = []
    for span in order(lengths, sizes, seed, window).spans(start):
        rows = np.arange(span.start, span.stop) if span.rows is None else begins[span.partitions] + span.rows
        assert len(rows) == span.stop - span.start
        assert span.stop > start
        found += rows[max(start - span.start, 0) :].tolist()
    return found


@given(PIECES, SEEDS, WINDOWS)
def test_every_order_is_a_permutation(partitions: list[tuple[int, int]], seed: int | None, window: int | None) -> None:
    lengths, sizes = [length for length, _ in partitions], [size for _, size in partitions]
    assert sorted(numbered(lengths, sizes, seed, window)) == list(range(sum(lengths)))


@given(PIECES, SEEDS, WINDOWS, st.data())
def test_every_order_can_be_entered_anywhere(
    partitions: list[tuple[int, int]], seed: int | None, window: int | None, data: st.DataObject
) -> None:
    lengths, sizes = [length for length, _ in partitions], [size for _, size in partitions]
    start = data.draw(st.integers(0, sum(lengths)))
    assert numbered(lengths, sizes, seed, window, start) == numbered(lengths, sizes, seed, window)[start:]


@given(PIECES, st.integers(0, 9), WINDOWS)
def test_spans_lie_in_the_upcoming_pools(partitions: list[tuple[int, int]], seed: int, window: int | None) -> None:
    made = order([length for length, _ in partitions], [size for _, size in partitions], seed, window)
    pools = {pool.start: pool for pool in made.upcoming()}
    for span in made.spans():
        assert pools[span.pool.start] == span.pool
        assert span.pool.start <= span.start < span.stop <= span.pool.stop
        if span.partitions is not None:
            assert set(span.partitions.tolist()) <= set(span.pool.partitions)


RANKS = st.integers(1, 7)
SIZES = st.integers(1, 9)


def deals(rows: int, size: int, ranks: int, drop_last: bool, begin: int = 0) -> list[RankSharding]:
    return [RankSharding(rows, size, World(rank, ranks), drop_last, begin) for rank in range(ranks)]


@given(st.integers(0, 200), SIZES, RANKS, st.booleans())
def test_ranks_take_the_same_steps_and_every_row_once(rows: int, size: int, ranks: int, drop_last: bool) -> None:
    rows = rows if drop_last or not rows else max(rows, ranks)
    dealt = deals(rows, size, ranks, drop_last)
    assert len({deal.steps for deal in dealt}) == 1
    seen: list[int] = []
    for step in range(dealt[0].steps):
        ranges = [deal.range(step) for deal in dealt]
        lengths = [stop - start for start, stop in ranges]
        assert min(lengths) >= 1
        assert max(lengths) <= (2 if size == 1 else size)
        assert max(lengths) == size or step >= dealt[0].steps - 2
        assert not drop_last or set(lengths) == {size}
        seen += [place for start, stop in ranges for place in range(start, stop)]
        assert dealt[0].end(step) == len(seen)
    kept = rows - rows % (size * ranks) if drop_last else rows
    assert seen == list(range(kept))


@given(st.integers(1, 120), SIZES, RANKS, st.booleans())
def test_a_deal_entered_at_any_step_goes_on_as_before(rows: int, size: int, ranks: int, drop_last: bool) -> None:
    rows = max(rows, ranks)
    for deal in deals(rows, size, ranks, drop_last):
        whole = [deal.range(step) for step in range(deal.steps)]
        for step in range(deal.steps):
            rest = RankSharding(rows, size, deal.world, drop_last, deal.end(step))
            assert [rest.range(later) for later in range(rest.steps)] == whole[step + 1 :]


@given(st.integers(1, 120), SIZES, RANKS, SIZES, RANKS, st.data())
def test_another_world_goes_on_with_the_rows_not_seen(
    rows: int, size: int, ranks: int, other_size: int, others: int, data: st.DataObject
) -> None:
    rows = max(rows, ranks)
    first = deals(rows, size, ranks, drop_last=False)
    step = data.draw(st.integers(0, first[0].steps - 1))
    begin = first[0].end(step)
    left = rows - begin
    if 0 < left < others:
        return
    rest = deals(rows, other_size, others, False, begin)
    seen = [place for at in range(rest[0].steps) for deal in rest for place in range(*deal.range(at))]
    assert seen == list(range(begin, rows))
