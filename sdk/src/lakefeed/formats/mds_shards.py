"""Shards of MosaicML's format MDS: the bytes that its ``MDSWriter`` writes, made of Arrow columns at once.

A shard is the number of its samples, the offset of each sample and of the end (all uint32), the configuration as JSON,
and the samples. A sample is the sizes of its values of varying size (uint32), and then its values in the order of the
column names. ``index.json`` describes all shards.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed._units import MIB
from lakefeed.errors import UnsupportedError
from lakefeed.formats.mds_columns import MDSColumn, Samples, columns_of, fixed_size
from lakefeed.formats.mds_compression import ShardEncoding

INDEX_FILE: Final = "index.json"
SHARD_BYTES: Final = 64 * MIB
"""The most bytes of a shard, unless a single sample is larger; the default of ``MDSWriter``."""
MAX_SHARD_BYTES: Final = 1 << 32
OFFSET_BYTES: Final = 4
VERSION: Final = 2


@dataclass(frozen=True)
class MDSLayout:
    """The columns of a folder of shards, and how they are written.

    Attributes:
        columns: the columns, ordered by name.
        size_limit: the most bytes of a shard before it is compressed; None for all samples in one.
        encoding: the compression and the hashes of files.
    """

    columns: tuple[MDSColumn, ...]
    size_limit: int | None = SHARD_BYTES
    encoding: ShardEncoding = field(default_factory=ShardEncoding)

    @classmethod
    def of(
        cls,
        schema: pa.Schema,
        size_limit: int | None = SHARD_BYTES,
        encoding: ShardEncoding | None = None,
        encodings: Mapping[str, str] | None = None,
    ) -> MDSLayout:
        """Returns the layout of rows. ``encodings`` are those of columns that do not get the one of their type."""
        return cls(columns_of(schema, encodings or {}), size_limit, encoding or ShardEncoding())

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, as shards and the index have it."""
        return {
            "version": VERSION,
            "format": "mds",
            "compression": self.encoding.compression,
            "hashes": list(self.encoding.hashes),
            "size_limit": self.size_limit,
            "column_names": [column.name for column in self.columns],
            "column_encodings": [column.encoding for column in self.columns],
            "column_sizes": [column.size for column in self.columns],
        }

    @cached_property
    def config_bytes(self) -> bytes:
        """The configuration in shards."""
        return json.dumps(self.config, sort_keys=True).encode()

    @property
    def empty_bytes(self) -> int:
        """The bytes of a shard without samples."""
        return 2 * OFFSET_BYTES + len(self.config_bytes)

    def samples(self, rows: pa.RecordBatch, first_row: int) -> Samples:
        """Returns the bytes of each row. ``first_row`` is the number of the first one, for messages.

        Raises:
            TypeMismatchError: a value cannot be written.
        """
        encoded = [column.encode(rows.column(column.name), first_row) for column in self.columns]
        sizes = [lengths for _, lengths in encoded if lengths is not None]
        pieces: list[Any] = [values for values, _ in encoded]
        if sizes:
            pieces.insert(0, fixed_size(np.stack(sizes, axis=1), OFFSET_BYTES * len(sizes)))
        pieces.append(pa.scalar(b"", pa.large_binary()))  # between them
        joined: Samples = pc.binary_join_element_wise(*pieces)
        return joined

    def index_entry(self, number: int, samples: int, size: int) -> dict[str, Any]:
        """Returns the entry of a shard in the index, without hashes and compression."""
        data = {"basename": shard_file(number), "bytes": size, "hashes": {}}
        return {"samples": samples, "raw_data": data, "zip_data": None, **self.config}

    def file(self, number: int, shard: ShardBuilder) -> ShardFile:
        """Returns the file of a shard, compressed and hashed."""
        name, extension = shard_file(number), self.encoding.extension
        pieces = list(shard.pieces())
        raw = {"basename": name, "bytes": shard.size, "hashes": self.encoding.hashes_of(pieces)}
        entry = {"samples": shard.samples, "raw_data": raw, "zip_data": None, **self.config}
        if extension is None:
            return ShardFile(name, pieces, entry)
        data = self.encoding.compress(pieces)
        entry["zip_data"] = {
            "basename": f"{name}.{extension}",
            "bytes": len(data),
            "hashes": self.encoding.hashes_of([data]),
        }
        return ShardFile(f"{name}.{extension}", [data], entry)


