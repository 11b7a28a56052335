"""Commits that create tables, append rows and set properties. One action makes one snapshot, which is one version.

An action writes its data files, then commits them with one compare-and-swap in the catalog. If it fails, its data files
and manifests are removed. If another writer commits first, the action keeps its data files, checks the idempotency key
and the fence again, and writes another manifest list.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping, Sequence

import pyarrow as pa
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import StagedTable, Table
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSortOrderUpdate,
    AssertCreate,
    AssertTableUUID,
    AssignUUIDUpdate,
    RemovePropertiesUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)

from lakefeed.catalog.action import Action, Condition, Fence, Provenance
from lakefeed.catalog.column_decisions import decide_columns
from lakefeed.catalog.commit_retry import commit_metadata, commit_with_retry, snapshot_updates, submit
from lakefeed.catalog.compatibility import check_compatible, check_round_trip
from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake, new_location
from lakefeed.catalog.properties import COLUMN_TYPES, DESCRIPTION, FENCE_PREFIX, ROOT, TABLE_DEFAULTS
from lakefeed.catalog.schema import (
    arrow_types_property,
    iceberg_schema,
    media_of,
    normalize_schema,
    storage_schema,
)
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, BeforeCommit, Contents, SnapshotBuilder
from lakefeed.catalog.table_key import key_order, keyed_schema
from lakefeed.catalog.table_locations import claim_location
from lakefeed.catalog.table_rows import RowWriter, check_writable, write_rows
from lakefeed.catalog.tombstones import deletions, last_number
from lakefeed.catalog.versions import DatasetVersion, resolve, version_of
from lakefeed.errors import ColumnNotFoundError, DatasetExistsError, InvalidArgumentError

MAX_CREATION_ATTEMPTS = 8
"""Other processes may create and delete the dataset that often while this one creates it."""


def create(
    lake: Lake,
    name: str,
    schema: pa.Schema,
    batches: Iterable[pa.RecordBatch],
    *,
    description: str | None = None,
    column_types: Mapping[str, str] | None = None,
    properties: Mapping[str, str] | None = None,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    before_commit: BeforeCommit | None = None,
    write: RowWriter = write_rows,
    key: Sequence[str] = (),
    facts: Mapping[str, str] | None = None,
    root: str | None = None,
) -> DatasetVersion:
    """Creates a dataset and returns its first version. A failure leaves no table and no file.

    The version has number 1, or the next number if datasets of that name were deleted.

    Args:
        lake: the lake.
        name: the name of the dataset.
        schema: the columns, as Arrow types.
        batches: the rows; may be empty.
        description: a description of the dataset.
        column_types: the media types of the file columns, by name; None for those that the schema marks.
        properties: further table properties.
        provenance: who writes.
        idempotency_key: if the dataset has a version with this key, that version is returned.
        fence: the fence that the action sets. Its ``expected`` must be None.
        before_commit: is called right before each commit. An error that it raises ends the action.
        write: writes rows into data files.
        key: the columns of which the values identify a row. They must not be nullable.
        facts: further entries of the snapshot summary.
        root: the location below which the table lies (see `check_root`); None for the warehouse.

    Returns:
        The new version.

    Raises:
        DatasetExistsError: a dataset of that name exists.
        SchemaError: a column or type cannot be stored, or the rows do not match the columns.
        FenceError: ``fence.expected`` is not None. A new table has no fence.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    if lake.exists(name):
        return _existing_version(lake, name, action)
    action.check_fence(None)
    declared = normalize_schema(schema)
    own = _initial_properties(declared, description, column_types)
    check_round_trip(declared, storage_schema(declared))
    properties = {**TABLE_DEFAULTS, **(properties or {}), **own, **action.properties()}
    staged = _stage_table(lake, name, declared, properties, key, root)
    builder = SnapshotBuilder(staged, action.summary_entries(), new_table=True, before_commit=before_commit)
    with builder.discard_on_failure():
        builder.contents = Contents(write(lake, staged, declared, builder, batches), facts=facts or {})
        action = action.completed()
        builder.facts = action.summary_entries()
        staged.metadata.properties.update(action.properties())
        for _ in range(MAX_CREATION_ATTEMPTS):
            snapshot = builder.build_snapshot(_with_first_number(lake, staged))
            if submit(
                lake,
                staged,
                builder,
                (AssertCreate(),),
                (*_creation_updates(staged.metadata), *snapshot_updates(snapshot)),
            ):
                return version_of(snapshot, staged)
            if lake.exists(name):
                break  # else another process has created and deleted it
        version = builder.committed_version(lake.table(name))
    return version or _existing_version(lake, name, action)


