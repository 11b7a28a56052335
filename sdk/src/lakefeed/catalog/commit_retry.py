"""Commits to tables with concurrent writers: compare-and-swap, with retries."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Iterator, Mapping

from pyiceberg.exceptions import (
    CommitFailedException,
    CommitStateUnknownException,
    NoSuchTableError,
    TableAlreadyExistsError,
)
from pyiceberg.table import Table
from pyiceberg.table.refs import MAIN_BRANCH
from pyiceberg.table.snapshots import Snapshot
from pyiceberg.table.update import (
    AddSchemaUpdate,
    AddSnapshotUpdate,
    AssertCurrentSchemaId,
    AssertRefSnapshotId,
    AssertTableUUID,
    SetPropertiesUpdate,
    SetSnapshotRefUpdate,
    TableRequirement,
    TableUpdate,
    UpgradeFormatVersionUpdate,
)

from lakefeed.catalog import current_run
from lakefeed.catalog.action import Action
from lakefeed.catalog.current_run import Output
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, CommitOutcome, SnapshotBuilder
from lakefeed.catalog.version_numbers import numbers_property
from lakefeed.catalog.versions import DatasetVersion, resolve, version_of
from lakefeed.errors import CatalogUnavailableError, CommitConflictError, DatasetNotFoundError

logger = logging.getLogger(__name__)

MAX_SUBMISSIONS = 5
"""Times that a commit is sent whose answers are lost."""


def commit_with_retry(
    lake: Lake,
    name: str,
    table: Table,
    builder: SnapshotBuilder,
    action: Action,
    revise: Callable[[Table], tuple[TableUpdate, ...] | None] = lambda _: (),
    following: Callable[[], tuple[TableUpdate, ...]] = lambda: (),
) -> DatasetVersion:
    """Commits an action and returns its version.

    ``revise`` is called before each attempt with the current table. It updates the contents of the builder and returns
    further updates for the same commit. It returns None if there is nothing to commit; then the newest version is
    returned. ``following`` returns updates that come after that of the snapshot.

    Raises:
        FenceError, CommitConflictError: nothing was written.
    """
    for current in attempts(lake, name, table):
        version = builder.committed_version(current) or action.earlier_version(current)
        if version is not None:
            return version
        action.check_fence(current)
        try:
            further = revise(current)
            if further is None:
                return resolve(current)
            snapshot = builder.build_snapshot(current.metadata)
            added = (*snapshot_updates(snapshot), *following())
        except OSError:
            reload_table(lake, name, table)  # raises if the table was deleted, and its files with it
            raise
        properties = {**action.properties(), **numbers_property(current)}
        updates = (*_format_upgrade(current), *further, *added, *_property_updates(properties))
        if submit(lake, current, builder, _requirements(current, further), updates):
            return version_of(snapshot, current)
    raise conflict_error(lake, name)


def submit(
    lake: Lake,
    table: Table,
    builder: SnapshotBuilder,
    requirements: tuple[TableRequirement, ...],
    updates: tuple[TableUpdate, ...],
) -> bool:
    """Sends a commit and returns whether it succeeded; False if another writer committed first.

    If the outcome is unknown, the same commit is sent again. The catalog refuses it if the first one succeeded; then
    the table has the snapshot.

    Raises:
        CatalogUnavailableError: the answer was lost each time.
    """
    lost: CommitStateUnknownException | None = None
    for _ in range(MAX_SUBMISSIONS):
        try:
            succeeded = _send(lake, table, builder, requirements, updates)
        except CommitStateUnknownException as error:
            lost = error
            logger.warning("%s; sending the commit again", error)
        else:
            if succeeded:
                _tell_run(lake, table, builder)
            return succeeded
    raise CatalogUnavailableError(
        f"{lost}, {MAX_SUBMISSIONS} times in a row; {_unknown_outcome_advice(table)}"
    ) from lost


def _tell_run(lake: Lake, table: Table, builder: SnapshotBuilder) -> None:
    """Tells the current run which version was written."""
    snapshot, name = builder.snapshot, lake.dataset_name(table.name())
    if snapshot is not None and name is not None:
        entries = {} if snapshot.summary is None else snapshot.summary.additional_properties
        rows, size = int(entries.get("total-records") or 0), int(entries.get("total-files-size") or 0)
        current_run.add_output(Output(name, str(snapshot.sequence_number), rows, size))


def _unknown_outcome_advice(table: Table) -> str:
    return (
        f"the commit may have succeeded: check the versions of {table.name()[-1]!r} before writing again, or write "
        "with an idempotency_key"
    )


def _send(
    lake: Lake,
    table: Table,
    builder: SnapshotBuilder,
    requirements: tuple[TableRequirement, ...],
    updates: tuple[TableUpdate, ...],
) -> bool:
    if builder.before_commit is not None:
        builder.before_commit()
    sent_before = builder.outcome is CommitOutcome.UNKNOWN  # the earlier request may still be in flight
    builder.outcome = CommitOutcome.UNKNOWN
    try:
        lake.catalog.commit_table(table, requirements, updates)
    except (CommitFailedException, TableAlreadyExistsError):
        builder.outcome = CommitOutcome.NOT_COMMITTED
        return False
    except BaseException as error:
        # The commit may have succeeded. Nothing is removed if the table cannot be read now, or if a request that is
        # still in flight may succeed later.
        try:
            committed = _has_snapshot(lake, table, builder.snapshot_id)
        except Exception as second:  # noqa: BLE001 - any catalog's: it must not hide the first error
            logger.warning("the outcome of the commit of snapshot %s is unknown: %s", builder.snapshot_id, second)
            error.add_note(f"{_unknown_outcome_advice(table)}; the catalog does not answer: {second}")
            raise error from None
        in_flight = sent_before or isinstance(error, CommitStateUnknownException)
        otherwise = CommitOutcome.UNKNOWN if in_flight else CommitOutcome.NOT_COMMITTED
        builder.outcome = CommitOutcome.COMMITTED if committed else otherwise
        if builder.outcome is CommitOutcome.COMMITTED and isinstance(error, Exception):
            return True
        raise
    builder.outcome = CommitOutcome.COMMITTED
    return True


def commit_metadata(
    lake: Lake, name: str, change: Callable[[Table], tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]]
) -> None:
    """Commits a change of the metadata, which makes no version.

    ``change`` returns the requirements and updates for the current table; no updates mean that there is nothing to do.
    The change must be idempotent, because a lost answer is not looked up.

    Raises:
        CommitConflictError: other writers kept committing first.
    """
    for table in attempts(lake, name, lake.table(name)):
        requirements, updates = change(table)
        if not updates:
            return
        try:
            lake.catalog.commit_table(table, requirements, updates)
            return
        except CommitFailedException:
            continue
    raise conflict_error(lake, name)


def attempts(lake: Lake, name: str, table: Table) -> Iterator[Table]:
    """Yields the table, then reloads it after growing delays."""
    yield table
    settings = lake.settings.commit
    for attempt in range(settings.retries):
        time.sleep(random.uniform(0, min(settings.max_wait, settings.min_wait * 2**attempt)))
        yield reload_table(lake, name, table)


def reload_table(lake: Lake, name: str, table: Table) -> Table:
    """Returns the table with its newest metadata.

    Raises:
        DatasetNotFoundError: the table was deleted, or replaced by another one of that name.
    """
    current = lake.table(name)
    if current.metadata.table_uuid != table.metadata.table_uuid:
        raise DatasetNotFoundError(
            f"dataset {name!r} was deleted and created again while this action was writing to it"
        ) from None
    return current


def conflict_error(lake: Lake, name: str) -> CommitConflictError:
    """Returns the error for a writer whose retries are used up."""
    return CommitConflictError(
        f"other writers kept changing {name!r}; gave up after {lake.settings.commit.retries} retries. Nothing was "
        "written. Try again, write fewer and larger appends, or raise commit.retries"
    )


def _requirements(table: Table, further: tuple[TableUpdate, ...]) -> tuple[TableRequirement, ...]:
    """Returns the requirement that the table is unchanged, including its schema if the updates add one."""
    if not any(isinstance(update, AddSchemaUpdate) for update in further):
        return unchanged_requirements(table)
    return (*unchanged_requirements(table), AssertCurrentSchemaId(current_schema_id=table.metadata.current_schema_id))


def unchanged_requirements(table: Table) -> tuple[TableRequirement, ...]:
    """Returns the requirements that the table has the same uuid and the same current snapshot."""
    current = table.metadata.current_snapshot()
    return (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        # This also stops a reader of an old fence: a fence moves only with a snapshot.
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=current.snapshot_id if current is not None else None),
    )


def snapshot_updates(snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    """Returns the updates that add a snapshot and point the main branch to it."""
    ref = SetSnapshotRefUpdate(  # type: ignore[call-arg]  # aliased fields with defaults
        ref_name=MAIN_BRANCH, type="branch", snapshot_id=snapshot.snapshot_id
    )
    return AddSnapshotUpdate(snapshot=snapshot), ref


def _has_snapshot(lake: Lake, table: Table, snapshot_id: int) -> bool:
    try:
        return lake.catalog.load_table(table.name()).metadata.snapshot_by_id(snapshot_id) is not None
    except NoSuchTableError:
        return False


def _format_upgrade(table: Table) -> tuple[TableUpdate, ...]:
    """Returns the upgrade of a table of format version 1: only version 2 records which version wrote a row."""
    old = table.metadata.format_version < FORMAT_VERSION
    return (UpgradeFormatVersionUpdate(format_version=FORMAT_VERSION),) if old else ()


def _property_updates(properties: Mapping[str, str]) -> tuple[TableUpdate, ...]:
    return (SetPropertiesUpdate(updates=dict(properties)),) if properties else ()
