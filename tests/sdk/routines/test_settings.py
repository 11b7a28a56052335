"""What a routine may ask for beside the rows: parts, versions put together, left out, several sources, side effects."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError, TypeMismatchError
from lakefeed.routines import (
    After,
    Appended,
    Manual,
    Removed,
    Routine,
    RoutineRun,
    Span,
    cycles,
    history,
    pending,
    run_routine,
    run_versions,
    skip,
)

pytestmark = pytest.mark.usefixtures("lake")
X = pa.schema({"x": pa.int64()})


def same(rows: Dataset) -> Dataset:
    return rows


COPY = Routine("copy", same, "numbers", "copies")


def add(*values: int, to: str = "numbers") -> None:
    rows = Dataset.from_dict({"x": list(values)}, schema=X)
    if Dataset.exists(to):
        rows.append_to(to)
    else:
        rows.save(to)


def output(name: str = "copies") -> list[int]:
    return Dataset(name).to_arrow()["x"].to_pylist()


def spans(routine: Routine) -> list[tuple[int | None, int, int, bool]]:
    return [(done.from_version, done.to_version, done.rows_in, done.complete) for done in history(routine)]


# ------------------------------------------------------------------ how much at once


def test_a_big_append_is_split_into_ranges() -> None:
    routine = replace(COPY, max_rows_per_run=2)
    add(1, 2, 3, 4, 5)
    add(6)
    list(run_versions(routine))
    assert output() == [1, 2, 3, 4, 5, 6]
    assert spans(routine) == [(None, 1, 2, False), (None, 1, 2, False), (None, 1, 1, True), (1, 2, 1, True)]


def test_a_run_stops_at_its_rows_and_the_next_goes_on() -> None:
    routine = replace(COPY, max_rows_per_run=2)
    add(1, 2, 3)
    assert [result.rows_in for result in run_versions(routine, max_rows=2)] == [2]
    assert pending(routine).rows == 1
    assert [result.rows_in for result in run_versions(routine, max_rows=2)] == [1]
    assert output() == [1, 2, 3]


def test_parts_survive_another_size() -> None:
    add(1, 2, 3, 4, 5)
    list(run_versions(replace(COPY, max_rows_per_run=2), max_rows=2))
    list(run_versions(replace(COPY, max_rows_per_run=10)))
    assert output() == [1, 2, 3, 4, 5]


def test_small_versions_are_put_together() -> None:
    routine = replace(COPY, coalesce=3)
    for number in range(7):
        add(number)
    list(run_versions(routine))
    assert output() == list(range(7))
    assert spans(routine) == [(None, 3, 3, True), (3, 6, 3, True), (6, 7, 1, True)]


def test_a_trigger_of_many_rows_puts_versions_together() -> None:
    assert Routine("r", same, "a", "b", when=Appended(min_rows=100)).together == 100
    assert Routine("r", same, "a", "b", when=Appended(min_rows=100), coalesce=0).together == 0
    assert Routine("r", same, "a", None, when=Appended(min_rows=100)).together == 0


# ------------------------------------------------------------------ what is left out


def test_a_poison_version_is_skipped_by_hand_and_stays_visible() -> None:
    def picky(rows: Dataset) -> Dataset:
        if 13 in rows.to_arrow()["x"].to_pylist():
            raise ValueError("unlucky")
        return rows

    routine = replace(COPY, fn=picky)
    for value in (1, 13, 3):
        add(value)
    with pytest.raises(ValueError, match="unlucky"):
        list(run_versions(routine))
    assert output() == [1]
    done = skip(routine, 2, "a broken camera")
    assert done.left_out == ((2, "skipped by hand: a broken camera"),)
    list(run_versions(routine))
    assert output() == [1, 3]
    assert [result.left_out for result in history(routine)] == [(), done.left_out, ()]
    assert "a broken camera" in (Dataset("copies").list_versions()[1].message or "")


def test_only_the_next_version_can_be_skipped() -> None:
    add(1)
    add(2)
    with pytest.raises(InvalidArgumentError, match="the next version that it reads is v1 of 'numbers'"):
        skip(COPY, 2, "")
    with pytest.raises(InvalidArgumentError, match="give the routine a schema"):
        skip(COPY, 1, "")
    assert skip(replace(COPY, schema=X), 1, "no").to_version == 1
    list(run_versions(COPY))
    assert output() == [2]


def test_the_rest_of_a_half_read_version_can_be_skipped() -> None:
    add(1, 2, 3)
    list(run_versions(replace(COPY, max_rows_per_run=1), max_rows=1))
    skip(COPY, 1, "enough")
    assert output() == [1]
    assert pending(COPY) is None


def test_only_checked_versions_are_read() -> None:
    routine = replace(COPY, only_checked=True)
    for value in range(1, 6):
        add(value)
    with pytest.raises(InvalidArgumentError, match="verdicts"):
        pending(routine)
    verdicts = {"numbers": {1: True, 2: False, 3: True}}
    list(run_versions(routine, verdicts=verdicts))
    assert output() == [1, 3]
    assert pending(routine, verdicts=verdicts) is None
    list(run_versions(routine, verdicts={"numbers": {4: False, 5: True}}))
    assert output() == [1, 3, 5]
    assert [number for done in history(routine) for number, _ in done.left_out] == [2, 4]


def test_a_failed_version_is_kept_from_a_routine_that_has_no_output_yet() -> None:
    routine = replace(COPY, only_checked=True)
    add(1)
    add(2)
    assert list(run_versions(routine, verdicts={"numbers": {1: False}})) == []
    list(run_versions(routine, verdicts={"numbers": {1: False, 2: True}}))
    assert output() == [2]


def test_a_run_by_hand_reads_the_versions_that_it_is_given() -> None:
    routine = replace(COPY, when=Manual())
    for value in range(1, 5):
        add(value)
    list(run_versions(routine, after=1, up_to=3))
    assert output() == [2, 3]
    assert history(routine)[0].left_out[0][0] == 1


# ------------------------------------------------------------------ several sources, removed rows


def test_several_sources_are_handed_in_together() -> None:
    def joined(numbers: Dataset, words: Dataset) -> Dataset:
        return Dataset.from_dict({"n": [numbers.count()], "w": [words.count()]})

    routine = Routine("joined", joined, ("numbers", "words"), "counts")
    add(1, 2)
    assert run_routine(routine) is None, "there are no words yet"
    add(5, to="words")
    run_routine(routine)
    add(3)
    done = run_routine(routine)
    assert Dataset("counts").to_arrow().to_pydict() == {"n": [2, 1], "w": [1, 0]}
    assert done is not None
    assert (done.from_version, done.to_version, done.also) == (1, 2, (Span("words", 1, 1),))
    assert run_routine(routine) is None


def test_removed_rows_are_read_as_they_were() -> None:
    routine = Routine("undo", same, "numbers", "removed", when=Removed())
    add(1, 2, 3)
    assert pending(routine) is None
    Dataset("numbers").delete_rows("x < 3")
    add(4)
    list(run_versions(routine))
    assert output("removed") == [1, 2]


# ------------------------------------------------------------------ side effects


@pytest.mark.live
def test_a_side_effect_gets_the_same_token_for_the_same_rows() -> None:
    seen: list[tuple[list[int], str]] = []

    def send(rows: Dataset, run: RoutineRun) -> None:
        seen.append((rows.to_arrow()["x"].to_pylist(), run.token))
        if len(seen) == 1:
            raise OSError("the line is down")

    routine = Routine("send", send, "numbers", None)
    add(1)
    with pytest.raises(OSError, match="line"):
        list(run_versions(routine))
    add(2)
    list(run_versions(routine))
    assert [rows for rows, _ in seen] == [[1], [1], [2]]
    assert seen[0][1] == seen[1][1] != seen[2][1]
    assert Dataset("routine-logs.send").select(["version", "rows"]).to_arrow().to_pydict() == {
        "version": [1, 2],
        "rows": [1, 1],
    }


def test_a_side_effect_may_be_a_generator() -> None:
    seen: list[int] = []

    def noted(rows: Dataset) -> Iterator[None]:
        for row in rows:
            yield seen.append(row["x"])

    add(1, 2)
    run_routine(Routine("noted", noted, "numbers", None))
    assert seen == [1, 2]


def test_resources_are_handed_in() -> None:
    def times(rows: Dataset, run: RoutineRun) -> pa.Table:
        return pa.table({"x": pa.compute.multiply(rows.to_arrow()["x"], run.resources["factor"])})

    routine = replace(COPY, fn=times, resources=("factor",))
    add(2)
    with pytest.raises(InvalidArgumentError, match="factor"):
        run_routine(routine)
    run_routine(routine, resources={"factor": 3})
    assert output() == [6]


# ------------------------------------------------------------------ the output's columns


def test_the_output_has_the_declared_types() -> None:
    wide = pa.schema({"x": pa.float64()})

    def narrow(rows: Dataset) -> pa.Table:
        return rows.to_arrow().cast(pa.schema({"x": pa.float32()}))

    add(1)
    run_routine(replace(COPY, fn=narrow, schema=wide))
    assert Dataset("copies").schema.field("x").type == pa.float64()


def test_what_does_not_fit_the_declared_schema_is_refused() -> None:
    add(1)
    with pytest.raises(SchemaError):
        run_routine(replace(COPY, schema=pa.schema({"y": pa.int64()})))
    with pytest.raises(TypeMismatchError):
        run_routine(replace(COPY, schema=pa.schema({"x": pa.list_(pa.int64())})))
    assert not Dataset.exists("copies")


# ------------------------------------------------------------------ cycles


def test_a_routine_that_feeds_itself_comes_to_an_end() -> None:
    routine = Routine("grow", same, "numbers", "numbers", max_depth=3)
    add(1)
    rounds = 0
    while list(run_versions(routine)):
        rounds += 1
        assert rounds < 20
    assert output("numbers") == [1, 1, 1, 1]
    assert [version.depth for version in reversed(Dataset("numbers").list_versions())] == [0, 1, 2, 3, 1]
    assert "may form a cycle" in history(routine)[-1].left_out[0][1]


def test_cycles_are_named() -> None:
    def made(name: str, source: str, into: str | None) -> Routine:
        return Routine(name, same, source, into)

    assert cycles([made("a", "x", "y"), made("b", "y", "z"), made("c", "y", None)]) == []
    self_fed, ping, pong = made("s", "x", "x"), made("ping", "p", "q"), made("pong", "q", "p")
    found = [[routine.name for routine in chain] for chain in cycles([self_fed, ping, pong])]
    assert found == [["s"], ["ping", "pong"]]


# ------------------------------------------------------------------ declarations that cannot work


def test_a_declaration_that_cannot_work_is_refused() -> None:
    def none() -> None: ...
    def two(a: Dataset, b: Dataset) -> None: ...

    for wrong in (
        lambda: Routine("Name", same, "a", "b"),
        lambda: Routine("r", same, ("a", "a"), "b"),
        lambda: Routine("r", same, (), "b"),
        lambda: Routine("r", none, "a", "b"),
        lambda: Routine("r", two, "a", "b"),
        lambda: Routine("r", same, "a", "b", max_rows_per_run=0),
        lambda: Routine("r", same, "a", "b", retries=-1),
        lambda: Routine("r", same, "a", "b", timeout=0),
        lambda: Routine("r", same, "a", "b", when=()),
        lambda: Routine("r", same, "a", "b", when=(Appended(), Removed())),
        lambda: Routine("r", same, "a", "b", when=(After("s", "failure"), Manual())),
        lambda: Routine("r", same, "a", "b", on_remade="perhaps"),
        lambda: Routine("r", same, "A", "b"),
        lambda: Appended(min_rows=0),
        lambda: Removed(max_wait=-1),
        lambda: After("r", "sometimes"),
    ):
        with pytest.raises(InvalidArgumentError):
            wrong()


def test_tags_are_text() -> None:
    with pytest.raises(InvalidArgumentError, match=r"dagster-k8s/config.*json\.dumps"):
        Routine("double", lambda rows: rows, "numbers", "doubles", tags={"dagster-k8s/config": {}})  # type: ignore[dict-item]
