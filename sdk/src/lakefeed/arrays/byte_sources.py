"""Files of which ranges of bytes are read: local files, URLs, and contents of a blob store."""

from __future__ import annotations

import hashlib
import io
import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import BoundedSemaphore
from time import time_ns
from typing import Any, BinaryIO, Final, Protocol, cast, runtime_checkable

from lakefeed import _paths
from lakefeed._units import KIB
from lakefeed.arrays.decode_threads import thread_count
from lakefeed.config import Settings
from lakefeed.errors import FormatError, InvalidArgumentError
from lakefeed.storage.cache.file_fingerprints import FileFingerprints, fingerprint_row, status_fingerprint
from lakefeed.storage.disk.file_identity import Identities
from lakefeed.storage.disk.hashing import sha256_file, sha256_stream
from lakefeed.storage.disk.local_file import LocalFile
from lakefeed.storage.remote.retrying_file import (
    access_errors,
    check_unchanged,
    identity_at,
    open_retrying,
)
from lakefeed.storage.urls import display_url, local_path

AHEAD_BYTES: Final = 64 * KIB
NO_AHEAD: Final = 1
BUFFER_BYTES: Final = 64 * KIB
MAX_STREAMS: Final = 8
HEAD_BYTES: Final = 64
"""Of a file, recorded with its digest, as its content type is told by them."""


@runtime_checkable
class FileHandle(Protocol):
    """A file that a row refers to, such as `lakefeed.File`."""

    url: str | None
    sha256: str | None
    store: Any

    @property
    def name(self) -> str: ...
    def open(self) -> BinaryIO: ...
    def path(self) -> Path: ...


class ByteSource(Protocol):
    """A file of which ranges are read, in any thread and process. Picklable, safe between threads and over forks.

    All reads see one state of the file; a file that was changed meanwhile is a ChangedFileError.
    """

    @property
    def name(self) -> str:
        """The path or URL, for messages."""
        ...

    @property
    def parallel(self) -> int:
        """The number of reads that are worth doing at the same time."""
        ...

    def read(self, start: int, size: int) -> bytes:
        """Returns bytes from ``start``; fewer at the end of the file."""
        ...

    def open(self) -> BinaryIO:
        """Returns a seekable stream for one thread. The caller closes it."""
        ...

    def content_key(self) -> str:
        """Returns hex digits that differ for different contents."""
        ...


@dataclass(frozen=True)
class LocalBytes:
    """A local file. It is opened for each read, so that no descriptor stays open.

    Attributes:
        path: the absolute path.
        name: the path as it was given, for messages.
        states: the state that the file must have.
    """

    path: str
    name: str
    states: Identities = field(default_factory=Identities, compare=False, repr=False)

    @property
    def parallel(self) -> int:
        return thread_count()

    def read(self, start: int, size: int) -> bytes:
        with access_errors(self.name), LocalFile(self.name, self.path, self.states) as file:
            pieces, left = [], size
            while left and (piece := os.pread(file.fileno(), left, start + size - left)):  # a call takes at most 2 GiB
                pieces.append(piece)
                left -= len(piece)
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def open(self) -> BinaryIO:
        with access_errors(self.name):
            return _buffered(LocalFile(self.name, self.path, self.states))

    def content_key(self) -> str:
        """Returns the SHA-256. Files that were hashed before are not read again."""
        with access_errors(self.name):
            status = os.stat(self.path)  # noqa: PTH116
        known = FileFingerprints(Settings.load().cache)
        (content,) = known.find([(self.path, status_fingerprint(status))])
        if content is not None:
            return content[0].hex()
        read_ns = time_ns()
        with access_errors(self.name):
            digest, _ = sha256_file(self.path)
        row = fingerprint_row(self.path, status, read_ns, bytes.fromhex(digest), self.read(0, HEAD_BYTES))
        known.add([] if row is None else [row])
        return digest


