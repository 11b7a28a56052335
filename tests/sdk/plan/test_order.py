from __future__ import annotations

import numpy as np
import pytest

from lakefeed._rng import Indices, permutation, words
from lakefeed._units import MIB
from lakefeed.plan.order import POOL_BYTES, Arrangement, Order, Shuffled, order

BIG = POOL_BYTES


def sequence(made: Order, lengths: list[int], start: int = 0) -> Indices:
    """The rows (numbered over all partitions) in the order in which they come."""
    begins = np.cumsum(lengths) - lengths
    found = [np.zeros(0, np.int64)]
    for span in made.spans(start):
        assert span.stop > start
        if span.rows is None:
            first = begins[span.pool.partitions[0]]
            found.append(np.arange(first, first + span.stop - span.start))
        else:
            assert span.partitions is not None
            found.append(begins[span.partitions] + span.rows)
        found[-1] = found[-1][max(start - span.start, 0) :]
    return np.concatenate(found)


def shuffled(lengths: list[int], sizes: list[int] | int, seed: int | None, window: int | None) -> Indices:
    sizes = [sizes] * len(lengths) if isinstance(sizes, int) else sizes
    return sequence(order(lengths, sizes, seed, window), lengths)


def test_random_words_are_the_same_for_ever() -> None:
    assert words(3, 42).tolist() == [1587852024645073290, 2611271723512893552, 4982337093617253890]
    assert words(2, -1, 2**40).tolist() == [7348289961523713867, 7455502612469404306]


def test_permutations_are_the_same_for_ever() -> None:
    assert permutation(10, 0).tolist() == [0, 8, 9, 3, 7, 5, 1, 2, 6, 4]
    assert permutation(10, 42, 3).tolist() == [3, 4, 5, 0, 1, 6, 2, 7, 8, 9]


# A change of any of these literals breaks the checkpoints that people have: never edit them.
@pytest.mark.parametrize(
    ("lengths", "size", "seed", "window", "expected"),
    [
        ([4, 0, 6, 2], 0, 42, None, [1, 0, 7, 11, 6, 10, 3, 4, 9, 5, 2, 8]),
        ([4, 0, 6, 2], 1, 42, None, [1, 0, 7, 11, 6, 10, 3, 4, 9, 5, 2, 8]),
        ([4, 0, 6, 2], 0, 42, 3, [6, 3, 9, 11, 1, 0, 4, 5, 2, 8, 10, 7]),
        ([4, 0, 6, 2], 1, 43, 3, [11, 4, 1, 6, 8, 5, 9, 3, 2, 7, 10, 0]),
        ([4, 0, 6, 2], BIG, 42, 3, [7, 5, 4, 6, 8, 9, 11, 10, 3, 2, 1, 0]),
        ([3, 5, 4], BIG, -7, 100, [3, 1, 4, 6, 2, 8, 5, 11, 7, 9, 0, 10]),
    ],
)
def test_orders_are_the_same_for_ever(
    lengths: list[int], size: int, seed: int, window: int | None, expected: list[int]
) -> None:
    assert shuffled(lengths, size, seed, window).tolist() == expected


def test_a_long_order_is_the_same_for_ever() -> None:
    rows = shuffled([30_000] * 10, 30 * MIB, 7, 10_000)
    assert rows[:5].tolist() == [127191, 186432, 208027, 205228, 142661]
    assert rows[[100_000, 200_000, -1]].tolist() == [14824, 69471, 43866]
    assert int((rows * np.arange(len(rows)) % 1_000_003).sum()) == 149740710635


@pytest.mark.parametrize("seed", [0, 42])
def test_a_window_of_one_is_the_identity(seed: int) -> None:
    assert shuffled([3, 0, 5], 1, seed, 1).tolist() == list(range(8))


def test_without_a_seed_rows_stand_as_they_are() -> None:
    assert shuffled([3, 0, 5], 1, None, 100).tolist() == list(range(8))


