"""A seekable stream of a content that is stored as chunks."""

from __future__ import annotations

import hashlib
import io
from collections import OrderedDict
from typing import Final, Protocol

import numpy as np

from lakefeed._units import KIB, MIB
from lakefeed.errors import IntegrityError, MissingFileError
from lakefeed.storage.blobs.content_reads import READ_BYTES, ContentReader
from lakefeed.storage.blobs.recipes import Parts, Recipe

MAX_LOADED_BYTES: Final = 16 * MIB
FIRST_AHEAD_BYTES: Final = 512 * KIB
MAX_GROUPS: Final = 16


class ChunkCache(Protocol):
    """Copies of chunks on this machine. ``read`` returns None for a chunk without a copy."""

    def read(self, sha256: str) -> bytes | None: ...
    def add(self, data: bytes, suffix: str, sha256: str) -> object: ...


class ChunkedFile(io.RawIOBase):
    """Reads the chunks that a read needs. Reads ahead while a caller reads on from the end of the last read.

    Holds at most about 24 MiB. For one thread.

    Args:
        contents: reads the chunks.
        recipes: the recipes of the content. A later one is used if a chunk of an earlier one is missing.
        verify: whether to verify each chunk. A reader that verifies the whole content needs no more.
        cache: copies of chunks, for stores that are far away.
    """

    def __init__(
        self, contents: ContentReader, recipes: list[Recipe], *, verify: bool, cache: ChunkCache | None = None
    ) -> None:
        self._contents = contents
        self._recipe, self._other_recipes = recipes[0], recipes[1:]
        self._verify = verify
        self._cache = cache
        self._position = 0
        self._groups: OrderedDict[int, Parts] = OrderedDict()
        self._loaded: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        self._loaded_bytes = 0
        self._next: tuple[int, int] | None = (0, 0) if not verify else None
        self._ahead = 0 if verify else READ_BYTES

    @property
    def size(self) -> int:
        """The size of the content in bytes."""
        return self._recipe.size

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self._check_open()
        position = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence] + offset
        if position < 0:
            raise ValueError(f"negative seek position {position}")
        self._position = position
        return position

    def readinto(self, target: memoryview) -> int:  # type: ignore[override]
        self._check_open()
        view = memoryview(target).cast("B")
        total = min(len(view), max(self.size - self._position, 0))
        done = 0
        while done < total:
            start, data = self._chunk_at(self._position, total - done)
            part = data[self._position - start : self._position - start + total - done]
            view[done : done + len(part)] = part
            done += len(part)
            self._position += len(part)
        return done

    def readall(self) -> bytes:
        """Returns the rest of the content."""
        rest = io.BytesIO()
        while piece := self.read(READ_BYTES):
            rest.write(piece)
        return rest.getvalue()

    def _check_open(self) -> None:
        if self.closed:
            raise ValueError("I/O operation on closed file")

    def _chunk_at(self, position: int, wanted: int) -> tuple[int, bytes]:
        """Returns the chunk that holds the byte at a position, and the position of the chunk."""
        while True:
            group, base = self._group_at(position)
            parts = self._parts(group)
            number = int(np.searchsorted(parts.ends, position - base, side="right"))
            start = base + (int(parts.ends[number - 1]) if number else 0)
            data = self._loaded.get((group, number)) or self._load(group, number, wanted + position - start)
            if data is not None:
                self._loaded.move_to_end((group, number))
                return start, data
            data = self._read_whole(start, parts, number)
            if data is not None:
                return start, data
            if not self._other_recipes:
                self._contents.index.mark_lost(self._recipe.sha256.hex())
                raise MissingFileError(
                    f"the blob store has lost the bytes {start}-{base + int(parts.ends[number]) - 1} of the blob "
                    f"{self._recipe.sha256.hex()}: it has no chunk {parts.digest(number).hex()}"
                )
            self._recipe = self._other_recipes.pop(0)
            self._groups.clear()
            self._loaded.clear()
            self._loaded_bytes = 0

    def _group_at(self, position: int) -> tuple[int, int]:
        """Returns the number and the position of a group. A recipe of chunks has one."""
        if not self._recipe.is_grouped:
            return 0, 0
        ends = self._recipe.parts.ends
        group = int(np.searchsorted(ends, position, side="right"))
        return group, int(ends[group - 1]) if group else 0

    def _parts(self, group: int) -> Parts:
        if not self._recipe.is_grouped:
            return self._recipe.parts
        if group not in self._groups:
            self._groups[group] = Parts(self._contents.read(self._recipe.parts.digest(group)))
            if len(self._groups) > MAX_GROUPS:
                self._groups.popitem(last=False)
        return self._groups[group]

    def _load(self, group: int, number: int, wanted: int) -> bytes | None:
        """Reads a chunk, and those after it as far as they are wanted. Returns None if the store lacks the chunk."""
        parts = self._parts(group)
        is_sequential = (group, number) == self._next
        self._ahead = min(max(2 * self._ahead, FIRST_AHEAD_BYTES), READ_BYTES) if is_sequential else 0
        start = int(parts.ends[number - 1]) if number else 0
        stop = start + min(max(wanted, self._ahead), READ_BYTES)
        last = max(int(np.searchsorted(parts.ends, stop, side="left")), number)
        numbers = range(number, min(last + 1, len(parts)))
        contents = self._read_chunks([parts.digest(each) for each in numbers if (group, each) not in self._loaded])
        for each in numbers:
            if (data := contents.get(parts.digest(each))) is not None and (group, each) not in self._loaded:
                self._loaded[group, each] = data
                self._loaded_bytes += len(data)
        is_last = numbers.stop == len(parts)
        self._next = (group + 1, 0) if is_last else (group, numbers.stop)
        while self._loaded_bytes > MAX_LOADED_BYTES:
            self._loaded_bytes -= len(self._loaded.popitem(last=False)[1])
        return contents.get(parts.digest(number))

    def _read_chunks(self, digests: list[bytes]) -> dict[bytes, bytes]:
        copies: dict[bytes, bytes] = {}
        if self._cache is not None:
            for digest in digests:
                if (copy := self._cache.read(digest.hex())) is not None:
                    copies[digest] = copy
        try:
            fresh = self._contents.read_all([each for each in digests if each not in copies], self._verify)
        except IntegrityError as error:
            raise IntegrityError(f"a chunk of the blob {self._recipe.sha256.hex()} is damaged: {error}") from error
        if self._cache is not None:
            for digest, data in fresh.items():
                self._cache.add(data, "", digest.hex())
        return copies | fresh

    def _read_whole(self, start: int, parts: Parts, number: int) -> bytes | None:
        """Returns a chunk from a stand-alone blob of the whole content, which older versions have written."""
        length = int(parts.ends[number]) - (int(parts.ends[number - 1]) if number else 0)
        try:
            with self._contents.open_single(self._recipe.sha256.hex()) as stream:
                stream.seek(start)
                data = stream.read(length)
        except (FileNotFoundError, NotADirectoryError):
            return None
        return data if hashlib.sha256(data).digest() == parts.digest(number) else None