class StreamBytes:
    """A file that is read by streams, of which several are open at a time. Each process opens its own.

    The list of idle streams has no lock, because the garbage collector may call `close` at any place in any thread.

    Args:
        name: the name of the file, for messages.
        opener: opens a stream, given the number of bytes to fetch beyond those asked for; pickled with this.
        key: hex digits that identify the content.
        most: the number of streams that may be open.
    """

    def __init__(self, name: str, opener: Callable[[int], BinaryIO], key: str | None, most: int = MAX_STREAMS) -> None:
        self._name, self._opener, self._key, self._most = name, opener, key, most
        self._reset()

    def _reset(self) -> None:
        self._process = os.getpid()
        self._idle: list[BinaryIO] = []
        weakref.finalize(self, _close_all, self._idle, self._process).atexit = False
        self._turns = BoundedSemaphore(self._most)

    @property
    def name(self) -> str:
        return self._name

    @property
    def parallel(self) -> int:
        return self._most

    def read(self, start: int, size: int) -> bytes:
        with self._stream() as stream:
            stream.seek(start)
            return stream.read(size)

    def open(self) -> BinaryIO:
        return _buffered(self._opener(AHEAD_BYTES))

    def content_key(self) -> str:
        if self._key is None:
            with closing(self.open()) as stream:
                self._key = sha256_stream(stream)[0]
        return self._key

    def close(self) -> None:
        """Closes the streams that are idle. A later read opens another one."""
        _close_all(self._idle, self._process)

    @contextmanager
    def _stream(self) -> Iterator[BinaryIO]:
        if self._process != os.getpid():  # the streams belong to the parent
            self._reset()
        with self._turns:
            stream = _pop(self._idle) or self._opener(NO_AHEAD)
            try:
                yield stream
            except BaseException:
                stream.close()
                raise
            self._idle.append(stream)

    def __getstate__(self) -> dict[str, Any]:
        return {"_name": self._name, "_opener": self._opener, "_key": self._key, "_most": self._most}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._reset()


def _close_all(streams: list[BinaryIO], process: int) -> None:
    while os.getpid() == process and (stream := _pop(streams)) is not None:
        stream.close()


def _pop(streams: list[BinaryIO]) -> BinaryIO | None:
    """Returns the last stream and removes it. Safe between threads."""
    try:
        return streams.pop()
    except IndexError:
        return None


def byte_source(file: Any, states: Identities | None = None) -> ByteSource:
    """Returns the source of a path, a URL or a handle of a file.

    Args:
        file: the file.
        states: the states that files at paths and URLs must have, which are recorded there.

    Raises:
        InvalidArgumentError: it is none of these.
        MissingFileError: the file does not exist.
    """
    if isinstance(file, str | os.PathLike):
        return _source_at(os.fspath(file), Identities() if states is None else states)
    if isinstance(file, FileHandle):
        return _source_of_handle(file)
    raise InvalidArgumentError(f"a file must be a path, a URL or a file of a dataset, got {file!r:.80}")


def _source_at(url: Any, states: Identities) -> ByteSource:
    if not isinstance(url, str) or not _paths.is_storable(url):
        raise InvalidArgumentError(f"a file must be a path, a URL or a file of a dataset, got {url!r:.80}")
    path = local_path(url)
    if path is not None:
        source = LocalBytes(os.path.abspath(path), url, states)  # noqa: PTH100 - links stay as they are
        source.read(0, 1)
        return source
    identity = identity_at(url, states)
    validator = identity.tag or identity.modified
    key = None if validator is None else hashlib.sha256(f"{url} {validator} {identity.size}".encode()).hexdigest()
    return StreamBytes(display_url(url).strip("'"), partial(_open_url, url, states), key)


def _source_of_handle(handle: FileHandle) -> ByteSource:
    name = handle.name or handle.sha256 or "a file without a name"
    if handle.sha256 is not None and handle.store is not None:
        return StreamBytes(name, partial(_open_handle, handle), handle.sha256)
    if handle.url is not None and handle.sha256 is None:
        return _source_at(str(handle.path()) if local_path(handle.url) is not None else handle.url, Identities())
    return StreamBytes(name, partial(_open_handle, handle), handle.sha256, most=1)  # the stream holds the whole content


def _open_url(url: str, states: Identities, ahead: int) -> BinaryIO:
    return cast(BinaryIO, open_retrying(url, ahead, states))


def _open_handle(handle: FileHandle, ahead: int) -> BinaryIO:
    return handle.open()


def check_suffix(source: ByteSource, suffixes: tuple[str, ...]) -> None:
    """Raises FormatError if the name of a file has an extension that is not one of ``suffixes``."""
    path = source.name.partition("?")[0].lower() if "://" in source.name else source.name.lower()
    extension = os.path.splitext(path)[1]  # noqa: PTH122 - a URL is not a path
    if extension not in suffixes and not (isinstance(source, StreamBytes) and not extension):
        raise FormatError(f"{source.name}: files of annotated matrices end in {' or '.join(suffixes)}")


@contextmanager
def opened(source: ByteSource) -> Iterator[BinaryIO]:
    """Yields a stream of a source. An error of a read takes the place of the error that it caused in a parser."""
    with closing(source.open()) as stream:
        try:
            yield stream
        except BaseException:
            with suppress(AttributeError):
                check_unchanged(cast(Any, stream).raw)
            raise


def _buffered(stream: Any) -> BinaryIO:
    return cast(BinaryIO, stream if isinstance(stream, io.BufferedIOBase) else io.BufferedReader(stream, BUFFER_BYTES))
