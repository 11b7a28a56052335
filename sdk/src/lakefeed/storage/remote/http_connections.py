"""Connections to web servers, which have the deadlines of requests and check the addresses that they connect to.

With `lakefeed.storage.remote.http` the only module that imports urllib3.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from http import HTTPStatus
from http.client import HTTPResponse, parse_headers
from threading import get_ident
from typing import Any

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import LocationValueError, NameResolutionError
from urllib3.util.connection import create_connection

from lakefeed.errors import RefusedTargetError
from lakefeed.storage.remote.egress_policy import check_host, resolve
from lakefeed.storage.remote.http_deadline import deadlines_by_thread
from lakefeed.storage.remote.idle_connections import IdleConnections

CONNECTIONS = 64
HOSTS_REMEMBERED = 1_000


@lru_cache(HOSTS_REMEMBERED)
def check_known_host(host: str, denied: tuple[str, ...]) -> None:
    """Raises RefusedTargetError if a host is denied."""
    check_host(host, denied)


def _new_socket(connection: HTTPConnection) -> socket.socket:
    deadline = deadlines_by_thread[get_ident()]
    try:
        addresses = resolve(connection._dns_host, connection.port or connection.default_port, deadline.denied)
    except RefusedTargetError as error:
        deadline.refusal = error
        raise
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    return _connect_first(connection, addresses)


def _connect_first(connection: HTTPConnection, addresses: Sequence[str]) -> socket.socket:
    """Returns a connection to the first address that accepts one."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return _connect(connection, address)
    return _connect(connection, addresses[-1])


def _connect(connection: HTTPConnection, address: str) -> socket.socket:
    return create_connection(
        (address, connection.port or connection.default_port),
        connection.timeout,
        source_address=connection.source_address,
        socket_options=connection.socket_options,
    )


def _check_reused(connection: HTTPConnection) -> None:
    """Refuses a connection that was opened before its address was denied."""
    deadline = deadlines_by_thread[get_ident()]
    if connection.sock is None or not deadline.denied:
        return
    try:
        check_known_host(str(connection.sock.getpeername()[0]), deadline.denied)
    except RefusedTargetError as error:
        deadline.refusal = error
        raise
    except OSError:
        return  # closed; the new connection is checked


class _FinalResponse(HTTPResponse):
    """A response without the informational ones before it (103 Early Hints). ``http.client`` skips only 100."""

    def _read_status(self) -> tuple[str, int, str]:
        version, status, reason = super()._read_status()  # type: ignore[misc]  # not in the stubs
        while HTTPStatus.SWITCHING_PROTOCOLS < status < HTTPStatus.OK:
            parse_headers(self.fp)
            version, status, reason = super()._read_status()  # type: ignore[misc]  # as above
        return version, status, reason


class _WatchedConnection(HTTPConnection):
    """A connection to an allowed address, whose socket the deadline of the request can end."""

    response_class = _FinalResponse

    def _new_conn(self) -> socket.socket:
        return _new_socket(self)

    def request(self, *args: Any, **options: Any) -> None:
        _check_reused(self)
        super().request(*args, **options)

    def getresponse(self) -> Any:
        deadlines_by_thread[get_ident()].sock = self.sock
        return super().getresponse()


class _WatchedTlsConnection(_WatchedConnection, HTTPSConnection):
    """The same over TLS."""


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _WatchedConnection
    QueueCls: Any = IdleConnections


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _WatchedTlsConnection
    QueueCls: Any = IdleConnections


@lru_cache(CONNECTIONS)
def pool_of(scheme: str | None, host: str, port: int | None) -> HTTPConnectionPool:
    """Returns the connections to a host. Those of hosts that were not used recently are closed."""
    pools: dict[str | None, type[HTTPConnectionPool]] = {"http": _PlainPool, "https": _TlsPool}
    pool = pools.get(scheme)
    if pool is None:
        raise LocationValueError("the scheme is not http or https")
    return pool(host, port, maxsize=CONNECTIONS, retries=False)


def _after_fork() -> None:
    """Gives a child connections of its own."""
    pool_of.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
