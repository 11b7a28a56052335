"""Runs over ranges of versions: one at a time for an asset, again after a failure, never blocked by a dead one."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass

from dagster import (
    AddDynamicPartitionsRequest,
    AssetKey,
    DagsterInstance,
    DagsterRunStatus,
    RunRecord,
    RunRequest,
    RunsFilter,
)
from dagster._core.storage.tags import ASSET_PARTITION_RANGE_END_TAG, ASSET_PARTITION_RANGE_START_TAG

from dataset_assets.alive import ALIVE_TAG
from dataset_assets.partitions import first_stretch, key_of, versions_of

WORK_TAG = "lakefeed/work"
RANGE_TAG = "lakefeed/range"
ATTEMPTS = 3
# Seconds without a sign of life. A run wrongly taken for dead does no harm: its position decides what is written.
DEAD_AFTER = 30.0
VERSIONS_PER_TICK = 100

FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]


@dataclass(frozen=True)
class Plan:
    """What one tick does for one asset: partitions to add, in version order, and at most one run."""

    partitions: Sequence[AddDynamicPartitionsRequest]
    runs: Sequence[RunRequest]


def plan(instance: DagsterInstance, asset: AssetKey, dataset: str, versions: Sequence[int], due: Set[int]) -> Plan:
    """The plan for an asset partitioned by ``versions`` (all, oldest first) of ``dataset``, where ``due`` want a run.

    Bounded by `VERSIONS_PER_TICK`; the next tick goes on.
    """
    definition = versions_of(dataset)
    known = instance.get_dynamic_partitions(str(definition.name))
    fresh = [key for key in map(key_of, versions) if key not in set(known)][:VERSIONS_PER_TICK]
    stretch = first_stretch([*known, *fresh], map(key_of, due))[:VERSIONS_PER_TICK]
    run = request(instance, asset, stretch) if stretch else None
    return Plan([definition.build_add_request(fresh)] if fresh else [], [run] if run else [])


def unreported(instance: DagsterInstance, asset: AssetKey, versions: Iterable[int]) -> set[int]:
    """The versions that ``asset`` has no materialization of."""
    reported = instance.get_materialized_partitions(asset)
    return {version for version in versions if key_of(version) not in reported}


def request(instance: DagsterInstance, asset: AssetKey, keys: Sequence[str]) -> RunRequest | None:
    """A run of ``asset`` over the range of ``keys``; None while one is under way, or once it failed too often.

    A tick that is repeated after a crash asks with the same run key, so it starts nothing twice.
    """
    work = asset.to_user_string()
    span = f"{work}:{keys[0]}..{keys[-1]}"
    if instance.get_runs_count(RunsFilter(tags={WORK_TAG: work}, statuses=UNFINISHED)):
        return None
    failed = instance.get_run_records(RunsFilter(tags={RANGE_TAG: span}, statuses=[DagsterRunStatus.FAILURE]))
    # A run that never began says nothing about the work.
    if sum(record.start_time is not None for record in failed) >= ATTEMPTS:
        return None
    earlier = instance.get_runs_count(RunsFilter(tags={RANGE_TAG: span}))
    return RunRequest(
        run_key=f"{span}#{earlier}",
        asset_selection=[asset],
        tags={
            WORK_TAG: work,
            RANGE_TAG: span,
            ASSET_PARTITION_RANGE_START_TAG: keys[0],
            ASSET_PARTITION_RANGE_END_TAG: keys[-1],
        },
    )


def close_dead_runs(instance: DagsterInstance) -> None:
    """Ends, in Dagster's books, the runs whose process went away without a word (power cut, SIGKILL of everything)."""
    for record in instance.get_run_records(RunsFilter(statuses=[DagsterRunStatus.STARTED])):
        seen = _last_seen(record)
        if seen is not None and time.time() - seen > DEAD_AFTER:
            # Canceled, not failed: it is no fault of the work, so it does not count as an attempt.
            instance.report_run_canceled(
                record.dagster_run, f"no sign of life for {DEAD_AFTER:.0f} s: its process died"
            )


def _last_seen(record: RunRecord) -> float | None:
    tags = record.dagster_run.tags
    if ALIVE_TAG in tags:
        return float(tags[ALIVE_TAG])
    return record.start_time if WORK_TAG in tags else None
