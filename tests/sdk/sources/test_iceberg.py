"""Versions of tables that others have written to, changed and deleted from."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pyiceberg.types import IntegerType, LongType, StringType

from lakefeed import Dataset
from lakefeed.catalog import Lake

X = pa.schema({"x": pa.int64()})


@pytest.fixture
def grown(monkeypatch: pytest.MonkeyPatch) -> Dataset:
    monkeypatch.setenv("LAKEFEED__WRITE__ROW_GROUP_ROWS", "2")
    Dataset.from_dict({"x": [1, 2, 3], "r": [{"a": 1}, None, {"a": 3}]}).save("t")
    return Dataset.from_dict({"x": [4], "r": [{"a": 4}]}).append_to("t")


def rows(dataset: Dataset) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = dataset.to_arrow().to_pylist()
    return found


def test_a_column_added_later_is_null_in_older_files(grown: Dataset, lake: Lake) -> None:
    with lake.table("t").update_schema() as update:
        update.add_column("new", StringType())
    Dataset.from_dict({"x": [5], "new": ["n"]}).append_to("t")
    everything = Dataset("t")
    assert [row["new"] for row in rows(everything)] == [None] * 4 + ["n"]
    assert rows(everything.select(["new"]).slice(3)) == [{"new": None}, {"new": "n"}]
    assert everything.filter("new is null").count() == 4
    assert everything.filter("new == 'n'").select(["x"]).to_arrow()["x"].to_pylist() == [5]
    assert Dataset("t", version=2).schema.names == ["x", "r"]


def test_a_renamed_column_keeps_its_values(grown: Dataset, lake: Lake) -> None:
    with lake.table("t").update_schema() as update:
        update.rename_column("x", "y")
    Dataset.from_dict(
        {"y": [5], "r": [None]}, schema=pa.schema([("y", pa.int64()), grown.schema.field("r")])
    ).append_to("t")
    everything = Dataset("t")
    assert [row["y"] for row in rows(everything)] == [1, 2, 3, 4, 5]
    assert everything.filter("y > 2 and y < 5").select(["y"]).to_arrow()["y"].to_pylist() == [3, 4]
    assert everything.slice(1, 3).select(["y"]).to_arrow()["y"].to_pylist() == [2, 3]


def test_a_column_dropped_and_made_again_is_another_one(grown: Dataset, lake: Lake) -> None:
    with lake.table("t").update_schema() as update:
        update.delete_column("x")
    with lake.table("t").update_schema() as update:
        update.add_column("x", LongType())
    Dataset.from_dict({"x": [9]}).append_to("t")
    assert [row["x"] for row in rows(Dataset("t"))] == [None] * 4 + [9]
    assert Dataset("t").filter("x == 9").count() == 1
    assert [row["x"] for row in rows(Dataset("t", version=2))] == [1, 2, 3, 4]


def test_fields_of_structs_may_change_too(grown: Dataset, lake: Lake) -> None:
    with lake.table("t").update_schema() as update:
        update.add_column(("r", "b"), IntegerType())
        update.rename_column("r.a", "c")
    schema = pa.schema([("x", pa.int64()), ("r", pa.struct([("c", pa.int64()), ("b", pa.int32())]))])
    Dataset.from_dict({"x": [5], "r": [{"c": 5, "b": 6}]}, schema=schema).append_to("t")
    assert [row["r"] for row in rows(Dataset("t"))][::2] == [
        {"c": 1, "b": None},
        {"c": 3, "b": None},
        {"c": 5, "b": 6},
    ]
    assert [row["r"]["c"] for row in rows(Dataset("t").slice(2, 4))] == [3, 4]
    assert sorted(row["x"] for row in Dataset("t").shuffle(1)) == [1, 2, 3, 4, 5]
    assert Dataset("t").filter("r.c == 3").select(["x"]).to_arrow()["x"].to_pylist() == [3]


def test_a_type_that_was_widened(lake: Lake) -> None:
    Dataset.from_dict({"x": [1]}, schema=pa.schema({"x": pa.int32()})).save("t")
    with lake.table("t").update_schema() as update:
        update.update_column("x", LongType())
    table = lake.table("t")
    table.append(pa.table({"x": [2**40]}))
    assert [row["x"] for row in rows(Dataset("t").filter("x > 0"))] == [1, 2**40]


def test_files_that_pyiceberg_wrote(lake: Lake) -> None:
    table = lake.catalog.create_table("default.t", X)
    table.append(pa.table({"x": [1, 2]}))
    table.append(pa.table({"x": [3]}))
    dataset = Dataset("t")
    assert (len(dataset), dataset.version, [row["x"] for row in dataset]) == (3, 2, [1, 2, 3])
    assert [row["x"] for row in dataset.added_since(1).rows()] == [3]


def test_files_without_ids_that_were_added(lake: Lake, tmp_path: Any) -> None:
    pq.write_table(pa.table({"x": [1, 2]}), tmp_path / "f.parquet")
    lake.catalog.create_table("default.t", pa.schema([*X, ("y", pa.string())]))
    lake.table("t").add_files([str(tmp_path / "f.parquet")])
    assert rows(Dataset("t").filter("x > 1")) == [{"x": 2, "y": None}]
    assert Dataset("t").select(["y"]).count() == 2


def test_rows_that_pyiceberg_deleted(grown: Dataset, lake: Lake) -> None:
    lake.table("t").delete("x == 2")
    dataset = Dataset("t")
    assert sorted(row["x"] for row in dataset) == [1, 3, 4]
    assert [row["x"] for row in grown] == [1, 2, 3, 4]
    assert sorted(row["x"] for row in dataset.filter("x > 1")) == [3, 4]
    assert len(dataset) == 3


def test_deletes_between_appends_add_nothing(grown: Dataset, lake: Lake) -> None:
    lake.table("t").delete("x == 4")
    Dataset.from_dict({"x": [5]}).append_to("t")
    newest = Dataset("t").version
    assert [row["x"] for row in Dataset("t").added_since(newest - 1).rows()] == [5]


def test_where_a_name_looks_like_a_field() -> None:
    table = pa.table({"a.b": [1, 2], "a": [3, 4], "sp ace": [5, 6], 'q"': [7, 8]})
    dataset = Dataset.from_arrow(table).save("t")
    assert dataset.to_arrow().to_pylist() == table.to_pylist()
    assert rows(dataset.filter("`a.b` == 2").select(["a", 'q"'])) == [{"a": 4, 'q"': 8}]
    assert rows(dataset.filter("`sp ace` == 5 and a == 3").select(["a.b"])) == [{"a.b": 1}]
