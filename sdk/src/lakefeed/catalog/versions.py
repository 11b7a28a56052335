"""Versions of a dataset: the snapshots in the ancestry of the current one, numbered by Iceberg's sequence number."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from lakefeed.catalog import ancestry, file_exchange, time_travel, tombstones
from lakefeed.catalog.properties import CODE, DEPTH, MESSAGE, ROWS_ADDED, ROWS_REMOVED, RUN, USER, WORK
from lakefeed.errors import InvalidArgumentError, TagNotFoundError, VersionNotFoundError, quoted_list

if TYPE_CHECKING:
    from pyiceberg.table import Table
    from pyiceberg.table.snapshots import Snapshot

    from lakefeed.catalog.file_exchange import Step
    from lakefeed.catalog.tombstones import Deletion


@dataclass(frozen=True)
class DatasetVersion:
    """One version: what it is, what it changed, who wrote it (``timestamp_ms`` since 1970, UTC).

    ``added_records`` and ``deleted_records`` count rows that are new or gone; rows that an edit only moved to other
    files are neither. For versions that other programs wrote, and for overwrites, they count the rows of the files.
    ``net_records`` is by how many rows the total moved, whatever the version did. ``total_bytes`` are those of its data
    files.
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
    # Which table of the name it is a version of: numbers are those of the table.
    table_uuid: str = field(default="", repr=False, compare=False)


