"""Files are saved: their contents first, then their records, in one transaction."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection

from lakefeed import _paths
from lakefeed.catalog import current_run
from lakefeed.catalog.lake import Lake
from lakefeed.errors import MissingFileError, UnsavedDatasetError
from lakefeed.records.version_rows import run_uid
from lakefeed.registry import file_inserts, record_rows
from lakefeed.registry.data_kinds import LocalData, RemoteData
from lakefeed.registry.file_contents import store_files
from lakefeed.registry.file_inserts import NewFile
from lakefeed.registry.record_rows import RecordRow
from lakefeed.run.write_context import content_saving
from lakefeed.trees.folder_scan import local_path_of, scan

if TYPE_CHECKING:
    from lakefeed.registry.file_records import File

logger = logging.getLogger(__name__)


def files_of_folder(kind: type[File], path: Any, prefix: str | None, run: Any) -> list[File]:
    """Returns new files for those of a folder, sorted by path.

    Raises:
        MissingFileError: the folder does not exist, or has no files.
    """
    folder = local_path_of(path, "path")
    if not _paths.is_folder(folder):
        raise MissingFileError(
            f"from_dir: path={str(folder)!r}: there is no such folder{_paths.explain_missing(folder)}"
        )
    settings = Lake.current().settings
    found = scan(folder, lambda path: True, folder, "follow", left_out=[settings.home, settings.cache])
    if not found:
        raise MissingFileError(f"from_dir: there are no files in {str(folder)!r}")
    start = f"{prefix.rstrip('/')}/" if prefix else ""
    return [kind(file.path, key=f"{start}{relative}", run=run) for relative, file in sorted(found.items())]


def save_files(lake: Lake, files: Sequence[File]) -> None:
    """Saves those files that are not saved yet. Each becomes a new record, or the record of its content."""
    new = unsaved(files)
    if not new:
        return
    with content_saving(lake) as (writer, check):
        stored = store_files(lake, writer, [each._data for each in new])
        rows = [_new_file(each, content) for each, content in zip(new, stored, strict=True)]
        check()
        records = file_inserts.insert_files(lake, rows, lambda connection: _records_of(connection, rows))
    for file, row, record in zip(new, rows, records, strict=True):
        if not row.is_new:
            logger.info("%s has the content of the record %s, which it becomes", file_title(file), row.uid)
        file._row, file._values = record, {}


def _records_of(connection: Connection, rows: Sequence[NewFile]) -> Sequence[RecordRow]:
    """Returns the records that were inserted, or that have the contents of files."""
    return record_rows.rows_of_uids(connection, [each.uid for each in rows])


def unsaved(files: Sequence[File]) -> list[File]:
    """Returns the files that are not saved yet, each object once."""
    return list({id(each): each for each in files if each._row is None}.values())


def new_files(files: Sequence[File], stored: Sequence[Any]) -> list[NewFile]:
    """Returns the rows to be recorded of files whose contents are stored."""
    return [_new_file(each, content) for each, content in zip(files, stored, strict=True)]


def _new_file(file: File, stored: Any) -> NewFile:
    former, values = file._former, file._values
    if former is not None and former._row is None:
        raise UnsavedDatasetError(f"is_new_version_of: {former!r} is not saved yet; call save() of it first")
    state = current_run.current_state()
    run = file._run_id if file._run_id is not None or state is None else state.id
    columns = {name: values[name] for name in ("description", "reference", "reference_type")}
    columns["key"] = values["key"] if values["key"] or former is None else former.key
    columns["name"] = columns["key"].rpartition("/")[2] if columns["key"] else data_name(file._data)
    columns["run"] = None if run is None else run_uid(run)
    columns["user"] = writing_user()
    columns["visibility"] = int(file.visibility)
    stem = None if former is None else former._row["stem"]  # type: ignore[index]  # it is saved
    return NewFile(stored, columns, values["version"], stem, file._new_labels, file._allow_duplicate)


def data_name(data: Any) -> str | None:
    """Returns the name of the local file or of the last part of the URL; None for data in memory."""
    return data.name if isinstance(data, LocalData | RemoteData) else None


def writing_user() -> str:
    """Returns the user of the operating system, as commits name it."""
    from lakefeed.catalog.action import Provenance
    from lakefeed.catalog.properties import USER

    return Provenance().summary_entries()[USER]


def file_title(file: File) -> str:
    """Returns the key of a file, or its name, for messages."""
    return repr(file.key or data_name(file._data) or "the file")
