"""Locked-down DuckDB connections, without files, network, extensions, settings or Python variables.

Each query has its own connection, temporary directory and memory limit. One thread runs it, so that a query without
ORDER BY gives its rows in the same order in every run. A resumed epoch depends on that order.
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
    "SET TimeZone = 'UTC'",  # instead of the machine's
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
NO_FILE_SYSTEM = "SET disabled_filesystems = 'LocalFileSystem'"  # a second lock, for connections that do not spill
PARSING_BYTES = 64 * MIB
COLUMN_BYTES = 128 * KIB
"""DuckDB allocates buffers for the first rows of every column that it analyzes."""
UNCOUNTED_BYTES = 64 * MIB
INTERRUPTED_MESSAGE = "Query interrupted"
"""The message of the RuntimeError that DuckDB raises in place of the KeyboardInterrupt of Ctrl-C."""


@contextmanager
def open_query_connection(settings: Settings, seed: int | None = None) -> Iterator[DuckDBPyConnection]:
    """Yields a locked connection that may spill to disk, and deletes its temporary files afterwards."""
    with scratch_folder(settings.cache / "spill", "sql-") as folder:
        limits = {
            "temp_directory": str(folder),
            "memory_limit": f"{_duckdb_limit(settings.sql.memory_bytes) // MIB}MiB",
            "arrow_large_buffer_size": True,
        }
        with _open_locked(limits, LOCKDOWN_STATEMENTS, seed) as connection:
            yield connection


@contextmanager
def open_parsing_connection(columns: int = 0) -> Iterator[DuckDBPyConnection]:
    """Yields a locked connection without disk, for analyzing a query over ``columns`` columns."""
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
    except RuntimeError as error:
        if str(error) == INTERRUPTED_MESSAGE:
            raise KeyboardInterrupt from None
        raise
    finally:
        connection.close()


def _duckdb_limit(budget: int) -> int:
    """Returns the limit for DuckDB with which it stays in the budget: it does not count 90 MiB and 6 % (measured)."""
    return max(budget * 3 // 4 - UNCOUNTED_BYTES, budget // 2)


def _duckdb_seed(seed: int) -> float:
    """Returns the seed between -1 and 1, as DuckDB requires."""
    return (seed % (1 << 32)) / (1 << 31) - 1.0
