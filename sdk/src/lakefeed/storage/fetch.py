"""Reads files that a column refers to by path or URL, as opposed to those in the blob store."""

from __future__ import annotations

import hashlib
import io
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from mmap import mmap
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar, cast

from lakefeed._units import MIB
from lakefeed.config import FileSettings, Settings
from lakefeed.errors import FileError, LakefeedError, MissingFileError, StorageFullError, UnsupportedError, quoted_list
from lakefeed.storage.cache.blob_cache import SPARE_BYTES, BlobCache
from lakefeed.storage.cache.url_copies import UrlCopies, UrlCopy
from lakefeed.storage.disk.disk_errors import FULL_ERRNO, storage_errors
from lakefeed.storage.disk.hashing import sha256_bytes
from lakefeed.storage.remote.http_file import load_http, private_headers
from lakefeed.storage.remote.retrying_file import WEB_PROTOCOLS, filesystem, stamp_of, with_retries
from lakefeed.storage.remote.store_file import is_expired
from lakefeed.storage.urls import LOCAL_SCHEMES, display_url, local_path, scheme

__all__ = ["FETCHED_SCHEMES", "NO_PROGRESS", "Fetch", "Progress", "open_reference"]

# A closed list: fsspec also opens archives, chains and code, which a table must not choose.
OBJECT_SCHEMES = ("s3", "s3a", "gs", "gcs")
FETCHED_SCHEMES = ("file", *WEB_PROTOCOLS, *OBJECT_SCHEMES, "memory")

IN_MEMORY_BYTES = 8 * MIB
LARGE_BYTES = MIB
VALIDATORS = {"ETag": "If-None-Match", "Last-Modified": "If-Modified-Since"}
STAMP = "stamp"

T = TypeVar("T")
Got = TypeVar("Got", covariant=True)


class Progress:
    """Receives the progress of a fetch. Ignores it by default."""

    def claim(self, size: int) -> None:
        """Called before ``size`` bytes are read into memory. May wait until there is memory."""

    def extend(self, seconds: float) -> None:
        """Called when a fetch continues. The next call follows within so many seconds."""

    def finish_requests(self) -> None:
        """Called when a fetch needs no more responses."""


NO_PROGRESS = Progress()


