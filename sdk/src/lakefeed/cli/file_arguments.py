"""The files that a command line names, as rows."""

from __future__ import annotations

from collections.abc import Sequence
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING

import lakefeed
from lakefeed import _paths

if TYPE_CHECKING:
    from lakefeed import Dataset

ROW_SUFFIXES = (".csv", ".jsonl", ".ndjson", ".json", ".parquet", ".pq", ".arrow", ".feather", ".ipc")
COMPRESSED_SUFFIXES = (".gz", ".bz2", ".xz", ".zst", ".lz4")
FILE_COLUMN = "file"
LABEL_COLUMN = "label"


def list_files(locations: Sequence[str]) -> list[str]:
    """Returns the files in order: those of folders, without hidden ones, and those that globs match. URLs stay.

    Raises:
        MissingFileError: a path does not exist, a folder holds no file, or a glob matches none.
    """
    files: list[str] = []
    for location in locations:
        path = Path(location)
        if "://" in location or "::" in location:
            files.append(location)
        elif not _paths.exists(path) and any(mark in location for mark in "*?["):
            paths = glob(location, recursive=True)  # noqa: PTH207 - a path stays as relative as the pattern
            matches = sorted(each for each in paths if _paths.is_file(each))
            if not matches:
                raise lakefeed.errors.MissingFileError(f"no file matches {location!r}")
            files += matches
        elif _paths.is_folder(path):
            files += _files_below(path)
        elif _paths.exists(path):
            files.append(location)
        else:
            raise lakefeed.errors.MissingFileError(f"{location!r} does not exist")
    return files


def _files_below(folder: Path) -> list[str]:
    files = sorted(
        path
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not files:
        raise lakefeed.errors.MissingFileError(f"the folder {str(folder)!r} holds no files")
    return [str(path) for path in files]


def rows_of_files(
    files: Sequence[str], format: str | None = None, label_from: str | None = None, column: str = FILE_COLUMN
) -> tuple[Dataset, dict[str, str] | None]:
    """Returns the rows in files of rows, or a row for each other file with the types of the file columns.

    Raises:
        InvalidArgumentError: there are files of both kinds, or files of rows have no label.
    """
    holding_rows = [file for file in files if format is not None or _holds_rows(file)]
    if holding_rows and len(holding_rows) < len(files):
        other = next(file for file in files if not _holds_rows(file))
        raise lakefeed.errors.InvalidArgumentError(
            f"{holding_rows[0]!r} holds rows, and {other!r} is a file of another kind; add them one kind at a time"
        )
    if not holding_rows:
        paths = lakefeed.Dataset.from_dict({column: list(files)})
        types = {column: paths.with_column_types("auto").column_types.get(column, "file")}
        if label_from is None:
            return paths, types
        labels = [Path(file).absolute().parent.name for file in files]
        return lakefeed.Dataset.from_dict({column: list(files), LABEL_COLUMN: labels}), types
    if label_from is not None:
        raise lakefeed.errors.InvalidArgumentError(
            f"--label-from is for images and other files, and {holding_rows[0]!r} holds rows"
        )
    locations = holding_rows if len(holding_rows) > 1 else holding_rows[0]
    return lakefeed.Dataset.from_file(locations, format=format), None


def _holds_rows(file: str) -> bool:
    name = file.lower()
    for suffix in COMPRESSED_SUFFIXES:
        name = name.removesuffix(suffix)
    return name.endswith(ROW_SUFFIXES) or "::" in file
