"""Facts about a lake that its SQLite catalog keeps beside Iceberg's tables: its id, its own path, its roots.

They are in the database because that is the one file which every copy of a home has, and which PyIceberg does not mind.
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

TABLE: Final = "lakefeed_lake"
KEY: Final = "record"
LOCK_TIMEOUT_SECONDS: Final = 60.0


@dataclass(frozen=True)
class LakeRecord:
    """What a catalog says of its lake.

    Attributes:
        id: random; a copy has the same.
        catalog: where the database was when it was written to last.
        roots: for each recorded root (a plain path) the folder that it stands for: relative to that of the database
            where it lies inside, else absolute. The first one of a folder is that under which new tables are named.
    """

    catalog: str
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    roots: dict[str, str] = field(default_factory=dict)

    def with_roots(self, roots: dict[str, str]) -> LakeRecord:
        """The record with these roots too."""
        return replace(self, roots={**self.roots, **roots})


def read_record(database: Path) -> LakeRecord | None:
    """The record in a catalog; None where there is none, or no catalog."""
    if not database.is_file():
        return None
    try:
        with _connect(database) as connection:
            return _read_row(connection)
    except sqlite3.DatabaseError:
        return None  # another file is there, or a database without the table


def change_record(database: Path, change: Callable[[LakeRecord], LakeRecord]) -> LakeRecord:
    """Writes what ``change`` makes of the record (of a new one where there is none) and returns it.

    Raises:
        sqlite3.OperationalError: the database cannot be written to.
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
def _connect(database: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(database, timeout=LOCK_TIMEOUT_SECONDS, isolation_level=None)) as connection:
        yield connection
