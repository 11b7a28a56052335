"""Shards of MosaicML's format MDS: the bytes that its ``MDSWriter`` writes, made of Arrow columns at once.

A shard is the number of its samples, the offset of each sample and of the end (all uint32), the configuration as JSON,
and the samples. A sample is the sizes of its values of varying size (uint32), and then its values in the order of the
column names. ``index.json`` describes all shards.
"""

from __future__ import annotations

import base64
import datetime as dt
import json
import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc
from lakefeed._units import MIB
from lakefeed.errors import TypeMismatchError, UnsupportedError

INDEX_FILE: Final = "index.json"
SHARD_BYTES: Final = 64 * MIB
"""The most bytes of a shard, unless a single sample is larger; the default of ``MDSWriter``."""
MAX_SHARD_BYTES: Final = 1 << 32
OFFSET_BYTES: Final = 4
VERSION: Final = 2

Numbers = NDArray[Any]
Samples = pa.LargeBinaryArray
"""The bytes of each sample."""


@dataclass(frozen=True)
class MDSColumn:
    """A column. ``size`` is that of each value in bytes; None if it varies."""

    name: str
    kind: pa.DataType
    encoding: str
    size: int | None

    @classmethod
    def of(cls, field: pa.Field[Any]) -> MDSColumn:
        """Returns the column for a field: numbers, text, bytes and tensors keep their types, all else is JSON."""
        kind = _plain_type(field.type)
        if pa.types.is_integer(kind) or pa.types.is_floating(kind):
            dtype = np.dtype(kind.to_pandas_dtype())
            return cls(field.name, kind, dtype.name, dtype.itemsize)
        if _is_text(kind) or _is_bytes(kind):
            return cls(field.name, kind, "str" if _is_text(kind) else "bytes", None)
        shape, leaf = _tensor_shape(kind)
        if math.prod(shape) and shape and (pa.types.is_integer(leaf) or pa.types.is_floating(leaf)):
            dtype = np.dtype(leaf.to_pandas_dtype())
            encoding = f"ndarray:{dtype.name}:{','.join(map(str, shape))}"
            return cls(field.name, kind, encoding, math.prod(shape) * dtype.itemsize)
        return cls(field.name, kind, "json", None)

    def encode(self, column: Any, first_row: int) -> tuple[Samples, NDArray[np.uint32] | None]:
        """Returns the bytes of the values, and their sizes if these vary; ``first_row`` is for messages."""
        column = _plain_column(column)
        if self.encoding == "json":
            column = pa.array(self._json(column), pa.large_binary())
        elif self.size is None:
            self._check_nulls(column, first_row)
            column = column.cast(pa.large_string() if _is_text(self.kind) else pa.large_binary())
        if self.size is not None:
            return _fixed_size(self._numbers(column, first_row), self.size), None
        values = column.cast(pa.large_binary())
        return values, np.array(pc.binary_length(values), np.int64).astype(np.uint32)

    def _numbers(self, column: Any, first_row: int) -> Numbers:
        if self.encoding.startswith("ndarray"):
            self._check_nulls(column, first_row)
            return _tensor_values(column)
        if not pa.types.is_floating(column.type):
            self._check_nulls(column, first_row)
        return _leaf_numbers(column)

    def _check_nulls(self, column: Any, first_row: int) -> None:
        inside = False
        while column.null_count == 0 and isinstance(column, pa.FixedSizeListArray | pa.FixedShapeTensorArray):
            column = (column.storage if isinstance(column, pa.FixedShapeTensorArray) else column).flatten()
            inside = True
            if pa.types.is_floating(column.type):
                return
        if column.null_count:
            row = first_row + pc.index(column.is_null(), True).as_py()
            where = "" if inside else f" in row {row}"
            raise TypeMismatchError(
                f"column {self.name!r} of type {self.kind} holds null{where}, for which MDS has no value; leave such "
                f'rows out (filter("{self.name} is not null")) or fill them (map)'
            )

    def _json(self, column: Any) -> list[bytes]:
        try:
            return [json.dumps(value, default=_to_json).encode() for value in column.to_pylist()]
        except (ValueError, TypeError) as error:
            raise TypeMismatchError(f"column {self.name!r} of type {self.kind} has no JSON: {error}") from error


