"""Writing to the lake: one action is one snapshot is one version.

Data files come first, then one compare-and-swap in the catalog. An action that does not land leaves nothing: its
data files and manifests are removed. When other writers are faster, the data files stay and only the manifest list
is written again, after the idempotency key and the fence have been looked at anew.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterable, Mapping

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

from lakefeed.catalog.action import Action, Fence, Provenance
from lakefeed.catalog.column_decisions import decide_columns
from lakefeed.catalog.commit_retry import commit_metadata, commit_with_retry, snapshot_updates, submit
from lakefeed.catalog.compatibility import check_compatible, check_round_trip
from lakefeed.catalog.file_io import open_io
from lakefeed.catalog.lake import Lake, new_location
from lakefeed.catalog.properties import COLUMN_TYPES, DESCRIPTION, FENCE_PREFIX, TABLE_DEFAULTS
from lakefeed.catalog.schema import (
    arrow_types_property,
    iceberg_schema,
    media_of,
    normalize_schema,
    storage_schema,
)
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, BeforeCommit, Contents, SnapshotBuilder
from lakefeed.catalog.table_rows import RowWriter, check_writable, write_rows
from lakefeed.catalog.tombstones import deletions, last_number
from lakefeed.catalog.versions import DatasetVersion, resolve, version_of
from lakefeed.errors import ColumnNotFoundError, DatasetExistsError, InvalidArgumentError

# How often another process may make and delete the dataset while this one makes it.
MAX_CREATION_ATTEMPTS = 8


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
    guard: BeforeCommit | None = None,
    write: RowWriter = write_rows,
) -> DatasetVersion:
    """The first version of a new dataset; an empty input makes it too. A failure leaves no table and no file.

    Its number is 1, or where datasets of that name were deleted the one after their last.

    ``column_types`` names the file columns (``None``: those marked in the schema). ``guard`` is called right before the
    commit; what it raises ends the action.

    Raises:
        DatasetExistsError: the name is taken, also where another process took it meanwhile.
        SchemaError: the columns or their types cannot be kept, or the rows do not fit them.
        FenceError: ``fence.expected`` is not None; a table to be created has no fence.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    if lake.exists(name):
        return _existing_version(lake, name, action)
    action.check_fence(None)
    declared = normalize_schema(schema)
    own = _initial_properties(declared, description, column_types)
    check_round_trip(declared, storage_schema(declared))
    staged = _stage_table(lake, name, declared, {**TABLE_DEFAULTS, **(properties or {}), **own, **action.properties()})
    ours = SnapshotBuilder(staged, action.facts(), new_table=True, guard=guard)
    with ours.landing():
        ours.contents = Contents(write(lake, staged, declared, ours, batches))
        for _ in range(MAX_CREATION_ATTEMPTS):
            snapshot = ours.attempt(_with_first_number(lake, staged))
            if submit(
                lake,
                staged,
                ours,
                (AssertCreate(),),
                (*_creation_updates(staged.metadata), *snapshot_updates(snapshot)),
            ):
                return version_of(snapshot, staged)
            if lake.exists(name):
                break  # else another process made it meanwhile, and has deleted it
        landed = ours.landed_in(lake.table(name))
    return landed or _existing_version(lake, name, action)


def append(
    lake: Lake,
    name: str,
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
    guard: BeforeCommit | None = None,
    write: RowWriter = write_rows,
) -> DatasetVersion:
    """The version that adds the rows of ``batches``; without rows and fence, the newest version as it is.

    ``schema`` is that of the batches; it is checked before the first one is read. A fenced action always makes a
    version, also with no rows, so that the fence moves under the protection of the snapshot.

    Raises:
        DatasetNotFoundError: no such dataset, or it was deleted meanwhile.
        SchemaError: the rows do not fit; the message names the column.
        FenceError: another run has moved the fence.
        CommitConflictError: other writers kept winning.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    table = lake.table(name)
    done = action.done(table)
    if done is not None:
        return done
    action.check_fence(table)
    check_writable(table)
    decision = decide_columns(table, schema)
    declared = decision.declared
    check_compatible(schema, declared)
    ours = SnapshotBuilder(table, action.facts(), guard=guard)
    with ours.landing():
        files = write(lake, decision.table, declared, ours, batches)
        ours.contents = Contents(files)
        if not ours.contents.added and fence is None and table.current_snapshot() is not None:
            return resolve(table)

        def beside(current: Table) -> tuple[TableUpdate, ...]:
            updates = decision.again(current)
            ours.contents = decision.contents(Contents(files)) if updates else Contents(files)
            return updates

        return commit_with_retry(lake, name, table, ours, action, beside)


def update_properties(lake: Lake, name: str, updates: Mapping[str, str], remove: Iterable[str] = ()) -> None:
    """Sets and removes table properties; no version comes of it.

    Raises:
        InvalidArgumentError: a fence among them; only a fenced action moves a fence.
        DatasetNotFoundError: no such dataset.
    """
    removed = tuple(remove)
    fences = [key for key in (*updates, *removed) if key.startswith(FENCE_PREFIX)]
    if fences:
        raise InvalidArgumentError(f"{fences[0]!r} is a fence: only create() and append() with fence= move it")

    def change(table: Table) -> tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]:
        present = [key for key in removed if key in table.properties]
        setting = (SetPropertiesUpdate(updates=dict(updates)),) if updates else ()
        removing = (RemovePropertiesUpdate(removals=present),) if present else ()
        return (AssertTableUUID(uuid=table.metadata.table_uuid),), (*setting, *removing)

    commit_metadata(lake, name, change)


# ------------------------------------------------------------------------------------------ a new table


def _existing_version(lake: Lake, name: str, action: Action) -> DatasetVersion:
    done = action.done(lake.table(name))
    if done is not None:
        return done
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


def _stage_table(lake: Lake, name: str, declared: pa.Schema, properties: Mapping[str, str]) -> StagedTable:
    identifier = lake.identifier(name)
    lake.ensure_namespace(identifier[0])
    table_uuid = uuid.uuid4()
    metadata = new_table_metadata(
        schema=iceberg_schema(declared),
        partition_spec=UNPARTITIONED_PARTITION_SPEC,
        sort_order=UNSORTED_SORT_ORDER,
        location=new_location(lake.warehouse, *identifier, table_uuid.hex[:12]),
        properties={**properties},
        table_uuid=table_uuid,
    )
    metadata.properties.update(arrow_types_property(declared, metadata.schema()))
    location = f"{metadata.location}/metadata/staged"
    io = open_io(lake.catalog.properties, metadata.properties, location)
    return StagedTable(identifier, metadata, location, io, lake.catalog)


def _with_first_number(lake: Lake, staged: StagedTable) -> TableMetadata:
    """The metadata of a table that goes on after the last number of the deleted ones of its name, as recorded now."""
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
        AddSortOrderUpdate(sort_order=UNSORTED_SORT_ORDER),
        SetDefaultSortOrderUpdate(sort_order_id=-1),
        SetLocationUpdate(location=metadata.location),
        SetPropertiesUpdate(updates=metadata.properties),
    )
