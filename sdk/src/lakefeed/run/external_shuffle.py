"""The rows of a global shuffle that do not fit into memory, in their order.

In that order the random words of the rows ascend (`lakefeed._rng.permutation`), and the words of any consecutive rows
can be drawn by themselves. So rows are read once, written into *buckets* by the leading bits of their words, and sorted
bucket by bucket. Nothing is held for each row of the table, and the order is the one that it would be in memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices, Words
from lakefeed._units import MIB
from lakefeed.plan.order import Shuffled
from lakefeed.plan.row_bytes import cut_by_bytes
from lakefeed.plan.take_rows import detach_views
from lakefeed.run.gather import GATHER_BYTES, Gatherable, gather, gather_parts, measured_ranges
from lakefeed.run.partitions import Partitions
from lakefeed.run.spill import stream_writer
from lakefeed.storage.disk.disk_errors import scratch_file

PARTS_HELD = 5
"""Rows that were read, the same by bucket, and as much again while they are written and sorted."""
MAX_PART_BYTES = 512 * MIB
MOST_BUCKET_BITS = 12
WORD_BITS = 64


def external_shuffle(partitions: Partitions, order: Shuffled, budget: int, directory: Path) -> Iterator[pa.RecordBatch]:
    """Yields the rows of ``partitions``, all resident, in a global ``order``; holds about ``budget`` bytes of them."""
    part = min(max(budget // PARTS_HELD, 1), MAX_PART_BYTES)
    with scratch_file(directory) as file:
        buckets = _Buckets(file, partitions.schema, _bits(partitions.mapped, part), part)
        for start, rows in _parts(partitions, part):
            buckets.add(rows, *order.keys(start, start + rows.num_rows))
            del rows
            partitions.release()
            _release()
        yield from buckets.sorted()


def _bits(size: int, part: int) -> int:
    """Returns the number of leading bits with which a bucket holds about a part."""
    return min((size // part).bit_length(), MOST_BUCKET_BITS)


def _parts(partitions: Partitions, part: int) -> Iterator[tuple[int, Gatherable]]:
    """Yields consecutive rows of about ``part`` bytes, and the position of the first."""
    held: list[pa.RecordBatch] = []
    size = start = position = 0
    for index in range(len(partitions.items)):
        for whole in partitions.batches(index):
            for batch in cut_by_bytes(whole, part):
                if held and size + batch.nbytes > part:
                    yield start, Gatherable.of(held)
                    held, size, start = [], 0, position
                held.append(batch)
                size += batch.nbytes
                position += batch.num_rows
    if held:
        yield start, Gatherable.of(held)


@dataclass
class _Buckets:
    """Rows on disk by the leading ``bits`` of their words; word and position of each row are its last two columns."""

    file: BinaryIO
    schema: pa.Schema
    bits: int
    part: int
    _runs: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._runs = [[] for _ in range(1 << self.bits)]

    def add(self, rows: Gatherable, words: Words, positions: Indices) -> None:
        """Writes the rows into their buckets."""
        shift = np.uint64(WORD_BITS - MOST_BUCKET_BITS)
        bucket = (words >> shift).astype(np.uint16) >> np.uint16(MOST_BUCKET_BITS - self.bits)
        order = np.argsort(bucket, kind="stable")  # 16 bits: a radix sort
        source = np.zeros(len(order), np.int64)
        for start, stop in measured_ranges(lambda _: rows, source, order, min(self.part, GATHER_BYTES)):
            chosen = order[start:stop]
            batch = gather(lambda _: rows, source[start:stop], chosen)
            columns = [*batch.columns, pa.array(words[chosen]), pa.array(positions[chosen])]
            keyed = pa.RecordBatch.from_arrays(columns, [str(number) for number in range(len(columns))])
            numbers = bucket[chosen]
            edges = [0, *(np.flatnonzero(numbers[1:] != numbers[:-1]) + 1).tolist(), len(numbers)]
            for low, high in pairwise(edges):
                self._runs[int(numbers[low])].append(self._write(keyed.slice(low, high - low)))

    def _write(self, rows: pa.RecordBatch) -> tuple[int, int]:
        begin = self.file.tell()
        with stream_writer(self.file, rows.schema) as writer:
            writer.write_batch(detach_views(rows))
        return begin, self.file.tell() - begin

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows, in the order of their words, then positions."""
        if not any(self._runs):
            return
        self.file.flush()
        mapping = mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ)
        buffer = pa.py_buffer(mapping)
        for runs in self._runs:
            batches = [batch for begin, size in runs for batch in pa.ipc.open_stream(buffer.slice(begin, size))]
            if batches:
                yield from self._in_order(batches)
            mapping.madvise(mmap.MADV_DONTNEED)
            _release()

    def _in_order(self, keyed: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        words, positions = (
            np.concatenate([np.asarray(batch.column(batch.num_columns + index)) for batch in keyed])
            for index in (-2, -1)
        )
        order = np.lexsort((positions, words))
        rows = Gatherable.of(
            (pa.RecordBatch.from_arrays(batch.columns[:-2], schema=self.schema) for batch in keyed), self.part
        )
        limit = min(self.part, GATHER_BYTES)
        yield from gather_parts(lambda _: rows, np.zeros(len(order), np.int64), order, limit)


def _release() -> None:
    """Gives memory that Arrow has freed back to the system, instead of keeping it for later."""
    pa.default_memory_pool().release_unused()
