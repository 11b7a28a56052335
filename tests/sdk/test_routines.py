"""Routines: every appended row is read once and its result written once, whatever dies or races."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import DatasetVersion
from lakefeed.errors import StateMismatchError, TransformError
from lakefeed.routines import (
    Position,
    Routine,
    RoutineResult,
    history,
    pending,
    position,
    run_routine,
    run_versions,
)
from lakefeed.routines.pending import range_after
from tests.sdk.processes import Program, finish_all

pytestmark = pytest.mark.usefixtures("lake")
SCHEMA = pa.schema({"x": pa.int64(), "double": pa.int64()})


def doubled(rows: Dataset) -> Iterator[pa.RecordBatch]:
    for batch in rows.batches(format="arrow"):
        yield pa.RecordBatch.from_arrays([batch["x"], pa.compute.multiply(batch["x"], 2)], schema=SCHEMA)


DOUBLE = Routine("double", doubled, "numbers", "doubles")


def add(*values: int) -> None:
    rows = Dataset.from_dict({"x": list(values)}, schema=pa.schema({"x": pa.int64()}))
    if Dataset.exists("numbers"):
        rows.append_to("numbers")
    else:
        rows.save("numbers")


def output() -> list[int]:
    return Dataset("doubles").to_arrow()["x"].to_pylist()


def test_a_source_that_does_not_exist_has_nothing_pending() -> None:
    assert pending(DOUBLE) is None
    assert run_routine(DOUBLE) is None


def test_the_first_run_begins_at_the_beginning() -> None:
    add(1, 2)
    add(3)
    assert run_routine(DOUBLE) == RoutineResult(3, 3, None, 2, 1)
    assert Dataset("doubles").to_arrow().to_pydict() == {"x": [1, 2, 3], "double": [2, 4, 6]}


def test_the_next_run_reads_only_what_was_appended() -> None:
    add(1, 2)
    run_routine(DOUBLE)
    add(3)
    assert run_routine(DOUBLE) == RoutineResult(1, 1, 1, 2, 2)
    assert output() == [1, 2, 3]


def test_nothing_new_writes_nothing() -> None:
    add(1)
    run_routine(DOUBLE)
    assert pending(DOUBLE) is None
    assert run_routine(DOUBLE) is None
    assert Dataset("doubles").version == 1


def test_the_position_is_stored_with_the_output() -> None:
    add(1)
    assert position(DOUBLE) is None
    run_routine(DOUBLE)
    uuid = str(Lake.current().table("numbers").metadata.table_uuid)
    assert position(DOUBLE) == Position(uuid, 1)


def test_a_position_reads_back_as_written() -> None:
    assert Position.parse(str(Position("a-b", 12))) == Position("a-b", 12)
    assert Position.parse(str(Position("a-b", 2, 3, 10))) == Position("a-b", 2, 3, 10)


def test_up_to_leaves_the_rest() -> None:
    add(1)
    add(2)
    add(3)
    run_routine(DOUBLE, up_to=2)
    assert output() == [1, 2]
    run_routine(DOUBLE)
    assert output() == [1, 2, 3]


def test_run_versions_writes_one_version_for_each_of_the_source() -> None:
    add(1, 2)
    add(3)
    assert list(run_versions(DOUBLE)) == [RoutineResult(2, 2, None, 1, 1), RoutineResult(1, 1, 1, 2, 2)]


def test_history_is_what_the_output_records() -> None:
    add(1, 2)
    add(3)
    done = list(run_versions(DOUBLE, run="r1"))
    Dataset.from_dict({"x": [9], "double": [0]}).append_to("doubles")
    assert history(DOUBLE) == done
    assert {result.run for result in done} == {"r1"}


def test_two_routines_keep_their_own_positions() -> None:
    add(1)
    other = Routine("again", doubled, "numbers", "doubles", beside=("double",))
    run_routine(DOUBLE)
    run_routine(other)
    assert output() == [1, 1]
    assert pending(DOUBLE) is None
    assert [result.rows_out for result in history(other)] == [1]


@pytest.mark.parametrize(
    "fn",
    [
        lambda rows: rows.map_batches(lambda batch: next(doubled(Dataset.from_arrow(batch))), schema=SCHEMA),
        lambda rows: pa.Table.from_batches(doubled(rows)),
        lambda rows: list(doubled(rows)),
    ],
    ids=["Dataset", "Table", "list"],
)
def test_what_a_routine_may_return(fn) -> None:
    add(1, 2)
    run_routine(Routine("double", fn, "numbers", "doubles"))
    assert output() == [1, 2]


@pytest.mark.parametrize("returned", [None, 5])
def test_anything_else_is_an_error_and_writes_nothing(returned: object) -> None:
    add(1)
    with pytest.raises(TransformError, match="must return a Dataset"):
        run_routine(Routine("double", lambda rows: returned, "numbers", "doubles"))
    assert not Dataset.exists("doubles")


def test_no_rows_out_still_moves_on() -> None:
    add(1)
    run_routine(DOUBLE)
    add(2)
    result = run_routine(Routine("double", lambda rows: [], "numbers", "doubles"))
    assert result == RoutineResult(1, 0, 1, 2, 2)
    assert pending(DOUBLE) is None


def test_no_batch_at_all_needs_a_schema() -> None:
    add(1)
    with pytest.raises(TransformError, match="give the routine a schema"):
        run_routine(Routine("double", lambda rows: [], "numbers", "doubles"))
    run_routine(Routine("double", lambda rows: [], "numbers", "doubles", SCHEMA))
    assert Dataset("doubles").schema == SCHEMA


def test_a_streaming_routine_runs_once() -> None:
    add(1, 2)
    calls = []

    def counted(rows: Dataset) -> Iterator[pa.RecordBatch]:
        calls.append(1)
        yield from doubled(rows)

    run_routine(Routine("double", counted, "numbers", "doubles"))
    assert calls == [1]


def test_a_failure_leaves_the_position() -> None:
    add(1)
    run_routine(DOUBLE)
    add(2)

    def failing(rows: Dataset) -> Iterator[pa.RecordBatch]:
        yield from doubled(rows)
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        run_routine(Routine("double", failing, "numbers", "doubles"))
    assert output() == [1]
    run_routine(DOUBLE)
    assert output() == [1, 2]


@pytest.mark.parametrize("output_exists", [False, True])
def test_the_slower_of_two_runs_writes_nothing(output_exists: bool) -> None:
    add(1)
    if output_exists:
        run_routine(DOUBLE)
        add(2)

    def overtaken(rows: Dataset) -> Iterator[pa.RecordBatch]:
        run_routine(DOUBLE)
        yield from doubled(rows)

    assert run_routine(Routine("double", overtaken, "numbers", "doubles")) is None
    assert output() == ([1, 2] if output_exists else [1])


def test_an_output_that_another_routine_has_just_made_is_appended_to() -> None:
    add(1)
    other = Routine("other", doubled, "numbers", "doubles")

    def overtaken(rows: Dataset) -> Iterator[pa.RecordBatch]:
        if not Dataset.exists("doubles"):
            run_routine(other)
        yield from doubled(rows)

    run_routine(Routine("double", overtaken, "numbers", "doubles"))
    assert output() == [1, 1]
    assert pending(other) is None
    assert pending(DOUBLE) is None


def remake() -> None:
    Dataset("numbers").delete()
    add(5)


def test_a_source_made_anew_may_stop_a_routine() -> None:
    add(1)
    run_routine(DOUBLE)
    remake()
    with pytest.raises(StateMismatchError, match="deleted and made again"):
        pending(replace(DOUBLE, on_remade="stop"))


def test_a_source_made_anew_is_read_from_its_beginning() -> None:
    add(1)
    add(2)
    list(run_versions(DOUBLE))
    remake()
    assert [result.to_version for result in run_versions(DOUBLE)] == [3]
    assert output() == [1, 2, 5]
    assert pending(DOUBLE) is None


def test_the_results_of_a_source_made_anew_may_replace_the_old_ones() -> None:
    replacing = replace(DOUBLE, on_remade="replace")
    add(1)
    run_routine(replacing)
    remake()
    add(6)
    list(run_versions(replacing))
    assert output() == [5, 6]


def test_a_source_that_is_gone_waits_for_the_new_one() -> None:
    add(1)
    run_routine(DOUBLE)
    Dataset("numbers").delete()
    assert pending(DOUBLE) is None


def version(number: int, operation: str = "append", added: int = 1) -> DatasetVersion:
    return DatasetVersion(number, number, None, operation, added, 0, 0, 0)


def test_versions_that_add_no_rows_are_not_pending() -> None:
    newest_first = [version(4, "delete", 0), version(3, "replace"), version(2, added=0), version(1)]
    assert [v.version for v in range_after(newest_first, "t", None).versions] == [1]
    assert range_after(newest_first, "t", Position("t", 1)).versions == ()


def test_after_a_rollback_it_goes_on_from_the_version_before() -> None:
    newest_first = [version(4), version(2), version(1)]
    found = range_after(newest_first, "t", Position("t", 3))
    assert (found.from_version, found.to_version) == (2, 4)


def test_a_part_of_a_version_that_was_rolled_back_is_not_taken_for_a_part_of_another() -> None:
    found = range_after([version(4), version(2), version(1)], "t", Position("t", 2, within=3, rows=10))
    assert (found.begin, found.from_version) == (0, 2)
    assert range_after([version(3), version(2)], "t", Position("t", 2, within=3, rows=10)).begin == 10


PRELUDE = """
import os, signal
from tests.sdk.test_routines import DOUBLE, Dataset, run_routine, run_versions
"""


def start(script: str) -> Program:
    return Program(PRELUDE + script)


@pytest.mark.parametrize("method", ["save", "append_to"])
def test_killed_between_commit_and_acknowledgement_repeats_nothing(method: str) -> None:
    add(1, 2)
    if method == "append_to":
        run_routine(DOUBLE)
        add(3)
    killed = start(
        f"""
