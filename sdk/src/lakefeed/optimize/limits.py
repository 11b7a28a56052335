"""Row ranges sink to the scan, so that what lies outside is neither opened nor decoded.

Slice(a, Slice(b, x))  -> Slice(a within b, x)
Slice(a, Step(x))      -> Step(Slice(a, x))           if the step keeps row count and order
Slice(a, Scan(s))      -> Scan(s | rows=a)            if the source knows its row counts
"""

from __future__ import annotations

from typing import TypeAlias

from lakefeed.ops import Scan, Slice
from lakefeed.optimize.sink import sink
from lakefeed.plan import Node

Range: TypeAlias = tuple[int, int | None]


def push_slice(node: Node) -> Node:
    """The rule, for one node whose children have been done."""
    return sink(node, passes=lambda step: step.passes_limit, land=_land) if isinstance(node, Slice) else node


def _land(node: Node, child: Node) -> Node:
    assert isinstance(node, Slice)
    rows = (node.start, node.stop)
    if isinstance(child, Slice):
        return _land(Slice(child.child, *within(rows, (child.start, child.stop))), child.child)
    # A predicate may already have pruned fragments, so places would no longer be those of the source.
    if isinstance(child, Scan) and child.source.ranged and child.pushdown.predicate is None:
        before = child.pushdown.rows
        return child.pushed(rows=rows if before is None else within(rows, before))
    return node if node.child is child else node.with_children((child,))


def within(inner: Range, outer: Range) -> Range:
    """The range ``inner``, which counts inside ``outer``, as one range."""
    start = outer[0] + inner[0]
    stops = [stop for stop in (outer[1], None if inner[1] is None else outer[0] + inner[1]) if stop is not None]
    stop = min(stops) if stops else None
    return (start if stop is None else min(start, stop)), stop
