"""Shards as text, for states that are JSON."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from lakefeed.errors import StateMismatchError
from lakefeed.keyed.key_ranges import Key, KeyRange, Shard
from lakefeed.run.input_keys import comparable


def dump_shards(shards: Sequence[Shard], key_schema: pa.Schema) -> str:
    """Returns shards as text: an Arrow stream of their ends and row counts, in base64."""
    batch = shards_to_batch(shards, key_schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def load_shards(text: Any) -> list[Shard]:
    """Returns the shards of a text.

    Raises:
        StateMismatchError: the text has no shards.
    """
    try:
        with pa.ipc.open_stream(base64.b64decode(text, validate=True)) as reader:
            return [shard for batch in reader for shard in shards_of_batch(batch)]
    except (TypeError, ValueError, KeyError, binascii.Error, pa.ArrowException, OSError) as error:
        raise StateMismatchError(f"this text has no shards: {error!r:.80}, in {text!r:.80}") from None


def shards_to_batch(shards: Sequence[Shard], key_schema: pa.Schema) -> pa.RecordBatch:
    """Returns the ends and row counts of shards: ``begin_…`` and ``end_…`` for each key column, and ``rows``.

    Nulls stand for the key columns that an end lacks.
    """
    kinds = [comparable(pa.array([], field.type)).type for field in key_schema]
    ranges = [shard.key_range for shard in shards]
    columns: dict[str, Any] = {}
    for side, ends in (("begin", [each.begin for each in ranges]), ("end", [each.end for each in ranges])):
        for index, kind in enumerate(kinds):
            columns[f"{side}_{index}"] = pa.array([_value(end, index) for end in ends], kind)
    columns["rows"] = pa.array([shard.cardinality for shard in shards], pa.int64())
    return pa.record_batch(columns)


def shards_of_batch(batch: pa.RecordBatch) -> list[Shard]:
    """Returns the shards of `shards_to_batch`."""
    width = (batch.num_columns - 1) // 2
    begins = [batch.column(f"begin_{index}").to_pylist() for index in range(width)]
    ends = [batch.column(f"end_{index}").to_pylist() for index in range(width)]
    rows = batch.column("rows").to_pylist()
    return [
        Shard(KeyRange(_key(begin), _key(end)), count)
        for begin, end, count in zip(zip(*begins, strict=True), zip(*ends, strict=True), rows, strict=True)
    ]


def _value(end: Key | None, index: int) -> Any:
    return None if end is None or len(end) <= index else end[index]


def _key(values: tuple[Any, ...]) -> Key | None:
    present = tuple(value for value in values if value is not None)
    return present or None
