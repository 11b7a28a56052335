"""Runs over ranges of versions: one at a time for an asset, again after a failure, never blocked by a dead one."""

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
from dataset_assets.heartbeat import HEARTBEAT_TAG
from dataset_assets.run_tags import FINISHED, OUTAGE_TAG, RANGE_TAG, UNFINISHED, WORK_TAG
from lakefeed.catalog import DatasetVersion

MAX_ATTEMPTS = 3
# Seconds without a sign of life. A run wrongly taken for dead does no harm: its position decides what is written.
DEAD_AFTER_SECONDS = 30.0
VERSIONS_PER_TICK = 500
VERSIONS_PER_RUN = 250
# A queue that is longer than what runs in a minute helps nobody, and every tick looks at it.
MAX_UNFINISHED_RUNS = 50
# Seconds after the first run that met an outage; they double up to the most.
OUTAGE_BACKOFF_SECONDS = 10.0
MAX_BACKOFF_SECONDS = 600.0


@dataclass(frozen=True)
class TickPlan:
    """What one tick does for one asset: partitions to add, in version order, and at most one run."""

    partitions: Sequence[AddDynamicPartitionsRequest | DeleteDynamicPartitionsRequest]
    runs: Sequence[RunRequest]


@dataclass(frozen=True)
class RetryPolicy:
    """How often a range is tried, and the seconds to wait after the first failure; they double each time."""

    attempts: int = MAX_ATTEMPTS
    backoff: float = 0.0


@dataclass
class RunQueue:
    """The runs of this tick: what is under way is asked for once, whatever the number of assets."""

    instance: DagsterInstance
    records: list[RunRecord] = field(default_factory=list)
    busy: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, instance: DagsterInstance) -> RunQueue:
        records = list(instance.get_run_records(RunsFilter(statuses=UNFINISHED)))
        return cls(instance, records, {each.dagster_run.tags.get(WORK_TAG, "") for each in records} - {""})

    def under_way(self, asset: AssetKey) -> bool:
        """Whether a run that a sensor asked for is queued or at work."""
        return asset.to_user_string() in self.busy

    def close_dead(self) -> None:
        """Ends, in Dagster's books, the runs whose process went away without a word (power cut, SIGKILL of all)."""
        for record in self.records:
            seen = _last_seen(record)
            if record.dagster_run.status is DagsterRunStatus.STARTED and seen is not None:
                self._close_if_dead(record.dagster_run, time.time() - seen)

    def request(
        self, asset: AssetKey, span: str, tags: Mapping[str, str], retries: RetryPolicy = RetryPolicy()
    ) -> RunRequest | None:
        """A run of ``asset``; None while one is under way, while it has to wait, or once it failed too often.

        A tick that is repeated after a crash asks with the same run key, so it starts nothing twice.
        """
        work = asset.to_user_string()
        if work in self.busy or len(self.busy) >= MAX_UNFINISHED_RUNS:
            return None
        earlier = self.instance.get_run_records(RunsFilter(tags={RANGE_TAG: span}))
        # A run that never began says nothing about the work.
        failed = [r for r in earlier if r.dagster_run.status is DagsterRunStatus.FAILURE and r.start_time is not None]
        # Nor does one that met an outage: it is tried until the outage is over.
        outages = [r for r in failed if OUTAGE_TAG in r.dagster_run.tags]
        failed = [r for r in failed if OUTAGE_TAG not in r.dagster_run.tags]
        if (
            len(failed) >= retries.attempts
            or _is_backing_off(failed, retries.backoff)
            or _is_backing_off(outages, OUTAGE_BACKOFF_SECONDS)
        ):
            return None
        self.busy.add(work)
        return RunRequest(
            run_key=f"{span}#{len(earlier)}",
            asset_selection=[asset],
            tags={**tags, WORK_TAG: work, RANGE_TAG: span},
        )

    def _close_if_dead(self, run: DagsterRun, silent_for: float) -> None:
        # A sign of life from the future is one from before the clock was put back, and as old.
        if abs(silent_for) > DEAD_AFTER_SECONDS:
            # Canceled, not failed: it is no fault of the work, so it does not count as an attempt.
            self.instance.report_run_canceled(run, f"no sign of life for {DEAD_AFTER_SECONDS:.0f} s: its process died")
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
    """The plan for an asset partitioned by ``versions`` (all, oldest first) of ``dataset``, where ``due`` want a run.

    Bounded by `VERSIONS_PER_TICK` and `VERSIONS_PER_RUN`; the next tick goes on. ``known``: its partitions, if looked
    up already.
    """
    definition = versions_of(dataset)
    if known is None:
        known = runs.instance.get_dynamic_partitions(str(definition.name))
    among = set(known)
    fresh = [key for key in map(key_of, versions) if key not in among][:VERSIONS_PER_TICK]
    stretch = first_adjacent([*known, *fresh], map(key_of, due))[:VERSIONS_PER_RUN]
    run = None
    if stretch:
        ends = {ASSET_PARTITION_RANGE_START_TAG: stretch[0], ASSET_PARTITION_RANGE_END_TAG: stretch[-1]}
        span = f"{asset.to_user_string()}:{stretch[0]}..{stretch[-1]}"
        run = runs.request(asset, span, {**(tags or {}), **ends}, retries)
    return TickPlan([definition.build_add_request(fresh)] if fresh else [], [run] if run else [])


