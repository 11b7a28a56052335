"""Rows that functions make are read again by `mapped` only while nothing that the functions use has changed."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.plan import exact_fingerprint

X = pa.schema({"x": pa.int64()})
FACTOR = 2
TABLE = np.array([1, 2])
settings = ModuleType("settings")
settings.FACTOR = 2  # type: ignore[attr-defined]


class Scale:
    def __init__(self, factor: int) -> None:
        self.factor = factor

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        return {"x": row["x"] * self.factor}


def helper(value: int) -> int:
    return value * FACTOR


def by_global(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": row["x"] * FACTOR}


def by_helper(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": (lambda: helper(row["x"]))()}


def by_array(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": row["x"] * int(TABLE[1])}


def by_module(row: dict[str, Any]) -> dict[str, Any]:
    return {"x": row["x"] * settings.FACTOR}


def by_argument(row: dict[str, Any], scale: Scale) -> dict[str, Any]:
    return scale(row)


@pytest.fixture
def rows(lake: Any) -> Dataset:
    return Dataset.from_dict({"x": [1, 2, 3]}).save("rows")


def values(dataset: Dataset) -> list[int]:
    found: list[int] = dataset.mapped().to_arrow()["x"].to_pylist()
    return found


@pytest.mark.parametrize("function", [by_global, by_helper, by_array, by_module])
def test_globals_of_a_function_count(
    rows: Dataset, monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]
) -> None:
    plan = rows.map(function, schema=X)
    assert values(plan) == [2, 4, 6]
    before = exact_fingerprint(plan._plan)
    assert before == exact_fingerprint(rows.map(function, schema=X)._plan)
    monkeypatch.setitem(globals(), "FACTOR", 3)
    monkeypatch.setattr(settings, "FACTOR", 3)
    monkeypatch.setitem(globals(), "TABLE", np.array([1, 3]))
    assert values(rows.map(function, schema=X)) == [3, 6, 9]
    assert exact_fingerprint(plan._plan) not in (None, before)


def test_the_state_of_an_object_counts(rows: Dataset) -> None:
    scale = Scale(2)
    assert values(rows.map(scale, schema=X)) == [2, 4, 6]
    assert values(rows.map(Scale(3), schema=X)) == [3, 6, 9]
    assert values(rows.map(functools.partial(by_argument, scale=Scale(4)), schema=X)) == [4, 8, 12]
    assert values(rows.map(functools.partial(by_argument, scale=Scale(5)), schema=X)) == [5, 10, 15]
    scale.factor = 6
    assert values(rows.map(scale, schema=X)) == [6, 12, 18]
    assert values(rows.map(scale.__call__, schema=X)) == [6, 12, 18]
    assert values(rows.map(Scale(7).__call__, schema=X)) == [7, 14, 21]
    assert exact_fingerprint(rows.map(Scale(3), schema=X)._plan) == exact_fingerprint(
        rows.map(Scale(3), schema=X)._plan
    )


def test_a_file_that_changes_counts(lake: Any, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    for text, expected in (("x\n1\n", [1]), ("x\n1\n2\n", [1, 2])):
        file.write_text(text)
        plan = Dataset.from_file(str(file))
        assert exact_fingerprint(plan._plan) is not None
        assert values(plan) == expected


def test_counts_over_mapped_rows_are_those_of_the_rows(rows: Dataset) -> None:
    pytest.importorskip("torch")
    for factor, expected in ((1, [3]), (2, [4, 6])):
        large = rows.map(Scale(factor), schema=X).mapped().filter("x > 2")
        assert large.count() == len(expected)
        assert [x for batch in large.to_torch(batch_size=1) for x in batch["x"].tolist()] == expected


def test_what_cannot_be_told_is_made_for_each_call(rows: Dataset, lake: Any) -> None:
    numbers = [1]

    def batches() -> Iterator[pa.RecordBatch]:
        yield pa.record_batch({"x": pa.array(numbers)})

    class Guarded(Scale):
        lock = threading.Lock()

    guarded = Guarded(2)
    guarded.mine = threading.Lock()  # type: ignore[attr-defined]
    stream = Dataset.from_batches(batches, schema=X)
    first = stream.mapped()
    numbers.append(2)
    assert values(stream) == [1, 2]
    assert first.to_arrow()["x"].to_pylist() == [1]
    assert exact_fingerprint(rows.map(guarded, schema=X)._plan) is None
    assert values(rows.map(guarded, schema=X)) == [2, 4, 6]
    guarded.factor = 3
    assert values(rows.map(guarded, schema=X)) == [3, 6, 9]


SCRIPT = """
import sys
import pyarrow as pa
from lakefeed import Dataset
FACTOR = 2
class Scale:
    words = {"a", "b", "c"}
    def __init__(self, factor): self.factor = factor
    def __call__(self, row): return {"x": row["x"] * self.factor * FACTOR * len(self.words)}
data = Dataset.from_dict({"x": [1]}).map(Scale(2), schema=pa.schema({"x": pa.int64()}))
rows = data.mapped()
stream = Dataset.from_batches(lambda: [pa.record_batch({"x": [1]})], schema=pa.schema({"x": pa.int64()})).mapped()
assert (rows[0]["x"], stream[0]["x"]) == (12, 1)
"""


@pytest.mark.live
def test_processes_share_what_can_be_told_and_leave_nothing_else(lake: Any) -> None:
    for seed in ("1", "2"):
        done = subprocess.run(
            [sys.executable, "-c", SCRIPT], env={**os.environ, "PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        folders: list[Path] = list((lake.settings.cache / "mapped").iterdir())
        assert len(folders) == 1
