"""Batches cut to an exact number of rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable

import pyarrow as pa


def rebatch(batches: Iterable[pa.RecordBatch], size: int) -> Generator[pa.RecordBatch]:
    """Batches of exactly ``size`` rows but the last; copies only rows that lie across an edge."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        place = 0
        while rows + batch.num_rows - place >= size:
            held.append(batch.slice(place, size - rows))
            place += size - rows
            yield joined(held)
            held, rows = [], 0
        if place < batch.num_rows:
            held.append(batch.slice(place))
            rows += batch.num_rows - place
    if held:
        yield joined(held)


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """The rows of all batches as one; a single batch as it is."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # type: ignore[attr-defined]  # the stubs are older
