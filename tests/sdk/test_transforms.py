"""Rows M10, M11, M30 to M41, M48, S02 to S11 of the acceptance tables, over several origins."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from lakefeed import Dataset, concatenate, interleave
from lakefeed.errors import (
    ColumnNotFoundError,
    ExpressionError,
    InvalidArgumentError,
    RowIndexError,
    SchemaError,
    TypeMismatchError,
)

ROWS = 100
TABLE = pa.table(
    {
        "x": pa.array(range(ROWS)),
        "f": pa.array([None if n % 9 == 0 else n / 4 for n in range(ROWS)]),
        "s": [f"s{n % 7}" for n in range(ROWS)],
        "r": [{"a": n, "b": str(n)} if n % 5 else None for n in range(ROWS)],
    }
)


def small_batches() -> list[pa.RecordBatch]:
    return TABLE.to_batches(max_chunksize=7)


@pytest.fixture(scope="module", params=["memory", "batches", "saved", "appended"])
def origin(request: pytest.FixtureRequest, shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    """The same rows: in memory, streamed in small batches, saved, saved and appended with small row groups."""
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="16"):
        if request.param == "memory":
            return Dataset.from_arrow(TABLE)
        if request.param == "batches":
            return Dataset.from_batches(small_batches, schema=TABLE.schema)
        first = ROWS if request.param == "saved" else 40
        Dataset.from_arrow(TABLE.slice(0, first)).save("rows", column_types=None)
        if request.param == "appended":
            Dataset.from_arrow(TABLE.slice(40, 30)).append_to("rows")
            Dataset.from_arrow(TABLE.slice(70)).append_to("rows")
        return Dataset("rows")


def xs(dataset: Dataset) -> list[int]:
    return [int(x) for x in dataset.select(["x"]).to_arrow()["x"].to_pylist()]


# ------------------------------------------------------------------ M30, S02-S05


@pytest.mark.parametrize("how", [{"global_": True}, {"global_": False, "window": 10}, {"global_": False}])
def test_shuffle_is_a_repeatable_permutation(origin: Dataset, how: dict[str, Any]) -> None:
    once, again = xs(origin.shuffle(seed=4, **how)), xs(origin.shuffle(seed=4, **how))
    assert once == again != list(range(ROWS))
    assert sorted(once) == list(range(ROWS))
    assert once != xs(origin.shuffle(seed=5, **how))


def test_shuffle_without_a_seed_is_stable_for_the_object(origin: Dataset) -> None:
    shuffled = origin.shuffle()
    assert xs(shuffled) == xs(shuffled)


def test_the_effective_seed_is_seed_plus_epoch(origin: Dataset) -> None:
    assert xs(origin.shuffle(seed=42).set_epoch(1)) == xs(origin.shuffle(seed=43))
    training = origin.shuffle(seed=42, global_=False, window=20)
    first = xs(training)
    training.set_epoch(1)
    assert xs(training) == xs(origin.shuffle(seed=43, global_=False, window=20)) != first


def test_head_before_shuffle_fixes_the_pool(origin: Dataset) -> None:
    assert sorted(xs(origin.head(10).shuffle(seed=1))) == list(range(10))


# ------------------------------------------------------------------ M31


def test_sample_is_without_replacement_and_repeatable(origin: Dataset) -> None:
    chosen = xs(origin.sample(20, seed=3))
    assert chosen == xs(origin.sample(20, seed=3)) == sorted(set(chosen))
    assert len(chosen) == 20
    assert xs(origin.sample(1000, seed=3)) == list(range(ROWS))
    assert xs(origin.sample(0, seed=3)) == []


def test_every_row_is_as_likely() -> None:
    drawn = Counter(x for seed in range(400) for x in xs(Dataset.from_arrow(TABLE).sample(10, seed=seed)))
    expected = 400 * 10 / ROWS
    chi_square = sum((drawn[x] - expected) ** 2 / expected for x in range(ROWS))
    assert chi_square < 150  # 99 degrees of freedom: above 149 once in a thousand


def test_sample_of_a_negative_number_is_an_error(origin: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="sample"):
        origin.sample(-1)


# ------------------------------------------------------------------ M32, S06


def test_select_drop_rename_keep_rows_and_order(origin: Dataset) -> None:
    assert origin.select(["s", "x"]).schema.names == ["s", "x"]
    assert origin.drop(["f", "r"]).schema.names == ["x", "s"]
    renamed = origin.rename({"x": "n", "s": "x"})
    assert renamed.schema.names == ["n", "f", "x", "r"]
    assert renamed.select(["n", "x"]).head(2).to_arrow().to_pylist() == [{"n": 0, "x": "s0"}, {"n": 1, "x": "s1"}]


@pytest.mark.parametrize("call", [lambda d: d.drop("y"), lambda d: d.rename({"y": "z"}), lambda d: d.select(["y"])])
def test_unknown_columns_name_the_near_misses(origin: Dataset, call: Any) -> None:
    with pytest.raises(ColumnNotFoundError, match="'x'"):
        call(origin)


def test_rename_and_drop_refuse_nonsense(origin: Dataset) -> None:
    with pytest.raises(InvalidArgumentError, match="several columns"):
        origin.rename({"x": "s"})
    with pytest.raises(InvalidArgumentError, match="all columns"):
        origin.drop(["x", "f", "s", "r"])


def test_with_column_computes_and_replaces(origin: Dataset) -> None:
    more = origin.with_column("half", "x / 2").with_column("x", "x * 10").filter("half >= 49")
    assert more.schema.names == ["x", "f", "s", "r", "half"]
    assert more.select(["x", "half"]).to_arrow().to_pylist() == [{"x": 980, "half": 49.0}, {"x": 990, "half": 49.5}]
    assert xs(origin.with_column("big", "x > 97").filter("big")) == [98, 99]
    with pytest.raises(ExpressionError, match=r"\^"):
        origin.with_column("y", "x +")


# ------------------------------------------------------------------ M33, M34, S08


def test_take_keeps_order_and_duplicates(origin: Dataset) -> None:
    assert xs(origin.take([99, 0, 41, 0])) == [99, 0, 41, 0]
    assert xs(origin.filter("x >= 50").take([1, 0])) == [51, 50]
    assert xs(origin.take([])) == []


@pytest.mark.parametrize("place", [-1, ROWS])
def test_take_outside_is_an_index_error(origin: Dataset, place: int) -> None:
    with pytest.raises(RowIndexError, match=str(place)):
        list(origin.take([place]))
    with pytest.raises(IndexError):
        list(origin.take([place]))


def test_head_and_skip_part_the_rows(origin: Dataset) -> None:
    assert xs(origin.head(30)) + xs(origin.skip(30)) == list(range(ROWS))
    assert xs(origin.skip(95).head(100)) == [95, 96, 97, 98, 99]
    assert xs(origin.skip(1000)) == []
    with pytest.raises(InvalidArgumentError, match="skip"):
        origin.skip(-1)


# ------------------------------------------------------------------ M40, M41


@pytest.mark.parametrize(("count", "rows"), [(1, ROWS), (3, ROWS), (7, ROWS), (23, 19)])
def test_shards_are_disjoint_and_complete(origin: Dataset, count: int, rows: int) -> None:
    for dataset in (origin if rows == ROWS else origin.head(rows), origin.filter(f"x % 3 == 0 and x < {rows}")):
        parts = [xs(dataset.shard(index, count)) for index in range(count)]
        assert sorted(x for part in parts for x in part) == xs(dataset)
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("wrong", [(-1, 2), (2, 2), (0, 0), (0.5, 2)])
def test_a_shard_that_is_none_is_an_error(origin: Dataset, wrong: tuple[int, int]) -> None:
    with pytest.raises(InvalidArgumentError, match="shard"):
        origin.shard(*wrong)


def test_repeat_and_batch(origin: Dataset) -> None:
    assert xs(origin.head(3).repeat(2)) == [0, 1, 2, 0, 1, 2]
    assert origin.repeat(0).count() == 0
    lists = origin.select(["x"]).batch(30).to_arrow()["x"].to_pylist()
    assert [len(each) for each in lists] == [30, 30, 30, 10]
    assert [x for each in lists for x in each] == list(range(ROWS))
    assert origin.batch(30, drop_last=True).count() == 3


def test_concatenate(origin: Dataset) -> None:
    both = concatenate([origin.head(2), origin.skip(98)])
    assert xs(both) == [0, 1, 98, 99]
    assert xs(both.filter("x > 0").head(2)) == [1, 98]
    assert both.schema == origin.schema


def test_columns_that_differ_are_errors_or_filled(origin: Dataset) -> None:
    with pytest.raises(SchemaError, match="'s'"):
        concatenate([origin, origin.drop("s")])
    filled = concatenate([origin.head(1), origin.drop("s").head(1)], fill=True)
    assert filled.to_arrow()["s"].to_pylist() == ["s0", None]
    with pytest.raises(TypeMismatchError, match="'x'"):
        concatenate([origin.select(["x"]), origin.select(["s"]).rename({"s": "x"})])
    with pytest.raises(InvalidArgumentError, match="at least one"):
        concatenate([])


# ------------------------------------------------------------------ S09


def three() -> list[Dataset]:
    return [
        Dataset.from_dict({"x": list(range(start, start + length))}) for start, length in ((0, 3), (10, 4), (20, 5))
    ]


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        ("first_exhausted", [0, 10, 20, 1, 11, 21, 2, 12, 22]),
        ("all_exhausted", [0, 10, 20, 1, 11, 21, 2, 12, 22, 0, 13, 23, 1, 10, 24]),
        ("all_exhausted_without_replacement", [0, 10, 20, 1, 11, 21, 2, 12, 22, 13, 23, 24]),
    ],
)
def test_in_turn(strategy: Any, expected: list[int]) -> None:
    assert xs(interleave(three(), stopping_strategy=strategy)) == expected


def test_by_chance_keeps_the_order_inside_each_source(origin: Dataset) -> None:
    mixed = interleave([origin.head(50), origin.skip(50)], [0.7, 0.3], seed=1)
    drawn = xs(mixed)
    assert drawn == xs(mixed)
    assert [x for x in drawn if x < 50] == sorted(x for x in drawn if x < 50)
    assert [x for x in drawn if x >= 50] == sorted(x for x in drawn if x >= 50)
    assert 0.5 < np.mean([x < 50 for x in drawn]) < 0.9


def test_a_source_without_chance_is_never_drawn() -> None:
    for strategy in ("first_exhausted", "all_exhausted", "all_exhausted_without_replacement"):
        mixed = interleave(three(), [0.5, 0.5, 0.0], seed=2, stopping_strategy=strategy)  # type: ignore[arg-type]
        assert all(x < 20 for x in xs(mixed))


@pytest.mark.parametrize("chances", [[0.5, 0.5], [0.5, 0.6, 0.1], [1.5, -0.5, 0.0], ["a", 0, 1], 0.5])
def test_wrong_chances_are_errors_at_the_call(chances: Any) -> None:
    with pytest.raises(InvalidArgumentError):
        interleave(three(), chances)


def test_an_interleaved_epoch_resumes_exactly_on_other_ranks(origin: Dataset) -> None:
    pytest.importorskip("torch")
    mixed = interleave([origin.head(50), origin.skip(50)], [0.5, 0.5], seed=1).shuffle(seed=2)
    loader = mixed.to_torch(batch_size=8)
    batches = iter(loader)
    seen = [x for _ in range(4) for x in next(batches)["x"].tolist()]
    state = loader.state_dict()
    for rank in range(2):
        other = mixed.to_torch(batch_size=5, rank=rank, world_size=2)
        other.load_state_dict(state)
        seen += [x for batch in other for x in batch["x"].tolist()]
    assert sorted(seen) == sorted(xs(mixed))


# ------------------------------------------------------------------ M38, M47


def test_join_with_itself_and_a_small_side(origin: Dataset) -> None:
    names = Dataset.from_dict({"s": ["s1", "s3", "s9"], "name": ["one", "three", "nine"]})
    joined = origin.join(names, keys="s").select(["x", "name"])
    assert [row["x"] for row in joined] == [x for x in range(ROWS) if x % 7 in (1, 3)]
    assert origin.join(names, "s", "right outer").filter("x is null").to_arrow()["name"].to_pylist() == ["nine"]
    assert origin.join(origin, ["x", "s"]).schema.names == ["x", "f", "s", "r", "f_right", "r_right"]


def test_sql_over_one_and_several(origin: Dataset) -> None:
    counted = origin.sql("SELECT s, count(*) AS n FROM data GROUP BY s ORDER BY s LIMIT 2")
    assert counted.to_arrow().to_pylist() == [{"s": "s0", "n": 15}, {"s": "s1", "n": 15}]
    assert counted.schema.names == ["s", "n"]
    names = Dataset.from_dict({"s": ["s1"], "name": ["one"]})
    both = origin.query("SELECT count(*) AS n FROM t JOIN names USING (s)", table_name="t", tables={"names": names})
    assert both.to_arrow()["n"].to_pylist() == [15]
    assert origin.sql("SELECT r.a AS a FROM data WHERE r.a > 97").to_arrow()["a"].to_pylist() == [98, 99]


@pytest.mark.parametrize("bad", ["SELECT nope FROM data", "SELEC 1", "", "SELECT 1; SELECT 2", "DROP TABLE data"])
def test_bad_sql_raises_when_built(origin: Dataset, bad: str) -> None:
    with pytest.raises(ExpressionError):
        origin.sql(bad)


# ------------------------------------------------------------------ M09, M10, M11


def test_rows_are_dicts_one_after_another(origin: Dataset) -> None:
    assert list(origin) == list(origin.rows()) == list(origin.rows(load_files=False)) == TABLE.to_pylist()
    assert next(iter(origin)) == next(iter(origin))  # each iteration is its own


@pytest.mark.parametrize("size", [1, 33, 100, 2**70])
def test_batches_have_exactly_the_size_but_for_the_last(origin: Dataset, size: int) -> None:
    sizes = [min(size, ROWS - start) for start in range(0, ROWS, min(size, ROWS))]
    dicts, arrow = list(origin.batches(size)), list(origin.batches(size, format="arrow"))
    assert [len(batch["x"]) for batch in dicts] == [batch.num_rows for batch in arrow] == sizes
    assert [list(batch) for batch in dicts] == [TABLE.schema.names] * len(sizes)
    assert pa.Table.from_batches(arrow) == TABLE
    assert [batch.to_pydict() for batch in arrow] == dicts


def test_natural_chunks_and_no_rows(origin: Dataset) -> None:
    natural = list(origin.batches(format="arrow"))
    assert pa.Table.from_batches(natural) == TABLE
    assert [batch.to_pydict() for batch in natural] == list(origin.batches())
    for none in (origin.head(0), origin.filter("x < 0")):
        assert list(none.batches(5)) == list(none.batches()) == list(none.batches(5, "arrow")) == []


@pytest.mark.parametrize(
    "given",
    [
        {"size": 0},
        {"size": -1},
        {"size": True},
        {"size": 2.0},
        {"size": "2"},
        *({"format": f} for f in ("Dict", 5, None)),
    ],
)
def test_other_sizes_and_formats_are_errors_at_the_call(origin: Dataset, given: dict[str, Any]) -> None:
    with pytest.raises(InvalidArgumentError, match="batches"):
        origin.batches(**given)


@pytest.mark.parametrize("load_files", [True, False, "path", {}])
def test_without_file_columns_every_value_gives_the_rows(origin: Dataset, load_files: Any) -> None:
    assert list(origin.rows(load_files)) == TABLE.to_pylist()
    assert list(origin.batches(200, load_files=load_files)) == [TABLE.to_pydict()]
    assert next(origin.batches(200, "arrow", load_files)).to_pydict() == TABLE.to_pydict()
    [batch] = origin.select(["x"]).to_torch(batch_size=200, load_files=load_files)
    assert batch["x"].tolist() == list(range(ROWS))


# ------------------------------------------------------------------ M48


def test_explain_is_one_indented_line_a_step(origin: Dataset) -> None:
    lines = origin.filter("x > 10").shuffle(seed=3).head(5).select(["x"]).explain().splitlines()
    assert [len(line) - len(line.lstrip()) for line in lines] == [2 * depth for depth in range(len(lines))]
    steps = [line.split()[0] for line in lines]
    assert (steps[-1], "Shuffle" in steps, "Slice" in steps) == ("Scan", True, True)
    assert steps.index("Slice") < steps.index("Shuffle")  # what is above a shuffle stays above it


# ------------------------------------------------------------------ S03, S06, S07, S08, S11


@pytest.mark.live
@pytest.mark.parametrize("window", [ROWS, ROWS + 1, 2**40])
def test_a_window_of_all_rows_mixes_them_all(origin: Dataset, window: int) -> None:
    places = np.array([xs(origin.shuffle(seed=seed, global_=False, window=window)) for seed in range(30)])
    assert all(sorted(order) == list(range(ROWS)) for order in places.tolist())
    # The first ten rows of 30 orders: of a window that is too small they would be rows of the beginning.
    assert 35 < float(places[:, :10].mean()) < 65
    assert float(places[:, :10].max()) > 90


def test_maps_run_while_rows_are_drawn(origin: Dataset) -> None:
    seen: list[int] = []

    def counted(row: dict[str, Any]) -> dict[str, Any]:
        seen.append(row["x"])
        return {"y": row["x"] * 2}

    mapped = origin.map(counted, schema=pa.schema({"y": pa.int64()}))
    assert (mapped.schema.names, seen) == (["y"], [])
    # In small parts: how many rows a function sees ahead is bounded by what a source gives at a time.
    if origin.explain().startswith("Scan rows"):
        assert next(iter(mapped)) == {"y": 0}
        assert len(seen) < ROWS
    assert [row["y"] for row in mapped] == [2 * x for x in range(ROWS)]
    for wrong in (lambda: origin.rename({"nope": "a"}), lambda: origin.drop(["nope"])):
        with pytest.raises(ColumnNotFoundError, match="nope"):
            wrong()


@pytest.mark.parametrize("copies", [0, 1, 3])
def test_batches_may_become_more_rows_or_fewer(origin: Dataset, copies: int) -> None:
    def repeated(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.take(pa.array([row for row in range(batch.num_rows) for _ in range(copies)], pa.int64()))

    def some(batch: pa.RecordBatch) -> pa.RecordBatch:
        return batch.filter(pa.array([x % 3 == 0 for x in batch["x"].to_pylist()], pa.bool_()))

    assert xs(origin.map_batches(repeated, schema=origin.schema)) == [x for x in range(ROWS) for _ in range(copies)]
    fewer = origin.map_batches(some, schema=origin.schema)
    assert (xs(fewer), fewer.count()) == (list(range(0, ROWS, 3)), 34)
    assert xs(fewer.skip(30)) == [90, 93, 96, 99]
    assert [len(batch["x"]) for batch in fewer.batches(10)] == [10, 10, 10, 4]


@pytest.mark.parametrize("count", [0, 41, 100, 2**70])
def test_head_and_skip_part_any_rows(origin: Dataset, count: int) -> None:
    for rows in (origin, origin.filter("x % 2 == 0"), origin.shuffle(seed=2), origin.repeat(2)):
        whole = xs(rows)
        assert xs(rows.head(count)) == whole[:count]
        assert xs(rows.skip(count)) == whole[count:]


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "3", None])
def test_other_numbers_are_errors_at_the_call(origin: Dataset, wrong: Any) -> None:
    for call in (origin.head, origin.skip):
        with pytest.raises(InvalidArgumentError):
            call(wrong)


def test_batches_of_tensors(origin: Dataset) -> None:
    import torch

    batches = list(origin.select(["x", "f", "s"]).to_torch(batch_size=33))
    assert [tuple(batch["x"].shape) for batch in batches] == [(33,), (33,), (33,), (1,)]
    assert torch.equal(torch.cat([batch["x"] for batch in batches]), torch.arange(ROWS))
    assert all(batch["x"].dtype == torch.int64 and batch["f"].dtype == torch.float64 for batch in batches)
    nan = torch.cat([batch["f"] for batch in batches]).isnan()
    assert nan.nonzero().flatten().tolist() == [n for n in range(ROWS) if n % 9 == 0]
    assert batches[0]["s"][:2] == ["s0", "s1"]


@pytest.mark.parametrize("window", [{"global_": False, "window": 3}, {}])
def test_the_rows_of_a_shuffle_without_columns_count(window: dict[str, Any], tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n' * 7)
    shuffled = Dataset.from_file(str(tmp_path / "rows.jsonl")).shuffle(1, **window)
    assert shuffled.count() == shuffled.filter("a = 1").count() == 7
