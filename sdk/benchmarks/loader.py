"""The loader against pyarrow decoding the same row groups, in one process and run.

    python sdk/benchmarks/loader.py [rows]

The contestants take turns, and the ratio of each round counts, so that a machine whose speed drifts does not decide.
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

ROWS = 1_000_000
CHUNK = 100_000
BATCH = 256
ROUNDS = 5
GOALS = {"in order": 0.5, "windowed": 0.2}


def chunks(rows: int) -> Iterator[pa.RecordBatch]:
    """An id, a vector and a label a row."""
    random = np.random.default_rng(0)
    for start in range(0, rows, CHUNK):
        count = min(CHUNK, rows - start)
        features = pa.FixedSizeListArray.from_arrays(random.random(count * 16, dtype=np.float32), 16)
        labels = random.integers(0, 1000, count, dtype=np.int32)
        yield pa.RecordBatch.from_pydict({"id": np.arange(start, start + count), "features": features, "label": labels})


def decode(paths: list[str]) -> int:
    """Rows that pyarrow decodes in one thread, one row group after the other."""
    rows = 0
    for path in paths:
        with pq.ParquetFile(path, memory_map=True) as file:
            for group in range(file.num_row_groups):
                rows += file.read_row_group(group, use_threads=False).num_rows
    return rows


def epoch(data: Dataset) -> Callable[[], int]:
    """An epoch of a loader that has been built before."""
    loader = data.to_torch(batch_size=BATCH)
    return lambda: sum(len(batch["label"]) for batch in loader)


def seconds(work: Callable[[], int], rows: int) -> float:
    """How long ``work`` takes."""
    begun = time.perf_counter()
    assert work() == rows
    return time.perf_counter() - begun


def main(rows: int) -> None:
    """Prints the table."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        data = Dataset.from_batches(lambda: chunks(rows), schema=next(chunks(1)).schema).save("loader")
        lake = Lake.current()
        table = lake.table("loader")
        paths = [
            file.path.removeprefix("file://") for file in data_files(lake, table, table.current_snapshot().snapshot_id)
        ]
        contestants: dict[str, Callable[[], int]] = {
            "pyarrow decode": lambda: decode(paths),
            "in order": epoch(data),
            "windowed": epoch(data.shuffle(1, global_=False)),
            "global": epoch(data.shuffle(1)),
        }
        taken: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(ROUNDS):
            for name, work in contestants.items():
                taken[name].append(seconds(work, rows))
        print(f"{rows:,} rows, batches of {BATCH}, median of {ROUNDS} rounds")
        print(f"{'':16}{'rows/s':>12}{'of decode':>11}{'goal':>7}")
        for name, times in taken.items():
            ratio = statistics.median(base / own for base, own in zip(taken["pyarrow decode"], times, strict=True))
            print(f"{name:16}{rows / statistics.median(times):12,.0f}{ratio:11.2f}{GOALS.get(name, ''):>7}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
