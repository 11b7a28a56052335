"""Files at URLs, read steadily: what fails for a moment is tried again."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lakefeed._units import KIB, MIB
from lakefeed.config import FileSettings, Settings
from lakefeed.errors import (
    AccessDeniedError,
    ChangedFileError,
    FileError,
    LakefeedError,
    MissingDependencyError,
    MissingFileError,
)
from lakefeed.storage.disk.disk_errors import open_scratch
from lakefeed.storage.disk.file_identity import Identities, Identity, identity_of_info, identity_of_status
from lakefeed.storage.disk.local_file import LocalFile
from lakefeed.storage.remote import retries
from lakefeed.storage.remote.credentials import access_advice, causes, status_of
from lakefeed.storage.remote.egress_policy import check_host
from lakefeed.storage.remote.http_file import NoRangesError, WebFile
from lakefeed.storage.remote.store_file import StoreFile
from lakefeed.storage.urls import display_url, redact, safe_cause, split_protocol

if TYPE_CHECKING:
    from tenacity import RetryCallState

logger = logging.getLogger(__name__)

T = TypeVar("T")

READ_BYTES = MIB
STREAM_AHEAD_BYTES = 4 * MIB
PART_AHEAD_BYTES = 256 * KIB
LOCAL_PROTOCOLS = (None, "file", "local")
DIRECT_PROTOCOLS = (*LOCAL_PROTOCOLS, "memory")
WEB_PROTOCOLS = ("http", "https")
OBJECT_STORES = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl"})
BROKEN_BY_CHANGE = (ArithmeticError, AssertionError, EOFError, LookupError, OSError, RuntimeError, ValueError)
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

MISSING_STATUS = frozenset({404, 410})
TRANSIENT_STATUS = frozenset({408, 425, 429, 500, 502, 503, 504})
TRANSIENT_ERRNO = frozenset(
    {errno.EAGAIN, errno.EBUSY, errno.ECONNABORTED, errno.ECONNREFUSED, errno.ECONNRESET, errno.EHOSTUNREACH,
     errno.ENETUNREACH, errno.EPIPE, errno.ETIMEDOUT}
)  # fmt: skip
# By name: their libraries are optional.
TRANSIENT_CLASSES = frozenset(
    {"ClientConnectionError", "ClientPayloadError", "ConnectTimeoutError", "EndpointConnectionError",
     "IncompleteRead", "IncompleteReadError", "ReadTimeoutError", "ResponseStreamingError"}
)  # fmt: skip


def is_local(url: str) -> bool:
    """Whether it is on this machine's disks."""
    return split_protocol(url)[0] in LOCAL_PROTOCOLS


def filesystem(url: str) -> tuple[Any, str]:
    """The file system of a URL, configured, and the path in it.

    A chain (``one::two``) is not followed: fsspec would open whatever its last part names.

    Raises:
        MissingDependencyError: its library is not installed.
        FileError: there is no such file system, or its host is refused.
    """
    import fsspec

    protocol = split_protocol(url)[0] or "file"
    try:
        kind = fsspec.get_filesystem_class(protocol)
        options = {} if protocol in DIRECT_PROTOCOLS else _options(protocol, url)
        return fsspec.filesystem(protocol, **{**kind._get_kwargs_from_urls(url), **options}), kind._strip_protocol(url)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        advice = f" (pip install 'lakefeed[{extra}]')" if extra else ""
        raise MissingDependencyError(f"{display_url(url)} needs another library{advice}: {error}") from error
    except (TypeError, ValueError) as error:
        raise FileError(f"{display_url(url)} cannot be opened: {redact(str(error))}") from safe_cause(url, error)


def _options(protocol: str, url: str) -> dict[str, Any]:
    """What fsspec is told: the settings, and to ask a store each time instead of repeating what it once listed."""
    files = Settings.load().files
    given = files.options.get(protocol, {})
    if protocol in OBJECT_STORES:
        return {"use_listings_cache": False, **given}
    host = urlsplit(url).hostname
    if host:
        check_host(host, files.deny_hosts)
    return dict(given)


def query_filesystem(url: str, question: Callable[[Any, str], T]) -> T:
    """The file system's answer to a question about a URL.

    Raises:
        MissingFileError, FileError: there is nothing, or no answer, after trying again.
    """
    if split_protocol(url)[0] not in DIRECT_PROTOCOLS:
        return with_retries(url, lambda: question(*filesystem(url)))
    with access_errors(url):
        return question(*filesystem(url))


