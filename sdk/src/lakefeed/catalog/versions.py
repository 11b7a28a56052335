"""Versions of a dataset: the ancestry of the current snapshot, numbered by Iceberg's sequence numbers."""

from __future__ import annotations

import datetime as dt
import difflib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lakefeed.catalog import ancestry, file_changes, row_totals, time_travel, tombstones
from lakefeed.catalog.properties import CODE, DEPTH, LABEL, MESSAGE, ROWS_ADDED, ROWS_REMOVED, RUN, USER, WORK
from lakefeed.errors import InvalidArgumentError, TagNotFoundError, VersionNotFoundError, quoted_list

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from lakefeed.catalog.file_changes import Step
    from lakefeed.catalog.tombstones import Deletion


@dataclass(frozen=True)
class DatasetVersion:
    """A version of a dataset.

    Attributes:
        version: the number.
        snapshot_id: the id of the Iceberg snapshot.
        parent_id: the id of the parent snapshot; None if there is none.
        operation: Iceberg's name for the change: append, delete, overwrite or replace.
        added_records: the number of new rows, without rows that an edit only moved to other files. For overwrites, and
            for versions of other programs, it is the number of rows in added files.
        deleted_records: the number of removed rows, counted likewise.
        total_records: the number of rows.
        timestamp_ms: the time of the commit, in milliseconds since 1970 (UTC).
        run: the id of the run that wrote the version.
        user: who wrote it.
        code: the version of the code that wrote it.
        message: the message of the writer.
        work: the message in machine-readable form.
        depth: the number of routines between its rows and their first writer.
        net_records: the change of the number of rows.
        total_bytes: the size of its data files.
        table_uuid: the uuid of the table. Numbers are unique within a table.
        label: the label of a version of a file tree.
    """

    version: int
    snapshot_id: int
    parent_id: int | None
    operation: str
    added_records: int
    deleted_records: int
    total_records: int
    timestamp_ms: int
    run: str | None = None
    user: str | None = None
    code: str | None = None
    message: str | None = None
    work: str | None = None
    depth: int = 0
    net_records: int = 0
    total_bytes: int = 0
    table_uuid: str = field(default="", repr=False, compare=False)
    label: str | None = None


