"""Exactly once, proven on what dies: runs of routines under SIGKILL while a writer appends."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.routines import Appended, Removed, Routine, history, pending
from tests.sdk.killing import AS_OFTEN, append, finish, ids, killed_at_random, meanwhile
from tests.sdk.victims import both, note_down, same, work_off

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]
COPY = Routine("copy", same, "numbers", "copies")


@pytest.fixture
def numbers() -> Iterator[int]:
    return itertools.count()


def rows_of(numbers: Iterator[int], count: int) -> list[int]:
    return list(itertools.islice(numbers, count))


@AS_OFTEN
@pytest.mark.parametrize(
    "routine",
    [
        pytest.param(COPY, id="plain"),
        pytest.param(replace(COPY, max_rows_per_run=4), id="in parts"),
        pytest.param(replace(COPY, when=Appended(min_rows=20)), id="put together"),
    ],
)
def test_every_row_has_its_result_once(routine: Routine, kills: int, numbers: Iterator[int]) -> None:
    append("numbers", rows_of(numbers, 7))
    with meanwhile(lambda: append("numbers", rows_of(numbers, 7))):
        killed_at_random(kills, work_off, routine)
    finish(work_off, routine)
    assert ids("copies") == ids("numbers") == list(range(next(numbers)))
    assert pending(routine) is None


@AS_OFTEN
def test_of_several_sources(kills: int, numbers: Iterator[int]) -> None:
    routine = Routine("both", both, ("left", "right"), "copies", max_rows_per_run=10)
    names = itertools.cycle(["left", "right", "right"])
    for _ in range(2):
        append(next(names), rows_of(numbers, 7))
    with meanwhile(lambda: append(next(names), rows_of(numbers, 7))):
        killed_at_random(kills, work_off, routine)
    finish(work_off, routine)
    assert Counter(ids("copies")) == Counter(range(next(numbers)))
    for name in ("left", "right"):
        mine = set(ids(name))
        assert [number for number in ids("copies") if number in mine] == ids(name), "in the order of the source"


@AS_OFTEN
def test_of_removed_rows(kills: int, numbers: Iterator[int]) -> None:
    routine = Routine("gone", same, "numbers", "copies", when=Removed(), max_rows_per_run=2)
    append("numbers", rows_of(numbers, 4_000))
    removed = itertools.count()

    def remove() -> None:
        first = next(removed) * 5
        Dataset("numbers").delete_rows(f"id >= {first} and id < {first + 5}")

    remove()
    with meanwhile(remove, pause=0.4):
        killed_at_random(kills, work_off, routine)
    finish(work_off, routine)
    assert ids("copies") == list(range(next(removed) * 5))


@AS_OFTEN
def test_a_side_effect_happens_at_least_once_with_the_same_token(
    kills: int, numbers: Iterator[int], home: Path
) -> None:
    routine = Routine("note", note_down, "numbers", None, max_rows_per_run=5)
    append("numbers", rows_of(numbers, 7))
    with meanwhile(lambda: append("numbers", rows_of(numbers, 7))):
        killed_at_random(kills, work_off, routine)
    finish(work_off, routine)
    effects = [json.loads(line) for line in (home / "effects.jsonl").read_text().splitlines()]
    of_token = dict(effects)
    assert all(of_token[token] == rows for token, rows in effects), "the same token, the same rows"
    assert [row for rows in of_token.values() for row in rows] == ids("numbers")
    assert Dataset("routine-logs.note").to_arrow()["token"].to_pylist() == list(of_token)


@AS_OFTEN
def test_three_at_once_of_which_some_die(kills: int, numbers: Iterator[int]) -> None:
    for _ in range(kills):
        append("numbers", rows_of(numbers, 3))
    with meanwhile(lambda: finish(work_off, COPY, processes=2), pause=0):
        killed_at_random(kills, work_off, COPY)
    finish(work_off, COPY)
    assert ids("copies") == ids("numbers")
    assert [each.rows_out for each in history(COPY)] == [3] * kills
