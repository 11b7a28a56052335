"""Rows less other rows, as often as each is there: the multiset difference, out of core."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed.config import Settings
from lakefeed.sql.duckdb_types import comparable_type, to_comparable
from lakefeed.sql.query_engine import QueryTable, run_query

POSITION = "place"
SCHEMA = pa.schema([(POSITION, pa.int64())])


def subtract_rows(settings: Settings, rows: QueryTable, less: QueryTable) -> NDArray[np.int64]:
    """The places (sorted) of the rows that remain when each row of ``less`` takes away one that is equal to it.

    Null equals null here, and NaN equals NaN, at every depth. Of equal rows the first ones go.
    """
    if len(rows.schema) == 0:
        raise ValueError("rows without columns cannot be told apart")
    columns = ", ".join(f"c{index}" for index in range(len(rows.schema)))
    query = f"""
        SELECT place FROM (
            SELECT place, less, row_number() OVER same AS nth, count(*) FILTER (less) OVER same AS gone
            FROM (
                SELECT {columns}, place, false AS less FROM kept
                UNION ALL SELECT {columns}, place, true AS less FROM others
            )
            WINDOW same AS (PARTITION BY {columns} ORDER BY less DESC, place
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        ) WHERE NOT less AND nth > 2 * gone ORDER BY place
    """
    found = run_query(settings, query, {"kept": _numbered_rows(rows), "others": _numbered_rows(less)}, SCHEMA)
    places = [batch.column(0).to_numpy() for batch in found]
    return np.concatenate(places) if places else np.empty(0, np.int64)


def count_common_rows(settings: Settings, left: QueryTable, right: QueryTable) -> tuple[int, int, int]:
    """How many rows of each side are on the other side too, and how many different ones that are."""
    columns = [f"c{index}" for index in range(len(left.schema))]
    same = " AND ".join(f"l.{column} IS NOT DISTINCT FROM r.{column}" for column in columns)
    query = f"""
        SELECT (SELECT count(*) FROM l SEMI JOIN r ON {same}) AS lefts,
            (SELECT count(*) FROM r SEMI JOIN l ON {same}) AS rights,
            (SELECT count(*) FROM (SELECT {", ".join(columns)} FROM l INTERSECT SELECT {", ".join(columns)} FROM r))
                AS both
    """
    counts = pa.schema([("lefts", pa.int64()), ("rights", pa.int64()), ("both", pa.int64())])
    (found,) = pa.Table.from_batches(
        run_query(settings, query, {"l": _numbered_rows(left), "r": _numbered_rows(right)}, counts), counts
    ).to_pylist()
    return found["lefts"], found["rights"], found["both"]


def _numbered_rows(rows: QueryTable) -> QueryTable:
    """The rows with plain column names and their places."""
    fields = [pa.field(f"c{index}", comparable_type(field.type)) for index, field in enumerate(rows.schema)]
    schema = pa.schema([*fields, pa.field(POSITION, pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        place = 0
        for batch in rows.batches():
            columns = [to_comparable(column) for column in batch.columns]
            places = pa.array(np.arange(place, place + batch.num_rows))
            place += batch.num_rows
            yield pa.RecordBatch.from_arrays([*columns, places], schema=schema)

    return QueryTable(schema, batches)
