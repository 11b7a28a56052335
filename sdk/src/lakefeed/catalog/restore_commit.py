"""The restoring of an old version: a new version names its files again."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from pyiceberg.manifest import ManifestContent, ManifestEntry
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import TableUpdate

from lakefeed.catalog.action import Action, Fence, Provenance
from lakefeed.catalog.column_commit import ColumnCommit
from lakefeed.catalog.commit_retry import commit_with_retry
from lakefeed.catalog.delete_files import delete_entries, delete_index
from lakefeed.catalog.file_changes import compare_deletes
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import ROWS_ADDED, ROWS_REMOVED
from lakefeed.catalog.replaced_rows import CompareFiles, count_removed_rows
from lakefeed.catalog.row_totals import count_rows
from lakefeed.catalog.schema_evolution import schema_switch_updates
from lakefeed.catalog.snapshot_builder import BeforeCommit, Contents, RewrittenFile, SnapshotBuilder
from lakefeed.catalog.version_files import data_files, manifest_entries
from lakefeed.catalog.versions import DatasetVersion, Pin, find_snapshot


def restore(
    lake: Lake,
    name: str,
    version: Pin,
    *,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    before_commit: BeforeCommit | None = None,
    compare: CompareFiles | None = None,
) -> DatasetVersion:
    """Makes a version with the rows, the columns and the row order of an old version. Writes no data.

    Args:
        lake: the lake.
        name: the name of the dataset.
        version: the version to restore.
        provenance: who writes.
        idempotency_key: if the dataset has a version with this key, that version is returned.
        fence: the fence that the action checks and sets.
        before_commit: is called right before each commit. An error that it raises ends the action.
        compare: compares the rows of files if metadata does not tell how many are removed (see `count_removed_rows`).

    Returns:
        The new version; the newest version if it equals the old one and there is no fence.

    Raises:
        DatasetNotFoundError, VersionNotFoundError: the version does not exist.
        UnsupportedError: the table has equality deletes of another writer.
        FenceError, CommitConflictError: nothing was written.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    table = lake.table(name)
    builder = SnapshotBuilder(table, action.summary_entries(), before_commit=before_commit)
    columns = ColumnCommit(table)

    def attempt(current: Table) -> tuple[TableUpdate, ...] | None:
        old = find_snapshot(current, version)
        contents = _contents_to_restore(lake, current, old, compare)
        facts = columns.restore(current, old)
        builder.contents = replace(contents, facts={**contents.facts, **facts})
        switch = schema_switch_updates(current, old)
        return None if builder.contents.is_empty and not (switch or facts) and fence is None else switch

    with builder.discard_on_failure():
        return commit_with_retry(lake, name, table, builder, action, attempt, columns.updates)


def _contents_to_restore(lake: Lake, current: Table, old: Snapshot, compare: CompareFiles | None) -> Contents:
    now, before = data_files(lake, current), data_files(lake, current, old.snapshot_id)
    # A table may name a file more than once; its rows count each time.
    counts, counts_before = (Counter(file.path for file in files) for files in (now, before))
    changed = {path for path in counts | counts_before if counts[path] != counts_before[path]}
    removed = [file for file in now if file.path in changed]
    restored = [entry for entry in _data_entries(current, old) if entry.data_file.file_path in changed]
    deleted, revived = compare_deletes(
        current, (file for file in now if file.path not in changed), (f for f in before if f.path not in changed)
    )
    lost, back = [*removed, *deleted], [*(file for file in before if file.path in changed), *revived]
    rows_removed = count_removed_rows(current, lost, back, compare)
    removed_deletes, restored_deletes = _deletes_to_restore(current, old)
    return Contents(
        rewritten=tuple(RewrittenFile(entry.data_file, entry.sequence_number or 0) for entry in restored),
        removed={file.path: file.manifest for file in removed},
        # Restored rows are not new: the version that wrote them has added them.
        facts={ROWS_ADDED: "0", ROWS_REMOVED: str(rows_removed)},
        schema_id=old.schema_id,
        manifests=frozenset(file.manifest for file in removed),
        restored_deletes=restored_deletes,
        removed_deletes=removed_deletes,
        rows=count_rows(old, current),
    )


def _deletes_to_restore(current: Table, old: Snapshot) -> tuple[dict[str, str], tuple[RewrittenFile, ...]]:
    """Returns the delete files that only the current version has, and those that only the old one has."""
    newest = current.metadata.current_snapshot()
    now = delete_index(current, newest).files if newest is not None else ()
    entries = delete_entries(current, old, old.manifests(current.io))
    paths, paths_before = {each.path for each in now}, {entry.data_file.file_path for entry in entries}
    removed = {each.path: each.manifest for each in now if each.path not in paths_before}
    restored = (entry for entry in entries if entry.data_file.file_path not in paths)
    return removed, tuple(RewrittenFile(entry.data_file, entry.sequence_number or 0) for entry in restored)


def _data_entries(table: Table, snapshot: Snapshot) -> Iterator[ManifestEntry]:
    manifests = (m for m in snapshot.manifests(table.io) if m.content == ManifestContent.DATA)
    return (entry for _, entry in manifest_entries(table, manifests))
