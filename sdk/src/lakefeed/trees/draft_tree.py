"""Trees in progress: files that were added or removed, and the view of the tree with them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pyarrow as pa

from lakefeed._arrow import compute as pc
from lakefeed.errors import DatasetNotFoundError, TreeNotFoundError, TreeStateError, VersionNotFoundError
from lakefeed.media.file import FILE
from lakefeed.media.media_records import records_array
from lakefeed.storage.cache.file_fingerprints import FileFingerprints
from lakefeed.trees.content_hashes import hash_files
from lakefeed.trees.draft_tables import DraftFacts, DraftTable
from lakefeed.trees.external_files import ExternalFile
from lakefeed.trees.finished_tree import FinishedTree
from lakefeed.trees.folder_scan import LocalFile
from lakefeed.trees.tree_identity import TreeId
from lakefeed.trees.tree_paths import at_or_below, check_conflicts, conflict_error, folders_above, has_below, matching
from lakefeed.trees.tree_results import AddedFiles, Synced
from lakefeed.trees.tree_rows import CHANGE_SCHEMA, TREE_SCHEMA, TreeRows, apply_changes, column, overlay

if TYPE_CHECKING:
    from lakefeed.catalog.lake import Lake

AnyFile: TypeAlias = LocalFile | ExternalFile

FEW_PATHS: Final = 256
"""Up to so many new paths, conflicts are looked up path by path."""


@dataclass(eq=False)
class DraftTree:
    """A tree in progress. For one thread.

    Attributes:
        lake: the lake.
        id: the id.
        facts: its facts.
        parents: the parents, in order.
        pending: by path, the local files that were added and are not uploaded yet; None for files that were removed.
        origins: by path, the origins of pending files that are unchanged, and whose stored contents are damaged.
    """

    lake: Lake
    id: TreeId
    facts: DraftFacts
    parents: Sequence[FinishedTree]
    pending: dict[str, AnyFile | None] = field(default_factory=dict)
    origins: dict[str, str | None] = field(default_factory=dict)
    _base: TreeRows | None = None
    _stored: tuple[int, TreeRows] | None = None
    _uploaded: set[str] = field(default_factory=set)

    @property
    def table(self) -> DraftTable:
        """The table with what was uploaded."""
        return DraftTable(self.lake, self.id.key)

    @property
    def base(self) -> TreeRows:
        """The files of the parents.

        Raises:
            ConflictingPathsError: a path is a file in one parent and a folder in another.
            TreeNotFoundError: a parent was deleted.
        """
        if self._base is None:
            rows = [parent_rows(each, self.id) for each in self.parents]
            self._base = overlay(rows, [str(each.id) for each in self.parents])
        return self._base

    @property
    def stored(self) -> TreeRows:
        """The files of the parents, with all that any process has uploaded.

        Raises:
            TreeStateError: another process has finalized or deleted the draft.
        """
        table = self.table.load()
        if table is None:
            raise self.gone_error()
        snapshot = table.metadata.current_snapshot_id or 0
        if self._stored is None or self._stored[0] != snapshot:
            changes = self.table.changes(table)
            self._uploaded = set(column(changes, "path").to_pylist())
            self._stored = snapshot, apply_changes(self.base, changes)
        return self._stored[1]

    def check_stored(self, origin: str) -> TreeRows:
        """Returns `stored`, in which no path is a file and a folder.

        Raises:
            ConflictingPathsError: one is, by uploads of several processes.
        """
        stored = self.stored
        if len(self._uploaded) > FEW_PATHS:
            check_conflicts(stored.path_list, origin)
        else:
            check_new_paths(stored, (path for path in self._uploaded if stored.index(path) is not None), origin)
        return stored

    @property
    def known(self) -> TreeRows:
        """The files as `stored` was last seen, so that many calls look at the catalog once."""
        return self.stored if self._stored is None else self._stored[1]

    @property
    def is_dirty(self) -> bool:
        """True if files wait to be uploaded."""
        return any(file is not None for file in self.pending.values())

    def view(self) -> TreeRows:
        """Returns the files with those that wait to be uploaded, which have no digest yet."""
        return apply_changes(self.stored, pending_changes(self.pending))

    def gone_error(self) -> TreeStateError:
        """Returns the error for a draft that exists no more."""
        waiting = list(self.pending)
        lost = (
            f" Not recorded, and in no version: changes of {len(waiting)} files, such as {waiting[0]!r}."
            if waiting
            else ""
        )
        return TreeStateError(f"the draft {str(self.id)!r} was finalized or deleted by another process.{lost}")

    def sealed_error(self) -> TreeStateError:
        """Returns the error for an upload to a draft that is being finalized."""
        return TreeStateError(
            f"the draft {str(self.id)!r} is being finalized by another process, so nothing can be uploaded. If that "
            "process has died, call finalize() to complete its work"
        )

    def add(self, files: Mapping[str, AnyFile], origin: str) -> AddedFiles:
        """Adds files by their paths in the tree.

        Raises:
            ConflictingPathsError: a path would be a file and a folder. Nothing was added.
            FileError: a file cannot be read. Nothing was added.
        """
        stored = self.known
        self._check_conflicts(stored, files, origin)
        positions = _positions(stored, files)
        unchanged = self._unchanged(stored, files, positions)
        unsound = self.lake.blobs.find_unsound(set(unchanged.values()))
        added = modified = 0
        for path, file in files.items():
            was_pending, before = path in self.pending, self.pending.get(path)
            if path in unchanged:
                added += was_pending and before is None
                modified += before is not None and before != file
                self.pending.pop(path, None)
                if unchanged[path] in unsound:
                    self.pending[path] = file  # the upload stores its content anew
                    self.origins[path] = stored.table["origin"][positions[path] or 0].as_py()
                continue
            self.origins.pop(path, None)
            exists = before is not None if was_pending else positions[path] is not None
            added += not exists
            modified += exists and before != file
            self.pending[path] = file
        return AddedFiles.of(added, modified, len(files) - added - modified)

    def remove(self, pattern: str, recursive: bool) -> int:
        """Removes the files that match a pattern, and returns their number."""
        view = self.view()
        return self._remove(view.paths.filter(matching(view.paths, pattern, recursive)).to_pylist())

    def sync(self, files: Mapping[str, AnyFile], folder: str, origin: str) -> Synced:
        """Makes the tree below a folder of it equal to these files, by their paths in the tree."""
        view = self.view()
        below = view.paths if not folder else view.paths.filter(at_or_below(view.paths, folder))
        gone = below.filter(pc.invert(pc.is_in(below, value_set=pa.array(list(files), pa.string()))))
        before = dict(self.pending)
        removed = self._remove(gone.to_pylist())
        try:
            counts = self.add(files, origin)
        except BaseException:
            self.pending = before
            raise
        return Synced.of(removed, counts.added, counts.modified)

    def _remove(self, paths: Iterable[str]) -> int:
        removed, stored = 0, self.known
        for removed, path in enumerate(paths, 1):  # noqa: B007 - the last number is the result
            if stored.index(path) is None:
                self.pending.pop(path, None)
            else:
                self.pending[path] = None
        return removed

    def _unchanged(
        self, stored: TreeRows, files: Mapping[str, AnyFile], positions: Mapping[str, int | None]
    ) -> dict[str, str]:
        """Returns the paths whose stored file has the same content and executable bit, with its SHA-256 or URL.

        Hashes files of equal size.
        """
        known = {path: at for path, at in positions.items() if at is not None}
        rows = stored.take(pa.array(list(known.values()), pa.int64()))
        sizes = column(rows.table, "file").field("size").to_pylist()
        same: dict[str, str] = {}
        same_size: dict[LocalFile, tuple[str, str]] = {}
        facts = zip(known, sizes, *(each.to_pylist() for each in rows.contents), strict=True)
        for path, size, sha256, url, etag, executable in facts:
            file = files[path]
            if isinstance(file, LocalFile):
                if file.size == size and file.executable == executable and sha256:
                    same_size[file] = path, sha256
            elif file.etag is not None and (file.url, file.etag, file.size) == (url, etag, size):
                same[path] = url
        hashes = hash_files(list(same_size), FileFingerprints(self.lake.settings.cache))
        digests = zip(same_size.values(), hashes, strict=True)
        return same | {path: sha256 for (path, sha256), own in digests if sha256 == own.hex()}

    def _check_conflicts(self, stored: TreeRows, files: Mapping[str, AnyFile], origin: str) -> None:
        gone = {path for path, file in self.pending.items() if file is None}
        if len(files) > FEW_PATHS or gone:
            present = (path for path in stored.path_list if path not in gone)
            check_conflicts({*present, *files, *(self.pending.keys() - gone)}, origin)
            return
        check_new_paths(stored, files, origin)
        waiting = sorted({*self.pending, *files}) if len(self.pending) <= FEW_PATHS else []
        for path in files:
            for folder in folders_above(path):
                if folder in self.pending or folder in files:
                    raise conflict_error(folder, path, origin)
            below = has_below(waiting, path)
            if below is not None:
                raise conflict_error(path, below, origin)


def parent_rows(parent: FinishedTree, child: TreeId) -> TreeRows:
    """Returns the files of a parent.

    Raises:
        TreeNotFoundError: it was deleted. The message names it.
    """
    try:
        return parent.rows
    except (VersionNotFoundError, DatasetNotFoundError):
        raise lost_parent_error(str(parent.id), child) from None


def lost_parent_error(parent: str, child: TreeId) -> TreeNotFoundError:
    """Returns the error for a tree whose parent was deleted."""
    return TreeNotFoundError(
        f"the parent {parent!r} of the file tree {str(child)!r} was deleted. A version can be compared with "
        "another tree (dataset_id=…); a draft can only be deleted"
    )


def check_new_paths(rows: TreeRows, paths: Iterable[str], origin: str) -> None:
    """Checks that none of a few paths is a folder of a path of a tree, or lies below a file of it.

    Raises:
        ConflictingPathsError: one does. The message names both.
    """
    for path in paths:
        for folder in folders_above(path):
            if rows.index(folder) is not None:
                raise conflict_error(folder, path, origin)
        below = rows.below(path)
        if below is not None:
            raise conflict_error(path, below, origin)


def _positions(stored: TreeRows, files: Mapping[str, AnyFile]) -> dict[str, int | None]:
    """Returns the position of each path in a tree; None for those that it lacks."""
    if len(files) <= FEW_PATHS:
        return {path: stored.index(path) for path in files}
    paths = list(files)
    indices: Any = pc.index_in(pa.array(paths, pa.string()), value_set=stored.paths)
    return dict(zip(paths, indices.to_pylist(), strict=True))


def pending_changes(pending: Mapping[str, AnyFile | None]) -> pa.Table:
    """Returns pending files as changes; contents that are not uploaded have a size and no digest."""
    records = [_record(path, file) for path, file in pending.items()]
    size = len(pending)
    columns: list[Any] = [
        pa.array(list(pending), pa.string()),
        records_array(records, FILE),
        pa.array([file is not None and file.executable for file in pending.values()], pa.bool_()),
        pa.array([file.etag if isinstance(file, ExternalFile) else None for file in pending.values()], pa.string()),
        pa.nulls(size, pa.string()),
        pa.array(["remove" if file is None else "add" for file in pending.values()], pa.string()),
    ]
    assert len(TREE_SCHEMA) == len(columns) - 1
    return pa.table(columns, schema=CHANGE_SCHEMA)


def _record(path: str, file: AnyFile | None) -> dict[str, Any] | None:
    if not isinstance(file, ExternalFile):
        return None if file is None else {"size": file.size}
    name = path.rpartition("/")[2]
    return {"url": file.url, "size": file.size, "filename": name, "content_type": FILE.content_type(name, b"")}
