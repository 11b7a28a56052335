"""Names of the tags by which a run says what it was requested for, and which runs are not over."""

from dagster import DagsterRunStatus

WORK_TAG = "lakefeed/work"
RANGE_TAG = "lakefeed/range"
OUTAGE_TAG = "lakefeed/outage"

FINISHED = (DagsterRunStatus.SUCCESS, DagsterRunStatus.FAILURE, DagsterRunStatus.CANCELED)
UNFINISHED = [status for status in DagsterRunStatus if status not in FINISHED]
