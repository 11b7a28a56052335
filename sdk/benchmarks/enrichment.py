"""Columns that are derived beside the rows of a keyed table, and reads of them: CPU seconds and bytes written.

    python sdk/benchmarks/enrichment.py [rows]

The bare line reads a column, computes, and writes the result with pyarrow: what an enrichment cannot do without.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from keyed import measure, report

ROWS = 1_000_000


def numbers(ids: np.ndarray, width: int) -> pa.Table:
    """Rows of a key and numbers."""
    random = np.random.default_rng(0)
    return pa.table({"id": ids, **{f"c{place}": random.random(len(ids)) for place in range(width - 1)}})


def enrich(rows: int, folder: Path) -> None:
    """One float64 column, derived from another, for tables of two widths; and reads of it, beside one plain file."""
    os.environ["LAKEFEED_HOME"] = str(folder / "lakefeed")
    from lakefeed import Dataset, Table

    warehouse = folder / "lakefeed"
    for width in (5, 33):
        table = Table.create(f"wide{width}", key_schema={"id": pa.int64()})
        table.write(numbers(np.arange(rows), width))
        table.enrich({"warm": table["id"]}, where="id < 10").apply()
        for turn in range(2):
            bare = partial(derive_bare, sorted(warehouse.rglob(f"wide{width}-*/data/*-0*.parquet")), folder / "bare")
            report(measure(f"bare read, compute, write, {width} columns", bare, folder / "bare"))
            derive = table.enrich({f"y{turn}": table["c0"] * 2}).apply
            report(measure(f"lakefeed enrich, {width} columns", derive, warehouse))
    plain = Table.create("plain", key_schema={"id": pa.int64()})
    plain.write(table.scan("id", "c0", "c1", "y1").to_table())
    for turn in range(2):
        for name in ("plain", "wide33"):
            data = Dataset(name).select(["id", "c0", "c1", "y1"])
            report(
                measure(f"scan {name} {turn}", lambda data=data: sum(1 for _ in data.batches(format="arrow")), folder)
            )
            loader = data.shuffle(seed=turn, window=65_536).to_torch(batch_size=1_024)
            report(measure(f"windowed loader {name} {turn}", partial(read_all, loader), folder))


def read_all(batches: Iterable[object]) -> None:
    for _ in batches:
        pass


def derive_bare(paths: list[Path], folder: Path) -> None:
    """Reads a column, doubles it, and writes the result."""
    folder.mkdir(exist_ok=True)
    for path in paths:
        read = pq.ParquetFile(path)
        schema = pa.schema({"y": pa.float64()})
        with pq.ParquetWriter(folder / path.name, schema) as written:
            for group in range(read.num_row_groups):
                values = pc.multiply(read.read_row_group(group, columns=["c0"])["c0"], 2.0)
                written.write_table(pa.table([values], schema=schema))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        enrich(int(sys.argv[1]) if len(sys.argv) > 1 else ROWS, Path(temporary))
