"""Local files that must not change while they are read, and reads of bytes that are in memory already."""

from __future__ import annotations

import errno
import io
import os
import stat
from typing import Any

from lakefeed.storage.disk.file_identity import Identities, check_same, identity_of_status

NOWAIT = getattr(os, "RWF_NOWAIT", 0)
"""The flag of a read that does not wait for the disk. Systems without the flag wait."""


class LocalFile(io.FileIO):
    """A local file, open for reading. A read raises ChangedFileError if another program has written to the file.

    A new file that replaces this one under its path is ignored.
    """

    def __init__(self, url: str, path: str, states: Identities | None = None) -> None:
        super().__init__(path, "rb")
        self._url = url
        status = os.fstat(self.fileno())
        self._regular = stat.S_ISREG(status.st_mode)
        self._identity = identity_of_status(status)
        if states is not None and self._regular:
            try:
                states.confirm(url, self._identity)
            except BaseException:
                self.close()
                raise

    def read(self, size: int | None = -1, /) -> bytes:
        piece = super().read(-1 if size is None else size) or b""
        self.confirm()
        return piece

    def readall(self) -> bytes:
        whole = super().readall() or b""
        self.confirm()
        return whole

    def readinto(self, buffer: Any, /) -> int:
        size = super().readinto(buffer) or 0
        self.confirm()
        return size

    def confirm(self) -> None:
        """Raises ChangedFileError if the file was written to since it was opened."""
        if self._regular and not self.closed:
            check_same(self._url, self._identity, identity_of_status(os.fstat(self.fileno())))


def read_cached(descriptor: int, target: memoryview, start: int = 0) -> int:
    """Fills ``target`` from ``start`` of a file with bytes that the system has in memory; returns their number."""
    try:
        return os.preadv(descriptor, [target], start, NOWAIT)
    except OSError as error:
        if error.errno == errno.EAGAIN:
            return 0
        if error.errno != errno.EOPNOTSUPP:
            raise
        return os.preadv(descriptor, [target], start)
