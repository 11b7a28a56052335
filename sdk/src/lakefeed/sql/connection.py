"""Locked-down DuckDB connections: no files, network, extensions, settings or Python variables.

Each query has a connection, a private temporary directory and a memory limit of its own. One thread runs it, so that a
query without ORDER BY gives its rows in the same order whenever it is run again: a resumed epoch depends on it.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lakefeed.config import Settings

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

LOCKS = (
    "SET enable_external_access = false",
    "SET lock_configuration = true",
)


@contextmanager
def connected(settings: Settings, seed: int | None = None) -> Iterator[DuckDBPyConnection]:
    """A locked connection; gone with its temporary files afterwards."""
    import duckdb

    place = settings.cache / "spill"
    place.mkdir(parents=True, exist_ok=True)
    private = Path(tempfile.mkdtemp(prefix="sql-", dir=place))
    try:
        connection = duckdb.connect(":memory:", config=_options(settings, private))
        try:
            if seed is not None:
                connection.execute("SELECT setseed(?)", [_unit(seed)])
            for lock in LOCKS:
                connection.execute(lock)
            yield connection
        finally:
            connection.close()
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _options(settings: Settings, private: Path) -> dict[str, Any]:
    return {
        "temp_directory": str(private),
        "memory_limit": f"{settings.sql.memory_bytes // (1 << 20)}MiB",
        "threads": 1,
        "preserve_insertion_order": True,
        "autoinstall_known_extensions": False,
        "autoload_known_extensions": False,
        "allow_community_extensions": False,
        "python_enable_replacements": False,
    }


def _unit(seed: int) -> float:
    """A seed as DuckDB takes it: between -1 and 1."""
    return (seed % (1 << 32)) / (1 << 31) - 1.0