def open_retrying(url: str, ahead: int = STREAM_AHEAD_BYTES, states: Identities | None = None) -> Any:
    """The bytes at a URL, open for reading; reading goes on where it was after an error that passes.

    All that is read belongs to one state of the file.

    Args:
        url: where it is.
        ahead: bytes to fetch beyond what is asked for, of a file that is far away.
        states: the states in which files have to be; that of this one is recorded.

    Raises:
        MissingFileError: it is not there, or a folder.
        ChangedFileError: it is in another state than was recorded.
        FileError: it may not be read.
    """
    if split_protocol(url)[0] not in DIRECT_PROTOCOLS:
        return RetryingFile(url, ahead, states)
    with access_errors(url):
        fs, path = filesystem(url)
        if is_local(url):
            return LocalFile(url, path, states)
        file = fs.open(path, "rb")
        if states is not None:
            states.confirm(url, identity_of_info(fs.info(path)))
        return file


@contextmanager
def consistent_file(url: str, ahead: int = STREAM_AHEAD_BYTES, states: Identities | None = None) -> Iterator[Any]:
    """As `open_steady`; at the end of the block it is certain that all that was read belongs to one state."""
    with closing(open_retrying(url, ahead, states)) as file:
        try:
            yield file
        except BROKEN_BY_CHANGE:
            check_unchanged(file)  # a mixture of two files makes no sense to whoever reads it
            raise
        check_unchanged(file)


def check_unchanged(file: Any) -> None:
    """Raises ChangedFileError where what was read of an open file may belong to several states of it."""
    check = getattr(file, "confirm", None)
    if check is not None:
        check()


def identity_at(url: str, states: Identities | None = None) -> Identity:
    """The state of the file at a URL as it is now; of a far one that is recorded, as it was recorded.

    Raises:
        ChangedFileError: it is in another state than was recorded.
    """
    known = states.find(url) if states is not None else None
    if is_local(url):
        with access_errors(url):
            now = identity_of_status(os.stat(filesystem(url)[1]))  # noqa: PTH116  # asked for with every read
    elif known is not None:
        return known  # each read of it compares
    elif split_protocol(url)[0] in WEB_PROTOCOLS:
        with closing(RetryingFile(url, 0)) as file:
            now = file.identity
    else:
        now = identity_of_info(query_filesystem(url, lambda fs, path: fs.info(path)))
    return now if states is None else states.confirm(url, now)


@contextmanager
def access_errors(url: str) -> Iterator[None]:
    """Errors of getting at a file as ours."""
    try:
        yield
    except LakefeedError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {display_url(url)}") from safe_cause(url, error)
    except IsADirectoryError as error:
        raise _folder_error(url) from safe_cause(url, error)
    except PermissionError as error:
        raise AccessDeniedError(f"{display_url(url)} may not be read: {redact(str(error))}") from safe_cause(url, error)


class RetryingFile(io.RawIOBase):
    """A remote file. A read gives all that was asked for, and survives what passes. Not for several threads.

    What a server only gives from front to back is copied to local disk once somebody wants it in another order.
    """

    def __init__(self, url: str, ahead: int, states: Identities | None = None) -> None:
        super().__init__()
        self._url = url
        self._ahead = ahead
        self._states = Identities() if states is None else states
        self._settings = Settings.load().files
        self._place = 0
        self._size: int | None = None
        self._ranges = True
        self._file: Any = None
        self._copy: Any = None
        self._failure: FileError | None = None
        with_retries(url, self._opened, self._drop, self._settings)

    @property
    def identity(self) -> Identity:
        """The state of the file."""
        return self._states.find(self._url) or Identity()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            self._copied()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size or 0}[whence]
        place = max(start + offset, 0)
        if place != self._place:
            if not self._ranges:
                self._copied()
            self._place = place
        return place

    def read(self, size: int | None = -1) -> bytes:
        left = size if size is not None and size >= 0 else None
        pieces = []
        while left is None or left > 0:
            ask = READ_BYTES if left is None else left
            try:
                piece = with_retries(self._url, lambda ask=ask: self._some(ask), self._drop, self._settings)  # type: ignore[misc]
            except FileError as error:
                self._failure = error
                raise
            if not piece:
                self.confirm()
                break
            pieces.append(piece)
            left = None if left is None else left - len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def readinto(self, buffer: Any) -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def confirm(self) -> None:
        """Raises ChangedFileError where what was read may belong to several states of the file.

        Also raises what a read has raised: zipfile takes any OSError as the end of the file.
        """
        if self._failure is not None:
            raise self._failure
        if self._file is not None:
            with_retries(self._url, lambda: self._opened().confirm(), settings=self._settings)

    def close(self) -> None:
        if not self.closed:
            self._drop()
            if self._copy is not None:
                self._copy.close()
        super().close()

    def _some(self, size: int) -> bytes:
        if self._copy is not None:
            self._copy.seek(self._place)
            piece: bytes = self._copy.read(size)
        else:
            piece = self._some_of_file(size)
        self._place += len(piece)
        return piece

    def _some_of_file(self, size: int) -> bytes:
        try:
            file = self._opened()
            file.seek(self._place)
            piece: bytes = file.read(size)
        except NoRangesError:
            self._drop()
            self._ranges = False
            file = self._opened()
            piece = file.read(size)
        self._learn(file)
        return piece

    def _opened(self) -> Any:
        """The file as it is open, or opened again at the place where reading was."""
        if self._file is None:
            try:
                file = self._reached()
            except NoRangesError:
                self._ranges = False
                file = self._reached()
            self._file = file
            self._learn(file)
            if not self._ranges:
                self._skip(self._place)
        return self._file

    def _learn(self, file: Any) -> None:
        """Takes over what was found out about the file."""
        self._states.confirm(self._url, file.identity)
        self._size = self._size if file.size is None else file.size
        self._ranges = self._ranges and file.ranged and file.size is not None

    def _reached(self) -> Any:
        """The file, open at its beginning."""
        known = self._states.find(self._url)
        if split_protocol(self._url)[0] in WEB_PROTOCOLS:
            return WebFile(self._url, self._ahead, self._settings, known, ranged=self._ranges)
        return StoreFile(self._url, *filesystem(self._url), self._ahead, known)

    def _skip(self, place: int) -> None:
        while place > 0:
            skipped = self._file.read(min(place, READ_BYTES))
            if not skipped:
                raise ChangedFileError(
                    f"{display_url(self._url)} changed while it was read: it became shorter; read it again"
                )
            place -= len(skipped)

    def _copied(self) -> None:
        """Goes on with a local copy, in which any place can be read."""
        if self._copy is not None:
            return
        place, self._place = self._place, 0
        self._drop()
        whole = open_scratch()  # closed with this file
        while piece := self.read(READ_BYTES):
            whole.write(piece)
        self._copy, self._size, self._place = whole, whole.tell(), place

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def stamp_of(info: dict[str, Any]) -> tuple[Any, ...]:
    """What tells that a file is still the same one: its size and its modification time or entity tag."""
    times = ("mtime", "ETag", "LastModified", "Last-Modified", "last_modified")
    return info.get("size"), next((info[key] for key in times if info.get(key)), None)


