"""Files at URLs whose reads are retried after transient errors."""

from __future__ import annotations

import errno
import io
import logging
import os
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from lakefeed import _paths
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
from lakefeed.storage.urls import display_url, lower_scheme, redact, safe_cause, split_protocol

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
UNCACHED = {"use_listings_cache": False}
"""Options without which a process would see for ever what a store held when it was first listed."""
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs"}

MISSING_STATUS = frozenset({404, 410})
TRANSIENT_STATUS = frozenset({408, 425, 429})
PERMANENT_SERVER_ERRORS = frozenset({501, 505, 506, 508, 510, 511})
"""Errors of servers that mean the request. Others (500, 503, 52x of Cloudflare, 529, …) are of the moment."""
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
    """Returns whether a URL names a file on a disk of this machine."""
    return split_protocol(url)[0] in LOCAL_PROTOCOLS


def filesystem(url: str) -> tuple[Any, str]:
    """Returns the configured file system of a URL, and the path in it.

    A chain (``one::two``) is not followed, because fsspec would open any file that its last part names.

    Raises:
        MissingDependencyError: the library of the file system is not installed.
        FileError: the file system is unknown, or its host is denied.
    """
    import fsspec

    url = lower_scheme(url)
    protocol = split_protocol(url)[0] or "file"
    try:
        kind = fsspec.get_filesystem_class(protocol)
        options = {} if protocol in DIRECT_PROTOCOLS else _options(protocol, url)
        fs = fsspec.filesystem(protocol, **{**kind._get_kwargs_from_urls(url), **options})
        if protocol not in (*DIRECT_PROTOCOLS, *OBJECT_STORES):
            fs.invalidate_cache()  # of listings, which it may hold for the life of the process
        return fs, kind._strip_protocol(url)
    except ImportError as error:
        extra = EXTRAS.get(protocol)
        advice = f" (pip install 'lakefeed[{extra}]')" if extra else ""
        raise MissingDependencyError(
            f"{display_url(url)} needs a library that is not installed{advice}: {error}"
        ) from error
    except (TypeError, ValueError) as error:
        raise FileError(f"{display_url(url)} cannot be opened: {redact(str(error))}") from safe_cause(url, error)


def _options(protocol: str, url: str) -> dict[str, Any]:
    """Returns the options for fsspec: the settings, and for stores no cache of listings."""
    files = Settings.load().files
    options = files.options.get(protocol, {})
    if protocol in OBJECT_STORES:
        return {**options, **UNCACHED}
    host = urlsplit(url).hostname
    if host:
        check_host(host, files.deny_hosts)
    return dict(options)


def query_filesystem(url: str, question: Callable[[Any, str], T]) -> T:
    """Returns the result of ``question`` on the file system and the path of a URL.

    Raises:
        MissingFileError: there is no such file.
        FileError: the file system did not answer, even after retries.
    """
    if split_protocol(url)[0] not in DIRECT_PROTOCOLS:
        return with_retries(url, lambda: question(*filesystem(url)))
    with access_errors(url):
        return question(*filesystem(url))


