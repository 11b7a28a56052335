"""Full read of a saved table against pyarrow.parquet reading the same row groups, in one process and run.

    python sdk/benchmarks/scan.py [rows]

The two take turns, and the ratio of each pair counts, so that a machine whose speed drifts does not decide.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed import Dataset
from lakefeed.catalog.files import data_files
from lakefeed.catalog.lake import Lake

ROWS = 2_000_000
CHUNK = 100_000
PAIRS = 7
GOAL = 0.85


def chunks(rows: int) -> Iterator[pa.RecordBatch]:
    """Ids, two numbers, a short text and a small vector a row."""
    random = np.random.default_rng(0)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        vector = pa.FixedSizeListArray.from_arrays(random.random(count * 8, dtype=np.float32), 8)
        columns = {
            "id": np.arange(start, start + count),
            "label": random.integers(0, 1000, count, dtype=np.int32),
            "score": random.random(count),
            "text": [f"row {number % 5000}" for number in range(count)],
            "vector": vector,
        }
        yield pa.RecordBatch.from_pydict(columns)


def with_pyarrow(paths: list[str]) -> int:
    """Rows that pyarrow reads, one row group after the other."""
    rows = 0
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            rows += sum(file.read_row_group(group).num_rows for group in range(file.num_row_groups))
    return rows


def with_lakefeed() -> int:
    """Rows that a Dataset streams."""
    return sum(batch.num_rows for batch in Dataset("scan").batches(format="arrow"))


def seconds(work: Callable[[], int], rows: int) -> float:
    began = time.perf_counter()
    assert work() == rows
    return time.perf_counter() - began


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        schema = next(chunks(1)).schema
        Dataset.from_batches(lambda: chunks(rows), schema=schema).save("scan", column_types=None)
        lake = Lake.current()
        paths = [file.path.removeprefix("file://") for file in data_files(lake, lake.table("scan"))]
        with_pyarrow(paths), with_lakefeed()
        pairs = [(seconds(lambda: with_pyarrow(paths), rows), seconds(with_lakefeed, rows)) for _ in range(PAIRS)]
        lake.close()
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(left / right for left, right in pairs)
    print(f"{rows:,} rows, median of {PAIRS} pairs")
    print(f"  pyarrow.parquet, row group by row group   {theirs:6.3f} s   {rows / theirs:12,.0f} rows/s")
    print(f"  Dataset.batches(format='arrow')           {ours:6.3f} s   {rows / ours:12,.0f} rows/s")
    print(f"  ratio {ratio:.2f}x (goal {GOAL}x)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
