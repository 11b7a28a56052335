"""HTTP: connections that are kept, requests that end, and none where none may go. urllib3 enters here only."""

from __future__ import annotations

import logging
import os
import re
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from math import inf
from threading import Event, Lock, Thread, get_ident
from time import monotonic, sleep
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urljoin

from urllib3 import BaseHTTPResponse, HTTPConnectionPool, HTTPSConnectionPool, Retry, Timeout
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import (
    HTTPError,
    LocationParseError,
    LocationValueError,
    NameResolutionError,
    NewConnectionError,
    ProtocolError,
    SSLError,
)
from urllib3.exceptions import TimeoutError as LateError
from urllib3.util import Url, make_headers, parse_url
from urllib3.util.connection import create_connection

from lakefeed.errors import FileError, LakefeedError, RefusedTargetError
from lakefeed.storage.refused import check_host, resolved
from lakefeed.storage.urls import redacted, shown

PIECE_BYTES = 256 << 10
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
WHOLE = frozenset({200, 203})
UNCHANGED = 304
DRAINED_BYTES = 64 << 10
"""A body that nobody wants is read if it is as short as this, so that the connection can be kept."""
CONNECTIONS = 64
TICK_SECONDS = 0.1
NO_RETRIES = Retry.from_int(False, redirect=False)
HOSTS_REMEMBERED = 1_000
MOST_PORT = 65_535
PLAIN_URL = re.compile(
    r"(https?)://([a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::([1-9][0-9]{0,4}))?(/(?:(?!/\.)[A-Za-z0-9._~/-])*)(?:\?([A-Za-z0-9._~=&-]*))?"
)
"""A URL that means what it says: nothing in it has another spelling."""

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "lakefeed"}  # what is hashed are the bytes of the file


