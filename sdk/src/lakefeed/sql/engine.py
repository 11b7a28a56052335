"""Runs checked queries: out of core, streamed, and the same result every time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from lakefeed.config import Settings
from lakefeed.errors import ExpressionError
from lakefeed.sql.connection import connected

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

BATCH_ROWS = 8_192


@dataclass(frozen=True)
class Rows:
    """Rows for a query: DuckDB asks for a new stream at every scan, so a table may be used more than once."""

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]  # the stubs lack it

    def __arrow_c_schema__(self) -> object:
        return self.schema.__arrow_c_schema__()


def result_schema(settings: Settings, query: str, tables: Mapping[str, pa.Schema]) -> pa.Schema:
    """The schema of a query's result, without running it.

    Raises:
        ExpressionError: DuckDB's complaint about columns, types or syntax.
    """
    empty = {name: Rows(schema, lambda: iter(())) for name, schema in tables.items()}
    with connected(settings) as connection, _complaints(query):
        _register(connection, empty)
        found = connection.sql(f"SELECT * FROM ({query.rstrip().rstrip(';')}\n) LIMIT 0").to_arrow_table()
        schema: pa.Schema = found.schema
        return schema


def stream(
    settings: Settings, query: str, tables: Mapping[str, Rows], schema: pa.Schema, seed: int | None = None
) -> Generator[pa.RecordBatch]:
    """The rows of a query that has been checked, streamed; beyond the memory limit DuckDB spills to local disk."""
    with connected(settings, seed) as connection, _complaints(query):
        _register(connection, tables)
        for batch in connection.sql(query).to_arrow_reader(BATCH_ROWS):
            yield batch if batch.schema.equals(schema, check_metadata=True) else batch.cast(schema)


def _register(connection: DuckDBPyConnection, tables: Mapping[str, Rows]) -> None:
    for name, rows in tables.items():
        connection.register(name, rows)


@contextmanager
def _complaints(query: str) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise ExpressionError(f"this query cannot be run: {error}\n  {query}") from error
