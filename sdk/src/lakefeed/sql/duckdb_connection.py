"""Locked-down DuckDB connections, without files, network, extensions, settings or Python variables.

Each query has its own connection, temporary directory and memory limit. One thread runs it, so that a query without
ORDER BY gives its rows in the same order in every run. A resumed epoch depends on that order. A query has a database
alone; the next one with the same settings may have it afterwards.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakefeed._units import KIB, MIB
from lakefeed.config import Settings
from lakefeed.errors import ExpressionError, UnsupportedError
from lakefeed.sql.idle_databases import Database, idle_databases
from lakefeed.storage.disk.scratch import scratch_folder, scratch_name

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOCKDOWN_STATEMENTS = (
    "SET GLOBAL TimeZone = 'UTC'",  # instead of the machine's
    "SET enable_external_access = false",
    "SET allowed_configs = ['enable_progress_bar']",  # each connection has its own
    "SET lock_configuration = true",
)
OPTIONS: dict[str, Any] = {
    "threads": 1,
    "async_threads": 0,  # they prefetch remote files, and a forked process would wait for them
    "preserve_insertion_order": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
NO_FILE_SYSTEM = "SET disabled_filesystems = 'LocalFileSystem'"  # a second lock, for connections that do not spill
PARSING_BYTES = 64 * MIB
COLUMN_BYTES = 128 * KIB
"""DuckDB allocates buffers for the first rows of every column that it analyzes."""
COLUMNS_STEP = 64
"""Queries over about as many columns have one limit, and so one database."""
UNCOUNTED_BYTES = 64 * MIB
SPILL_PREFIX = "sql-"
UNUSED = 0
"""The time of modification of a temporary directory, in nanoseconds, until DuckDB creates a file in it."""
INTERRUPTED_MESSAGE = "Query interrupted"
"""The message of the RuntimeError that DuckDB raises in place of the KeyboardInterrupt of Ctrl-C."""


@contextmanager
def open_query_connection(settings: Settings, seed: int | None = None) -> Iterator[DuckDBPyConnection]:
    """Yields a locked connection that may spill to disk, and deletes its temporary files afterwards."""
    spill = settings.cache / "spill"
    limit = f"{_duckdb_limit(settings.sql.memory_bytes) // MIB}MiB"
    key = (str(spill), limit)
    database = idle_databases.take(key)
    if database is None:
        limits = {"temp_directory": str(spill / scratch_name(SPILL_PREFIX)), "memory_limit": limit}
        database = _open_locked({**limits, "arrow_large_buffer_size": True}, LOCKDOWN_STATEMENTS)
    with scratch_folder(spill, SPILL_PREFIX, Path(database.temp_directory).name) as folder:
        os.utime(folder, ns=(UNUSED, UNUSED))
        with _connection_of(database, key, seed, lambda: folder.stat().st_mtime_ns == UNUSED) as connection:
            yield connection


@contextmanager
def open_parsing_connection(columns: int = 0) -> Iterator[DuckDBPyConnection]:
    """Yields a locked connection without disk, for analyzing a query over ``columns`` columns."""
    columns += -columns % COLUMNS_STEP
    key = f"{(PARSING_BYTES + columns * COLUMN_BYTES) // MIB}MiB"
    database = idle_databases.take(key)
    if database is None:
        database = _open_locked({"temp_directory": "", "memory_limit": key}, (NO_FILE_SYSTEM, *LOCKDOWN_STATEMENTS))
    with _connection_of(database, key, 0, lambda: True) as connection:
        yield connection


def _open_locked(limits: dict[str, Any], locks: tuple[str, ...]) -> Database:
    import duckdb

    connection = duckdb.connect(":memory:", config={**OPTIONS, **limits})
    for lock in locks:
        connection.execute(lock)
    return Database(connection, limits["temp_directory"])


@contextmanager
def _connection_of(
    database: Database, key: Hashable, seed: int | None, is_clean: Callable[[], bool]
) -> Iterator[DuckDBPyConnection]:
    """Yields a connection of its own: tables, settings and chance of other connections do not reach it.

    The database stays open for the next query with these settings, unless this one was broken off or did not fit into
    memory, or ``is_clean`` says that it left files.
    """
    sound = False
    try:
        with closing(database.connection.cursor()) as connection:
            connection.execute("SET enable_progress_bar = false").fetchall()  # it would write to the standard output
            connection.execute("SELECT setseed(?)", [_duckdb_seed(seed or 0)]).fetchall()
            yield connection
        sound = is_clean()
    except (ExpressionError, UnsupportedError):
        sound = _answers(database) and is_clean()
        raise
    except RuntimeError as error:
        if str(error) == INTERRUPTED_MESSAGE:
            raise KeyboardInterrupt from None
        raise
    finally:
        if sound:
            idle_databases.give_back(key, database)
        else:
            database.connection.close()


def _answers(database: Database) -> bool:
    """Returns whether the database can go on after an error: an internal one of DuckDB ends it."""
    import duckdb

    try:
        database.connection.execute("SELECT 1").fetchall()
    except duckdb.Error:
        return False
    return True


def _duckdb_limit(budget: int) -> int:
    """Returns the limit for DuckDB with which it stays in the budget: it does not count 90 MiB and 6 % (measured)."""
    return max(budget * 3 // 4 - UNCOUNTED_BYTES, budget // 2)


def _duckdb_seed(seed: int) -> float:
    """Returns the seed between -1 and 1, as DuckDB requires."""
    return (seed % (1 << 32)) / (1 << 31) - 1.0
