"""Failed rows are recorded exactly once, whatever is killed, and whichever rows fail in the next attempt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal, TypeAlias

import pytest

from lakefeed import Dataset
from lakefeed.compute import Dask, Engine, Processes
from lakefeed.routines import Routine, failed_rows, history, pending, retry_failed, run_versions
from tests.sdk.killing import AS_OFTEN, append, finish, ids, killed_at_random
from tests.sdk.victims import (
    decoded_rows,
    failing_batches,
    failing_rows,
    half_mended_rows,
    mended_images,
    mended_rows,
    retry,
    rows_failing_by_chance,
    work_and_retry,
    work_off,
)

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]
WORK = Routine("work", failing_rows, "numbers", "out", on_error="quarantine", max_rows_per_run=20)
OnError: TypeAlias = Literal["quarantine", "null"]
SHARE_IMAGES, IMAGES = 400, 2_000


@pytest.fixture
def numbers() -> Iterator[int]:
    return itertools.count()


def rows_of(numbers: Iterator[int], count: int) -> list[int]:
    return list(itertools.islice(numbers, count))


def failed_ids(routine: Routine) -> list[int]:
    """The failed rows, which the dataset of the errors shows too."""
    shown = Dataset(routine.errors_dataset).to_arrow()["key"].to_pylist()
    assert sorted(shown) == sorted(str(row.key) for row in failed_rows(routine))
    return [int(key) for key in shown]


@pytest.mark.parametrize("on_error", ["quarantine", "null"])
@AS_OFTEN
def test_every_row_has_its_result_or_its_error_once(kills: int, on_error: OnError, numbers: Iterator[int]) -> None:
    work = replace(WORK, on_error=on_error)

    def keep_pending() -> None:
        if pending(work) is None:
            append("numbers", rows_of(numbers, 60))

    def keep_failing() -> None:
        if len(failed_rows(work)) < 5:
            keep_pending()
            work_off(work)

    killed_at_random(kills, work_off, work, refill=keep_pending)
    finish(work_off, work, processes=2)
    check_each_is_there_once(work)
    assert {number for number in ids("numbers") if number % 10 == 3} <= set(failed_ids(work))
    assert sum(each.failed for each in history(work)) == len(failed_ids(work))
    half_mended = replace(work, fn=half_mended_rows)
    killed_at_random(kills, retry, half_mended, refill=keep_failing)
    killed_at_random(kills, work_and_retry, half_mended, refill=keep_pending)
    finish(retry, half_mended, processes=2)
    finish(work_off, work)
    check_each_is_there_once(work)
    retry_failed(replace(work, fn=mended_rows))
    assert failed_ids(work) == []
    assert sorted(sized_ids(work)) == sorted(ids("out")) == ids("numbers") == list(range(next(numbers)))


def check_each_is_there_once(work: Routine) -> None:
    """Each row has its result, or it is among the failed ones, and then its row of nulls is in the output."""
    total = len(ids("numbers"))
    assert sorted([*sized_ids(work), *failed_ids(work)]) == list(range(total))
    assert sorted(ids(work.target)) == sorted(sized_ids(work) if work.on_error == "quarantine" else range(total))


def sized_ids(work: Routine) -> list[int]:
    return [row["id"] for row in Dataset(work.target).filter("size is not null").rows()]


def test_of_generators(numbers: Iterator[int]) -> None:
    work = replace(WORK, fn=failing_batches)
    append("numbers", rows_of(numbers, 60))
    killed_at_random(3, work_off, work)
    finish(work_off, work, processes=2)
    check_each_is_there_once(work)


@AS_OFTEN
def test_a_failure_loses_no_row_before_it_and_repeats_none(kills: int, numbers: Iterator[int]) -> None:
    work = replace(WORK, on_error="fail", max_rows_per_run=None, fn=rows_failing_by_chance)

    def keep_pending() -> None:
        if pending(work) is None:
            append("numbers", rows_of(numbers, 200))

    killed_at_random(kills, attempt, work, refill=keep_pending)
    keep_pending()
    finish(attempt, work)
    assert ids("out") == list(range(len(ids("out"))))
    list(run_versions(replace(work, fn=mended_rows)))
    assert ids("out") == list(range(next(numbers)))


def attempt(routine: Routine) -> None:
    """A run that fails, or is killed before."""
    for _ in range(3):
        try:
            work_off(routine)
        except ValueError:
            continue


@pytest.mark.parametrize(
    ("kills", "images"),
    [
        pytest.param(3, SHARE_IMAGES, id="share"),
        pytest.param(100, IMAGES, id="all", marks=[pytest.mark.soak, pytest.mark.timeout(0)]),
    ],
)
def test_a_folder_of_images_of_which_some_are_damaged(kills: int, images: int, tmp_path: Path) -> None:
    append_images(tmp_path, range(images))
    each = images // kills if kills > 3 else 100
    work = Routine("sizes", decoded_rows, "images", "out", on_error="quarantine", max_rows_per_run=each)

    def keep_pending() -> None:
        nonlocal images
        if pending(work) is None:  # this machine did much between the kills
            append_images(tmp_path, range(images, images + 200))
            images += 200

    killed_at_random(kills, work_off, work, each, longest=0.5, refill=keep_pending)
    finish(work_off, work)
    bad = {number for number in range(images) if number % 100 == 50 or number % 200 == 7}
    assert len(bad) == images * 3 // 200
    assert ids("out") == [number for number in range(images) if number not in bad]
    assert sorted(failed_ids(work)) == sorted(bad)
    assert {row.error for row in failed_rows(work)} == {"KeyError", "FormatError"}
    assert pending(work) is None
    killed_at_random(min(kills, 10), retry, replace(work, fn=mended_images), longest=0.2)
    retry_failed(replace(work, fn=mended_images))
    assert sorted(ids("out")) == list(range(images))
    assert failed_ids(work) == []


def append_images(folder: Path, numbers: range) -> None:
    from PIL import Image

    for number in numbers:
        path = folder / f"{number:04}.png"
        Image.new("RGB", (1, 1), (number % 256, number // 256, 0)).save(path)
        if number % 100 == 50:
            path.write_bytes(path.read_bytes()[:20])
    names = [str(folder / f"{number:04}.png") for number in numbers]
    rows = Dataset.from_dict({"id": list(numbers), "image": names})
    if Dataset.exists("images"):
        rows.append_to("images", stats=False)
    else:
        rows.save("images", column_types={"image": "image"}, stats=False)


@pytest.mark.parametrize("engine", [Processes(2), pytest.param(Dask(workers=2), marks=pytest.mark.soak)], ids=repr)
def test_of_an_engine(engine: Engine, numbers: Iterator[int]) -> None:
    append("numbers", rows_of(numbers, 300))
    work = replace(WORK, distributed=True, max_rows_per_run=None)
    [result] = run_versions(work, engine=engine)
    failed = failed_ids(work)
    assert sorted([*ids("out"), *failed]) == list(range(300))
    assert result.failed == len(failed)
    retry_failed(replace(work, fn=mended_rows))
    assert sorted(ids("out")) == list(range(300))
    strict = replace(work, name="strict", output="strict", on_error="fail")
    append("numbers", [1000])
    with pytest.raises(ValueError, match="fails") as caught:
        list(run_versions(strict, engine=engine))
    assert "of v1 of 'numbers'" in " ".join(caught.value.__notes__)
    if Dataset.exists("strict"):
        assert ids("strict") == list(range(len(ids("strict"))))
