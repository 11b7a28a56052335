"""A file on a web server, read in ranges if the server supports them. All responses must have the same state."""

from __future__ import annotations

from collections.abc import Mapping
from threading import Lock
from typing import Any, NamedTuple

from lakefeed._units import MIB
from lakefeed.config import FileSettings
from lakefeed.errors import ConfigError, MissingDependencyError, quoted_list
from lakefeed.storage.disk.file_identity import CONTENT_RANGE, Identity, check_same, identity_of_response
from lakefeed.storage.urls import display_url, scheme

PARTIAL = 206
UNSATISFIABLE = 416
PROBE_BYTES = 1
SKIPPED_BYTES = MIB
"""A server that sends more bytes before a range than this is read as one without ranges."""
HEADER_OPTIONS = "headers"
CLIENT_OPTIONS = "client_kwargs"


class NoRangesError(Exception):
    """The server sends the file only as a whole."""


class ByteRange(NamedTuple):
    """The bytes of a response: from ``start`` to before ``stop``."""

    start: int
    stop: int


class WebFile:
    """The file at a URL of the web. ``identity`` is its state as far as it is known. Not safe between threads.

    Compares each response with the known state, and sends a strong ETag with each request. For a server that gives
    neither an ETag nor a time, only the size can be compared. Ranges ahead are fetched in threads.
    """

    def __init__(
        self, url: str, ahead: int, settings: FileSettings, identity: Identity | None, *, ranged: bool
    ) -> None:
        """Requests the beginning of the file unless the size is known.

        Args:
            url: the URL.
            ahead: the number of bytes to fetch beyond those asked for.
            settings: the settings of requests.
            identity: the state that the file must have.
            ranged: request ranges; else the file is read as a whole.

        Raises:
            ChangedFileError: the file is in another state.
        """
        from lakefeed.storage.remote.range_buffer import RangeBuffer  # for remote files alone

        self._url = url
        self._ahead = ahead
        self._settings = settings
        self._private = private_headers(settings, scheme(url))
        self._position = 0
        self._buffer = RangeBuffer(self._fetch, ahead)
        self._lock = Lock()
        self._whole: Any = None
        self.identity = identity or Identity()
        self.ranged = ranged
        if not ranged:
            self._open_whole()
        elif self.size is None:
            self._fetch_beginning(max(ahead, PROBE_BYTES))

    @property
    def size(self) -> int | None:
        """The size in bytes; None if the server does not give it."""
        return self.identity.size

    def seek(self, position: int) -> None:
        """Moves to a position without fetching."""
        if position != self._position and not self.ranged:
            raise NoRangesError
        self._position = position

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` bytes; none at the end.

        Raises:
            NoRangesError: the server sends the file only from its beginning.
            ChangedFileError: the file is in another state than before.
        """
        if self._whole is None:
            if self.size is not None and self._position >= self.size:
                return b""
            if self._position == 0 and not self._buffer.holds(0):
                self._fetch_beginning(max(size, self._ahead))
        if self._whole is not None:
            piece: bytes = self._whole.read(size)
        else:
            piece = self._buffer.read(self._position, size, self.size)
        self._position += len(piece)
        return piece

    def confirm(self) -> None:
        """Does nothing, because each response has been compared."""

    def close(self) -> None:
        """Returns the connection to its pool."""
        self._buffer.close()
        whole, self._whole = self._whole, None
        if whole is not None:
            whole.close()

    def _fetch_beginning(self, stop: int) -> None:
        """Fetches the first bytes into the buffer, or opens the whole file if the server supports no ranges."""
        answer = self._request_range(0, stop)
        try:
            if answer.status not in (PARTIAL, UNSATISFIABLE):
                self._go_on_with(answer)
                return
            self._buffer.put(0, self._content(answer, 0, stop))
        finally:
            if answer is not self._whole:
                answer.close()

    def _fetch(self, start: int, stop: int) -> bytes:
        """Returns the bytes from ``start`` to before ``stop``, or fewer. Safe between threads."""
        answer = self._request_range(start, stop)
        try:
            return self._content(answer, start, stop)
        finally:
            answer.close()

    def _request_range(self, start: int, stop: int) -> Any:
        last = stop if self.size is None else min(stop, self.size)
        headers = {"Range": f"bytes={start}-{last - 1}"}
        if self.identity.is_strong:
            headers["If-Range"] = str(self.identity.tag)
        return self._request(headers)

    def _content(self, answer: Any, start: int, stop: int) -> bytes:
        """Returns the bytes of the response to a request of a range.

        Raises:
            NoRangesError: the server sends the file only as a whole.
            ChangedFileError: the file is in another state.
        """
        part = _content_range(answer)
        if answer.status != PARTIAL or part is None or answer.encoded:
            self._confirm_refusal(answer)
            raise NoRangesError
        if not part.start <= start < part.stop:
            raise ConnectionError(f"the server sent bytes from {part.start}, expected them from {start}")
        self._confirm(answer)
        if start - part.start > SKIPPED_BYTES:
            raise NoRangesError
        _read_exactly(answer, start - part.start)  # caches send whole blocks
        # A server may send more than was requested.
        return _read_exactly(answer, min(part.stop, stop) - start)

    def _open_whole(self) -> None:
        self._go_on_with(self._request({}))

    def _go_on_with(self, answer: Any) -> None:
        """Continues in the body of a response that starts at the beginning of the file."""
        try:
            self._confirm(answer)
        except BaseException:
            answer.close()
            raise
        self._whole, self.ranged = answer, False

    def _request(self, headers: Mapping[str, str]) -> Any:
        web = load_http(self._url)
        accepted = web.OK_STATUS | {PARTIAL, UNSATISFIABLE} if headers else web.OK_STATUS
        settings = self._settings
        return web.open_url(
            self._url,
            web.Request(settings.timeout, settings.deny_hosts, headers, self._private, accepted, upgrade=True),
        )

    def _confirm_refusal(self, answer: Any) -> None:
        """Raises ChangedFileError if the server refuses a range because the file has changed."""
        if answer.status == UNSATISFIABLE:
            total = answer.headers.get("Content-Range", "").rpartition("/")[2]
            now = Identity(int(total) if total.isdecimal() else None, answer.headers.get("ETag"))
            check_same(self._url, self.identity, now)
        elif answer.status != PARTIAL:
            self._confirm(answer)

    def _confirm(self, answer: Any) -> None:
        now = identity_of_response(answer.status, answer.headers)
        if answer.encoded:
            now = Identity(None, now.tag, now.modified)
        with self._lock:
            check_same(self._url, self.identity, now)
            if self.identity.lacks_validator(now):
                raise ConnectionError(
                    "the server no longer sends the ETag or time that identifies the state of the file"
                )
            self.identity = self.identity.merge(now)


def private_headers(settings: FileSettings, protocol: str) -> dict[str, str]:
    """Returns the headers of the setting ``files.options`` for the web, which only the host of the URL may see.

    Raises:
        ConfigError: the setting has other options.
    """
    options = dict(settings.options.get(protocol, {}))
    client = dict(options.pop(CLIENT_OPTIONS, {}))
    headers = {**client.pop(HEADER_OPTIONS, {}), **options.pop(HEADER_OPTIONS, {})}
    if options or client:
        raise ConfigError(
            f"files.options[{protocol!r}] has {quoted_list([*options, *client])}, which are not supported "
            f"for the web. Use {HEADER_OPTIONS!r} there, and the settings files.timeout and files.deny_hosts"
        )
    return {str(name): str(value) for name, value in headers.items()}


def _content_range(answer: Any) -> ByteRange | None:
    match = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if match is None or match[3] == "*":
        return None
    return ByteRange(int(match[1]), int(match[2]) + 1)


def _read_exactly(answer: Any, size: int) -> bytes:
    pieces, left = [], size
    while left > 0 and (piece := answer.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise ConnectionError(f"the server sent {size - left} bytes, expected {size}")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def load_http(url: str) -> Any:
    """Returns the module `lakefeed.storage.remote.http`, which needs urllib3.

    Raises:
        MissingDependencyError: urllib3 is not installed.
    """
    try:
        from lakefeed.storage.remote import http
    except ImportError as error:
        raise MissingDependencyError(
            f"{display_url(url)} needs a library that is not installed (pip install 'lakefeed[http]'): {error}"
        ) from error
    return http
