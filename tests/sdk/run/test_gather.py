"""Rows of several batches in any order: the values of `take` on each row, of all types."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakefeed.plan import byte_runs
from lakefeed.plan.take_rows import filter_by_mask, take_rows
from lakefeed.run.gather import Gatherable, gather

SCHEMA = pa.schema(
    {
        "tokens": pa.list_(pa.int32()),
        "gaps": pa.large_list(pa.int16()),
        "holes": pa.list_(pa.int64()),
        "points": pa.list_(pa.list_(pa.float32(), 2)),
        "text": pa.string(),
        "bytes": pa.large_binary(),
        "sparse": pa.struct({"indices": pa.list_(pa.int32()), "values": pa.list_(pa.float32()), "note": pa.string()}),
        "word": pa.dictionary(pa.int32(), pa.string()),
    }
)


def cells(random: np.random.Generator) -> dict[str, Any]:
    def numbers(most: int) -> list[int]:
        return random.integers(0, 99, random.integers(0, most)).tolist()

    indices = numbers(40)
    return {
        "tokens": numbers(40),
        "gaps": numbers(40) if random.random() < 0.8 else None,
        "holes": [None if number < 30 else number for number in numbers(3)],
        "points": [[number, number + 1] for number in numbers(9)],
        "text": "é" * int(random.integers(0, 60)) if random.random() < 0.8 else None,
        "bytes": b"ab" * int(random.integers(0, 60)),
        "sparse": {"indices": indices, "values": [cell / 2 for cell in indices], "note": str(len(indices))}
        if random.random() < 0.9
        else None,
        "word": "abc"[random.integers(0, 3)],
    }


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(1, 4), st.integers(1, 30), st.sampled_from([0, 16, 64]))
def test_gathered_rows_are_the_rows(seed: int, parts: int, wanted: int, long: int) -> None:
    random = np.random.default_rng(seed)
    batches = [
        pa.RecordBatch.from_pylist([cells(random) for _ in range(random.integers(3, 12))], SCHEMA).slice(
            random.integers(0, 3)
        )
        for _ in range(parts)
    ]
    sources = [Gatherable([batch, batch.slice(1)]) for batch in batches]
    source_of = random.integers(0, parts, wanted)
    row_of = np.array([random.integers(0, sources[source].num_rows) for source in source_of])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(byte_runs, "MIN_MEAN_BYTES", long)
        rows = gather(sources.__getitem__, source_of, row_of)
    rows.validate(full=True)
    everything = [batch.to_pylist() + batch.slice(1).to_pylist() for batch in batches]
    assert rows.schema.equals(SCHEMA)
    assert rows.to_pylist() == [everything[source][row] for source, row in zip(source_of, row_of, strict=True)]


def test_structs_of_lists_are_taken_and_filtered_with_their_nulls() -> None:
    kind = SCHEMA.field("sparse").type
    rows = [
        {"indices": [1, 2], "values": [0.5, 1.0], "note": "x"},
        None,
        {"indices": [], "values": [2.0], "note": None},
    ]
    batch = pa.record_batch([pa.array([None, *rows], kind).slice(1), pa.array([1, 2, 3])], ["sparse", "id"])
    taken = take_rows(batch, pa.array([2, None, 0, 1, 0]))
    taken.validate(full=True)
    assert taken.column(0).to_pylist() == [rows[2], None, rows[0], None, rows[0]]
    assert filter_by_mask(batch, pa.array([True, None, True])).to_pylist() == [
        {"sparse": rows[0], "id": 1},
        {"sparse": rows[2], "id": 3},
    ]
