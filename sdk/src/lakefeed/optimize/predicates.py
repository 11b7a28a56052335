"""Filters sink towards the scan; at the scan they become a pruning hint. The exact filter always stays.

Filter(p, Filter(q, x))  -> Filter(q and p, x)
Filter(p, Step(x))       -> Step(Filter(p, x))       if the step passes filters over p's columns
Filter(p, Scan(s))       -> Filter(p, Scan(s | predicate=p))
"""

from __future__ import annotations

from lakefeed.expr import conjoin, roots
from lakefeed.ops import Filter, Scan
from lakefeed.optimize.sink import sink
from lakefeed.plan import Node


def push_filter(node: Node) -> Node:
    """The rule, for one node whose children have been done."""
    if not isinstance(node, Filter):
        return node
    columns = roots(node.predicate)
    return sink(node, passes=lambda step: not isinstance(step, Filter) and step.passes_filter(columns), land=_land)


def _land(node: Node, child: Node) -> Node:
    assert isinstance(node, Filter)
    if isinstance(child, Filter):
        both = conjoin((child.predicate, node.predicate))
        assert both is not None
        return _land(Filter(child.child, both), child.child)
    if isinstance(child, Scan):
        return node.with_children((child.pushed(predicate=node.predicate),))
    return node if node.child is child else node.with_children((child,))
