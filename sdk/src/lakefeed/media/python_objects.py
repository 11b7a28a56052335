"""Conversion of Python objects that represent files (paths, Pillow images, handles) to Arrow values."""

from __future__ import annotations

import io
import os
from collections.abc import Collection, Sequence
from pathlib import PurePath
from typing import Any

import numpy as np
import pyarrow as pa

from lakefeed.errors import SchemaError, quoted_list
from lakefeed.media.file_column_types import EMBEDDED_TYPE
from lakefeed.media.handles import Handle
from lakefeed.media.infer_columns import infer_column_types
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_type import TYPE_KEY

LOSSLESS_FORMATS = dict.fromkeys(("1", "L", "LA", "I", "I;16", "P", "RGB", "RGBA"), "PNG")
FALLBACK_FORMAT = "TIFF"


def arrow_values(values: Any) -> tuple[Any, pa.Field[Any] | None]:
    """Returns the values with files as text, bytes or records, and the field of a file column (or None).

    Raises:
        SchemaError: a column mixes media types, or contents and references.

    Example:
        >>> from pathlib import Path
        >>> arrow_values([Path("cat.png"), None])[0]
        ['cat.png', None]
    """
    if isinstance(values, pa.Array | pa.ChunkedArray) or (isinstance(values, np.ndarray) and values.dtype != object):
        return values, None
    kinds = set(map(type, values)) - {type(None)}
    if any(issubclass(kind, Handle) for kind in kinds):
        return _handle_values(values)
    if kinds and all(_is_pillow_image(kind) for kind in kinds):
        field = pa.field("", pa.large_binary(), metadata={TYPE_KEY: b"image"})
        return [None if value is None else encode_picture(value) for value in values], field
    if _mixes_files(kinds):
        return _mixed_values(values)
    if any(issubclass(kind, PurePath) for kind in kinds):
        return [os.fspath(value) if isinstance(value, PurePath) else value for value in values], None
    return values, None


def _mixes_files(kinds: Collection[type]) -> bool:
    """Returns whether all values are contents or names of files, and some are contents."""
    contents = [kind for kind in kinds if issubclass(kind, bytes) or _is_pillow_image(kind)]
    names = [kind for kind in kinds if issubclass(kind, str | PurePath)]
    return len(kinds) > 1 and bool(contents) and len(contents) + len(names) == len(kinds)


def _mixed_values(values: Sequence[Any]) -> tuple[Any, pa.Field[Any] | None]:
    """Returns contents and names as pairs of ``bytes`` and ``path``, if most are files of one type."""
    pairs = [None if value is None else _content_and_path(value) for value in values]
    media = infer_column_types(pa.table({"": pa.array(pairs, EMBEDDED_TYPE)})).get("")
    if media is None:
        return values, None
    return pairs, pa.field("", EMBEDDED_TYPE, metadata={TYPE_KEY: media})


def _handle_pair(cell: Handle) -> dict[str, Any]:
    return {"bytes": cell.data, "path": cell.url if cell.data is None else cell.filename}


def _content_and_path(value: Any) -> dict[str, Any]:
    if isinstance(value, str | PurePath):
        return {"bytes": None, "path": os.fspath(value)}
    return {"bytes": value if isinstance(value, bytes) else encode_picture(value), "path": None}


def encode_picture(image: Any) -> bytes:
    """Encodes a Pillow image without loss."""
    content = io.BytesIO()
    image.save(content, format=LOSSLESS_FORMATS.get(image.mode, FALLBACK_FORMAT))
    return content.getvalue()


def _is_pillow_image(kind: type) -> bool:
    return any(base.__module__ == "PIL.Image" and base.__name__ == "Image" for base in kind.__mro__)


def _handle_values(values: Sequence[Any]) -> tuple[list[Any], pa.Field[Any]]:
    cells = [value for value in values if value is not None]
    media = sorted({cell.media if isinstance(cell, Handle) else type(cell).__name__ for cell in cells})
    contents = [cell for cell in cells if isinstance(cell, Handle) and cell.data is not None]
    is_mixed = len(media) == 1 and len(contents) not in (0, len(cells))
    if is_mixed and all(cell.data is not None or (cell.url and not cell.sha256) for cell in cells):
        pairs = [None if cell is None else _handle_pair(cell) for cell in values]
        return pairs, pa.field("", EMBEDDED_TYPE, metadata={TYPE_KEY: media[0]})
    if len(media) > 1 or len(contents) not in (0, len(cells)):
        raise SchemaError(
            "a column holds files of one type, either all references or all contents, got "
            + quoted_list(media)
            + (" with contents and references" if contents else "")
        )
    metadata: dict[bytes | str, bytes | str] = {TYPE_KEY: media[0]}
    if contents:
        data = [None if value is None else value.data for value in values]
        return data, pa.field("", pa.large_binary(), metadata=metadata)
    records = [None if value is None else value.record() for value in values]
    return records, pa.field("", media_type(media[0]).struct, metadata=metadata)
