"""The files of a local folder as rows, with labels from the names of folders."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from lakefeed import _paths
from lakefeed.errors import FileError, InvalidArgumentError, MissingFileError
from lakefeed.media.file_column_types import typed_schema
from lakefeed.media.infer_columns import media_type_by_name
from lakefeed.media.media_registry import media_type
from lakefeed.storage.disk.delivery_names import is_ignored_name
from lakefeed.storage.urls import expand_home

LABELS: Final = (None, "parent")
FILE_COLUMN: Final = "file"
LABEL_COLUMN: Final = "label"


def table_of_folder(folder: Any, label: Any) -> pa.Table:
    """Returns a row for each file below a folder; see `Dataset.from_folder`."""
    check_label_rule(label)
    root = _folder_of(folder)
    names = sorted(_walk(str(root), ""))
    if not names:
        raise MissingFileError(f"there are no files in {str(root)!r}; hidden and temporary ones do not count")
    labels = [_parent(name) for name in names] if label == "parent" else None
    return files_table([f"{root}/{name}" for name in names], labels)


def check_label_rule(label: Any) -> None:
    """Checks what labels are made of."""
    if label not in LABELS:
        raise InvalidArgumentError(
            f'label must be None or "parent", the name of the folder of each file, got {label!r:.80}'
        )


def files_table(paths: list[str], labels: list[str | None] | None) -> pa.Table:
    """Returns a row for each file. The type of the column is that of most files, by their names."""
    votes = Counter(media_type_by_name(path) for path in paths)
    kind = media_type(max(votes, key=lambda name: votes[name]) or "file")
    struct: Any = kind.struct
    parts = [pa.array(paths) if field.name == "url" else pa.nulls(len(paths), field.type) for field in struct]
    columns: dict[str, Any] = {FILE_COLUMN: pa.StructArray.from_arrays(parts, fields=list(struct))}
    if labels is not None:
        columns[LABEL_COLUMN] = pa.array(labels, pa.string())
    table = pa.table(columns)
    return table.cast(typed_schema(table.schema, {FILE_COLUMN: kind.name}))


def _folder_of(folder: Any) -> Path:
    if not isinstance(folder, str | os.PathLike) or isinstance(folder, bytes) or not os.fspath(folder):
        raise InvalidArgumentError(f"folder must be the path of a folder, got {folder!r:.80}")
    text = str(os.fspath(folder))
    if "://" in text or not _paths.is_storable(text):
        raise InvalidArgumentError(f"folder must be the path of a local folder, got {text!r:.80}")
    path = Path(expand_home(text)).absolute()
    if not _paths.exists(path):
        raise MissingFileError(f"there is no folder {str(path)!r}{_paths.explain_missing(path)}")
    if not _paths.is_folder(path):
        raise FileError(f"{str(path)!r} is a file, not a folder; Dataset.from_file reads the rows of a file")
    return path


def _walk(root: str, prefix: str) -> Iterator[str]:
    """Yields the relative paths of files. Does not enter links to folders, which may lead in a circle."""
    waiting = [prefix]
    while waiting:
        above = waiting.pop()
        try:
            with os.scandir(f"{root}/{above}") as entries:
                listed = [entry for entry in entries if not is_ignored_name(entry.name)]
        except OSError as error:
            raise FileError(f"the folder {root + '/' + above!r} cannot be listed: {error.strerror}") from error
        for entry in listed:
            if entry.is_dir(follow_symlinks=False):
                waiting.append(f"{above}{entry.name}/")
            elif entry.is_file():
                yield _utf8(above + entry.name)


def _utf8(name: str) -> str:
    try:
        name.encode()
    except UnicodeEncodeError:
        shown = os.fsencode(name).decode("utf-8", "backslashreplace")
        raise FileError(f"the name of the file '{shown}' is not UTF-8; rename it") from None
    return name


def _parent(name: str) -> str | None:
    """Returns the name of the folder of a file; None for a file that is in no folder below the root."""
    parts: Iterable[str] = name.split("/")[-2:-1]
    return next(iter(parts), None)
