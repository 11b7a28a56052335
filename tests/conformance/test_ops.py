"""Every operation: schema, traits and rows hold together over every origin and every way to cut batches."""

from __future__ import annotations

import inspect
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from lakefeed import Dataset, ops
from lakefeed.config import Settings
from lakefeed.expr import parse, parse_value
from lakefeed.media import typed_schema
from lakefeed.ops import (
    Batch,
    Concatenate,
    Conform,
    FileColumns,
    Filter,
    FilterRows,
    Interleave,
    Join,
    LoadFiles,
    Map,
    MapBatches,
    Project,
    Query,
    Rename,
    Repeat,
    Sample,
    Scan,
    Shuffle,
    SkippingLoadFiles,
    SkippingMap,
    Slice,
    Sort,
    SplitByKey,
    SplitByPlace,
    StoreFiles,
    Stride,
    Take,
    WithColumn,
)
from lakefeed.optimize import optimize
from lakefeed.plan import Node, Step, explain, fingerprint
from lakefeed.plan.walk import flatten, rebuild
from lakefeed.run import LocalRunner
from lakefeed.run.row_count import known_rows
from lakefeed.sources.memory_source import MemorySource
from lakefeed.storage import BlobStore

ROWS = 60
TABLE = pa.table(
    {
        "x": pa.array(range(ROWS)),
        "f": pa.array([None if n % 5 == 0 else float("nan") if n % 7 == 0 else n / 2 for n in range(ROWS)]),
        "d": pa.array([str(n % 3) for n in range(ROWS)]).dictionary_encode(),
        "r": pa.array([{"a": n, "b": [None, n]} if n % 4 else None for n in range(ROWS)]),
    }
)
SCHEMA = TABLE.schema
MAPPED = pa.schema([pa.field("y", pa.int64(), nullable=False), ("r", SCHEMA.field("r").type)])


def mapped(row: dict[str, Any]) -> dict[str, Any]:
    return {"r": row["r"], "y": row["x"] * 2}


def picky(row: dict[str, Any]) -> dict[str, Any]:
    if row["x"] % 5 == 3:
        raise KeyError("a fifth of the rows")
    return mapped(row)


def odd(row: dict[str, Any]) -> bool:
    return bool(row["x"] % 2)


def doubled(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch.take(pa.array([n for n in range(batch.num_rows) for _ in (0, 1)], pa.int64()))


def stored(folder: Path) -> BlobStore:
    return BlobStore(f"file://{folder / 'blobs'}", folder / "cache")


def with_files(child: Node, folder: Path) -> Node:
    schema = pa.schema([("x", pa.int64()), ("u", pa.string())])
    return Map(child, lambda row: {"x": row["x"], "u": f"https://example.org/{row['x']}.png"}, schema)


def settings() -> Settings:
    return Settings.load()


MAKERS: dict[type[Node], Callable[[Node, Path], Node]] = {
    Batch: lambda child, _: Batch(child, 7),
    Concatenate: lambda child, _: Concatenate((child, Slice(child, 50, None)), False),
    Conform: lambda child, _: Conform(
        child, pa.schema([SCHEMA.field("r"), ("z", pa.int64()), *(SCHEMA.field(name) for name in "dfx")])
    ),
    Interleave: lambda child, _: Interleave((child, Slice(child, 50, None)), (0.8, 0.2), 3, "all_exhausted"),
    Join: lambda child, _: Join(child, Project(Slice(child, 20, 40), ("x", "f")), ("x",), "full outer", settings()),
    Query: lambda child, _: Query("SELECT r, x FROM data WHERE x % 2 = 1", ("data",), (child,), settings()),
    Rename: lambda child, _: Rename(child, (("f", "g"), ("d", "f"))),
    Repeat: lambda child, _: Repeat(child, 2),
    Sample: lambda child, _: Sample(child, 20, 5),
    Stride: lambda child, _: Stride(child, 2, 3),
    Take: lambda child, _: Take(child, (59, 0, 7, 7)),
    WithColumn: lambda child, _: WithColumn(child, "f", parse_value("x * 2", SCHEMA)),
    FileColumns: lambda child, folder: FileColumns(
        with_files(child, folder), (("u", "image"),), stored(folder), "auto", True
    ),
    Filter: lambda child, _: Filter(child, parse("f > 10 or r.a == 1 or d == '2'", SCHEMA)),
    FilterRows: lambda child, _: FilterRows(child, odd),
    LoadFiles: lambda child, folder: LoadFiles(
        FileColumns(with_files(child, folder), (("u", "file"),), stored(folder), False, False),
        (("u", "bytes"),),
        stored(folder),
        2,
        "null",
        0.01,
    ),
    Map: lambda child, _: Map(child, mapped, MAPPED),
    MapBatches: lambda child, _: MapBatches(child, doubled, SCHEMA),
    Project: lambda child, _: Project(child, ("r", "x")),
    Shuffle: lambda child, _: Shuffle(child, 7, 5),
    SkippingLoadFiles: lambda child, folder: SkippingLoadFiles(
        FileColumns(with_files(child, folder), (("u", "file"),), stored(folder), False, False),
        (("u", "bytes"),),
        stored(folder),
        2,
        "skip",
        0.01,
    ),
    SkippingMap: lambda child, _: SkippingMap(child, picky, MAPPED),
    Slice: lambda child, _: Slice(child, 7, 41),
    Sort: lambda child, _: Sort(child, ("d", "x"), (True, False), settings()),
    SplitByKey: lambda child, _: SplitByKey(child, "d", 3, 0.4, "train"),
    SplitByPlace: lambda child, _: SplitByPlace(child, ROWS, 3, 0.4, "test"),
}
OPS = [op for op in MAKERS if not issubclass(op, LoadFiles)]


def test_every_operation_is_here() -> None:
    assert set(MAKERS) | {Scan, StoreFiles} == {getattr(ops, name) for name in ops.__all__}
    assert all(inspect.getdoc(op) for op in MAKERS)


@pytest.fixture(scope="module", params=["memory", "chunks", "saved"])
def child(request: pytest.FixtureRequest, shared_home: Callable[..., AbstractContextManager[Path]]) -> Node:
    if request.param == "memory":
        return Scan(MemorySource(TABLE))
    if request.param == "chunks":
        return Dataset.from_batches(lambda: TABLE.to_batches(max_chunksize=7), schema=SCHEMA)._plan
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="9"):
        Dataset.from_arrow(TABLE.slice(0, 25)).save("t", column_types=None)
        return Dataset.from_arrow(TABLE.slice(25)).append_to("t", copy_files=False)._plan


