"""Runs that failed because a store, server or catalog was away: such a run says nothing about the data."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dagster import AssetExecutionContext

from dataset_assets.work import OUTAGE_TAG
from lakefeed.profiles import is_unreachable


@contextmanager
def outages_marked(context: AssetExecutionContext) -> Iterator[None]:
    """Marks the run, if the block fails, where it failed because something was away."""
    try:
        yield
    except Exception as error:
        if is_unreachable(error):
            context.instance.add_run_tags(context.run.run_id, {OUTAGE_TAG: type(error).__name__})
        raise
