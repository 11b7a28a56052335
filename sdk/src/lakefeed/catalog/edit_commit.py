"""Edits of existing rows. Each edit makes one snapshot, which is one version.

An edit is a function of the newest version. It receives a `Draft`, removes rows of files and adds rows. The positions
of removed rows are written to one delete file. A file that has lost a large share of its rows is written again instead,
without them. Its remaining rows keep their position: the new file has the data sequence number of the old one and a
name that sorts in the same position. New rows belong to the version that writes them, so they come last. Files of a
keyed table may be merged in the same snapshot; a merged file has the highest sequence number of its inputs, so its rows
are not new. After a conflict, the edit is called again with the version of the other writer. Files that were written
for unchanged inputs are used again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pyiceberg.manifest import DataFile
from pyiceberg.table import Table
from pyiceberg.table.update import TableUpdate

from lakefeed.catalog.action import Action, Fence, Provenance
from lakefeed.catalog.column_commit import ColumnChanges, ColumnCommit, NewColumnFile
from lakefeed.catalog.column_decisions import ColumnDecision, decide_columns
from lakefeed.catalog.column_files import column_index, has_column_files, unaligned_error
from lakefeed.catalog.column_schema import column_file_ids
from lakefeed.catalog.column_union import publish_columns
from lakefeed.catalog.column_writer import with_values, write_column_file
from lakefeed.catalog.commit_retry import commit_with_retry
from lakefeed.catalog.compaction import Merge, Merger, is_compact, merge_key, runs_to_merge
from lakefeed.catalog.delete_files import delete_index, deleted_positions
from lakefeed.catalog.delete_writer import files_to_merge, write_delete_file
from lakefeed.catalog.file_refs import NONE, DataFileRef, Positions
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.position_lists import subtract_positions, united_positions
from lakefeed.catalog.properties import DERIVED, REPLACED_EQUAL, ROWS_ADDED, ROWS_REMOVED
from lakefeed.catalog.row_totals import count_rows
from lakefeed.catalog.schema import declared_schema
from lakefeed.catalog.snapshot_builder import BeforeCommit, Contents, RewrittenFile, SnapshotBuilder
from lakefeed.catalog.table_rows import RowWriter, check_writable, rewrite_without, write_rows, write_sorted_rows
from lakefeed.catalog.version_files import data_files, live_rows
from lakefeed.catalog.versions import DatasetVersion

REWRITTEN_SHARE: Final = 0.3
"""A file that has lost this share of its rows is written again without them."""


WholeRows: TypeAlias = Callable[[DataFileRef], Iterator[pa.RecordBatch]]
Entry: TypeAlias = tuple[str, int]
"""The path and the sequence number of a file. A table may name a file more than once, in different versions."""


def _entry(file: DataFileRef) -> Entry:
    return file.path, file.sequence


@dataclass(frozen=True)
class Drop:
    """Rows to remove from a file.

    Attributes:
        file: the file.
        before: the positions of the rows that were removed already.
        fresh: the positions of the rows to remove.
        rows: returns all rows of the file.
    """

    file: DataFileRef
    before: Positions
    fresh: Positions
    rows: Callable[[], Iterable[pa.RecordBatch]]

    @property
    def removed(self) -> Positions:
        """The positions of all removed rows."""
        return united_positions([self.before, self.fresh])


@dataclass
class Draft:
    """The changes that an edit makes to the newest version.

    Attributes:
        lake: the lake.
        table: the table with its newest metadata.
        builder: the builder of the snapshot.
        counts_exact: every added row is new and every removed row is gone, so the summary can count them. If False,
            added rows may equal removed ones; readers compare them.
        replaced_equal: some added rows may equal removed rows of other files, although the counts are exact.
        merger: merges files of a keyed table that are due; None merges nothing.
        compact: merges all files that were there before.
        facts: further entries of the snapshot summary.
        columns: the column files of the action.
        whole_rows: returns the rows of each row group of a file, for tables without column files.
    """

    lake: Lake
    table: Table
    builder: SnapshotBuilder
    counts_exact: bool = True
    replaced_equal: bool = False
    merger: Merger | None = None
    compact: bool = False
    facts: dict[str, str] = field(default_factory=dict)
    columns: ColumnCommit | None = None
    whole_rows: WholeRows | None = None
    _written: dict[Hashable, tuple[DataFile, ...]] = field(default_factory=dict)
    _merges: dict[Hashable, Merge] = field(default_factory=dict)
    _drops: dict[Entry, Drop] = field(default_factory=dict)
    _column_files: dict[str, NewColumnFile] = field(default_factory=dict)
    _added: list[DataFile] = field(default_factory=list)
    _rewritten: list[RewrittenFile] = field(default_factory=list)
    _removed: dict[str, str] = field(default_factory=dict)
    _deleted: dict[str, Positions] = field(default_factory=dict)
    _manifests: set[str] = field(default_factory=set)
    _rows_removed: int = 0

    @property
    def files(self) -> tuple[DataFileRef, ...]:
        """The data files as they are now, in row order."""
        return data_files(self.lake, self.table)

    def allow_equal_rows(self) -> None:
        """Says that some added rows may equal removed rows of other files."""
        self.replaced_equal = True

    @property
    def schema(self) -> pa.Schema:
        """The columns as they are now."""
        return declared_schema(self.table)

    def remove(self, file: DataFileRef) -> None:
        """Removes a file with all its rows."""
        self._remove_file(file)
        self._rows_removed += live_rows(self.table, file)

    def drop(
        self, file: DataFileRef, positions: NDArray[np.int64], rows: Callable[[], Iterable[pa.RecordBatch]]
    ) -> None:
        """Removes rows of a file.

        Args:
            file: the file.
            positions: the positions of the rows in the file, sorted and distinct. Rows that are removed already are
                ignored.
            rows: returns all rows of the file, including those that are removed already.
        """
        before = deleted_positions(self.table, file.path, file.deletes)
        if earlier := self._drops.get(_entry(file)):
            positions = united_positions([positions, earlier.fresh])
        fresh = subtract_positions(positions, before)
        if len(fresh):
            self._drops[_entry(file)] = Drop(file, before, fresh, rows)

    def _apply(self, drop: Drop) -> None:
        """Removes rows of a file that is not merged."""
        if len(drop.removed) == drop.file.rows:
            self.remove(drop.file)
            return
        self._rows_removed += len(drop.fresh)
        # A file that gets columns in this action stays, as its column file is of its rows.
        if len(drop.removed) < REWRITTEN_SHARE * drop.file.rows or drop.file.path in self._column_files:
            self._deleted[drop.file.path] = drop.fresh
            return
        key = (self._columns, drop.file.path, drop.file.columns, hashlib.sha256(drop.removed.tobytes()).digest())
        if key not in self._written:
            written = rewrite_without(self.lake, self.table, self.builder, drop.file, drop.removed, drop.rows())
            self._written[key] = (written,)
        self._remove_file(drop.file)
        self._rewritten += [RewrittenFile(written, drop.file.sequence) for written in self._written[key]]

    def set_columns(
        self, file: DataFileRef, names: Sequence[str], key: Hashable, groups: Callable[[], Iterable[pa.RecordBatch]]
    ) -> None:
        """Writes values of columns for all rows of a file into a column file. They replace those that the file has.

        Args:
            file: the file.
            names: the columns, which are in column files (see `unite_columns`).
            key: tells the values from others for the same file. Those of one key are written once for all attempts.
            groups: returns the values, one batch for each row group of the file.
        """
        assert self.columns is not None, "only edits write column files"
        if not has_column_files(self.table):
            self._write_rows_with(file, key, groups)
            return
        known = (self._columns, "columns", file.path, file.columns, key)
        if known not in self._written:
            written = write_column_file(self.lake, self.table, file.path, names, groups)
            self.columns.builder.track_files([written])
            self._written[known] = (written,)
        self.use_columns(file, names, self._written[known][0])

    def _write_rows_with(
        self, file: DataFileRef, key: Hashable, groups: Callable[[], Iterable[pa.RecordBatch]]
    ) -> None:
        """Writes the rows of a file again, with values of columns."""
        assert self.whole_rows is not None, "who derives columns reads rows"
        removed = deleted_positions(self.table, file.path, file.deletes)
        known = (self._columns, "derived", file.path, file.columns, len(removed), key)
        if known not in self._written:
            rows = with_values(self.whole_rows(file), groups(), self.schema)
            self._written[known] = (rewrite_without(self.lake, self.table, self.builder, file, removed, rows),)
        self.facts[DERIVED] = "true"
        self._remove_file(file)
        self._rewritten += [RewrittenFile(each, file.sequence) for each in self._written[known]]

    def use_columns(self, file: DataFileRef, names: Sequence[str], written: DataFile) -> None:
        """Adds a column file that was written before. It has the ids of the columns as they are now.

        Args:
            file: the data file.
            names: the columns.
            written: the column file.
        """
        ids = frozenset(each.field_id for each in self.table.schema().fields if each.name in names)
        self._column_files[file.path] = NewColumnFile(written, ids)

    def column_changes(self) -> ColumnChanges:
        """Returns the changes of the column files.

        Raises:
            UnsupportedError: another program wrote rows anew, without the columns in column files.
        """
        parent = self.table.metadata.current_snapshot()
        if not self._column_files and not column_index(self.table, parent):
            return ColumnChanges()
        remaining = [file for file in self.files if file.path not in self._removed]
        unaligned = [file for file in remaining if file.unaligned and file.path not in self._column_files]
        if unaligned:
            raise unaligned_error(self.table.name()[-1])
        present = {*(file.path for file in remaining), *(file.file_path for file in self._added)}
        added = [each for path, each in self._column_files.items() if path in present]
        return ColumnChanges.of(self.table, parent, added, present)

    def _remove_file(self, file: DataFileRef) -> None:
        self._removed[file.path] = file.manifest
        self._manifests.add(file.manifest)

    def add(
        self, key: Hashable, batches: Callable[[], Iterable[pa.RecordBatch]], write: RowWriter = write_rows
    ) -> None:
        """Adds rows at the end. Rows of the same ``key`` are written once for all attempts."""
        key = self._columns, key
        if key not in self._written:
            self._written[key] = write(self.lake, self.table, self.schema, self.builder, batches())
        self._added += self._written[key]

    @cached_property
    def _columns(self) -> Hashable:
        """The columns of the files to write, which may differ between attempts."""
        return tuple(self.table.schema().fields)

    # ------------------------------------------------------------------ merges

    def _merge_files(self) -> None:
        """Merges the files that are due, without the rows that were removed."""
        files = [file for file in self.files if file.path not in self._removed]
        if self.merger is None or not (self.compact or self._added or self._drops or self._removed):
            return
        for key, merge in list(self._merges.items()):
            if self._merge_again(key, merge, files):
                return
        if self.compact:
            due = [] if is_compact(self.table, files) and not self._drops else files
        else:
            due = runs_to_merge(self.table, files)
        if due:
            self._use(self._merged(due), due)

    def _merged(self, files: Sequence[DataFileRef]) -> Merge:
        assert self.merger is not None, "the caller has checked it"
        removed = {file.path: self._removed_positions(file) for file in files}
        columns = self._columns_of(files)
        key = merge_key(columns, removed, self.compact)
        if key not in self._merges:
            rows = self.merger.rows(files, removed, self.compact)
            written = write_sorted_rows(self.lake, self.table, self.schema, self.builder, rows)
            newest = max(file.sequence for file in files)
            unique = not self.merger.has_equal_keys()
            self._merges[key] = Merge(removed, written, newest, unique, columns, self.compact)
        return self._merges[key]

    def _merge_again(self, key: Hashable, merge: Merge, files: Sequence[DataFileRef]) -> bool:
        """Uses a merge of an earlier attempt, although other writers have removed more of its rows since.

        Returns False if it no longer applies.
        """
        assert self.merger is not None, "the caller has checked it"
        live = {file.path: file for file in files}
        inputs = [live[path] for path in merge.removed if path in live]
        removed = {file.path: self._removed_positions(file) for file in inputs}
        if not merge.applies_to(live, removed, self._columns_of(inputs)):
            del self._merges[key]
            return False
        later = merge.later_removed(removed)
        if later:
            rows = [(live[path], positions) for path, positions in later.items()]
            places = self.merger.locate(rows, merge.outputs()) if merge.unique else None
            if places is None:
                del self._merges[key]
                return False
            self._deleted.update(places)
        self._use(merge, inputs)
        return True

    def _columns_of(self, files: Iterable[DataFileRef]) -> Hashable:
        """Returns what the columns of files depend on."""
        return self._columns, frozenset((file.path, file.columns) for file in files if file.columns)

    def _removed_positions(self, file: DataFileRef) -> Positions:
        drop = self._drops.get(_entry(file))
        return deleted_positions(self.table, file.path, file.deletes) if drop is None else drop.removed

    def _use(self, merge: Merge, inputs: Sequence[DataFileRef]) -> None:
        """Replaces the inputs of a merge by its files."""
        live = sum(file.rows - len(merge.removed[file.path]) for file in inputs)
        self._rows_removed += live - sum(file.record_count for file in merge.files)
        for file in inputs:
            drop = self._drops.pop(_entry(file), None)
            self._rows_removed += 0 if drop is None else len(drop.fresh)
            self._remove_file(file)
        self._rewritten += [RewrittenFile(file, merge.sequence) for file in merge.files]

    def contents(self) -> Contents:
        """Returns the changes of the snapshot."""
        self._merge_files()
        for drop in self._drops.values():
            self._apply(drop)
        only_moved = (self.compact or DERIVED in self.facts) and not (self._added or self._rows_removed)
        rows_added = sum(file.record_count for file in self._added)
        counts = {ROWS_ADDED: str(rows_added), ROWS_REMOVED: str(self._rows_removed)} if self.counts_exact else {}
        if self.counts_exact and self.replaced_equal:
            counts[REPLACED_EQUAL] = "true"
        deletes, removed_deletes = self._delete_files()
        return Contents(
            tuple(self._added),
            tuple(self._rewritten),
            self._removed,
            {**counts, **self.facts},
            replaces=only_moved,
            manifests=frozenset(self._manifests),
            deletes=deletes,
            removed_deletes=removed_deletes,
            rows=self._rows_before + rows_added - self._rows_removed,
        )

    @property
    def _rows_before(self) -> int:
        snapshot = self.table.metadata.current_snapshot()
        return 0 if snapshot is None else count_rows(snapshot, self.table)

    def _delete_files(self) -> tuple[tuple[DataFile, ...], dict[str, str]]:
        """Returns the delete file to add, if any, and the delete files to leave out: merged ones and useless ones."""
        snapshot = self.table.metadata.current_snapshot()
        if snapshot is None or not (self._deleted or self._removed):
            return (), {}
        files = [file for file in self.files if file.path not in self._removed]
        used = {each for file in files for each in file.deletes}
        useless = [each for each in delete_index(self.table, snapshot).files if each not in used]
        positions = dict(self._deleted)
        merged = files_to_merge(used, sum(map(len, positions.values()))) if positions else []
        for file in files if merged else ():
            listed = deleted_positions(self.table, file.path, [each for each in file.deletes if each in merged])
            if len(listed):
                positions[file.path] = united_positions([positions.get(file.path, NONE), listed])
        removed = {each.path: each.manifest for each in (*useless, *merged)}
        return ((self._write_deletes(positions),) if positions else ()), removed

    def _write_deletes(self, positions: Mapping[str, Positions]) -> DataFile:
        digest = hashlib.sha256()
        for path in sorted(positions):
            digest.update(f"{path}\n{len(positions[path])}\n".encode() + positions[path].tobytes())
        key = ("deletes", digest.digest())
        if key not in self._written:
            self._written[key] = (write_delete_file(self.table, self.builder, positions, self.lake.settings.write),)
        return self._written[key][0]


def edit(
    lake: Lake,
    name: str,
    revise: Callable[[Draft], None],
    *,
    counts_exact: bool = True,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    before_commit: BeforeCommit | None = None,
    incoming: pa.Schema | None = None,
    decide: Callable[[Table], ColumnDecision] | None = None,
    always: bool = False,
) -> DatasetVersion:
    """Commits an edit.

    Args:
        lake: the lake.
        name: the name of the dataset.
        revise: makes the changes. It may be called several times, each time with the newest version.
        counts_exact: see `Draft`.
        provenance: who writes.
        idempotency_key: if the dataset has a version with this key, that version is returned.
        fence: the fence that the action checks and sets.
        before_commit: is called right before each commit. An error that it raises ends the action.
        incoming: the schema of added rows. It may decide types of columns (:mod:`lakefeed.catalog.column_decisions`).
        decide: returns the columns of the new version; it replaces the decision by ``incoming``. A change of columns is
            committed even if no row changes.
        always: makes a version even if nothing changes.

    Returns:
        The new version; the newest version if nothing changes, there is no fence, and ``always`` is False.

    Raises:
        DatasetNotFoundError: the dataset does not exist.
        UnsupportedError: the table is partitioned, or has equality deletes of another writer.
        FenceError, CommitConflictError: nothing was written.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence).completed()
    table = lake.table(name)
    builder = SnapshotBuilder(table, action.summary_entries(), before_commit=before_commit)
    columns = ColumnCommit(table)
    written: dict[Hashable, tuple[DataFile, ...]] = {}
    merges: dict[Hashable, Merge] = {}

    def attempt(current: Table) -> tuple[TableUpdate, ...] | None:
        check_writable(current)
        decision = decide_columns(current, incoming) if decide is None else decide(current)
        draft = Draft(lake, decision.table, builder, counts_exact, columns=columns, _written=written, _merges=merges)
        revise(draft)
        contents = draft.contents()
        changes = draft.column_changes()
        if changes.remaining != column_file_ids(decision.table):
            decision = publish_columns(decision, changes.remaining, current)
        contents = decision.contents(contents)
        facts = columns.prepare(decision.table, current, changes)
        same_rows = contents.replaces or (bool(changes.added) and contents.is_empty)
        builder.contents = replace(contents, facts={**contents.facts, **facts}, replaces=same_rows)
        same_columns = (decide is None or not decision.updates) and not changes
        needless = not always and same_columns and fence is None and current.current_snapshot() is not None
        nothing = builder.contents.is_empty and needless
        return None if nothing else decision.updates

    with builder.discard_on_failure(), columns.discard_with(builder):
        return commit_with_retry(lake, name, table, builder, action, attempt, columns.updates)
