"""Queries in a locked-down, in-memory DuckDB that sees only the rows it is given."""

from lakefeed.sql.carry import require_carried
from lakefeed.sql.engine import Rows, Understood, stream, understand

__all__ = ["Rows", "Understood", "require_carried", "stream", "understand"]
