"""Small keyed tables, made without a network, for examples and tests."""

from __future__ import annotations

import struct
import zlib
from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

from lakefeed.keyed import connection

if TYPE_CHECKING:
    from lakefeed.keyed.connection import Client
    from lakefeed.keyed.keyed_table import Table

WORDS = ("ore", "lake", "river", "stone", "cloud", "amber", "field", "north", "quiet", "paper")
Columns: TypeAlias = dict[str, list[Any]]

LABELS = ("cat", "dog", "owl")


def images(client: Client | None = None, rows: int = 24) -> Table:
    """Returns the table ``demo.images``: small pictures by number, with their labels.

    Args:
        client: the client; None for the lake of the current settings.
        rows: the number of rows of a table that does not exist yet.

    Example:
        >>> images(rows=2).schema().names
        ['id', 'label', 'url', 'image']
    """
    numbers = list(range(rows))
    columns: Columns = {
        "id": numbers,
        "label": [LABELS[each % len(LABELS)] for each in numbers],
        "url": [f"https://example.com/{each}.png" for each in numbers],
        "image": [_picture(each) for each in numbers],
    }
    return _table(client, "demo.images", {"id": pa.int64()}, columns, {"image": "image"})


def fineweb(client: Client | None = None, rows: int = 200) -> Table:
    """Returns the table ``demo.fineweb``: pages of text by URL.

    Args:
        client: the client; None for the lake of the current settings.
        rows: the number of rows of a table that does not exist yet.

    Example:
        >>> fineweb(rows=3).scan("text").to_table().num_rows
        3
    """
    numbers = list(range(rows))
    columns: Columns = {
        "url": [f"https://example.com/{each:05d}" for each in numbers],
        "text": [" ".join(WORDS[(each * 7 + word * word) % len(WORDS)] for word in range(12)) for each in numbers],
        "language": ["en" if each % 4 else "de" for each in numbers],
        "score": [each % 10 / 10 for each in numbers],
    }
    return _table(client, "demo.fineweb", {"url": pa.string()}, columns, {})


def abc(client: Client | None = None) -> Table:
    """Returns the table ``demo.abc``: a few rows of small columns.

    Args:
        client: the client; None for the lake of the current settings.

    Example:
        >>> abc().scan().to_table().to_pylist()[0]
        {'key': 0, 'a': 0, 'b': 100, 'c': 'row 0'}
    """
    numbers = list(range(10))
    columns: Columns = {
        "key": numbers,
        "a": numbers,
        "b": [100 + each for each in numbers],
        "c": [f"row {each}" for each in numbers],
    }
    return _table(client, "demo.abc", {"key": pa.int64()}, columns, {})


def _table(
    client: Client | None,
    name: str,
    key: dict[str, pa.DataType],
    columns: Columns,
    media: dict[str, str],
) -> Table:
    lake = client or connection.connect()
    table = lake.create_table(name, key_schema=key, exist_ok=True)
    if table.schema().names == list(key):
        table.write(columns, column_types=media)
    return table


def _picture(number: int) -> bytes:
    """Returns a PNG of 4 x 4 grey pixels."""
    rows = b"".join(b"\0" + bytes((number * 11 + x * y) % 256 for x in range(4)) for y in range(4))
    chunks = ((b"IHDR", struct.pack(">IIBBBBB", 4, 4, 8, 0, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)