def open_retrying(url: str, ahead: int = STREAM_AHEAD_BYTES, states: Identities | None = None) -> Any:
    """Returns a file at a URL, open for reading. After a transient error, reading continues at the same position.

    All bytes that are read belong to one state of the file.

    Args:
        url: the URL.
        ahead: the number of bytes of a remote file to fetch beyond those asked for.
        states: the states that files must have. The state of this file is recorded there.

    Raises:
        MissingFileError: there is no such file, or it is a folder.
        ChangedFileError: the file is in another state than the recorded one.
        FileError: the file cannot be read.
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
    """Yields a file as `open_retrying` returns it.

    At the end, checks that all bytes that were read belong to one state.
    """
    with closing(open_retrying(url, ahead, states)) as file:
        try:
            yield file
        except BROKEN_BY_CHANGE:
            check_unchanged(file)  # a mixture of two states is why the content made no sense
            raise
        check_unchanged(file)


def check_unchanged(file: Any) -> None:
    """Raises ChangedFileError if the bytes that were read of an open file may belong to several states."""
    check = getattr(file, "confirm", None)
    if check is not None:
        check()


def identity_at(url: str, states: Identities | None = None) -> Identity:
    """Returns the current state of the file at a URL. For a remote file with a recorded state, returns that.

    Raises:
        ChangedFileError: the file is in another state than the recorded one.
    """
    known = states.find(url) if states is not None else None
    if is_local(url):
        with access_errors(url):
            now = identity_of_status(os.stat(filesystem(url)[1]))  # noqa: PTH116  # called for every read
    elif known is not None:
        return known  # each read compares it
    elif split_protocol(url)[0] in WEB_PROTOCOLS:
        with closing(RetryingFile(url, 0)) as file:
            now = file.identity
    else:
        now = identity_of_info(query_filesystem(url, lambda fs, path: fs.info(path)))
    return now if states is None else states.confirm(url, now)


@contextmanager
def access_errors(url: str) -> Iterator[None]:
    """Raises errors of access to a file as FileError."""
    try:
        yield
    except LakefeedError:
        raise
    except FileNotFoundError as error:
        raise MissingFileError(f"there is no file {display_url(url)}") from safe_cause(url, error)
    except ValueError as error:
        if _paths.is_storable(url):
            raise
        raise MissingFileError(f"there is no file {display_url(url)}: {error}") from safe_cause(url, error)
    except IsADirectoryError as error:
        raise _folder_error(url) from safe_cause(url, error)
    except PermissionError as error:
        raise AccessDeniedError(f"access to {display_url(url)} is denied: {redact(str(error))}") from safe_cause(
            url, error
        )
    except OSError as error:
        if error.errno not in _paths.IMPOSSIBLE_ERRNO:
            raise
        raise MissingFileError(f"there is no file {display_url(url)}: {error.strerror}") from safe_cause(url, error)


class RetryingFile(io.RawIOBase):
    """A remote file.

    A read returns all bytes that were asked for, also after transient errors. Not safe between threads. A forked
    process reads on with requests of its own.

    A file that the server sends only as a whole is copied to local disk as soon as it is read in another order.
    """

    def __init__(self, url: str, ahead: int, states: Identities | None = None) -> None:
        super().__init__()
        self._url = url
        self._ahead = ahead
        self._states = Identities() if states is None else states
        self._settings = Settings.load().files
        self._position = 0
        self._size: int | None = None
        self._ranges = True
        self._file: Any = None
        self._copy: Any = None
        self._failure: FileError | None = None
        self._process = os.getpid()
        with_retries(url, self._open, self._drop, self._settings)

    @property
    def identity(self) -> Identity:
        """The state of the file."""
        return self._states.find(self._url) or Identity()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        if whence == io.SEEK_END and self._size is None:
            self._make_copy()
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size or 0}[whence]
        position = max(start + offset, 0)
        if position != self._position:
            if not self._ranges:
                self._make_copy()
            self._position = position
        return position

    def read(self, size: int | None = -1) -> bytes:
        left = size if size is not None and size >= 0 else None
        pieces = []
        while left is None or left > 0:
            ask = READ_BYTES if left is None else left
            try:
                piece = with_retries(self._url, lambda ask=ask: self._read_once(ask), self._drop, self._settings)  # type: ignore[misc]
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
        """Raises ChangedFileError if the bytes that were read may belong to several states of the file.

        Also raises the error of an earlier read, because zipfile takes an OSError for the end of the file.
        """
        if self._failure is not None:
            raise self._failure
        if self._file is not None:
            with_retries(self._url, lambda: self._open().confirm(), settings=self._settings)

    def close(self) -> None:
        if not self.closed:
            self._drop()
            if self._copy is not None:
                self._copy.close()
        super().close()

    def _read_once(self, size: int) -> bytes:
        if self._copy is not None:  # a forked process shares the offset of the copy
            left = max((self._size or 0) - self._position, 0)
            piece = os.pread(self._copy.fileno(), min(size, left), self._position)
        else:
            piece = self._read_from_file(size)
        self._position += len(piece)
        return piece

    def _read_from_file(self, size: int) -> bytes:
        try:
            file = self._open()
            file.seek(self._position)
            piece: bytes = file.read(size)
        except NoRangesError:
            self._drop()
            self._ranges = False
            file = self._open()
            piece = file.read(size)
        self._learn(file)
        return piece

    def _open(self) -> Any:
        """Returns the open file. Opens it again at the current position if an error has closed it, or after a fork."""
        if self._process != os.getpid():  # the responses, and the threads that fetch ranges, are the parent's
            self._process, self._file = os.getpid(), None
        if self._file is None:
            try:
                file = self._reach()
            except NoRangesError:
                self._ranges = False
                file = self._reach()
            self._file = file
            self._learn(file)
            if not self._ranges:
                self._skip(self._position)
        return self._file

    def _learn(self, file: Any) -> None:
        """Records the state, the size and the support of ranges of an open file."""
        self._states.confirm(self._url, file.identity)
        self._size = self._size if file.size is None else file.size
        self._ranges = self._ranges and file.ranged and file.size is not None

    def _reach(self) -> Any:
        """Returns the file, open at its beginning."""
        known = self._states.find(self._url)
        if split_protocol(self._url)[0] in WEB_PROTOCOLS:
            return WebFile(self._url, self._ahead, self._settings, known, ranged=self._ranges)
        from lakefeed.storage.remote.store_file import StoreFile

        return StoreFile(self._url, *filesystem(self._url), self._ahead, known)

    def _skip(self, position: int) -> None:
        while position > 0:
            skipped = self._file.read(min(position, READ_BYTES))
            if not skipped:
                raise ChangedFileError(
                    f"{display_url(self._url)} changed while it was read: it became shorter. Read it again"
                )
            position -= len(skipped)

    def _make_copy(self) -> None:
        """Continues with a local copy, which can be read at any position."""
        if self._copy is not None:
            return
        position, self._position = self._position, 0
        self._drop()
        copy = open_scratch()  # closed with this file
        while piece := self.read(READ_BYTES):
            copy.write(piece)
        copy.flush()
        self._copy, self._size, self._position = copy, copy.tell(), position

    def _drop(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.close()


def stamp_of(info: dict[str, Any]) -> tuple[Any, ...]:
    """Returns the size and the modification time or entity tag, which identify the state of a file."""
    times = ("mtime", "ETag", "LastModified", "Last-Modified", "last_modified")
    return info.get("size"), next((info[key] for key in times if info.get(key)), None)


def with_retries(
    url: str, work: Callable[[], T], between: Callable[[], None] | None = None, settings: FileSettings | None = None
) -> T:
    """Returns the result of ``work``, which is retried after transient errors. Calls ``between`` before each wait.

    Raises:
        MissingFileError: there is no such file.
        FileError: the file system raised another error, or transient errors until the last try.
    """
    try:
        return work()
    except LakefeedError:
        raise
    except Exception as error:  # noqa: BLE001  # handled below
        failed = [error]
    # Outside of the handler: this error would be the context of later ones.
    return _retry(url, work, between, settings or Settings.load().files, failed)


def _retry(
    url: str, work: Callable[[], T], between: Callable[[], None] | None, settings: FileSettings, failed: list[Exception]
) -> T:
    """Continues `with_retries` after the first try failed. Separate, because the preparation takes time."""

    def next_try() -> T:
        if failed:
            raise failed.pop()
        return work()

    def before_wait(state: RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        logger.info(
            "retrying the read of %s after attempt %d: %s", redact(url), state.attempt_number, redact(str(error))
        )
        if between is not None:
            between()

    attempts = retries.make_retrying(settings, is_transient, before_wait)
    try:
        return attempts(next_try)
    except LakefeedError:
        raise
    except Exception as error:  # noqa: BLE001  # raised as FileError
        raise _to_file_error(url, error, settings.retries + 1 if is_transient(error) else 1) from safe_cause(url, error)


def is_transient(error: BaseException) -> bool:
    """Returns whether a retry of the same request may succeed."""
    for link in causes(error):
        status = status_of(link)
        if status is not None:
            return status in TRANSIENT_STATUS or (status >= 500 and status not in PERMANENT_SERVER_ERRORS)
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
    reason = f"the server answered {min(statuses)}" if statuses else f"{type(root).__name__}: {redact(str(root))}"
    return FileError(f"{display_url(url)} cannot be read{after}: {reason}")


def _folder_error(url: str) -> MissingFileError:
    return MissingFileError(
        f"{display_url(url)} is a folder; name its files, such as {display_url(url.rstrip('/') + '/*')}"
    )
