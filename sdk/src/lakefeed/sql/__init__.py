"""Queries in a locked-down, in-memory DuckDB that sees only the rows it is given."""

from lakefeed.sql.check import checked, columns_named
from lakefeed.sql.engine import Rows, result_schema, stream

__all__ = ["Rows", "checked", "columns_named", "result_schema", "stream"]
