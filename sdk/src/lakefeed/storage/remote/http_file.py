"""A file on a web server, read in ranges where the server gives them; every answer must be of the same file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from lakefeed.config import FileSettings
from lakefeed.errors import ConfigError, MissingDependencyError, quoted_list
from lakefeed.storage.disk.file_identity import CONTENT_RANGE, Identity, check_same, identity_of_response
from lakefeed.storage.urls import display_url, scheme

PARTIAL = 206
UNSATISFIABLE = 416
PROBE_BYTES = 1
HEADER_OPTIONS = "headers"
CLIENT_OPTIONS = "client_kwargs"


class NoRangesError(Exception):
    """The server only gives the file from front to back."""


class ByteRange(NamedTuple):
    """Where the bytes of an answer lie: from ``start`` to before ``stop``."""

    start: int
    stop: int


class WebFile:
    """The file at a URL of the web. ``identity`` is its state as far as it is known; ``size`` in bytes.

    Each answer is compared with the state that is known, and a strong ETag also goes with each request. A server that
    names neither an ETag nor a time can only be asked for the length. For one thread at a time.
    """

    def __init__(
        self, url: str, ahead: int, settings: FileSettings, identity: Identity | None, *, ranged: bool
    ) -> None:
        """Asks for the beginning, unless the size is known.

        Args:
            url: where it is.
            ahead: bytes to fetch beyond what is asked for.
            settings: how it is asked for.
            identity: the state in which it has to be.
            ranged: whether to ask for ranges; else the file is read from front to back.

        Raises:
            ChangedFileError: it is in another state.
        """
        self._url = url
        self._ahead = ahead
        self._settings = settings
        self._private = private_headers(settings, scheme(url))
        self._place = 0
        self._buffer, self._start = b"", 0
        self._whole: Any = None
        self.identity = identity or Identity()
        self.ranged = ranged
        if not ranged:
            self._open_whole()
        elif self.size is None:
            self._fetch(0, max(ahead, PROBE_BYTES))

    @property
    def size(self) -> int | None:
        """The bytes of the file; None where the server does not tell."""
        return self.identity.size

    def seek(self, place: int) -> None:
        """Goes to a place; nothing is fetched yet."""
        if place != self._place and not self.ranged:
            raise NoRangesError
        self._place = place

    def read(self, size: int) -> bytes:
        """Some bytes, at most ``size``; none at the end.

        Raises:
            NoRangesError: the server does not give any part but the beginning.
            ChangedFileError: the file is in another state than before.
        """
        if self.ranged and not self._holds(self._place):
            if self.size is not None and self._place >= self.size:
                return b""
            self._fetch(self._place, self._place + max(size, self._ahead))
        if self._whole is not None:
            piece: bytes = self._whole.read(size)
        else:
            begin = self._place - self._start
            piece = self._buffer[begin : begin + size]
        self._place += len(piece)
        return piece

    def confirm(self) -> None:
        """Does nothing: each answer has been compared."""

    def close(self) -> None:
        """Gives the connection back."""
        whole, self._whole = self._whole, None
        if whole is not None:
            whole.close()

    def _holds(self, place: int) -> bool:
        return self._whole is not None or self._start <= place < self._start + len(self._buffer)

    def _fetch(self, start: int, stop: int) -> None:
        """Fetches the bytes from ``start`` to before ``stop``, or fewer, into memory."""
        last = stop if self.size is None else min(stop, self.size)
        headers = {"Range": f"bytes={start}-{last - 1}"}
        if self.identity.is_strong:
            headers["If-Range"] = str(self.identity.tag)
        answer = self._asked(headers)
        try:
            part = _content_range(answer)
            if answer.status != PARTIAL or part is None or answer.encoded:
                if answer.status == UNSATISFIABLE or answer.status == PARTIAL or start:
                    self._confirm_refusal(answer)
                    raise NoRangesError
                self._go_on_with(answer)
                return
            if part.start != start:
                raise ConnectionError(f"the server gives the bytes from {part.start} instead of those from {start}")
            self._confirm(answer)
            # A server may give more than it was asked for.
            self._buffer, self._start = _read_exactly(answer, min(part.stop, stop) - start), start
        finally:
            if answer is not self._whole:
                answer.close()

    def _open_whole(self) -> None:
        self._go_on_with(self._asked({}))

    def _go_on_with(self, answer: Any) -> None:
        """Reads on in the body of an answer that begins at the beginning."""
        try:
            self._confirm(answer)
        except BaseException:
            answer.close()
            raise
        self._whole, self.ranged = answer, False

    def _asked(self, headers: Mapping[str, str]) -> Any:
        web = load_http(self._url)
        accepted = web.OK_STATUS | {PARTIAL, UNSATISFIABLE} if headers else web.OK_STATUS
        settings = self._settings
        return web.open_url(
            self._url,
            web.Request(settings.timeout, settings.deny_hosts, headers, self._private, accepted, upgrade=True),
        )

    def _confirm_refusal(self, answer: Any) -> None:
        """Raises ChangedFileError where the server refuses a range because the file is another one."""
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
        check_same(self._url, self.identity, now)
        if self.identity.lacks_validator(now):
            raise ConnectionError("the server does not say, as it did before, which state of the file it gives")
        self.identity = self.identity.merge(now)


def private_headers(settings: FileSettings, protocol: str) -> dict[str, str]:
    """The headers of the settings ``files.options`` for the web, which go to the host of a URL only.

    Raises:
        ConfigError: there are other options, which are not used.
    """
    options = dict(settings.options.get(protocol, {}))
    client = dict(options.pop(CLIENT_OPTIONS, {}))
    headers = {**client.pop(HEADER_OPTIONS, {}), **options.pop(HEADER_OPTIONS, {})}
    if options or client:
        raise ConfigError(
            f"files.options[{protocol!r}] has {quoted_list([*options, *client])}, which files of the web do not use; "
            f"{HEADER_OPTIONS!r} is read, and files.timeout and files.deny_hosts are settings of their own"
        )
    return {str(name): str(value) for name, value in headers.items()}


def _content_range(answer: Any) -> ByteRange | None:
    found = CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", "").strip())
    if found is None or found[3] == "*":
        return None
    return ByteRange(int(found[1]), int(found[2]) + 1)


def _read_exactly(answer: Any, size: int) -> bytes:
    pieces, left = [], size
    while left > 0 and (piece := answer.read(left)):
        pieces.append(piece)
        left -= len(piece)
    if left:
        raise ConnectionError(f"{size - left} bytes came instead of {size}")
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def load_http(url: str) -> Any:
    """The module that asks the web; imported on first use.

    Raises:
        MissingDependencyError: its library is not installed.
    """
    try:
        from lakefeed.storage.remote import http
    except ImportError as error:
        raise MissingDependencyError(
            f"{display_url(url)} needs another library (pip install 'lakefeed[http]'): {error}"
        ) from error
    return http
