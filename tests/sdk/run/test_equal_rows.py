"""Rows that are equal count as equal, at every depth: an upsert changes nothing, and nothing counts as added."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

from lakefeed import Dataset
from lakefeed.errors import TypeMismatchError

NAN = float("nan")
ROWS = pa.table(
    {
        "id": [1, 2, 3, 4],
        "list": pa.array([[NAN, 1.0], [], None, [None]]),
        "struct": pa.array([{"x": NAN, "y": [0.0]}, {"x": None, "y": None}, None, {"x": 1.0, "y": [NAN]}]),
        "map": pa.array([[("a", NAN)], [], None, [("a", None)]], pa.map_(pa.string(), pa.float64())),
        "flat": [NAN, 0.0, None, 1.0],
    }
)


def test_nan_within_values_makes_no_difference() -> None:
    rows = Dataset.from_arrow(ROWS)
    rows.save("equal")
    rows.upsert_into("equal", "id")
    assert Dataset("equal").version == 1
    Dataset.from_arrow(ROWS.slice(0, 3)).overwrite("equal")
    assert Dataset("equal").added_since(1).count() == 0
    assert Dataset("equal").removed_since(1).to_arrow()["id"].to_pylist() == [4]
    report = Dataset("equal").changes(1, 2, keys="id")
    assert (report.added, report.removed, report.changed) == (0, 1, 0)


def test_a_value_within_that_differs_is_a_change_and_zeros_are_one_number() -> None:
    table = pa.table({"id": [1, 2, 3], "list": [[0.0], [NAN], [1.0]], "zero": [0.0, 0.0, 0.0]})
    Dataset.from_arrow(table).save("changed")
    other = pa.table({"id": [1, 2, 3], "list": [[-0.0], [NAN], [NAN]], "zero": [-0.0, 0.0, 0.0]})
    Dataset.from_arrow(other).upsert_into("changed", "id")
    assert Dataset("changed").added_since(1).to_arrow()["id"].to_pylist() == [3]


def test_joins_find_partners_of_nested_keys() -> None:
    left = Dataset.from_arrow(ROWS.select(["struct", "id"]))
    right = left.rename({"id": "other"})
    assert left.join(right, "struct").to_arrow()["other"].to_pylist() == [1, 2, 4]
    assert left.join(right, "struct", "left outer").to_arrow()["other"].to_pylist() == [1, 2, None, 4]


def test_python_objects_of_polars_are_refused() -> None:
    frame = pl.DataFrame({"x": [1], "object": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(TypeMismatchError, match="'object'"):
        Dataset.from_polars(frame)
    with pytest.raises(TypeMismatchError, match="Int128"):
        Dataset.from_polars(pl.DataFrame({"x": pl.Series([2**70], dtype=pl.Int128)}))


@pytest.mark.live
def test_tables_of_thousands_of_columns() -> None:
    table = pa.table({f"c{place}": pa.array([place, place + 1]) for place in range(3_000)})
    rows = Dataset.from_arrow(table)
    assert rows.sql("SELECT * FROM data").collect().equals(table)
    names = {f"c{place}": f"d{place}" for place in range(2, 3_000)}
    assert rows.drop(["c1"]).rename(names).collect().num_columns == 2_999
    some = table.select([f"c{place}" for place in range(300)])
    Dataset.from_arrow(some).save("wide")
    Dataset.from_arrow(some.slice(1).set_column(7, "c7", pa.array([77]))).upsert_into("wide", "c0")
    assert Dataset("wide").filter("c7 == 77").select(["c299"]).to_arrow().to_pydict() == {"c299": [300]}
