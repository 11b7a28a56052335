"""Heartbeats of runs, so that any launcher's runs whose process died are noticed."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext, DagsterInstance, DagsterRun
from sqlalchemy.exc import SQLAlchemyError

from dataset_assets.run_tags import tag_interruptions

logger = logging.getLogger(__name__)

# Hidden from the list of runs by its prefix.
HEARTBEAT_TAG = ".dagster/lakefeed_alive"
# Of runs that began before an upgrade.
FORMER_HEARTBEAT_TAG = "lakefeed/alive"
HEARTBEAT_SECONDS = 5.0


@contextmanager
def heartbeat(context: AssetExecutionContext) -> Iterator[None]:
    """Tags the run with the current time every few seconds, until the block ends."""
    done = threading.Event()
    _beat(context.instance, context.run.run_id)
    beating = threading.Thread(target=_keep_beating, args=(context.instance, context.run.run_id, done), daemon=True)
    beating.start()
    try:
        with tag_interruptions(context):
            yield
    finally:
        done.set()
        beating.join()


def last_heartbeat(run: DagsterRun) -> float | None:
    """Returns the time of the newest heartbeat of a run, in seconds since 1970; None without one."""
    text = run.tags.get(HEARTBEAT_TAG) or run.tags.get(FORMER_HEARTBEAT_TAG)
    try:
        return float(text) if text else None
    except ValueError:  # a tag of somebody else
        return None


def _keep_beating(instance: DagsterInstance, run_id: str, done: threading.Event) -> None:
    while not done.wait(HEARTBEAT_SECONDS):
        try:
            _beat(instance, run_id)
        except SQLAlchemyError:
            logger.warning("the heartbeat of run %s could not be written", run_id, exc_info=True)


def _beat(instance: DagsterInstance, run_id: str) -> None:
    instance.add_run_tags(run_id, {HEARTBEAT_TAG: f"{time.time():.0f}"})
