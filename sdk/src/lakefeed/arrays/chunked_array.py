"""Values of an HDF5 dataset, read by its chunks in threads."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed._units import KIB, MIB
from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.chunk_decoding import DECODE_ERRORS, decode_chunk
from lakefeed.arrays.chunk_locations import MISSING
from lakefeed.arrays.decode_threads import run_in_threads
from lakefeed.arrays.hdf5_layout import ChunkLayout, open_hdf5
from lakefeed.errors import FormatError

Values: TypeAlias = npt.NDArray[Any]
Box: TypeAlias = tuple[slice, ...]
CopyChunk: TypeAlias = Callable[[int, Box, Values], None]
"""Uses a chunk, given its number and the part of the dataset that it holds."""

GAP_BYTES: Final = 64 * KIB
"""Other bytes up to this length are read too, because another read would take longer."""
GROUP_BYTES: Final = 2 * MIB
GROUP_CHUNKS: Final = 64
BANDS_AT_ONCE: Final = 4096
"""Rows of chunks that are located together when all are read."""


class Location(NamedTuple):
    """A chunk in the file."""

    number: int
    offset: int
    size: int
    mask: int


class ChunkCache:
    """Decoded chunks, those that were used last. Thread-safe; a pickled copy is empty.

    Args:
        most: the number of chunks.
        most_bytes: the bytes of all chunks. One chunk may have more.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self._most, self._most_bytes = most, most_bytes
        self._chunks: OrderedDict[Any, Values] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def get(self, key: Any) -> Values | None:
        """Returns a chunk; None if it is not here."""
        with self._lock:
            chunk = self._chunks.get(key)
            if chunk is not None:
                self._chunks.move_to_end(key)
            return chunk

    def add(self, key: Any, chunk: Values) -> None:
        """Adds a chunk in place of those that were not used for the longest time."""
        with self._lock:
            if key in self._chunks:
                return
            self._chunks[key] = chunk
            self._bytes += chunk.nbytes
            while len(self._chunks) > 1 and (len(self._chunks) > self._most or self._bytes > self._most_bytes):
                self._bytes -= self._chunks.popitem(last=False)[1].nbytes

    def clear(self) -> None:
        """Removes all chunks."""
        with self._lock:
            self._chunks.clear()
            self._bytes = 0

    def __reduce__(self) -> tuple[type[ChunkCache], tuple[int, int]]:
        return ChunkCache, (self._most, self._most_bytes)


