"""Connections to SQLite files, which say so when they wait long for a lock of another process."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Callable
from pathlib import Path
from time import monotonic
from typing import Any, Final, TypeVar
from urllib.parse import quote, unquote

logger = logging.getLogger(__name__)

LOCK_TIMEOUT_SECONDS: Final = 60.0
"""The time to wait for a lock."""
NOTICE_SECONDS: Final = 5.0
"""The time after which a wait is logged. A connection waits in turns of it, so Ctrl-C takes no longer."""
PRIMARY_CODE: Final = 0xFF
"""The part of an extended error code that names the kind."""

T = TypeVar("T")


class LockedFileError(sqlite3.OperationalError):
    """Another process held the lock of a file for `LOCK_TIMEOUT_SECONDS`."""


class WaitingCursor(sqlite3.Cursor):
    """A cursor of a `WaitingConnection`."""

    connection: WaitingConnection

    def execute(self, statement: str, parameters: Any = (), /) -> WaitingCursor:
        self.connection.wait(lambda: super(WaitingCursor, self).execute(statement, parameters))
        return self

    def executemany(self, statement: str, rows: Any, /) -> WaitingCursor:
        """Executes a statement for each row, in a transaction: SQLite refuses the first row or none of them."""
        every, connection = list(rows), self.connection
        assert connection.in_transaction or connection.isolation_level is not None, "the rows are one transaction"
        connection.wait(lambda: super(WaitingCursor, self).executemany(statement, every))
        return self


class WaitingConnection(sqlite3.Connection):
    """A connection that waits for locks of other processes for `LOCK_TIMEOUT_SECONDS`, and logs long waits.

    A statement that SQLite refused had no effect, so it is repeated.
    """

    def __init__(self, database: Any, timeout: float = LOCK_TIMEOUT_SECONDS, *args: Any, **options: Any) -> None:
        super().__init__(database, min(timeout, NOTICE_SECONDS), *args, **options)
        text = str(database)
        self.path = unquote(text[5:].partition("?")[0]) if options.get("uri") else text
        self._timeout = timeout

    def cursor(self, factory: Any = WaitingCursor) -> Any:
        return super().cursor(factory)

    def execute(self, statement: str, parameters: Any = (), /) -> Any:
        return self.cursor().execute(statement, parameters)

    def executemany(self, statement: str, rows: Any, /) -> Any:
        return self.cursor().executemany(statement, rows)

    def commit(self) -> None:
        self.wait(super().commit)

    def wait(self, action: Callable[[], T]) -> T:
        """Returns the result of ``action``, which is repeated while another process has the file locked.

        Raises:
            LockedFileError: another process held the lock for too long.
        """
        first = begin = monotonic()
        while True:
            try:
                return action()
            except sqlite3.OperationalError as error:
                now = monotonic()
                if not is_busy(error) or now - begin < NOTICE_SECONDS / 2:
                    raise  # also where waiting would be a deadlock, which SQLite says at once
                if now - first >= self._timeout:
                    raise LockedFileError(
                        f"another process has locked {self.path!r} for {now - first:.0f} seconds. End that process, "
                        "or let it finish, and try again"
                    ) from error
            if begin == first:
                logger.warning(
                    "waiting for %s, which another process has locked; giving up after %.0f seconds",
                    self.path, self._timeout,
                )  # fmt: skip
            begin = monotonic()


def connect(path: Path | str, *, read_only: bool = False, **options: Any) -> WaitingConnection:
    """Returns a connection in autocommit mode.

    Args:
        path: the file, or ``":memory:"``.
        read_only: open the file for reading, and do not create it.
        options: further arguments of ``sqlite3.connect``.
    """
    database = f"file:{quote(str(path))}?mode=ro" if read_only else str(path)
    return sqlite3.connect(
        database,
        timeout=LOCK_TIMEOUT_SECONDS,
        isolation_level=None,
        factory=WaitingConnection,
        uri=read_only,
        **options,
    )


def is_busy(error: BaseException) -> bool:
    """Returns whether SQLite did not get a lock."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & PRIMARY_CODE == sqlite3.SQLITE_BUSY
