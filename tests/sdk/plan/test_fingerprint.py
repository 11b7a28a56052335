"""Equal plans have equal fingerprints in every process; other functions, values and data have others."""

from __future__ import annotations

import datetime as dt
import subprocess
import sys
from decimal import Decimal
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.plan import fingerprint
from lakefeed.plan.fingerprint import digest, marks

X = pa.schema({"x": pa.int64()})
BASE = Dataset.from_dict({"x": [1, 2]}, schema=X)


def of(dataset: Dataset) -> str:
    return fingerprint(dataset._plan)


def scaled(factor: Any) -> Any:
    return lambda row: {"x": row["x"] * factor}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (lambda d: d.filter("x > 1"), lambda d: d.filter("x > 2")),
        (lambda d: d.filter("x > 1"), lambda d: d.filter("x >= 1")),
        (lambda d: d.head(1), lambda d: d.head(2)),
        (lambda d: d.shuffle(1), lambda d: d.shuffle(2)),
        (lambda d: d.shuffle(1), lambda d: d.shuffle(1, global_=False)),
        (lambda d: d.map(scaled(2), schema=X), lambda d: d.map(scaled(3), schema=X)),
        (lambda d: d.map(lambda r: r, schema=X), lambda d: d.map(lambda r: dict(r), schema=X)),
        (lambda d: d.train_test_split()["train"], lambda d: d.train_test_split()["test"]),
        (lambda d: d, lambda d: Dataset.from_dict({"x": [1, 3]}, schema=X)),
    ],
)
def test_other_plans_differ(one: Any, other: Any) -> None:
    assert of(one(BASE)) == of(one(BASE)) != of(other(BASE))


def test_filters_over_dates_differ() -> None:
    days = Dataset.from_dict({"d": [dt.date(2020, 1, 1)]})
    assert of(days.filter("d > '2020-01-01'")) != of(days.filter("d > '2021-01-01'"))


@pytest.mark.parametrize(
    "values",
    [
        (1, 2, 1.0, "1", b"1", True, None),
        (dt.date(2020, 1, 1), dt.date(2020, 1, 2), dt.timedelta(1), Decimal("1.0"), Decimal("1.00")),
        (np.array([1, 2]), np.array([1, 3]), np.array([1.0, 2.0]), np.array([[1, 2]])),
        (pa.int32(), pa.int64(), X, pa.schema({"y": pa.int64()})),
        ([1, 2], [1, [2]], {1: 2}, {1, 2}),
        (partial(int, base=2), partial(int, base=3), int),
    ],
)
def test_captured_values_count(values: tuple[Any, ...]) -> None:
    texts = [of(BASE.map(scaled(value), schema=X)) for value in values]
    assert len(set(texts)) == len(values)


def test_functions_that_hold_themselves() -> None:
    def down(n: int) -> int:
        return n if n <= 0 else down(n - 1)

    held: list[Any] = [1]
    held.append(held)
    assert digest(down) == digest(down)
    assert digest(held) != digest([1])


def test_a_name_that_is_not_bound_yet() -> None:
    def uses() -> Any:
        return later

    assert digest(uses)
    later = 1
    assert digest(uses)


def test_versions_count_and_projections_do_not() -> None:
    rows = Dataset.from_dict({"x": [1, 2]}, schema=X)
    first, second = rows.save("t"), rows.append_to("t")
    assert of(first) == of(Dataset("t", version=1)) != of(second)
    assert of(Dataset("t").added_since(1)) != of(second)


SCRIPT = """
import pyarrow as pa
from lakefeed import Dataset
from lakefeed.plan import fingerprint
def fn(row, words=frozenset({"a", "b", "c"})):
    return {"x": sum(row["x"] for _ in words) + len({"q", "r"} | words)}
d = Dataset.from_dict({"x": [1]}).filter("x in (3, 2, 1)").map(fn, schema=pa.schema({"x": pa.int64()}))
print(fingerprint(d._plan))
"""


@pytest.mark.live
def test_another_process_agrees() -> None:
    found = {
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(found) == 1


def test_marks_show_where_plans_part() -> None:
    one, other = (marks(BASE.filter(f"x > {n}").head(2)._plan) for n in (1, 2))
    assert [mark.split(":")[0] for mark in one] == ["Slice", "Filter", "Scan"]
    assert [a == b for a, b in zip(one, other, strict=True)] == [True, False, True]
