"""Lazy handles: the Python values of the cells of file columns."""

from __future__ import annotations

import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar, TypeAlias

from lakefeed.errors import FileError, InvalidArgumentError, StorageError
from lakefeed.storage import fetch
from lakefeed.storage.cache import blob_cache
from lakefeed.storage.disk.disk_errors import READ_ONLY_ERRNO
from lakefeed.storage.disk.hashing import sha256_bytes
from lakefeed.storage.urls import display_url, file_name, local_path, suffix

if TYPE_CHECKING:
    from lakefeed.storage.blobs.blob_store import BlobStore
    from lakefeed.storage.fetch import Fetch

Content: TypeAlias = bytes  # inside the class, `bytes` is the method

_NOT_RECORDED = frozenset({"data", "store", "_siblings"})
_TEXT_TYPES = frozenset({str, type(None)})
_CONTENT_TYPES = frozenset({bytes, type(None)})
_SIZE_TYPES = frozenset({int, type(None)})
_EXPECTATIONS = {str: "text (of a path, str(path))", bytes: "bytes", int: "a whole number"}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


class Siblings:
    """The blobs of neighbouring rows. Their locations in the store are looked up together when one blob is read.

    A pickled copy is empty. Thread-safe.
    """

    __slots__ = ("_digests",)

    def __init__(self, digests: Sequence[str] = ()) -> None:
        self._digests = digests

    def look_up(self, store: BlobStore) -> None:
        """Looks up the locations on the first call."""
        digests, self._digests = self._digests, ()
        if digests:
            store.prefetch(digests)

    def __reduce__(self) -> tuple[type[Siblings], tuple[()]]:
        return Siblings, ()


NO_SIBLINGS = Siblings()


