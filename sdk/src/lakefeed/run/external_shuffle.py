"""Rows of which there are more than fit into memory, in the order of a global shuffle.

In that order the random words of the places ascend (`lakefeed._rng.permutation`), and the words of any stretch of rows
can be drawn by themselves. So rows are read once, written into *buckets* by the leading bits of their words, and sorted
bucket by bucket: nothing is held for each row of the table, and the order is the one that it would be in memory.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from lakefeed._rng import Indices, Words
from lakefeed.plan.order import Shuffled
from lakefeed.run.partitions import Partitions
from lakefeed.run.rebatch import joined
from lakefeed.run.spill import stream_writer
from lakefeed.storage.disk.disk_errors import scratch_file

PARTS_HELD = 5
"""Rows that were read, the same by bucket, and as much again while they are written and sorted."""
MOST_BUCKET_BITS = 12
WORD_BITS = 64


def external_shuffle(pieces: Partitions, order: Shuffled, budget: int, directory: Path) -> Iterator[pa.RecordBatch]:
    """The rows of ``pieces``, all resident, in a global ``order``, holding about ``budget`` bytes of them."""
    part = max(budget // PARTS_HELD, 1)
    with scratch_file(directory) as file:
        buckets = _Buckets(file, pieces.schema, _bits(pieces.mapped, part))
        for start, rows in _stretches(pieces, part):
            buckets.add(rows, *order.keys(start, start + rows.num_rows))
            del rows
            _release()
        yield from buckets.sorted()


def _bits(size: int, part: int) -> int:
    """So many leading bits that a bucket holds about a part."""
    return min((size // part).bit_length(), MOST_BUCKET_BITS)


def _stretches(pieces: Partitions, part: int) -> Iterator[tuple[int, pa.RecordBatch]]:
    """Consecutive rows of about ``part`` bytes, and the place of the first."""
    held: list[pa.RecordBatch] = []
    size = start = place = 0
    for index, length in enumerate(pieces.lengths):
        for batch in pieces.batches(index):
            held.append(batch)
            size += batch.nbytes
        place += length
        if held and size >= part:
            yield start, joined(held)
            held, size, start = [], 0, place
    if held:
        yield start, joined(held)


@dataclass
class _Buckets:
    """Rows on disk by the leading ``bits`` of their words; word and place of each row are its last two columns."""

    file: BinaryIO
    schema: pa.Schema
    bits: int
    _runs: list[list[tuple[int, int]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._runs = [[] for _ in range(1 << self.bits)]

    def add(self, rows: pa.RecordBatch, words: Words, places: Indices) -> None:
        shift = np.uint64(WORD_BITS - MOST_BUCKET_BITS)
        bucket = (words >> shift).astype(np.uint16) >> np.uint16(MOST_BUCKET_BITS - self.bits)
        order = np.argsort(bucket, kind="stable")  # 16 bits: a radix sort
        edges = np.searchsorted(bucket[order], np.arange(len(self._runs) + 1)).tolist()
        columns = [*rows.columns, pa.array(words), pa.array(places)]
        keyed = pa.RecordBatch.from_arrays(columns, [str(number) for number in range(len(columns))]).take(order)
        for number, runs in enumerate(self._runs):
            low, high = edges[number], edges[number + 1]
            if low < high:
                runs.append(self._written(keyed.slice(low, high - low)))

    def _written(self, rows: pa.RecordBatch) -> tuple[int, int]:
        begin = self.file.tell()
        with stream_writer(self.file, rows.schema) as writer:
            writer.write_batch(rows)
        return begin, self.file.tell() - begin

    def sorted(self) -> Iterator[pa.RecordBatch]:
        """All rows, in the order of their words, then places."""
        if not any(self._runs):
            return
        self.file.flush()
        mapped = pa.py_buffer(mmap.mmap(self.file.fileno(), 0, access=mmap.ACCESS_READ))
        for runs in self._runs:
            batches = [batch for begin, size in runs for batch in pa.ipc.open_stream(mapped.slice(begin, size))]
            if batches:
                yield self._in_order(joined(batches))
            _release()

    def _in_order(self, keyed: pa.RecordBatch) -> pa.RecordBatch:
        *columns, words, places = keyed.columns
        order = np.lexsort((np.asarray(places), np.asarray(words)))
        return pa.RecordBatch.from_arrays(columns, schema=self.schema).take(order)


def _release() -> None:
    """Gives memory that Arrow has freed back to the system, instead of keeping it for later."""
    pa.default_memory_pool().release_unused()
