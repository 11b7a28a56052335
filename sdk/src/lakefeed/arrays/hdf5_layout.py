"""The locations of the chunks of HDF5 datasets in their file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from threading import RLock
from typing import Any, BinaryIO, Final, TypeVar, cast

import numpy as np

from lakefeed._units import MIB
from lakefeed.arrays.byte_sources import ByteSource, LocalBytes, opened
from lakefeed.arrays.chunk_decoding import ChunkFilter, is_decodable
from lakefeed.arrays.chunk_locations import (
    MAX_ADDRESS,
    MISSING,
    ChunkLocations,
    ChunkPlaces,
    KnownLocations,
    TreeLocations,
    TreeRoot,
    tree_root,
)
from lakefeed.arrays.file_blocks import FileBlocks
from lakefeed.arrays.garbage_pause import pause_garbage_collection
from lakefeed.errors import FormatError, LakefeedError, MissingDependencyError, UnsupportedError

PART_BYTES: Final = MIB
"""A dataset without chunks is read in parts of this size."""
LISTED_CHUNKS: Final = 64
"""Of a dataset with at most so many chunks, their locations are listed at once."""
NUMERIC_KINDS: Final = "biuf"

T = TypeVar("T")

_h5py_lock = RLock()
"""Held while a file is open in h5py, so that no process is forked meanwhile: a child must not have such a file."""
_open_files: dict[int, tuple[Any, BinaryIO]] = {}

os.register_at_fork(before=_h5py_lock.acquire, after_in_parent=_h5py_lock.release, after_in_child=_h5py_lock.release)


@contextmanager
def open_hdf5(source: ByteSource, blocks: FileBlocks | None = None) -> Iterator[Any]:
    """Yields an ``h5py.File`` over a stream, so that there is no lock on the file. Closes it at the end of the block.

    One thread at a time has files open, as h5py has one lock for everything. Inside a block for a source, a further
    block for it uses the same file. No thread collects garbage while a remote file is open.

    Args:
        source: the file.
        blocks: the parts of the file to read from.

    Raises:
        FormatError: the file is not HDF5, or it is damaged or truncated.
        MissingDependencyError: h5py is not installed.
    """
    h5py = require_library("h5py")
    with _h5py_lock, format_errors(source.name):
        if id(source) in _open_files:
            yield _open_files[id(source)][0]
            return
        waits_for_others = blocks is None and not isinstance(source, LocalBytes)
        pause = pause_garbage_collection() if waits_for_others else nullcontext()
        with opened(source) if blocks is None else nullcontext(blocks) as stream, pause, h5py.File(stream, "r") as file:
            _open_files[id(source)] = file, cast(BinaryIO, stream)
            try:
                yield file
            finally:
                del _open_files[id(source)]


def read_hdf5(source: ByteSource, read: Callable[[Any], T]) -> T:
    """Returns what ``read`` returns for the open file. It may be called again, until all that it reads was fetched.

    Of a remote file, parts that are missing are fetched while no thread has a file open, so that several files are
    read at the same time.

    Raises:
        FormatError: as `open_hdf5`, and those of ``read``.
    """
    if isinstance(source, LocalBytes) or id(source) in _open_files:
        with open_hdf5(source) as file:
            return read(file)
    with opened(source) as stream:
        blocks = FileBlocks(stream)
        while True:
            try:
                with open_hdf5(source, blocks) as file:
                    result = read(file)
                if blocks.is_complete:
                    return result
            except LakefeedError:
                if blocks.is_complete:
                    raise
            with format_errors(source.name):
                blocks.fetch_missing()


def _stream_of(file: Any) -> BinaryIO | None:
    """Returns the stream of a file that `open_hdf5` opened."""
    return next((stream for each, stream in _open_files.values() if each.id == file.id), None)


def require_library(name: str) -> Any:
    """Returns a module of the extra ``anndata``.

    Raises:
        MissingDependencyError: it is not installed.
    """
    from importlib import import_module

    try:
        return import_module(name)
    except ImportError as error:
        raise MissingDependencyError(
            f".h5ad files need {name.partition('.')[0]}: pip install 'lakefeed[anndata]'"
        ) from error


@contextmanager
def format_errors(name: str) -> Iterator[None]:
    """Raises errors of the HDF5 library as FormatError that names the file."""
    try:
        yield
    except LakefeedError:
        raise
    except (OSError, RuntimeError, KeyError, ValueError, TypeError, EOFError, OverflowError) as error:
        reason = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise FormatError(f"{name} cannot be read; it is damaged, truncated or not HDF5: {reason}") from error


@dataclass(frozen=True)
class ChunkLayout:
    """A dataset and the locations of its chunks. Values without a chunk are ``fill``.

    Attributes:
        path: the path of the dataset in the file.
        shape: the shape of the dataset.
        dtype: the type of its values as stored.
        chunks: the shape of a chunk.
        filters: the filters of the chunks, in the order in which they were applied.
        locations: the locations of the chunks.
        fill: the value of chunks that were never written.
        padded: whether chunks at the edge are stored in full.
        direct: whether the chunks are decoded without h5py.
    """

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    chunks: tuple[int, ...]
    filters: tuple[ChunkFilter, ...]
    locations: ChunkLocations
    fill: Any
    padded: bool
    direct: bool

    @cached_property
    def grid(self) -> tuple[int, ...]:
        """The number of chunks in each dimension."""
        return tuple(-(-size // chunk) for size, chunk in zip(self.shape, self.chunks, strict=True))

    def box(self, number: int) -> tuple[slice, ...]:
        """Returns the part of the dataset that a chunk holds."""
        sides = []
        for count, chunk, size in zip(reversed(self.grid), reversed(self.chunks), reversed(self.shape), strict=True):
            number, index = divmod(number, count)
            sides.append(slice(index * chunk, min((index + 1) * chunk, size)))
        return tuple(reversed(sides))


def read_layout(dataset: Any, name: str) -> ChunkLayout:
    """Returns the layout of an open ``h5py.Dataset``.

    Args:
        dataset: the dataset.
        name: the name of the file, for messages.

    Raises:
        UnsupportedError: its values are not numbers, or they are in other files.
        FormatError: it is damaged.
    """
    if dataset.dtype.kind not in NUMERIC_KINDS or dataset.dtype.subdtype is not None or dataset.shape is None:
        raise UnsupportedError(f"{name}: {dataset.name} holds {dataset.dtype}; a matrix holds numbers or booleans")
    require_own_values(dataset, name)
    with format_errors(name):
        if dataset.chunks is None:
            return _layout_of_parts(dataset)
        return _layout_of_chunks(dataset)


def require_own_values(dataset: Any, name: str) -> None:
    """Raises UnsupportedError if the values of a dataset are in other files, which HDF5 would take for empty."""
    if dataset.is_virtual or dataset.external:
        raise UnsupportedError(
            f"{name}: the values of {dataset.name} are in other files (an external or virtual dataset); write one file "
            "with all of them"
        )


def _layout_of_chunks(dataset: Any) -> ChunkLayout:
    stored = dataset.id.get_create_plist()
    filters = []
    for number in range(stored.get_nfilters()):
        code, _, values, _ = stored.get_filter(number)
        filters.append(ChunkFilter(code, int(values[0]) if values else dataset.dtype.itemsize))
    grid = tuple(-(-size // chunk) for size, chunk in zip(dataset.shape, dataset.chunks, strict=True))
    direct = dataset.file.userblock_size == 0 and all(map(is_decodable, filters))
    return ChunkLayout(
        dataset.name, dataset.shape, dataset.dtype, dataset.chunks, tuple(filters), _locations(dataset, grid),
        dataset.fillvalue, padded=True, direct=direct,
    )  # fmt: skip


def _locations(dataset: Any, grid: tuple[int, ...]) -> ChunkLocations:
    total = int(np.prod(grid, dtype=np.int64))
    root = _tree_root(dataset, grid) if total > LISTED_CHUNKS else None
    if root is not None:
        return TreeLocations(root)
    places = ChunkPlaces(np.full(total, MISSING, np.int64), np.zeros(total, np.int64), np.zeros(total, np.uint32))
    entries: list[Any] = []
    dataset.id.chunk_iter(entries.append)
    if entries:
        corners = np.array([entry.chunk_offset for entry in entries], np.int64) // np.array(dataset.chunks)
        numbers = np.ravel_multi_index(tuple(corners.T), grid)
        places.offsets[numbers] = [entry.byte_offset for entry in entries]
        if not ((places.offsets[numbers] >= 0) & (places.offsets[numbers] <= MAX_ADDRESS)).all():
            raise ValueError("a chunk is not in the file")
        places.sizes[numbers] = [entry.size for entry in entries]
        places.masks[numbers] = [entry.filter_mask for entry in entries]
    return KnownLocations(places)


def _tree_root(dataset: Any, grid: tuple[int, ...]) -> TreeRoot | None:
    """Returns the root of the B-tree of the chunks; None if there is none, or it cannot be read without the library."""
    stream = _stream_of(dataset.file)
    if stream is None or dataset.file.userblock_size:
        return None

    def read_bytes(start: int, size: int) -> bytes:
        stream.seek(start)
        return stream.read(size)

    header = require_library("h5py.h5g").get_objinfo(dataset.id).objno[0]  # h5o.get_info reads the whole B-tree
    return tree_root(read_bytes, header, dataset.chunks, grid)


def _layout_of_parts(dataset: Any) -> ChunkLayout:
    """Returns the layout of a dataset without chunks, as if it consisted of chunks of full rows."""
    shape, width = dataset.shape, dataset.dtype.itemsize
    row_bytes = max(int(np.prod(shape[1:], dtype=np.int64)) * width, 1)
    rows = max(PART_BYTES // row_bytes, 1)
    total = -(-shape[0] // rows) if all(shape) else 0
    start = dataset.id.get_offset()
    starts = np.arange(total, dtype=np.int64) * rows
    sizes = (np.minimum(starts + rows, shape[0]) - starts) * row_bytes
    is_empty = start is None and not dataset.id.get_storage_size()
    offsets = np.full(total, MISSING, np.int64) if start is None else starts * row_bytes + start
    direct = is_empty or (start is not None and dataset.file.userblock_size == 0)
    places = ChunkPlaces(offsets, sizes, np.zeros(total, np.uint32))
    return ChunkLayout(
        dataset.name, shape, dataset.dtype, (rows, *(max(size, 1) for size in shape[1:])), (), KnownLocations(places),
        dataset.fillvalue, padded=False, direct=direct,
    )  # fmt: skip
