"""The record of a lake in its SQLite catalog: the id of the lake, the path of the catalog, and the path roots.

It is a table in the database, because every copy of a home has that file. PyIceberg ignores it.
"""

from __future__ import annotations

import json
import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Final

from lakefeed import _paths
from lakefeed.errors import CatalogUnavailableError
from lakefeed.storage.disk.sqlite_connection import LockedFileError, connect

TABLE: Final = "lakefeed_lake"
KEY: Final = "record"


@dataclass(frozen=True)
class LakeRecord:
    """The facts about a lake that its catalog stores.

    Attributes:
        catalog: the path of the database at the time of the last write.
        id: a random id, which copies share.
        roots: the actual folder of each recorded root (a plain path). It is relative to the folder of the database if
            it lies inside, else absolute. New tables are named under the first root of the warehouse.
    """

    catalog: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    roots: dict[str, str] = field(default_factory=dict)

    def with_roots(self, roots: dict[str, str]) -> LakeRecord:
        """Returns the record with further roots."""
        return replace(self, roots={**self.roots, **roots})


def read_record(database: Path) -> LakeRecord | None:
    """Returns the record in a catalog; None if there is none, or no catalog."""
    if not _paths.is_file(database):
        return None
    try:
        with _connect(database) as connection:
            return _read_row(connection)
    except sqlite3.DatabaseError:
        return None  # the file is not a database, or has no record


def change_record(database: Path, change: Callable[[LakeRecord], LakeRecord]) -> LakeRecord:
    """Applies ``change`` to the record, or to a new one if there is none, and returns the result.

    Raises:
        sqlite3.OperationalError: the database cannot be written.
        CatalogUnavailableError: another process held its lock for too long.
    """
    with _connect(database) as connection:
        connection.execute("BEGIN IMMEDIATE")
        connection.execute(f"CREATE TABLE IF NOT EXISTS {TABLE} (name TEXT PRIMARY KEY, value TEXT NOT NULL)")
        before = _read_row(connection)
        after = change(before or LakeRecord(str(database)))
        if after != before:
            connection.execute(f"INSERT OR REPLACE INTO {TABLE} VALUES (?, ?)", (KEY, json.dumps(asdict(after))))
        connection.execute("COMMIT")
        return after


def _read_row(connection: sqlite3.Connection) -> LakeRecord | None:
    row = connection.execute(f"SELECT value FROM {TABLE} WHERE name = ?", (KEY,)).fetchone()
    return None if row is None else LakeRecord(**json.loads(row[0]))


@contextmanager
def lock_errors() -> Iterator[None]:
    """Raises CatalogUnavailableError if another process held the lock of the catalog for too long."""
    try:
        yield
    except LockedFileError as error:
        raise CatalogUnavailableError(f"the catalog cannot be used: {error}") from error


@contextmanager
def _connect(database: Path) -> Iterator[sqlite3.Connection]:
    with lock_errors(), closing(connect(database)) as connection:
        yield connection