real = Dataset.{method}
def dying(*args, **kwargs):
    real(*args, **kwargs)
    os.kill(os.getpid(), signal.SIGKILL)
Dataset.{method} = dying
run_routine(DOUBLE)
"""
    )
    killed.finish()
    assert killed.returncode == -signal.SIGKILL
    assert run_routine(DOUBLE) is None
    assert output() == ([1, 2] if method == "save" else [1, 2, 3])


@pytest.mark.live
def test_three_racing_processes_write_every_version_once() -> None:
    for number in range(12):
        add(number)
    finish_all([start("list(run_versions(DOUBLE))") for _ in range(3)])
    assert output() == list(range(12))
    assert [result.rows_out for result in history(DOUBLE)] == [1] * 12


def test_edits_of_the_source_bring_only_what_is_new() -> None:
    add(1, 2, 3)
    run_routine(DOUBLE)
    Dataset("numbers").delete_rows("x = 2")
    Dataset("numbers").restore(1)
    Dataset.from_dict({"x": [3, 4]}).upsert_into("numbers", keys="x")
    Dataset("numbers").sql("SELECT x + 1 AS x FROM data ORDER BY x").overwrite("numbers")
    assert [version.version for version in pending(DOUBLE).versions] == [4, 5]
    list(run_versions(DOUBLE))
    assert output() == [1, 2, 3, 4, 5]
    assert pending(DOUBLE) is None
