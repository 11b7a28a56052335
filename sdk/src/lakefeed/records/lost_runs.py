"""Runs whose processes are gone: their state becomes "lost", because nobody tells how they ended.

A process that writes a run has a row while the run goes on. It is gone if this machine says so. Of processes on other
machines, only the time is known at which they wrote last. A run that was taken for lost wrongly becomes
right with the next thing that it writes.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from typing import Any, Final

from sqlalchemy import Connection, delete, func, select, update

from lakefeed.catalog.registry_database import RegistryDatabase
from lakefeed.errors import CatalogUnavailableError
from lakefeed.records.inserts import now_ms, put
from lakefeed.records.record_tables import PROCESS, RUN
from lakefeed.storage.disk.process_identity import ProcessIdentity

logger = logging.getLogger(__name__)

RUNNING: Final = "running"
LOST: Final = "lost"
SILENT_MS: Final = 7 * 24 * 3600 * 1000
"""A process of another machine that has not written for this time is taken for gone."""


def write_process(connection: Connection, run: str, process: ProcessIdentity, host: str, *, runs: bool) -> None:
    """Records that a process goes on with a run, or that it has ended it.

    Args:
        connection: a transaction.
        run: the uid of the run.
        process: the process.
        host: the name of its machine.
        runs: True if it goes on.
    """
    key = {"run": run, "machine": process.machine, "pid": process.pid, "began": process.began}
    if runs:
        put(connection, PROCESS, [{**key, "host": host, "at": now_ms()}])
    else:
        connection.execute(delete(PROCESS).where(*(PROCESS.c[name] == value for name, value in key.items())))


def has_lost_runs(connection: Connection) -> bool:
    """Returns whether there are runs to mark as lost."""
    return bool(_gone(connection))


def mark_lost_runs(database: RegistryDatabase) -> None:
    """Gives runs whose processes are all gone the state "lost".

    Raises:
        CatalogUnavailableError: the database cannot be reached or refuses.
    """
    with database.read() as connection:
        gone = _gone(connection)
    if not gone:
        return
    try:
        with database.write() as connection:
            for run, rows in gone.items():
                _mark(connection, run, rows)
    except CatalogUnavailableError as error:  # it may be a copy that can only be read
        logger.debug("the state of %d lost runs cannot be written: %s", len(gone), error)


def _gone(connection: Connection) -> dict[str, list[Any]]:
    """Returns the rows of the processes of lost runs by the uid of the run."""
    rows: dict[str, list[Any]] = defaultdict(list)
    for row in connection.execute(select(PROCESS)):
        rows[row.run].append(row)
    return {run: each for run, each in rows.items() if all(map(_is_gone, each))}


def _is_gone(row: Any) -> bool:
    gone = ProcessIdentity(row.machine, row.pid, row.began).is_gone
    return row.at < now_ms() - SILENT_MS if gone is None else gone


def _mark(connection: Connection, run: str, rows: list[Any]) -> None:
    """Marks a run, unless one of its processes has written, or another one has joined, since the rows were read."""
    same = connection.scalar(select(func.count()).where(PROCESS.c.run == run)) == len(rows)
    newest = connection.scalar(select(func.max(PROCESS.c.at)).where(PROCESS.c.run == run))
    if same and newest == max(row.at for row in rows):
        lost = update(RUN).where(RUN.c.uid == run, RUN.c.status == RUNNING)
        connection.execute(lost.values(status=LOST, finished=newest))
        connection.execute(delete(PROCESS).where(PROCESS.c.run == run))
