"""Actions on rows that are there already: each is one snapshot, one version, made anew when another writer was faster.

An edit is a function of the newest version: it is given a `Draft` and says which rows of which files go, and which rows
are new. Only files that lose rows are written again (*copy on write*), and the rows that stay keep their place: the
new file has the data sequence number of the old one, and a name that sorts where the old one did. New rows are those of
the version that writes them, so they come last. On a conflict the edit is asked again, with the version that the other
writer made; what was written for files that are still there is used again.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.manifest import DataFile, ManifestContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import TableUpdate

from lakefeed.catalog.action import Action, Fence, Provenance
from lakefeed.catalog.column_decisions import decide_columns
from lakefeed.catalog.commit_retry import commit_with_retry
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import ROWS_ADDED, ROWS_REMOVED
from lakefeed.catalog.replaced_rows import CompareFiles, count_removed_rows
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.schema_evolution import schema_switch_updates
from lakefeed.catalog.snapshot_builder import BeforeCommit, Contents, RewrittenFile, SnapshotBuilder
from lakefeed.catalog.table_rows import RowWriter, check_writable, rewrite_without, write_rows
from lakefeed.catalog.version_files import DataFileRef, data_files, manifest_entries
from lakefeed.catalog.versions import DatasetVersion, Pin, find_snapshot
from lakefeed.errors import UnsupportedError


@dataclass
class Draft:
    """What an edit makes of the version that is the newest now.

    ``told``: new rows are new and removed rows gone. An edit that may bring rows that were there before tells neither;
    then readers compare.
    """

    lake: Lake
    table: Table
    ours: SnapshotBuilder
    told: bool = True
    _written: dict[Hashable, tuple[DataFile, ...]] = field(default_factory=dict)
    _added: list[DataFile] = field(default_factory=list)
    _carried: list[RewrittenFile] = field(default_factory=list)
    _removed: dict[str, str] = field(default_factory=dict)
    _manifests: set[str] = field(default_factory=set)
    _rows_removed: int = 0

    @property
    def files(self) -> tuple[DataFileRef, ...]:
        """The data files as they are now, in row order."""
        return data_files(self.lake, self.table)

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are now."""
        return declared_schema(self.table)

    def remove(self, file: DataFileRef) -> None:
        """Leaves a file out, with all its rows."""
        self._leave_out(file)
        self._rows_removed += file.rows

    def drop(self, file: DataFileRef, places: NDArray[np.int64], rows: Callable[[], Iterable[pa.RecordBatch]]) -> None:
        """Leaves the rows at ``places`` (sorted, distinct) of a file out; ``rows()`` gives those of the whole file."""
        if len(places) == file.rows:
            return self.remove(file)
        if len(places) == 0:
            return None
        key = (self._columns, file.path, hashlib.sha256(places.tobytes()).digest())
        if key not in self._written:
            written = rewrite_without(self.lake, self.table, self.ours, file, places, rows())
            self._written[key] = (written,)
        self._leave_out(file)
        self._carried += [RewrittenFile(kept, file.sequence) for kept in self._written[key]]
        self._rows_removed += len(places)

    def _leave_out(self, file: DataFileRef) -> None:
        self._removed[file.path] = file.manifest
        self._manifests.add(file.manifest)

    def add(
        self, key: Hashable, batches: Callable[[], Iterable[pa.RecordBatch]], write: RowWriter = write_rows
    ) -> None:
        """Adds rows at the end; what ``key`` stands for is written once, however many attempts it takes."""
        key = self._columns, key
        if key not in self._written:
            self._written[key] = write(self.lake, self.table, self.schema, self.ours, batches())
        self._added += self._written[key]

    @cached_property
    def _columns(self) -> Hashable:
        """The columns of the files to be written: those of another attempt may differ."""
        return tuple(self.table.schema().fields)

    def contents(self) -> Contents:
        """What the snapshot changes."""
        rows_added = sum(file.record_count for file in self._added)
        told = {ROWS_ADDED: str(rows_added), ROWS_REMOVED: str(self._rows_removed)} if self.told else {}
        manifests = frozenset(self._manifests)
        return Contents(tuple(self._added), tuple(self._carried), self._removed, told, manifests=manifests)


