"""Every source: the same rows in the same order, however they are asked for."""

from __future__ import annotations

import itertools
import pickle
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, sparse_field
from lakefeed.expr import parse
from lakefeed.ops import Scan
from lakefeed.plan import Pushdown, Source
from lakefeed.run import LocalRunner

ROWS = 100
TABLE = pa.table(
    {
        "x": list(range(ROWS)),
        "s": [None if n % 3 == 0 else str(n) for n in range(ROWS)],
        "v": [[n] * (n % 3) for n in range(ROWS)],
        "r": [{"a": n, "b": None} if n % 4 else None for n in range(ROWS)],
    },
    schema=pa.schema(
        [
            ("x", pa.int64()),
            ("s", pa.string()),
            ("v", pa.list_(pa.int32())),
            ("r", pa.struct([("a", pa.int64()), ("b", pa.string())])),
        ]
    ),
)
CELLS = pa.table(
    {
        "obs_names": [f"cell{n}" for n in range(ROWS)],
        "x": TABLE["x"],
        "s": TABLE["s"],
        "X": [{"indices": list(range(n % 3)), "values": [n + 0.5] * (n % 3)} for n in range(ROWS)],
    },
    schema=pa.schema(
        [("obs_names", pa.string()), ("x", pa.int64()), ("s", pa.string()), sparse_field("X", 4, nullable=False)]
    ),
)
"""The rows of .h5ad files, which have no columns of lists and structs but that of the matrix."""
PUSHDOWNS = [
    Pushdown(),
    Pushdown(columns=("s",)),
    Pushdown(columns=("x", "r")),
    Pushdown(predicate=parse("x >= 40 and x < 45", TABLE.schema)),
    Pushdown(columns=("x",), predicate=parse("s is null", TABLE.schema)),
]


def pieces(table: pa.Table, size: int) -> list[pa.RecordBatch]:
    return table.to_batches(max_chunksize=size)


def memory(folder: Path) -> Dataset:
    return Dataset.from_arrow(TABLE)


def chunks(folder: Path) -> Dataset:
    return Dataset.from_arrow(pa.Table.from_batches(pieces(TABLE, 7)))


def batches(folder: Path) -> Dataset:
    return Dataset.from_batches(partial(pieces, TABLE, 9), schema=TABLE.schema)


def files(folder: Path) -> Dataset:
    for number in range(4):
        pq.write_table(TABLE.slice(number * 25, 25), folder / f"{number}.parquet", row_group_size=6)
    return Dataset.from_file(str(folder / "*.parquet"))


def saved(folder: Path) -> Dataset:
    return Dataset.from_arrow(TABLE).save("saved", column_types=None)


def appended(folder: Path) -> Dataset:
    Dataset.from_arrow(TABLE.slice(0, 30)).save("appended", column_types=None)
    Dataset.from_arrow(TABLE.slice(30, 50)).append_to("appended")
    return Dataset.from_arrow(TABLE.slice(80)).append_to("appended")


def added(folder: Path) -> Dataset:
    Dataset.from_arrow(TABLE.slice(0, 10)).save("added", column_types=None)
    for start in (0, 50):
        Dataset.from_arrow(TABLE.slice(start, 50)).append_to("added")
    return Dataset("added").added_since(1)


def cells(folder: Path) -> Dataset:
    pytest.importorskip("anndata")
    import anndata
    import pandas as pd

    from tests.sdk.arrays.h5ad_files import csr, write

    matrix = np.array([[n + 0.5 if column < n % 3 else 0 for column in range(4)] for n in range(ROWS)], "f4")
    allowed = anndata.settings.override(allow_write_nullable_strings=True)
    with pd.option_context("mode.string_storage", "python"), allowed:
        for first in range(0, ROWS, 25):
            rows = slice(first, first + 25)
            obs = {"x": np.arange(ROWS)[rows], "s": pd.array(TABLE["s"].to_pylist()[rows], "string")}
            names = CELLS["obs_names"].to_pylist()[rows]
            path, options = folder / f"{first:02}.h5ad", {"convert_strings_to_categoricals": False}
            write(path, csr(matrix[rows]), obs, index=names, **options)
    return Dataset.from_anndata(folder / "*.h5ad")


@pytest.fixture(
    scope="module",
    params=[memory, chunks, batches, files, saved, appended, added, cells],
    ids=lambda make: make.__name__,
)
def dataset(request: pytest.FixtureRequest, shared_home: Callable[..., AbstractContextManager[Path]]) -> Dataset:
    make: Callable[[Path], Dataset] = request.param
    with shared_home(LAKEFEED__WRITE__ROW_GROUP_ROWS="8", LAKEFEED__WRITE__FILE_BYTES="900") as folder:
        return make(folder)


@pytest.fixture
def table(dataset: Dataset) -> pa.Table:
    return CELLS if "X" in dataset.schema.names else TABLE


@pytest.fixture
def source(dataset: Dataset) -> Source:
    assert isinstance(dataset._plan, Scan)
    return dataset._plan.source


