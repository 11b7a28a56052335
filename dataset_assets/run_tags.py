"""The tags of runs: the work that a run was requested for, its versions, and the outage that it failed on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterInstance, DagsterRunStatus, RunRecord, RunsFilter
from dagster._core.errors import DagsterExecutionInterruptedError

from lakefeed.profiles import is_unreachable

WORK_TAG = "lakefeed/work"
RANGE_TAG = "lakefeed/range"
OUTAGE_TAG = "lakefeed/outage"
# Dagster hides tags with this prefix, so that the list of runs shows what they are about.
STATE_TAG = ".dagster/lakefeed_state"
INTERRUPTED_TAG = ".dagster/lakefeed_interrupted"

# Seconds after a user canceled a run for the same work.
CANCELED_BACKOFF_SECONDS = 600.0
MAX_CANCELED_RUNS = 10

FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]


@contextmanager
def tag_outages(context: AssetExecutionContext) -> Iterator[None]:
    """Tags the run with `OUTAGE_TAG` if the block fails because a store, server or catalog was away.

    Such a failure says nothing about the data, so the sensors try the run again until the outage is over.
    """
    try:
        yield
    except Exception as error:
        if is_unreachable(error):
            context.instance.add_run_tags(context.run.run_id, {OUTAGE_TAG: type(error).__name__})
        raise


@contextmanager
def tag_interruptions(context: AssetExecutionContext) -> Iterator[None]:
    """Tags the run with `INTERRUPTED_TAG` if its process is ended, but not because a user cancels the run.

    Such a run ends as canceled too, but the sensors request it again at once.
    """
    try:
        yield
    except (DagsterExecutionInterruptedError, KeyboardInterrupt) as error:
        run = context.instance.get_run_by_id(context.run.run_id)
        if run is not None and run.status is not DagsterRunStatus.CANCELING:
            context.instance.add_run_tags(run.run_id, {INTERRUPTED_TAG: type(error).__name__})
        raise


def is_canceled_recently(instance: DagsterInstance, work: str, state: str | None = None) -> bool:
    """Returns whether a user has just canceled a run for this work.

    Args:
        instance: the instance.
        work: the value of `WORK_TAG`.
        state: the value of `STATE_TAG`; None for runs with any value.
    """
    tags = {WORK_TAG: work, **({STATE_TAG: state} if state is not None else {})}
    canceled = RunsFilter(tags=tags, statuses=[DagsterRunStatus.CANCELED])
    for record in instance.get_run_records(canceled, limit=MAX_CANCELED_RUNS):
        if INTERRUPTED_TAG not in record.dagster_run.tags:
            return abs(time.time() - _end_of(record)) < CANCELED_BACKOFF_SECONDS
    return False


def _end_of(record: RunRecord) -> float:
    return record.end_time if record.end_time is not None else record.update_timestamp.timestamp()