class ChunkedArray:
    """A dataset with one or two dimensions. Safe between threads, processes and forks; no file stays open.

    Args:
        source: the file.
        layout: the locations of the chunks.
        cache: decoded chunks; None: each read decodes its chunks.
    """

    def __init__(self, source: ByteSource, layout: ChunkLayout, cache: ChunkCache | None = None) -> None:
        self._source, self._layout, self._cache = source, layout, cache
        self._grid = layout.grid

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape."""
        return self._layout.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of the values, in the byte order of this machine."""
        return self._layout.dtype.newbyteorder("=")

    @property
    def rows_per_chunk(self) -> int:
        """The number of rows, or of values in one dimension, that are decoded together."""
        return self._layout.chunks[0]

    def read(self, start: int, stop: int) -> Values:
        """Returns the rows (of one dimension: the values) from ``start`` to before ``stop``.

        Raises:
            FormatError: a chunk is damaged.
            ChangedFileError: the file was changed.
        """
        out = np.empty((max(stop - start, 0), *self.shape[1:]), self.dtype)
        self._read_into(out, start)
        return out

    def visit_all(self, use: Callable[[Box, Values], None], size: int) -> None:
        """Calls ``use`` with each chunk, in several threads. Holds a few decoded chunks at a time.

        Args:
            use: is given the part of the dataset that a chunk holds, and its values.
            size: the number of rows, or values, that are needed; the dataset may have more.
        """
        bands = np.arange(self._row_end(size))
        for start in range(0, len(bands), BANDS_AT_ONCE):
            numbers = self._chunks_of_rows(bands[start : start + BANDS_AT_ONCE])
            self._visit(numbers, lambda _, box, chunk: use(box, chunk))

    def _read_into(self, out: Values, start: int) -> None:
        if not out.size:
            return
        numbers = self._chunks_of_rows(np.arange(start // self.rows_per_chunk, self._row_end(start + len(out))))

        def copy_chunk(_: int, box: Box, chunk: Values) -> None:
            rows, *columns = box
            low, high = max(rows.start, start), min(rows.stop, start + len(out))
            out[(slice(low - start, high - start), *columns)] = chunk[low - rows.start : high - rows.start]

        self._visit(numbers, copy_chunk)

    def take(self, rows: npt.NDArray[np.int64]) -> Values:
        """Returns rows in any order."""
        out = np.empty((len(rows), *self.shape[1:]), self.dtype)
        if not out.size:
            return out
        bands = rows // self.rows_per_chunk
        order = np.argsort(bands, kind="stable")
        unique, first = np.unique(bands[order], return_index=True)
        targets = dict(zip(unique.tolist(), np.split(order, first[1:]), strict=True))

        def copy_chunk(_: int, box: Box, chunk: Values) -> None:
            inside, *columns = box
            target = targets[inside.start // self.rows_per_chunk]
            out[(target, *columns)] = chunk[rows[target] - inside.start]

        self._visit(self._chunks_of_rows(unique), copy_chunk)
        return out

    def take_ranges(self, starts: npt.NDArray[np.int64], stops: npt.NDArray[np.int64]) -> Values:
        """Returns the values of ranges of a dataset of one dimension, one range after the other."""
        ends = np.cumsum(stops - starts)
        out = np.empty(int(ends[-1]) if len(ends) else 0, self.dtype)
        size = self.rows_per_chunk
        pieces: dict[int, list[tuple[int, int, int]]] = {}
        for start, stop, end in zip(starts.tolist(), stops.tolist(), ends.tolist(), strict=True):
            for number in range(start // size, -(-stop // size) if stop > start else 0):
                low, high = max(start, number * size), min(stop, (number + 1) * size)
                pieces.setdefault(number, []).append((low - number * size, high - number * size, end - stop + low))

        def copy_chunk(number: int, _: Box, chunk: Values) -> None:
            for low, high, target in pieces[number]:
                out[target : target + high - low] = chunk[low:high]

        self._visit(np.array(sorted(pieces), np.int64), copy_chunk)
        return out

    def _row_end(self, stop: int) -> int:
        return -(-stop // self.rows_per_chunk)

    def _chunks_of_rows(self, bands: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns the numbers of the chunks in rows of chunks."""
        across = int(np.prod(self._grid[1:], dtype=np.int64))
        return (bands[:, None] * across + np.arange(across)).reshape(-1)

    def _visit(self, numbers: npt.NDArray[np.int64], copy_chunk: CopyChunk) -> None:
        """Calls ``copy_chunk`` for each chunk, in several threads. The numbers ascend."""
        left = numbers if self._cache is None else self._visit_cached(numbers, copy_chunk)
        if not self._layout.direct:
            self._visit_with_h5py(left.tolist(), copy_chunk)
            return
        places = self._layout.locations.find(left, self._source)
        absent = places.offsets == MISSING
        for number in left[absent].tolist():
            box = self._layout.box(number)
            copy_chunk(number, box, np.broadcast_to(np.array(self._layout.fill, self.dtype), _shape(box)))
        stored = [Location(*each) for each in zip(*(part[~absent].tolist() for part in (left, *places)), strict=True)]
        groups = list(_groups(stored))
        threads = min(len(groups), self._source.parallel)
        run_in_threads(lambda group: self._read_group(group, copy_chunk), groups, threads)

    def _visit_cached(self, numbers: npt.NDArray[np.int64], copy_chunk: CopyChunk) -> npt.NDArray[np.int64]:
        """Calls ``copy_chunk`` for the chunks that are in the cache, and returns the numbers of the others."""
        assert self._cache is not None, "the caller has looked"
        left = []
        for number in numbers.tolist():
            chunk = self._cache.get(self._key(number))
            if chunk is None:
                left.append(number)
            else:
                copy_chunk(number, self._layout.box(number), chunk)
        return np.array(left, np.int64)

    def _read_group(self, group: Sequence[Location], copy_chunk: CopyChunk) -> None:
        start = group[0].offset
        content = memoryview(self._source.read(start, group[-1].offset + group[-1].size - start))
        for each in group:
            begin = each.offset - start
            box = self._layout.box(each.number)
            chunk = self._decode(each.mask, box, content[begin : begin + each.size])
            self._remember(each.number, chunk)
            copy_chunk(each.number, box, chunk)

    def _decode(self, mask: int, box: Box, content: memoryview) -> Values:
        layout, shape = self._layout, _shape(box)
        stored = layout.chunks if layout.padded else shape
        size = math.prod(stored) * layout.dtype.itemsize
        try:
            decoded = decode_chunk(content, layout.filters, mask, size)
        except DECODE_ERRORS:
            return self._read_box(box)  # in a way that only HDF5 knows, or damaged
        values: Values = np.frombuffer(decoded, layout.dtype).reshape(stored)
        if stored != shape:
            values = values[tuple(map(slice, shape))]
        return values.astype(self.dtype, copy=False)

    def _read_box(self, box: Box) -> Values:
        with open_hdf5(self._source) as file:
            values: Values = file[self._layout.path][box]
            return values.astype(self.dtype, copy=False)

    def _visit_with_h5py(self, numbers: Sequence[int], copy_chunk: CopyChunk) -> None:
        for start in range(0, len(numbers), GROUP_CHUNKS):
            with open_hdf5(self._source) as file:  # not open for long: nothing is forked meanwhile
                dataset = file[self._layout.path]
                for number in numbers[start : start + GROUP_CHUNKS]:
                    box = self._layout.box(number)
                    chunk = dataset[box].astype(self.dtype, copy=False)
                    self._remember(number, chunk)
                    copy_chunk(number, box, chunk)

    def _key(self, number: int) -> tuple[int, str, int]:
        return id(self._source), self._layout.path, number  # several files may have one name

    def _remember(self, number: int, chunk: Values) -> None:
        if self._cache is not None:
            self._cache.add(self._key(number), chunk)


def _groups(chunks: Sequence[Location]) -> Iterator[list[Location]]:
    """Yields chunks that are read at once."""
    group: list[Location] = []
    for chunk in sorted(chunks, key=attrgetter("offset")):
        if group:
            gap = chunk.offset - group[-1].offset - group[-1].size
            total = chunk.offset + chunk.size - group[0].offset
            if gap > GAP_BYTES or total > GROUP_BYTES or len(group) >= GROUP_CHUNKS:
                yield group
                group = []
        group.append(chunk)
    if group:
        yield group


def _shape(box: Box) -> tuple[int, ...]:
    return tuple(part.stop - part.start for part in box)


def require_sound(condition: bool, name: str, reason: str) -> None:
    """Raises FormatError that names a file unless the condition holds."""
    if not condition:
        raise FormatError(f"{name} is damaged: {reason}")
