"""The multiset difference of rows, out of core."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed.config import Settings
from lakefeed.sql.duckdb_types import comparable_type, to_comparable
from lakefeed.sql.query_engine import QueryTable, run_query

POSITION = "position"
SCHEMA = pa.schema([(POSITION, pa.int64())])


def subtract_rows(settings: Settings, rows: QueryTable, less: QueryTable) -> NDArray[np.int64]:
    """Returns the sorted positions of the rows that remain when each row of ``less`` removes one row that equals it.

    Null equals null here, and NaN equals NaN, at every depth. Of equal rows the first ones are removed.

    Raises:
        ValueError: the rows have no columns.
    """
    if len(rows.schema) == 0:
        raise ValueError("rows without columns cannot be compared")
    columns = ", ".join(f"c{index}" for index in range(len(rows.schema)))
    query = f"""
        SELECT position FROM (
            SELECT position, less, row_number() OVER same AS nth, count(*) FILTER (less) OVER same AS gone
            FROM (
                SELECT {columns}, position, false AS less FROM minuend
                UNION ALL SELECT {columns}, position, true AS less FROM subtrahend
            )
            WINDOW same AS (PARTITION BY {columns} ORDER BY less DESC, position
                ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW)
        ) WHERE NOT less AND nth > 2 * gone ORDER BY position
    """
    batches = run_query(settings, query, {"minuend": _numbered_rows(rows), "subtrahend": _numbered_rows(less)}, SCHEMA)
    positions = [batch.column(0).to_numpy() for batch in batches]
    return np.concatenate(positions) if positions else np.empty(0, np.int64)


def count_common_rows(settings: Settings, left: QueryTable, right: QueryTable) -> tuple[int, int, int]:
    """Returns the number of rows of each side that the other side has too, and of distinct ones among them."""
    columns = [f"c{index}" for index in range(len(left.schema))]
    same = " AND ".join(f"l.{column} IS NOT DISTINCT FROM r.{column}" for column in columns)
    query = f"""
        SELECT (SELECT count(*) FROM l SEMI JOIN r ON {same}) AS lefts,
            (SELECT count(*) FROM r SEMI JOIN l ON {same}) AS rights,
            (SELECT count(*) FROM (SELECT {", ".join(columns)} FROM l INTERSECT SELECT {", ".join(columns)} FROM r))
                AS both
    """
    schema = pa.schema([("lefts", pa.int64()), ("rights", pa.int64()), ("both", pa.int64())])
    (counts,) = pa.Table.from_batches(
        run_query(settings, query, {"l": _numbered_rows(left), "r": _numbered_rows(right)}, schema), schema
    ).to_pylist()
    return counts["lefts"], counts["rights"], counts["both"]


def _numbered_rows(rows: QueryTable) -> QueryTable:
    """Returns the rows with plain column names and their positions."""
    fields = [pa.field(f"c{index}", comparable_type(field.type)) for index, field in enumerate(rows.schema)]
    schema = pa.schema([*fields, pa.field(POSITION, pa.int64())])

    def batches() -> Iterator[pa.RecordBatch]:
        position = 0
        for batch in rows.batches():
            columns = [to_comparable(column) for column in batch.columns]
            positions = pa.array(np.arange(position, position + batch.num_rows))
            position += batch.num_rows
            yield pa.RecordBatch.from_arrays([*columns, positions], schema=schema)

    return QueryTable(schema, batches)
