"""Batches of other sizes with the same rows."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator
from contextlib import contextmanager

import pyarrow as pa

from lakefeed.errors import TypeMismatchError


def rebatch(batches: Iterable[pa.RecordBatch], size: int) -> Generator[pa.RecordBatch]:
    """Yields batches of exactly ``size`` rows but the last. Copies only rows that lie across an edge."""
    held: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        row = 0
        while rows + batch.num_rows - row >= size:
            held.append(batch.slice(row, size - rows))
            row += size - rows
            yield joined(held)
            held, rows = [], 0
        if row < batch.num_rows:
            held.append(batch.slice(row))
            rows += batch.num_rows - row
    if held:
        yield joined(held)


def joined(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Returns the rows of all batches as one; a single batch as it is.

    Raises:
        TypeMismatchError: together they have more categories than the index of a dictionary column can count.
    """
    if len(batches) == 1:
        return batches[0]
    with dictionary_errors(batches[0].schema.types):
        together: pa.RecordBatch = pa.concat_batches(batches)  # type: ignore[attr-defined]  # the stubs are older
        return together


@contextmanager
def dictionary_errors(kinds: Iterable[pa.DataType]) -> Iterator[None]:
    """Explains the error of Arrow about columns of these types whose dictionaries do not fit into one."""
    try:
        yield
    except pa.ArrowInvalid as error:
        narrow = [str(kind) for kind in kinds if isinstance(kind, pa.DictionaryType)]
        if not narrow or "ictionar" not in str(error):
            raise
        raise TypeMismatchError(
            f"a column of type {' or '.join(narrow)} has more categories than its index can count; declare it with a "
            "wider index, such as pa.dictionary(pa.int32(), pa.string())"
        ) from error


def join_groups(batches: Iterable[pa.RecordBatch], limit: int) -> Generator[pa.RecordBatch]:
    """Yields the batches, neighbours of at most ``limit`` bytes together as one."""
    held: list[pa.RecordBatch] = []
    size = 0
    for batch in batches:
        cost = batch.nbytes
        if held and size + cost > limit:
            yield joined(held)
            held, size = [], 0
        held.append(batch)
        size += cost
    if held:
        yield joined(held)
