"""Filter and projection of a saved table against pyarrow.dataset and DuckDB doing the same on its Parquet files.

    python sdk/benchmarks/filter.py [rows]

All run in one process and take turns, each round in another order, for each finds what the one before it has left in
the processor's caches; the best time of each counts, as what the work takes where nobody disturbs it.
Each counts the rows and adds up a column, so that nobody is spared from decoding. What is asked again and again is
opened before: the version, pyarrow's list of files (with their footers) and the connection; what opening costs is told
apart. All use as many threads as there are cores.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from itertools import cycle, islice, permutations

import duckdb
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as pads
from _rows import NAME, saved

from lakefeed import Dataset

ROWS = 4_000_000
ROUNDS = 30
PYARROW_GOAL = 0.9
DUCKDB_GOAL = 1.2
QUERIES = {
    "1 in 10, two columns of five": ("label < 100", pc.field("label") < 100),
    "1 in 1,000": ("label = 7", pc.field("label") == 7),
    "everything": ("score >= 0", pc.field("score") >= 0),
    "a range of ids (pruned)": (
        "id >= 1000000 and id < 1100000",
        (pc.field("id") >= 1000000) & (pc.field("id") < 1100000),
    ),
    "text": ("text = 'row 77' or text = 'row 78'", pc.field("text").isin(["row 77", "row 78"])),
}
Result = tuple[int, float]


def added(batches: Iterator[pa.RecordBatch]) -> Result:
    rows, total = 0, 0.0
    for batch in batches:
        if batch.num_rows:
            rows += batch.num_rows
            total += pc.sum(batch["score"]).as_py()
    return rows, round(total, 3)


def contestants(paths: list[str], text: str, expression: pc.Expression) -> dict[str, Callable[[], Result]]:
    files = pads.dataset(paths)
    connection = duckdb.connect(":memory:")
    query = f"SELECT id, score FROM read_parquet({paths}) WHERE {text}"
    version = Dataset(NAME, version=1)
    return {
        "lakefeed": lambda: added(version.filter(text).select(["id", "score"]).batches(format="arrow")),
        "pyarrow": lambda: added(files.to_batches(columns=["id", "score"], filter=expression)),
        "duckdb": lambda: added(iter(connection.sql(query).to_arrow_reader(65_536))),
    }


def seconds(work: Callable[[], Result], expected: Result) -> float:
    began = time.perf_counter()
    assert work() == expected
    return time.perf_counter() - began


def opening() -> float:
    began = time.perf_counter()
    assert Dataset(NAME).version == 1
    return time.perf_counter() - began


def main(rows: int) -> None:
    with saved(rows) as paths:
        print(f"{rows:,} rows in {len(paths)} files; best of {ROUNDS} rounds")
        for name, (text, expression) in QUERIES.items():
            sides = contestants(paths, text, expression)
            expected = next(iter({side() for side in sides.values()}))
            best = dict.fromkeys(sides, float("inf"))
            for order in islice(cycle(permutations(sides)), ROUNDS):
                for side in order:
                    best[side] = min(best[side], seconds(sides[side], expected))
            to_pyarrow, to_duckdb = best["pyarrow"] / best["lakefeed"], best["lakefeed"] / best["duckdb"]
            print(f"  {name}: {text}")
            print("    " + "   ".join(f"{side} {1000 * took:6.1f} ms" for side, took in best.items()))
            print(f"    {to_pyarrow:.2f}x the speed of pyarrow.dataset (goal {PYARROW_GOAL}), ", end="")
            print(f"{to_duckdb:.2f}x the time of DuckDB (goal at most {DUCKDB_GOAL})")
        opened = min(opening() for _ in range(ROUNDS))
        print(f"  opening the newest version: {1000 * opened:.1f} ms")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS)
