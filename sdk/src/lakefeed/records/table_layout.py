"""The layout of the registry's tables: numbered, and brought up to date on first use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from sqlalchemy import Connection, inspect, select, text, update

from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.errors import UnsupportedError
from lakefeed.records.record_tables import META, METADATA, ORIGIN, RECORD, SYNCED, TABLE, UPSTREAM

LAYOUT_KEY: Final = "layout"
FIRST_LAYOUT: Final = 1
ADVISORY_LOCK: Final = 0x6C616B65
"""The key of the lock under which processes change the layout in PostgreSQL."""


def _read_all_again(connection: Connection) -> None:
    """Makes layout 2, which has the origins of versions: all tables of the lake count as unread."""
    if inspect(connection).has_table(SYNCED.name):
        connection.execute(update(SYNCED).values(location=None))


MIGRATIONS: Final[Mapping[int, Callable[[Connection], None]]] = MappingProxyType({2: _read_all_again})
"""For each layout after the first, the function that makes it of the one before. A table may be missing."""

FILLED: Final = frozenset({RECORD.name, TABLE.name, ORIGIN.name, UPSTREAM.name})
"""The tables that are filled from the commits of the lake."""


def ensure_layout(
    database: RegistryDatabase, migrations: Mapping[int, Callable[[Connection], None]] = MIGRATIONS
) -> None:
    """Makes the tables, or brings those of an older version of lakefeed up to date.

    Tables that were dropped are made again. If they have facts of commits, all versions of the lake count as unread.

    Raises:
        UnsupportedError: the tables are of a newer version of lakefeed.
        CatalogUnavailableError: the database cannot be reached or refuses.
    """
    newest = max(migrations, default=FIRST_LAYOUT)
    with database.read() as connection:
        names = set(inspect(connection).get_table_names())
        if METADATA.tables.keys() <= names and _read(connection) == newest:
            return
    with database.write() as connection:
        _lock(connection)
        names = set(inspect(connection).get_table_names())
        present = _read(connection) if META.name in names else 0
        if present > newest:
            raise UnsupportedError(
                f"the registry {database.description!r} has layout {present}, and this version of lakefeed knows "
                f"layouts up to {newest}. Use the version of lakefeed that wrote it, or a newer one"
            )
        for number in sorted(migrations) if present else ():
            if number > present:
                migrations[number](connection)
        METADATA.create_all(connection, checkfirst=True)
        if not names >= FILLED and SYNCED.name in names:
            connection.execute(update(SYNCED).values(location=None))
            connection.execute(TABLE.delete())
        _write(connection, newest)


def _read(connection: Connection) -> int:
    value = connection.scalar(select(META.c.value).where(META.c.key == LAYOUT_KEY))
    return 0 if value is None else int(value)


def _write(connection: Connection, number: int) -> None:
    changed = connection.execute(update(META).where(META.c.key == LAYOUT_KEY).values(value=str(number)))
    if not changed.rowcount:
        connection.execute(META.insert().values(key=LAYOUT_KEY, value=str(number)))


def _lock(connection: Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": ADVISORY_LOCK})