class _Discreet(logging.Filter):
    """urllib3 logs each request with its query: of ours, without what that is signed with."""

    def filter(self, record: logging.LogRecord) -> bool:
        if get_ident() in _guards and isinstance(record.args, tuple):
            record.args = tuple(redacted(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


_discreet = _Discreet()
for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_discreet)


class StatusError(Exception):
    """The server answers with something else than the file."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server answers {status}")
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class Answer:
    """An answer whose body has not been read. ``size`` in bytes, where the server tells."""

    headers: Mapping[str, str]
    unchanged: bool
    size: int | None
    pieces: Iterator[bytes]


@contextmanager
def get(
    url: str, timeout: float, denied: Sequence[str] = (), headers: Mapping[str, str] = MappingProxyType({})
) -> Iterator[Answer]:
    """What is at a URL. Within ``timeout`` seconds each, the server answers and sends 256 KiB (or what is left).

    Raises:
        StatusError: it answers something else than the file (or "unchanged", if ``headers`` ask for that).
        TimeoutError, ConnectionError: it does not answer in time, or not to the end; asking again may help.
        RefusedTargetError: the URL, or one that it redirects to, leads where no request may go.
        FileError: the URL cannot be asked for, or redirects for ever.
    """
    with _Guard(timeout, denied) as guard, _explained(url, guard):
        response = _followed(url, guard, headers)
        try:
            if response.status not in WHOLE and not (headers and response.status == UNCHANGED):
                raise StatusError(response.status, response.headers)
            yield Answer(response.headers, response.status == UNCHANGED, _size(response), _pieces(response, guard))
        finally:
            _finish(response)


def _followed(url: str, guard: _Guard, headers: Mapping[str, str]) -> BaseHTTPResponse:
    """The answer at the end of the redirects."""
    here = first = _parsed(url)
    for _ in range(MAX_REDIRECTS + 1):
        response = _asked(here, guard, headers if here.netloc == first.netloc else _public(headers), first)
        target = response.headers.get("Location")
        if response.status not in REDIRECTS or target is None:
            return response
        _finish(response)
        url = urljoin(url, target)
        here = _parsed(url)
        if here.scheme != first.scheme:
            raise RefusedTargetError(
                f"{shown(first.url)} redirects to {shown(url)}, which has another scheme; save that URL instead"
            )
    raise FileError(f"{shown(first.url)} redirects more than {MAX_REDIRECTS} times")


def _asked(url: Url, guard: _Guard, headers: Mapping[str, str], first: Url) -> BaseHTTPResponse:
    if url.host is None:
        raise LocationValueError("no host")
    _check_host(url.host, guard.denied)
    auth = url.auth or (first.auth if url.netloc == first.netloc else None)
    signed = {} if auth is None else make_headers(basic_auth=unquote(auth))
    guard.more()
    response = _pool(url.scheme, url.host, url.port).urlopen(
        "GET",
        url.request_uri,
        headers={**HEADERS, **headers, **signed},
        retries=NO_RETRIES,
        redirect=False,
        timeout=Timeout(connect=guard.seconds, read=guard.seconds),
        preload_content=False,
        decode_content=False,
    )
    guard.rest()
    return response


def _parsed(url: str) -> Url:
    """The parts of a URL. Most are plain: urllib3 would look at each part of them, which takes a tenth of a request."""
    plain = PLAIN_URL.fullmatch(url)
    if plain is None:
        return parse_url(url)
    scheme, host, given, path, query = plain.groups()
    port = int(given) if given else None
    return Url(scheme, None, host, port, path, query) if port is None or port <= MOST_PORT else parse_url(url)


@lru_cache(HOSTS_REMEMBERED)
def _check_host(host: str, denied: tuple[str, ...]) -> None:
    check_host(host, denied)


def _public(headers: Mapping[str, str]) -> Mapping[str, str]:
    """The headers that another host may see."""
    return {name: value for name, value in headers.items() if name.lower() not in ("authorization", "cookie")}


def _pieces(response: BaseHTTPResponse, guard: _Guard) -> Iterator[bytes]:
    left: int | None = None
    while left != 0:
        try:
            guard.more()
            piece = response.read(PIECE_BYTES)
            guard.rest()
        except (HTTPError, OSError) as error:
            raise _explanation(None, guard, error) from None
        if not piece:
            return
        left = getattr(response, "length_remaining", None)
        yield piece


def _size(response: BaseHTTPResponse) -> int | None:
    given = response.headers.get("Content-Length", "")
    return int(given) if given.isdecimal() else None


def _finish(response: BaseHTTPResponse) -> None:
    """Gives the connection back, or closes it where that is cheaper than reading to the end."""
    left = getattr(response, "length_remaining", None)
    if left == 0 and response.connection is None:
        return  # read to its end, which gave the connection back
    if left is not None and left <= DRAINED_BYTES:
        with suppress(HTTPError, OSError):
            response.drain_conn()
            response.release_conn()
            return
    response.close()


@contextmanager
def _explained(url: str | None, guard: _Guard) -> Iterator[None]:
    """Errors of urllib3 as Python's, or as ours where asking again cannot help.

    Without what they came from: its text may hold the URL as it is.
    """
    try:
        yield
    except (LakefeedError, StatusError):
        raise
    except (HTTPError, OSError) as error:
        raise _explanation(url, guard, error) from None


def _explanation(url: str | None, guard: _Guard, error: Exception) -> Exception:
    if guard.refusal is not None:
        return guard.refusal
    if guard.expired or _is_late(error):
        return TimeoutError(f"the server does not go on for {guard.seconds:g} seconds")
    if isinstance(error, SSLError):
        return FileError(f"no safe connection: {redacted(str(error))}")
    if isinstance(error, NameResolutionError) and _is_unknown(error):
        return FileError("there is no host of that name")
    if isinstance(error, LocationParseError | LocationValueError):
        return FileError(f"{shown(url or '')} is no URL that can be asked for")
    reason = error.args[-1] if isinstance(error, ProtocolError) else error
    return ConnectionError(redacted(str(reason)))


def _is_late(error: BaseException) -> bool:
    inner = error.args[-1] if isinstance(error, ProtocolError) else error
    return isinstance(inner, TimeoutError | LateError) and not isinstance(inner, NewConnectionError)


def _is_unknown(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME


# ------------------------------------------------------------------------------------------------- connections


def _new_socket(connection: HTTPConnection) -> socket.socket:
    guard = _guards[get_ident()]
    try:
        addresses = resolved(connection._dns_host, connection.port or connection.default_port, guard.denied)
    except RefusedTargetError as error:
        guard.refusal = error
        raise
    except socket.gaierror as error:
        raise NameResolutionError(connection.host, connection, error) from error
    return _first(connection, addresses)


def _first(connection: HTTPConnection, addresses: Sequence[str]) -> socket.socket:
    """A connection to the first of the addresses that takes one."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return _to(connection, address)
    return _to(connection, addresses[-1])


def _to(connection: HTTPConnection, address: str) -> socket.socket:
    return create_connection(
        (address, connection.port or connection.default_port),
        connection.timeout,
        source_address=connection.source_address,
        socket_options=connection.socket_options,
    )


class _Plain(HTTPConnection):
    def _new_conn(self) -> socket.socket:
        return _new_socket(self)

    def getresponse(self) -> Any:
        _guards[get_ident()].sock = self.sock
        return super().getresponse()


class _Safe(HTTPSConnection):
    def _new_conn(self) -> socket.socket:
        return _new_socket(self)

    def getresponse(self) -> Any:
        _guards[get_ident()].sock = self.sock
        return super().getresponse()


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SafePool(HTTPSConnectionPool):
    ConnectionCls = _Safe


@lru_cache(CONNECTIONS)
def _pool(scheme: str | None, host: str, port: int | None) -> HTTPConnectionPool:
    """The connections to a host; those of hosts that were not asked for long are closed once nothing uses them."""
    pools: dict[str | None, type[HTTPConnectionPool]] = {"http": _PlainPool, "https": _SafePool}
    pool = pools.get(scheme)
    if pool is None:
        raise LocationValueError("no scheme that can be asked for")
    return pool(host, port, maxsize=CONNECTIONS, retries=False)


# ------------------------------------------------------------------------------------------------------ guards


class _Guard:
    """Ends a request that takes too long: a server may send a byte now and then, for ever."""

    def __init__(self, seconds: float, denied: Sequence[str]) -> None:
        self.seconds = seconds
        self.denied = tuple(denied)
        self.expired = False
        self.refusal: RefusedTargetError | None = None
        self.sock: Any = None
        self._due = monotonic() + seconds
        self._lock = Lock()

    def more(self) -> None:
        """Another ``seconds`` from now."""
        self._due = monotonic() + self.seconds

    def rest(self) -> None:
        """It is not the server that is waited for."""
        self._due = inf

    def look(self, now: float) -> None:
        """Ends the connection if the time is up."""
        with self._lock:
            if self.sock is not None and now > self._due:
                self.expired = True
                with suppress(OSError):
                    # Not that of ssl, which forgets the connection while another thread reads from it.
                    socket.socket.shutdown(self.sock, socket.SHUT_RDWR)

    def __enter__(self) -> _Guard:
        _guards[get_ident()] = self
        if not _needed.is_set():
            _needed.set()
        if _watchman is None:
            _start_watchman()
        return self

    def __exit__(self, *_: object) -> None:
        del _guards[get_ident()]
        with self._lock:
            self.sock = None  # it is somebody else's from now on


_guards: dict[int, _Guard] = {}
"""By thread: the request that it makes."""
_needed = Event()


_watchman: Thread | None = None
_starting = Lock()


def _start_watchman() -> None:
    global _watchman
    with _starting:
        if _watchman is None:
            _watchman = Thread(target=_watch, name="lakefeed-web-guard", daemon=True)
            _watchman.start()


def _watch() -> None:
    while True:
        _needed.wait()
        sleep(TICK_SECONDS)
        now = monotonic()
        for guard in list(_guards.values()):
            guard.look(now)
        if not _guards:
            _needed.clear()
            if _guards:
                _needed.set()


def _after_fork() -> None:
    """A child must not talk on its parent's connections, and has none of its threads."""
    global _needed, _watchman, _starting
    _needed, _watchman, _starting = Event(), None, Lock()
    _guards.clear()
    _pool.cache_clear()


os.register_at_fork(after_in_child=_after_fork)
