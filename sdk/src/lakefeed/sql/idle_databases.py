"""DuckDB databases that wait for the next query: opening one takes 20 ms, as it registers three thousand functions."""

from __future__ import annotations

import os
from collections.abc import Hashable
from dataclasses import dataclass
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

MAX_IDLE = 4
"""Each takes 5 MiB of memory, and no thread."""


@dataclass(frozen=True, eq=False)
class Database:
    """An in-memory database without tables; queries run on cursors of its connection, one at a time.

    ``temp_directory`` is the path that it was opened with. There is a folder only while a query runs.
    """

    connection: DuckDBPyConnection
    temp_directory: str


class IdleDatabases:
    """The databases of this process that no query uses, each with the settings that it was opened with. Thread-safe."""

    def __init__(self) -> None:
        self._idle: list[tuple[Hashable, Database]] = []
        self._lock = Lock()

    def take(self, settings: Hashable) -> Database | None:
        """Returns the database that was used last with these settings, for the caller alone; None if there is none."""
        with self._lock:
            for index in reversed(range(len(self._idle))):
                if self._idle[index][0] == settings:
                    return self._idle.pop(index)[1]
        return None

    def give_back(self, settings: Hashable, database: Database) -> None:
        """Keeps the database for the next query, and closes the oldest one if there are too many."""
        with self._lock:
            self._idle.append((settings, database))
            oldest = self._idle.pop(0)[1] if len(self._idle) > MAX_IDLE else None
        if oldest is not None:
            oldest.connection.close()

    def forget(self) -> None:
        """Leaves the databases to the parent: a forked process opens its own, with temporary files of their own."""
        self.__init__()  # type: ignore[misc]  # another thread of the parent may hold the lock


idle_databases = IdleDatabases()
os.register_at_fork(after_in_child=idle_databases.forget)