def test_another_seed_is_another_order() -> None:
    assert shuffled([1000], 0, 1, None).tolist() != shuffled([1000], 0, 2, None).tolist()


@pytest.mark.parametrize("size", [0, 1, BIG])
def test_a_window_of_all_rows_is_a_fair_shuffle(size: int) -> None:
    """Every row comes to every place equally often (chi-square, 99.99 % quantile of 11*11 degrees of freedom)."""
    runs, rows = 1_000, 12
    counts = np.zeros((rows, rows))
    for seed in range(runs):
        counts[np.arange(rows), shuffled([5, 3, 4], size, seed, rows)] += 1
    expected = runs / rows
    assert float(((counts - expected) ** 2 / expected).sum()) < 188


def test_a_fair_shuffle_draws_every_permutation_equally_often() -> None:
    runs = 2_400
    drawn: dict[tuple[int, ...], int] = {}
    for seed in range(runs):
        found = tuple(shuffled([1, 2, 1], 1, seed, None).tolist())
        drawn[found] = drawn.get(found, 0) + 1
    assert len(drawn) == 24
    assert sum((count - runs / 24) ** 2 / (runs / 24) for count in drawn.values()) < 58  # 99.99 %, 23 degrees


@pytest.mark.parametrize(
    ("lengths", "size"),
    [([1_000_000], 0), ([1_000_000], 64 * MIB), ([10_000] * 100, MIB), ([3_125] * 320, 4 * MIB), ([5_000] * 200, 0)],
    ids=["resident", "one partition", "many partitions", "many pools", "chunks"],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_default_window_mixes_well(lengths: list[int], size: int, seed: int) -> None:
    rows = shuffled(lengths, size, seed, 10_000)
    assert abs(float(np.corrcoef(rows, np.arange(len(rows)))[0, 1])) < 0.05
    assert float((np.abs(np.diff(rows)) == 1).mean()) < 0.01


@pytest.mark.parametrize(
    ("lengths", "size"),
    # The second is 2M rows of 276 bytes as `save` cuts them when there are some wider columns besides.
    [([1_000_000], 0), ([8_475] * 236, 8_475 * 276)],
    ids=["resident", "row groups"],
)
def test_batches_of_a_windowed_shuffle_span_the_table(lengths: list[int], size: int) -> None:
    rows = shuffled(lengths, size, 5, 10_000)
    batches = rows[: len(rows) // 256 * 256].reshape(-1, 256)
    assert float(np.mean(batches.max(axis=1) - batches.min(axis=1))) >= 0.95 * len(rows)
    assert float((np.abs(np.diff(rows)) == 1).mean()) < 0.01


def test_empty_pieces_do_not_change_the_order() -> None:
    """Whether a source pruned a partition or a filter emptied it must not matter."""
    lengths, sizes = np.array([5, 0, 7, 0, 6]), np.array([BIG, BIG, BIG, BIG, BIG])
    there = sequence(order(lengths.tolist(), sizes.tolist(), 3, 4), lengths.tolist())
    kept = lengths[lengths > 0].tolist()
    assert there.tolist() == sequence(order(kept, [BIG] * 3, 3, 4), kept).tolist()


def test_chunks_of_a_resident_table_do_not_change_the_order() -> None:
    assert shuffled([12], 0, 3, 4).tolist() == shuffled([5, 0, 4, 3], 0, 3, 4).tolist()


@pytest.mark.parametrize("size", [0, 1, BIG])
@pytest.mark.parametrize("window", [None, 1, 2, 7, 64, 1000])
def test_a_resume_at_every_place_continues_the_order(size: int, window: int | None) -> None:
    lengths = [20, 0, 13, 30]
    made = order(lengths, [size] * 4, 11, window)
    whole = sequence(made, lengths)
    for start in range(len(whole) + 1):
        assert sequence(made, lengths, start).tolist() == whole[start:].tolist()


def test_pools_hold_about_the_window_and_no_piece_twice() -> None:
    made = order([100] * 10, [BIG // 2] * 10, 1, 250)
    pools = list(made.upcoming())
    assert sorted(partition for pool in pools for partition in pool.partitions) == list(range(10))
    assert sorted(pool.stop - pool.start for pool in pools) == [200, 200, 300, 300]


def test_a_resume_needs_only_the_pools_from_there_on() -> None:
    made = order([100] * 10, [BIG] * 10, 1, 100)
    assert [pool.start for pool in made.upcoming(950)] == [900]
    assert list(made.upcoming(1000)) == []
    assert list(order([], [], 1, 5).spans()) == []


def test_the_picks_of_a_span_put_the_rows_in_place() -> None:
    made = order([5, 4], [1, 1], 2, None)
    (span,) = made.spans()
    assert span.partitions is not None
    assert span.rows is not None
    places = np.array([0, 3, 4, 8])
    picks, arrange = span.picks(places)
    joined = [(pick.partition, row) for pick in picks for row in pick.rows.tolist()]
    wanted = list(zip(span.partitions[places].tolist(), span.rows[places].tolist(), strict=True))
    assert [joined[index] for index in arrange.tolist()] == wanted


@pytest.mark.parametrize("rows", [1, 5, 1000, 5000])
def test_a_large_window_comes_in_several_spans(monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    chosen = order([rows // 3, rows - rows // 3], [0, 0], 7, None)
    (whole,) = chosen.spans()
    monkeypatch.setattr("lakefeed.plan.order.SPAN_ROWS", 300)
    parts = list(chosen.spans())
    assert [(part.start, part.stop) for part in parts] == [
        (start, min(start + 300, rows)) for start in range(0, rows, 300)
    ]
    for name in ("partitions", "rows"):
        assert np.array_equal(np.concatenate([getattr(part, name) for part in parts]), getattr(whole, name))
    for start in (0, rows // 2, rows - 1):
        assert next(chosen.spans(start)).start == start // 300 * 300


@pytest.mark.parametrize("rows", [1, 5, 1000, 5000])
def test_sorting_rows_by_their_keys_is_the_global_shuffle(rows: int) -> None:
    chosen = order([rows // 3, 0, rows - rows // 3], [0, 0, 0], 7, None)
    assert isinstance(chosen, Shuffled)
    (whole,) = chosen.spans()
    starts = np.array([0, rows // 3, rows // 3])
    keys = [chosen.keys(start, min(start + 700, rows)) for start in range(0, rows, 700)]
    words, places = (np.concatenate(part) for part in zip(*keys, strict=True))
    assert np.array_equal(np.lexsort((places, words)), starts[whole.partitions] + whole.rows)


# A change of any of these literals breaks the checkpoints that people have: never edit them.
@pytest.mark.parametrize(
    ("window", "arrangement", "expected"),
    [
        (1, "permuted", [0, 1, 2, 3, 10, 11, 4, 5, 6, 7, 8, 9]),
        (3, "permuted", [1, 0, 2, 3, 11, 10, 5, 6, 4, 7, 8, 9]),
        (3, "in order", [1, 0, 2, 3, 6, 5, 4, 9, 7, 8, 11, 10]),
    ],
)
def test_whole_partitions(window: int, arrangement: Arrangement, expected: list[int]) -> None:
    lengths = [4, 0, 6, 2]
    made = order(lengths, [BIG] * 4, 42, window, arrangement)
    assert sequence(made, lengths).tolist() == expected
    assert len(made) == 12
    for start in range(13):
        assert sequence(made, lengths, start).tolist() == expected[start:]
        assert [pool.partitions for pool in made.upcoming(start)] == [
            (partition,) for partition in dict.fromkeys(span.pool.partitions[0] for span in made.spans(start))
        ]
    assert sequence(order([4, 6, 2], [BIG] * 3, 42, window, arrangement), [4, 6, 2]).tolist() == expected
    assert sequence(order([], [], 42, window, arrangement), []).tolist() == []
