from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakefeed import Dataset
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError
from tests.sdk.ops.test_join import appended, in_memory, saved, small_batches

TABLE = pa.table({"k": pa.array([3, 1, None, 2, 3, None, 1]), "s": ["c", "a", "x", "b", None, "y", "A"], "n": range(7)})


@pytest.mark.parametrize("origin", [in_memory, small_batches, saved, appended])
def test_sort_is_stable_and_puts_nulls_last(origin: Any) -> None:
    rows = origin(TABLE, "rows")
    assert rows.sort("k").to_arrow()["n"].to_pylist() == [1, 6, 3, 0, 4, 2, 5]
    assert rows.sort("k", descending=True).to_arrow()["n"].to_pylist() == [0, 4, 3, 1, 6, 2, 5]
    assert rows.sort(["k", "s"], descending=[False, True]).to_arrow()["n"].to_pylist() == [1, 6, 3, 0, 4, 5, 2]
    assert rows.sort("s").to_arrow()["s"].to_pylist() == ["A", "a", "b", "c", "x", "y", None]
    assert rows.sort("k").schema == rows.schema


def test_nan_is_above_every_number_and_below_null() -> None:
    rows = Dataset.from_dict({"x": [math.nan, 1.0, None, math.inf, -math.inf, -0.0]})
    found = rows.sort("x").to_arrow()["x"].to_pylist()
    assert found[:4] == [-math.inf, -0.0, 1.0, math.inf]
    assert math.isnan(found[4])
    assert found[5] is None


def test_filters_and_columns_go_below_a_sort() -> None:
    saved_rows = Dataset.from_arrow(TABLE).save("rows", column_types=None)
    plan = saved_rows.sort("k").filter("k > 1").select(["n"])
    assert plan.to_arrow()["n"].to_pylist() == [3, 0, 4]
    lines = plan.explain().splitlines()
    assert [line.split()[0] for line in lines] == ["Project", "Sort", "Filter", "Scan"]
    assert "columns=[k, n]" in lines[-1]


def test_rows_of_any_type_are_carried_along() -> None:
    column = pa.array([[1.0, 2.0], None], pa.list_(pa.float16(), 2))
    found = Dataset.from_arrow(pa.table({"k": [2, 1], "v": column})).sort("k").to_arrow()
    assert found["v"].to_pylist() == [None, [1.0, 2.0]]
    assert found.schema.field("v").type == column.type


def test_a_function_below_a_sort_runs_once_a_row() -> None:
    seen: list[int] = []

    def note(row: dict[str, int]) -> dict[str, int]:
        seen.append(row["x"])
        return row

    rows = Dataset.from_dict({"x": [3, 1, 2]}).map(note, schema=pa.schema({"x": pa.int64()}))
    assert rows.sort("x").to_arrow()["x"].to_pylist() == [1, 2, 3]
    assert seen == [3, 1, 2]


def test_mistakes_are_errors_at_the_call() -> None:
    rows = Dataset.from_arrow(TABLE)
    with pytest.raises(ColumnNotFoundError, match="'kk'"):
        rows.sort("kk")
    for by in ([], ["k", "k"]):
        with pytest.raises(InvalidArgumentError):
            rows.sort(by)
    with pytest.raises(InvalidArgumentError, match="direction"):
        rows.sort(["k", "s"], descending=[True])
    with pytest.raises(InvalidArgumentError):
        rows.sort("k", descending="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeMismatchError, match="'d'"):
        Dataset.from_arrow(pa.table({"d": pa.array([1], pa.decimal256(50, 0))})).sort("d")


@pytest.mark.slow
@pytest.mark.live
def test_what_is_larger_than_the_budget_is_sorted_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAKEFEED__SQL__MEMORY_BYTES", str(64 << 20))
    rows = 400_000

    def batches() -> Any:
        for start in range(0, rows, 20_000):
            keys = (np.arange(start, start + 20_000) * 7) % rows
            yield pa.record_batch({"k": keys, "text": [f"{key:0400d}" for key in keys.tolist()]})

    ordered = Dataset.from_batches(batches, schema=pa.schema({"k": pa.int64(), "text": pa.string()})).sort("k")
    place = 0
    for batch in ordered.batches(format="arrow"):
        assert batch["k"].to_pylist() == list(range(place, place + batch.num_rows))
        assert int(batch["text"][-1].as_py()) == place + batch.num_rows - 1
        place += batch.num_rows
    assert place == rows
    assert list((tmp_path / "cache" / "spill").iterdir()) == []


@given(st.lists(st.tuples(st.one_of(st.none(), st.integers(-2, 2)), st.one_of(st.none(), st.text("ab", max_size=2)))),
       st.tuples(st.booleans(), st.booleans()))  # fmt: skip
def test_any_rows(rows: list[tuple[int | None, str | None]], down: tuple[bool, bool]) -> None:
    schema = pa.schema({"a": pa.int64(), "b": pa.string(), "n": pa.int64()})
    table = pa.Table.from_pylist([{"a": a, "b": b, "n": n} for n, (a, b) in enumerate(rows)], schema)
    expected = table.to_pylist()
    for name, reverse in (("b", down[1]), ("a", down[0])):
        present = [row for row in expected if row[name] is not None]
        missing = [row for row in expected if row[name] is None]
        expected = sorted(present, key=lambda row: row[name], reverse=reverse) + missing
    assert Dataset.from_arrow(table).sort(["a", "b"], descending=list(down)).to_arrow().to_pylist() == expected
