"""Statistics of Parquet: what cannot be had is unknown, and names that look alike are kept apart."""

from __future__ import annotations

import datetime as dt
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset
from lakefeed.expr import parse, paths
from lakefeed.formats.parquet_footer import Footer
from lakefeed.formats.parquet_format import Parquet


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(table: pa.Table, text: str, group: int = 0) -> dict[tuple[str, ...], Any]:
    pq.write_table(table, "x.parquet", row_group_size=2)
    footer = Footer(pq.read_metadata("x.parquet"))
    asked = {path: footer.bounds(path) for path in paths(parse(text, table.schema))}  # type: ignore[arg-type]
    return {path: bounds[group] for path, bounds in asked.items() if bounds is not None}


def test_a_column_and_a_field_of_the_same_dotted_name() -> None:
    inner = pa.StructArray.from_arrays([pa.array([1, 2, 3, 4])], ["b"])
    table = pa.table({"a": inner, "a.b": [100, 200, 300, 400]})
    both = found(table, "a.b == 3 and `a.b` == 300", group=1)
    assert (both["a", "b"].min, both["a", "b"].max) == (3, 4)
    assert (both["a.b",].min, both["a.b",].max) == (300, 400)
    for text in ("a.b == 3", "`a.b` == 300"):
        assert [part.key for part in Parquet().parts("x.parquet", parse(text, table.schema))] == [1]
        assert Dataset.from_file("x.parquet").filter(text).count() == 1


def test_lists_and_maps_before_a_column_do_not_shift_it() -> None:
    table = pa.table(
        {
            "l": [[{"p": 9, "q": 9}]] * 4,
            "m": pa.array([[("k", 9)]] * 4, pa.map_(pa.string(), pa.int64())),
            "s": [{"t": {"u": n}, "v": [9]} for n in range(4)],
            "x": range(4),
        }
    )
    both = found(table, "s.t.u >= 3 and x >= 3", group=1)
    assert {path: (each.min, each.max) for path, each in both.items()} == {("s", "t", "u"): (2, 3), ("x",): (2, 3)}


def test_a_place_in_a_list_has_no_bounds() -> None:
    assert found(pa.table({"v": [[1, 2]] * 2}), "v[0] == 1") == {}


@pytest.mark.parametrize(
    "values",
    [
        pa.array([1, 2**62], pa.timestamp("us")),
        pa.array([-(2**62), 5], pa.timestamp("ms")),
        pa.array([2**30, 2**31 - 1], pa.date32()),
    ],
)
def test_times_beyond_pythons_are_unknown_bounds(values: Any) -> None:
    pq.write_table(pa.table({"t": values, "x": [1, 2]}), "x.parquet")
    dataset = Dataset.from_file("x.parquet")
    kind = "date" if pa.types.is_date32(values.type) else "timestamp"
    assert dataset.filter(f"t > {kind} '1960-01-01'").count() >= 1
    assert dataset.filter("x == 2").count() == 1


def test_nanoseconds_without_pandas(monkeypatch: pytest.MonkeyPatch) -> None:
    table = pa.table({"t": pa.array([1, 1_000_000_000_000_000_001], pa.timestamp("ns"))})
    pq.write_table(table, "x.parquet", version="2.6", row_group_size=1)
    monkeypatch.setitem(sys.modules, "pandas", None)
    after = dt.datetime(2000, 1, 1)
    assert Dataset.from_file("x.parquet").filter(f"t > timestamp '{after}'").count() == 1
