"""Updates of table metadata, without a copy of every snapshot.

PyIceberg copies the whole metadata deeply for each commit, which takes longer than the rest of a commit once a table
has hundreds of versions. Snapshots never change, so those that no update concerns are set aside meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableUpdate,
)

if TYPE_CHECKING:
    from pyiceberg.table.metadata import TableMetadata

OF_NAMED_SNAPSHOTS: Final = (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    SetCurrentSchemaUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
)
"""The updates that concern only snapshots that they name."""


def update_beside_snapshots(
    metadata: TableMetadata, updates: tuple[TableUpdate, ...], update: Callable[[TableMetadata], TableMetadata]
) -> TableMetadata:
    """Returns ``update(metadata)``, without passing it the snapshots that the updates do not concern.

    Args:
        metadata: the metadata.
        updates: the updates that ``update`` makes.
        update: returns the updated metadata.
    """
    if metadata.format_version != 2 or not all(isinstance(each, OF_NAMED_SNAPSHOTS) for each in updates):
        return update(metadata)
    named = {each.snapshot_id for each in updates if isinstance(each, SetSnapshotRefUpdate)}
    named |= {each.snapshot.snapshot_id for each in updates if isinstance(each, AddSnapshotUpdate)}
    concerned = [snapshot for snapshot in metadata.snapshots if snapshot.snapshot_id in named]
    updated = update(metadata.model_copy(update={"snapshots": concerned, "snapshot_log": []}))
    added = updated.snapshots[len(concerned) :]
    return updated.model_copy(
        update={
            "snapshots": metadata.snapshots + added,
            "snapshot_log": metadata.snapshot_log + updated.snapshot_log,
        }
    )
