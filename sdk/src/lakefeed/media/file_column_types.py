"""Which columns hold files: what the schema says, and the schema that a save will write."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import pyarrow as pa
from pyarrow import types

from lakefeed._validate import check_column_name
from lakefeed.errors import ColumnNotFoundError, InvalidArgumentError, TypeMismatchError, quoted_list
from lakefeed.media.handles import Handle
from lakefeed.media.media_registry import MEDIA, media_type
from lakefeed.media.media_type import TYPE_KEY, MediaType, Mode

_Column = TypeVar("_Column", "pa.Array[Any]", "pa.ChunkedArray[Any]")

MODE_TYPES: dict[Mode, pa.DataType] = {"bytes": pa.large_binary(), "path": pa.string()}  # a batch may exceed 2 GiB


def column_type(field: pa.Field[Any]) -> str | None:
    """The media type of a column; None if it holds no files (or files of a kind that only a newer lakefeed knows).

    Example:
        >>> column_type(pa.field("img", pa.string(), metadata={"lakefeed.type": "image"}))
        'image'
    """
    name = (field.metadata or {}).get(TYPE_KEY, b"").decode(errors="replace")
    return name if name in MEDIA else None


def normalize_types(mapping: Any, schema: pa.Schema) -> dict[str, str]:
    """``column_types`` as names of media types, checked against the columns.

    Args:
        mapping: per column a name (``"image"``), a handle class (``Image``) or a MediaType.
        schema: the columns that exist.

    Raises:
        ColumnNotFoundError: there is no such column.
        InvalidArgumentError: there is no such media type.
        TypeMismatchError: the column cannot hold files.

    Example:
        >>> normalize_types({"img": "Image"}, pa.schema({"img": pa.string()}))
        {'img': 'image'}
    """
    if not isinstance(mapping, Mapping) or not all(isinstance(name, str) for name in mapping):
        raise InvalidArgumentError(
            f"column_types={mapping!r:.80}: give a mapping of columns to types, such as {{'photo': 'image'}}"
        )
    known = frozenset(schema.names)
    missing = [name for name in mapping if name not in known]
    if missing:
        raise ColumnNotFoundError.of(missing, schema.names)
    found = {name: _media_type_name(name, given) for name, given in mapping.items()}
    for name in found:
        require_file_column(schema.field(name))
    return found


def typed_schema(schema: pa.Schema, column_types: Mapping[str, str]) -> pa.Schema:
    """The schema that a save writes: each named column becomes a struct of its media type, marked in its metadata.

    Example:
        >>> typed_schema(pa.schema({"img": pa.string()}), {"img": "file"}).field("img").type.names
        ['url', 'sha256', 'size', 'content_type', 'filename']
    """
    for name in column_types:
        require_file_column(schema.field(name))
    fields = [
        _typed_field(entry, column_types[entry.name]) if entry.name in column_types else entry for entry in schema
    ]
    return pa.schema(fields).with_metadata(schema.metadata)


def default_mode(media: str) -> Mode:
    """What ``load_files="auto"`` makes of a column of this type.

    Example:
        >>> default_mode("image")
        'bytes'
    """
    return media_type(media).default_mode


def loaded_type(media: str, mode: str) -> pa.DataType:
    """The Arrow type of a column once its files are loaded.

    Raises:
        InvalidArgumentError: no such media type or mode.

    Example:
        >>> loaded_type("image", "path")
        DataType(string)
    """
    media_type(media)
    return MODE_TYPES[parse_mode(mode)]


def parse_mode(mode: str) -> Mode:
    if mode not in MODE_TYPES:
        raise InvalidArgumentError(f"files cannot be loaded as {mode!r}; there are {quoted_list(MODE_TYPES)}")
    return "path" if mode == "path" else "bytes"


def is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view))


def is_bytes(kind: pa.DataType) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def decode_column(column: _Column) -> _Column:
    """The column without dictionary or views, which half of Arrow's functions do not take."""
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_string_view(kind):
        kind = pa.large_string()
    if types.is_binary_view(kind):
        kind = pa.large_binary()
    return column if kind == column.type else column.cast(kind)


def require_file_column(field: pa.Field[Any]) -> None:
    """Raises TypeMismatchError unless the column can hold files: text, bytes or media records."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    record = types.is_struct(kind) and {"url", "sha256"} & {entry.name for entry in kind}
    if not (record or is_text(kind) or is_bytes(kind) or types.is_null(kind)):
        raise TypeMismatchError(
            f"column {field.name!r} is {field.type} and cannot hold files: give paths or URLs (string), contents "
            "(binary) or media records (struct with url, sha256)"
        )


def _media_type_name(column: str, given: Any) -> str:
    if isinstance(given, MediaType):
        return given.name
    if isinstance(given, type) and issubclass(given, Handle):
        given = getattr(given, "media", None)
    if isinstance(given, str):
        names = {media.handle.__name__.lower(): name for name, media in MEDIA.items()} | {name: name for name in MEDIA}
        if given.lower() in names:
            return names[given.lower()]
    raise InvalidArgumentError(f"column {column!r}: {given!r} is no media type; there are {quoted_list(MEDIA)}")


def _typed_field(field: pa.Field[Any], name: str) -> pa.Field[Any]:
    metadata = {**(field.metadata or {}), TYPE_KEY: name.encode()}
    return pa.field(field.name, media_type(name).struct, field.nullable, metadata)


def new_column(name: str, kind: Any) -> pa.Field[Any]:
    """Returns a column to add: of an Arrow type, or of a media type by name or class."""
    check_column_name(name, "name")
    if isinstance(kind, pa.DataType):
        return pa.field(name, kind)
    plain = pa.schema([(name, pa.string())])
    (typed,) = typed_schema(plain, normalize_types({name: kind}, plain))
    return typed
