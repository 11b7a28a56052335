"""SQLite files in the cache folder. Processes of a machine share them; lost or damaged ones are created again."""

from __future__ import annotations

import errno
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

from lakefeed.errors import FileError, StorageError
from lakefeed.storage.disk.disk_errors import is_full, storage_error
from lakefeed.storage.disk.sqlite_connection import PRIMARY_CODE, LockedFileError, connect

logger = logging.getLogger(__name__)

KEYS_PER_QUERY = 1_000
ROWS_PER_INSERT = 256
LOCKED_TRIES = 100
LOCKED_WAIT = 0.02
DISK_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}

_T = TypeVar("_T")


class Database:
    """One SQLite file. Safe between threads, processes and forks; created on first use.

    Its contents can be derived from other data: a damaged file is removed and created again.

    Args:
        path: the path of the file, without the version and the extension.
        version: the version of the layout. It is part of the file's name.
        script: the SQL that creates the tables.
    """

    def __init__(self, path: Path, version: int, script: str) -> None:
        self.path = path.with_name(f"{path.name}-{version}.db")
        self._script = script
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._in_memory = False

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Returns the result of ``work`` on the connection. Repeats the work on a new file if this one is damaged.

        Continues in memory if the disk refuses the writes of ``work``.

        Raises:
            FileError: another process held the file for a minute.
            StorageError: the file cannot be read.
        """
        with self._lock_in_process():
            try:
                return self._run(work)
            except sqlite3.Error as error:
                full = disk_error(error, self.path)
                if full is not None and self._move_to_memory(full):
                    return self._run(work)
                raise full or FileError(f"cannot use {str(self.path)!r} in the cache: {error}") from error

    def _run(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._connect())
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s is damaged and created again: %s", self.path, error)
            self.remove()
            return work(self._connect())

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """Returns the result of ``work`` as `read` does, in a transaction that excludes other writers."""

        def transaction(connection: sqlite3.Connection) -> _T:
            connection.execute("BEGIN IMMEDIATE")
            try:
                result = work(connection)
            except BaseException:
                with suppress(sqlite3.Error):
                    connection.execute("ROLLBACK")
                raise
            connection.execute("COMMIT")
            return result

        return self.read(transaction)

    def look_up(self, query: str, keys: Sequence[bytes]) -> Iterator[tuple[Any, ...]]:
        """Yields the rows of ``query``, which ends in ``IN``, for all the keys."""
        for start in range(0, len(keys), KEYS_PER_QUERY):
            chunk = keys[start : start + KEYS_PER_QUERY]
            sql = f"{query} ({','.join('?' * len(chunk))})"
            yield from self.read(lambda connection, sql=sql, chunk=chunk: connection.execute(sql, chunk).fetchall())  # type: ignore[misc]

    def remove(self) -> None:
        """Removes the file."""
        with self._lock_in_process():
            self._close()
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @contextmanager
    def _lock_in_process(self) -> Iterator[None]:
        if self._pid != os.getpid():  # forked: lock and connection belong to the parent; closing them would harm it
            _parent_connections.append(self._connection)
            self._lock, self._connection, self._pid = threading.RLock(), None, os.getpid()
        with self._lock:
            yield

    def _connect(self) -> sqlite3.Connection:
        if self._connection is not None and not (self._in_memory or self.path.exists()):
            self._close()  # the file was removed: writes to it would be lost
        if self._connection is None:
            self._connection = self._open()
        return self._connection

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._prepare(str(self.path))
        except (OSError, sqlite3.OperationalError) as error:
            logger.warning("cannot write %s, using memory instead: %s", self.path, error)
            self._in_memory = True
            return self._prepare(":memory:")

    def _move_to_memory(self, reason: StorageError) -> bool:
        """Returns whether the contents could be copied to memory, where they stay until this process ends."""
        if self._in_memory:
            return False
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._connect().backup(memory)
        except sqlite3.Error:
            memory.close()
            return False
        logger.warning("cannot write %s any more, using memory instead: %s", self.path, reason)
        self._close()
        self._connection, self._in_memory = memory, True
        return True

    def _prepare(self, path: str) -> sqlite3.Connection:
        connection = connect(path, check_same_thread=False)
        try:
            _enable_wal(connection)
            connection.execute("PRAGMA synchronous=OFF")  # a damaged file is created again
            connection.executescript(self._script)
        except BaseException:
            connection.close()
            raise
        return connection

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def __del__(self, getpid: Callable[[], int] = os.getpid) -> None:
        # Bound as a default, because the names of the module are gone when the interpreter ends.
        if getattr(self, "_pid", None) == getpid():
            self._close()


def disk_error(error: BaseException | None, path: str | Path) -> StorageError | None:
    """Returns the error of SQLite as StorageError if the disk is full, read-only or broken; else None."""
    code = getattr(error, "sqlite_errorcode", None)
    number = None if code is None else DISK_ERRNO.get(code & PRIMARY_CODE)
    if number is None:
        return None
    if number in (errno.EIO, errno.EACCES) and is_full(path):
        number = errno.ENOSPC  # SQLite could not create its journal
    return storage_error(OSError(number, str(error)), path, reason=str(error))


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows, many in one statement. ``into`` is SQL such as ``"INSERT INTO files"``.

    Other threads continue while SQLite runs a statement.
    """
    for start in range(0, len(rows), ROWS_PER_INSERT):
        chunk = rows[start : start + ROWS_PER_INSERT]
        row = f"({','.join('?' * len(chunk[0]))})"
        connection.execute(f"{into} VALUES {','.join([row] * len(chunk))}", list(chain.from_iterable(chunk)))


_parent_connections: list[sqlite3.Connection | None] = []


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Lets readers continue while others write. Retries, because two processes may switch a new file at once."""
    for _ in range(LOCKED_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if isinstance(error, LockedFileError) or "locked" not in str(error):
                raise
        time.sleep(LOCKED_WAIT)
    connection.execute("PRAGMA journal_mode=WAL")
