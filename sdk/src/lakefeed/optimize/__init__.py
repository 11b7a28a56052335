"""Rewrites that make a plan cheaper and never change its rows or their order."""

from __future__ import annotations

from lakefeed.optimize.bind_files import bind_files
from lakefeed.optimize.column_pruning import prune_columns
from lakefeed.optimize.filter_pushdown import PushFilters, is_absorbed
from lakefeed.optimize.pushdown import push_down
from lakefeed.optimize.slice_pushdown import PushSlices
from lakefeed.plan import Node, explain

__all__ = ["bind_files", "explain_run", "is_absorbed", "optimize"]


def optimize(plan: Node) -> Node:
    """The plan to run.

    Ranges first, so that they reach the scans and a filter above one still prunes what the range left; then once
    more, since filters that sank leave steps to pass: what a range cuts off is not to be mapped or loaded.
    """
    ranged = push_down(bind_files(plan), PushSlices())
    return prune_columns(push_down(push_down(ranged, PushFilters()), PushSlices()))


def explain_run(plan: Node) -> str:
    """Returns the plan that runs as text, one line a node; a filter that its scan decides says so."""
    return explain(optimize(plan), lambda node: " (decided by the scan)" if is_absorbed(node) else "")