def unreported_versions(instance: DagsterInstance, asset: AssetKey, versions: Iterable[int]) -> set[int]:
    """The versions that ``asset`` has no materialization of."""
    reported = instance.get_materialized_partitions(asset)
    return {version for version in versions if key_of(version) not in reported}


def obsolete_partitions(
    dataset: str, known: Sequence[str], versions: Sequence[DatasetVersion], deleted: Callable[[], int]
) -> list[DeleteDynamicPartitionsRequest]:
    """The partitions of versions that were rolled back, or deleted; those that may have expired stay.

    ``versions``: oldest first. ``deleted``: the last version of the name that was deleted, asked for where it matters.
    """
    present = {version.version for version in versions}
    missing = {key: version_of(key) for key in known if version_of(key) not in present}
    last = deleted() if any(number < min(present, default=0) for number in missing.values()) else 0
    surplus = [key for key, number in missing.items() if number <= last or not _may_have_expired(number, versions)]
    return [DeleteDynamicPartitionsRequest(str(versions_of(dataset).name), surplus)] if surplus else []


def _may_have_expired(number: int, versions: Sequence[DatasetVersion]) -> bool:
    """Whether the version stood before all that are kept, or where one that is kept has another parent."""
    for older, newer in pairwise([None, *versions]):
        if newer is not None and number < newer.version:
            return older is None or newer.parent_id != older.snapshot_id
    return False


def forget_dataset(instance: DagsterInstance, dataset: str) -> list[DeleteDynamicPartitionsRequest]:
    """Takes a dataset that is no more out of Dagster's books: its events now, its partitions with the tick."""
    name = str(versions_of(dataset).name)
    keys = instance.get_dynamic_partitions(name)
    if instance.get_latest_materialization_event(dataset_key(dataset)) is not None:
        instance.wipe_assets([dataset_key(dataset)])
    return [DeleteDynamicPartitionsRequest(name, keys)] if keys else []


def reported_partitions(instance: DagsterInstance, dataset: str, table_uuid: str) -> Set[str]:
    """The partitions that are materialized. What was said of an older table of that name is forgotten."""
    asset = dataset_key(dataset)
    reported = instance.get_materialized_partitions(asset)
    event = instance.get_latest_materialization_event(asset) if reported else None
    said = event.asset_materialization if event else None
    known = said.metadata.get("table_uuid") if said else None
    if known is not None and known.value != table_uuid:
        instance.wipe_assets([asset])
        return frozenset()
    return reported


def last_failures(instance: DagsterInstance, works: Mapping[str, str]) -> dict[str, tuple[int, int]]:
    """For each name whose newest run failed, the first and the last version of that run; ``works``: name -> tag."""
    found = {}
    for name, work in works.items():
        records = instance.get_run_records(RunsFilter(tags={WORK_TAG: work}, statuses=list(FINISHED)), limit=1)
        for run in (record.dagster_run for record in records):
            ends = [run.tags.get(tag) for tag in (ASSET_PARTITION_RANGE_START_TAG, ASSET_PARTITION_RANGE_END_TAG)]
            if run.status is DagsterRunStatus.FAILURE and ends[0] and ends[1]:
                found[name] = (version_of(ends[0]), version_of(ends[1]))
    return found


def _is_backing_off(failed: Sequence[RunRecord], backoff: float) -> bool:
    newest = max((record.end_time or 0.0 for record in failed), default=0.0)
    # Not longer than that either if the clock was put back since.
    return bool(failed) and abs(time.time() - newest) < _backoff(len(failed), backoff)


def _backoff(failures: int, first: float) -> float:
    doubled = first * 2.0 ** min(failures - 1, 32)
    return min(doubled, max(first, MAX_BACKOFF_SECONDS))


def _last_seen(record: RunRecord) -> float | None:
    tags = record.dagster_run.tags
    if HEARTBEAT_TAG in tags:
        return float(tags[HEARTBEAT_TAG])
    return record.start_time if WORK_TAG in tags else None