class SnapshotEntry(dict[str, Any]):
    """A version as an entry of a dataset's metadata: a dict with attribute access."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"no entry {name!r} in a snapshot; choose from {quoted_list(self)}") from error


def entry_of(version: DatasetVersion) -> SnapshotEntry:
    """Returns the entry of a version: its attributes, and its number also as ``sequence_number``."""
    return SnapshotEntry(sequence_number=version.version, **asdict(version))


@dataclass(frozen=True)
class AsOf:
    """The version that was the newest at a time, in milliseconds since 1970 (UTC)."""

    timestamp_ms: int


UUID_BITS_LEFT_OUT = 65
REPLACE = "replace"
"""The operation of a version that only moves rows to other files."""

Pin: TypeAlias = int | str | AsOf


def list_versions(table: Table) -> list[DatasetVersion]:
    """Returns all versions, newest first. Rolled-back commits are not versions."""
    return [version_of(snapshot, table) for snapshot in ancestry.ancestry(table)]


def resolve(table: Table, version: Pin | None = None) -> DatasetVersion:
    """Returns the version of a number, tag or time; the newest for ``None``.

    Raises:
        VersionNotFoundError: the version does not exist; the message names at most ten that do.
        TagNotFoundError: the tag does not exist.
    """
    return version_of(find_snapshot(table, version), table)


def newest_or_empty(table: Table) -> DatasetVersion:
    """Returns the newest version; for a table without snapshots, a version 0 without rows."""
    if table.metadata.current_snapshot_id is not None:
        return resolve(table)
    uuid = table.metadata.table_uuid
    return DatasetVersion(
        version=0,
        snapshot_id=-(uuid.int >> UUID_BITS_LEFT_OUT) - 1,  # negative, unlike ids of snapshots; unique to the table
        parent_id=None,
        operation="append",
        added_records=0,
        deleted_records=0,
        total_records=0,
        timestamp_ms=table.metadata.last_updated_ms,
        table_uuid=str(uuid),
    )


def find_snapshot(table: Table, version: Pin | None = None, head: Snapshot | None = None) -> Snapshot:
    """Returns the snapshot of a version, as `resolve`. Finds numbers in the ancestry of ``head`` (None: current)."""
    if isinstance(version, str):
        labelled = None if version in table.metadata.refs else _labels(table).get(version)
        return labelled or tagged_snapshot(table, version)
    if isinstance(version, AsOf):
        return _find_as_of(table, version.timestamp_ms)
    lineage = ancestry.ancestry(table, head)
    for snapshot in lineage:
        if version is None or snapshot.sequence_number == version:
            return snapshot
    raise _version_error(table, version, lineage)


def _labels(table: Table) -> dict[str, Snapshot]:
    """Returns the snapshots by the labels that versions of file trees have, newest first."""
    labels: dict[str, Snapshot] = {}
    for snapshot in ancestry.ancestry(table):
        label = None if snapshot.summary is None else snapshot.summary.additional_properties.get(LABEL)
        if label is not None:
            labels.setdefault(label, snapshot)
    return labels


def tagged_snapshot(table: Table, label: str) -> Snapshot:
    """Returns the snapshot of a tag.

    Raises:
        TagNotFoundError: the tag does not exist.
    """
    from pyiceberg.table.refs import SnapshotRefType

    refs = {name: ref for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG}
    snapshot = table.metadata.snapshot_by_id(refs[label].snapshot_id) if label in refs else None
    if snapshot is None:
        branch = f": {label!r} is a branch, and lakefeed does not read branches" if label in table.metadata.refs else ""
        labels = list(_labels(table))
        near = difflib.get_close_matches(label, [*refs, *labels], n=3)
        raise TagNotFoundError(
            f"{table.name()[-1]!r} has no tag {label!r}{branch}; the tags are {quoted_list(sorted(refs))}"
            + (f", and the labels, newest first, {quoted_list(labels)}" if labels else "")
            + (f". Did you mean {quoted_list(near)}?" if near else "")
        )
    return snapshot


def _find_as_of(table: Table, as_of: int) -> Snapshot:
    snapshot = time_travel.current_at(table, as_of)
    if snapshot is not None:
        return snapshot
    lineage = ancestry.ancestry(table)
    if not lineage:
        raise _version_error(table, None, lineage)
    first = lineage[-1]
    deletion = next((each for each in _earlier_deletions(table) if each.at > as_of), None)
    past = "" if deletion is None else f": the dataset of that time was {deletion.event}"
    raise VersionNotFoundError(
        f"{table.name()[-1]!r} has no version as of {_format_time(as_of)}{past}; the oldest is version "
        f"{version_number(first)} of {_format_time(first.timestamp_ms)}"
    )


def _format_time(timestamp_ms: int) -> str:
    try:
        return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_ms} ms"


def versions_between(
    table: Table, from_version: int | None = None, to_version: int | None = None, head: Snapshot | None = None
) -> list[DatasetVersion]:
    """Returns the versions after ``from_version`` up to ``to_version``, oldest first.

    Args:
        table: the table.
        from_version: the version before the first one; None for the beginning.
        to_version: the last version; None for the newest.
        head: the snapshot whose ancestry counts; None for the current one.

    Raises:
        InvalidArgumentError: ``from_version`` is newer than ``to_version``.
        VersionNotFoundError: one of the two does not exist.
    """
    steps = steps_between(table, from_version, to_version, head)
    lineage = ancestry.ancestry(table, head)
    if from_version is not None and from_version not in {version_number(snapshot) for snapshot in lineage}:
        raise _version_error(table, from_version, lineage)
    return [version_of(step.after, table) for step in steps]


def steps_between(
    table: Table, from_version: int | None, to_version: int | None, head: Snapshot | None = None
) -> list[Step]:
    """Returns the versions of `versions_between`, each with its predecessor. ``from_version`` may have expired.

    Raises:
        InvalidArgumentError, VersionNotFoundError: as for `versions_between`.
    """
    lineage = ancestry.ancestry(table, head)
    if to_version is not None and to_version not in {version_number(snapshot) for snapshot in lineage}:
        raise _version_error(table, to_version, lineage)
    newest = version_number(lineage[0]) if lineage else 0
    start, stop = from_version or 0, newest if to_version is None else to_version
    if to_version is not None and start > stop:
        if start not in {version_number(snapshot) for snapshot in ancestry.ancestry(table)}:
            raise _version_error(table, start, lineage)
        raise InvalidArgumentError(f"from_version={from_version} must not be newer than to_version={to_version}")
    pairs = zip(lineage, [*lineage[1:], None], strict=False)
    return [
        file_changes.Step(before, after, max(start, version_number(before) if before is not None else 0))
        for after, before in pairs
        if start < version_number(after) <= stop
    ][::-1]


def version_number(snapshot: Snapshot) -> int:
    """Returns the version number of a snapshot."""
    return snapshot.sequence_number or 0


def version_of(snapshot: Snapshot, table: Table | None = None) -> DatasetVersion:
    """Returns the version of a snapshot of a table."""
    summary = snapshot.summary
    return version_of_summary(
        dict(summary.additional_properties) if summary is not None else {},
        version=version_number(snapshot),
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        operation=summary.operation.value if summary is not None else "append",
        total_records=row_totals.count_rows(snapshot, table),
        net_records=row_totals.count_change(snapshot, table),
        timestamp_ms=snapshot.timestamp_ms,
        table_uuid=str(table.metadata.table_uuid) if table is not None else "",
    )


def version_of_summary(facts: Mapping[str, str], *, operation: str, **identity: Any) -> DatasetVersion:
    """Returns the version with these entries of the snapshot summary.

    ``identity`` has the attributes of `DatasetVersion` that the entries do not tell.
    """
    added = int(facts.get("added-records", 0))
    deleted = int(facts.get("deleted-records", 0)) + int(facts.get("added-position-deletes", 0))
    same = operation == REPLACE
    return DatasetVersion(
        operation=operation,
        added_records=0 if same else int(facts.get(ROWS_ADDED, added)),
        deleted_records=0 if same else int(facts.get(ROWS_REMOVED, deleted)),
        run=facts.get(RUN),
        user=facts.get(USER),
        code=facts.get(CODE),
        message=facts.get(MESSAGE),
        work=facts.get(WORK),
        depth=int(facts.get(DEPTH, 0)),
        total_bytes=int(facts.get("total-files-size", 0)),
        label=facts.get(LABEL),
        **identity,
    )


def _version_error(table: Table, version: int | None, lineage: list[Snapshot]) -> VersionNotFoundError:
    name = table.name()[-1]
    if version is None:
        return VersionNotFoundError(f"{name!r} has no version yet: nothing was written to it")
    numbers = quoted_list(version_number(snapshot) for snapshot in lineage)
    deletion = tombstones.deletion_of_version(_earlier_deletions(table), version)
    past = f": its dataset was {deletion.event}, before this one was created" if deletion else ""
    if not past and lineage and 0 < version < version_number(lineage[0]):
        past = ": it has expired, was deleted, or was rolled back"
    return VersionNotFoundError(f"{name!r} has no version {version}{past}; the versions, newest first, are {numbers}")


def _earlier_deletions(table: Table) -> tuple[Deletion, ...]:
    """Returns the deletions of earlier datasets of the name."""
    return tombstones.deletions(table.catalog, table.name(), str(table.metadata.table_uuid))
