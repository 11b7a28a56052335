"""Renamed routines: they go on where they stopped, and no output is doubled in silence."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, StateMismatchError
from lakefeed.routines import Routine, RoutineRun, history, pending, position, run_routine, run_versions

pytestmark = pytest.mark.usefixtures("lake")


def same(*rows: Dataset) -> Dataset:
    return rows[0]


OLD = Routine("old", same, "photos", "copies")
NEW = replace(OLD, name="new")


def write(*values: int, to: str = "photos") -> None:
    Dataset.from_dict({"x": list(values)}).save(to, if_exists="append")


def copies() -> list[int]:
    return sorted(Dataset("copies").to_arrow()["x"].to_pylist())


def test_a_renamed_routine_is_refused_until_it_says_its_former_name() -> None:
    write(1)
    list(run_versions(OLD))
    write(2)
    for call in (run_routine, pending, lambda routine: list(run_versions(routine))):
        with pytest.raises(
            StateMismatchError, match=r"routine 'old' has read 'photos'.*formerly='old'.*beside=\('old',\)"
        ):
            call(NEW)
    renamed = replace(NEW, formerly="old")
    assert position(renamed) == position(OLD)
    list(run_versions(renamed))
    assert copies() == [1, 2]
    assert [each.to_version for each in history(renamed)] == [1, 2]
    write(3)
    list(run_versions(replace(renamed, name="newest")))  # renamed again: the position is still under the first name
    assert copies() == [1, 2, 3]
    with pytest.raises(StateMismatchError, match="formerly='old'"):
        pending(replace(NEW, formerly="newest"))


def test_an_old_run_and_a_new_one_share_the_position() -> None:
    write(1)
    renamed = replace(NEW, formerly="old")
    list(run_versions(renamed))
    list(run_versions(OLD))
    assert copies() == [1]


def test_routines_beside_each_other_both_append() -> None:
    write(1)
    list(run_versions(OLD))
    list(run_versions(replace(NEW, beside=("old",))))
    assert copies() == [1, 1]
    list(run_versions(NEW))  # it has a position of its own now
    assert copies() == [1, 1]


def test_other_sources_of_an_output_are_no_rename() -> None:
    write(1)
    write(2, to="words")
    list(run_versions(OLD))
    list(run_versions(replace(NEW, source="words")))
    assert copies() == [1, 2]


@pytest.mark.parametrize("source", [("photos", "words"), ("words", "photos")])
def test_sources_that_changed_are_not_read_again_in_silence(source: tuple[str, ...]) -> None:
    write(1)
    write(2, to="words")
    list(run_versions(OLD))
    changed = replace(OLD, source=source, fn=same)
    with pytest.raises(StateMismatchError, match="would read all rows of 'photos' again"):
        run_routine(changed)
    run_routine(replace(changed, beside=("old",)))
    assert len(copies()) == 2


def test_side_effects_go_on_under_a_former_name() -> None:
    seen: list[tuple[str, list[int]]] = []

    def note(rows: Dataset, run: RoutineRun) -> None:
        seen.append((run.routine, rows.to_arrow()["x"].to_pylist()))

    write(1)
    effects = Routine("old", note, "photos", None)
    list(run_versions(effects))
    write(2)
    renamed = replace(effects, name="new", formerly="old")
    list(run_versions(renamed))
    assert seen == [("old", [1]), ("new", [2])]
    assert renamed.target == effects.target


@pytest.mark.parametrize("settings", [{"formerly": "Bad Name"}, {"formerly": 3}, {"beside": "old"}, {"beside": ("A",)}])
def test_names_that_no_routine_has_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidArgumentError):
        replace(NEW, **settings)  # type: ignore[arg-type]