@pytest.fixture(params=OPS, ids=lambda op: op.__name__)
def node(request: pytest.FixtureRequest, child: Node, tmp_path: Path) -> Node:
    return MAKERS[request.param](child, tmp_path)


@pytest.fixture
def runner() -> LocalRunner:
    return LocalRunner(settings())


def rows(runner: LocalRunner, plan: Node) -> list[str]:
    found = []
    for batch in runner.stream(plan):
        assert batch.num_rows
        assert batch.schema.equals(plan.schema, check_metadata=True)
        batch.validate(full=True)
        found += list(map(repr, batch.to_pylist()))
    return found


def test_optimized_gives_the_same_rows(node: Node, runner: LocalRunner) -> None:
    assert rows(runner, optimize(node)) == rows(runner, node)


def test_it_works_below_and_above_others(node: Node, runner: LocalRunner) -> None:
    names = node.schema.names
    plans = [Slice(node, 2, 9), Project(node, (names[-1],)), Project(node, ()), Shuffle(node, 1, None)]
    if "x" in names and pa.types.is_integer(node.schema.field("x").type):
        plans += [
            Filter(node, parse("x % 3 == 1", node.schema)),
            Slice(Filter(node, parse("x > 30", node.schema)), 1, 4),
        ]
    for plan in plans:
        assert rows(runner, optimize(plan)) == rows(runner, plan)


def test_what_it_says_of_rows_and_order_is_true(node: Node, child: Node, runner: LocalRunner) -> None:
    before, after = rows(runner, Project(child, ("x",))), rows(runner, node)
    if node.keeps_row_count:
        assert len(after) == len(before)
    if node.keeps_order and "x" in node.schema.names:
        places = [int(row.split(":")[1].strip(" }")) for row in rows(runner, Project(node, ("x",)))]
        assert places == sorted(places)
    assert known_rows(node) in (None, len(after))


def test_batches_may_be_cut_anywhere(node: Node, runner: LocalRunner) -> None:
    if not isinstance(node, Step) or node.batchwise:
        pytest.skip("it sees whole batches or all rows")
    below = list(runner.stream(node.child))
    whole = pa.Table.from_batches(below).combine_chunks().to_batches()[0]
    for size in (1, 7, 60):
        cut = [whole.slice(start, size) for start in range(0, whole.num_rows, size)]
        found = [repr(row) for n, batch in enumerate(cut) for row in node.apply(batch, n * size).to_pylist()]
        assert found == rows(runner, node)


def test_positional_steps_say_how_many_rows_they_keep(node: Node) -> None:
    if not isinstance(node, Step) or not node.positional:
        pytest.skip("places do not matter to it")
    (batch,) = TABLE.combine_chunks().to_batches()
    for start, rows in ((0, 60), (0, 0), (5, 3), (40, 20), (41, 19), (59, 1)):
        assert node.count_kept(start, rows) == node.apply(batch.slice(start, rows), start).num_rows
        assert not node.exhausted(start) or not node.count_kept(start, 60 - start)


def test_no_rows_in_no_rows_out(request: pytest.FixtureRequest, runner: LocalRunner, tmp_path: Path) -> None:
    for op, make in MAKERS.items():
        if op is Take:  # there is no row to take
            continue
        plan = make(Scan(MemorySource(TABLE.slice(0, 0))), tmp_path)
        assert rows(runner, optimize(plan)) == rows(runner, plan) == []


def test_it_is_described_pickled_and_rebuilt(child: Node, tmp_path: Path, runner: LocalRunner) -> None:
    for op in set(OPS) - {FileColumns}:
        if not isinstance(child, Scan) or not isinstance(child.source, MemorySource):
            pytest.skip("once is enough")
        node = MAKERS[op](child, tmp_path)
        again = rebuild(pickle.loads(pickle.dumps(flatten(node))))
        assert explain(again) == explain(node)
        assert explain(node).startswith(op.__name__)
        assert (again.schema, fingerprint(again)) == (node.schema, fingerprint(node))
        assert rows(runner, again) == rows(runner, node)


def test_it_is_immutable_and_stands_over_other_children(node: Node) -> None:
    with pytest.raises(AttributeError):
        node.child = node  # type: ignore[attr-defined, misc]
    assert node.over(node.children) is node
    other = node.with_children([Slice(below, 0, None) for below in node.children])
    assert (type(other), other.schema) == (type(node), node.schema)
    assert fingerprint(other) != fingerprint(node)


def test_file_columns_promise_the_schema_that_media_gives(child: Node, tmp_path: Path) -> None:
    node = MAKERS[FileColumns](child, tmp_path)
    assert node.schema == typed_schema(node.children[0].schema, {"u": "image"})
