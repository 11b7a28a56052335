"""The tags of runs: the work that a run was requested for, its versions, and the outage that it failed on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterRunStatus

from lakefeed.profiles import is_unreachable

WORK_TAG = "lakefeed/work"
RANGE_TAG = "lakefeed/range"
OUTAGE_TAG = "lakefeed/outage"

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
