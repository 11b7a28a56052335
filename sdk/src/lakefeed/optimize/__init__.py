"""Rewrites that make a plan cheaper and never change its rows or their order."""

from __future__ import annotations

from lakefeed.optimize.columns import prune_columns
from lakefeed.optimize.limits import PushSlices
from lakefeed.optimize.predicates import PushFilters
from lakefeed.optimize.sink import sink
from lakefeed.plan import Node

__all__ = ["optimize"]


def optimize(plan: Node) -> Node:
    """The plan to run. Ranges first: a filter above a range may then still prune what the range left."""
    return prune_columns(sink(sink(plan, PushSlices()), PushFilters()))
