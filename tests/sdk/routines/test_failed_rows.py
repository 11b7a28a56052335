"""Rows on which the function of a routine raises: the others go on, and nothing is done twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.compute import save
from lakefeed.compute.compute_engine import run_task
from lakefeed.errors import InvalidArgumentError, InvalidNameError, SchemaError
from lakefeed.routines import (
    Routine,
    drop_failed,
    failed_rows,
    history,
    pending,
    position,
    retry_failed,
    run_routine,
    run_versions,
    skip,
)

pytestmark = pytest.mark.usefixtures("lake")
SCHEMA = pa.schema({"id": pa.int64(), "y": pa.int64()})
BAD = {3, 7, 8, 15}
CALLS: Counter[int] = Counter()


@pytest.fixture(autouse=True)
def no_calls() -> None:
    CALLS.clear()


def checked(row: dict[str, Any]) -> dict[str, Any]:
    CALLS[row["id"]] += 1
    if row["id"] in BAD:
        raise KeyError(f"row {row['id']} is bad")
    return {"id": row["id"], "y": row["id"] * 2}


def by_row(rows: Dataset) -> Dataset:
    return rows.map(checked, schema=SCHEMA)


def mended(rows: Dataset) -> Dataset:
    return rows.map(lambda row: {"id": row["id"], "y": row["id"] * 2}, schema=SCHEMA)


def of_batch(batch: pa.RecordBatch) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist([checked(row) for row in batch.to_pylist()], schema=SCHEMA)


def by_batch(rows: Dataset) -> Dataset:
    return rows.map_batches(of_batch, schema=SCHEMA)


def filtered(rows: Dataset) -> Dataset:
    return rows.filter("id >= 0").filter(lambda row: checked(row)["id"] >= 0).with_column("y", "id * 2")


def table(rows: Dataset) -> pa.Table:
    return pa.Table.from_batches([of_batch(batch) for batch in rows.batches(format="arrow")], SCHEMA)


def generator(rows: Dataset) -> Iterator[pa.RecordBatch]:
    for batch in rows.batches(4, format="arrow"):
        yield of_batch(batch)


def nowhere_lazy(rows: Dataset) -> Dataset:
    return by_row(rows).sort("id")


FORMS = [by_row, by_batch, filtered, table, generator, nowhere_lazy]


def add(*ids: int) -> None:
    rows = Dataset.from_dict({"id": list(ids)}, schema=pa.schema({"id": pa.int64()}))
    if Dataset.exists("numbers"):
        rows.append_to("numbers")
    else:
        rows.save("numbers")


def ids(work: Routine) -> list[int]:
    return Dataset(work.target).to_arrow()["id"].to_pylist()


def output() -> list[int]:
    return Dataset("out").to_arrow()["id"].to_pylist()


def routine(fn: Any = by_row, **settings: Any) -> Routine:
    return Routine("work", fn, "numbers", "out", **settings)


@pytest.mark.live
def test_bad_rows_are_quarantined_the_others_go_on_and_mended_ones_follow_once() -> None:
    add(*range(20))
    for form in FORMS:
        CALLS.clear()
        work = Routine(f"of-{form.__name__}", form, "numbers", form.__name__, on_error="quarantine")
        [result] = run_versions(work, run="r1")
        if form in (by_row, filtered):
            assert set(CALLS.values()) == {1}
        assert ids(work) == [n for n in range(20) if n not in BAD]
        assert (result.rows_in, result.rows_out, result.failed) == (20, 16, 4)
        shown = Dataset(work.errors_dataset).to_arrow().to_pylist()
        assert [(row["version"], row["row"], row["key"], row["error"]) for row in shown] == [
            (1, 3, "3", "KeyError"), (1, 7, "7", "KeyError"), (1, 8, "8", "KeyError"), (1, 15, "15", "KeyError"),
        ]  # fmt: skip
        assert all("is bad" in row["message"] and "checked" in row["traceback"] for row in shown)
        assert {(row["source"], row["attempts"], row["run"]) for row in shown} == {("numbers", 1, "r1")}
        assert [row.key for row in failed_rows(work)] == ["3", "7", "8", "15"]
        again = retry_failed(work)
        assert (again.succeeded, again.failed, again.output_versions) == (0, 4, ())
        assert retry_failed(replace(work, fn=mended)).succeeded == 4
        assert sorted(ids(work)) == list(range(20))
        assert (failed_rows(work), Dataset(work.errors_dataset).count()) == ([], 0)
        assert history(work)[-1].retried == 4
        assert pending(work) is None


def test_rows_that_fail_again_stay() -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    run_routine(work)
    half = replace(work, fn=lambda rows: rows.map(only_three, schema=SCHEMA))
    first = retry_failed(half, run="r2")
    assert (first.succeeded, first.failed, first.rows_out) == (1, 2, 1)
    assert [(row.key, row.attempts, row.run) for row in failed_rows(work)] == [("7", 2, "r2"), ("8", 2, "r2")]
    assert Dataset("out_errors").to_arrow()["attempts"].to_pylist() == [2, 2]
    assert retry_failed(replace(work, fn=mended), failed_rows(work)[1:]).succeeded == 1
    assert [row.key for row in failed_rows(work)] == ["7"]
    assert output() == [0, 1, 2, 4, 5, 6, 9, 3, 8]


def test_a_run_that_died_before_its_errors_were_shown_is_made_up_for(monkeypatch: pytest.MonkeyPatch) -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    with monkeypatch.context() as patch:
        patch.setattr("lakefeed.routines.error_records._copy", die)
        with pytest.raises(SystemExit):
            run_routine(work)
    assert not Dataset.exists("out_errors")
    assert len(failed_rows(work)) == 3
    assert run_routine(work) is None
    assert Dataset("out_errors").count() == 3


def die(*_: object, **__: object) -> None:
    raise SystemExit


def only_three(row: dict[str, Any]) -> dict[str, Any]:
    if row["id"] != 3:
        raise ValueError("not mended")
    return {"id": row["id"], "y": 6}


def test_a_bad_row_becomes_nulls_in_its_place_and_is_replaced_later() -> None:
    add(*range(10))
    for form in (by_row, by_batch, generator):
        work = Routine(f"of-{form.__name__}", form, "numbers", form.__name__, on_error="null")
        run_routine(work)
        expected = {"id": list(range(10)), "y": [None if n in BAD else 2 * n for n in range(10)]}
        assert Dataset(work.target).to_arrow().to_pydict() == expected
        assert [row.null_row for row in failed_rows(work)] == [True] * 3
        retry_failed(replace(work, fn=mended))
        rows = sorted(Dataset(work.target).to_arrow().to_pylist(), key=lambda row: row["id"])
        assert rows == [{"id": n, "y": 2 * n} for n in range(10)]
        assert failed_rows(work) == []


def test_rows_before_a_failure_are_committed_once() -> None:
    add(*range(10))
    add(*range(20, 30))
    work = routine()
    with pytest.raises((KeyError, ValueError), match="row 3 is bad") as caught:
        list(run_versions(work))
    notes = " ".join(caught.value.__notes__)
    assert "row 3 (key '3') of v1 of 'numbers'" in notes
    assert "'out' v1" in notes
    assert output() == [0, 1, 2]
    at = position(work)
    assert at is not None
    assert (at.version, at.within, at.rows) == (0, 1, 3)
    for _ in range(2):
        with pytest.raises((KeyError, ValueError), match="row 3 is bad"):
            list(run_versions(work))
    assert output() == [0, 1, 2]
    assert CALLS == {0: 1, 1: 1, 2: 1, 3: 3}
    list(run_versions(replace(work, fn=mended)))
    assert output() == [*range(10), *range(20, 30)]


def test_one_failure_among_versions_that_are_joined_keeps_those_before() -> None:
    for ids in (range(3), range(10, 13), range(6, 10), range(30, 33)):
        add(*ids)
    with pytest.raises((KeyError, ValueError), match="row 7 is bad"):
        list(run_versions(routine(coalesce=100)))
    assert output() == [0, 1, 2, 10, 11, 12, 6]
    with pytest.raises((KeyError, ValueError), match="row 7 is bad"):
        run_routine(routine())
    run_routine(routine(mended))
    assert output() == [0, 1, 2, 10, 11, 12, 6, 7, 8, 9, 30, 31, 32]


def test_a_routine_may_ask_for_all_rows_or_none() -> None:
    add(*range(10))
    with pytest.raises((KeyError, ValueError), match="row 3 is bad") as caught:
        run_routine(routine(commit_parts=False))
    assert "10 rows from row 0 of v1 of 'numbers'" in " ".join(caught.value.__notes__)
    assert not Dataset.exists("out")


def test_many_failures_fail_the_run() -> None:
    add(*range(20))
    with pytest.raises(ValueError, match="more than 2 rows failed"):
        run_routine(routine(on_error="quarantine", max_errors=2))
    assert output() == [n for n in range(8) if n not in BAD]
    assert len(failed_rows(routine())) == 2


def test_a_store_that_is_away_fails_the_run_and_no_rows() -> None:
    def away(row: dict[str, Any]) -> dict[str, Any]:
        if row["id"] >= 5:
            raise ConnectionRefusedError("nobody listens")
        return {"id": row["id"], "y": 0}

    add(*range(100))
    work = routine(lambda rows: rows.map(away, schema=SCHEMA), on_error="quarantine")
    with pytest.raises(Exception, match="nobody listens"):
        run_routine(work)
    assert output() == list(range(5))
    assert failed_rows(work) == []
    assert run_routine(replace(work, fn=mended)) is not None
    assert output() == list(range(100))


def test_rows_and_keys_of_a_version_are_skipped() -> None:
    add(*range(10))
    add(*range(10, 20))
    work = routine(schema=SCHEMA)
    done = skip(work, 1, "broken", rows=(7, 9))
    assert [str(each) for each in done.left_out_rows] == ["rows 7 to 8 of v1 skipped by hand: broken"]
    skip(work, 1, "dark", keys=[3])
    skip(work, 2, "dark too", keys=[15, 19, 18])
    for wrong in ({"rows": (5, 5)}, {"rows": (5, 11)}, {"keys": [99]}, {"keys": []}, {"rows": (0, 1), "keys": [1]}):
        with pytest.raises(InvalidArgumentError):
            skip(work, 1, "wrong", **wrong)
    list(run_versions(work))
    assert output() == [n for n in range(18) if n not in BAD]
    assert set(CALLS) == set(output())
    left_out = [(each.start, each.stop) for result in history(work) if result.rows_in for each in result.left_out_rows]
    assert left_out == [(3, 4), (7, 9), (5, 6)]
    with pytest.raises(InvalidArgumentError, match="not read are"):
        skip(work, 1, "late", rows=(0, 1))
    add(3)
    skip(work, 3, "all of it")
    assert pending(work) is None


def test_rows_that_are_read_already_cannot_be_skipped() -> None:
    add(*range(10))
    with pytest.raises((KeyError, ValueError)):
        run_routine(routine())
    with pytest.raises(InvalidArgumentError, match="read already"):
        skip(routine(), 1, "late", rows=(2, 4))
    skip(routine(), 1, "bad", rows=(3, 4))
    with pytest.raises((KeyError, ValueError), match="row 7"):
        list(run_versions(routine()))
    assert output() == [0, 1, 2, 4, 5, 6]


def test_failed_rows_can_be_dropped() -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    run_routine(work)
    rows = failed_rows(work)
    assert drop_failed(work, "dark", rows[:1]) == 1
    assert failed_rows(work) == rows[1:]
    assert Dataset("out_errors").to_arrow()["key"].to_pylist() == ["7", "8"]
    assert drop_failed(work, "all") == 2
    with pytest.raises(InvalidArgumentError):
        drop_failed(work, "wrong", ["text"])
    assert output() == [n for n in range(10) if n not in BAD]


def test_two_routines_share_a_dataset_of_errors_and_one_that_is_deleted_comes_back() -> None:
    add(*range(10))
    one, two = routine(on_error="quarantine"), replace(routine(on_error="quarantine"), name="other", beside=("work",))
    run_routine(one)
    run_routine(two)
    assert Dataset("out_errors").count() == 6
    retry_failed(replace(two, fn=mended))
    assert Dataset("out_errors").to_arrow()["routine"].to_pylist() == ["work"] * 3
    Dataset("out_errors").delete()
    assert run_routine(one) is None
    assert Dataset("out_errors").count() == 3


@pytest.mark.parametrize("content", [None, b"", b"junk"])
def test_a_damaged_dataset_of_errors_holds_nothing_up(content: bytes | None, caplog: pytest.LogCaptureFixture) -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    run_routine(work)
    lake = Lake.current()
    location = Path(lake.heads()["out_errors"].removeprefix("file://"))
    lake.close()
    location.unlink()
    if content is not None:
        location.write_bytes(content)
    add(*range(10, 20))
    run_routine(work)
    assert "'out_errors' does not show the failed rows" in caplog.text
    assert [row.key for row in failed_rows(work)] == ["3", "7", "8", "15"]
    assert retry_failed(replace(work, fn=mended), failed_rows(work)[:1]).succeeded == 1
    Dataset("out_errors").delete(force=True)
    assert run_routine(work) is None
    assert Dataset("out_errors").to_arrow()["key"].to_pylist() == ["7", "8", "15"]
    assert sorted(output()) == [n for n in range(20) if n not in {7, 8, 15}]


def test_errors_of_rows_that_no_longer_exist_stay() -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    run_routine(work)
    Dataset("numbers").delete()
    add(1)
    result = retry_failed(replace(work, fn=mended))
    assert (result.unavailable, len(failed_rows(work))) == (3, 3)
    run_routine(replace(work, on_remade="replace"))
    assert failed_rows(work) == []
    assert Dataset("out_errors").count() == 0


def test_a_declaration_that_cannot_work_is_refused() -> None:
    for settings in ({"on_error": "skip"}, {"max_errors": -1}, {"key": ""}, {"commit_parts": 1}):
        with pytest.raises(InvalidArgumentError):
            routine(**settings)
    with pytest.raises(InvalidArgumentError, match="one source and an output"):
        Routine("work", by_row, "numbers", None, on_error="quarantine")
    with pytest.raises(InvalidArgumentError, match="one source and an output"):
        Routine("work", lambda a, b: a, ("a", "b"), "out", on_error="null")
    with pytest.raises(InvalidNameError, match="shorter name"):
        Routine("work", by_row, "numbers", "o" * 60, on_error="quarantine")


def test_a_dataset_of_another_kind_under_the_name_of_the_errors_is_told_before_any_work() -> None:
    add(*range(10))
    Dataset.from_dict({"x": [1]}).save("out_errors")
    with pytest.raises(SchemaError, match="'out_errors'"):
        run_routine(routine(on_error="quarantine"))
    assert not CALLS
    assert not Dataset.exists("out")


def test_nulls_need_columns_that_may_be_null() -> None:
    add(*range(10))
    strict = pa.schema([("id", pa.int64()), pa.field("y", pa.int64(), nullable=False)])
    with pytest.raises(SchemaError, match="'y'"):
        run_routine(routine(lambda rows: rows.map(checked, schema=strict), on_error="null"))


@pytest.mark.live
def test_rows_that_the_function_skips_by_itself_are_counted_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    def skipping(rows: Dataset) -> Dataset:
        return rows.map(checked, schema=SCHEMA, on_error="skip")

    add(*range(20))
    for on_error in ("fail", "quarantine", "null"):
        for fn in (skipping, lambda rows: skipping(rows).sort("id"), lambda rows: skipping(rows).to_arrow()):
            caplog.clear()
            result = run_routine(Routine("work", fn, "numbers", "out", on_error=on_error, beside=("none",)))
            assert result is not None
            assert (result.rows_out, result.failed) == (16, 0)
            assert [each for each in caplog.messages if "4 rows failed and were skipped" in each], (on_error, fn)
            Dataset("out").delete()
    for write in (Dataset.save, Dataset.append_to, Dataset.overwrite, lambda rows, name: save(rows, "other", Here())):
        caplog.clear()
        write(skipping(Dataset("numbers")), "out")
        assert [each for each in caplog.messages if "4 rows failed and were skipped" in each], write


class Here:
    """An engine that is this process."""

    width = 2

    def run(self, tasks: Sequence[bytes]) -> Iterator[tuple[int, Any]]:
        yield from ((index, run_task(task)) for index, task in enumerate(tasks))


def test_all_rows_fail() -> None:
    add(3, 7)
    for form in (by_row, generator):
        work = replace(
            routine(form, on_error="quarantine", schema=SCHEMA), output=f"out-{form.__name__.replace('_', '-')}"
        )
        run_routine(work)
        assert Dataset(work.target).count() == 0
        assert len(failed_rows(work)) == 2
        assert pending(work) is None
    with pytest.raises(ValueError, match="raised on every row"):
        run_routine(Routine("none", generator, "numbers", "unknown", on_error="quarantine"))


def test_a_retry_and_a_run_at_once_lose_nothing() -> None:
    add(*range(10))
    work = routine(on_error="quarantine")
    run_routine(work)
    add(*range(10, 20))
    begun: list[bool] = []

    def slow(rows: Dataset) -> Dataset:
        if not begun:
            begun.append(True)
            run_routine(work)  # moves the failed rows while they are retried
        return mended(rows)

    assert retry_failed(replace(work, fn=slow)).succeeded == 3
    assert sorted(output()) == [n for n in range(20) if n != 15]
    assert [row.key for row in failed_rows(work)] == ["15"]
