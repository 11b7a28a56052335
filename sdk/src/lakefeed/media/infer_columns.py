"""Inference of file columns from a sample: by the extensions of paths and the first bytes of contents."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pyarrow as pa
from pyarrow import types

from lakefeed.media.file_column_types import column_type, decode_column, is_bytes, is_embedded, is_text
from lakefeed.media.media_registry import MEDIA
from lakefeed.media.media_type import head_of
from lakefeed.storage.urls import file_name, suffix

SAMPLE_ROWS = 1_000  # non-null values per column
MAX_PATH_CHARACTERS = 4_096  # longer text is not a path


def infer_column_types(table_sample: pa.Table | pa.RecordBatch) -> dict[str, str]:
    """Infers the media types of untyped columns of text, contents, or both (struct of ``bytes`` and ``path``).

    A column gets a type if more than half of its non-null values have that type. Typed columns are left out. No file
    is opened: a file that does not exist is an error of the save, not a reason to keep the column as text.

    Example:
        >>> names = ["cat.JPG", "https://host/dog.png?w=9", None]
        >>> infer_column_types(pa.table({"img": names, "label": ["cat", "dog", "owl"]}))
        {'img': 'image'}
    """
    table = pa.table(table_sample)
    candidates = [index for index, field in enumerate(table.schema) if may_hold_files(field)]
    guesses = {table.schema.names[index]: _infer_type(table.column(index)) for index in candidates}
    return {name: guess for name, guess in guesses.items() if guess is not None}


def may_hold_files(field: pa.Field[Any]) -> bool:
    """Returns whether an untyped column may hold files: text, contents, or both."""
    kind = field.type.value_type if types.is_dictionary(field.type) else field.type
    return column_type(field) is None and (is_text(kind) or is_bytes(kind) or is_embedded(kind))


def _infer_type(column: pa.ChunkedArray[Any]) -> str | None:
    sample = decode_column(column).drop_null().slice(0, SAMPLE_ROWS)
    if is_embedded(sample.type):
        return _majority([_type_of_pair(value["bytes"], value["path"]) for value in sample])
    if is_text(sample.type):
        return _majority([media_type_by_name(str(value)) for value in sample])
    return _majority([_type_by_content(head_of(value)) for value in sample])


def _type_of_pair(content: Any, path: Any) -> str | None:
    by_content = _type_by_content(head_of(content)) if content.is_valid else None
    return media_type_by_name(str(path)) if by_content is None and path.is_valid else by_content


def media_type_by_name(text: str) -> str | None:
    """Returns the media type of a path or URL by its suffix; None if it has none."""
    if len(text) > MAX_PATH_CHARACTERS or "\n" in text:
        return None
    extension = suffix(file_name(text))
    return next((name for name, media in MEDIA.usable() if extension in media.content_types), None)


def _type_by_content(head: bytes) -> str | None:
    return next((name for name, media in MEDIA.usable() if media.sniff(head) is not None), None)


def _majority(votes: list[str | None]) -> str | None:
    winner, count = max(Counter(votes).items(), key=lambda item: item[1], default=(None, 0))
    return winner if 2 * count > len(votes) else None
