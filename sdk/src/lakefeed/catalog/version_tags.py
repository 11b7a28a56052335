"""Tags: names for versions, stored as Iceberg refs. A tag moves only on request."""

from __future__ import annotations

import re

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType
from pyiceberg.table.update import (
    AssertRefSnapshotId,
    AssertTableUUID,
    RemoveSnapshotRefUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from lakefeed.catalog import column_files, commit_retry
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.properties import COLUMN_BRANCH
from lakefeed.catalog.version_arguments import VERSION_LIKE
from lakefeed.catalog.versions import Pin, find_snapshot, tagged_snapshot, version_number
from lakefeed.errors import InvalidNameError, TagExistsError

TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")


def is_tag_name(name: object) -> bool:
    """Returns whether a tag can have that name."""
    return (
        isinstance(name, str)
        and TAG_NAME.fullmatch(name) is not None
        and VERSION_LIKE.fullmatch(name) is None
        and name != MAIN_BRANCH
        and not _holds_column_files(name)
    )


def check_tag(name: str) -> str:
    """Checks and returns the name of a tag.

    Raises:
        InvalidNameError: the name is not valid.
    """
    if not is_tag_name(name):
        raise InvalidNameError(
            f"invalid tag {name!r}: use 1 to 63 letters, digits, '.', '_' and '-', starting with a letter, but neither "
            f"{MAIN_BRANCH!r} or {COLUMN_BRANCH!r} nor a name that looks like a version, such as 'v3'"
        )
    return name


def tags(table: Table) -> dict[str, int]:
    """Returns the version numbers of tags by name, including tags of other programs."""
    return _numbers(table, SnapshotRefType.TAG)


def branches(table: Table) -> dict[str, int]:
    """Returns the newest version numbers of branches of other programs, by name."""
    numbers = _numbers(table, SnapshotRefType.BRANCH)
    return {name: newest for name, newest in numbers.items() if name != MAIN_BRANCH and not _holds_column_files(name)}


def _holds_column_files(branch: str) -> bool:
    return branch == COLUMN_BRANCH or branch.startswith(f"{COLUMN_BRANCH}.")


def _numbers(table: Table, kind: SnapshotRefType) -> dict[str, int]:
    by_id = {snapshot.snapshot_id: version_number(snapshot) for snapshot in table.metadata.snapshots}
    refs = sorted(table.metadata.refs.items())
    return {name: by_id[ref.snapshot_id] for name, ref in refs if ref.snapshot_ref_type == kind}


def tag(lake: Lake, name: str, label: str, version: Pin | None, move: bool) -> int:
    """Sets a tag and returns the number of its version.

    Args:
        lake: the lake.
        name: the name of the dataset.
        label: the tag.
        version: the version; None for the newest.
        move: moves an existing tag.

    Raises:
        InvalidNameError: the name of the tag is not valid.
        TagExistsError: the tag names another version, and ``move`` is False.
        VersionNotFoundError: the version does not exist.
    """
    check_tag(label)
    chosen: list[int] = []

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        target = find_snapshot(table, version)
        chosen[:] = [version_number(target)]
        ref = table.metadata.refs.get(label)
        if ref is not None and (ref.snapshot_id == target.snapshot_id and _is_tag_ref(ref)):
            return (), ()
        if ref is not None and not (move and _is_tag_ref(ref)):
            raise _exists_error(table, label)
        before = ref.snapshot_id if ref is not None else None
        setting = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
            ref_name=label, type="tag", snapshot_id=target.snapshot_id
        )
        holding = _column_files_updates(table, label, column_files.column_snapshot_id(table, target))
        return (*_same_table(table), AssertRefSnapshotId(ref=label, snapshot_id=before)), (setting, *holding)

    commit_retry.commit_metadata(lake, name, change)
    return chosen[0]


def _column_files_updates(table: Table, label: str, snapshot_id: int | None) -> tuple[TableUpdate, ...]:
    """Returns the updates that hold the column files of a tagged version, so that no program expires them."""
    ref = f"{COLUMN_BRANCH}.{label}"
    if snapshot_id is not None and table.metadata.snapshot_by_id(snapshot_id) is not None:
        holding = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
            ref_name=ref, type="branch", snapshot_id=snapshot_id
        )
        return (holding,)
    return (RemoveSnapshotRefUpdate(ref_name=ref),) if ref in table.metadata.refs else ()


def untag(lake: Lake, name: str, label: str) -> None:
    """Removes a tag; the version stays.

    Raises:
        TagNotFoundError: the tag does not exist; the message names those that do.
        InvalidNameError: the name is not text.
    """
    if not isinstance(label, str):
        check_tag(label)

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        snapshot = tagged_snapshot(table, label)
        removing = RemoveSnapshotRefUpdate(ref_name=label), *_column_files_updates(table, label, None)
        return (*_same_table(table), AssertRefSnapshotId(ref=label, snapshot_id=snapshot.snapshot_id)), removing

    commit_retry.commit_metadata(lake, name, change)


def _same_table(table: Table) -> tuple[TableRequirement, ...]:
    return (AssertTableUUID(uuid=table.metadata.table_uuid),)


def _exists_error(table: Table, label: str) -> TagExistsError:
    version = tags(table).get(label)
    if version is None:
        return TagExistsError(f"{label!r} is a branch of {table.name()[-1]!r}; choose another name")
    return TagExistsError(
        f"tag {label!r} of {table.name()[-1]!r} names version {version}; choose another name, or pass move=True"
    )


def _is_tag_ref(ref: object) -> bool:
    return getattr(ref, "snapshot_ref_type", None) == SnapshotRefType.TAG