@dataclass(frozen=True)
class MDSLayout:
    """The columns of a folder of shards, and the most bytes of a shard (None: all samples in one)."""

    columns: tuple[MDSColumn, ...]
    size_limit: int | None = SHARD_BYTES

    @classmethod
    def of(cls, schema: pa.Schema, size_limit: int | None = SHARD_BYTES) -> MDSLayout:
        """Returns the layout of rows."""
        return cls(tuple(MDSColumn.of(schema.field(name)) for name in sorted(schema.names)), size_limit)

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, as shards and the index have it."""
        return {
            "version": VERSION,
            "format": "mds",
            "compression": None,
            "hashes": [],
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
            pieces.insert(0, _fixed_size(np.stack(sizes, axis=1), OFFSET_BYTES * len(sizes)))
        pieces.append(pa.scalar(b"", pa.large_binary()))  # between them
        joined: Samples = pc.binary_join_element_wise(*pieces)
        return joined

    def index_entry(self, number: int, samples: int, size: int) -> dict[str, Any]:
        """Returns the entry of a shard in the index."""
        data = {"basename": shard_file(number), "bytes": size, "hashes": {}}
        return {"samples": samples, "raw_data": data, "zip_data": None, **self.config}


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


def _fixed_size(numbers: Numbers, size: int) -> Any:
    """Returns numbers as binary values of ``size`` bytes each."""
    data = np.ascontiguousarray(numbers)
    count = data.nbytes // size
    offsets = np.arange(count + 1, dtype=np.int64) * size
    buffers = [None, pa.py_buffer(offsets.data), pa.py_buffer(data.data)]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), count, buffers)


def _leaf_numbers(column: Any) -> Numbers:
    if column.null_count:  # of floats: NaN
        return np.array(column.to_numpy(zero_copy_only=False), dtype=column.type.to_pandas_dtype())
    return np.array(np.from_dlpack(column)) if len(column) else np.empty(0, column.type.to_pandas_dtype())


def _tensor_values(column: Any) -> Numbers:
    rows, kind = len(column), column.type
    shape = kind.shape if isinstance(kind, pa.FixedShapeTensorType) else _tensor_shape(kind)[0]
    inner = column.storage if isinstance(kind, pa.FixedShapeTensorType) else column
    while isinstance(inner, pa.FixedSizeListArray):
        inner = inner.flatten()
    values = _leaf_numbers(inner).reshape(rows, *shape)
    order = getattr(kind, "permutation", None)
    return values if order is None else values.transpose(0, *(axis + 1 for axis in order))


def _tensor_shape(kind: Any) -> tuple[list[int], pa.DataType]:
    """Returns the shape of tensors, which is empty for other types, and the type of their numbers."""
    if isinstance(kind, pa.FixedShapeTensorType):
        order = kind.permutation or range(len(kind.shape))
        return [kind.shape[axis] for axis in order], kind.value_type
    shape = []
    while pa.types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    return shape, kind


def _plain_type(kind: Any) -> Any:
    if pa.types.is_dictionary(kind) or pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if isinstance(kind, pa.BaseExtensionType) and not isinstance(kind, pa.FixedShapeTensorType):
        return _plain_type(kind.storage_type)
    return kind


def _plain_column(column: Any) -> Any:
    if isinstance(column, pa.DictionaryArray):
        return _plain_column(column.dictionary_decode())
    if isinstance(column, pa.RunEndEncodedArray):
        return _plain_column(pc.run_end_decode(column))  # type: ignore[attr-defined]  # the stubs lack it
    if isinstance(column, pa.ExtensionArray) and not isinstance(column, pa.FixedShapeTensorArray):
        return _plain_column(column.storage)
    return column


def _is_text(kind: pa.DataType) -> bool:
    return pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)


def _is_bytes(kind: pa.DataType) -> bool:
    binary = pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_binary_view(kind)
    return binary or pa.types.is_fixed_size_binary(kind)


def _to_json(value: Any) -> Any:
    """Returns a value for which JSON has no type: times in ISO 8601, bytes in base64, decimals and others as text."""
    match value:
        case bytes() | bytearray() | memoryview():
            return base64.b64encode(value).decode()
        case dt.datetime() | dt.date() | dt.time():
            return value.isoformat()
        case dt.timedelta():
            return value.total_seconds()
        case Decimal():
            return str(value)
    raise TypeError(f"{type(value).__name__} cannot be written as JSON")