@dataclass(frozen=True, slots=True, repr=False, kw_only=True)
class Handle:
    """A file that a row refers to: a blob in the store, a URL or path, or bytes in memory.

    Immutable and picklable (with its store). Only ``bytes``, ``path`` and ``open`` access the file. They verify its
    content against ``sha256`` if that is known.

    Attributes:
        url: the URL or local path of a file that is not in the blob store.
        sha256: the SHA-256 digest of the content, lower-case hex.
        size: the size in bytes.
        content_type: the content type, such as ``"image/png"``.
        filename: the name of the file that was saved.
        data: the content, if the column has not been saved yet.
        store: the blob store that holds the content.

    Raises:
        InvalidArgumentError: an attribute has the wrong type, such as a number for ``url``.

    Example:
        >>> Handle(5)
        Traceback (most recent call last):
        lakefeed.errors.InvalidArgumentError: Handle(url=5): give text (of a path, str(path)), or leave it out
    """

    media: ClassVar[str]

    url: str | None = field(default=None, kw_only=False)
    sha256: str | None = None
    size: int | None = None
    content_type: str | None = None
    filename: str | None = None
    data: Content | None = None
    store: BlobStore | None = field(default=None, compare=False)
    _siblings: Siblings = field(default=NO_SIBLINGS, compare=False)

    def __post_init__(self) -> None:
        # A fast check of the types first: handles are created for every cell that is read.
        if not (
            type(self.url) in _TEXT_TYPES
            and type(self.sha256) in _TEXT_TYPES
            and type(self.content_type) in _TEXT_TYPES
            and type(self.filename) in _TEXT_TYPES
            and type(self.data) in _CONTENT_TYPES
            and type(self.size) in _SIZE_TYPES
        ):
            self._check()

    def _check(self) -> None:
        kinds: dict[str, type] = {"data": Content, "size": int}
        for name in ("url", "sha256", "content_type", "filename", "data", "size"):
            value, kind = getattr(self, name), kinds.get(name, str)
            if isinstance(value, bool) or not isinstance(value, kind | None):
                raise InvalidArgumentError(
                    f"{type(self).__name__}({name}={value!r:.80}): give {_EXPECTATIONS[kind]}, or leave it out"
                )

    def bytes(self) -> Content:
        """Returns the content.

        Raises:
            MissingFileError: the file does not exist.
            IntegrityError: the content does not have the digest ``sha256``.
            RefusedTargetError: the egress policy does not allow the URL.
            UnsupportedError: the URL scheme is not supported.
            FileError: the file cannot be read.
        """
        if self.data is not None:
            return self.data
        if self.sha256 is not None and self.store is not None:
            self._siblings.look_up(self.store)
            return self.store.read(self.sha256, self.suffix)
        content = self._fetch().read(self._reference(), self.suffix)
        if self.sha256 is not None:
            blob_cache.require_digest(self.sha256, sha256_bytes(content), display_url(self._reference()))
        return content

    def path(self) -> Path:
        """Returns a local file with the content: the referenced local file, or a read-only copy with its extension.

        Raises:
            MissingFileError: the file does not exist.
            IntegrityError: the content does not have the digest ``sha256``.
            RefusedTargetError: the egress policy does not allow the URL.
            UnsupportedError: the URL scheme is not supported.
            FileError: the file cannot be read, or the handle has no store for a local copy.
        """
        if self.data is None and self.sha256 is not None and self.store is not None:
            self._siblings.look_up(self.store)
            return self.store.local_path(self.sha256, self.suffix)
        if self.data is not None:
            return self._require_store().cached_bytes(self.data, self.suffix)
        reference = self._reference()
        if local_path(reference) is None:
            self._require_store()
        return self._fetch().path(reference, self.suffix)

    def open(self) -> BinaryIO:
        """Opens the content as a seekable binary file.

        Of a large blob that is stored in chunks, only those chunks are read and verified that the caller reads.

        Raises:
            MissingFileError: the file does not exist.
            IntegrityError: the content does not have the digest ``sha256``.
            RefusedTargetError: the egress policy does not allow the URL.
            UnsupportedError: the URL scheme is not supported.
            FileError: the file cannot be read.
        """
        if self.data is not None or self.store is None:
            return io.BytesIO(self.bytes())
        try:
            if self.sha256 is not None:
                self._siblings.look_up(self.store)
                return self.store.open(self.sha256, self.suffix)
            path = self.path()
        except StorageError as error:
            if error.errno not in READ_ONLY_ERRNO:
                raise
            return io.BytesIO(self.bytes())  # the cache takes no copy, but the content can be read
        return path.open("rb")

    @property
    def suffix(self) -> str:
        """The extension in lower case with its dot; empty if there is none."""
        return suffix(self.name)

    @property
    def name(self) -> str:
        """The name of the file; empty if unknown."""
        return self.filename or (file_name(self.url) if self.url is not None else "")

    @property
    def location(self) -> str | None:
        """The URL of the blob if the content is in the store, else ``url``."""
        return self.store.locate(self.sha256) if self.sha256 is not None and self.store is not None else self.url

    @property
    def length(self) -> int | None:
        """The size in bytes; None if unknown."""
        return len(self.data) if self.data is not None else self.size

    def record(self) -> dict[str, Any]:
        """Returns the record that the table stores for this file.

        Example:
            >>> Handle("s3://bucket/cat.jpg").record()["url"]
            's3://bucket/cat.jpg'
        """
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name not in _NOT_RECORDED}

    def _repr_parts(self) -> list[str]:
        digest = f"sha256={self.sha256[:12]}…" if self.sha256 is not None else None
        shown_name = display_url(self.filename or self.url or "") if self.filename or self.url else None
        details = (shown_name, *self._details(), self.content_type, human_size(self.length), digest)
        return [detail for detail in details if detail is not None]

    def _details(self) -> list[str]:
        """Returns details that are specific to the media type, such as ``"640x480"``."""
        return []

    def _reference(self) -> str:
        if self.url is not None:
            return self.url
        reason = "it is not bound to a blob store" if self.sha256 is not None else "it has neither url nor sha256"
        raise FileError(f"{self!r} cannot be read: {reason}. Read the row through a Dataset")

    def _fetch(self) -> Fetch:
        return fetch.Fetch(blob_cache.BlobCache(self.store.cache_dir) if self.store is not None else None)

    def _require_store(self) -> BlobStore:
        if self.store is None:
            raise FileError(f"{self!r} has no store for a local copy; use bytes() or open()")
        return self.store

    def __repr__(self) -> str:
        return f"{type(self).__name__}({', '.join(self._repr_parts())})"

    def _repr_html_(self) -> str:
        return self._html_repr()

    def _html_repr(self, problem: Exception | None = None) -> str:
        reason = f" <small>{html.escape(str(problem))}</small>" if problem is not None else ""
        return f"<code>{html.escape(repr(self))}</code>{reason}"


def human_size(size: int | None) -> str | None:
    if size is None:
        return None
    power = min(max(size.bit_length() - 1, 0) // 10, len(_UNITS) - 1)
    return f"{size / 1024**power:.{1 if power else 0}f} {_UNITS[power]}"
