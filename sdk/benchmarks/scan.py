"""Full read of a saved table against pyarrow.parquet reading the same row groups, in one process and run.

    python sdk/benchmarks/scan.py [rows]

The two take turns, and the ratio of each pair counts, so that a machine whose speed drifts does not decide.
"""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable

import pyarrow.parquet as pq
from _rows import NAME, saved

from lakefeed import Dataset

ROWS = 2_000_000
PAIRS = 7
GOAL = 0.9


def with_pyarrow(paths: list[str]) -> int:
    """Rows that pyarrow reads, one row group after the other."""
    rows = 0
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            rows += sum(file.read_row_group(group).num_rows for group in range(file.num_row_groups))
    return rows


def with_lakefeed() -> int:
    """Rows that a Dataset streams."""
    return sum(batch.num_rows for batch in Dataset(NAME).batches(format="arrow"))


def seconds(work: Callable[[], int], rows: int) -> float:
    began = time.perf_counter()
    assert work() == rows
    return time.perf_counter() - began


def main(rows: int) -> None:
    with saved(rows) as paths:
        with_pyarrow(paths), with_lakefeed()
        pairs = [(seconds(lambda: with_pyarrow(paths), rows), seconds(with_lakefeed, rows)) for _ in range(PAIRS)]
    theirs, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
    ratio = statistics.median(left / right for left, right in pairs)
    print(f"{rows:,} rows, median of {PAIRS} pairs")
    print(f"  pyarrow.parquet, row group by row group   {theirs:6.3f} s   {rows / theirs:12,.0f} rows/s")
    print(f"  Dataset.batches(format='arrow')           {ours:6.3f} s   {rows / ours:12,.0f} rows/s")
    print(f"  ratio {ratio:.2f}x (goal {GOAL}x)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
