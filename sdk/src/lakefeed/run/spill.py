"""Rows on local disk, memory-mapped: for plans whose rows can only be had by running them."""

from __future__ import annotations

import mmap
import tempfile
from collections.abc import Iterable
from pathlib import Path

import pyarrow as pa

from lakefeed.run.rebatch import rebatch

SPILL_ROWS = 8_192


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, directory: Path) -> pa.Table:
    """The rows as a table that lives in a memory-mapped Arrow file rather than in memory.

    The file has no name from the start, so nothing is left behind whatever happens; the space is given back when the
    table goes. Batches are cut to `SPILL_ROWS`, so that the pieces of the table depend on the rows alone.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory) as file:
        with pa.ipc.new_file(file, schema) as writer:
            for batch in rebatch(batches, SPILL_ROWS):
                writer.write_batch(batch)
        file.flush()
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    return pa.ipc.open_file(pa.py_buffer(mapped)).read_all()