@dataclass(frozen=True)
class Fetch:
    """Fetches files with ``settings``, and keeps copies in ``cache`` (None: no copies).

    A request fails if the server does not answer, or does not send 256 KiB (or the rest), within ``settings.timeout``
    seconds. Transient errors are retried. Safe between threads, processes and forks.

    Example:
        >>> from pathlib import Path
        >>> _ = Path("a.txt").write_bytes(b"abc")
        >>> Fetch().read("a.txt")
        b'abc'
    """

    cache: BlobCache | None = None
    settings: FileSettings = field(default_factory=lambda: Settings.load().files)

    def read(self, text: str, suffix: str = "", progress: Progress = NO_PROGRESS) -> bytes:
        """Returns the bytes of the file at a path or URL. The copy of a URL gets the extension ``suffix``.

        Raises:
            MissingFileError: the file does not exist.
            RefusedTargetError: the URL is denied.
            UnsupportedError: URLs with this scheme are not fetched.
            FileError: the file cannot be read, even after retries.
        """
        content = self.read_once(text, suffix, progress)
        return content if isinstance(content, bytes) else content[:]

    def read_once(self, text: str, suffix: str = "", progress: Progress = NO_PROGRESS) -> bytes | mmap:
        """Returns the bytes as `read` does.

        A large file is returned as a map that is in memory once and freed immediately.
        """
        consumer = _BytesConsumer(self.cache, suffix, progress)
        if not _is_elsewhere(text):
            return self._read_local(text, consumer, _read_stream)
        _check_scheme(text)
        return self._through_copies(text, consumer)

    def path(self, text: str, suffix: str = "", progress: Progress = NO_PROGRESS) -> Path:
        """Returns the path of a local file with the bytes: the file itself for a path, a read-only copy for a URL.

        Raises:
            FileError: there is no space for a copy. Also raises the errors of `read`.
        """
        path = local_path(text)
        if path is not None:
            consumer = None if self.cache is None else _FileConsumer(self.cache, suffix, progress)
            return self._read_local(text, consumer, lambda _: path.absolute())
        if self.cache is None:
            raise FileError(f"there is no cache for a local copy of {display_url(text)}. Read its bytes instead")
        if scheme(text) == "memory":
            data = self.read(text)
            return self.cache.fill(sha256_bytes(data), suffix, io.BytesIO(data), display_url(text))
        _check_scheme(text)
        return self._through_copies(text, _FileConsumer(self.cache, suffix, progress))

    def open_spooled(self, url: str) -> BinaryIO:
        """Returns the file at a remote URL, open for reading, in memory or in a nameless file. Raises: as `read`."""

        def ask() -> BinaryIO:
            with ExitStack() as stack:
                whole = stack.enter_context(tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="lakefeed-"))
                with self._responses(url)(url, None) as answer:
                    assert answer is not None, "no copy was offered"
                    for piece in answer.watched(NO_PROGRESS, self.settings.timeout).pieces:
                        with storage_errors(tempfile.gettempdir(), len(piece)):
                            whole.write(piece)
                whole.seek(0)
                stack.pop_all()
            return cast(BinaryIO, whole)

        return self._retry(url, ask, NO_PROGRESS)

    def find_copies(self, texts: Sequence[str | None]) -> list[UrlCopy | None]:
        """Returns the known copies of URLs, which may be out of date; None for None and for URLs without a copy."""
        if self._copies is None:
            return [None] * len(texts)
        copies = self._copies.recall_all(texts)
        unread = [
            text for text, known in zip(texts, copies, strict=True) if known is None and text and _is_elsewhere(text)
        ]
        if not unread:
            return copies
        read = self._copies.read_records(unread)
        return [known or read.get(text or "") for text, known in zip(texts, copies, strict=True)]

    @cached_property
    def _copies(self) -> UrlCopies | None:
        return None if self.cache is None else UrlCopies(self.cache)

    def _read_local(self, text: str, consumer: _Consumer[T] | None, work: Callable[[BinaryIO], T]) -> T:
        """Returns the result of ``work`` on a local file. If that is missing, uses a pinned copy."""
        try:
            with open_reference(text) as stream:  # also for a path, to raise the same errors as for bytes
                return work(stream)
        except MissingFileError:
            known = None if self._copies is None else self._copies.find(text)
            result = consumer.from_copy(known) if consumer is not None and known is not None and known.pinned else None
            if result is None:
                raise
            return result

    def _through_copies(self, url: str, consumer: _Consumer[T]) -> T:
        copies = self._copies
        if copies is None:
            return self._request(url, consumer, None)
        # Without records: they are read below, under the lock.
        result = self._use_fresh(copies.recall(url), consumer)
        if result is not None:
            return result
        with copies.lock(url):
            known = copies.read_records([url]).get(url)
            result = self._use_fresh(known, consumer)  # another process may have been faster
            return result if result is not None else self._request(url, consumer, known)

    def _use_fresh(self, known: UrlCopy | None, consumer: _Consumer[T]) -> T | None:
        return consumer.from_copy(known) if known is not None and known.is_fresh(self.settings.fresh) else None

    def _request(self, url: str, consumer: _Consumer[T], known: UrlCopy | None) -> T:
        """Returns the content that the server has now, or the copy if that has not changed."""

        def ask() -> T:
            copy = None if known is None or not known.validators else consumer.from_copy(known)
            with self._responses(url)(url, None if copy is None else known) as response:
                if response is None:
                    assert known is not None, "only a copy can be unchanged"
                    self._confirm(url, known)
                    return cast(T, copy)
                received = consumer.receive(response.watched(consumer.progress, self.settings.timeout))
            # The rest needs no server, so other requests may start.
            consumer.progress.finish_requests()
            result, sha256, size = consumer.store(received)
            if self._copies is not None:
                self._copies.record(url, sha256, size, response.validators)
            return result

        return self._retry(url, ask, consumer.progress)

    def _confirm(self, url: str, known: UrlCopy) -> None:
        if self._copies is not None:
            self._copies.confirm(url, known)

    def _retry(self, url: str, ask: Callable[[], T], progress: Progress) -> T:
        settings = self.settings
        progress.extend(settings.timeout)
        return with_retries(url, ask, lambda: progress.extend(settings.max_wait + settings.timeout), settings)

    def _responses(self, url: str) -> Callable[[str, UrlCopy | None], AbstractContextManager[_Response | None]]:
        """Returns the function that requests a URL. The function yields None if the copy has not changed."""
        return self._http_response if scheme(url) in WEB_PROTOCOLS else self._object_response

    @contextmanager
    def _http_response(self, url: str, known: UrlCopy | None) -> Iterator[_Response | None]:
        get = load_http(url).get
        headers = {} if known is None else known.validators
        private = private_headers(self.settings, scheme(url))
        with get(url, self.settings.timeout, self.settings.deny_hosts, headers, private) as answer:
            if answer.unchanged:
                yield None
                return
            validators = {VALIDATORS[name]: answer.headers[name] for name in VALIDATORS if answer.headers.get(name)}
            yield _Response(answer.size, validators, answer.pieces)

    @contextmanager
    def _object_response(self, url: str, known: UrlCopy | None) -> Iterator[_Response | None]:
        fs, path = filesystem(url)
        info = fs.info(path)
        if info.get("type") == "directory":
            raise IsADirectoryError(path)
        stamp = repr(stamp_of(info))
        if known is not None and known.validators.get(STAMP) == stamp:
            yield None
            return
        size = info.get("size")
        if size is not None and size <= IN_MEMORY_BYTES:
            yield _Response(size, {STAMP: stamp}, iter([fs.cat_file(path)]))
            return
        with fs.open(path, "rb", block_size=IN_MEMORY_BYTES) as stream:
            details = getattr(stream, "details", None) or info
            yield _Response(details.get("size"), {STAMP: repr(stamp_of(details))}, _read_chunks(stream))


