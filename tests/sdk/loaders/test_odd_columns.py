"""Columns of categories, runs and views in every kind of epoch, and values of torch and numpy out of `map`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from lakefeed import Dataset, concatenate, interleave
from lakefeed.errors import TypeMismatchError

torch = pytest.importorskip("torch")

EPOCHS: dict[str, Callable[[Dataset], Dataset]] = {
    "in order": lambda rows: rows,
    "global": lambda rows: rows.shuffle(1),
    "windowed": lambda rows: rows.shuffle(1, global_=False, window=50),
    "mapped": lambda rows: rows.mapped().shuffle(1),
    "sorted": lambda rows: rows.sort("n"),
    "filtered": lambda rows: rows.filter("n >= 0").shuffle(1, global_=False, window=50),
    "joined": lambda rows: rows.join(rows.select(["n"]), "n").shuffle(1),
    "concatenated": lambda rows: concatenate([rows.slice(0, 70), rows.slice(70, None)]).shuffle(1),
    "interleaved": lambda rows: interleave(
        [rows.slice(0, 70), rows.slice(70, None)], stopping_strategy="all_exhausted_without_replacement"
    ),
}


def by_number(batches: Any) -> dict[int, tuple[Any, ...]]:
    rows: dict[int, tuple[Any, ...]] = {}
    for batch in batches:
        numbers, *columns = (value.tolist() if isinstance(value, torch.Tensor) else value for value in batch.values())
        rows |= zip(numbers, zip(*columns, strict=True), strict=True)
    return rows


def check_epochs(rows: Dataset, expected: dict[int, tuple[Any, ...]]) -> None:
    for name, plan in EPOCHS.items():
        for batch_size in (7, 600):
            assert by_number(plan(rows).to_torch(batch_size=batch_size)) == expected, name
        assert {row["n"]: tuple(row.values())[1:] for row in plan(rows).rows()} == expected, name


def categories(file: int) -> pa.Table:
    """50 rows of 100 categories, of which the next file has 40: int8 indices cannot count those of all files."""
    words = pa.array([f"w{file * 60 + number}" for number in range(100)])
    index = pa.array([None if row % 13 == 0 else row * 7 % 100 for row in range(50)], pa.int8())
    return pa.table({"n": range(50 * file, 50 * file + 50), "kind": pa.DictionaryArray.from_arrays(index, words)})


def test_categories_of_several_files_with_dictionaries_of_their_own(tmp_path: Path) -> None:
    tables = [categories(file) for file in range(4)]
    paths = [str(tmp_path / f"{file}.parquet") for file in range(4)]
    for path, table in zip(paths, tables, strict=True):
        pq.write_table(table, path, row_group_size=20)
    expected = {row["n"]: (row["kind"],) for table in tables for row in table.to_pylist()}
    check_epochs(Dataset.from_file(paths), expected)
    appended = Dataset.from_file(paths[0]).save("kinds")
    for path in paths[1:]:
        appended = Dataset.from_file(path).append_to("kinds")
    assert by_number(appended.shuffle(1).to_torch(batch_size=600)) == expected
    chunks = pa.Table.from_batches([batch for table in tables for batch in table.to_batches()])
    for rows in (Dataset.from_arrow(chunks), concatenate([Dataset.from_arrow(table) for table in tables])):
        assert by_number(rows.shuffle(1).to_torch(batch_size=600)) == expected
    declared = Dataset.from_batches(lambda: chunks.to_batches(), schema=chunks.schema)
    with pytest.raises(TypeMismatchError, match=r"more categories than its index .*pa\.int32"):
        list(declared.to_torch(batch_size=600))


def test_runs_and_views_in_every_epoch() -> None:
    rows = 150
    texts = [None if row % 7 == 0 else f"a long text of row {row}" for row in range(rows)]
    struct = pa.struct({"a": pa.string_view()})
    table = pa.table(
        {
            "n": range(rows),
            "runs": pa.RunEndEncodedArray.from_arrays(pa.array([50, 120, rows], pa.int16()), ["a", None, "c"]),
            "numbers": pa.RunEndEncodedArray.from_arrays(pa.array([60, rows]), [1.0, 3.0]),
            "text": pa.array(texts, pa.string_view()),
            "bytes": pa.array([b"bytes %d" % row * 3 for row in range(rows)], pa.binary_view()),
            "words": pa.array([[f"a long word {row}"] * (row % 3) for row in range(rows)], pa.list_(pa.string_view())),
            "struct": pa.array([{"a": f"a long text {row}"} for row in range(rows)], struct),
        }
    )  # fmt: skip
    expected = {row["n"]: tuple(row.values())[1:] for row in table.to_pylist()}
    check_epochs(Dataset.from_arrow(table), expected)
    stream = Dataset.from_batches(lambda: table.to_batches(30), schema=table.schema)
    for plan in (stream, stream.shuffle(1, global_=False, window=50), stream.shuffle(1)):
        assert by_number(plan.to_torch(batch_size=16)) == expected


VALUES: list[tuple[pa.DataType, Callable[[int], Any], Any]] = [
    (pa.list_(pa.int64(), 3), lambda x: torch.arange(3) + x, [[x, x + 1, x + 2] for x in range(4)]),
    (pa.list_(pa.list_(pa.float32(), 2), 2), lambda x: torch.full((2, 2), x).half(), [[[x, x]] * 2 for x in range(4)]),
    (pa.list_(pa.list_(pa.float64(), 3), 2), lambda x: np.arange(6.0).reshape(3, 2).T, [[[0, 2, 4], [1, 3, 5]]] * 4),
    (pa.fixed_shape_tensor(pa.float32(), [2, 3]), lambda x: torch.full((2, 3), x), [[[x] * 3] * 2 for x in range(4)]),
    (pa.fixed_shape_tensor(pa.int8(), [2, 1]), lambda x: np.full((2, 1), x), [[[x]] * 2 for x in range(4)]),
    (pa.bool_(), lambda x: torch.tensor(x > 1), [False, False, True, True]),
    (pa.float32(), lambda x: np.array(x / 2), [0, 0.5, 1, 1.5]),
    (
        pa.struct({"a": pa.list_(pa.float32()), "b": pa.list_(pa.list_(pa.int64()))}),
        lambda x: {"a": torch.ones(2), "b": np.full((1, 2), x)},
        [{"a": [1, 1], "b": [[x, x]]} for x in range(4)],
    ),
    (
        pa.list_(pa.list_(pa.list_(pa.int64()))),
        lambda x: [torch.ones(1, 1), np.ones((2, 1))],
        [[[[1]], [[1], [1]]]] * 4,
    ),
]


@pytest.mark.parametrize(("kind", "function", "expected"), VALUES, ids=[str(kind) for kind, *_ in VALUES])
def test_map_returns_tensors_and_arrays(kind: pa.DataType, function: Callable[[int], Any], expected: Any) -> None:
    rows = Dataset.from_dict({"x": list(range(4))}).map(
        lambda row: {"y": function(row["x"])}, schema=pa.schema({"y": kind})
    )
    (batch,) = rows.to_torch(batch_size=4)
    assert (batch["y"].tolist() if isinstance(batch["y"], torch.Tensor) else batch["y"]) == expected