def with_retries(
    url: str, work: Callable[[], T], between: Callable[[], None] | None = None, settings: FileSettings | None = None
) -> T:
    """What ``work`` gives, tried again after what passes, with ``between`` called before the wait.

    Raises:
        MissingFileError: there is no such file.
        FileError: anything else that the file system raises; for what passes, after the last try.
    """
    try:
        return work()
    except LakefeedError:
        raise
    except Exception as error:  # noqa: BLE001  # looked at below
        failed = [error]
    # Not above: this error would be the context of those to come.
    return _retry(url, work, between, settings or Settings.load().files, failed)


def _retry(
    url: str, work: Callable[[], T], between: Callable[[], None] | None, chosen: FileSettings, failed: list[Exception]
) -> T:
    """As `tried`, after the first try, which failed. Apart, since most do not, and to prepare this takes its time."""

    def next_try() -> T:
        if failed:
            raise failed.pop()
        return work()

    def again(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info("reading %s again after try %d: %s", redact(url), state.attempt_number, redact(str(error)))
        if between is not None:
            between()

    attempts = retries.make_retrying(chosen, is_transient, again)
    try:
        return attempts(next_try)
    except LakefeedError:
        raise
    except Exception as error:  # noqa: BLE001  # raised as ours
        raise _to_file_error(url, error, chosen.retries + 1 if is_transient(error) else 1) from safe_cause(url, error)


def is_transient(error: BaseException) -> bool:
    """Whether the same request may succeed a little later."""
    for link in causes(error):
        status = status_of(link)
        if status is not None:
            return status in TRANSIENT_STATUS
        if isinstance(link, LakefeedError):
            return False
        if isinstance(link, TimeoutError | ConnectionError) or getattr(link, "errno", None) in TRANSIENT_ERRNO:
            return True
        if TRANSIENT_CLASSES & {kind.__name__ for kind in type(link).__mro__}:
            return True
    return False


def _to_file_error(url: str, error: Exception, tries: int) -> FileError:
    *_, root = links = list(causes(error))
    statuses = {status for link in links if (status := status_of(link)) is not None}
    if isinstance(error, IsADirectoryError):
        return _folder_error(url)
    if statuses & MISSING_STATUS or (isinstance(error, FileNotFoundError) and not statuses and tries == 1):
        return MissingFileError(f"there is no file {display_url(url)}")
    advice = access_advice(url, links, "files.options")
    if advice is not None:
        return AccessDeniedError(f"{display_url(url)} cannot be read: {advice}")
    after = f" after {tries} tries" if tries > 1 else ""
    reason = f"the server answers {min(statuses)}" if statuses else f"{type(root).__name__}: {redact(str(root))}"
    return FileError(f"{display_url(url)} cannot be read{after}: {reason}")


def _folder_error(url: str) -> MissingFileError:
    return MissingFileError(
        f"{display_url(url)} is a folder; name its files, such as {display_url(url.rstrip('/') + '/*')}"
    )
