"""The locations of the chunks of a dataset in its file: all of them, or those of a B-tree as chunks are read.

The HDF5 library lists all chunks of a dataset, or walks through them to find one. Of a large file that takes seconds,
and one request for each node over the web. So the nodes that lead to a chunk are read here.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.decode_threads import run_in_threads
from lakefeed.errors import FormatError

ReadBytes: TypeAlias = Callable[[int, int], bytes]
"""Returns bytes, given their position and number."""
Numbers: TypeAlias = npt.NDArray[np.int64]

MISSING: Final = -1
UNKNOWN: Final = -2
MAX_ADDRESS: Final = (1 << 62) - 1
"""No file has so many bytes, and positions near it are numbers of the system still."""
HEADER: Final = 24
NODE: Final = b"TREE"
OF_CHUNKS: Final = 1
LAYOUT_MESSAGE: Final = 0x08
CONTINUATION: Final = 0x10
CHUNKED_LAYOUT: Final = (3, 2)
"""The version of a layout message, and the kind of layout."""
MESSAGE_HEADER: Final = 8
MAX_HEADER_BLOCKS: Final = 64
SIGNATURE: Final = b"\x89HDF\r\n\x1a\n"
SUPERBLOCK_BYTES: Final = 32
SUPERBLOCK_VERSION: Final = 8
SUPERBLOCK_ADDRESS_BYTES: Final = 13
SUPERBLOCK_FAN: Final = 24
ADDRESS_BYTES: Final = 8
DEFAULT_FAN: Final = 32
MAX_LEVEL: Final = 16


class ChunkPlaces(NamedTuple):
    """Locations of chunks.

    Attributes:
        offsets: the first byte of each chunk; `MISSING` for a chunk that was never written.
        sizes: the number of bytes of each chunk in the file.
        masks: the filters that were left out of each chunk.
    """

    offsets: Numbers
    sizes: Numbers
    masks: npt.NDArray[np.uint32]

    def of(self, numbers: Numbers) -> ChunkPlaces:
        """Returns the locations of some chunks."""
        return ChunkPlaces(self.offsets[numbers], self.sizes[numbers], self.masks[numbers])


class ChunkLocations(Protocol):
    """The locations of the chunks of a dataset. Picklable, safe between threads and over forks."""

    def find(self, numbers: Numbers, source: ByteSource) -> ChunkPlaces:
        """Returns the locations of chunks, given their numbers in the order of rows of chunks, which ascend."""
        ...


@dataclass(frozen=True)
class KnownLocations:
    """Locations of all chunks, in memory."""

    places: ChunkPlaces

    def find(self, numbers: Numbers, source: ByteSource) -> ChunkPlaces:
        return self.places.of(numbers)


@dataclass(frozen=True)
class TreeRoot:
    """The root of the B-tree of a dataset.

    Attributes:
        address: its first byte.
        fan: a node has at most twice so many children.
        chunks: the shape of a chunk.
        grid: the number of chunks in each dimension.
    """

    address: int
    fan: int
    chunks: tuple[int, ...]
    grid: tuple[int, ...]

    @property
    def node_bytes(self) -> int:
        """The number of bytes of a node."""
        return HEADER + (2 * self.fan + 1) * self.key_type.itemsize + 2 * self.fan * 8

    @property
    def key_type(self) -> np.dtype[Any]:
        """The type of a key: the chunk that a child begins with."""
        return np.dtype([("size", "<u4"), ("mask", "<u4"), ("corner", "<u8", len(self.chunks) + 1)])


class _Node(NamedTuple):
    level: int
    first: Numbers
    """The number of the first chunk of each child."""
    children: Numbers
    sizes: Numbers
    masks: npt.NDArray[np.uint32]


class TreeLocations:
    """Locations that are looked up in the B-tree of the dataset. A pickled copy knows none.

    Args:
        root: the root of the B-tree.
    """

    def __init__(self, root: TreeRoot) -> None:
        self._root = root
        self._places: ChunkPlaces | None = None
        self._inner: dict[int, _Node] = {}

    def find(self, numbers: Numbers, source: ByteSource) -> ChunkPlaces:
        """Returns the locations of chunks. Reads nodes that were not read before, in threads.

        Raises:
            FormatError: the file is damaged.
        """
        if self._places is None:
            total = int(np.prod(self._root.grid, dtype=np.int64))
            self._places = ChunkPlaces(
                np.full(total, UNKNOWN, np.int64), np.zeros(total, np.int64), np.zeros(total, np.uint32)
            )
        unknown = numbers[self._places.offsets[numbers] == UNKNOWN]
        if len(unknown):
            self._look_up(unknown, self._places, source)
        return self._places.of(numbers)

    def _look_up(self, numbers: Numbers, places: ChunkPlaces, source: ByteSource) -> None:
        wanted = {self._root.address: numbers}
        for _ in range(MAX_LEVEL):
            nodes = self._nodes(list(wanted), source)
            below: dict[int, Numbers] = {}
            for address, some in wanted.items():
                node = nodes[address]
                child = np.searchsorted(node.first, some, side="right") - 1
                if not node.level:
                    self._add_leaf(node, some[~np.isin(some, node.first, assume_unique=True)], places)
                    continue
                self._inner[address] = node
                places.offsets[some[child < 0]] = MISSING
                for each in np.unique(child[child >= 0]).tolist():
                    below[int(node.children[each])] = some[child == each]
            if not below:
                return
            wanted = below
        raise FormatError(f"{source.name} is damaged: the index of its chunks has no end")

    def _add_leaf(self, node: _Node, absent: Numbers, places: ChunkPlaces) -> None:
        places.sizes[node.first], places.masks[node.first] = node.sizes, node.masks
        places.offsets[node.first] = node.children  # last, as other threads look at them
        places.offsets[absent] = MISSING

    def _nodes(self, addresses: Sequence[int], source: ByteSource) -> dict[int, _Node]:
        """Returns nodes by their addresses."""
        nodes = {address: self._inner[address] for address in addresses if address in self._inner}

        def read_node(address: int) -> None:
            nodes[address] = _parsed_node(source.read(address, self._root.node_bytes), self._root, source.name)

        left = sorted(set(addresses) - nodes.keys())
        run_in_threads(read_node, left, min(len(left), source.parallel))
        return nodes

    def __reduce__(self) -> tuple[type[TreeLocations], tuple[TreeRoot]]:
        return TreeLocations, (self._root,)


def _parsed_node(content: bytes, root: TreeRoot, name: str) -> _Node:
    kind = root.key_type
    try:
        signature, of, level, used = struct.unpack_from("<4sBBH", content)
        if signature != NODE or of != OF_CHUNKS or used > 2 * root.fan or level >= MAX_LEVEL:
            raise ValueError("it has an unexpected header")
        stride = kind.itemsize + 8
        both = np.dtype({"names": ["key", "child"], "formats": [kind, "<u8"], "offsets": [0, kind.itemsize],
                         "itemsize": stride})  # fmt: skip
        entries = np.frombuffer(content, both, used, HEADER)
        corners = entries["key"]["corner"][:, :-1].astype(np.int64) // np.array(root.chunks)
        first = np.ravel_multi_index(tuple(corners.T), root.grid).astype(np.int64)
        if (np.diff(first) <= 0).any():
            raise ValueError("its chunks do not ascend")
        if (entries["child"] > MAX_ADDRESS).any():
            raise ValueError("it leads out of the file")
    except (struct.error, ValueError, OverflowError) as error:
        raise FormatError(f"{name} is damaged: a node of the index of its chunks cannot be read: {error}") from error
    keys = entries["key"]
    return _Node(
        level, first, entries["child"].astype(np.int64), keys["size"].astype(np.int64), keys["mask"].astype(np.uint32)
    )


def tree_root(read: ReadBytes, header: int, chunks: tuple[int, ...], grid: tuple[int, ...]) -> TreeRoot | None:
    """Returns the root of the B-tree of a dataset of chunks.

    None if the chunks have an index of another kind, as in files for newer versions of the library only, or if no
    chunk was written.

    Args:
        read: reads the file.
        header: the address of the object header of the dataset.
        chunks: the shape of a chunk.
        grid: the number of chunks in each dimension.
    """
    try:
        start = read(0, SUPERBLOCK_BYTES)
        version, address_bytes = start[SUPERBLOCK_VERSION], start[SUPERBLOCK_ADDRESS_BYTES]
        if not start.startswith(SIGNATURE) or version > 1 or address_bytes != ADDRESS_BYTES:
            return None
        fan = struct.unpack_from("<H", start, SUPERBLOCK_FAN)[0] if version else DEFAULT_FAN
        address = _tree_address(read, header)
    except (struct.error, IndexError):
        return None
    return None if address is None or address > MAX_ADDRESS or not fan else TreeRoot(address, fan, chunks, grid)


def _tree_address(read: ReadBytes, header: int) -> int | None:
    version, _, _, _, size = struct.unpack("<BBHII", read(header, 12))
    if version != 1:
        return None
    blocks = [(header + 16, size)]
    for address, length in blocks:  # grows while it is iterated
        content, start = read(address, length), 0
        while start + MESSAGE_HEADER <= len(content):
            kind, size, _ = struct.unpack_from("<HHB", content, start)
            body = content[start + MESSAGE_HEADER : start + MESSAGE_HEADER + size]
            if kind == CONTINUATION and len(blocks) < MAX_HEADER_BLOCKS:
                blocks.append(struct.unpack_from("<QQ", body))
            if kind == LAYOUT_MESSAGE:
                return int(struct.unpack_from("<Q", body, 3)[0]) if tuple(body[:2]) == CHUNKED_LAYOUT else None
            start += MESSAGE_HEADER + size
    return None
