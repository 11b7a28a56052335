"""Keys of rows as text, by which segments identify their rows."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from typing import Any, Final

import pyarrow as pa

from lakefeed._arrow import compute as pc

TERM_CHARACTERS: Final = 200
"""Keys that are longer as text are identified by their digest."""
_DIGEST: Final = "\x00"


def encode_keys(rows: pa.RecordBatch | pa.Table, keys: Sequence[str]) -> list[str]:
    """Returns the key of each row as text.

    Example:
        >>> encode_keys(pa.table({"a": [1], "b": ["x"]}), ["a", "b"])
        ['["1", "x"]']
    """
    columns = [_texts(rows.column(name)) for name in keys]
    if len(columns) == 1:
        return columns[0]
    return [json.dumps(parts) for parts in zip(*columns, strict=True)]


def decode_keys(texts: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """Returns the keys that `encode_keys` made, with these columns."""
    if len(schema) == 1:
        columns: list[Sequence[str]] = [texts]
    else:
        rows = [json.loads(text) for text in texts]
        columns = [[row[index] for row in rows] for index in range(len(schema))]
    arrays = [_values(column, field.type) for column, field in zip(columns, schema, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def term_of(text: str) -> str:
    """Returns the text by which an index finds a key: the key, or the digest of a long one."""
    if len(text) <= TERM_CHARACTERS and not text.startswith(_DIGEST):
        return text
    return _DIGEST + hashlib.sha256(text.encode()).hexdigest()


def _storage(kind: pa.DataType) -> pa.DataType:
    """Returns the type of the values behind extension and dictionary types."""
    while isinstance(kind, pa.BaseExtensionType | pa.DictionaryType):
        kind = kind.storage_type if isinstance(kind, pa.BaseExtensionType) else kind.value_type
    return kind


def _is_binary(kind: pa.DataType) -> bool:
    return pa.types.is_binary(kind) or pa.types.is_large_binary(kind) or pa.types.is_fixed_size_binary(kind)


def _number_type(kind: pa.DataType) -> pa.DataType | None:
    """Returns the integers as which dates and times are written; None for other types."""
    if pa.types.is_temporal(kind):
        return pa.int32() if kind.bit_width == 32 else pa.int64()
    return None


def _texts(column: Any) -> list[str]:
    if isinstance(column, pa.ChunkedArray):
        return [text for chunk in column.chunks for text in _texts(chunk)]
    if isinstance(column, pa.ExtensionArray):
        return _texts(column.storage)
    if isinstance(column, pa.DictionaryArray):
        return _texts(column.dictionary_decode())
    if _is_binary(column.type) or pa.types.is_binary_view(column.type):
        return [value.hex() for value in column.to_pylist()]
    number = _number_type(column.type)
    texts = column if number is None else pc.cast(column, number)
    values: list[str] = pc.cast(texts, pa.large_string()).to_numpy(zero_copy_only=False).tolist()
    return values


def _values(texts: Sequence[str], kind: pa.DataType) -> Any:
    storage = _storage(kind)
    if _is_binary(storage) or pa.types.is_binary_view(storage):
        array: Any = pa.array([bytes.fromhex(text) for text in texts], storage)
    else:
        number = _number_type(storage)
        array = pa.array(texts, pa.large_string())
        array = pc.cast(array, storage) if number is None else pc.cast(pc.cast(array, number), storage)
    if isinstance(kind, pa.BaseExtensionType):
        return pa.ExtensionArray.from_storage(kind, array)
    return pc.cast(array, kind) if kind != array.type else array
