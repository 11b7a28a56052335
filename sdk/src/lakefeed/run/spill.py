"""Rows on local disk, memory-mapped: for plans whose rows can only be had by running them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.run.rebatch import joined
from lakefeed.storage.disk.disk_errors import scratch_file

SPILL_BYTES = 16 * MIB


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, directory: Path) -> pa.Table:
    """The rows as a table that lives in a memory-mapped Arrow file rather than in memory.

    The file has no name from the start, so nothing is left behind whatever happens; the space is given back when the
    table goes. The memory is read-only: who writes to it crashes.
    """
    with scratch_file(directory) as file:
        write_rows(file, batches, schema)
        return mapped_rows(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write_rows(file: BinaryIO, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Puts the rows into a file."""
    # The stream format, since in the file format dictionaries could not differ from batch to batch.
    with stream_writer(file, schema) as writer:
        for batch in _gathered(batches):
            writer.write_batch(batch)
    file.flush()


@contextmanager
def stream_writer(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.RecordBatchStreamWriter]:
    """Writes one Arrow stream to a file; where that fails, the end of the stream is not tried as well."""
    writer = pa.ipc.new_stream(file, schema)  # type: ignore[arg-type]  # it is a file
    yield writer
    writer.close()


def mapped_rows(mapped: mmap.mmap) -> pa.Table:
    """What `write_rows` has put into a file that is mapped into memory."""
    return pa.ipc.open_stream(pa.py_buffer(mapped)).read_all()


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Batches of about `SPILL_BYTES`, made of smaller ones, so that a gather meets few of them."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        held.append(batch)
        size += batch.nbytes
        if size >= SPILL_BYTES:
            yield joined(held)
            held, size = [], 0
    if held:
        yield joined(held)