@dataclass(frozen=True)
class ShardFile:
    """A file to write: its name, the parts of its content, and its entry in the index."""

    name: str
    pieces: list[Any]
    entry: dict[str, Any]


def shard_file(number: int) -> str:
    """Returns the name of the file of a shard."""
    return f"shard.{number:05}.mds"


def index_text(entries: Iterable[dict[str, Any]]) -> str:
    """Returns the text of the index."""
    return json.dumps({"version": VERSION, "shards": list(entries)}, sort_keys=True)


class ShardBuilder:
    """Collects samples for one shard."""

    def __init__(self, layout: MDSLayout) -> None:
        self.layout = layout
        self.samples = 0
        self.size = layout.empty_bytes
        self._parts: list[tuple[NDArray[np.int64], Any]] = []

    def room(self, sizes: NDArray[np.int64]) -> int:
        """Returns how many samples of these sizes the shard takes, by the rule of ``MDSWriter``."""
        limit = self.layout.size_limit
        if limit is None:
            return len(sizes)
        return int(np.searchsorted(np.cumsum(sizes + OFFSET_BYTES), limit - self.size, side="right"))

    def add(self, samples: Samples) -> None:
        """Adds samples.

        Raises:
            UnsupportedError: the shard becomes larger than the format can tell.
        """
        sizes = sample_sizes(samples)
        self.samples += len(samples)
        self.size += int(sizes.sum()) + OFFSET_BYTES * len(samples)
        if self.size >= MAX_SHARD_BYTES:
            raise UnsupportedError(f"a shard of MDS takes less than 4 GiB, and this one has {self.size:,} bytes")
        self._parts.append((sizes, _data(samples)))

    def pieces(self) -> Iterator[Any]:
        """Yields the bytes of the shard, in order."""
        sizes = np.concatenate([np.zeros(1, np.int64), *(sizes for sizes, _ in self._parts)])
        yield np.uint32(self.samples).tobytes()
        yield (np.cumsum(sizes) + self.layout.empty_bytes + OFFSET_BYTES * self.samples).astype(np.uint32).tobytes()
        yield self.layout.config_bytes
        yield from (data for _, data in self._parts)


def build_shards(layout: MDSLayout, batches: Iterable[pa.RecordBatch]) -> Iterator[ShardBuilder]:
    """Yields the shards of rows: where ``MDSWriter`` begins a new shard, so does this."""
    shard, first_row = ShardBuilder(layout), 0
    for batch in batches:
        if not batch.num_rows:
            continue
        samples = layout.samples(batch, first_row)
        sizes, start = sample_sizes(samples), 0
        while start < len(samples):
            count = shard.room(sizes[start:])
            if count:
                shard.add(samples.slice(start, count))
                start += count
                continue
            yield shard
            shard = ShardBuilder(layout)
            shard.add(samples.slice(start, 1))  # also one that is larger than a shard
            start += 1
        first_row += batch.num_rows
    if shard.samples:
        yield shard


def sample_sizes(samples: Samples) -> NDArray[np.int64]:
    """Returns the bytes of each sample."""
    return np.array(pc.binary_length(samples), np.int64)


def _data(samples: Any) -> Any:
    """Returns the bytes of samples in succession, in memory of their own extent."""
    if not len(samples):
        return b""
    offsets = np.frombuffer(samples.buffers()[1], np.int64)[samples.offset : samples.offset + len(samples) + 1]
    return samples.buffers()[2].slice(int(offsets[0]), int(offsets[-1] - offsets[0]))
