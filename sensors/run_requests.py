"""Runs over ranges of versions: one at a time for an asset, repeated after a failure, never blocked by a dead run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass, field
from itertools import pairwise

from dagster import (
    AddDynamicPartitionsRequest,
    AssetKey,
    DagsterInstance,
    DagsterRun,
    DagsterRunStatus,
    DeleteDynamicPartitionsRequest,
    RunRecord,
    RunRequest,
    RunsFilter,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from dataset_assets.asset_keys import dataset_key, first_adjacent, key_of, version_of, versions_of
from dataset_assets.heartbeat import last_heartbeat
from dataset_assets.run_tags import (
    FINISHED,
    INTERRUPTED_TAG,
    OUTAGE_TAG,
    RANGE_TAG,
    STATE_TAG,
    UNFINISHED,
    WORK_TAG,
    is_canceled_recently,
)
from lakefeed.catalog import DatasetVersion

MAX_ATTEMPTS = 3
# Seconds without a heartbeat. To cancel a living run does no harm, because the position decides what is written.
DEAD_AFTER_SECONDS = 30.0
VERSIONS_PER_TICK = 500
VERSIONS_PER_RUN = 250
# A queue longer than the work of a minute has no use, and every tick reads it.
MAX_UNFINISHED_RUNS = 50
# Seconds after the first run that met an outage; they double up to the most.
OUTAGE_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True)
class TickPlan:
    """The work of one tick for one asset: partitions to add, in version order, and at most one run."""

    partitions: Sequence[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest]
    runs: Sequence[RunRequest]


@dataclass(frozen=True)
class RetryPolicy:
    """The number of attempts for a range, and the seconds to wait after the first failure.

    The wait doubles after each further failure.

    Attributes:
        attempts: the number of attempts.
        backoff: in seconds.
        state: a text that changes with the tables and the code of the work. Runs in another state do not count.
    """

    attempts: int = MAX_ATTEMPTS
    backoff: float = 0.0
    state: str = ""


@dataclass
class RunQueue:
    """The unfinished runs of this tick, queried once for all assets."""

    instance: DagsterInstance
    records: list[RunRecord] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, instance: DagsterInstance) -> RunQueue:
        """Returns the unfinished runs of an instance."""
        records = list(instance.get_run_records(RunsFilter(statuses=UNFINISHED)))
        return cls(instance, records, {each.dagster_run.tags.get(WORK_TAG, "") for each in records} - {""})

    def under_way(self, asset: AssetKey) -> bool:
        """Returns whether a run that a sensor requested is queued or running."""
        return asset.to_user_string() in self.busy

    @property
    def is_full(self) -> bool:
        """True if so many runs are unfinished that none is requested."""
        return len(self.busy) >= MAX_UNFINISHED_RUNS

    def close_dead(self) -> None:
        """Ends the runs whose process died without notice (power cut, SIGKILL)."""
        for record in self.records:
            heartbeat = _last_seen(record)
            if record.dagster_run.status is DagsterRunStatus.STARTED and heartbeat is not None:
                self._close_if_dead(record.dagster_run, time.time() - heartbeat)

    def request(
        self, asset: AssetKey, span: str, tags: Mapping[str, str], retries: RetryPolicy = RetryPolicy()
    ) -> RunRequest | None:
        """Returns a run request; None while a run is unfinished, during a backoff, or after too many failures.

        After a user canceled a run for the same work, none is requested for some minutes.

        A tick that is repeated after a crash requests the same run key, so it starts nothing twice.
        """
        work = asset.to_user_string()
        if work in self.busy or self.is_full:
            return None
        earlier = self.instance.get_run_records(RunsFilter(tags={RANGE_TAG: span, STATE_TAG: retries.state}))
        # A run that never began is not a failed attempt.
        failed = [r for r in earlier if r.dagster_run.status is DagsterRunStatus.FAILURE and r.start_time is not None]
        # Neither is one that met an outage: it is repeated until the outage is over.
        outages = [r for r in failed if OUTAGE_TAG in r.dagster_run.tags]
        failed = [r for r in failed if OUTAGE_TAG not in r.dagster_run.tags]
        if (
            len(failed) >= retries.attempts
            or _is_backing_off(failed, retries.backoff)
            or _is_backing_off(outages, OUTAGE_BACKOFF_SECONDS)
            or is_canceled_recently(self.instance, work, retries.state)
        ):
            return None
        self.busy.add(work)
        return RunRequest(
            run_key=f"{span}@{retries.state}#{len(earlier)}",
            asset_selection=[asset],
            tags={**tags, WORK_TAG: work, RANGE_TAG: span, STATE_TAG: retries.state},
        )

    def _close_if_dead(self, run: DagsterRun, silent_for: float) -> None:
        # A heartbeat from the future is from before the clock was set back.
        if abs(silent_for) > DEAD_AFTER_SECONDS:
            # Canceled instead of failed, so that it does not count as an attempt. The tag tells it from one that a user
            # canceled.
            self.instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: "no heartbeat"})
            self.instance.report_run_canceled(run, f"no heartbeat for {DEAD_AFTER_SECONDS:.0f} s: its process died")
            self.busy.discard(run.tags.get(WORK_TAG, ""))


def plan_runs(
    runs: RunQueue,
    asset: AssetKey,
    dataset: str,
    versions: Sequence[int],
    due: Set[int],
    retries: RetryPolicy = RetryPolicy(),
    tags: Mapping[str, str] | None = None,
    known: Sequence[str] | None = None,
) -> TickPlan:
    """Returns the plan for an asset partitioned by the ``versions`` of a dataset, of which those in ``due`` need a run.

    Args:
        runs: the unfinished runs.
        asset: the asset.
        dataset: the dataset whose versions are the partitions.
        versions: the numbers of all versions, oldest first.
        due: the numbers of the versions that need a run.
        retries: the attempts for a range.
        tags: the tags of the run.
        known: the partitions that exist, if they were looked up already.

    A plan has at most `VERSIONS_PER_TICK` new partitions and `VERSIONS_PER_RUN` versions in its run. The next tick
    continues.
    """
    definition = versions_of(dataset)
    if known is None:
        known = runs.instance.get_dynamic_partitions(str(definition.name))
    among = set(known)
    fresh = [key for key in map(key_of, versions) if key not in among][:VERSIONS_PER_TICK]
    keys = first_adjacent([*known, *fresh], map(key_of, due))[:VERSIONS_PER_RUN]
    run = None
    if keys:
        ends = {ASSET_PARTITION_RANGE_START_TAG: keys[0], ASSET_PARTITION_RANGE_END_TAG: keys[-1]}
        span = f"{asset.to_user_string()}:{keys[0]}..{keys[-1]}"
        run = runs.request(asset, span, {**(tags or {}), **ends}, retries)
    return TickPlan([definition.build_add_request(fresh)] if fresh else [], [run] if run else [])


def unreported_versions(instance: DagsterInstance, asset: AssetKey, versions: Iterable[int]) -> set[int]:
    """Returns the versions of which ``asset`` has no materialization."""
    reported = instance.get_materialized_partitions(asset)
    return {version for version in versions if key_of(version) not in reported}


def obsolete_partitions(
    dataset: str, known: Sequence[str], versions: Sequence[DatasetVersion], deleted: Callable[[], int]
) -> list[DeleteDynamicPartitionsRequest]:
    """Returns requests that delete the partitions of rolled-back or deleted versions. Expired versions keep theirs.

    Keys that name no version were added by a user, and stay.

    ``versions`` are oldest first. ``deleted`` returns the last deleted version of the name; it is called if it matters.
    """
    present = {version.version for version in versions}
    numbers = {key: number for key in known if (number := version_of(key)) is not None}
    missing = {key: number for key, number in numbers.items() if number not in present}
    last = deleted() if any(number < min(present, default=0) for number in missing.values()) else 0
    surplus = [key for key, number in missing.items() if number <= last or not _may_have_expired(number, versions)]
    return [DeleteDynamicPartitionsRequest(str(versions_of(dataset).name), surplus)] if surplus else []


def _may_have_expired(number: int, versions: Sequence[DatasetVersion]) -> bool:
    """Returns whether a version precedes all existing ones, or the parent of one of them is missing."""
    for older, newer in pairwise([None, *versions]):
        if newer is not None and number < newer.version:
            return older is None or newer.parent_id != older.snapshot_id
    return False


def forget_dataset(instance: DagsterInstance, dataset: str) -> list[DeleteDynamicPartitionsRequest]:
    """Removes a deleted dataset from Dagster: its events now, the partitions of its versions with the tick."""
    name = str(versions_of(dataset).name)
    keys = [key for key in instance.get_dynamic_partitions(name) if version_of(key) is not None]
    if instance.get_latest_materialization_event(dataset_key(dataset)) is not None:
        instance.wipe_assets([dataset_key(dataset)])
    return [DeleteDynamicPartitionsRequest(name, keys)] if keys else []


def reported_partitions(instance: DagsterInstance, dataset: str, table_uuid: str) -> Set[str]:
    """Returns the materialized partitions. It removes those of an older table of the same name."""
    asset = dataset_key(dataset)
    reported = instance.get_materialized_partitions(asset)
    event = instance.get_latest_materialization_event(asset) if reported else None
    materialization = event.asset_materialization if event else None
    recorded = materialization.metadata.get("table_uuid") if materialization else None
    if recorded is not None and recorded.value != table_uuid:
        instance.wipe_assets([asset])
        return frozenset()
    return reported


def last_failures(instance: DagsterInstance, works: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """Returns for each name whose newest run failed the first and the last version of that run.

    ``works`` maps names to the values of `WORK_TAG`.
    """
    failures = {}
    for name, work in works.items():
        records = instance.get_run_records(RunsFilter(tags={WORK_TAG: work}, statuses=list(FINISHED)), limit=1)
        for run in (record.dagster_run for record in records):
            ends = [run.tags.get(tag, "") for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)]
            first, last = map(version_of, ends)
            if run.status is DagsterRunStatus.FAILURE and first is not None and last is not None:
                failures[name] = (first, last)
    return failures


def _is_backing_off(failed: Sequence[RunRecord], backoff: float) -> bool:
    newest = max((record.end_time or 0.0 for record in failed), default=0.0)
    # Not longer than that either if the clock was put back since.
    return bool(failed) and abs(time.time() - newest) < _backoff(len(failed), backoff)


def _backoff(failures: int, first: float) -> float:
    doubled = first * 2.0 ** min(failures - 1, 32)
    return min(doubled, max(first, MAX_BACKOFF_SECONDS))


def _last_seen(record: RunRecord) -> float | None:
    heartbeat = last_heartbeat(record.dagster_run)
    return record.start_time if heartbeat is None and WORK_TAG in record.dagster_run.tags else heartbeat
