"""A version of a dataset filters its rows itself: each is tested once, and what only the test reads goes no further."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from pyiceberg.types import StringType

from lakefeed import Dataset
from lakefeed.catalog import Lake
from lakefeed.ops import Filter

ROWS = [
    {"x": n, "word": None if n % 5 == 0 else "ab"[n % 2] * 3, "box": {"w": n, "h": -n} if n % 3 else None}
    for n in range(60)
]
SCHEMA = pa.schema(
    [
        ("x", pa.int64()),
        ("word", pa.string_view()),
        ("box", pa.struct([("w", pa.int64()), ("h", pa.int64())])),
        pa.field("no", pa.int32(), nullable=False),
    ]
)
Made = Callable[[Lake], Dataset]


def of(rows: list[dict[str, Any]]) -> Dataset:
    return Dataset.from_arrow(pa.Table.from_pylist([{**row, "no": row["x"]} for row in rows], SCHEMA))


def saved(lake: Lake) -> Dataset:
    return of(ROWS).save("t", column_types=None)


def appended(lake: Lake) -> Dataset:
    of(ROWS[:7]).save("t", column_types=None)
    of(ROWS[7:30]).append_to("t")
    return of(ROWS[30:]).append_to("t")


def removed(lake: Lake) -> Dataset:
    """Rows of files that hold others too."""
    saved(lake)
    Dataset("t").delete_rows("x % 4 == 1")
    return Dataset("t").removed_since(1)


def grown(lake: Lake) -> Dataset:
    """A column that the first files lack."""
    appended(lake)
    with lake.table("t").update_schema() as update:
        update.add_column("late", StringType())
    return Dataset("t")


def restructured(lake: Lake) -> Dataset:
    """A struct of which PyIceberg must read the first files."""
    appended(lake)
    with lake.table("t").update_schema() as update:
        update.add_column(("box", "d"), StringType())
    return Dataset("t")


CONDITIONS = ["x >= 20 and x < 44", "word = 'aaa'", "word is null or x = 7", "box.w > 30", "box is null", "x < 0"]


@pytest.fixture(scope="module", params=[saved, appended, removed, grown, restructured])
def dataset(request: pytest.FixtureRequest, shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    made: Made = request.param
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="10"):
        return made(Lake.current())


@pytest.mark.parametrize("condition", CONDITIONS)
def test_rows_are_those_of_the_filter(dataset: Dataset, condition: str, monkeypatch: pytest.MonkeyPatch) -> None:
    everything = Dataset.from_arrow(dataset.to_arrow())
    tested: list[str] = []
    real = Filter.apply
    monkeypatch.setattr(Filter, "apply", lambda self, *given: (tested.append("again"), real(self, *given))[1])
    for columns in (["no"], ["box", "x"], ["word"], everything.schema.names):
        expected = everything.filter(condition).select(columns).to_arrow()
        tested.clear()
        found = dataset.filter(condition).select(columns)
        assert found.to_arrow().equals(expected, check_metadata=True)
        assert tested == []
        assert found.head(3).to_arrow().equals(expected.slice(0, 3))
        assert found.count() == len(expected)


def test_a_column_that_files_lack(lake: Lake) -> None:
    dataset = grown(lake)
    assert dataset.filter("late is null").select(["x"]).to_arrow()["x"].to_pylist() == list(range(60))
    assert dataset.filter("late = 'a'").select(["x"]).count() == 0
    assert dataset.filter("x = 3").select(["late"]).to_arrow()["late"].to_pylist() == [None]


def test_explain_shows_the_filter(lake: Lake) -> None:
    assert "Filter x == 3 (decided by the scan)" in saved(lake).filter("x = 3").select(["no"]).explain()
    assert "Filter x == 3\n" in Dataset.from_dict({"x": [3]}).filter("x = 3").explain()
