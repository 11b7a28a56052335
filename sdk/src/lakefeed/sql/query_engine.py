"""Analyzes and runs queries: checked first, out of core, streamed, and reproducible."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed._units import MIB
from lakefeed.config import Settings
from lakefeed.errors import BudgetExceededError, ExpressionError
from lakefeed.plan.row_bytes import cut_by_bytes, row_width
from lakefeed.sql.case_folding import require_unambiguous, require_unambiguous_results, unambiguous_schema
from lakefeed.sql.duckdb_connection import open_parsing_connection, open_query_connection
from lakefeed.sql.duckdb_types import cast_batch, duckdb_schema
from lakefeed.sql.query_check import parse_query, referenced_columns
from lakefeed.sql.result_types import restore_column, result_schema
from lakefeed.sql.unchanged_columns import restored_columns
from lakefeed.storage.disk.disk_errors import is_full, storage_error

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

DISK_LIMIT_SETTING = "max_temp_directory_size"
"""DuckDB names this setting when it would fill more than 90 % of the free disk."""
DISK_FULL_TEXT = os.strerror(errno.ENOSPC)
BATCH_ROWS = 8_192
VARIABLE_BATCH_ROWS = 1_024
"""Rows of a batch with columns whose values may be large."""
MAX_BATCH_BYTES = 64 * MIB
RENAME_ADVICE = "Rename or drop one of them first: dataset.rename({old: new}), dataset.drop(name)"
CACHED_QUERIES = 256


@dataclass(frozen=True)
class QueryTable:
    """Rows of a table in a query. DuckDB requests a new stream for every scan, so a query may scan it several times."""

    schema: pa.Schema
    batches: Callable[[], Iterator[pa.RecordBatch]]
    _failures: list[BaseException] = field(default_factory=list, init=False, repr=False, compare=False)

    def __arrow_c_stream__(self, requested_schema: object = None) -> object:
        reader = pa.RecordBatchReader.from_batches(duckdb_schema(self.schema), self._recorded_batches())
        return reader.__arrow_c_stream__(requested_schema)  # type: ignore[no-untyped-call]  # the stubs lack it

    def __arrow_c_schema__(self) -> object:
        return duckdb_schema(self.schema).__arrow_c_schema__()

    @property
    def failure(self) -> BaseException | None:
        """Returns the error that ended the batches, of which DuckDB passes on only the text."""
        return self._failures[0] if self._failures else None

    def _recorded_batches(self) -> Iterator[pa.RecordBatch]:
        schema = duckdb_schema(self.schema)
        try:
            for batch in self.batches():
                yield cast_batch(batch, schema)
        except Exception as failure:
            self._failures.append(failure)
            raise


@dataclass(frozen=True)
class QueryAnalysis:
    """The schema of a query's result, and the columns that it names (lower case; None: any)."""

    schema: pa.Schema
    columns: frozenset[str] | None


def analyze_query(query: str, tables: Mapping[str, pa.Schema]) -> QueryAnalysis:
    """Returns the analysis of a query over ``tables``, without running it.

    Raises:
        ExpressionError: the query is not one SELECT over these tables, or DuckDB rejects columns, types or syntax.
        UnsupportedError: the query uses files, settings, the session or the clock.
    """
    if not isinstance(query, str):
        raise ExpressionError(f"query must be text, got {type(query).__name__}")
    return _analyze(query, tuple((name, schema.serialize().to_pybytes()) for name, schema in tables.items()))


@lru_cache(CACHED_QUERIES)
def _analyze(query: str, serialized: tuple[tuple[str, bytes], ...]) -> QueryAnalysis:
    tables = {name: pa.ipc.read_schema(pa.py_buffer(schema)) for name, schema in serialized}
    with open_parsing_connection(sum(map(_count_columns, tables.values()))) as connection, translate_errors(query):
        parsed = parse_query(connection, query, {name: schema.names for name, schema in tables.items()})
        referenced = referenced_columns(parsed, tables)
        require_unambiguous(tables, referenced, RENAME_ADVICE)
        require_unambiguous_results(parsed, {name: schema.names for name, schema in tables.items()})
        known = {name: unambiguous_schema(schema) for name, schema in tables.items()}
        _register_tables(connection, {name: QueryTable(schema, lambda: iter(())) for name, schema in known.items()})
        schema = result_schema(connection.sql(query), known)
        restored = restored_columns(connection, parsed, known, len(schema))
        fields = [restore_column(each, column) for each, column in zip(schema, restored, strict=True)]
        return QueryAnalysis(pa.schema(fields), referenced)


def run_query(
    settings: Settings, query: str, tables: Mapping[str, QueryTable], schema: pa.Schema, seed: int | None = None
) -> Generator[pa.RecordBatch]:
    """Streams the rows of a query that was analyzed (or is our own). Beyond the memory limit DuckDB spills to disk.

    Raises:
        ExpressionError: DuckDB cannot compute a value.
        BudgetExceededError: it needs more memory than ``settings.sql.memory_bytes`` even with spilling.
    """
    with open_query_connection(settings, seed) as connection, translate_errors(query, tables, settings.cache / "spill"):
        _register_tables(connection, tables)
        rows = BATCH_ROWS if row_width(schema) is not None else VARIABLE_BATCH_ROWS
        for batch in connection.sql(query).to_arrow_reader(rows):
            # DuckDB gives large strings and lists, which hold more than those of the schema may.
            for part in cut_by_bytes(batch, MAX_BATCH_BYTES):
                yield cast_batch(part, schema)


def _count_columns(schema: pa.Schema) -> int:
    """Returns the number of columns and nested fields."""
    stack, count = [field.type for field in schema], 0
    while stack:
        kind = stack.pop()
        count += 1
        stack.extend(kind.field(index).type for index in range(kind.num_fields))
    return count


def _register_tables(connection: DuckDBPyConnection, tables: Mapping[str, Any]) -> None:
    for name, rows in tables.items():
        connection.register(name, rows)


@contextmanager
def translate_errors(
    query: str, tables: Mapping[str, QueryTable] | None = None, folder: Path | None = None
) -> Iterator[None]:
    """Raises DuckDB's errors as ours, and errors of the rows unchanged. ``folder``: where it may spill."""
    import duckdb

    try:
        yield
    except (duckdb.Error, pa.ArrowException, OSError) as error:
        for rows in (tables or {}).values():
            if rows.failure is not None:
                raise rows.failure from None
        raise _translate(error, query, folder) from None


def _translate(error: Exception, query: str, folder: Path | None) -> Exception:
    import duckdb

    if folder is not None and (isinstance(error, duckdb.IOException) or DISK_LIMIT_SETTING in str(error)):
        number = (
            errno.ENOSPC
            if DISK_LIMIT_SETTING in str(error) or DISK_FULL_TEXT in str(error) or is_full(folder)
            else errno.EIO
        )
        first_line = str(error).partition("\n")[0]
        reason = f"this query does not fit into memory and needs more disk: {first_line}\n  {query}\n"
        return storage_error(OSError(number, str(error)), folder, reason=reason)
    if isinstance(error, duckdb.OutOfMemoryException) or "Out of Memory Error" in str(error):
        return BudgetExceededError(
            f"this query needs more memory than LAKEFEED__SQL__MEMORY_BYTES allows, or more disk: {error}\n  {query}"
        )
    return ExpressionError(f"the query failed: {error}\n  {query}")
