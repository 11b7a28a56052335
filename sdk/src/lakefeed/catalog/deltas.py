"""The rows that versions added and removed, by their files. The cost is that of the change, not of the table.

Iceberg records the data sequence number of the rows of every file. Edits of lakefeed keep it for rows that they only
move into another file. So of the files that an edit adds, those with its own number hold new rows, and the others hold
old rows. If another writer has rewritten files without keeping the number, or if an overwrite may add rows that existed
before, the rows of added files are compared with those of removed files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog import file_changes
from lakefeed.catalog.file_refs import Delta
from lakefeed.catalog.properties import REPLACED_EQUAL, ROWS_ADDED
from lakefeed.catalog.version_files import file_ref, manifest_entries, plan_files, row_order
from lakefeed.catalog.versions import steps_between, version_number

if TYPE_CHECKING:
    from lakefeed.catalog.file_changes import Step


def added_rows(
    table: Table, from_version: int | None = None, to_version: int | None = None, head: Snapshot | None = None
) -> tuple[Delta, ...]:
    """Returns the rows that the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

    Follows the ancestry of the current version, or of ``head``. Rows that a version moved into other files are not
    added, nor are rows that a restore brings back: the version that wrote them has added them. Rows of expired versions
    count if their files exist. If the oldest versions have expired, the oldest existing version adds all its rows.

    ``from_version`` may have expired. Then rows up to that number are not new.

    Raises:
        VersionNotFoundError: ``to_version`` does not exist.
        InvalidArgumentError: ``from_version`` is newer than ``to_version``.
        UnsupportedError: a version in the range has equality deletes, or versions have expired so that new rows cannot
            be determined.
    """
    steps = steps_between(table, from_version, to_version, head)
    deltas: list[Delta] = []
    if from_version is None and steps:
        # It is not recorded whether older versions have expired. The very first one has only rows that it added.
        deltas.append(Delta(plan_files(table, steps[0].after)))
        steps = steps[1:]
    for run in _runs_of_appends(steps):
        deltas += _added_over_gap(table, run[0])
        deltas.append(_append_delta(table, run) if _is_append(run[0]) else _added_delta(table, run[0]))
    return tuple(delta for delta in deltas if delta.files)


def removed_rows(
    table: Table, from_version: int | None = None, to_version: int | None = None, head: Snapshot | None = None
) -> tuple[Delta, ...]:
    """Returns the rows that the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

    They include the previous rows that an upsert replaced.

    Raises:
        VersionNotFoundError, InvalidArgumentError, UnsupportedError: as for `added_rows`.
    """
    deltas: list[Delta] = []
    for step in steps_between(table, from_version, to_version, head):
        deltas += _removed_over_gap(table, step) if from_version is not None or step.before is not None else []
        deltas += [] if _is_append(step) else _removed_deltas(table, step)
    return tuple(delta for delta in deltas if delta.files)


def count_rows_over_gap(table: Table, step: Step, removed: bool = False) -> int:
    """Returns the maximum number of rows that the expired versions before a version added, or removed.

    Raises:
        UnsupportedError: as for `added_rows`.
    """
    deltas = _removed_over_gap(table, step) if removed else _added_over_gap(table, step)
    return sum(file.rows for delta in deltas for file in delta.files)


def net_rows(table: Table, older: Snapshot | None, newer: Snapshot) -> tuple[Delta, Delta]:
    """Returns the rows that only the newer version has, and the rows that only the older one has.

    Raises:
        UnsupportedError: one of them has equality deletes.
    """
    before, after = plan_files(table, older) if older is not None else (), plan_files(table, newer)
    deleted, revived = file_changes.compare_deletes(table, before, after)
    added = (*file_changes.subtract_files(after, before), *revived)
    removed = (*file_changes.subtract_files(before, after), *deleted)
    return Delta(added, removed), Delta(removed, added)


def _append_delta(table: Table, run: list[Step]) -> Delta:
    """Returns the files of a run of appends. The last manifest list names them all, because appends remove nothing."""
    ids = {step.after.snapshot_id for step in run}
    oldest = version_number(run[0].after)
    new_manifests = [
        manifest
        for manifest in run[-1].after.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        # Manifests of format version 1 have no sequence number.
        and (manifest.added_snapshot_id in ids or manifest.sequence_number >= oldest)
    ]
    changes = (
        file_ref(manifest, entry)
        for manifest, entry in manifest_entries(table, new_manifests)
        if entry.snapshot_id in ids
    )
    return Delta(tuple(sorted(changes, key=row_order)))


def _added_delta(table: Table, step: Step) -> Delta:
    if file_changes.operation(step.after) is not Operation.OVERWRITE:
        return Delta(())
    changes = file_changes.committed_changes(table, step)
    if ROWS_ADDED in _facts(step.after):
        return Delta(changes.new)
    return Delta(changes.new, changes.lost, changes.moved_or_revived if changes.lost else ())


def _removed_deltas(table: Table, step: Step) -> list[Delta]:
    if file_changes.operation(step.after) is Operation.REPLACE:
        return []
    changes = file_changes.committed_changes(table, step)
    remaining = (*changes.moved_or_revived, *changes.new)
    facts = _facts(step.after)
    if ROWS_ADDED in facts and REPLACED_EQUAL not in facts and not changes.revived:
        # The counts are exact, so a row that was replaced by an equal one is removed, and the new one is added.
        return [Delta(changes.deleted), Delta(changes.removed, changes.moved)]
    return [Delta(changes.lost, remaining)]


def _facts(snapshot: Snapshot) -> dict[str, str]:
    return dict(snapshot.summary.additional_properties) if snapshot.summary is not None else {}


def _added_over_gap(table: Table, step: Step) -> list[Delta]:
    changes = file_changes.expired_changes(table, step)
    return [Delta(changes.new, changes.lost, changes.moved_or_revived if changes.lost else ())]


def _removed_over_gap(table: Table, step: Step) -> list[Delta]:
    changes = file_changes.expired_changes(table, step, removed=True)
    return [Delta(changes.lost, (*changes.moved_or_revived, *changes.new))]


def _runs_of_appends(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """Yields the steps in order; consecutive appends as one run, every other step as a run of its own."""
    run: list[Step] = []
    for step in steps:
        if run and (step.has_gap or not _is_append(step)):
            yield run
            run = []
        if _is_append(step):
            run.append(step)
        else:
            yield [step]
    if run:
        yield run


def _is_append(step: Step) -> bool:
    return file_changes.operation(step.after) is Operation.APPEND
