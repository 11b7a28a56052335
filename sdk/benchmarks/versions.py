"""Versions of large tables: what one append added, small appends after many others, the first rows of many files.

    python sdk/benchmarks/versions.py [files]

The table of many files is made in one snapshot: all its manifest entries name one small Parquet file, under as many
names (links), so that it takes seconds to make and is planned and read as any other.
"""

from __future__ import annotations

import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.typedef import Record

from lakefeed import Dataset
from lakefeed.catalog.action import Action
from lakefeed.catalog.commit_retry import commit_with_retry
from lakefeed.catalog.durability import local_path
from lakefeed.catalog.file_refs import DataFileRef
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_builder import Contents, SnapshotBuilder
from lakefeed.catalog.version_files import data_files

FILES = 10_000
TIMES = 15
GOALS = {"added_since": 200.0, "append at 10": 60.0, "append at 300": 100.0, "head(5)": 50.0}


def rows(first: int, count: int) -> Dataset:
    """Ten rows are a small append."""
    return Dataset.from_dict({"id": list(range(first, first + count)), "x": [0.5] * count})


def grow(name: str, files: int) -> None:
    """A dataset of that many files, in two versions."""
    rows(0, 10).save(name)
    lake = Lake.current()
    table = lake.table(name)
    (first,) = data_files(lake, table)
    builder = SnapshotBuilder(table, {})
    with builder.discard_on_failure():
        builder.contents = Contents(tuple(_linked(first, number) for number in range(files - 1)))
        commit_with_retry(lake, name, table, builder, Action())


def _linked(ref: DataFileRef, number: int) -> DataFile:
    location = ref.path.replace(".parquet", f"-{number:05d}.parquet")
    source, link = local_path(ref.path), local_path(location)
    assert source is not None
    assert link is not None
    os.link(source, link)
    file = DataFile.from_args(
        content=DataFileContent.DATA,
        file_path=location,
        file_format=FileFormat.PARQUET,
        partition=Record(),
        record_count=ref.rows,
        file_size_in_bytes=ref.size,
        column_sizes={},
        value_counts=dict(ref.value_counts),
        null_value_counts=dict(ref.null_value_counts),
        nan_value_counts={},
        lower_bounds=dict(ref.lower_bounds),
        upper_bounds=dict(ref.upper_bounds),
    )
    file.spec_id = 0
    return file


def milliseconds(work: Callable[[], object], times: int = TIMES) -> float:
    """The median of several runs."""
    taken = []
    for _ in range(times):
        began = time.perf_counter()
        work()
        taken.append((time.perf_counter() - began) * 1000)
    return statistics.median(taken)


def one_append() -> pa.Table:
    """Rows of the newest append of the large table."""
    return Dataset("large").added_since(2).to_arrow()


def report(what: str, taken: float, goal: str) -> None:
    print(f"  {what:<58}{taken:8.1f} ms   (goal {GOALS[goal]:.0f} ms)")


def main(files: int) -> None:
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        print(f"medians of {TIMES}")
        grow("large", files)
        rows(0, 10).append_to("large")
        assert one_append().num_rows == 10
        report(f"added_since of one append to {files:,} files, read", milliseconds(one_append), "added_since")
        cold = milliseconds(lambda: Dataset("large").delete_rows("id = -1"), 3)
        print(f"  {'delete_rows that finds nothing there':<58}{cold:8.1f} ms")

        grow("medium", 1_000)
        head = Dataset("medium").head(5)
        assert head.to_arrow().num_rows == 5
        report("head(5) of 1,000 files, planned before", milliseconds(lambda: head.to_arrow()), "head(5)")
        fresh = milliseconds(lambda: Dataset("medium").head(5).to_arrow())
        report("head(5) of 1,000 files, by name", fresh, "head(5)")

        rows(0, 10).save("grown")
        for versions in (10, 300):
            while Dataset("grown").version < versions:
                rows(0, 10).append_to("grown")
            taken = milliseconds(lambda: rows(0, 10).append_to("grown"))
            report(f"append of 10 rows at {versions} versions", taken, f"append at {versions}")
        taken = milliseconds(lambda: rows(5, 10).upsert_into("grown", keys="id"), 3)
        print(f"  {'upsert of 10 rows at 300 versions (300 files)':<58}{taken:8.1f} ms")
        print(f"  {sum(1 for _ in Path(home).rglob('*.parquet')):,} files in all")
        Lake.current().close()


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else FILES)
