"""Hashes of full contents: equal contents have equal hashes, however they are stored.

The hash of rows is a SHA-256 of the names and types of the columns, then of the values in chunks of `CHUNK_ROWS`. It
does not depend on batches, offsets, dictionaries, or the values that Arrow leaves behind nulls. Types that hold the
same values, such as text with 32 and 64 bit offsets, are one.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from lakefeed._arrow import compute as pc

CHUNK_ROWS: Final = 8_192


class RowHash:
    """The hash of rows that come in batches.

    Args:
        schema: the columns.
    """

    def __init__(self, schema: pa.Schema) -> None:
        self._schema = schema
        self._digest = hashlib.sha256(json.dumps([[each.name, _type_text(each.type)] for each in schema]).encode())
        self._waiting: list[pa.RecordBatch] = []
        self._waiting_rows = 0
        self._rows = 0

    def update(self, batch: pa.RecordBatch) -> None:
        """Adds the rows of a batch, which has the columns of the schema."""
        while batch.num_rows:
            head = batch.slice(0, CHUNK_ROWS - self._waiting_rows)
            self._waiting.append(head)
            self._waiting_rows += head.num_rows
            batch = batch.slice(head.num_rows)
            if self._waiting_rows == CHUNK_ROWS:
                self._add_chunk()

    def hexdigest(self) -> str:
        """Returns the hash of all rows, as hexadecimal text. No batch can be added after it."""
        self._add_chunk()
        self._digest.update(f"{self._rows}".encode())
        return self._digest.hexdigest()

    def _add_chunk(self) -> None:
        for index in range(len(self._schema) if self._waiting_rows else 0):
            for part in _parts([batch.column(index) for batch in self._waiting]):
                self._digest.update(part)
        self._rows += self._waiting_rows
        self._waiting, self._waiting_rows = [], 0


def hash_rows(schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> str:
    """Returns the hash of rows.

    Example:
        >>> batch = pa.record_batch({"x": ["a", "b", "a"]})
        >>> halves = [batch.slice(0, 1), batch.slice(1)]
        >>> hash_rows(batch.schema, [batch]) == hash_rows(batch.schema, halves)
        True
    """
    digest = RowHash(schema)
    for batch in batches:
        digest.update(batch)
    return digest.hexdigest()


def hash_tree(files: Iterable[tuple[str, str, bool]]) -> str:
    """Returns the hash of a folder: of the path, the SHA-256 and the executable bit of each file, in any order."""
    return _hash_lines("tree", sorted(json.dumps(each) for each in files))


def hash_list(hashes: Iterable[str]) -> str:
    """Returns the hash of a list of contents, by their hashes in this order."""
    return _hash_lines("list", (json.dumps(each) for each in hashes))


def _hash_lines(kind: str, lines: Iterable[str]) -> str:
    digest = hashlib.sha256(f"{kind}\n".encode())
    for line in lines:
        digest.update(f"{line}\n".encode(errors="surrogatepass"))
    return digest.hexdigest()


def _plain(array: Any) -> Any:
    """Returns an array without dictionaries, runs, views and extension types at its top."""
    if isinstance(array, pa.ExtensionArray):
        return _plain(array.storage)
    if isinstance(array, pa.DictionaryArray):
        return _plain(array.dictionary_decode())
    if isinstance(array, pa.RunEndEncodedArray):
        return _plain(pc.call_function("run_end_decode", [array]))
    kind = array.type
    if pa.types.is_string_view(kind) or pa.types.is_binary_view(kind):
        return array.cast(pa.large_string() if pa.types.is_string_view(kind) else pa.large_binary())
    if isinstance(array, pa.MapArray):
        return array.cast(pa.list_(pa.struct([kind.key_field, kind.item_field])))
    return array


def _parts(arrays: Sequence[Any]) -> Iterator[Any]:
    """Yields buffers that tell the values of arrays of one type in succession, and that equal values share."""
    arrays = [_plain(array) for array in arrays]
    kind = arrays[0].type
    nulls = sum(array.null_count for array in arrays)
    yield f"{sum(map(len, arrays))}:{nulls}".encode()
    valid = [array.is_valid().to_numpy(zero_copy_only=False) if nulls else None for array in arrays]
    if nulls:
        yield _bits(valid)
    if pa.types.is_null(kind):
        return
    if pa.types.is_struct(kind):
        for children in zip(*(array.flatten() for array in arrays), strict=True):
            yield from _parts(children)
    elif _is_list(kind):
        yield from map(_lengths, arrays, valid)
        yield from _parts([array.flatten() for array in arrays])
    elif _is_text_like(kind):
        yield from map(_lengths, arrays, valid)
        yield from map(_content, arrays)
    elif pa.types.is_boolean(kind):
        yield _bits([array.fill_null(False).to_numpy(zero_copy_only=False) for array in arrays])
    else:
        yield from map(_fixed, arrays, valid)


def _bits(flags: Sequence[Any]) -> NDArray[np.uint8]:
    return np.packbits(np.concatenate(flags))


def _lengths(array: Any, valid: NDArray[np.bool_] | None) -> NDArray[np.int64]:
    """Returns the lengths of texts or lists; 0 for nulls."""
    count: Any = pc.list_value_length if _is_list(array.type) else pc.binary_length
    lengths = np.array(count(array).fill_null(0).to_numpy(zero_copy_only=False), "<i8")
    if valid is not None:
        lengths[~valid] = 0  # of a fixed length
    return lengths


def _content(array: Any) -> NDArray[np.uint8]:
    """Returns the bytes of text or binary values that are not null."""
    dense = array.drop_null() if array.null_count else array
    wide = pa.types.is_large_string(dense.type) or pa.types.is_large_binary(dense.type)
    _, offsets, data = dense.buffers()
    if not len(dense) or data is None or offsets is None:
        return np.empty(0, np.uint8)
    bounds: Any = np.frombuffer(offsets, "<i8" if wide else "<i4")[dense.offset : dense.offset + len(dense) + 1]
    content: NDArray[np.uint8] = np.frombuffer(data, np.uint8)[int(bounds[0]) : int(bounds[-1])]
    return content


def _fixed(array: Any, valid: NDArray[np.bool_] | None) -> NDArray[np.uint8]:
    """Returns the bytes of values of a fixed width, zeros for nulls."""
    width, data = array.type.bit_width // 8, array.buffers()[1]
    if data is None or not width or not len(array):
        return np.empty(0, np.uint8)
    start = array.offset * width
    values: NDArray[np.uint8] = np.frombuffer(data, np.uint8)[start : start + len(array) * width]
    if valid is None:
        return values
    rows = values.reshape(-1, width).copy()
    rows[~valid] = 0
    return rows.reshape(-1)


def _is_list(kind: pa.DataType) -> bool:
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_map)
    views = (pa.types.is_list_view, pa.types.is_large_list_view)
    return any(test(kind) for test in (*tests, *views))


def _is_text_like(kind: pa.DataType) -> bool:
    tests = (pa.types.is_string, pa.types.is_large_string, pa.types.is_binary, pa.types.is_large_binary)
    return any(test(kind) for test in (*tests, pa.types.is_string_view, pa.types.is_binary_view))


def _type_text(kind: Any) -> str:
    """Returns the type as text. Types that hold the same values have one text."""
    if isinstance(kind, pa.BaseExtensionType):
        return _type_text(kind.storage_type)
    if isinstance(kind, pa.DictionaryType | pa.RunEndEncodedType):
        return _type_text(kind.value_type)
    if pa.types.is_map(kind):
        return f"list<struct<key: {_type_text(kind.key_type)}, value: {_type_text(kind.item_type)}>>"
    if _is_list(kind):
        return f"list<{_type_text(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{json.dumps(each.name)}: {_type_text(each.type)}' for each in kind)}>"
    if _is_text_like(kind):
        text = pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
        return "text" if text else "bytes"
    return str(kind)
