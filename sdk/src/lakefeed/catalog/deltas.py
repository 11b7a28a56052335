"""Which rows versions added and removed, told by files: the cost grows with what was changed, not with the table.

Iceberg keeps with every file the *data sequence number* of its rows. Our own edits keep it for rows that only moved
into another file, so of the files that an edit brings, those of its own number hold what is new, and the others what
was there before. Where another writer has rewritten files without keeping it, and where an overwrite may bring rows
that were there before, the rows of the files that came are compared with those of the files that went.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from pyiceberg.manifest import ManifestContent
from pyiceberg.table import Table
from pyiceberg.table.snapshots import Operation, Snapshot

from lakefeed.catalog.file_exchange import (
    Step,
    committed_changes,
    delete_files_error,
    expired_changes,
    operation,
    subtract_files,
)
from lakefeed.catalog.properties import ROWS_ADDED
from lakefeed.catalog.version_files import DataFileRef, file_ref, manifest_entries, plan_files, row_order
from lakefeed.catalog.versions import steps_between, version_number


@dataclass(frozen=True)
class Delta:
    """The rows of ``files``, less those that the files of ``less`` hold too (each as often as it is there).

    Of the rows of ``less`` those do not count that are in the files of ``moved``.
    """

    files: tuple[DataFileRef, ...]
    less: tuple[DataFileRef, ...] = ()
    moved: tuple[DataFileRef, ...] = ()


def added_rows(
    table: Table, from_version: int | None = None, to_version: int | None = None, head: Snapshot | None = None
) -> tuple[Delta, ...]:
    """What the versions after ``from_version`` up to ``to_version`` added, oldest commit first.

    Follows the ancestry of the current version, or of ``head``. Rows that a version left untouched, or moved into other
    files, are not among what it added; nor are rows that a restore brings back, for the version that wrote them has
    added them. Where versions have expired in between, their rows are those of their files that are still there.
    Where the oldest versions have expired, the beginning is the oldest version that is kept, with all its rows.

    ``from_version`` need not be kept: then it says up to which number rows are known.

    Raises:
        VersionNotFoundError: ``to_version`` does not exist.
        InvalidArgumentError: ``from_version`` is newer than ``to_version``.
        UnsupportedError: another writer has rewritten rows by delete files in the range, or versions have expired so
            that new rows cannot be told.
    """
    steps = steps_between(table, from_version, to_version, head)
    deltas: list[Delta] = []
    if from_version is None and steps:
        # Whether older ones have expired is not recorded; the first version ever holds only what it added itself.
        deltas.append(Delta(plan_files(table, steps[0].after)))
        steps = steps[1:]
    for run in _runs_of_appends(steps):
        deltas += _added_over_gap(table, run[0])
        deltas.append(_append_delta(table, run) if _is_append(run[0]) else _added_delta(table, run[0]))
    return tuple(delta for delta in deltas if delta.files)


def removed_rows(
    table: Table, from_version: int | None = None, to_version: int | None = None, head: Snapshot | None = None
) -> tuple[Delta, ...]:
    """What the versions after ``from_version`` up to ``to_version`` removed, oldest commit first.

    Rows that an upsert replaced are among them as they were before.

    Raises:
        VersionNotFoundError, InvalidArgumentError, UnsupportedError: as for `added_rows`.
    """
    deltas: list[Delta] = []
    for step in steps_between(table, from_version, to_version, head):
        deltas += _removed_over_gap(table, step) if from_version is not None or step.before is not None else []
        deltas += [] if _is_append(step) else [_removed_delta(table, step)]
    return tuple(delta for delta in deltas if delta.files)


def count_rows_over_gap(table: Table, step: Step, removed: bool = False) -> int:
    """How many rows the versions added (or removed), at most, that have expired right before one.

    Raises:
        UnsupportedError: as for `added_rows`.
    """
    deltas = _removed_over_gap(table, step) if removed else _added_over_gap(table, step)
    return sum(file.rows for delta in deltas for file in delta.files)


def net_rows(table: Table, older: Snapshot | None, newer: Snapshot) -> tuple[Delta, Delta]:
    """The rows that the newer version has and the older has not, and the other way round; shared files are not read."""
    before, after = plan_files(table, older) if older is not None else (), plan_files(table, newer)
    came, went = subtract_files(after, before), subtract_files(before, after)
    for file in (*before, *after):
        if file.has_deletes:
            raise delete_files_error(table, newer)
    return Delta(came, went), Delta(went, came)


def _append_delta(table: Table, run: list[Step]) -> Delta:
    """The files of a run of appends: its last manifest list names them all, for appends remove nothing."""
    ids = {step.after.snapshot_id for step in run}
    oldest = version_number(run[0].after)
    fresh = [
        manifest
        for manifest in run[-1].after.manifests(table.io)
        if manifest.content == ManifestContent.DATA
        # Manifests of format version 1 have no sequence number.
        and (manifest.added_snapshot_id in ids or manifest.sequence_number >= oldest)
    ]
    found = (
        file_ref(manifest, entry) for manifest, entry in manifest_entries(table, fresh) if entry.snapshot_id in ids
    )
    return Delta(tuple(sorted(found, key=row_order)))


def _added_delta(table: Table, step: Step) -> Delta:
    if operation(step.after) is not Operation.OVERWRITE:
        return Delta(())
    found = committed_changes(table, step)
    if step.after.summary is not None and ROWS_ADDED in step.after.summary.additional_properties:
        return Delta(found.new)
    return Delta(found.new, found.gone, found.moved)


def _removed_delta(table: Table, step: Step) -> Delta:
    if operation(step.after) is Operation.REPLACE:
        return Delta(())
    found = committed_changes(table, step)
    return Delta(found.gone, (*found.moved, *found.new))


def _added_over_gap(table: Table, step: Step) -> list[Delta]:
    found = expired_changes(table, step)
    return [Delta(found.new, found.gone, found.moved if found.gone else ())]


def _removed_over_gap(table: Table, step: Step) -> list[Delta]:
    found = expired_changes(table, step, removed=True)
    return [Delta(found.gone, (*found.moved, *found.new))]


def _runs_of_appends(steps: Iterable[Step]) -> Iterator[list[Step]]:
    """The steps in order, appends that follow each other together, every other one by itself."""
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
    return operation(step.after) is Operation.APPEND
