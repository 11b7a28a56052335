"""Versions of a dataset: the snapshots in the ancestry of the current one, numbered by Iceberg's sequence number."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field
from typing import TypeAlias

from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import SnapshotRefType
from pyiceberg.table.snapshots import Snapshot

from lakefeed.catalog.deletions import Deletion, deletions, owner_of
from lakefeed.catalog.properties import CODE, DEPTH, MESSAGE, ROWS_ADDED, ROWS_REMOVED, RUN, USER, WORK
from lakefeed.errors import InvalidArgumentError, TagNotFoundError, VersionNotFoundError, listed


@dataclass(frozen=True)
class DatasetVersion:
    """One version: what it is, what it changed, who wrote it (``timestamp_ms`` since 1970, UTC).

    ``added_records`` and ``deleted_records`` count rows that are new or gone; rows that an edit only moved to other
    files are neither. For versions that other programs wrote, and for overwrites, they count the rows of the files.
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
    # Which table of the name it is a version of: numbers are those of the table.
    table_uuid: str = field(default="", repr=False, compare=False)


@dataclass(frozen=True)
class AsOf:
    """The version that was the newest at a time, in milliseconds since 1970 (UTC)."""

    timestamp_ms: int


Pin: TypeAlias = int | str | AsOf


def list_versions(table: Table) -> list[DatasetVersion]:
    """All versions, newest first; a rolled-back commit is none."""
    return [version_of(snapshot, table) for snapshot in ancestry(table.metadata)]


def resolve(table: Table, version: Pin | None = None) -> DatasetVersion:
    """The version of that number, tag or time; the newest for ``None``.

    Raises:
        VersionNotFoundError: there is no such version; the message names at most ten that exist.
        TagNotFoundError: there is no such tag.
    """
    return version_of(find(table, version), table)


def find(table: Table, version: Pin | None = None) -> Snapshot:
    """The snapshot of `resolve`."""
    if isinstance(version, str):
        return tagged(table, version)
    if isinstance(version, AsOf):
        return _find_as_of(table, version.timestamp_ms)
    lineage = ancestry(table.metadata)
    for snapshot in lineage:
        if version is None or snapshot.sequence_number == version:
            return snapshot
    raise _unknown(table, version, lineage)


def tagged(table: Table, label: str) -> Snapshot:
    """The snapshot that a tag stands for.

    Raises:
        TagNotFoundError: there is no such tag.
    """
    refs = {name: ref for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG}
    snapshot = table.metadata.snapshot_by_id(refs[label].snapshot_id) if label in refs else None
    if snapshot is None:
        raise TagNotFoundError(f"{table.name()[-1]!r} has no tag {label!r}; the tags are {listed(sorted(refs))}")
    return snapshot


def _find_as_of(table: Table, as_of: int) -> Snapshot:
    lineage = ancestry(table.metadata)
    for snapshot in lineage:
        if snapshot.timestamp_ms <= as_of:
            return snapshot
    if not lineage:
        raise _unknown(table, None, lineage)
    first = lineage[-1]
    past = next(
        (f": the dataset of that time was deleted at {one.moment}" for one in _past(table) if one.at > as_of), ""
    )
    raise VersionNotFoundError(
        f"{table.name()[-1]!r} has no version as of {_moment(as_of)}{past}; the oldest, version {number(first)}, is of "
        f"{_moment(first.timestamp_ms)}"
    )


def _moment(timestamp_ms: int) -> str:
    try:
        return dt.datetime.fromtimestamp(timestamp_ms / 1000, dt.UTC).isoformat(timespec="milliseconds")
    except (OverflowError, ValueError, OSError):
        return f"{timestamp_ms} ms"


def versions_between(
    table: Table, from_version: int | None = None, to_version: int | None = None
) -> list[DatasetVersion]:
    """The versions after ``from_version`` up to ``to_version``, oldest first.

    ``from_version=None`` starts at the beginning, ``to_version=None`` ends at the newest; equal ends give none.

    Raises:
        InvalidArgumentError: ``from_version`` is newer than ``to_version``.
        VersionNotFoundError: one of the two does not exist.
    """
    return [version_of(snapshot, table) for snapshot in snapshots_between(table, from_version, to_version)]


def snapshots_between(table: Table, from_version: int | None, to_version: int | None) -> list[Snapshot]:
    """The snapshots of `versions_between`."""
    lineage = ancestry(table.metadata)
    known = {snapshot.sequence_number for snapshot in lineage}
    for asked in (from_version, to_version):
        if asked is not None and asked not in known:
            raise _unknown(table, asked, lineage)
    if from_version is not None and to_version is not None and from_version > to_version:
        raise InvalidArgumentError(
            f"from_version={from_version} is newer than to_version={to_version}: the range runs from old to new"
        )
    inside = [
        snapshot
        for snapshot in lineage
        if (from_version is None or number(snapshot) > from_version)
        and (to_version is None or number(snapshot) <= to_version)
    ]
    return inside[::-1]


def ancestry(metadata: TableMetadata) -> list[Snapshot]:
    """The current snapshot and its ancestors as far as they are kept, newest first."""
    by_id = {snapshot.snapshot_id: snapshot for snapshot in metadata.snapshots}
    lineage: list[Snapshot] = []
    snapshot = by_id.get(metadata.current_snapshot_id) if metadata.current_snapshot_id is not None else None
    while snapshot is not None:
        lineage.append(snapshot)
        parent = snapshot.parent_snapshot_id
        snapshot = by_id.get(parent) if parent is not None else None
    return lineage


def number(snapshot: Snapshot) -> int:
    """The version number of a snapshot."""
    return snapshot.sequence_number or 0


def version_of(snapshot: Snapshot, table: Table | None = None) -> DatasetVersion:
    """The version that a snapshot of a table is."""
    summary = snapshot.summary
    facts = dict(summary.additional_properties) if summary is not None else {}
    return DatasetVersion(
        version=number(snapshot),
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        operation=summary.operation.value if summary is not None else "append",
        added_records=int(facts.get(ROWS_ADDED, facts.get("added-records", 0))),
        deleted_records=int(facts.get(ROWS_REMOVED, facts.get("deleted-records", 0))),
        total_records=int(facts.get("total-records", 0)),
        timestamp_ms=snapshot.timestamp_ms,
        run=facts.get(RUN),
        user=facts.get(USER),
        code=facts.get(CODE),
        message=facts.get(MESSAGE),
        work=facts.get(WORK),
        depth=int(facts.get(DEPTH, 0)),
        table_uuid=str(table.metadata.table_uuid) if table is not None else "",
    )


def _unknown(table: Table, version: int | None, lineage: list[Snapshot]) -> VersionNotFoundError:
    name = table.name()[-1]
    if version is None:
        return VersionNotFoundError(f"{name!r} has no version yet: nothing was ever written to it")
    exist = listed(number(snapshot) for snapshot in lineage)
    before = owner_of(_past(table), version)
    past = f": the dataset that had it was deleted at {before.moment}; this one was made again since" if before else ""
    return VersionNotFoundError(f"{name!r} has no version {version}{past}; the versions, newest first, are {exist}")


def _past(table: Table) -> tuple[Deletion, ...]:
    """The datasets that had the name before."""
    return deletions(table.catalog, table.name(), str(table.metadata.table_uuid))
