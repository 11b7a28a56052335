"""Rows of equal keys, found with Arrow kernels in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.plan.take_rows import take_rows
from lakefeed.run.input_keys import ABSENT, Positions, comparable, whole_numbers

Rows = pa.Table | pa.RecordBatch


def one_batch(rows: Rows) -> pa.RecordBatch:
    """Returns the rows as one batch."""
    if isinstance(rows, pa.RecordBatch):
        return rows
    columns = [_one_chunk(column) for column in rows.columns]
    if not columns:
        raise ValueError("rows without columns")
    return pa.RecordBatch.from_arrays(columns, schema=rows.schema)


def _one_chunk(column: pa.ChunkedArray[Any]) -> Any:
    combined: Any = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
    if isinstance(combined, pa.ChunkedArray):
        combined = pa.concat_arrays(combined.chunks) if combined.num_chunks else pa.array([], combined.type)
    return combined


def key_arrays(rows: pa.RecordBatch, keys: Sequence[str]) -> list[Any]:
    """Returns the key columns in comparable types."""
    return [comparable(rows.column(name)) for name in keys]


def sort_positions(rows: pa.RecordBatch, keys: Sequence[str]) -> Positions:
    """Returns the positions of the rows in the order of their keys; equal keys keep their order."""
    columns = key_arrays(rows, keys)
    whole = whole_numbers(columns[0]) if len(keys) == 1 and not columns[0].null_count else None
    if whole is not None:
        return np.argsort(whole, kind="stable")  # fast where sorted rows follow each other
    table = pa.table({f"k{index}": column for index, column in enumerate(columns)})
    order: Any = pc.sort_indices(table, sort_keys=[(name, "ascending") for name in table.column_names])
    positions: Positions = order.to_numpy().astype(np.int64)
    return positions


def sorted_by_key(rows: pa.RecordBatch, keys: Sequence[str]) -> pa.RecordBatch:
    """Returns the rows in the order of their keys."""
    if rows.num_rows < 2:
        return rows
    positions = sort_positions(rows, keys)
    return rows if (np.diff(positions) == 1).all() else take_rows(rows, positions)


def key_codes(*sides: list[Any]) -> list[Positions]:
    """Returns for the keys of each side numbers that are equal exactly where the keys are equal."""
    lengths = [len(side[0]) for side in sides]
    codes = np.zeros(sum(lengths), np.int64)
    for columns in zip(*sides, strict=True):
        kind = columns[0].type
        joined: Any = pa.chunked_array([each.cast(kind) for each in columns], kind).combine_chunks()
        encoded = joined.dictionary_encode()
        inner = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
        codes = codes * (len(encoded.dictionary) + 1) + inner
        if len(sides[0]) > 1:
            codes = np.unique(codes, return_inverse=True)[1].astype(np.int64)
    ends = np.cumsum(lengths)[:-1]
    return list(np.split(codes, ends))


def match_keys(wanted: list[Any], present: list[Any]) -> Positions:
    """Returns for each wanted key its position in ``present``, or `ABSENT`. Of equal keys the last one is meant."""
    if not len(wanted[0]) or not len(present[0]):
        return np.full(len(wanted[0]), ABSENT, np.int64)
    wanted_codes, present_codes = key_codes(wanted, present)
    order = np.argsort(present_codes, kind="stable")
    ordered = present_codes[order]
    places = np.searchsorted(ordered, wanted_codes, side="right") - 1
    matches = (places >= 0) & (ordered[np.maximum(places, 0)] == wanted_codes)
    return np.where(matches, order[np.maximum(places, 0)], ABSENT)


def repeated_positions(columns: list[Any]) -> Positions:
    """Returns the position of the first row of each key that occurs more than once."""
    (codes,) = key_codes(columns)
    _, first, counts = np.unique(codes, return_index=True, return_counts=True)
    positions: Positions = np.sort(first[counts > 1]).astype(np.int64)
    return positions


def show_keys(rows: pa.RecordBatch, keys: Sequence[str], positions: Positions, most: int = 5) -> str:
    """Returns the first of these keys as text."""
    shown = take_rows(rows.select(list(keys)), positions[:most]).to_pylist()
    more = f" and {len(positions) - most} more" if len(positions) > most else ""
    return ", ".join(map(str, shown)) + more