def _read_chunks(stream: Any) -> Iterator[bytes]:
    """Yields the bytes of an open object.

    Raises ConnectionError, which is retried, if the object is replaced meanwhile.
    """
    try:
        while piece := stream.read(IN_MEMORY_BYTES):
            yield piece
    except OSError as error:
        if is_expired(error):
            raise ConnectionError("the object changed while it was read") from error
        raise


@dataclass(frozen=True)
class _Response:
    """The bytes of a response, their number if it is known, and the validators for later requests."""

    size: int | None
    validators: Mapping[str, str]
    pieces: Iterable[bytes]

    def watched(self, progress: Progress, seconds: float) -> _Response:
        """Returns a response that reports progress, and raises ConnectionError if the bytes end early."""

        def pieces() -> Iterator[bytes]:
            read = 0
            for piece in self.pieces:
                progress.extend(seconds)
                read += len(piece)
                yield piece
            if self.size is not None and read != self.size:
                raise ConnectionError(f"the server sent {read} bytes, expected {self.size}")

        return _Response(self.size, self.validators, pieces())


class _Consumer(Protocol[Got]):
    """Turns the bytes of a URL into a result."""

    progress: Progress

    def from_copy(self, known: UrlCopy) -> Got | None:
        """Returns the result from the copy; None if the copy is gone or damaged."""

    def receive(self, response: _Response) -> Any:
        """Reads a response. The result is an argument of ``store``."""

    def store(self, received: Any) -> tuple[Got, str, int]:
        """Keeps a copy. Returns the result, and the digest and the size of the bytes."""


@dataclass
class _BytesConsumer:
    """Returns bytes in memory. A copy is kept if there is space."""

    cache: BlobCache | None
    suffix: str
    progress: Progress

    def from_copy(self, known: UrlCopy) -> bytes | mmap | None:
        if self.cache is None:
            return None
        self.progress.claim(known.size)
        return self.cache.read(known.sha256, self.suffix)

    def receive(self, response: _Response) -> bytes | mmap:
        if response.size is not None:
            self.progress.claim(response.size)
        size = response.size or 0
        return self._collect(response) if size < LARGE_BYTES else _read_into_map(response, size)

    def store(self, received: bytes | mmap) -> tuple[bytes | mmap, str, int]:
        sha256 = sha256_bytes(received)
        if self.cache is not None:
            self.cache.add(received, self.suffix, sha256)
        return received, sha256, len(received)

    def _collect(self, response: _Response) -> bytes:
        pieces, held = [], 0
        for piece in response.pieces:
            pieces.append(piece)
            held += len(piece)
            if response.size is None:
                self.progress.claim(held)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


