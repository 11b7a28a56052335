"""Connections to the database of the catalog, which survive its restarts and failovers."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from sqlalchemy import URL, Engine, ExceptionContext, create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import NullPool
from tenacity import (
    RetryCallState,
    Retrying,
    retry,
    retry_if_exception,
    retry_if_exception_type,
    stop_after_attempt,
    stop_after_delay,
    wait_random_exponential,
)

from lakefeed.errors import CatalogUnavailableError
from lakefeed.storage.disk.sqlite_connection import LOCK_TIMEOUT_SECONDS, LockedFileError, WaitingConnection
from lakefeed.storage.disk.sqlite_file import disk_error

logger = logging.getLogger(__name__)

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")

CONNECT_TIMEOUT_SECONDS = 10
RECYCLE_SECONDS = 300
MAX_WAIT_SECONDS = 1.0
READ_ATTEMPTS = 4
MISSING_TABLES_MESSAGE = "no such table: iceberg_"
PERMANENT_ERRORS = re.compile(r"authentication|password|does not exist|not permitted|pg_hba|permission|role ")
"""Messages of errors that retries do not solve: a wrong user, password or database, or missing rights."""


def open_engine(url: URL, patience: float) -> Engine:
    """Returns an engine that pings connections before use and retries to connect for ``patience`` seconds.

    SQLite connections are not pooled, so no connection crosses a fork.
    """
    if url.get_backend_name() == "sqlite":
        waiting = {"factory": WaitingConnection, "timeout": LOCK_TIMEOUT_SECONDS, "check_same_thread": False}
        embedded = create_engine(url, poolclass=NullPool, connect_args=waiting)
        event.listen(embedded, "handle_error", partial(_raise_file_error, url.database or ""))
        return embedded
    engine = create_engine(
        url,
        pool_pre_ping=True,
        pool_recycle=RECYCLE_SECONDS,
        pool_size=2,
        max_overflow=100,
        connect_args=_connect_arguments(url),
    )
    shown = url.set(query={}).render_as_string(hide_password=True)

    @event.listens_for(engine, "do_connect")
    def connect(dialect: Any, record: Any, arguments: Any, parameters: Any) -> Any:
        failures = dialect.loaded_dbapi.Error
        try:
            for attempt in _connection_retrying(shown, failures, patience):
                with attempt:
                    return dialect.connect(*arguments, **parameters)
        except failures as error:
            raise CatalogUnavailableError(f"cannot reach the catalog {shown}: {_one_line(error)}") from None

    return engine


def require_file(engine: Engine, path: Path) -> None:
    """Makes the engine raise CatalogUnavailableError if the SQLite file or its tables are missing.

    SQLite would create an empty file instead.
    """

    @event.listens_for(engine, "do_connect")
    def check_file(dialect: Any, record: Any, arguments: Any, parameters: Any) -> None:
        if not path.exists():
            raise _catalog_moved_error(path)

    @event.listens_for(engine, "handle_error")
    def check_tables(context: ExceptionContext) -> None:
        if MISSING_TABLES_MESSAGE in str(context.original_exception):
            raise _catalog_moved_error(path) from context.original_exception


def _catalog_moved_error(path: Path) -> CatalogUnavailableError:
    return CatalogUnavailableError(
        f"the catalog {str(path)!r} is missing: its folder was moved or removed while this process was running. Move "
        "it back, or set LAKEFEED_HOME to its new folder and restart the process"
    )


def is_disconnect(error: BaseException) -> bool:
    """Returns whether the connection ended, so that the outcome of the statement is unknown."""
    return isinstance(error, DBAPIError) and error.connection_invalidated


def retry_reads(read: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """Decorates a function that only reads: retries it on another connection if the connection ends."""
    decorate = retry(
        retry=retry_if_exception(is_disconnect),
        stop=stop_after_attempt(READ_ATTEMPTS),
        wait=wait_random_exponential(multiplier=0.1, max=MAX_WAIT_SECONDS),
        reraise=True,
    )
    return decorate(read)


def _raise_file_error(path: str, context: ExceptionContext) -> None:
    """Raises StorageError if SQLite reports a disk error, and CatalogUnavailableError if it waited in vain."""
    if isinstance(context.original_exception, LockedFileError):
        raise CatalogUnavailableError(
            f"the catalog cannot be used: {context.original_exception}"
        ) from context.original_exception
    error = disk_error(context.original_exception, path)
    if error is not None:
        raise error from context.original_exception


def _connection_retrying(shown: str, failures: type[Exception], patience: float) -> Retrying:
    def log_first_failure(state: RetryCallState) -> None:
        if state.attempt_number == 1 and state.outcome is not None:
            reason = _one_line(state.outcome.exception())
            logger.warning("cannot connect to the catalog %s, retrying for %.0f s: %s", shown, patience, reason)

    return Retrying(
        retry=retry_if_exception_type(failures)
        & retry_if_exception(lambda error: not PERMANENT_ERRORS.search(str(error))),
        stop=stop_after_delay(patience),
        wait=wait_random_exponential(multiplier=0.05, max=MAX_WAIT_SECONDS),
        before_sleep=log_first_failure,
        reraise=True,
    )


def _connect_arguments(url: URL) -> dict[str, Any]:
    """Returns a connection timeout for drivers that support it."""
    supported = url.get_backend_name() == "postgresql" and "connect_timeout" not in url.query
    return {"connect_timeout": CONNECT_TIMEOUT_SECONDS} if supported and url.get_driver_name() == "psycopg2" else {}


def _one_line(error: BaseException | None) -> str:
    return " ".join(str(error).split())
