"""Join, aggregation, sort and global shuffle against plain DuckDB on the same Parquet files.

    python sdk/benchmarks/sql.py [rows] [memory in MiB]

DuckDB has one thread, as our queries have (the same rows in the same order each time), and the same memory limit; it
reads the files itself, and orders a join's rows as we do. All take turns in one process, and the ratio of each round
counts.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import duckdb
import numpy as np
import pyarrow as pa

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_files import data_files

ROWS = 1_000_000
MEMORY_MIB = 1024
CHUNK = 50_000
ROUNDS = 3
AGGREGATION = "SELECT category, count(*) AS n, avg(score) AS mean, max(text) AS last FROM {} GROUP BY category"


def chunks(rows: int, step: int, name: str) -> Iterator[pa.RecordBatch]:
    """A key in a mixed order, two numbers and a text of 100 characters a row."""
    random = np.random.default_rng(step)
    for start in range(0, rows, CHUNK):
        numbers = np.arange(start, min(start + CHUNK, rows))
        columns = {
            "key": numbers * step % rows,
            f"{name}_number": numbers,
            "category": random.integers(0, 100_000, len(numbers)),
            "score": random.random(len(numbers)),
            "text": [f"{number:0100d}" for number in numbers.tolist()],
        }
        yield pa.RecordBatch.from_pydict(columns)


def contests(rows: int, memory_mib: int, paths: dict[str, list[str]]) -> dict[str, dict[str, Callable[[], int]]]:
    left, right = Dataset("left"), Dataset("right").select(["key", "right_number", "score"])
    tables = {side: f"read_parquet({files}, file_row_number = true)" for side, files in paths.items()}

    def plain(query: str) -> Callable[[], int]:
        def run() -> int:
            options = {"threads": 1, "memory_limit": f"{memory_mib}MiB", "temp_directory": os.environ["LAKEFEED_HOME"]}
            with duckdb.connect(":memory:", config=options) as connection:
                return sum(batch.num_rows for batch in connection.sql(query).to_arrow_reader(8_192))

        return run

    def ours(dataset: Dataset) -> Callable[[], int]:
        return lambda: sum(batch.num_rows for batch in dataset.batches(format="arrow"))

    joined = (
        f"SELECT l.*, r.right_number, r.score FROM {tables['left']} l JOIN {tables['right']} r USING (key) "
        "ORDER BY l.left_number, r.right_number"
    )
    return {
        "join": {"lakefeed": ours(left.join(right, ["key"], "inner")), "duckdb": plain(joined)},
        "aggregation": {
            "lakefeed": ours(left.sql(AGGREGATION.format("data"))),
            "duckdb": plain(AGGREGATION.format(tables["left"])),
        },
        "sort": {"lakefeed": ours(left.sort("key")), "duckdb": plain(f"SELECT * FROM {tables['left']} ORDER BY key")},
        "global shuffle": {
            "lakefeed": ours(left.shuffle(seed=1)),
            "duckdb": plain(f"SELECT * FROM {tables['left']} ORDER BY hash(left_number)"),
        },
    }


def main(rows: int, memory_mib: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"LAKEFEED_HOME": home, "LAKEFEED__SQL__MEMORY_BYTES": str(memory_mib << 20)}
        lake = Lake.current()
        paths = {}
        for name, step in (("left", 7), ("right", 3)):
            schema = next(chunks(1, step, name)).schema
            Dataset.from_batches(lambda n=name, s=step: chunks(rows, s, n), schema=schema).save(name, column_types=None)  # type: ignore[misc]
            paths[name] = [file.path.removeprefix("file://") for file in data_files(lake, lake.table(name))]
        print(f"{rows:,} rows a side, {memory_mib} MiB; median of {ROUNDS} rounds")
        for name, sides in contests(rows, memory_mib, paths).items():
            rounds = []
            for _ in range(ROUNDS):
                took = {}
                for side, work in sides.items():
                    began = time.perf_counter()
                    count = work()
                    took[side] = time.perf_counter() - began
                rounds.append(took)
            medians = {side: statistics.median(one[side] for one in rounds) for side in sides}
            ratio = statistics.median(one["lakefeed"] / one["duckdb"] for one in rounds)
            times = "   ".join(f"{side} {value:6.2f} s" for side, value in medians.items())
            print(f"  {name:15s} {count:12,} rows   {times}   {ratio:.2f}x its time")
        lake.close()


if __name__ == "__main__":
    given = [int(argument) for argument in sys.argv[1:3]]
    main(*given, *(ROWS, MEMORY_MIB)[len(given) :])
