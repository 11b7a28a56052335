"""Types of file columns: in schemas, in ``column_types``, and after loading."""

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

MODE_TYPES: dict[Mode, pa.DataType] = {
    "bytes": pa.large_binary(),
    "path": pa.string(),
}  # the contents of a batch may exceed 2 GiB

EMBEDDED_TYPE = pa.struct([pa.field("bytes", pa.large_binary()), pa.field("path", pa.string())])
"""The type of contents and paths in one column, see `is_embedded`."""


def column_type(field: pa.Field[Any]) -> str | None:
    """Returns the media type of a column; None if it holds no files, or has a type of a newer lakefeed.

    Example:
        >>> column_type(pa.field("img", pa.string(), metadata={"lakefeed.type": "image"}))
        'image'
    """
    name = (field.metadata or {}).get(TYPE_KEY, b"").decode(errors="replace")
    return name if name and name in MEDIA else None


def typed_columns(schema: pa.Schema) -> dict[str, str]:
    """Returns the file columns and their media types."""
    columns = ((field.name, column_type(field)) for field in schema)
    return {name: media for name, media in columns if media is not None}


def normalize_types(mapping: Any, schema: pa.Schema) -> dict[str, str]:
    """Returns ``column_types`` as names of media types.

    Args:
        mapping: for each column a name (``"image"``), a handle class (``Image``) or a MediaType.
        schema: the existing columns.

    Raises:
        ColumnNotFoundError: a column does not exist.
        InvalidArgumentError: ``mapping`` is not a mapping, or a media type is unknown.
        TypeMismatchError: a column cannot hold files.

    Example:
        >>> normalize_types({"img": "Image"}, pa.schema({"img": pa.string()}))
        {'img': 'image'}
    """
    column_types = check_column_types(mapping)
    known = frozenset(schema.names)
    missing = [name for name in mapping if name not in known]
    if missing:
        raise ColumnNotFoundError.of(missing, schema.names)
    for name in column_types:
        require_file_column(schema.field(name))
    return column_types


def check_column_types(mapping: Any) -> dict[str, str]:
    """Returns ``column_types`` as names of media types, for columns that need not exist.

    Raises:
        InvalidArgumentError: ``mapping`` is not a mapping, or a media type is unknown.
    """
    if not isinstance(mapping, Mapping) or not all(isinstance(name, str) for name in mapping):
        raise InvalidArgumentError(
            f"column_types must map columns to media types, such as {{'photo': 'image'}}, got {mapping!r:.80}"
        )
    return {name: _media_type_name(name, value) for name, value in mapping.items()}


def typed_schema(schema: pa.Schema, column_types: Mapping[str, str]) -> pa.Schema:
    """Returns the schema that a save writes. Each column of ``column_types`` is a struct with its type in the metadata.

    Raises:
        TypeMismatchError: a column cannot hold files.

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
    """Returns the mode of ``load_files="auto"`` for a media type.

    Raises:
        InvalidArgumentError: the media type is unknown.

    Example:
        >>> default_mode("image")
        'bytes'
    """
    return media_type(media).default_mode


def loaded_type(media: str, mode: str) -> pa.DataType:
    """Returns the Arrow type of a column whose files are loaded.

    Raises:
        InvalidArgumentError: the media type or the mode is unknown.

    Example:
        >>> loaded_type("image", "path")
        DataType(string)
    """
    media_type(media)
    return MODE_TYPES[parse_mode(mode)]


def parse_mode(mode: str) -> Mode:
    if mode not in MODE_TYPES:
        raise InvalidArgumentError(f"unknown mode {mode!r} to load files; choose from {quoted_list(MODE_TYPES)}")
    return "path" if mode == "path" else "bytes"


def is_text(kind: pa.DataType) -> bool:
    return any(test(kind) for test in (types.is_string, types.is_large_string, types.is_string_view))


def is_bytes(kind: pa.DataType) -> bool:
    tests = (types.is_binary, types.is_large_binary, types.is_binary_view, types.is_fixed_size_binary)
    return any(test(kind) for test in tests)


def is_embedded(kind: pa.DataType) -> bool:
    """Returns whether the type is a struct of ``bytes`` and ``path``, as Hugging Face writes files into Parquet.

    Without ``bytes``, ``path`` names the file. With them, it is the name of the file.
    """
    if not types.is_struct(kind):
        return False
    fields = {entry.name: entry.type for entry in kind}
    contents, path = fields.get("bytes", pa.null()), fields.get("path", pa.null())
    return fields.keys() == {"bytes", "path"} and is_bytes(contents) and (is_text(path) or types.is_null(path))


def decode_column(column: _Column) -> _Column:
    """Decodes dictionaries and views, which many functions of Arrow do not support."""
    kind = column.type.value_type if types.is_dictionary(column.type) else column.type
    if types.is_string_view(kind):
        kind = pa.large_string()
    if types.is_binary_view(kind):
        kind = pa.large_binary()
    return column if kind == column.type else column.cast(kind)


def require_file_column(field: pa.Field[Any]) -> None:
    """Raises TypeMismatchError if the column cannot hold files: it must be text, binary or media records."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    record = types.is_struct(kind) and {"url", "sha256"} & {entry.name for entry in kind}
    if not (record or is_embedded(kind) or is_text(kind) or is_bytes(kind) or types.is_null(kind)):
        raise TypeMismatchError(
            f"column {field.name!r} is {field.type} and cannot hold files; it must have paths or URLs (string), "
            "contents (binary), both (struct of bytes and path) or media records (struct with url, sha256)"
        )


def _media_type_name(column: str, value: Any) -> str:
    if isinstance(value, MediaType):
        return value.name
    if isinstance(value, type) and issubclass(value, Handle):
        value = getattr(value, "media", None)
    if isinstance(value, str):
        names = {media.handle.__name__.lower(): name for name, media in MEDIA.usable()} | {name: name for name in MEDIA}
        if value.lower() in names:
            return names[value.lower()]
    raise InvalidArgumentError(f"column {column!r}: unknown media type {value!r}; choose from {quoted_list(MEDIA)}")


def _typed_field(field: pa.Field[Any], name: str) -> pa.Field[Any]:
    metadata = {**(field.metadata or {}), TYPE_KEY: name.encode()}
    return pa.field(field.name, media_type(name).struct, field.nullable, metadata)


def new_column(name: str, kind: Any) -> pa.Field[Any]:
    """Returns the field of a new column with an Arrow type, or a media type by its name or class.

    Raises:
        InvalidArgumentError: the name is not valid, or the media type is unknown.
    """
    check_column_name(name, "name")
    if isinstance(kind, pa.DataType):
        return pa.field(name, kind)
    untyped = pa.schema([(name, pa.string())])
    (field,) = typed_schema(untyped, normalize_types({name: kind}, untyped))
    return field
