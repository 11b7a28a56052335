"""Conversion of media record columns from and to Python values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import repeat
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakefeed.media.file_column_types import decode_column, is_bytes, is_embedded
from lakefeed.media.handles import Handle, Siblings
from lakefeed.media.media_registry import media_type
from lakefeed.media.media_type import MediaType
from lakefeed.storage.urls import file_name

if TYPE_CHECKING:
    from lakefeed.storage.blobs.blob_store import BlobStore


NEIGHBOURS = 128
"""Rows of which the blobs are looked up together."""


def handles(column: pa.Array[Any], media: str, store: BlobStore | None) -> list[Handle | None]:
    """Returns a lazy handle for each cell, None for null.

    Args:
        column: media records; or, before a save, paths and URLs (text), contents (binary), or both (struct).
        media: the name of the media type.
        store: the store that holds the blobs.

    Raises:
        InvalidArgumentError: the media type is unknown.

    Example:
        >>> handles(pa.array(["cat.png", None]), "image", None)
        [Image('cat.png'), None]
    """
    kind = media_type(media)
    cells = decode_column(column)
    if is_embedded(cells.type):
        return [_embedded_handle(cell, kind, store) for cell in cells.to_pylist()]
    if isinstance(cells, pa.StructArray):
        return _record_handles(conform_records(cells, kind), kind, store)
    name = "data" if is_bytes(cells.type) else "url"
    return [None if cell is None else kind.handle(**{name: cell, "store": store}) for cell in cells.to_pylist()]


def _embedded_handle(cell: Mapping[str, Any] | None, kind: MediaType, store: BlobStore | None) -> Handle | None:
    if cell is None or (cell["bytes"] is None and cell["path"] is None):
        return None
    if cell["bytes"] is None:
        return kind.handle(url=cell["path"], store=store)
    return kind.handle(data=cell["bytes"], filename=file_name(cell["path"]) if cell["path"] else None, store=store)


def conform_records(column: pa.StructArray, kind: MediaType) -> pa.StructArray:
    """Returns the column with the fields of the media type. Missing fields are null."""
    if column.type == kind.struct:
        return column
    present = dict(zip(column.type.names, column.flatten(), strict=True))
    arrays = [
        present[entry.name].cast(entry.type) if entry.name in present else pa.nulls(len(column), entry.type)
        for entry in kind.struct
    ]
    return pa.StructArray.from_arrays(arrays, fields=list(kind.struct), mask=column.is_null())


def records_array(records: Sequence[Mapping[str, Any] | None], kind: MediaType) -> pa.StructArray:
    """Returns records as a column. Missing fields are null."""
    arrays = [
        pa.array([None if record is None else record.get(entry.name) for record in records], entry.type)
        for entry in kind.struct
    ]
    mask = pa.array([record is None for record in records], pa.bool_())
    return pa.StructArray.from_arrays(arrays, fields=list(kind.struct), mask=mask)


def _record_handles(column: pa.StructArray, kind: MediaType, store: BlobStore | None) -> list[Handle | None]:
    names = kind.struct.names
    columns = [part.to_pylist() for part in column.flatten()]
    rows = zip(*columns, strict=True)
    valid = column.is_valid().to_pylist()
    siblings = _siblings(columns[names.index("sha256")])
    return [
        kind.handle(**dict(zip(names, row, strict=True)), store=store, _siblings=group) if present else None
        for row, present, group in zip(rows, valid, siblings, strict=True)
    ]


def _siblings(digests: Sequence[str | None]) -> Iterator[Siblings]:
    """Yields the siblings of each row. Groups are small, so that the look-up is cheap if only one blob is read."""
    for start in range(0, len(digests), NEIGHBOURS):
        group = digests[start : start + NEIGHBOURS]
        yield from repeat(Siblings([digest for digest in group if digest is not None]), len(group))
