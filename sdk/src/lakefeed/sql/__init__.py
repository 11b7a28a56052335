"""SQL queries in a locked-down, in-memory DuckDB that sees only the rows of its tables."""

from lakefeed.sql.case_folding import require_unambiguous, unambiguous_schema
from lakefeed.sql.duckdb_types import cast_column, duckdb_type, require_supported
from lakefeed.sql.key_positions import joined_positions, sorted_positions
from lakefeed.sql.multiset_difference import count_common_rows, subtract_rows
from lakefeed.sql.query_engine import RENAME_ADVICE, QueryAnalysis, QueryTable, analyze_query, run_query

__all__ = [
    "RENAME_ADVICE",
    "QueryAnalysis",
    "QueryTable",
    "analyze_query",
    "cast_column",
    "count_common_rows",
    "duckdb_type",
    "joined_positions",
    "require_supported",
    "require_unambiguous",
    "run_query",
    "sorted_positions",
    "subtract_rows",
    "unambiguous_schema",
]
