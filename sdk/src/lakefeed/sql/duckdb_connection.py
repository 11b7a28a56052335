"""Locked-down DuckDB connections: no files, network, extensions, settings or Python variables.

Each query has a connection, a private temporary directory and a memory limit of its own. One thread runs it, so that a
query without ORDER BY gives its rows in the same order whenever it is run again: a resumed epoch depends on it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakefeed._units import KIB, MIB
from lakefeed.config import Settings
from lakefeed.storage.disk.scratch import scratch_folder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOCKDOWN_STATEMENTS = (
    "SET TimeZone = 'UTC'",  # not the machine's
    "SET enable_progress_bar = false",  # it would write to the standard output
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)
OPTIONS: dict[str, Any] = {
    "threads": 1,
    "preserve_insertion_order": True,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "allow_community_extensions": False,
    "python_enable_replacements": False,
}
NO_FILE_SYSTEM = "SET disabled_filesystems = 'LocalFileSystem'"  # a second lock, where nothing is to spill
PARSING_BYTES = 64 * MIB
COLUMN_BYTES = 128 * KIB
"""For each column that is looked at: DuckDB makes room for its first rows, in several places."""
UNCOUNTED_BYTES = 64 * MIB


@contextmanager
def open_query_connection(settings: Settings, seed: int | None = None) -> Iterator[DuckDBPyConnection]:
    """A locked connection that may spill to disk; gone with its temporary files afterwards."""
    with scratch_folder(settings.cache / "spill", "sql-") as folder:
        limits = {
            "temp_directory": str(folder),
            "memory_limit": f"{_duckdb_limit(settings.sql.memory_bytes) // MIB}MiB",
        }
        with _open_locked(limits, LOCKDOWN_STATEMENTS, seed) as connection:
            yield connection


@contextmanager
def open_parsing_connection(columns: int = 0) -> Iterator[DuckDBPyConnection]:
    """A locked connection without a disk, for finding out what a query over so many columns says."""
    limits = {"temp_directory": "", "memory_limit": f"{(PARSING_BYTES + columns * COLUMN_BYTES) // MIB}MiB"}
    with _open_locked(limits, (NO_FILE_SYSTEM, *LOCKDOWN_STATEMENTS), 0) as connection:
        yield connection


@contextmanager
def _open_locked(limits: dict[str, Any], locks: tuple[str, ...], seed: int | None) -> Iterator[DuckDBPyConnection]:
    import duckdb

    connection = duckdb.connect(":memory:", config={**OPTIONS, **limits})
    try:
        connection.execute("SELECT setseed(?)", [_duckdb_seed(seed or 0)])
        for lock in locks:
            connection.execute(lock)
        yield connection
    finally:
        connection.close()


def _duckdb_limit(budget: int) -> int:
    """What DuckDB may count so that with what it does not count (measured: 90 MiB and 6 %) it keeps to the budget."""
    return max(budget * 3 // 4 - UNCOUNTED_BYTES, budget // 2)


def _duckdb_seed(seed: int) -> float:
    """A seed as DuckDB takes it: between -1 and 1."""
    return (seed % (1 << 32)) / (1 << 31) - 1.0
