"""The refresh of an index: segments of what was added, changed and removed, committed exactly once."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Protocol

import pyarrow as pa

from lakefeed.errors import CommitConflictError, DamagedDatasetError, FenceError, IndexNotFoundError
from lakefeed.search.index_ledger import IndexLedger, IndexState, Position, SegmentFile
from lakefeed.search.local_files import SCRATCH, link_files, local_folder, read_files, remove_local_folder, root_folder
from lakefeed.storage.disk.scratch import scratch_folder

MAX_ATTEMPTS: Final = 20
MANY_ROWS: Final = 10_000


class ChangedRows(NamedTuple):
    """The rows of a table that changed: all old and new keys as text, and the rows that are there now."""

    removed: list[str]
    added: Iterable[pa.RecordBatch]


class RowsToIndex(Protocol):
    """The newest version of the table of an index. It stays the same whatever is committed."""

    @property
    def position(self) -> Position:
        """The version."""

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Yields all rows, with the columns of the key and of the fields."""

    def changes(self, since: Position) -> ChangedRows | None:
        """Returns the rows that changed since an older version; None if all are to be read again."""


class SegmentWriter(Protocol):
    """Writes the segments of one kind of index."""

    def write(self, folder: Path, removed: Iterable[str], added: Iterable[pa.RecordBatch], large: bool) -> list[str]:
        """Brings the segments in a folder up to date, and returns the names of the files that are needed."""


class Refresh:
    """The refresh of one index.

    Args:
        ledger: the index.
        segments: writes its segments.
        newest: returns the newest version of its table.
    """

    def __init__(self, ledger: IndexLedger, segments: SegmentWriter, newest: Callable[[], RowsToIndex]) -> None:
        self._ledger, self._segments, self._newest = ledger, segments, newest

    def run(self, mend: bool) -> IndexState:
        """Returns a version of the index that is as new as the rows.

        Args:
            mend: an index that is away or damaged is built anew; else it is an error.

        Raises:
            IndexNotFoundError, DamagedDatasetError: the index is away or damaged.
            CommitConflictError: other refreshes kept committing first.
        """
        for _ in range(MAX_ATTEMPTS):
            state = self._load(mend)  # before the rows, so that these are newer
            rows = self._newest()
            is_new = state.position == rows.position
            if is_new and not (mend and self._is_damaged(state)):
                return state
            try:
                self._commit(state, rows, None if is_new else state.position, mend)
            except FenceError:
                continue
            if is_new:
                remove_local_folder(self._ledger, state)
        raise CommitConflictError(
            f"the index {self._ledger.definition.name!r} was refreshed by others {MAX_ATTEMPTS} times; try again"
        )

    def _load(self, mend: bool) -> IndexState:
        try:
            return self._ledger.load()
        except (IndexNotFoundError, DamagedDatasetError):
            if not mend:
                raise
            self._ledger.create_again()
            return self._ledger.load()

    def _is_damaged(self, state: IndexState) -> bool:
        """Returns whether files are missing in the store, or cannot be fetched."""
        try:
            files = read_files(self._ledger, state)
            if not all(self._ledger.lake.blobs.has(file.sha256) for file in files):
                return True
            local_folder(self._ledger, state)
        except DamagedDatasetError:
            return True
        return False

    def _commit(self, state: IndexState, rows: RowsToIndex, since: Position | None, mend: bool) -> None:
        """Writes segments since a version, or all for None, and commits them."""
        with scratch_folder(root_folder(self._ledger), SCRATCH) as scratch:
            folder, before = scratch / "segments", list[SegmentFile]()
            folder.mkdir()
            changes = None
            if since is not None and since.table_uuid == rows.position.table_uuid:
                changes = rows.changes(since)
            if changes is not None:
                try:
                    before = read_files(self._ledger, state)
                    link_files(self._ledger, before, folder)
                except DamagedDatasetError:
                    if not mend:
                        raise
                    changes, folder, before = None, scratch / "anew", []
                    folder.mkdir()
            inodes = {file.name: (folder / file.name).stat().st_ino for file in before}
            names = self._write(folder, rows, changes, before)
            replaced = {name for name in names if inodes.get(name) != (folder / name).stat().st_ino}
            unchanged = [file for file in before if file.name in names and file.name not in replaced]
            files = {name: folder / name for name in replaced}
            self._ledger.commit(state, rows.position, unchanged, files, distrust=mend)

    def _write(
        self, folder: Path, rows: RowsToIndex, changes: ChangedRows | None, before: list[SegmentFile]
    ) -> list[str]:
        if changes is None:
            return self._segments.write(folder, (), rows.rows(), large=True)
        if not changes.removed:
            return [file.name for file in before]
        return self._segments.write(folder, changes.removed, changes.added, large=len(changes.removed) > MANY_ROWS)
