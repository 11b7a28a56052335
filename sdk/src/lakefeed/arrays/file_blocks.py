"""Parts of a remote file for the HDF5 library. A read of a missing part fails at once; it is fetched later."""

from __future__ import annotations

import io
from typing import Any, BinaryIO, Final

from lakefeed._units import KIB, MIB

BLOCK_BYTES: Final = 256 * KIB
MOST_AHEAD: Final = 4 * MIB // BLOCK_BYTES
PATIENCE: Final = 32
"""After so many fetches of one file, reads wait for what is missing."""


class FileBlocks(io.RawIOBase):
    """A seekable stream of the parts of a file that were fetched.

    A read of another part fails; `fetch_missing` fetches it. Parts that follow one another are fetched in growing
    steps.

    Args:
        stream: the file.
    """

    def __init__(self, stream: BinaryIO) -> None:
        super().__init__()
        self._stream = stream
        self._size = stream.seek(0, io.SEEK_END)
        self._position = 0
        self._blocks: dict[int, bytes] = {}
        self._missing: int | None = None
        self._last, self._ahead, self._fetches = -1, 1, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        done, left = 0, min(len(view), max(self._size - self._position, 0))
        while done < left:
            number, start = divmod(self._position, BLOCK_BYTES)
            if number not in self._blocks:
                self._missing = number
                if self._fetches < PATIENCE:
                    raise OSError("a part of the file was not fetched yet")
                self.fetch_missing()
            part = self._blocks[number][start : start + left - done]
            if not part:
                raise EOFError("the file ends before its end")
            view[done : done + len(part)] = part
            done += len(part)
            self._position += len(part)
        return done

    @property
    def is_complete(self) -> bool:
        """True if no read since the last fetch lacked a part."""
        return self._missing is None

    def fetch_missing(self) -> None:
        """Fetches what the last read lacked.

        Raises:
            EOFError: the file ends before its end.
        """
        assert self._missing is not None, "the caller has looked"
        first, self._missing = self._missing, None
        self._ahead = min(self._ahead * 2, MOST_AHEAD) if first == self._last + 1 else 1
        self._fetches += 1
        self._last = first + self._ahead - 1
        self._stream.seek(first * BLOCK_BYTES)
        content = self._stream.read(min(self._ahead * BLOCK_BYTES, self._size - first * BLOCK_BYTES))
        for number in range(self._ahead):
            part = content[number * BLOCK_BYTES : (number + 1) * BLOCK_BYTES]
            if part:
                self._blocks[first + number] = part
        if first not in self._blocks:
            raise EOFError("the file ends before its end")
