"""Columns that rows decide: the type of a column of nulls, and the categories of a column."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

from lakefeed import Dataset, concatenate
from lakefeed.catalog import Lake
from lakefeed.errors import TypeMismatchError


def kinds(dataset: Dataset, column: str) -> tuple[list[Any], bool]:
    dtype: Any = dataset.to_pandas()[column].dtype
    return list(dtype.categories), bool(dtype.ordered)


def test_a_column_of_nulls_gets_its_type_from_the_first_rows_that_have_values() -> None:
    Dataset.from_dict({"id": [1, 2], "n": [None, None]}).save("untyped")
    assert Dataset("untyped").schema.field("n").type == pa.null()
    Dataset.from_dict({"id": [3], "n": [None]}).append_to("untyped")
    Dataset.from_dict({"id": [4], "n": [7]}).append_to("untyped")
    newest = Dataset("untyped")
    assert newest.version == 3
    assert newest.schema.field("n").type == pa.int64()
    assert newest.to_arrow()["n"].to_pylist() == [None, None, None, 7]
    assert newest.filter("n > 5").to_arrow()["id"].to_pylist() == [4]
    assert newest.added_since(1).to_arrow()["n"].to_pylist() == [None, 7]
    first = Dataset("untyped", version=1)
    assert first.to_arrow().schema.field("n").type == pa.null()
    assert first.to_arrow()["n"].to_pylist() == [None, None]
    with pytest.raises(TypeMismatchError, match="'n' has type int64 in the dataset"):
        Dataset.from_dict({"id": [5], "n": ["x"]}).append_to("untyped")
    table = Lake.current().table("untyped")
    for snapshot, expected in zip(table.snapshots(), ([None] * 2, [None] * 3, [None] * 3 + [7]), strict=True):
        other = table.scan(snapshot_id=snapshot.snapshot_id).to_arrow().sort_by("id")
        assert other["n"].to_pylist() == expected
    assert newest.restore(1).schema.field("n").type == pa.null()
    Dataset.from_dict({"id": [5], "n": ["x"]}).append_to("untyped")
    assert Dataset("untyped").to_arrow()["n"].to_pylist() == [None, None, "x"]


def test_edits_decide_a_type_in_their_own_version() -> None:
    Dataset.from_dict({"id": [1, 2], "n": [None, None], "m": [None, None]}).save("edited")
    given: dict[str, Any] = {"id": [2, 3], "n": [{"a": 1}, None], "m": [b"x", None]}
    Dataset.from_dict(given).upsert_into("edited", "id")
    assert Dataset("edited").version == 2
    assert Dataset("edited").to_arrow().to_pydict() == {
        "id": [1, 2, 3],
        "n": [None, {"a": 1}, None],
        "m": [None, b"x", None],
    }
    assert Dataset("edited").changes(1, keys="id").changed == 1
    Dataset.from_dict({"id": [1, 2], "n": [None, None]}).save("replaced")
    Dataset("replaced").delete_rows("id == 1")
    assert Dataset.from_dict({"id": [2], "n": [1.5]}).overwrite("replaced").to_arrow().to_pylist() == [
        {"id": 2, "n": 1.5}
    ]
    Dataset("replaced").add_column("later", pa.null())
    assert Dataset("replaced").widen_column("later", pa.int32()).field("later").type == pa.int32()
    assert Dataset("replaced").to_arrow()["later"].to_pylist() == [None]


def test_writers_that_race_for_the_type_agree() -> None:
    Dataset.from_dict({"n": [None]}).save("raced")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: Dataset.from_dict({"n": [number]}).append_to("raced"), range(4)))
    assert sorted(Dataset("raced").to_arrow()["n"].to_pylist()[1:]) == [0, 1, 2, 3]


def test_nulls_beside_values_are_put_together() -> None:
    nulls, values = Dataset.from_dict({"n": [None]}), Dataset.from_dict({"n": [5]})
    assert concatenate([nulls, values]).to_arrow()["n"].to_pylist() == [None, 5]
    assert concatenate([values, nulls]).to_arrow()["n"].to_pylist() == [5, None]


def test_nulls_inside_other_types_get_their_type_from_the_first_rows_that_have_values() -> None:
    untyped: dict[str, Any] = {"id": [1, 2], "l": [[], [None]], "s": [{"b": None, "c": 1}, None], "d": [[[]], []]}
    rows = Dataset.from_dict(untyped)
    saved = rows.save("inside")
    assert saved.schema.field("l").type == pa.list_(pa.null())
    assert saved.schema.field("s").type == pa.struct([("b", pa.null()), ("c", pa.int64())])
    before = saved.to_arrow().to_pylist()
    assert before == rows.to_arrow().to_pylist()
    assert saved.filter("s.b is null").to_arrow()["id"].to_pylist() == [1, 2]
    assert saved.cache().to_arrow().to_pylist() == before
    given: dict[str, Any] = {"id": [3], "l": [[5]], "s": [{"b": {"x": [b"y"]}, "c": 2}], "d": [[["text"]]]}
    Dataset.from_dict(given).append_to("inside")
    newest = Dataset("inside")
    assert newest.version == 2
    assert newest.schema.field("l").type == pa.list_(pa.int64())
    assert newest.schema.field("d").type == pa.list_(pa.list_(pa.string()))
    after = Dataset.from_dict(given).to_arrow().to_pylist()
    assert newest.to_arrow().to_pylist() == before + after
    assert newest.added_since(1).to_arrow().to_pylist() == after
    assert Dataset("inside", version=1).to_arrow().to_pylist() == before
    assert Dataset("inside", version=1).schema.field("l").type == pa.list_(pa.null())
    with pytest.raises(TypeMismatchError, match=r"'l\[\]' has type int64 in the dataset"):
        Dataset.from_dict({"l": [["x"]]}).append_to("inside")
    table = Lake.current().table("inside")
    other = table.scan(selected_fields=("id", "s", "d")).to_arrow().sort_by("id")
    assert other.to_pylist() == newest.select(["id", "s", "d"]).to_arrow().to_pylist()
    changed: dict[str, Any] = {"id": [1, 4], "l": [[6], []], "s": [None, None], "d": [[], [["more"]]]}
    upserted = Dataset.from_dict(changed).upsert_into("inside", "id")
    assert upserted.to_arrow().sort_by("id")["l"].to_pylist() == [[6], [None], [5], []]
    assert newest.restore(1).schema.field("l").type == pa.list_(pa.null())
    assert Dataset("inside").to_arrow().to_pylist() == before
    assert Dataset.from_dict({"id": [7], "l": [["t"]]}).append_to("inside").to_arrow()["l"].to_pylist() == [
        [],
        [None],
        ["t"],
    ]


def test_nulls_inside_every_nested_type_come_back_and_are_decided_by_edits() -> None:
    def table(item: pa.DataType, value: Any) -> pa.Table:
        pairs, fixed = pa.map_(pa.string(), item), pa.list_(item, 2)
        twos: Any = pa.FixedSizeListArray
        return pa.table(
            {
                "id": [1, 2],
                "fixed": twos.from_arrays(pa.array([value] * 4, item), type=fixed, mask=pa.array([False, True])),
                "large": pa.array([[value], []], pa.large_list(item)),
                "map": pa.array([[("a", value)], None], pairs),
                "deep": pa.array([[{"x": [value]}], [None]], pa.list_(pa.struct([("x", pa.list_(item))]))),
            }
        )

    nulls, values = table(pa.null(), None), table(pa.struct([("z", pa.list_(pa.uint8()))]), {"z": [7]})
    saved = Dataset.from_arrow(nulls).save("nested")
    assert saved.to_arrow() == nulls
    assert saved.delete_rows("id == 2").to_arrow() == nulls.slice(0, 1)
    Dataset.from_arrow(values.slice(1)).upsert_into("nested", "id")
    found = Dataset("nested").to_arrow()
    assert found.schema == values.schema
    assert found.to_pylist() == nulls.slice(0, 1).to_pylist() + values.slice(1).to_pylist()
    Dataset.from_arrow(nulls).append_to("nested")
    assert Dataset("nested").to_arrow().to_pylist()[2:] == nulls.to_pylist()
    Dataset.from_arrow(nulls.select(["id", "large"])).save("widened")
    Dataset("widened").widen_column("large", pa.large_list(pa.int8()))
    assert Dataset("widened").to_arrow()["large"].to_pylist() == [[None], []]
    both = [Dataset.from_arrow(nulls), Dataset.from_arrow(values)]
    assert concatenate(both).to_arrow().to_pylist() == nulls.to_pylist() + values.to_pylist()
    assert concatenate(both[::-1]).to_arrow().to_pylist() == values.to_pylist() + nulls.to_pylist()


def test_text_that_another_program_puts_where_no_type_is_yet_is_told() -> None:
    Dataset.from_dict({"l": [[], []]}).save("foreign")
    table = Lake.current().table("foreign")
    table.append(pa.table({"l": pa.array([["x"]], pa.list_(pa.string()))}))
    with pytest.raises(TypeMismatchError, match=r"'l\[\]' has no type yet, but string values"):
        Dataset("foreign").to_arrow()
    Dataset("foreign").widen_column("l", pa.list_(pa.string()))
    assert Dataset("foreign").to_arrow()["l"].to_pylist() == [[], [], ["x"]]


def test_categories_keep_their_order_also_those_that_no_row_has() -> None:
    sizes = pd.Categorical(["mid", "low", "mid", None], categories=["low", "mid", "high"], ordered=True)
    numbers = pd.Categorical([2, 1, 2, None], categories=[3, 2, 1])
    saved = Dataset.from_pandas(pd.DataFrame({"size": sizes, "number": numbers})).save("sizes")
    assert kinds(saved, "size") == (["low", "mid", "high"], True)
    assert kinds(saved, "number") == ([3, 2, 1], False)
    assert saved.to_pandas()["size"].tolist()[:3] == ["mid", "low", "mid"]
    assert saved.to_pandas()["size"].max() == "mid"
    for derived in (saved.filter("size == 'mid'"), saved.cache(), saved.mapped(), concatenate([saved, saved])):
        assert kinds(derived, "size") == (["low", "mid", "high"], True)
    assert kinds(saved.select(["size"]).save("sizes_again"), "size") == (["low", "mid", "high"], True)


def test_categories_of_rows_that_are_added_come_after_those_that_are_there() -> None:
    def rows(values: list[str], among: list[str]) -> Dataset:
        given = pd.Categorical(values, categories=among, ordered=True)
        return Dataset.from_pandas(pd.DataFrame({"id": range(len(values)), "c": given}))

    rows(["b"], ["b", "a"]).save("grown")
    rows(["z", "a"], ["z", "a", "y"]).append_to("grown")
    assert kinds(Dataset("grown"), "c") == (["b", "a", "z", "y"], True)
    assert kinds(Dataset("grown", version=1), "c") == (["b", "a"], True)
    rows(["w"], ["w"]).upsert_into("grown", "id")
    assert kinds(Dataset("grown"), "c") == (["b", "a", "z", "y", "w"], True)
    Dataset.from_dict({"id": [9], "c": ["plain"]}).append_to("grown")
    assert kinds(Dataset("grown"), "c") == (["b", "a", "z", "y", "w", "plain"], True)
    assert Dataset("grown").to_pandas()["c"].tolist() == ["a", "w", "plain"]


def test_enums_of_polars_lose_no_value() -> None:
    frame = pl.DataFrame({"e": pl.Series(["a", "b"], dtype=pl.Enum(["z", "b", "a"]))})
    assert Dataset.from_polars(frame).save("enums").to_polars().equals(frame)
    Dataset.from_polars(pl.DataFrame({"e": pl.Series(["q"], dtype=pl.Enum(["q", "b"]))})).append_to("enums")
    Dataset.from_dict({"e": ["new"]}).append_to("enums")
    found = Dataset("enums").to_polars()["e"]
    assert found.to_list() == ["a", "b", "q", "new"]
    assert found.dtype == pl.Enum(["z", "b", "a", "q", "new"])