class SnapshotEntry(dict[str, Any]):
    """A version as an entry of a dataset's metadata: a dict, whose values are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError as error:
            raise AttributeError(f"a snapshot entry has no {name!r}; it has {quoted_list(self)}") from error


def entry_of(version: DatasetVersion) -> SnapshotEntry:
    """The entry of a version: its facts by name, and its number as ``sequence_number`` too."""
    return SnapshotEntry(sequence_number=version.version, **asdict(version))


@dataclass(frozen=True)
class AsOf:
    """The version that was the newest at a time, in milliseconds since 1970 (UTC)."""

    timestamp_ms: int


UUID_BITS_LEFT_OUT = 65

Pin: TypeAlias = int | str | AsOf


def list_versions(table: Table) -> list[DatasetVersion]:
    """All versions, newest first; a rolled-back commit is none."""
    return [version_of(snapshot, table) for snapshot in ancestry.ancestry(table)]


def resolve(table: Table, version: Pin | None = None) -> DatasetVersion:
    """The version of that number, tag or time; the newest for ``None``.

    Raises:
        VersionNotFoundError: there is no such version; the message names at most ten that exist.
        TagNotFoundError: there is no such tag.
    """
    return version_of(find_snapshot(table, version), table)


def newest_or_empty(table: Table) -> DatasetVersion:
    """The newest version; where nothing was ever written to the table, a version 0 that has no rows."""
    if table.metadata.current_snapshot_id is not None:
        return resolve(table)
    uuid = table.metadata.table_uuid
    return DatasetVersion(
        version=0,
        snapshot_id=-(uuid.int >> UUID_BITS_LEFT_OUT) - 1,  # of no snapshot, and the same for no other table
        parent_id=None,
        operation="append",
        added_records=0,
        deleted_records=0,
        total_records=0,
        timestamp_ms=table.metadata.last_updated_ms,
        table_uuid=str(uuid),
    )


def find_snapshot(table: Table, version: Pin | None = None, head: Snapshot | None = None) -> Snapshot:
    """The snapshot of `resolve`; a number is looked for in the ancestry of ``head`` (None: of the current version)."""
    if isinstance(version, str):
        return tagged_snapshot(table, version)
    if isinstance(version, AsOf):
        return _find_as_of(table, version.timestamp_ms)
    lineage = ancestry.ancestry(table, head)
    for snapshot in lineage:
        if version is None or snapshot.sequence_number == version:
            return snapshot
    raise _version_error(table, version, lineage)


def tagged_snapshot(table: Table, label: str) -> Snapshot:
    """The snapshot that a tag stands for.

    Raises:
        TagNotFoundError: there is no such tag.
    """
    from pyiceberg.table.refs import SnapshotRefType

    refs = {name: ref for name, ref in table.metadata.refs.items() if ref.snapshot_ref_type == SnapshotRefType.TAG}
    snapshot = table.metadata.snapshot_by_id(refs[label].snapshot_id) if label in refs else None
    if snapshot is None:
        branch = f": {label!r} is a branch, and branches are not read" if label in table.metadata.refs else ""
        raise TagNotFoundError(
            f"{table.name()[-1]!r} has no tag {label!r}{branch}; the tags are {quoted_list(sorted(refs))}"
        )
    return snapshot


def _find_as_of(table: Table, as_of: int) -> Snapshot:
    found = time_travel.current_at(table, as_of)
    if found is not None:
        return found
    lineage = ancestry.ancestry(table)
    if not lineage:
        raise _version_error(table, None, lineage)
    first = lineage[-1]
    deletion = next((each for each in _earlier_deletions(table) if each.at > as_of), None)
    past = "" if deletion is None else f": the dataset of that time was deleted at {deletion.moment}"
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
    """The versions after ``from_version`` up to ``to_version``, oldest first, in the ancestry of ``head``.

    ``from_version=None`` starts at the beginning, ``to_version=None`` ends at the newest; equal ends give none.
    ``head=None`` is the current version.

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
    """The versions of `versions_between`, each with the one before it; ``from_version`` need not be kept.

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
        raise InvalidArgumentError(
            f"from_version={from_version} is newer than to_version={to_version}: the range runs from old to new"
        )
    pairs = zip(lineage, [*lineage[1:], None], strict=False)
    return [
        file_exchange.Step(before, after, max(start, version_number(before) if before is not None else 0))
        for after, before in pairs
        if start < version_number(after) <= stop
    ][::-1]


def version_number(snapshot: Snapshot) -> int:
    """The version number of a snapshot."""
    return snapshot.sequence_number or 0


def version_of(snapshot: Snapshot, table: Table | None = None) -> DatasetVersion:
    """The version that a snapshot of a table is."""
    from pyiceberg.table.snapshots import Operation

    summary = snapshot.summary
    facts = dict(summary.additional_properties) if summary is not None else {}
    added, deleted = int(facts.get("added-records", 0)), int(facts.get("deleted-records", 0))
    same = summary is not None and summary.operation is Operation.REPLACE
    return DatasetVersion(
        version=version_number(snapshot),
        snapshot_id=snapshot.snapshot_id,
        parent_id=snapshot.parent_snapshot_id,
        operation=summary.operation.value if summary is not None else "append",
        added_records=0 if same else int(facts.get(ROWS_ADDED, added)),
        deleted_records=0 if same else int(facts.get(ROWS_REMOVED, deleted)),
        total_records=int(facts.get("total-records", 0)),
        timestamp_ms=snapshot.timestamp_ms,
        run=facts.get(RUN),
        user=facts.get(USER),
        code=facts.get(CODE),
        message=facts.get(MESSAGE),
        work=facts.get(WORK),
        depth=int(facts.get(DEPTH, 0)),
        net_records=added - deleted,
        total_bytes=int(facts.get("total-files-size", 0)),
        table_uuid=str(table.metadata.table_uuid) if table is not None else "",
    )


def _version_error(table: Table, version: int | None, lineage: list[Snapshot]) -> VersionNotFoundError:
    name = table.name()[-1]
    if version is None:
        return VersionNotFoundError(f"{name!r} has no version yet: nothing was ever written to it")
    exist = quoted_list(version_number(snapshot) for snapshot in lineage)
    before = tombstones.deletion_of_version(_earlier_deletions(table), version)
    past = f": the dataset that had it was deleted at {before.moment}; this one was made again since" if before else ""
    return VersionNotFoundError(f"{name!r} has no version {version}{past}; the versions, newest first, are {exist}")


def _earlier_deletions(table: Table) -> tuple[Deletion, ...]:
    """The datasets that had the name before."""
    return tombstones.deletions(table.catalog, table.name(), str(table.metadata.table_uuid))
