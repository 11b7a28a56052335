"""SQLite files under the cache folder: shared by the processes of a machine, made anew when they are gone or broken."""

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

logger = logging.getLogger(__name__)

WAIT_SECONDS = 60.0
KEYS_PER_QUERY = 1_000
ROWS_PER_INSERT = 256
LOCKED_TRIES = 100
LOCKED_WAIT = 0.02
PRIMARY_CODE = 0xFF
"""The part of an extended error code that says the kind."""
DISK_ERRNO = {
    sqlite3.SQLITE_FULL: errno.ENOSPC,
    sqlite3.SQLITE_IOERR: errno.EIO,
    sqlite3.SQLITE_READONLY: errno.EACCES,
    sqlite3.SQLITE_PERM: errno.EACCES,
    sqlite3.SQLITE_CANTOPEN: errno.EACCES,
}

_T = TypeVar("_T")


class Database:
    """One such file. Safe between threads, processes and forks; made on first use.

    ``script`` makes its tables; ``version`` is part of the file's name, so that another layout is another file. What is
    kept in it can be had elsewhere: a file that is broken is removed and begun again.
    """

    def __init__(self, path: Path, version: int, script: str) -> None:
        self.path = path.with_name(f"{path.name}-{version}.db")
        self._script = script
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._connection: sqlite3.Connection | None = None
        self._elsewhere = False

    def read(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """What ``work`` makes of the connection; done again on a new file where this one is broken.

        Where the disk does not take what ``work`` writes, this process goes on in memory.

        Raises:
            FileError: another process held the file for a minute.
            StorageError: the file cannot be read.
        """
        with self._held():
            try:
                return self._tried(work)
            except sqlite3.Error as error:
                full = disk_error(error, self.path)
                if full is not None and self._moved_to_memory(full):
                    return self._tried(work)
                raise full or FileError(f"cannot use {str(self.path)!r} in the cache: {error}") from error

    def _tried(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        try:
            return work(self._connected())
        except sqlite3.OperationalError:
            raise
        except sqlite3.DatabaseError as error:
            logger.warning("%s is broken and begun again: %s", self.path, error)
            self.remove()
            return work(self._connected())

    def write(self, work: Callable[[sqlite3.Connection], _T]) -> _T:
        """As ``read``, in a transaction that no other writer gets between."""

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
        """The rows of ``query``, which ends in ``IN``, for all the keys."""
        for start in range(0, len(keys), KEYS_PER_QUERY):
            some = keys[start : start + KEYS_PER_QUERY]
            sql = f"{query} ({','.join('?' * len(some))})"
            yield from self.read(lambda connection, sql=sql, some=some: connection.execute(sql, some).fetchall())  # type: ignore[misc]

    def remove(self) -> None:
        """Removes the file."""
        with self._held():
            self._close()
            for ending in ("", "-wal", "-shm"):
                self.path.with_name(self.path.name + ending).unlink(missing_ok=True)

    @contextmanager
    def _held(self) -> Iterator[None]:
        if self._pid != os.getpid():  # a fork: neither lock nor connection is ours, and closing it would harm its owner
            _parent_connections.append(self._connection)
            self._lock, self._connection, self._pid = threading.RLock(), None, os.getpid()
        with self._lock:
            yield

    def _connected(self) -> sqlite3.Connection:
        if self._connection is not None and not (self._elsewhere or self.path.exists()):
            self._close()  # somebody removed it: what we would write would be lost
        if self._connection is None:
            self._connection = self._opened()
        return self._connection

    def _opened(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            return self._prepared(str(self.path))
        except (OSError, sqlite3.OperationalError) as error:
            logger.warning("nothing can be kept in %s, only in memory: %s", self.path, error)
            self._elsewhere = True
            return self._prepared(":memory:")

    def _moved_to_memory(self, reason: StorageError) -> bool:
        """Whether the contents could be copied to memory, where they stay until this process ends."""
        if self._elsewhere:
            return False
        memory = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
        try:
            self._connected().backup(memory)
        except sqlite3.Error:
            memory.close()
            return False
        logger.warning("nothing more can be kept in %s, only in memory: %s", self.path, reason)
        self._close()
        self._connection, self._elsewhere = memory, True
        return True

    def _prepared(self, place: str) -> sqlite3.Connection:
        connection = sqlite3.connect(place, timeout=WAIT_SECONDS, isolation_level=None, check_same_thread=False)
        try:
            _enable_wal(connection)
            connection.execute("PRAGMA synchronous=OFF")  # a broken one is made again
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
        # Bound here: at the end of the interpreter the names of a module are gone.
        if getattr(self, "_pid", None) == getpid():
            self._close()


def disk_error(error: BaseException | None, path: str | Path) -> StorageError | None:
    """The error of SQLite as ours where the disk is at fault: full, read-only, or broken; else None."""
    code = getattr(error, "sqlite_errorcode", None)
    number = None if code is None else DISK_ERRNO.get(code & PRIMARY_CODE)
    if number is None:
        return None
    if number in (errno.EIO, errno.EACCES) and is_full(path):
        number = errno.ENOSPC  # it could not make its journal
    return storage_error(OSError(number, str(error)), path, reason=str(error))


def insert_rows(connection: sqlite3.Connection, into: str, rows: Sequence[tuple[Any, ...]]) -> None:
    """Inserts rows (``into``: ``"INSERT INTO files"``), many a statement: other threads go on while SQLite runs one."""
    for start in range(0, len(rows), ROWS_PER_INSERT):
        some = rows[start : start + ROWS_PER_INSERT]
        row = f"({','.join('?' * len(some[0]))})"
        connection.execute(f"{into} VALUES {','.join([row] * len(some))}", list(chain.from_iterable(some)))


_parent_connections: list[sqlite3.Connection | None] = []


def _enable_wal(connection: sqlite3.Connection) -> None:
    """Readers then do not wait for writers. Two that switch a new file at once have to be made to wait."""
    for _ in range(LOCKED_TRIES):
        try:
            connection.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error):
                raise
        time.sleep(LOCKED_WAIT)
    connection.execute("PRAGMA journal_mode=WAL")
