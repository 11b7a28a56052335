"""Rows on local disk, memory-mapped: for plans whose rows can only be had by running them."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.plan.row_bytes import cut_by_bytes
from lakefeed.plan.take_rows import detach_views
from lakefeed.run.rebatch import join_groups
from lakefeed.storage.disk.disk_errors import scratch_file

SPILL_BYTES = 16 * MIB


@dataclass(frozen=True, eq=False)
class SpilledRows:
    """Rows in a memory-mapped Arrow file. The memory is read-only: a program that writes to it crashes."""

    table: pa.Table
    mapping: mmap.mmap

    @classmethod
    def of(cls, mapping: mmap.mmap) -> SpilledRows:
        """Returns the rows that `write_rows` has written to the file that is mapped."""
        return cls(pa.ipc.open_stream(pa.py_buffer(mapping)).read_all(), mapping)

    def release(self) -> None:
        """Gives the memory of pages that were read back to the system. They are read again where they are used."""
        self.mapping.madvise(mmap.MADV_DONTNEED)


def spill(batches: Iterable[pa.RecordBatch], schema: pa.Schema, directory: Path) -> SpilledRows:
    """Writes the rows to a file that is mapped into memory.

    The file has no name from the start, so nothing is left behind if the process dies. Its space is free again when
    the rows are no longer used.
    """
    with scratch_file(directory) as file:
        write_rows(file, batches, schema)
        return SpilledRows.of(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def write_rows(file: BinaryIO, batches: Iterable[pa.RecordBatch], schema: pa.Schema) -> None:
    """Writes the rows to a file."""
    # The stream format, since in the file format dictionaries could not differ from batch to batch.
    with stream_writer(file, schema) as writer:
        for batch in _gathered(batches):
            writer.write_batch(batch)
    file.flush()


@contextmanager
def stream_writer(file: BinaryIO, schema: pa.Schema) -> Iterator[pa.RecordBatchStreamWriter]:
    """Writes one Arrow stream to a file; if that fails, does not try to write the end of the stream."""
    writer = pa.ipc.new_stream(file, schema)  # type: ignore[arg-type]  # it is a file
    yield writer
    writer.close()


def _gathered(batches: Iterable[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yields batches of at most `SPILL_BYTES`, or of one row; small ones are joined, so that a gather meets few."""
    parts = (detach_views(part) for batch in batches for part in cut_by_bytes(batch, SPILL_BYTES))
    return join_groups(parts, SPILL_BYTES)
