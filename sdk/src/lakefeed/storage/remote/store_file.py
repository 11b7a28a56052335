"""A file in an object store, or another remote file system of fsspec, that must not change while it is read."""

from __future__ import annotations

from typing import Any

from lakefeed.errors import ChangedFileError
from lakefeed.storage.disk.file_identity import Identity, check_same, identity_of_info
from lakefeed.storage.remote.range_buffer import RangeBuffer
from lakefeed.storage.urls import display_url


class StoreFile:
    """The file at a path of a file system. ``identity`` is its state. Not safe between threads.

    Requests to S3 carry the ETag (``If-Match``). The libraries of other stores have no such condition, so `confirm`
    asks these stores for the state again. Ranges ahead are fetched in threads where the file system is safe in them.
    """

    ranged = True

    def __init__(self, url: str, fs: Any, path: str, ahead: int, identity: Identity | None) -> None:
        """Opens the file.

        Args:
            url: the URL, for messages.
            fs: the file system.
            path: the path in the file system.
            ahead: the number of bytes to fetch beyond those asked for.
            identity: the state that the file must have.

        Raises:
            ChangedFileError: the file is in another state.
        """
        self._url, self._fs, self._path = url, fs, path
        self._file = fs.open(path, "rb", block_size=ahead, cache_type="readahead")
        self._conditional = "IfMatch" in (getattr(self._file, "read_kw", None) or {})
        self._unconfirmed = False
        self._position = 0
        fetch = getattr(self._file, "_fetch_range", None)  # what fsspec's own caches call
        if not getattr(fs, "async_impl", False):  # not known to be safe between threads
            fetch = None
        self._buffer = None if fetch is None else RangeBuffer(fetch, ahead)
        self.identity = identity_of_info(getattr(self._file, "details", None) or fs.info(path))
        if identity is not None:
            check_same(url, identity, self.identity)

    @property
    def size(self) -> int | None:
        """The size in bytes; None if it is not known."""
        size: int | None = getattr(self._file, "size", None)
        return size

    def seek(self, position: int) -> None:
        """Moves to a position."""
        self._position = position

    def read(self, size: int) -> bytes:
        """Returns at most ``size`` bytes; none at the end.

        Raises:
            ChangedFileError: the store has another file at this path now.
        """
        try:
            piece = self._read(size)
        except OSError as error:
            if not is_expired(error):
                raise
            raise ChangedFileError(
                f"{display_url(self._url)} changed while it was read: the store no longer has ETag "
                f"{self.identity.tag}. Read it again once the file is complete"
            ) from None
        self._position += len(piece)
        self._unconfirmed = self._unconfirmed or (bool(piece) and not self._conditional)
        return piece

    def _read(self, size: int) -> bytes:
        if self._buffer is not None and self.size is not None:
            return self._buffer.read(self._position, size, self.size) if self._position < self.size else b""
        if self._file.tell() != self._position:
            self._file.seek(self._position)
        piece: bytes = self._file.read(size)
        return piece

    def confirm(self) -> None:
        """Raises ChangedFileError if the state of the file differs from the state that was read."""
        if self._unconfirmed:
            self._fs.invalidate_cache()  # else fsspec may return cached information
            check_same(self._url, self.identity, identity_of_info(self._fs.info(self._path)))
            self._unconfirmed = False

    def close(self) -> None:
        """Closes the file."""
        if self._buffer is not None:
            self._buffer.close()
        self._file.close()


def is_expired(error: BaseException) -> bool:
    """Returns whether a store refused a read because its condition (``If-Match``) no longer holds."""
    return type(error).__name__ == "FileExpired" or "pre-conditions" in str(error)
