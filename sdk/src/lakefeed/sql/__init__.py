"""Queries in a locked-down, in-memory DuckDB that sees only the rows it is given."""

from lakefeed.sql.case_folding import distinct, require_distinct
from lakefeed.sql.duckdb_types import carried, cast, require_carried
from lakefeed.sql.key_positions import joined_places, sorted_places
from lakefeed.sql.multiset_difference import partners, without
from lakefeed.sql.query_engine import RENAME, Rows, Understood, stream, understand

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
