"""HTTP requests with reused connections, deadlines and an egress policy."""

from __future__ import annotations

import logging
import os
import re
import socket
import zlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from threading import get_ident
from time import monotonic
from types import MappingProxyType
from typing import Any
from urllib.parse import unquote, urljoin

from urllib3 import BaseHTTPResponse, Retry, Timeout
from urllib3.exceptions import (
    DecodeError,
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

from lakefeed._units import KIB
from lakefeed.errors import FileError, LakefeedError, RefusedTargetError
from lakefeed.storage.remote.content_encoding import BITS, decode_body
from lakefeed.storage.remote.http_connections import check_known_host, pool_of
from lakefeed.storage.remote.http_deadline import RequestDeadline, deadlines_by_thread
from lakefeed.storage.urls import display_url, file_name, redact

PIECE_BYTES = 256 * KIB
MAX_REDIRECTS = 10
REDIRECTS = frozenset({301, 302, 303, 307, 308})
OK_STATUS = frozenset({200, 203})
NOT_MODIFIED = 304
GZIP_ENCODINGS = (["gzip"], ["x-gzip"])
GZIP_SUFFIXES = (".gz", ".gzip", ".tgz")
DRAINED_BYTES = 64 * KIB
"""The largest unwanted body that is read to keep the connection."""
DRAIN_SECONDS = 0.2
"""The time in which an unwanted body must arrive. A new connection takes about as long to a host far away."""
ARRIVED_SECONDS = 0.01
"""The time to read a body that has arrived."""
NO_RETRIES = Retry.from_int(False, redirect=False)
MAX_PORT = 65_535
PLAIN_URL = re.compile(
    r"(https?)://([a-z0-9-]+(?:\.[a-z0-9-]+)*)(?::([1-9][0-9]{0,4}))?(/(?:(?!/\.)[A-Za-z0-9._~/-])*)(?:\?([A-Za-z0-9._~=&-]*))?"
)
"""A URL without any part that could be spelled in another way."""

HEADERS = {"Accept-Encoding": "identity", "User-Agent": "lakefeed"}  # the bytes of the file are hashed


class _RedactingFilter(logging.Filter):
    """Removes credentials from the queries that urllib3 logs for requests of lakefeed."""

    def filter(self, record: logging.LogRecord) -> bool:
        if get_ident() in deadlines_by_thread and isinstance(record.args, tuple):
            record.args = tuple(redact(arg) if isinstance(arg, str) else arg for arg in record.args)
        return True


_redacting_filter = _RedactingFilter()
for _name in ("urllib3.connectionpool", "urllib3.connection", "urllib3.util.retry"):
    logging.getLogger(_name).addFilter(_redacting_filter)


class StatusError(Exception):
    """The server answered with another status than that of the file."""

    def __init__(self, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status
        self.headers = headers


@dataclass(frozen=True)
class WebResponse:
    """A response whose body has not been read. ``size`` is in bytes, None if the server does not give it."""

    headers: Mapping[str, str]
    unchanged: bool
    size: int | None
    pieces: Iterator[bytes]


@contextmanager
def get(
    url: str,
    timeout: float,
    denied: Sequence[str] = (),
    headers: Mapping[str, str] = MappingProxyType({}),
    private: Mapping[str, str] = MappingProxyType({}),
) -> Iterator[WebResponse]:
    """Yields the response to a GET. ``private`` are headers for the host of the URL only.

    The server must answer, and send each further 256 KiB, within ``timeout`` seconds.

    Raises:
        StatusError: the server answered with another status than that of the file, or of "not modified" if ``headers``
            ask for that.
        TimeoutError, ConnectionError: the server did not answer in time or not completely; a retry may help.
        RefusedTargetError: the URL, or one that it redirects to, is denied.
        FileError: the URL cannot be requested, or redirects too often.
    """
    accepted = OK_STATUS | {NOT_MODIFIED} if headers else OK_STATUS
    with closing(open_url(url, Request(timeout, tuple(denied), headers, private, accepted))) as opened:
        yield WebResponse(opened.headers, opened.status == NOT_MODIFIED, opened.size, opened.pieces())


@dataclass(frozen=True)
class Request:
    """The parameters of a request.

    Attributes:
        timeout: the seconds within which the server must continue.
        denied: patterns of denied hosts.
        headers: headers for all hosts. Credentials among them are not sent to other hosts that the URL redirects to.
        private: headers for the host of the URL only.
        accepted: the accepted statuses.
        upgrade: follow a redirect from http to https. Any other change of the scheme is refused.
    """

    timeout: float
    denied: tuple[str, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)
    private: Mapping[str, str] = field(default_factory=dict)
    accepted: Collection[int] = OK_STATUS
    upgrade: bool = False

    def headers_for(self, host: Url, first: Url) -> Mapping[str, str]:
        """Returns the headers for ``host``, which a redirect from ``first`` leads to."""
        return {**self.headers, **self.private} if host.netloc == first.netloc else _public_headers(self.headers)


class OpenResponse:
    """A response whose body is read in chunks, by one thread at a time. Close it."""

    def __init__(self, url: str, response: BaseHTTPResponse, deadline: RequestDeadline) -> None:
        self._response = response
        self._deadline = deadline
        self._process = os.getpid()
        self.status: int = response.status
        self.headers: Mapping[str, str] = response.headers
        encodings = _encodings(url, response.headers)
        self.encoded = bool(encodings)
        self._read = decode_body(self._read_sent, encodings)

    @property
    def size(self) -> int | None:
        """The bytes of the body; None if the server does not give them."""
        value = self.headers.get("Content-Length", "")
        return int(value) if value.isdecimal() and not self.encoded else None

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` bytes of the body; none at its end."""
        try:
            self._deadline.restart()
            piece = self._read(size)
            self._deadline.pause()
        except (EOFError, zlib.error) as error:
            raise _request_error(None, self._deadline, DecodeError(str(error))) from None
        except (HTTPError, OSError) as error:
            raise _request_error(None, self._deadline, error) from None
        return piece

    def _read_sent(self, size: int) -> bytes:
        sent: bytes = self._response.read(size, decode_content=False)
        return sent

    def pieces(self) -> Iterator[bytes]:
        """Yields the body in chunks."""
        left: int | None = None
        while left != 0:
            piece = self.read(PIECE_BYTES)
            if not piece:
                return
            left = None if self.encoded else getattr(self._response, "length_remaining", None)
            yield piece

    def close(self) -> None:
        """Returns the connection to its pool if the rest of the body is small and has arrived. Else closes it.

        Never waits for the server, and takes no lock that the same thread may hold: the garbage collector may call it
        in any thread, at any place.
        """
        if self._process == os.getpid():
            _release(self._response, ARRIVED_SECONDS)
        else:
            self._response.close()  # the rest of the body belongs to the parent
        self._deadline.stop()


def open_url(url: str, request: Request) -> OpenResponse:
    """Returns the response at the end of the redirects, whose body has not been read. Raises: as `get`."""
    deadline = RequestDeadline(request.timeout, request.denied)
    deadline.start()
    try:
        with _request_errors(url, deadline):
            response = _follow_redirects(url, deadline, request)
            opened = OpenResponse(url, response, deadline)
            if response.status not in request.accepted:
                _release(response)
                raise StatusError(response.status, response.headers)
            return opened
    except BaseException:
        deadline.stop()
        raise


def _follow_redirects(url: str, deadline: RequestDeadline, request: Request) -> BaseHTTPResponse:
    here = first = _parse(url)
    schemes = [first.scheme]
    for _ in range(MAX_REDIRECTS + 1):
        response = _send(here, deadline, request.headers_for(here, first), first)
        target = response.headers.get("Location")
        if response.status not in REDIRECTS or target is None:
            return response
        _release(response)
        url = urljoin(url, _decode_header(target))
        here = _parse(url)
        if here.scheme != schemes[-1]:
            schemes.append(here.scheme)
        if schemes not in ([first.scheme], ["http", "https"] if request.upgrade else [first.scheme]):
            raise RefusedTargetError(
                f"{display_url(first.url)} redirects to {display_url(url)}, which has another scheme. Use "
                "that URL instead"
            )
    raise FileError(f"{display_url(first.url)} redirects more than {MAX_REDIRECTS} times")


def _decode_header(value: str) -> str:
    """Returns the text of a header. Python decodes headers as Latin-1, and servers send UTF-8."""
    try:
        return value.encode("latin-1").decode()
    except UnicodeError:
        return value


def _send(url: Url, deadline: RequestDeadline, headers: Mapping[str, str], first: Url) -> BaseHTTPResponse:
    if url.host is None:
        raise LocationValueError("no host")
    check_known_host(url.host, deadline.denied)
    auth = url.auth or (first.auth if url.netloc == first.netloc else None)
    signed = {} if auth is None else make_headers(basic_auth=unquote(auth))
    deadline.restart()
    with deadline.sending():
        response = pool_of(url.scheme, url.host, url.port).urlopen(
            "GET",
            url.request_uri,
            headers={**HEADERS, **headers, **signed},
            retries=NO_RETRIES,
            redirect=False,
            timeout=Timeout(connect=deadline.seconds, read=deadline.seconds),
            preload_content=False,
            decode_content=False,
        )
    deadline.pause()
    return response


def _encodings(url: str, headers: Mapping[str, str]) -> list[str]:
    """Returns the encodings of the body that are not part of the file, although none was requested.

    Servers that declare a ``.gz`` file as encoded send the file unchanged.

    Raises:
        FileError: the encoding is unknown.
    """
    encodings = [name.strip().lower() for name in headers.get("Content-Encoding", "").split(",")]
    encodings = [name for name in encodings if name not in ("", "identity", "aws-chunked")]
    if not encodings or (encodings in GZIP_ENCODINGS and file_name(url).lower().endswith(GZIP_SUFFIXES)):
        return []
    unknown = [name for name in encodings if name not in BITS]
    if unknown:
        raise FileError(f"{display_url(url)}: the server used the encoding {unknown[0]!r}, which was not requested")
    return encodings


def _parse(url: str) -> Url:
    """Returns the parts of a URL.

    Most URLs are plain: parsing them with urllib3 takes a tenth of the time of a request.
    """
    plain = PLAIN_URL.fullmatch(url)
    if plain is None:
        return parse_url(url)
    scheme, host, value, path, query = plain.groups()
    port = int(value) if value else None
    return Url(scheme, None, host, port, path, query) if port is None or port <= MAX_PORT else parse_url(url)


def _public_headers(headers: Mapping[str, str]) -> Mapping[str, str]:
    """Returns the headers that other hosts may see."""
    return {name: value for name, value in headers.items() if name.lower() not in ("authorization", "cookie")}


def _release(response: BaseHTTPResponse, seconds: float = DRAIN_SECONDS) -> None:
    """Returns the connection to its pool if the rest of the body is small and arrives in time. Else closes it.

    Args:
        response: the response.
        seconds: the time in which the rest must arrive.
    """
    left = getattr(response, "length_remaining", None)
    if left == 0 and response.connection is None:
        return  # read to its end, which released the connection
    if left is not None and left <= DRAINED_BYTES and _drain(response, seconds):
        response.release_conn()
    else:
        response.close()


def _drain(response: Any, seconds: float) -> bool:
    """Reads the rest of the body. Returns whether it arrived within ``seconds``, and the connection is in order."""
    sock = getattr(response.connection, "sock", None)
    if sock is None:
        return False
    timeout, end = sock.gettimeout(), monotonic() + seconds
    try:
        while response.length_remaining:
            left = end - monotonic()
            if left <= 0:
                return False
            sock.settimeout(left)
            # Not `read`, which waits for several pieces, each in time.
            if not response.read1(DRAINED_BYTES, decode_content=False):
                return False
        sock.settimeout(timeout)
    except (HTTPError, OSError):
        return False
    response.drain_conn()  # reads nothing more, and lets http.client see the end
    return True


@contextmanager
def _request_errors(url: str | None, deadline: RequestDeadline) -> Iterator[None]:
    """Raises errors of urllib3 as those of Python, or as FileError if a retry cannot help.

    The errors have no cause, because the text of the cause may contain the URL with credentials.
    """
    try:
        yield
    except (LakefeedError, StatusError):
        raise
    except (HTTPError, OSError) as error:
        raise _request_error(url, deadline, error) from None


def _request_error(url: str | None, deadline: RequestDeadline, error: Exception) -> Exception:
    if deadline.refusal is not None:
        return deadline.refusal
    if deadline.expired or _is_timeout(error):
        return TimeoutError(f"the server did not continue within {deadline.seconds:g} seconds")
    if isinstance(error, SSLError):
        return FileError(f"the secure connection failed: {redact(str(error))}")
    if isinstance(error, NameResolutionError) and _is_unknown_host(error):
        return FileError(
            f"{display_url(url)}: there is no host of that name" if url else "there is no host of that name"
        )
    if isinstance(error, LocationParseError | LocationValueError):
        return FileError(f"{display_url(url or '')} is not a URL that can be requested")
    cause = error.args[-1] if isinstance(error, ProtocolError) else error
    return ConnectionError(redact(str(cause)))


def _is_timeout(error: BaseException) -> bool:
    inner = error.args[-1] if isinstance(error, ProtocolError) else error
    return isinstance(inner, TimeoutError | LateError) and not isinstance(inner, NewConnectionError)


def _is_unknown_host(error: BaseException) -> bool:
    cause = error.__cause__
    return isinstance(cause, socket.gaierror) and cause.errno == socket.EAI_NONAME
