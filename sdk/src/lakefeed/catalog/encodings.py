"""How the columns of a data file are encoded: in what decodes fastest, which mostly is the smallest too.

Values that repeat are kept once, in a dictionary. Of the others, integers are kept as differences and the bytes of
floats apart by their place in the number; compression finds little in them otherwise.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

DICTIONARY = "RLE_DICTIONARY"
PLAIN = "PLAIN"
DELTA = "DELTA_BINARY_PACKED"
SPLIT = "BYTE_STREAM_SPLIT"

SAMPLE_VALUES = 65_536
REPEATS = 4
"""Times that a value must occur on average for a dictionary to pay."""
INT64_DIGITS = 18


def encodings(rows: pa.Table) -> dict[str, str]:
    """The encoding of each stored column by its path, chosen by the first values of ``rows``.

    Example:
        >>> encodings(pa.table({"id": range(100), "label": [1, 2] * 50, "box": [[0.25 * n] for n in range(100)]}))
        {'id': 'DELTA_BINARY_PACKED', 'label': 'RLE_DICTIONARY', 'box.list.element': 'BYTE_STREAM_SPLIT'}
    """
    found: dict[str, str] = {}
    for field in rows.schema:
        chunks = (_leaves(chunk, field.name) for chunk in rows[field.name].chunks)
        for leaf in zip(*chunks, strict=True):
            path = leaf[0][0]
            chosen = _encoding(pa.chunked_array([values for _, values in leaf]))
            # A column "a.b" and the field b of a struct a go by one name.
            found[path] = chosen if found.get(path, chosen) == chosen else DICTIONARY
    return found


def _leaves(array: Any, path: str) -> Iterator[tuple[str, Any]]:
    """The arrays that are stored for a column, with the paths that Parquet gives them."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage, path)
    elif pa.types.is_struct(kind):
        for place in range(kind.num_fields):
            yield from _leaves(array.field(place), f"{path}.{kind.field(place).name}")
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys, f"{path}.key_value.key")
        yield from _leaves(array.items, f"{path}.key_value.value")
    elif pa.types.is_nested(kind):
        yield from _leaves(array.flatten(), f"{path}.list.element")
    else:
        yield path, array


def _encoding(values: pa.ChunkedArray[Any]) -> str:
    sample = values.slice(0, SAMPLE_VALUES)
    if pc.count_distinct(sample).as_py() * REPEATS <= len(sample):
        return DICTIONARY
    kind = values.type
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return SPLIT
    return DELTA if _stored_as_integer(kind) else PLAIN


def _stored_as_integer(kind: pa.DataType) -> bool:
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= INT64_DIGITS)
    return pa.types.is_integer(kind) or pa.types.is_temporal(kind)