@dataclass
class _FileConsumer:
    """Returns the path of a local copy."""

    cache: BlobCache
    suffix: str
    progress: Progress

    def from_copy(self, known: UrlCopy) -> Path | None:
        return self.cache.find(known.sha256, self.suffix)

    def receive(self, response: _Response) -> tuple[Path, str, int]:
        digest, size = hashlib.sha256(), 0
        with _evict_when_full(self.cache, response.size), self.cache.create_copy() as copy:
            for piece in response.pieces:
                digest.update(piece)
                copy.write(piece)
                size += len(piece)
            return copy.publish(digest.hexdigest(), self.suffix), digest.hexdigest(), size

    def store(self, received: tuple[Path, str, int]) -> tuple[Path, str, int]:
        return received


def _read_into_map(response: _Response, size: int) -> mmap:
    """Returns the bytes in a map, because joined chunks would be in memory twice and malloc would keep the memory."""
    memory, held = mmap(-1, size), 0
    for piece in response.pieces:
        if held + len(piece) > size:
            raise ConnectionError(f"the server sent more than the announced {size} bytes")
        memory[held : held + len(piece)] = piece
        held += len(piece)
    return memory


def _read_stream(stream: BinaryIO) -> bytes:
    return stream.read()


def open_reference(text: str) -> BinaryIO:
    """Returns the file at a path or URL, open for reading and seekable.

    Raises:
        MissingFileError: the file does not exist.
        UnsupportedError: URLs with this scheme are not fetched.
        FileError: the file cannot be opened.

    Example:
        >>> open_reference("ftp://host/cat.jpg")
        Traceback (most recent call last):
        lakefeed.errors.UnsupportedError: cannot fetch 'ftp://host/cat.jpg': 'file', 'http', 'https', 's3', 's3a', \
    'gs', 'gcs', 'memory' and local paths are read. Download the file and save its path instead
    """
    path = local_path(text)
    try:
        if path is not None:
            return _open_local(path)
        if scheme(text) == "memory":
            return cast(BinaryIO, filesystem("memory://")[0].open(text, "rb"))
        _check_scheme(text)
        return Fetch().open_spooled(text)
    except LakefeedError:
        raise
    except FileNotFoundError:
        where = f" (looked in {Path.cwd()})" if path is not None and not path.is_absolute() else ""
        raise MissingFileError(f"there is no file {display_url(text)}{where}") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise FileError(f"cannot open {display_url(text)}: {error}") from error


def _open_local(path: Path) -> BinaryIO:
    # Checked first: opening a pipe may block, and reading a device may never end.
    if not stat.S_ISREG(path.stat().st_mode):
        raise FileError(f"{display_url(str(path))} is not a regular file")
    return path.open("rb")


def _is_elsewhere(text: str) -> bool:
    """Returns whether a text is a URL of another machine."""
    kind = scheme(text)
    return kind not in LOCAL_SCHEMES and kind != "memory"


def _check_scheme(text: str) -> None:
    if scheme(text) not in FETCHED_SCHEMES:
        raise UnsupportedError(
            f"cannot fetch {display_url(text)}: {quoted_list(FETCHED_SCHEMES)} and local paths are read. "
            "Download the file and save its path instead"
        )


@contextmanager
def _evict_when_full(cache: BlobCache, size: int | None) -> Iterator[None]:
    """Evicts copies if the disk is full, and raises an error that leads to a retry if that has freed space."""
    try:
        yield
    except OSError as error:
        if error.errno not in FULL_ERRNO or (isinstance(error, FileError) and not isinstance(error, StorageFullError)):
            raise
        evicted = cache.eviction.evict((size or 0) + SPARE_BYTES)
        if evicted:
            raise ConnectionError("the disk was full; copies were evicted") from error
        raise StorageFullError(
            f"there is no space in the cache {str(cache.directory)!r}: {error.strerror}. Free disk space, set "
            "LAKEFEED_CACHE_DIR to another one, or load the files as bytes",
            error.errno,
            str(cache.directory),
            error.free_bytes if isinstance(error, StorageFullError) else None,
        ) from error
