"""Rewrites that make a plan cheaper and never change its rows or their order."""

from __future__ import annotations

from lakefeed.optimize.columns import prune_columns
from lakefeed.optimize.limits import push_slice
from lakefeed.optimize.predicates import push_filter
from lakefeed.plan import Node
from lakefeed.plan.walk import transform

__all__ = ["optimize"]


def optimize(plan: Node) -> Node:
    """The plan to run. Ranges first: a filter above a range may then still prune what the range left."""
    return prune_columns(transform(transform(plan, push_slice), push_filter))
