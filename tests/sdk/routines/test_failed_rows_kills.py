"""Failed rows are recorded exactly once, whatever is killed, and whichever rows fail in the next attempt."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from lakefeed import Dataset
from lakefeed.compute import Processes
from lakefeed.routines import Routine, failed_rows, history, pending, retry_failed, run_versions
from tests.sdk.killing import AS_OFTEN, append, finish, ids, killed_at_random
from tests.sdk.victims import decoded_rows, failing_batches, failing_rows, mended_rows, retry, work_off

pytestmark = [pytest.mark.usefixtures("lake"), pytest.mark.live]
WORK = Routine("work", failing_rows, "numbers", "out", on_error="quarantine", max_rows_per_run=20)
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


@AS_OFTEN
def test_every_row_has_its_result_or_its_error_once(kills: int, numbers: Iterator[int]) -> None:
    for work in (WORK, replace(WORK, name="batches", fn=failing_batches, output="batches")):
        append("numbers", rows_of(numbers, 10 * kills))
        killed_at_random(kills, work_off, work)
        finish(work_off, work, processes=2)
        total = len(ids("numbers"))
        failed = failed_ids(work)
        assert sorted([*ids(work.target), *failed]) == list(range(total))
        assert {number for number in range(total) if number % 10 == 3} <= set(failed)
        assert sum(each.failed for each in history(work)) == len(failed)
        killed_at_random(kills, retry, work)
        finish(retry, work, processes=2)
        assert sorted([*ids(work.target), *failed_ids(work)]) == list(range(total))
        retry_failed(replace(work, fn=mended_rows))
        assert sorted(ids(work.target)) == list(range(total))
        assert failed_ids(work) == []


@AS_OFTEN
def test_a_failure_loses_no_row_before_it_and_repeats_none(kills: int, numbers: Iterator[int]) -> None:
    work = replace(WORK, on_error="fail", max_rows_per_run=None)
    append("numbers", rows_of(numbers, 30 * kills))
    killed_at_random(kills, attempt, work, longest=0.1)
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
    save_images(tmp_path, images)
    work = Routine("sizes", decoded_rows, "images", "out", on_error="quarantine", max_rows_per_run=100)
    killed_at_random(kills, work_off, work, longest=1.0)
    finish(work_off, work)
    bad = {number for number in range(images) if number % 100 == 50 or number % 200 == 7}
    assert len(bad) == images * 3 // 200
    assert ids("out") == [number for number in range(images) if number not in bad]
    assert sorted(failed_ids(work)) == sorted(bad)
    assert {row.error for row in failed_rows(work)} == {"KeyError", "FormatError"}
    assert pending(work) is None


def save_images(folder: Path, images: int) -> None:
    from PIL import Image

    for number in range(images):
        path = folder / f"{number:04}.png"
        Image.new("RGB", (1, 1), (number % 256, number // 256, 0)).save(path)
        if number % 100 == 50:
            path.write_bytes(path.read_bytes()[:20])
    names = [str(folder / f"{number:04}.png") for number in range(images)]
    rows = Dataset.from_dict({"id": list(range(images)), "image": names})
    rows.save("images", column_types={"image": "image"}, stats=False)


def test_of_an_engine(numbers: Iterator[int]) -> None:
    append("numbers", rows_of(numbers, 300))
    work = replace(WORK, distributed=True, max_rows_per_run=None)
    [result] = run_versions(work, engine=Processes(2))
    failed = failed_ids(work)
    assert sorted([*ids("out"), *failed]) == list(range(300))
    assert result.failed == len(failed)
    strict = replace(work, name="strict", output="strict", on_error="fail")
    append("numbers", [1000])
    with pytest.raises(ValueError, match="fails") as caught:
        list(run_versions(strict, engine=Processes(2)))
    assert "of v1 of 'numbers'" in " ".join(caught.value.__notes__)
    if Dataset.exists("strict"):
        assert ids("strict") == list(range(len(ids("strict"))))
