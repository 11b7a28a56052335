"""Writing to the lake: one action is one snapshot is one version.

Data files come first, then one compare-and-swap in the catalog. An action that does not land leaves nothing: its
data files and manifests are removed. When other writers are faster, the data files stay and only the manifest list
is written again, after the idempotency key and the fence have been looked at anew.
"""

from __future__ import annotations

import json
import random
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping

import pyarrow as pa
from pyiceberg.exceptions import CommitFailedException, NoSuchTableError, TableAlreadyExistsError
from pyiceberg.io import load_file_io
from pyiceberg.manifest import DataFile
from pyiceberg.partitioning import UNPARTITIONED_PARTITION_SPEC
from pyiceberg.table import StagedTable, Table
from pyiceberg.table.metadata import TableMetadata, new_table_metadata
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.sorting import UNSORTED_SORT_ORDER
from pyiceberg.table.update import (
    AddPartitionSpecUpdate,
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AddSortOrderUpdate,
    AssertCreate,
    AssertRefSnapshotId,
    AssertTableUUID,
    AssignUUIDUpdate,
    RemovePropertiesUpdate,
    SetCurrentSchemaUpdate,
    SetDefaultSortOrderUpdate,
    SetDefaultSpecUpdate,
    SetLocationUpdate,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)

from lakefeed.catalog.action import Action, Fence, Provenance
from lakefeed.catalog.fit import check_fits, check_round_trip, stored
from lakefeed.catalog.lake import Lake, new_location
from lakefeed.catalog.properties import COLUMN_TYPES, DESCRIPTION, FENCE_PREFIX, TABLE_DEFAULTS
from lakefeed.catalog.schema import (
    declared_property,
    declared_schema,
    file_schema,
    iceberg_schema,
    media_of,
    normalized_schema,
    storage_schema,
)
from lakefeed.catalog.snapshot import Append, Outcome
from lakefeed.catalog.versions import DatasetVersion, resolve, version_of
from lakefeed.catalog.writer import Target, write_files
from lakefeed.errors import (
    ColumnNotFoundError,
    CommitConflictError,
    DatasetExistsError,
    DatasetNotFoundError,
    InvalidArgumentError,
    UnsupportedError,
)

FORMAT_VERSION = 2


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
) -> DatasetVersion:
    """Version 1 of a new dataset; an empty input makes it too. A failure leaves no table and no file.

    ``column_types`` names the file columns (``None``: those marked in the schema).

    Raises:
        DatasetExistsError: the name is taken, also where another process took it meanwhile.
        SchemaError: the columns or their types cannot be kept, or the rows do not fit them.
        FenceError: ``fence.expected`` is not None; a table to be created has no fence.
    """
    action = Action(provenance or Provenance(), idempotency_key, fence)
    if lake.exists(name):
        return _created_before(lake, name, action)
    action.check_fence(None)
    declared = normalized_schema(schema)
    own = _own_properties(declared, description, column_types)
    check_round_trip(declared, storage_schema(declared))
    staged = _staged(lake, name, declared, {**TABLE_DEFAULTS, **(properties or {}), **own, **action.properties()})
    ours = Append(staged, action.facts(), new_table=True)
    with ours.landing():
        ours.files = _write(lake, staged, declared, ours, batches)
        snapshot = ours.attempt(staged.metadata)
        if _submit(lake, staged, ours, (AssertCreate(),), (*_initial(staged.metadata), *_adding(snapshot))):
            return version_of(snapshot)
    return _created_before(lake, name, action)


def append(
    lake: Lake,
    name: str,
    batches: Iterable[pa.RecordBatch],
    *,
    schema: pa.Schema,
    provenance: Provenance | None = None,
    idempotency_key: str | None = None,
    fence: Fence | None = None,
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
    _check_writable(table)
    declared = declared_schema(table)
    check_fits(schema, declared)
    ours = Append(table, action.facts())
    with ours.landing():
        ours.files = _write(lake, table, declared, ours, batches)
        if not ours.files and fence is None and table.current_snapshot() is not None:
            return resolve(table)
        version = _land(lake, name, table, ours, action)
    return version


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
    for table in _attempts(lake, name, lake.table(name)):
        present = [key for key in removed if key in table.properties]
        changes: list[TableUpdate] = []
        if updates:
            changes.append(SetPropertiesUpdate(updates=dict(updates)))
        if present:
            changes.append(RemovePropertiesUpdate(removals=present))
        try:
            lake.catalog.commit_table(table, (AssertTableUUID(uuid=table.metadata.table_uuid),), tuple(changes))
            return
        except CommitFailedException:
            continue
    raise _conflict(lake, name)


# ------------------------------------------------------------------------------------------ landing


def _land(lake: Lake, name: str, table: Table, ours: Append, action: Action) -> DatasetVersion:
    for current in _attempts(lake, name, table):
        version = ours.landed_in(current) or action.done(current)
        if version is not None:
            return version
        action.check_fence(current)
        snapshot = ours.attempt(current.metadata)
        parent = snapshot.parent_snapshot_id
        requirements = (
            AssertTableUUID(uuid=current.metadata.table_uuid),
            # Also a reader that saw an old fence is stopped: the position moves only with the snapshot it was read at.
            AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=parent),
        )
        if _submit(lake, current, ours, requirements, (*_adding(snapshot), *_setting(action.properties()))):
            return version_of(snapshot)
    raise _conflict(lake, name)


