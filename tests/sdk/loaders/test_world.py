from __future__ import annotations

import pytest

from lakefeed.errors import InvalidArgumentError
from lakefeed.loaders.world import RankSharding, World


@pytest.mark.parametrize(("rank", "size"), [(1, 1), (-1, 2), (0, 0), (5, 3), ("0", 1), (0.0, 1)])
def test_a_rank_outside_the_world_is_refused(rank: object, size: object) -> None:
    with pytest.raises(InvalidArgumentError, match="rank must be in range"):
        World(rank, size)  # type: ignore[arg-type]


def test_the_environment_of_a_launcher(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert World.from_environment() == World()
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert World.from_environment() == World(2, 4)
    monkeypatch.setenv("RANK", "two")
    with pytest.raises(InvalidArgumentError, match="'two'"):
        World.from_environment()


def test_the_remainder_is_spread_so_that_steps_match() -> None:
    """23 rows, 3 ranks, batches of 4: 12, then 11 as 4 + 4 + 3."""
    deals = [RankSharding(23, 4, World(rank, 3), drop_last=False) for rank in range(3)]
    assert [[deal.range(step) for step in range(deal.steps)] for deal in deals] == [
        [(0, 4), (12, 16)],
        [(4, 8), (16, 20)],
        [(8, 12), (20, 23)],
    ]


def test_a_remainder_too_small_for_all_ranks_shares_with_the_step_before() -> None:
    deals = [RankSharding(13, 4, World(rank, 3), drop_last=False) for rank in range(3)]
    assert [[stop - start for start, stop in map(deal.range, range(deal.steps))] for deal in deals] == [
        [4, 1],
        [3, 1],
        [3, 1],
    ]


def test_fewer_rows_than_ranks_says_so() -> None:
    with pytest.raises(InvalidArgumentError, match="2 rows are too few for 3 ranks"):
        RankSharding(2, 8, World(0, 3), drop_last=False)
    assert RankSharding(2, 8, World(0, 3), drop_last=True).steps == 0
    assert RankSharding(0, 8, World(0, 3), drop_last=False).steps == 0
