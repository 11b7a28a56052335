"""Routines are tried on rows in memory, as their authors test them."""

from __future__ import annotations

import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import InvalidArgumentError, SchemaError, TransformError
from lakefeed.routines import Routine, RoutineRun
from lakefeed.testing import run_routine


def test_a_plain_function_is_tried() -> None:
    def evens(rows: Dataset) -> Dataset:
        return rows.filter("x % 2 == 0")

    assert run_routine(evens, {"x": [1, 2, 3, 4]}).to_arrow().to_pydict() == {"x": [2, 4]}


def test_a_routine_is_held_to_its_schema() -> None:
    wrong = Routine("wrong", lambda rows: rows, "a", "b", schema=pa.schema({"y": pa.int64()}))
    with pytest.raises(SchemaError):
        run_routine(wrong, pa.table({"x": [1]}))


def test_what_a_function_must_not_return_is_refused() -> None:
    with pytest.raises(TransformError, match="returned a int"):
        run_routine(lambda rows: 3, {"x": [1]})


def test_several_datasets_and_resources() -> None:
    def total(a: Dataset, b: Dataset, run: RoutineRun) -> pa.Table:
        return pa.table({"n": [(a.count() + b.count()) * run.resources["factor"]]})

    routine = Routine("total", total, ("a", "b"), "c", resources=("factor",))
    rows = Dataset.from_dict({"x": [1]}), {"x": [1, 2]}
    assert run_routine(routine, *rows, resources={"factor": 10}).to_arrow()["n"].to_pylist() == [30]
    with pytest.raises(InvalidArgumentError, match="factor"):
        run_routine(routine, *rows)
    with pytest.raises(InvalidArgumentError, match="reads 2"):
        run_routine(routine, rows[0])


def test_side_effects_are_had_once() -> None:
    sent = []
    routine = Routine("send", lambda rows: sent.extend(rows.to_arrow()["x"].to_pylist()), "a", None)
    assert run_routine(routine, {"x": [1, 2]}).to_arrow()["rows"].to_pylist() == [2]
    assert sent == [1, 2]
