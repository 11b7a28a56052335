"""Columns of obs as Arrow arrays, of which ranges of rows are read."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import numpy as np
import pyarrow as pa

from lakefeed.arrays.arrow_arrays import number_array, text_array
from lakefeed.arrays.byte_sources import ByteSource
from lakefeed.arrays.chunked_array import ChunkCache, ChunkedArray, require_sound
from lakefeed.arrays.hdf5_layout import (
    NUMERIC_KINDS,
    ChunkLayout,
    format_errors,
    read_hdf5,
    read_layout,
    require_library,
    require_own_values,
)
from lakefeed.errors import UnsupportedError

MASKED_TEXT: Final = "nullable-string-array"
OBS_NAMES: Final = "obs_names"
"""The column of the index of obs."""


class ObsColumn(Protocol):
    """A column of obs. Picklable."""

    def __len__(self) -> int:
        """Returns the number of rows."""
        ...

    @property
    def type(self) -> pa.DataType:
        """The Arrow type."""
        ...

    @property
    def row_bytes(self) -> int:
        """About the bytes of a value."""
        ...

    def read(self, source: ByteSource, cache: ChunkCache | None, start: int, stop: int) -> pa.Array[Any]:
        """Returns the values from ``start`` to before ``stop``."""
        ...


@dataclass(frozen=True)
class NumberColumn:
    """Numbers or booleans. NaN is null, as in pandas."""

    values: ChunkLayout
    mask: ChunkLayout | None = None

    def __len__(self) -> int:
        return self.values.shape[0]

    @property
    def type(self) -> pa.DataType:
        return pa.from_numpy_dtype(self.values.dtype.newbyteorder("="))

    @property
    def row_bytes(self) -> int:
        return self.values.dtype.itemsize

    def read(self, source: ByteSource, cache: ChunkCache | None, start: int, stop: int) -> pa.Array[Any]:
        values = ChunkedArray(source, self.values, cache).read(start, stop)
        nulls = None
        if self.mask is not None:
            nulls = ChunkedArray(source, self.mask, cache).read(start, stop).astype(np.bool_)
        if values.dtype.kind == "f":
            nulls = np.isnan(values) if nulls is None else nulls | np.isnan(values)
        return number_array(values, nulls)


@dataclass(frozen=True)
class CategoryColumn:
    """Categories, as a dictionary."""

    name: str
    codes: ChunkLayout
    categories: pa.Array[Any]
    ordered: bool

    row_bytes = 4

    def __len__(self) -> int:
        return self.codes.shape[0]

    @property
    def type(self) -> pa.DataType:
        return dictionary_type(self.categories.type, self.ordered)

    def read(self, source: ByteSource, cache: ChunkCache | None, start: int, stop: int) -> pa.Array[Any]:
        codes = ChunkedArray(source, self.codes, cache).read(start, stop).astype(np.int32)
        known = len(self.categories)
        require_sound(
            not len(codes) or (int(codes.max()) < known and int(codes.min()) >= -1),
            source.name, f"obs[{self.name!r}] has a code that is not one of its {known} categories",
        )  # fmt: skip
        indices = number_array(codes, codes < 0)
        array: pa.Array[Any] = pa.DictionaryArray.from_arrays(indices, self.categories, ordered=self.ordered)
        return array


@dataclass(frozen=True)
class TextColumn:
    """Text, which only h5py reads."""

    path: str
    rows: int
    mask: str | None = None

    row_bytes = 32

    def __len__(self) -> int:
        return self.rows

    @property
    def type(self) -> pa.DataType:
        return pa.string()

    def read(self, source: ByteSource, cache: ChunkCache | None, start: int, stop: int) -> pa.Array[Any]:
        return read_hdf5(source, lambda file: self.read_open(file, source.name, start, stop))

    def read_open(self, file: Any, name: str, start: int, stop: int) -> pa.Array[Any]:
        """Returns values of an open file, whose name is for messages."""
        with format_errors(name):
            values = file[self.path][start:stop]
            return text_array(values, None if self.mask is None else file[self.mask][start:stop].astype(np.bool_))


@dataclass(frozen=True)
class LoadedColumn:
    """Values in memory."""

    values: pa.Array[Any]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def type(self) -> pa.DataType:
        kind: pa.DataType = self.values.type
        return kind

    @property
    def row_bytes(self) -> int:
        return self.values.nbytes // max(len(self.values), 1)

    def read(self, source: ByteSource, cache: ChunkCache | None, start: int, stop: int) -> pa.Array[Any]:
        return self.values.slice(start, stop - start)


def read_columns(
    columns: Mapping[str, ObsColumn], source: ByteSource, cache: ChunkCache | None, start: int, stop: int
) -> dict[str, pa.Array[Any]]:
    """Returns the values of columns by name. The file is opened once for all text."""
    text = {name: column for name, column in columns.items() if isinstance(column, TextColumn)}
    values = {name: each.read(source, cache, start, stop) for name, each in columns.items() if name not in text}
    if text:
        values |= read_hdf5(
            source, lambda file: {name: each.read_open(file, source.name, start, stop) for name, each in text.items()}
        )
    return values


def obs_column(item: Any, column: str, rows: int | None, name: str) -> ObsColumn:
    """Returns a column of an open file.

    Args:
        item: its HDF5 dataset or group.
        column: the name of the column, for messages.
        rows: the number of rows of obs; None if the column tells it.
        name: the name of the file, for messages.

    Raises:
        FormatError: the column is damaged.
        UnsupportedError: it has several values a row.
    """
    with format_errors(name):
        loaded = _group_column(item, column, name) if hasattr(item, "keys") else _dataset_column(item, name)
    if loaded is None:
        loaded = LoadedColumn(arrow_values(_read_element(item, name), column, name))
    length = len(loaded)
    require_sound(rows is None or length == rows, name, f"obs[{column!r}] has {length} rows of {rows}")
    return loaded


def column_values(item: Any, column: str, name: str) -> pa.Array[Any]:
    """Returns all values of a column of an open file, such as the index of var."""
    with format_errors(name):
        text = text_values(item)
    return arrow_values(_read_element(item, name), column, name) if text is None else text


def text_values(item: Any) -> pa.Array[Any] | None:
    """Returns all values of text of an open file, with nulls where a mask says so; None if it is not text."""
    is_masked = hasattr(item, "keys") and _text(item.attrs.get("encoding-type", "")) == MASKED_TEXT
    values = item["values"] if is_masked else item
    if hasattr(values, "keys") or not _is_text(values) or len(values.shape) != 1:
        return None
    return text_array(values[()], item["mask"][()].astype(np.bool_) if is_masked else None)


def dictionary_type(values: pa.DataType, ordered: bool) -> pa.DataType:
    """Returns the type of categories."""
    make: Any = pa.dictionary
    kind: pa.DataType = make(pa.int32(), values, ordered)
    return kind


def arrow_values(values: Any, column: str, name: str) -> pa.Array[Any]:
    """Returns values of a table of pandas as an Arrow array, with dictionaries of 32-bit indices.

    Raises:
        UnsupportedError: they have no Arrow type.
    """
    if isinstance(values, pa.Array):
        return values
    if isinstance(values, np.ndarray) and values.dtype.kind in NUMERIC_KINDS and values.ndim == 1:
        return number_array(values, np.isnan(values) if values.dtype.kind == "f" else None)
    try:
        array: Any = pa.array(values, from_pandas=True)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError, ValueError) as error:
        raise UnsupportedError(
            f"{name}: obs[{column!r}] cannot be a column: {error}. Name the columns to read: from_anndata(…, obs=[…])"
        ) from error
    if isinstance(array, pa.ChunkedArray):
        array = array.combine_chunks()
    if isinstance(array, pa.DictionaryArray):
        array = pa.DictionaryArray.from_arrays(
            array.indices.cast(pa.int32()), array.dictionary, ordered=array.type.ordered
        )
    if pa.types.is_large_string(array.type):
        array = array.cast(pa.string())
    plain: pa.Array[Any] = array
    return plain


def _dataset_column(item: Any, name: str) -> ObsColumn | None:
    if item.shape is None or len(item.shape) != 1 or "categories" in item.attrs:
        return None  # of old formats
    if _is_text(item):
        require_own_values(item, name)
        return TextColumn(item.name, len(item))
    return NumberColumn(read_layout(item, name)) if item.dtype.kind in NUMERIC_KINDS else None


def _group_column(item: Any, column: str, name: str) -> ObsColumn | None:
    encoding = _text(item.attrs.get("encoding-type", ""))
    if encoding == "categorical":
        categories = arrow_values(_category_values(item["categories"], name), column, name)
        return CategoryColumn(column, read_layout(item["codes"], name), categories, bool(item.attrs["ordered"]))
    if encoding in ("nullable-integer", "nullable-boolean"):
        return NumberColumn(read_layout(item["values"], name), read_layout(item["mask"], name))
    if encoding == MASKED_TEXT and _is_text(item["values"]):
        return TextColumn(item["values"].name, len(item["values"]), item["mask"].name)
    return None


def _category_values(item: Any, name: str) -> Any:
    text = text_values(item)
    if text is not None:
        return text
    return _read_element(item, name) if hasattr(item, "keys") else item[()]


def _is_text(item: Any) -> bool:
    return require_library("h5py").check_string_dtype(item.dtype) is not None


def _read_element(item: Any, name: str) -> Any:
    read = require_library("anndata.io").read_elem
    with format_errors(name):
        return read(item)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
