"""Statements that SQLite and PostgreSQL share, but SQLAlchemy writes for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
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
        statement = _insert(connection.dialect.name, table, ())
        connection.execute(statement, [dict(row) for row in rows])


def insert_one(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Inserts a row, and returns True; False if the table has the key already."""
    return connection.execute(_insert(connection.dialect.name, table, ()), [dict(row)]).rowcount > 0


def put(connection: Connection, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Inserts rows, in place of those of the same primary key. All rows have the same columns."""
    if rows:
        keys = {column.name for column in table.primary_key}
        statement = _insert(connection.dialect.name, table, tuple(name for name in rows[0] if name not in keys))
        connection.execute(statement, [dict(row) for row in rows])


@cache
def _insert(dialect: str, table: Table, replaced: tuple[str, ...]) -> sqlite.Insert | postgresql.Insert:
    """Returns the statement that inserts rows, and replaces these columns of rows of the same primary key."""
    if dialect not in ("sqlite", "postgresql"):
        raise UnsupportedError(f"the registry works in SQLite and PostgreSQL, not in {dialect}")
    insert = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    if not replaced:
        return insert.on_conflict_do_nothing()
    keys = [column.name for column in table.primary_key]
    return insert.on_conflict_do_update(index_elements=keys, set_={name: insert.excluded[name] for name in replaced})


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
