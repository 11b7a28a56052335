"""Queries in a locked-down, in-memory DuckDB that sees only the rows it is given."""

from lakefeed.sql.carry import carried, cast, require_carried
from lakefeed.sql.difference import partners, without
from lakefeed.sql.engine import RENAME, Rows, Understood, stream, understand
from lakefeed.sql.names import distinct, require_distinct
from lakefeed.sql.places import joined_places, sorted_places

__all__ = [
    "RENAME",
    "Rows",
    "Understood",
    "carried",
    "cast",
    "distinct",
    "joined_places",
    "partners",
    "require_carried",
    "require_distinct",
    "sorted_places",
    "stream",
    "understand",
    "without",
]
