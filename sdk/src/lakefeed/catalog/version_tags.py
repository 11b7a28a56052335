"""Tags: names for versions, kept as Iceberg refs. A tag does not move unless it is told to."""

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

from lakefeed.catalog import commit_retry
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.versions import Pin, find_snapshot, tagged_snapshot, version_number
from lakefeed.errors import InvalidNameError, TagExistsError

TAG_NAME = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,62}")
VERSION_LIKE = re.compile(r"v?\d+")


def is_tag_name(name: object) -> bool:
    """Whether it can be the name of a tag."""
    return (
        isinstance(name, str)
        and TAG_NAME.fullmatch(name) is not None
        and VERSION_LIKE.fullmatch(name) is None
        and name != MAIN_BRANCH
    )


def is_possible_tag(name: object) -> bool:
    """Whether a tag of the name may be there: other clients give names that `is_tag` does not.

    What reads like a version is none, for a version is what is meant then.
    """
    return isinstance(name, str) and name.strip() != "" and VERSION_LIKE.fullmatch(name.strip()) is None


def check_tag(name: str) -> str:
    """A tag's name.

    Raises:
        InvalidNameError: it breaks the naming rule, or reads like a version.
    """
    if not is_tag_name(name):
        raise InvalidNameError(
            f"{name!r} cannot be a tag: use 1 to 63 of letters, digits, '.', '_' and '-', starting with a letter, but "
            f"neither {MAIN_BRANCH!r} nor what reads like a version, such as 'v3'"
        )
    return name


def tags(table: Table) -> dict[str, int]:
    """The tags, by name, and their versions; also those that other clients gave."""
    return _numbers(table, SnapshotRefType.TAG)


def branches(table: Table) -> dict[str, int]:
    """The branches that other clients made, by name, and their newest versions."""
    return {name: found for name, found in _numbers(table, SnapshotRefType.BRANCH).items() if name != MAIN_BRANCH}


def _numbers(table: Table, kind: SnapshotRefType) -> dict[str, int]:
    by_id = {snapshot.snapshot_id: version_number(snapshot) for snapshot in table.metadata.snapshots}
    refs = sorted(table.metadata.refs.items())
    return {name: by_id[ref.snapshot_id] for name, ref in refs if ref.snapshot_ref_type == kind}


def tag(lake: Lake, name: str, label: str, version: Pin | None, move: bool) -> int:
    """The version that the tag now stands for.

    Raises:
        TagExistsError: it stands for another version, and is not to ``move``.
        VersionNotFoundError: there is no such version.
    """
    check_tag(label)
    chosen: list[int] = []

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        target = find_snapshot(table, version)
        chosen[:] = [version_number(target)]
        there = table.metadata.refs.get(label)
        if there is not None and (there.snapshot_id == target.snapshot_id and _is_tag_ref(there)):
            return (), ()
        if there is not None and not (move and _is_tag_ref(there)):
            raise _exists_error(table, label)
        before = there.snapshot_id if there is not None else None
        setting = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
            ref_name=label, type="tag", snapshot_id=target.snapshot_id
        )
        return (*_same_table(table), AssertRefSnapshotId(ref=label, snapshot_id=before)), (setting,)

    commit_retry.commit_metadata(lake, name, change)
    return chosen[0]


def untag(lake: Lake, name: str, label: str) -> None:
    """Removes a tag; the version stays.

    Raises:
        TagNotFoundError: there is none; the message names those that exist.
        InvalidNameError: the name is not text.
    """
    if not isinstance(label, str):
        check_tag(label)

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        there = tagged_snapshot(table, label)
        removing = RemoveSnapshotRefUpdate(ref_name=label)
        return (*_same_table(table), AssertRefSnapshotId(ref=label, snapshot_id=there.snapshot_id)), (removing,)

    commit_retry.commit_metadata(lake, name, change)


def _same_table(table: Table) -> tuple[TableRequirement, ...]:
    return (AssertTableUUID(uuid=table.metadata.table_uuid),)


def _exists_error(table: Table, label: str) -> TagExistsError:
    there = tags(table).get(label)
    if there is None:
        return TagExistsError(f"{label!r} is a branch of {table.name()[-1]!r}; choose another name")
    return TagExistsError(
        f"tag {label!r} of {table.name()[-1]!r} stands for version {there}; choose another name, or pass move=True"
    )


def _is_tag_ref(ref: object) -> bool:
    return getattr(ref, "snapshot_ref_type", None) == SnapshotRefType.TAG
