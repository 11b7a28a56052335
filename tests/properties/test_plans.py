"""Random plans over random tables: optimized gives what plain gives, and what Python would."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed import Dataset, concatenate, interleave
from lakefeed.optimize import optimize
from lakefeed.plan import Node, Pushdown
from lakefeed.run import LocalRunner

PAIR = pa.struct([("x", pa.int64()), ("y", pa.string())])
SCHEMA = pa.schema([("a", pa.int64()), ("b", pa.float64()), ("s", pa.string()), ("r", PAIR), ("place", pa.int64())])
NAMES = tuple(SCHEMA.names)
SMALL_FILES = {"WRITE__ROW_GROUP_ROWS": "4", "WRITE__FILE_BYTES": "300", "READ__THREADS": "2"}
COMPARED: dict[str, tuple[str, Callable[[dict[str, Any]], bool]]] = {
    "a >= 2": ("a", lambda row: row["a"] is not None and row["a"] >= 2),
    "b < 1": ("b", lambda row: row["b"] is not None and row["b"] < 1),
    "not (b < 1)": ("b", lambda row: row["b"] is not None and not row["b"] < 1),
    "s in ('x', 'yy')": ("s", lambda row: row["s"] in ("x", "yy")),
    "s is null": ("s", lambda row: row["s"] is None),
    "place % 3 != 0": ("place", lambda row: row["place"] is not None and row["place"] % 3 != 0),
    "place > 11": ("place", lambda row: row["place"] is not None and row["place"] > 11),
    "r.x > 0": ("r", lambda row: row["r"] is not None and row["r"]["x"] is not None and row["r"]["x"] > 0),
    "r.y is null": ("r", lambda row: row["r"] is None or row["r"]["y"] is None),
    "a > 99": ("a", lambda row: row["a"] is not None and row["a"] > 99),
}
KINDS = ["filter", "rows", "select", "slice", "head", "map", "batches", "by", "split", "load", "window", "shuffle"]
KINDS += ["rename", "column", "sample", "repeat", "both", "mixed", "shard", "drop", "sql"]
Rows = list[dict[str, Any]]
# Over each of five origins.
SOME = settings(max_examples=3 * settings.default.max_examples // 5)

cells = {
    "a": st.none() | st.integers(-3, 5),
    "b": st.none() | st.sampled_from([-1.0, 0.0, 1.0, 2.5, math.nan, math.inf]),
    "s": st.none() | st.sampled_from(["", "x", "yy", "é"]),
    "r": st.none() | st.fixed_dictionaries({"x": st.none() | st.integers(-1, 2), "y": st.none() | st.just("y")}),
}
tables = st.lists(st.fixed_dictionaries(cells), max_size=40).map(
    lambda rows: pa.Table.from_pylist([{**row, "place": i} for i, row in enumerate(rows)], schema=SCHEMA)
)


def doubled(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "place": None if row["place"] is None else row["place"] * 2}


def shifted(row: dict[str, Any]) -> dict[str, Any]:
    return {**row, "place": None if row["place"] is None else row["place"] + 1}


def twice(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.take(pa.array([place for place in range(batch.num_rows) for _ in range(2)], pa.int64()))


@st.composite
def steps(draw: st.DrawFn) -> list[tuple[str, Any]]:
    """Names of steps with their arguments; ``select`` may take columns away that later filters then skip."""
    chosen = []
    for kind in draw(st.lists(st.sampled_from(KINDS), max_size=7)):
        argument: Any = None
        if kind in ("filter", "rows"):
            argument = draw(st.sampled_from(sorted(COMPARED)))
        elif kind == "select":
            argument = draw(st.permutations(NAMES))[: draw(st.integers(1, 5))]
        elif kind == "slice":
            start = draw(st.integers(0, 20))
            argument = (start, draw(st.none() | st.integers(start, 45)))
        elif kind in ("head", "sample", "both"):
            argument = draw(st.integers(0, 20))
        elif kind in ("repeat", "mixed", "shard"):
            argument = draw(st.integers(0, 2))
        elif kind == "drop":
            argument = draw(st.sampled_from(NAMES))
        elif kind in ("window", "shuffle", "by", "split"):
            argument = (draw(st.integers(0, 3)), draw(st.sampled_from(["train", "test"])))
        chosen.append((kind, argument))
    return chosen


def apply(dataset: Dataset, kind: str, argument: Any) -> Dataset:
    names = dataset.schema.names
    if kind in ("filter", "rows"):
        column, test = COMPARED[argument]
        if column not in names:
            return dataset
        return dataset.filter(argument) if kind == "filter" else dataset.filter(test)
    if kind == "select":
        return dataset.select([name for name in argument if name in names] or names[:1])
    if kind == "slice":
        return dataset.slice(*argument)
    if kind == "head":
        return dataset.head(argument)
    if kind == "map":
        return dataset.map(doubled, schema=dataset.schema) if "place" in names else dataset
    if kind == "batches":
        return dataset.map_batches(twice, schema=dataset.schema)
    if kind == "by":
        key = next((name for name in ("s", "a", "place") if name in names), None)
        return dataset if key is None else dataset.train_test_split(by=key, seed=argument[0])[argument[1]]
    if kind == "split":
        return dataset.train_test_split(test_size=0.4, seed=argument[0])[argument[1]]
    if kind == "window":
        return dataset.shuffle(argument[0], global_=False, window=3)
    if kind == "shuffle":
        return dataset.shuffle(argument[0])
    return apply_more(dataset, kind, argument)


def apply_more(dataset: Dataset, kind: str, argument: Any) -> Dataset:
    names = dataset.schema.names
    if kind == "rename":
        return dataset.rename(turned(names)) if {"a", "place"} & set(names) else dataset
    if kind == "column":
        return dataset.with_column("place", "place + 1") if "place" in names else dataset
    if kind == "sample":
        return dataset.sample(argument, seed=1)
    if kind == "repeat":
        return dataset.repeat(argument)
    if kind == "both":
        return concatenate([dataset.head(argument), dataset.skip(argument)])
    if kind == "mixed":
        return interleave([dataset, dataset.head(3)], [0.6, 0.4], seed=argument, stopping_strategy="all_exhausted")
    if kind == "shard":
        return dataset.shard(argument, 3)
    if kind == "drop":
        return dataset.drop(argument) if argument in names and len(names) > 1 else dataset
    if kind == "sql":
        return dataset.sql(f"SELECT {names[0]}, * EXCLUDE ({names[0]}) FROM data") if len(names) > 1 else dataset
    return dataset.load_files()


def turned(names: list[str]) -> dict[str, str]:
    """``a`` and ``place``, which are of one type, under each other's names."""
    both = {"a": "place", "place": "a"}
    return {old: new for old, new in both.items() if old in names}