def _submit(
    lake: Lake,
    table: Table,
    ours: Append,
    requirements: tuple[TableRequirement, ...],
    updates: tuple[TableUpdate, ...],
) -> bool:
    """Whether the commit landed; False where another writer was faster."""
    ours.outcome = Outcome.UNKNOWN
    try:
        lake.catalog.commit_table(table, requirements, updates)
    except (CommitFailedException, TableAlreadyExistsError):
        ours.outcome = Outcome.NOT_LANDED
        return False
    except BaseException as error:
        # The answer was lost, not necessarily the commit. If this look fails too, nothing is removed.
        ours.outcome = Outcome.LANDED if _has(lake, table, ours.snapshot_id) else Outcome.NOT_LANDED
        if ours.outcome is Outcome.LANDED and isinstance(error, Exception):
            return True
        raise
    ours.outcome = Outcome.LANDED
    return True


def _has(lake: Lake, table: Table, snapshot_id: int) -> bool:
    try:
        return lake.catalog.load_table(table.name()).metadata.snapshot_by_id(snapshot_id) is not None
    except NoSuchTableError:
        return False


def _attempts(lake: Lake, name: str, table: Table) -> Iterator[Table]:
    """The table, then, after waits that grow, the table as it is by then."""
    yield table
    settings = lake.settings.commit
    for attempt in range(settings.retries):
        time.sleep(random.uniform(0, min(settings.max_wait, settings.min_wait * 2**attempt)))
        current = lake.table(name)
        if current.metadata.table_uuid != table.metadata.table_uuid:
            raise DatasetNotFoundError(f"dataset {name!r} was deleted and created anew while this action wrote to it")
        yield current


def _conflict(lake: Lake, name: str) -> CommitConflictError:
    return CommitConflictError(
        f"other writers kept changing {name!r}; gave up after {lake.settings.commit.retries} retries and wrote "
        "nothing. Try again, write fewer and larger appends, or raise commit.retries"
    )


def _adding(snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    ref = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
        ref_name=MAIN_BRANCH, type="branch", snapshot_id=snapshot.snapshot_id
    )
    return AddSnapshotUpdate(snapshot=snapshot), ref


def _setting(properties: Mapping[str, str]) -> tuple[TableUpdate, ...]:
    return (SetPropertiesUpdate(updates=dict(properties)),) if properties else ()


# ------------------------------------------------------------------------------------------ a new table


def _created_before(lake: Lake, name: str, action: Action) -> DatasetVersion:
    done = action.done(lake.table(name))
    if done is not None:
        return done
    raise DatasetExistsError(f"dataset {name!r} exists already: append to it, delete it, or choose another name")


def _own_properties(
    declared: pa.Schema, description: str | None, column_types: Mapping[str, str] | None
) -> dict[str, str]:
    media = dict(column_types) if column_types is not None else media_of(declared)
    unknown = [column for column in media if column not in declared.names]
    if unknown:
        raise ColumnNotFoundError.of(unknown, declared.names, "the dataset, but in its column types")
    own = {COLUMN_TYPES: json.dumps(media, sort_keys=True)} if media else {}
    return {**own, **({DESCRIPTION: description} if description is not None else {})}


def _staged(lake: Lake, name: str, declared: pa.Schema, properties: Mapping[str, str]) -> StagedTable:
    identifier = lake.identifier(name)
    lake.ensure_namespace(identifier[0])
    table_uuid = uuid.uuid4()
    metadata = new_table_metadata(
        schema=iceberg_schema(declared),
        partition_spec=UNPARTITIONED_PARTITION_SPEC,
        sort_order=UNSORTED_SORT_ORDER,
        location=new_location(lake.settings.warehouse, *identifier, table_uuid.hex[:12]),
        properties={**properties},
        table_uuid=table_uuid,
    )
    metadata.properties.update(declared_property(declared, metadata.schema()))
    location = f"{metadata.location}/metadata/staged"
    io = load_file_io({**lake.catalog.properties, **metadata.properties}, location)
    return StagedTable(identifier, metadata, location, io, lake.catalog)


def _initial(metadata: TableMetadata) -> tuple[TableUpdate, ...]:
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


# ------------------------------------------------------------------------------------------ rows into files


def _check_writable(table: Table) -> None:
    name = table.name()[-1]
    if table.metadata.format_version != FORMAT_VERSION:
        raise UnsupportedError(f"{name!r} has Iceberg format version {table.metadata.format_version}, not 2")
    if not table.spec().is_unpartitioned():
        raise UnsupportedError(f"{name!r} is partitioned; only tables without partitions are written")


def _write(
    lake: Lake, table: Table, declared: pa.Schema, ours: Append, batches: Iterable[pa.RecordBatch]
) -> list[DataFile]:
    target = Target(
        io=table.io,
        place=table.location_provider().new_data_location,
        prefix=ours.commit.hex,
        schema=file_schema(declared, table.schema()),
        iceberg=table.schema(),
        spec_id=table.metadata.default_spec_id,
        properties=table.properties,
        sizes=lake.settings.write,
    )
    return write_files(target, _stored_batches(batches, declared, target.schema))


def _stored_batches(
    batches: Iterable[pa.RecordBatch], declared: pa.Schema, target: pa.Schema
) -> Iterator[pa.RecordBatch]:
    seen: pa.Schema | None = None
    for batch in batches:
        if seen is None or not batch.schema.equals(seen):
            check_fits(batch.schema, declared)
            seen = batch.schema
        yield stored(batch, declared, target)
