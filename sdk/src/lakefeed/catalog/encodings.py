"""Encodings and compression of the columns of a data file, chosen by a sample of its rows for fast decoding.

Repeated values are stored in a dictionary. Other integers are stored as deltas, and other floats as byte streams, which
compress better. Columns that compression hardly makes smaller are not compressed.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lakefeed._arrow import compute as pc
from lakefeed._units import MIB

DICTIONARY = "RLE_DICTIONARY"
PLAIN = "PLAIN"
DELTA = "DELTA_BINARY_PACKED"
BYTE_STREAM_SPLIT = "BYTE_STREAM_SPLIT"

SAMPLE_VALUES = 65_536
MIN_REPEATS = 4
"""The average number of times that a value occurs from which a dictionary pays."""
INT64_DIGITS = 18
SAMPLE_ROWS = 16_384
SAMPLE_BYTES = 4 * MIB
MIN_SAMPLE_ROWS = 4096
"""The number of rows from which a sample is written to choose the compression."""
MIN_SAVED_SHARE = 0.1
"""The share of a column that compression must save, for the time that it takes."""
MIN_SAVED_SHARE_OF_FILE = 0.01
"""The share of the file that compression of a column must save."""


def writer_options(rows: pa.Table, compression: str) -> dict[str, Any]:
    """Returns the arguments of a Parquet writer for a file that begins with ``rows``."""
    chosen = choose_encodings(rows)
    options: dict[str, Any] = {
        "use_dictionary": [path for path, encoding in chosen.items() if encoding == DICTIONARY],
        "column_encoding": {path: encoding for path, encoding in chosen.items() if encoding != DICTIONARY},
        "compression": compression,
        "store_decimal_as_integer": True,
    }
    if rows.num_rows >= MIN_SAMPLE_ROWS and compression.lower() != "none":
        options["compression"] = _choose_compressions(rows, options)
    return options


def _choose_compressions(rows: pa.Table, options: dict[str, Any]) -> dict[str, str]:
    """Returns the compression of each stored column, chosen by writing a sample."""
    sample = rows.slice(0, min(SAMPLE_ROWS, max(SAMPLE_BYTES * rows.num_rows // max(rows.nbytes, 1), 1)))
    footers: list[pq.FileMetaData] = []
    pq.write_table(sample, pa.BufferOutputStream(), write_statistics=False, metadata_collector=footers, **options)
    group = footers[0].row_group(0)
    columns = [group.column(index) for index in range(group.num_columns)]
    min_saving = MIN_SAVED_SHARE_OF_FILE * sum(column.total_compressed_size for column in columns)

    def pays(column: pq.ColumnChunkMetaData) -> bool:
        size = column.total_uncompressed_size
        return bool(size - column.total_compressed_size >= max(MIN_SAVED_SHARE * size, min_saving))

    return {column.path_in_schema: options["compression"] if pays(column) else "none" for column in columns}


def choose_encodings(rows: pa.Table) -> dict[str, str]:
    """Returns the encoding of each stored column by its path, chosen by the first values of ``rows``.

    Example:
        >>> boxes = [[0.25 * n] for n in range(100)]
        >>> choose_encodings(pa.table({"id": range(100), "label": [1, 2] * 50, "box": boxes}))
        {'id': 'DELTA_BINARY_PACKED', 'label': 'RLE_DICTIONARY', 'box.list.element': 'BYTE_STREAM_SPLIT'}
    """
    chosen: dict[str, str] = {}
    for field in rows.schema:
        chunks = (_leaves(chunk, field.name) for chunk in rows[field.name].chunks)
        for leaf in zip(*chunks, strict=True):
            chosen[leaf[0][0]] = _choose_encoding(pa.chunked_array([values for _, values in leaf]))
    return chosen


def _leaves(array: Any, path: str) -> Iterator[tuple[str, Any]]:
    """Yields the leaf arrays of a column, with their paths in the Parquet schema."""
    kind = array.type
    if isinstance(array, pa.ExtensionArray):
        yield from _leaves(array.storage, path)
    elif pa.types.is_struct(kind):
        for index in range(kind.num_fields):
            yield from _leaves(array.field(index), f"{path}.{kind.field(index).name}")
    elif pa.types.is_map(kind):
        yield from _leaves(array.keys, f"{path}.key_value.key")
        yield from _leaves(array.items, f"{path}.key_value.value")
    elif pa.types.is_nested(kind):
        yield from _leaves(array.flatten(), f"{path}.list.element")
    else:
        yield path, array


def _choose_encoding(values: pa.ChunkedArray[Any]) -> str:
    sample = values.slice(0, SAMPLE_VALUES)
    if pc.count_distinct(sample).as_py() * MIN_REPEATS <= len(sample):
        return DICTIONARY
    kind = values.type
    if pa.types.is_float32(kind) or pa.types.is_float64(kind):
        return BYTE_STREAM_SPLIT
    return DELTA if _is_stored_as_integer(kind) else PLAIN


def _is_stored_as_integer(kind: pa.DataType) -> bool:
    if pa.types.is_decimal(kind):
        return bool(kind.precision <= INT64_DIGITS)
    return pa.types.is_integer(kind) or pa.types.is_temporal(kind)
