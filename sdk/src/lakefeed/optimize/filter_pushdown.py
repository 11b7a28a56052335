"""Filter pushdown: filters move towards the scan, where they become a pruning hint. The exact filter always stays.

Filter(p, Filter(q, x))  -> Filter(q and p, x)
Filter(p, Step(x))       -> Step(Filter(p, x))       if the step passes filters over p's columns
Filter(p, Scan(s))       -> Filter(p, Scan(s | predicate=p))
"""

from __future__ import annotations

from typing import TypeAlias

from lakefeed.expr import Expr, conjoin, roots
from lakefeed.ops import Filter, Scan
from lakefeed.plan import Node

Predicates: TypeAlias = tuple[tuple[frozenset[str], Expr], ...]
"""Predicates with the columns that they read, the upper ones first."""


def is_absorbed(node: Node) -> bool:
    """Returns whether the scan below a filter evaluates it, so that the filter itself does not run."""
    if not isinstance(node, Filter) or not isinstance(node.child, Scan):
        return False
    scan = node.child
    return scan.source.selective and scan.pushdown.predicate is node.predicate


class PushFilters:
    """The rule for filters; see `push_down`."""

    empty: Predicates = ()

    def absorb(self, load: Predicates, node: Node) -> Predicates | None:
        return (*load, (roots(node.predicate), node.predicate)) if isinstance(node, Filter) else None

    def split(self, load: Predicates, node: Node) -> tuple[Predicates, Predicates]:
        stays = tuple(item for item in load if not node.passes_filter(item[0]))
        return stays, tuple(item for item in load if item not in stays) if stays else load

    def attach(self, load: Predicates, node: Node) -> Node:
        predicate = conjoin(predicate for _, predicate in reversed(load))
        if predicate is None:
            return node
        return Filter(node.pushed(predicate=predicate) if isinstance(node, Scan) else node, predicate)
