"""The upload of pending files of a draft: contents first, then the rows that name them, in one commit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import islice
from typing import Any, Final

import pyarrow as pa

from lakefeed.catalog.action import fence_value
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_builder import BeforeCommit
from lakefeed.errors import (
    CommitConflictError,
    DatasetNotFoundError,
    FenceError,
    FileError,
    MissingFileError,
    quoted_list,
)
from lakefeed.media.cell_sources import ContentSource, StoredContent
from lakefeed.media.contents import ContentWriter, Progress
from lakefeed.media.file import FILE
from lakefeed.run.progress import counted
from lakefeed.run.write_context import content_saving
from lakefeed.storage.blobs.blob_writer import BlobWriter
from lakefeed.storage.cache.file_fingerprints import FileFingerprints
from lakefeed.trees.draft_tables import SEAL, is_sealed
from lakefeed.trees.draft_tree import AnyFile, DraftTree, pending_changes
from lakefeed.trees.folder_scan import LocalFile, current_file
from lakefeed.trees.tree_rows import ADD, CHANGE_SCHEMA

GROUP_FILES: Final = 4_096
MAX_ATTEMPTS: Final = 3


class TreeContent(ContentSource):
    """A local file that is a file of a tree."""

    @property
    def location(self) -> str:
        """The path in the tree, for messages."""
        return f"file {self.column!r} of the tree"

    def missing(self) -> MissingFileError:
        """Returns the error for a file that does not exist."""
        return MissingFileError(
            f"{self.location}: {self.text!r} has vanished since it was added. Nothing was committed. Remove it with "
            f"remove_files({self.column!r}), or add it again"
        )


def upload(draft: DraftTree, show_progress: bool) -> None:
    """Uploads pending files, and records pending removals.

    Files that have vanished, or are not regular files any more, stay pending; the others are uploaded.

    Raises:
        MissingFileError, FileError: files have vanished, or cannot be read. The message names them.
        TreeStateError: another process has finalized or deleted the draft.
    """
    ready, failures = _split(draft.pending)
    if ready:
        _upload(draft, ready, show_progress)
        for path in ready:
            del draft.pending[path]
    if failures:
        paths, first = quoted_list(failures), next(iter(failures.values()))
        kind = MissingFileError if all(isinstance(each, MissingFileError) for each in failures.values()) else FileError
        raise kind(
            f"{len(failures)} files of the tree could not be uploaded and stay pending: {paths}. The first one: {first}"
            ". Add them again, or remove them with remove_files(…); the other files were uploaded"
        )


def _split(pending: Mapping[str, AnyFile | None]) -> tuple[dict[str, AnyFile | None], dict[str, FileError]]:
    """Returns the changes that can be uploaded, with the files as they are now, and the errors of the others."""
    ready: dict[str, AnyFile | None] = {}
    failures: dict[str, FileError] = {}
    for path, file in pending.items():
        try:
            ready[path] = current_file(file.path) if isinstance(file, LocalFile) else file
        except FileError as error:
            failures[path] = error
    return ready, failures


def _upload(draft: DraftTree, ready: Mapping[str, AnyFile | None], show_progress: bool) -> None:
    with ExitStack() as stack:
        writer, check = stack.enter_context(content_saving(draft.lake))
        progress: Progress = lambda size: None  # noqa: E731
        if show_progress:
            progress = stack.enter_context(counted(f"files of {draft.id.dataset}", "B"))
        for _ in range(MAX_ATTEMPTS):
            if _append(draft, FileRows(draft.lake, writer, progress, draft.origins).batches(ready), check):
                return
        raise CommitConflictError(
            f"the draft {str(draft.id)!r} was sealed and opened again {MAX_ATTEMPTS} times; try again"
        )


def _append(draft: DraftTree, batches: Iterator[pa.RecordBatch], check: BeforeCommit) -> bool:
    """Appends changes. Returns False if another process tried to finalize the draft meanwhile, and failed.

    Raises:
        TreeStateError: another process has finalized or deleted the draft, or is about to finalize it.
    """
    table = draft.table.load()
    if table is None:
        raise draft.gone_error()
    seal = fence_value(table, SEAL)
    if is_sealed(seal):
        raise draft.sealed_error()
    try:
        draft.table.append(batches, check, seal)
    except DatasetNotFoundError:
        raise draft.gone_error() from None
    except FenceError:
        return False
    return True


@dataclass(frozen=True)
class FileRows:
    """Makes the rows of files while it stores their contents.

    Attributes:
        lake: the lake.
        writer: the writer of contents.
        progress: is told the numbers of bytes.
        origins: the origins of files, by path; those of others are null.
    """

    lake: Lake
    writer: BlobWriter
    progress: Progress
    origins: Mapping[str, str | None]

    def batches(self, changes: Mapping[str, AnyFile | None]) -> Iterator[pa.RecordBatch]:
        """Yields changes. The contents that they name are durable after the last one."""
        others = {path: file for path, file in changes.items() if not isinstance(file, LocalFile)}
        yield from pending_changes(others).to_batches()
        files = iter([(path, file) for path, file in changes.items() if isinstance(file, LocalFile)])
        fingerprints = FileFingerprints(self.lake.settings.cache)
        with ContentWriter(self.writer, fingerprints, self.progress) as contents:
            before = None
            while group := list(islice(files, GROUP_FILES)):
                sources = [
                    TreeContent(path, 0, file.path, file.path, status=(file.size, file.fingerprint))
                    for path, file in group
                ]
                pending = contents.begin(sources)
                if before is not None:
                    yield self._records(before[0], contents.finish(before[1]))
                before = group, pending
            if before is not None:
                yield self._records(before[0], contents.finish(before[1]))
        self.writer.flush()

    def _records(self, group: list[tuple[str, LocalFile]], contents: list[StoredContent]) -> pa.RecordBatch:
        return _records(group, contents, [self.origins.get(path) for path, _ in group])


def _records(
    group: list[tuple[str, LocalFile]], contents: list[StoredContent], origins: list[str | None]
) -> pa.RecordBatch:
    size, names = len(group), [path.rpartition("/")[2] for path, _ in group]
    fields: dict[str, Any] = {
        "sha256": [content.sha256.hex() for content in contents],
        "size": [content.size for content in contents],
        "content_type": [FILE.content_type(name, content.head) for name, content in zip(names, contents, strict=True)],
        "filename": names,
    }
    records = pa.StructArray.from_arrays(
        [pa.array(fields[f.name], f.type) if f.name in fields else pa.nulls(size, f.type) for f in FILE.struct],
        fields=list(FILE.struct),
    )
    columns: list[Any] = [
        pa.array([path for path, _ in group], pa.string()),
        records,
        pa.array([file.executable for _, file in group], pa.bool_()),
        pa.nulls(size, pa.string()),
        pa.array(origins, pa.string()),
        pa.array([ADD] * size, pa.string()),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=CHANGE_SCHEMA)
