"""One compare-and-swap: how an action gets into a table that others write to at the same time."""

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

from lakefeed.catalog.action import Action
from lakefeed.catalog.lake import Lake
from lakefeed.catalog.snapshot_builder import FORMAT_VERSION, CommitOutcome, SnapshotBuilder
from lakefeed.catalog.version_numbers import numbers_property
from lakefeed.catalog.versions import DatasetVersion, resolve, version_of
from lakefeed.errors import CatalogUnavailableError, CommitConflictError, DatasetNotFoundError

logger = logging.getLogger(__name__)

MAX_SUBMISSIONS = 5


def commit_with_retry(
    lake: Lake,
    name: str,
    table: Table,
    ours: SnapshotBuilder,
    action: Action,
    revise: Callable[[Table], tuple[TableUpdate, ...] | None] = lambda _: (),
) -> DatasetVersion:
    """The version that the action becomes.

    ``revise`` is called with the table as it is before each attempt: it brings the contents of the change up to date
    and returns what else changes in the same commit, or None where nothing is left to do; then the newest version is
    the answer.

    Raises:
        FenceError, CommitConflictError: nothing was written.
    """
    for current in attempts(lake, name, table):
        version = ours.landed_in(current) or action.done(current)
        if version is not None:
            return version
        action.check_fence(current)
        try:
            beside = revise(current)
            if beside is None:
                return resolve(current)
            snapshot = ours.attempt(current.metadata)
        except OSError:
            reload_table(lake, name, table)  # its files are gone where it was deleted meanwhile
            raise
        properties = {**action.properties(), **numbers_property(current)}
        updates = (*_format_upgrade(current), *beside, *snapshot_updates(snapshot), *_property_updates(properties))
        if submit(lake, current, ours, _requirements(current, beside), updates):
            return version_of(snapshot, current)
    raise conflict_error(lake, name)


def submit(
    lake: Lake,
    table: Table,
    ours: SnapshotBuilder,
    requirements: tuple[TableRequirement, ...],
    updates: tuple[TableUpdate, ...],
) -> bool:
    """Whether the commit landed; False where another writer was faster.

    A commit of which nobody knows whether it landed is sent again as it is: if it did after all, the second one is
    refused, and whoever looks at the table finds it.

    Raises:
        CatalogUnavailableError: every time the answer was lost.
    """
    lost: CommitStateUnknownException | None = None
    for _ in range(MAX_SUBMISSIONS):
        try:
            return _send(lake, table, ours, requirements, updates)
        except CommitStateUnknownException as error:
            lost = error
            logger.warning("%s; it is sent again", error)
    raise CatalogUnavailableError(
        f"{lost}, {MAX_SUBMISSIONS} times in a row; {_unknown_outcome_advice(table)}"
    ) from lost


def _unknown_outcome_advice(table: Table) -> str:
    return (
        f"whether it landed is not known: look at the versions of {table.name()[-1]!r} before you write again, or "
        "write with an idempotency_key"
    )


def _send(
    lake: Lake,
    table: Table,
    ours: SnapshotBuilder,
    requirements: tuple[TableRequirement, ...],
    updates: tuple[TableUpdate, ...],
) -> bool:
    if ours.guard is not None:
        ours.guard()
    in_doubt = ours.outcome is CommitOutcome.UNKNOWN  # the same commit, sent before, may still be on its way
    ours.outcome = CommitOutcome.UNKNOWN
    try:
        lake.catalog.commit_table(table, requirements, updates)
    except (CommitFailedException, TableAlreadyExistsError):
        ours.outcome = CommitOutcome.NOT_LANDED
        return False
    except BaseException as error:
        # The answer was lost, not necessarily the commit. If this look fails too, nothing is removed; nor where a
        # commit that is still on its way may land after the look.
        try:
            landed = _has_snapshot(lake, table, ours.snapshot_id)
        except Exception as unseen:  # noqa: BLE001 - any catalog's: it must not hide the first error
            logger.warning("whether version %s landed is not known: %s", ours.snapshot_id, unseen)
            error.add_note(f"{_unknown_outcome_advice(table)}; the catalog cannot be asked: {unseen}")
            raise error from None
        lost = in_doubt or isinstance(error, CommitStateUnknownException)
        missed = CommitOutcome.UNKNOWN if lost else CommitOutcome.NOT_LANDED
        ours.outcome = CommitOutcome.LANDED if landed else missed
        if ours.outcome is CommitOutcome.LANDED and isinstance(error, Exception):
            return True
        raise
    ours.outcome = CommitOutcome.LANDED
    return True


def commit_metadata(
    lake: Lake, name: str, change: Callable[[Table], tuple[tuple[TableRequirement, ...], tuple[TableUpdate, ...]]]
) -> None:
    """Commits what ``change`` says of the table as it is then: a change of the metadata, which makes no version.

    No updates are nothing to commit. Repeating it must do no harm: an answer that was lost is not looked for.
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
    """The table, then, after waits that grow, the table as it is by then."""
    yield table
    settings = lake.settings.commit
    for attempt in range(settings.retries):
        time.sleep(random.uniform(0, min(settings.max_wait, settings.min_wait * 2**attempt)))
        yield reload_table(lake, name, table)


def reload_table(lake: Lake, name: str, table: Table) -> Table:
    """The table as it is now.

    Raises:
        DatasetNotFoundError: it is gone, or another one of that name is there.
    """
    current = lake.table(name)
    if current.metadata.table_uuid != table.metadata.table_uuid:
        raise DatasetNotFoundError(
            f"dataset {name!r} was deleted and created anew while this action wrote to it"
        ) from None
    return current


def conflict_error(lake: Lake, name: str) -> CommitConflictError:
    """What a writer is told that never was the fastest."""
    return CommitConflictError(
        f"other writers kept changing {name!r}; gave up after {lake.settings.commit.retries} retries and wrote "
        "nothing. Try again, write fewer and larger appends, or raise commit.retries"
    )


def _requirements(table: Table, beside: tuple[TableUpdate, ...]) -> tuple[TableRequirement, ...]:
    """That the table is as it was looked at; its columns too, where they change."""
    if not any(isinstance(update, AddSchemaUpdate) for update in beside):
        return unchanged_requirements(table)
    return (*unchanged_requirements(table), AssertCurrentSchemaId(current_schema_id=table.metadata.current_schema_id))


def unchanged_requirements(table: Table) -> tuple[TableRequirement, ...]:
    """That the table still is the same one, at the version that was looked at."""
    current = table.metadata.current_snapshot()
    return (
        AssertTableUUID(uuid=table.metadata.table_uuid),
        # Also a reader that saw an old fence is stopped: the position moves only with the snapshot it was read at.
        AssertRefSnapshotId(ref=MAIN_BRANCH, snapshot_id=current.snapshot_id if current is not None else None),
    )


def snapshot_updates(snapshot: Snapshot) -> tuple[TableUpdate, ...]:
    """The snapshot, and the main branch pointing to it."""
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
    """Format version 2, where the table has version 1: only that one keeps which version wrote a row."""
    old = table.metadata.format_version < FORMAT_VERSION
    return (UpgradeFormatVersionUpdate(format_version=FORMAT_VERSION),) if old else ()


def _property_updates(properties: Mapping[str, str]) -> tuple[TableUpdate, ...]:
    return (SetPropertiesUpdate(updates=dict(properties)),) if properties else ()
