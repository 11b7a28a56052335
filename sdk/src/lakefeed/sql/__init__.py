"""Queries in a locked-down, in-memory DuckDB that sees only the rows it is given."""

from lakefeed.sql.check import check_query
from lakefeed.sql.engine import Rows, result_schema, stream

__all__ = ["Rows", "check_query", "result_schema", "stream"]