def edit(
    lake: Lake,
    name: str,
    revise: Callable[[Draft], None],
    *,
    told: bool = True,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    guard: BeforeCommit | None = None,
    incoming: pa.Schema | None = None,
) -> DatasetVersion:
    """The version that an edit makes; where it changes nothing and there is no fence, the newest version as it is.

    ``revise`` may be called several times, each time with the version that is the newest then. ``incoming``: the
    columns of rows that it adds, which may decide columns of the dataset (:mod:`lakefeed.catalog.column_decisions`).

    Raises:
        DatasetNotFoundError: no such dataset.
        UnsupportedError: another writer keeps deletes of the table in delete files, or has partitioned it.
        FenceError, CommitConflictError: nothing was written.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    table = lake.table(name)
    ours = SnapshotBuilder(table, action.facts(), guard=guard)
    written: dict[Hashable, tuple[DataFile, ...]] = {}

    def attempt(current: Table) -> tuple[TableUpdate, ...] | None:
        check_writable(current)
        _check_no_delete_files(current, data_files(lake, current))
        decision = decide_columns(current, incoming)
        draft = Draft(lake, decision.table, ours, told, written)
        revise(draft)
        ours.contents = decision.contents(draft.contents())
        empty = not (ours.contents.files or ours.contents.removed)
        return None if empty and fence is None and current.current_snapshot() is not None else decision.updates

    with ours.landing():
        return commit_with_retry(lake, name, table, ours, action, attempt)


def restore(
    lake: Lake,
    name: str,
    version: Pin,
    *,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    guard: BeforeCommit | None = None,
    compare: CompareFiles | None = None,
) -> DatasetVersion:
    """A new version whose rows, columns and their order are those of an old one; no data is written.

    Where the newest version is like it already, that one is returned. ``compare`` reads files where they do not tell
    how many rows go (see `rows_gone`).

    Raises:
        DatasetNotFoundError, VersionNotFoundError: there is no such version.
        UnsupportedError: another writer keeps deletes in delete files.
        FenceError, CommitConflictError: nothing was written.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    table = lake.table(name)
    ours = SnapshotBuilder(table, action.facts(), guard=guard)

    def attempt(current: Table) -> tuple[TableUpdate, ...] | None:
        old = find_snapshot(current, version)
        ours.contents = _contents_to_restore(lake, current, old, compare)
        switch = schema_switch_updates(current, old)
        empty = not (ours.contents.files or ours.contents.removed or switch)
        return None if empty and fence is None else switch

    with ours.landing():
        return commit_with_retry(lake, name, table, ours, action, attempt)


def _contents_to_restore(lake: Lake, current: Table, old: Snapshot, compare: CompareFiles | None) -> Contents:
    now, before = data_files(lake, current), data_files(lake, current, old.snapshot_id)
    _check_no_delete_files(current, (*now, *before))
    # A table may name a file more than once, and each time its rows count again.
    times, times_before = (Counter(file.path for file in files) for files in (now, before))
    changed = {path for path in times | times_before if times[path] != times_before[path]}
    gone = [file for file in now if file.path in changed]
    back = [entry for entry in _data_entries(current, old) if entry.data_file.file_path in changed]
    removed = count_removed_rows(current, gone, [file for file in before if file.path in changed], compare)
    return Contents(
        carried=tuple(RewrittenFile(entry.data_file, entry.sequence_number or 0) for entry in back),
        removed={file.path: file.manifest for file in gone},
        # They were added by the version that wrote them: whoever reads what is new has read them then.
        facts={ROWS_ADDED: "0", ROWS_REMOVED: str(removed)},
        schema_id=old.schema_id,
        manifests=frozenset(file.manifest for file in gone),
    )


def _data_entries(table: Table, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    manifests = (m for m in snapshot.manifests(table.io) if m.content == ManifestContent.DATA)
    return (entry for _, entry in manifest_entries(table, manifests))


def _check_no_delete_files(table: Table, files: Iterable[DataFileRef]) -> None:
    if any(file.has_deletes for file in files):
        raise UnsupportedError(
            f"another writer keeps deletes of {table.name()[-1]!r} in delete files; let it compact the table first"
        )