def read(source: Source, pushdown: Pushdown) -> pa.Table:
    schema = Scan(source, pushdown).schema
    found = [batch for part in source.fragments(pushdown) for batch in source.read(part, pushdown)]
    assert all(batch.schema.equals(schema, check_metadata=True) for batch in found)
    return pa.Table.from_batches(found, schema)


def test_all_rows_in_order(dataset: Dataset, table: pa.Table) -> None:
    assert dataset.schema.equals(table.schema)
    assert dataset.to_arrow().equals(table)
    assert list(dataset.rows()) == table.to_pylist()


@pytest.mark.parametrize("pushdown", PUSHDOWNS, ids=Pushdown.describe)
def test_a_predicate_is_a_hint_and_a_projection_is_exact(source: Source, table: pa.Table, pushdown: Pushdown) -> None:
    if pushdown.columns == ("x", "r"):
        pushdown = replace(pushdown, columns=("x", table.column_names[-1]))
    columns = list(pushdown.columns or table.column_names)
    found = read(source, pushdown).to_pylist()
    everything = table.select(columns).to_pylist()
    assert len(found) <= ROWS
    wanted = (
        everything[40:45] if "x >= 40" in pushdown.describe() else everything[::3] if columns == ["x"] else everything
    )
    assert [row for row in found if row in wanted] == wanted


@pytest.mark.parametrize(
    "rows", [(0, 0), (0, 1), (5, 9), (7, 50), (29, 31), (79, None), (99, None), (100, 200), (0, None)]
)
def test_ranges_are_exact_where_they_are_obeyed(source: Source, rows: tuple[int, int | None]) -> None:
    if not source.ranged:
        pytest.skip("it obeys none")
    pushdown = Pushdown(columns=("x",), rows=rows)
    assert read(source, pushdown)["x"].to_pylist() == list(range(ROWS))[slice(*rows)]
    lengths = [part.length for part in source.fragments(pushdown)]
    assert sum(length or 0 for length in lengths) == len(range(ROWS)[slice(*rows)])
    assert 0 not in lengths


def test_a_range_and_a_predicate_together(source: Source) -> None:
    if not source.ranged:
        pytest.skip("it obeys none")
    pushdown = Pushdown(predicate=parse("x > 60", TABLE.schema), rows=(20, 70))
    assert read(source, pushdown).filter(pa.compute.greater(read(source, pushdown)["x"], 60)).num_rows == 9


def test_the_count_is_that_of_the_fragments(source: Source) -> None:
    count = source.count()
    assert count in (None, ROWS)
    assert count == ROWS or not source.ranged
    if count is not None:
        assert sum(part.length or 0 for part in source.fragments(Pushdown())) == count


def test_every_way_of_reading_agrees(dataset: Dataset) -> None:
    """Serial, ahead in threads, limited, sliced, batch by batch."""
    everything = dataset.select(["x"]).to_arrow()["x"].to_pylist()
    serial = read(dataset._plan.source, Pushdown())["x"].to_pylist()  # type: ignore[attr-defined]  # a scan
    limited = (
        [row["x"] for start in range(0, ROWS, 13) for row in dataset.slice(start, start + 13)]
        if not hasattr(dataset, "from_version")
        else serial
    )
    cut = [x for batch in dataset.batches(11, "arrow") for x in batch["x"].to_pylist()]
    assert everything == serial == limited == cut == list(range(ROWS))


@pytest.mark.parametrize("size", [1, 7, 100, 101])
def test_batches_have_exactly_the_size(dataset: Dataset, size: int) -> None:
    sizes = [batch.num_rows for batch in dataset.batches(size, "arrow")]
    assert sizes == [size] * (ROWS // size) + ([ROWS % size] if ROWS % size else [])


def test_it_pickles_with_its_fragments(dataset: Dataset, source: Source, table: pa.Table) -> None:
    again = pickle.loads(pickle.dumps(source))
    assert again.identity == source.identity
    parts = pickle.loads(pickle.dumps(list(source.fragments(Pushdown()))))
    found = itertools.chain.from_iterable(again.read(part, Pushdown()) for part in parts)
    assert pa.Table.from_batches(found, dataset.schema).equals(table)


def test_identity_tells_rows_apart(source: Source) -> None:
    assert source.identity == source.identity
    other = Dataset.from_arrow(TABLE.slice(1))._plan
    assert isinstance(other, Scan)
    assert source.identity != other.source.identity


def test_it_describes_itself_in_a_line(source: Source) -> None:
    text = source.describe(Pushdown())
    assert text
    assert "\n" not in text


def test_reading_does_not_depend_on_threads(dataset: Dataset, table: pa.Table, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = dataset._lake.settings
    for threads in (1, 4):
        read_settings = settings.read.model_copy(update={"threads": threads, "prefetch_bytes": 1 + threads * 10_000})
        runner = LocalRunner(settings.model_copy(update={"read": read_settings}))
        assert pa.Table.from_batches(runner.batches(dataset._plan), dataset.schema).equals(table)
