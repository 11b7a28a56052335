"""The contents of saved files: in memory, lazily, and as local copies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lakefeed._validate import check_whole
from lakefeed.catalog.lake import Lake
from lakefeed.errors import TypeMismatchError
from lakefeed.media.file import File as Handle
from lakefeed.registry.array_access import ArrayAccess
from lakefeed.registry.file_loading import LoadedFile, check_budget, check_join, load_file, load_together
from lakefeed.registry.record_rows import RecordRow

if TYPE_CHECKING:
    from lakefeed.arrays.mapped_cells import MappedCells

BUDGET_FACTOR: Final = 4
"""By default, a load may take so many times the setting ``sql.memory_bytes``."""


def handle_of(lake: Lake, row: RecordRow) -> Handle:
    """Returns a file as a cell of a dataset."""
    if row["sha256"] is None:
        return Handle(row["url"], filename=name_of(row), store=lake.blobs)
    return Handle(sha256=row["sha256"], size=row["size"], filename=name_of(row), store=lake.blobs)


def name_of(row: RecordRow) -> str:
    """Returns a name for a file: the last part of its key, or its uid with the suffix."""
    name = str(row["key"] or "").rpartition("/")[2]
    return name if name.endswith(row["suffix"] or "") and name else f"{row['uid']}{row['suffix'] or ''}"


def suffix_of(file: Any) -> str:
    """Returns the suffix of a file, also of one that is not saved yet."""
    from lakefeed.registry.data_kinds import AnnotatedData, TableData
    from lakefeed.storage.urls import suffix

    if file._row is not None:
        return str(file._row["suffix"] or "")
    match file._data:
        case TableData():
            return ".parquet"
        case AnnotatedData():
            return ".h5ad"
        case location:
            return suffix(location.name)


def budget_of(lake: Lake, max_bytes: int | None) -> int:
    """Returns the bytes that a load may take."""
    return BUDGET_FACTOR * lake.settings.sql.memory_bytes if max_bytes is None else check_whole(max_bytes, "max_bytes")


def load(lake: Lake, rows: Sequence[RecordRow], join: Any, max_bytes: int | None, options: Mapping[str, Any]) -> Any:
    """Returns files in memory: one as it is, several joined in order."""
    check_join(join)
    check_budget(sum(row["size"] or 0 for row in rows), budget_of(lake, max_bytes))
    files = [
        LoadedFile(row["uid"], row["key"] or row["uid"], row["suffix"] or "", Path(stage(lake, row))) for row in rows
    ]
    return load_file(files[0], options) if len(files) == 1 else load_together(files, join, options)


def stage(lake: Lake, row: RecordRow) -> str:
    """Returns the path of a local copy of a file."""
    return str(handle_of(lake, row).path())


def backed(lake: Lake, row: RecordRow) -> ArrayAccess:
    """Returns lazy access to an .h5ad file.

    Raises:
        TypeMismatchError: it is another file.
    """
    if row["suffix"] != ".h5ad":
        raise TypeMismatchError(f"backed opens .h5ad files, and {name_of(row)!r} is not one; use load() or stage()")
    return ArrayAccess(handle_of(lake, row))


def mapped(lake: Lake, rows: Sequence[RecordRow], options: Mapping[str, Any]) -> MappedCells:
    """Returns rows of .h5ad files by index.

    Raises:
        TypeMismatchError: one is another file.
    """
    from lakefeed.arrays.mapped_cells import map_anndata

    others = [name_of(row) for row in rows if row["suffix"] != ".h5ad"]
    if others:
        raise TypeMismatchError(
            f"mapped reads .h5ad files, and {others[0]!r} is not one; use load(), or rows() or .dataset of a dataset"
        )
    handles: list[Any] = [handle_of(lake, row) for row in rows]
    return map_anndata(handles, **options)