def append(
    lake: Lake,
    name: str,
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    before_commit: BeforeCommit | None = None,
    write: RowWriter = write_rows,
    conditions: tuple[Condition, ...] = (),
) -> DatasetVersion:
    """Appends rows to a dataset.

    Args:
        lake: the lake.
        name: the name of the dataset.
        batches: the rows.
        schema: the schema of ``batches``. It is checked before the first batch is read.
        provenance: who writes.
        idempotency_key: if the dataset has a version with this key, that version is returned.
        fence: the fence that the action checks and sets. A fenced action makes a version even without rows.
        before_commit: is called right before each commit. An error that it raises ends the action.
        write: writes rows into data files.
        conditions: further fences that the action checks.

    Returns:
        The new version; the newest version if there are neither rows nor a fence.

    Raises:
        DatasetNotFoundError: the dataset does not exist, or was deleted during the action.
        SchemaError: a column or type does not match; the message names the column.
        FenceError: another run has moved the fence.
        CommitConflictError: other writers kept committing first.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence, conditions)
    table = lake.table(name)
    earlier = action.earlier_version(table)
    if earlier is not None:
        return earlier
    action.check_fence(table)
    check_writable(table)
    decision = decide_columns(table, schema)
    declared = decision.declared
    check_compatible(schema, declared)
    builder = SnapshotBuilder(table, action.summary_entries(), before_commit=before_commit)
    with builder.discard_on_failure():
        files = write(lake, decision.table, declared, builder, batches)
        action = action.completed()
        builder.facts = action.summary_entries()
        builder.contents = Contents(files)
        if not builder.contents.added and fence is None and table.current_snapshot() is not None:
            return resolve(table)

        def revise(current: Table) -> tuple[TableUpdate, ...]:
            updates = decision.remaining_updates(current)
            builder.contents = decision.contents(Contents(files)) if updates else Contents(files)
            return updates

        return commit_with_retry(lake, name, table, builder, action, revise)


def update_properties(lake: Lake, name: str, updates: Mapping[str, str], remove: Iterable[str] = ()) -> None:
    """Sets and removes table properties. Makes no version.

    Raises:
        InvalidArgumentError: one of the properties is a fence. Only fenced actions set fences.
        DatasetNotFoundError: the dataset does not exist.
    """
    removed = tuple(remove)
    fences = [key for key in (*updates, *removed) if key.startswith(FENCE_PREFIX)]
    if fences:
        raise InvalidArgumentError(f"property {fences[0]!r} is a fence; use fence= of create() or append() to set it")

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        present = [key for key in removed if key in table.properties]
        setting = (SetPropertiesUpdate(updates=dict(updates)),) if updates else ()
        removing = (RemovePropertiesUpdate(removals=present),) if present else ()
        return (AssertTableUUID(uuid=table.metadata.table_uuid),), (*setting, *removing)

    commit_metadata(lake, name, change)


# ------------------------------------------------------------------------------------------ a new table


def _existing_version(lake: Lake, name: str, action: Action) -> DatasetVersion:
    earlier = action.earlier_version(lake.table(name))
    if earlier is not None:
        return earlier
    raise DatasetExistsError.of(name)


def _initial_properties(
    declared: pa.Schema, description: str | None, column_types: Mapping[str, str] | None
) -> dict[str, str]:
    media = dict(column_types) if column_types is not None else media_of(declared)
    unknown = [column for column in media if column not in declared.names]
    if unknown:
        raise ColumnNotFoundError.of(unknown, declared.names, "the dataset, but in its column types")
    own = {COLUMN_TYPES: json.dumps(media, sort_keys=True)} if media else {}
    return {**own, **({DESCRIPTION: description} if description is not None else {})}


def _stage_table(
    lake: Lake,
    name: str,
    declared: pa.Schema,
    properties: Mapping[str, str],
    key: Sequence[str],
    root: str | None = None,
) -> StagedTable:
    identifier = lake.identifier(name)
    lake.ensure_namespace(".".join(identifier[:-1]))
    table_uuid = uuid.uuid4()
    suffix = table_uuid.hex[:12]
    if root is None:
        location, outside = new_location(lake.warehouse, identifier, suffix), {}
    else:
        location, outside = claim_location(lake, root, identifier, suffix), {ROOT: root}
    schema = keyed_schema(iceberg_schema(declared), key)
    metadata = new_table_metadata(
        schema=schema,
        partition_spec=UNPARTITIONED_PARTITION_SPEC,
        sort_order=key_order(schema, key),
        location=location,
        properties={**properties, **outside},
        table_uuid=table_uuid,
    )
    metadata.properties.update(arrow_types_property(declared, metadata.schema()))
    location = f"{metadata.location}/metadata/staged"
    io = open_io(lake.catalog.properties, metadata.properties, location)
    return StagedTable(identifier, metadata, location, io, lake.catalog)


def _with_first_number(lake: Lake, staged: StagedTable) -> TableMetadata:
    """Returns metadata whose first version number follows the last one of deleted datasets of that name."""
    last = last_number(deletions(lake.catalog, staged.name()))
    return staged.metadata.model_copy(update={"last_sequence_number": last})


def _creation_updates(metadata: TableMetadata) -> tuple[TableUpdate, ...]:
    return (
        AssignUUIDUpdate(uuid=metadata.table_uuid),
        UpgradeFormatVersionUpdate(format_version=FORMAT_VERSION),
        AddSchemaUpdate(schema_=metadata.schema()),
        SetCurrentSchemaUpdate(schema_id=-1),
        AddPartitionSpecUpdate(spec=UNPARTITIONED_PARTITION_SPEC),
        SetDefaultSpecUpdate(spec_id=-1),
        AddSortOrderUpdate(sort_order=metadata.sort_order_by_id(metadata.default_sort_order_id) or UNSORTED_SORT_ORDER),
        SetDefaultSortOrderUpdate(sort_order_id=-1),
        SetLocationUpdate(location=metadata.location),
        SetPropertiesUpdate(updates=metadata.properties),
    )
