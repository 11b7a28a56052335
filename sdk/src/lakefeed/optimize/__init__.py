"""Rewrites that make a plan cheaper without changing its rows or their order."""

from __future__ import annotations

from dataclasses import replace

from lakefeed.ops.scan import Scan
from lakefeed.optimize.column_pruning import prune_columns
from lakefeed.optimize.filter_pushdown import PushFilters, is_absorbed
from lakefeed.optimize.pushdown import push_down
from lakefeed.optimize.slice_pushdown import PushSlices
from lakefeed.plan import Node, explain
from lakefeed.plan.walk import transform
from lakefeed.storage.disk.file_identity import Identities

__all__ = ["bind_files", "explain_run", "is_absorbed", "optimize"]


def optimize(plan: Node) -> Node:
    """Returns the optimized plan.

    Row ranges are pushed down first, so that they reach the scans, and a filter above one prunes only the rest of the
    rows. They are pushed down again after the filters, because filters that moved expose further steps. So rows outside
    a range are not mapped or loaded.
    """
    ranged = push_down(bind_files(plan), PushSlices())
    return prune_columns(push_down(push_down(ranged, PushFilters()), PushSlices()))


def explain_run(plan: Node) -> str:
    """Returns the optimized plan as text, one line for each node, with a mark for filters that the scan evaluates."""
    return explain(optimize(plan), lambda node: " (decided by the scan)" if is_absorbed(node) else "")


def bind_files(plan: Node) -> Node:
    """Returns the plan over files that must not change after their first read, or itself if it is bound."""
    states = Identities()

    def bind_source(node: Node) -> Node:
        if not isinstance(node, Scan):
            return node
        source = node.source.bound(states)
        return node if source is node.source else replace(node, source=source)

    return transform(plan, bind_source)