def interpreted(rows: Rows, kind: str, argument: Any) -> Rows | None:
    """What the step does to rows, in plain Python; None where that is the implementation over again."""
    names = list(rows[0]) if rows else []
    if kind in ("filter", "rows"):
        column, test = COMPARED[argument]
        return [row for row in rows if test(row)] if column in names else rows
    if kind == "select":
        kept = [name for name in argument if name in names] or names[:1]
        return [{name: row[name] for name in kept} for row in rows]
    if kind == "slice":
        return rows[argument[0] : argument[1]]
    if kind == "head":
        return rows[:argument]
    if kind == "map":
        return [doubled(row) for row in rows] if "place" in names else rows
    if kind == "batches":
        return [row for row in rows for _ in range(2)]
    if kind == "rename":
        return [{turned(names).get(name, name): cell for name, cell in row.items()} for row in rows]
    if kind == "column":
        return (
            [{**row, "place": None if row["place"] is None else row["place"] + 1} for row in rows]
            if "place" in names
            else rows
        )
    if kind == "repeat":
        return rows * argument
    if kind == "drop":
        return [{name: row[name] for name in names if name != argument or len(names) == 1} for row in rows]
    return rows if kind in ("load", "both", "sql") else None


def rows_of(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> list[str]:
    found: list[str] = []
    for batch in batches:
        assert batch.schema.equals(schema, check_metadata=True)
        found += [repr(row) for row in batch.to_pylist()]  # repr: NaN equals itself there
    return found


def check(origin: Dataset, chosen: list[tuple[str, Any]], rows: Rows) -> None:
    dataset, expected = origin, list(rows)
    easy = True
    for kind, argument in chosen:
        dataset = apply(dataset, kind, argument)
        step = interpreted(expected, kind, argument) if easy else None
        easy, expected = step is not None, step or []
    plan: Node = dataset._plan
    runner = LocalRunner(dataset._lake.settings)
    plain = rows_of(runner.stream(plan), dataset.schema)
    assert rows_of(runner.stream(optimize(plan)), dataset.schema) == plain
    assert rows_of(runner.stream(optimize(optimize(plan))), dataset.schema) == plain
    assert dataset.count() == len(plain)
    if easy:
        assert plain == [repr(row) for row in expected]


@SOME
@given(table=tables, drawn=steps(), cut=st.integers(1, 50))
def test_in_memory(table: pa.Table, drawn: Any, cut: int) -> None:
    chunked = pa.Table.from_batches(table.to_batches(max_chunksize=cut), SCHEMA)
    check(Dataset.from_arrow(chunked), drawn, table.to_pylist())


@SOME
@given(table=tables, drawn=steps(), cut=st.integers(1, 50))
def test_from_batches(table: pa.Table, drawn: Any, cut: int) -> None:
    empty = table.slice(0, 0).combine_chunks().to_batches()
    batches = [partition for batch in table.to_batches(max_chunksize=cut) for partition in (batch, *empty)]
    check(Dataset.from_batches(lambda: batches, schema=SCHEMA), drawn, table.to_pylist())


NANS = [math.nan, None, 1.0, math.nan, -1.0, math.inf, 0.0]
ROWS = [
    {
        "a": None if i % 7 == 3 else i // 4,
        "b": NANS[i % 7],
        "s": None if i % 5 == 0 else "xyyé"[i % 4] * (i % 3),
        "r": None if i % 6 == 1 else {"x": i % 4 - 1, "y": None if i % 4 == 2 else "y"},
        "place": i,
    }
    for i in range(37)
]
FIXED = [
    pa.Table.from_pylist(ROWS, schema=SCHEMA),
    pa.Table.from_pylist(ROWS[:1], schema=SCHEMA),
    pa.Table.from_pylist([], schema=SCHEMA),
    pa.Table.from_pylist([{**row, "a": None, "b": math.nan} for row in ROWS[:20]], schema=SCHEMA),
]


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> list[Dataset]:
    """The fixed tables saved and appended to, in several files of small row groups."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**SMALL_FILES, "HOME": str(tmp_path_factory.mktemp("lake"))}.items():
            patch.setenv(f"LAKEFEED__{name}", value)
        made = []
        for number, table in enumerate(FIXED):
            Dataset.from_arrow(table.slice(0, 10)).save(f"t{number}", column_types=None)
            Dataset.from_arrow(table.slice(10, 15)).append_to(f"t{number}")
            made.append(Dataset.from_arrow(table.slice(25)).append_to(f"t{number}"))
    return made


@SOME
@given(which=st.integers(0, len(FIXED) - 1), drawn=steps())
def test_saved(saved: list[Dataset], which: int, drawn: Any) -> None:
    check(saved[which], drawn, FIXED[which].to_pylist())


def test_the_saved_table_is_in_several_files_of_several_row_groups(saved: list[Dataset]) -> None:
    source = saved[0]._plan.source  # type: ignore[attr-defined]  # a scan
    assert len(source.files) > 4
    assert len(list(source.fragments(Pushdown()))) > len(source.files)


@pytest.fixture(scope="module")
def in_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Dataset]:
    """The first fixed table as Parquet files of small row groups, as CSV and as JSON lines."""
    folder, table = tmp_path_factory.mktemp("files"), FIXED[0]
    for number in range(3):
        pq.write_table(table.slice(number * 15, 15), folder / f"{number}.parquet", row_group_size=4)
    lines = [json.dumps({**row, "b": None}) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines))
    return {form: Dataset.from_file(str(folder / f"*.{form}")) for form in ("parquet", "jsonl")}


@SOME
@given(drawn=steps())
def test_parquet_files(in_files: dict[str, Dataset], drawn: Any) -> None:
    check(in_files["parquet"], drawn, ROWS)


@SOME
@given(drawn=steps())
def test_json_lines(in_files: dict[str, Dataset], drawn: Any) -> None:
    drawn = [item for item in drawn if item[1] not in ("b < 1", "not (b < 1)")]
    check(in_files["jsonl"], drawn, [{**row, "b": None} for row in ROWS])
