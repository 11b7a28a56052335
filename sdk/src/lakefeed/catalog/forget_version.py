"""The removal of one version from the history of a dataset. Its rows stay in the other versions that have them."""

from __future__ import annotations

from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.update import (
    RemoveSnapshotRefUpdate,
    RemoveSnapshotsUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
)

from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.commit_retry import commit_metadata, unchanged_requirements
from lakefeed.catalog.lake import Lake


def forget_version(lake: Lake, name: str, snapshot_id: int) -> None:
    """Removes a version. If it is the newest one, the version before it becomes the newest.

    Of the only version, the dataset stays without rows. The number is never used again. A garbage collection removes
    what only this version needed.

    Args:
        lake: the lake.
        name: the name of the dataset.
        snapshot_id: the snapshot of the version. Nothing happens if it is gone.

    Raises:
        CommitConflictError: other writers kept committing first.
    """

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        lineage = [snapshot.snapshot_id for snapshot in ancestry(table)]
        if table.metadata.snapshot_by_id(snapshot_id) is None:
            return (), ()
        removal = RemoveSnapshotsUpdate(snapshot_ids=[snapshot_id])
        if lineage[:1] != [snapshot_id]:
            return unchanged_requirements(table), (removal,)
        if len(lineage) == 1:
            return unchanged_requirements(table), (RemoveSnapshotRefUpdate(ref_name=MAIN_BRANCH), removal)
        back = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
            ref_name=MAIN_BRANCH, type="branch", snapshot_id=lineage[1]
        )
        return unchanged_requirements(table), (back, removal)

    commit_metadata(lake, name, change)
