"""A file in an object store, or another far file system of fsspec, that must stay the same while it is read."""

from __future__ import annotations

from typing import Any

from lakefeed.errors import ChangedFileError
from lakefeed.storage.disk.file_identity import Identity, check_same, identity_of_info
from lakefeed.storage.urls import display_url


class StoreFile:
    """The file at a path of a file system. ``identity`` is its state.

    An S3 is told the ETag with each request (``If-Match``). Other stores are asked again for the state by `confirm`,
    since their libraries do not pass on such a condition. For one thread at a time.
    """

    ranged = True

    def __init__(self, url: str, fs: Any, path: str, ahead: int, identity: Identity | None) -> None:
        """Opens the file.

        Args:
            url: where it is, for messages.
            fs: its file system.
            path: its path there.
            ahead: bytes to fetch beyond what is asked for.
            identity: the state in which it has to be.

        Raises:
            ChangedFileError: it is in another state.
        """
        self._url, self._fs, self._path = url, fs, path
        self._file = fs.open(path, "rb", block_size=ahead, cache_type="readahead")
        self._conditional = "IfMatch" in (getattr(self._file, "read_kw", None) or {})
        self._unconfirmed = False
        self.identity = identity_of_info(getattr(self._file, "details", None) or fs.info(path))
        if identity is not None:
            check_same(url, identity, self.identity)

    @property
    def size(self) -> int | None:
        """The bytes of the file, where they are known."""
        size: int | None = getattr(self._file, "size", None)
        return size

    def seek(self, place: int) -> None:
        """Goes to a place."""
        self._file.seek(place)

    def read(self, size: int) -> bytes:
        """Some bytes, at most ``size``; none at the end.

        Raises:
            ChangedFileError: the store has another file there now.
        """
        try:
            piece: bytes = self._file.read(size)
        except OSError as error:
            if not is_expired(error):
                raise
            raise ChangedFileError(
                f"{display_url(self._url)} changed while it was read: the store does not have ETag "
                f"{self.identity.tag} there any more. Call from_file again once the file is complete"
            ) from None
        self._unconfirmed = self._unconfirmed or (bool(piece) and not self._conditional)
        return piece

    def confirm(self) -> None:
        """Raises ChangedFileError where the file is in another state than what was read of it."""
        if self._unconfirmed:
            self._fs.invalidate_cache()  # else fsspec may repeat what it saw before
            check_same(self._url, self.identity, identity_of_info(self._fs.info(self._path)))
            self._unconfirmed = False

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def is_expired(error: BaseException) -> bool:
    """Whether a store refused to read on because its condition (``If-Match``) does not hold."""
    return type(error).__name__ == "FileExpired" or "pre-conditions" in str(error)
