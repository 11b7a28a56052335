"""Sorting and joining of row positions by keys in DuckDB. Only keys and positions pass through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed._rng import Indices
from lakefeed.config import Settings
from lakefeed.sql.duckdb_types import comparable_type, to_comparable
from lakefeed.sql.query_engine import QueryTable, run_query

Batches: TypeAlias = Callable[[], Iterator[pa.RecordBatch]]
POSITION = "p"
NO_PARTNER = -1


def sorted_positions(
    settings: Settings, schema: pa.Schema, batches: Batches, descending: Sequence[bool]
) -> Iterator[Indices]:
    """Yields the positions of the rows sorted by their columns, the first column first; stable; nulls last."""
    directions = ", ".join(f"k{index} {'DESC' if down else 'ASC'} NULLS LAST" for index, down in enumerate(descending))
    query = f"SELECT {POSITION} FROM l ORDER BY {directions}, {POSITION}"
    for batch in run_query(settings, query, {"l": _numbered_keys(schema, batches)}, pa.schema({POSITION: pa.int64()})):
        yield _positions(batch, POSITION)


def joined_positions(
    settings: Settings, kind: str, left: tuple[pa.Schema, Batches], right: tuple[pa.Schema, Batches]
) -> Iterator[tuple[Indices, Indices]]:
    """Yields the positions of the rows that a join pairs, with `NO_PARTNER` where a row has no partner.

    They are in the order of the left rows, then of the right ones. Rows without a left partner come last.
    """
    on = " AND ".join(f"l.k{index} = r.k{index}" for index in range(len(left[0])))
    query = (
        f"SELECT l.{POSITION} AS l, r.{POSITION} AS r FROM l {kind} JOIN r ON {on} "
        f"ORDER BY l.{POSITION} NULLS LAST, r.{POSITION}"
    )
    tables = {"l": _numbered_keys(*left, equality=True), "r": _numbered_keys(*right, equality=True)}
    for batch in run_query(settings, query, tables, pa.schema({"l": pa.int64(), "r": pa.int64()})):
        yield _positions(batch, "l"), _positions(batch, "r")


def _numbered_keys(schema: pa.Schema, batches: Batches, *, equality: bool = False) -> QueryTable:
    """Returns the columns as ``k0``, ``k1``, … and row positions; ``equality``: nested ones for comparison only."""
    nested = [equality and pa.types.is_nested(field.type) for field in schema]
    fields = [
        pa.field(f"k{index}", comparable_type(field.type) if nested[index] else field.type)
        for index, field in enumerate(schema)
    ]
    numbered = pa.schema([*fields, pa.field(POSITION, pa.int64())])

    def number_batches() -> Iterator[pa.RecordBatch]:
        position = 0
        for batch in batches():
            keys = [batch.column(name) for name in schema.names]
            columns = [
                _comparable_or_null(column) if inside else column for column, inside in zip(keys, nested, strict=True)
            ]
            positions = pa.array(np.arange(position, position + batch.num_rows))
            position += batch.num_rows
            yield pa.RecordBatch.from_arrays([*columns, positions], schema=numbered)

    return QueryTable(numbered, number_batches)


def _comparable_or_null(column: pa.Array[Any]) -> pa.Array[Any]:
    """Returns the column encoded for equality, null where it is null: null equals nothing in a join."""
    keys: pa.Array[Any] = pc.if_else(column.is_valid(), to_comparable(column), pa.scalar(None, pa.large_binary()))
    return keys


def _positions(batch: pa.RecordBatch, name: str) -> Indices:
    return np.asarray(batch.column(name).fill_null(NO_PARTNER), dtype=np.int64)
