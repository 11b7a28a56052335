"""The table that the comparisons with other readers read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pyarrow as pa

from lakefeed import Dataset
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.version_files import data_files

CHUNK = 100_000
NAME = "rows"


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


@contextmanager
def saved(rows: int) -> Iterator[list[str]]:
    """Those rows as the dataset `NAME` of a lake of their own; the paths of its Parquet files."""
    with tempfile.TemporaryDirectory() as home:
        os.environ["LAKEFEED_HOME"] = home
        schema = next(chunks(1)).schema
        Dataset.from_batches(lambda: chunks(rows), schema=schema).save(NAME, column_types=None)
        lake = Lake.current()
        yield [file.path.removeprefix("file://") for file in data_files(lake, lake.table(NAME))]
        lake.close()
