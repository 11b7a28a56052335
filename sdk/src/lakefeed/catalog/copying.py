"""Copies of datasets that share the files of the original.

Files never change, and neither a delete nor a garbage collection removes a file that another table of the catalog
names. So a copy is one new metadata file.
"""

from __future__ import annotations

import uuid
from typing import Any

from pyiceberg.exceptions import TableAlreadyExistsError
from pyiceberg.serializers import ToOutputFile
from pyiceberg.table import Table
from pyiceberg.table.metadata import TableMetadata
from pyiceberg.table.refs import MAIN_BRANCH, SnapshotRefType

from lakefeed.catalog import renaming, tombstones
from lakefeed.catalog.ancestry import ancestry
from lakefeed.catalog.durability import sync_files, sync_folder
from lakefeed.catalog.file_io import actual_location, open_io
from lakefeed.catalog.lake import Lake, new_location
from lakefeed.catalog.properties import COLUMN_BRANCH, FIRST_NAME, ROOT, TRASHED
from lakefeed.catalog.table_output import discard_files, new_file
from lakefeed.catalog.table_references import OWN_FOLDERS
from lakefeed.catalog.version_numbers import is_column_snapshot, next_number
from lakefeed.catalog.versions import Pin, find_snapshot
from lakefeed.catalog.warehouse_owner import require_owner
from lakefeed.errors import CommitConflictError, DatasetNotFoundError
from lakefeed.storage.blobs.step_hooks import StepHook, ignore_step

ATTEMPTS = 8
NOT_COPIED = (FIRST_NAME, TRASHED, ROOT, *OWN_FOLDERS)
"""Properties that belong to the original alone."""


def copy(lake: Lake, old: str, new: str, pin: Pin | None = None, at: StepHook = ignore_step) -> None:
    """Copies a dataset with its versions, tags and properties. No data is read or written.

    Args:
        lake: the lake.
        old: the name of the dataset.
        new: the name of the copy.
        pin: the newest version to copy, with all before it; None for all.
        at: is called with the name of each step, for tests of races.

    Raises:
        DatasetNotFoundError, VersionNotFoundError: it does not exist.
        DatasetExistsError: there is a dataset ``new``. Nothing is changed.
        SharedWarehouseError: the catalog does not own its warehouse. Nothing is changed.
    """
    target = lake.identifier(new)
    require_owner(lake.catalog)
    renaming.require_free(lake, new)
    lake.ensure_namespace(".".join(target[:-1]))
    for _ in range(ATTEMPTS):
        adapted = lake.table(old)
        original = lake.catalog.load_table(adapted.name())
        history = _chosen(adapted, original.metadata, pin)
        location = _write_metadata(lake, original, target, history)
        at("written")
        try:
            lake.catalog.register_table(target, location)
        except TableAlreadyExistsError:
            discard_files(original.io, [location])
            raise renaming.taken_error(new) from None
        at("registered")
        # Until now, a delete or a collection may not have seen that the copy needs the files.
        if _has_snapshots(lake, old, original.metadata):
            return
        lake.catalog.drop_table(target)
        discard_files(original.io, [location])
    raise CommitConflictError(f"versions of {old!r} were deleted again and again; {new!r} was not created. Try again")


def _has_snapshots(lake: Lake, name: str, metadata: TableMetadata) -> bool:
    """Returns whether a table is still there with all snapshots of ``metadata``."""
    try:
        current = lake.table(name).metadata
    except DatasetNotFoundError:
        return False
    present = {snapshot.snapshot_id for snapshot in current.snapshots}
    same = current.table_uuid == metadata.table_uuid
    return same and present.issuperset(snapshot.snapshot_id for snapshot in metadata.snapshots)


def _chosen(table: Table, metadata: TableMetadata, pin: Pin | None) -> dict[str, Any]:
    """Returns the fields of the metadata with only a version and those before it; none for all versions."""
    if pin is None:
        return {}
    head = find_snapshot(table, pin)
    lineage = {snapshot.snapshot_id for snapshot in ancestry(table, head)}
    snapshots = [each for each in metadata.snapshots if each.snapshot_id in lineage or is_column_snapshot(each)]
    present = {each.snapshot_id for each in snapshots}
    tagged = {
        name
        for name, ref in metadata.refs.items()
        if ref.snapshot_ref_type is SnapshotRefType.TAG and ref.snapshot_id in present
    }
    holding = {f"{COLUMN_BRANCH}.{name}" for name in tagged}  # else another program may expire their column files
    refs = {
        name: ref.model_copy(update={"snapshot_id": head.snapshot_id}) if name == MAIN_BRANCH else ref
        for name, ref in metadata.refs.items()
        if name in (MAIN_BRANCH, COLUMN_BRANCH) or name in tagged | holding
    }
    return {
        "snapshots": snapshots,
        "refs": refs,
        "current_snapshot_id": head.snapshot_id,
        "current_schema_id": metadata.current_schema_id if head.schema_id is None else head.schema_id,
        "snapshot_log": [entry for entry in metadata.snapshot_log if entry.snapshot_id in lineage],
    }


def _write_metadata(lake: Lake, original: Table, target: tuple[str, ...], history: dict[str, Any]) -> str:
    """Writes the metadata of the copy, and returns its location."""
    table_uuid, metadata = uuid.uuid4(), original.metadata
    location = new_location(lake.warehouse, target, table_uuid.hex[:12])
    deleted = tombstones.last_number(tombstones.deletions(lake.catalog, target))
    properties = {key: value for key, value in metadata.properties.items() if key not in NOT_COPIED}
    fields = {
        **history,
        "table_uuid": table_uuid,
        "location": location,
        "metadata_log": [],
        "properties": properties,
        "last_sequence_number": max(next_number(metadata) - 1, deleted),
    }
    copied = metadata.model_copy(update={key: value for key, value in fields.items() if hasattr(metadata, key)})
    # The number in the name is at least that of the newest version, as in tables that were written commit by commit.
    path = f"{location}/metadata/{next_number(metadata):05d}-{uuid.uuid4()}.metadata.json"
    io = open_io(lake.catalog.properties, properties, path)
    with new_file(io, path) as output:
        ToOutputFile.table_metadata(copied, output)
        sync_files([actual_location(io, path)])
        sync_folder(actual_location(io, path))
    return path
