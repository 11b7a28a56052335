"""Statements that SQLite and PostgreSQL share, but SQLAlchemy writes for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Select, Table
from sqlalchemy.dialects import postgresql, sqlite

from lakefeed.errors import UnsupportedError

Item = TypeVar("Item")

KEYS_PER_QUERY: Final = 500
"""SQLite limits the number of parameters of a statement."""


def insert_new(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows. Those of which the table has the key already are left out."""
    if rows:
        connection.execute(_insert(connection, table).on_conflict_do_nothing(), [dict(row) for row in rows])


def put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows, in place of those of the same primary key. All rows have the same columns."""
    if rows:
        insert = _insert(connection, table)
        keys = [column.name for column in table.primary_key]
        values = {name: insert.excluded[name] for name in rows[0] if name not in keys}
        statement = insert.on_conflict_do_update(index_elements=keys, set_=values) if values else insert
        connection.execute(statement, [dict(row) for row in rows])


def _insert(connection: Connection, table: Table) -> sqlite.Insert | postgresql.Insert:
    match connection.dialect.name:
        case "sqlite":
            return sqlite.insert(table)
        case "postgresql":
            return postgresql.insert(table)
        case other:
            raise UnsupportedError(f"the registry works in SQLite and PostgreSQL, not in {other}")


def pairs(connection: Connection, query: Select[Any, Any]) -> dict[Any, Any]:
    """Returns the second column of a query by the first."""
    return {row[0]: row[1] for row in connection.execute(query)}


def chunks(items: Iterable[Item], size: int = KEYS_PER_QUERY) -> Iterator[list[Item]]:
    """Yields the items in lists of at most ``size``."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk


def now_ms() -> int:
    """Returns the time in milliseconds since 1970 (UTC)."""
    return time.time_ns() // 1_000_000
