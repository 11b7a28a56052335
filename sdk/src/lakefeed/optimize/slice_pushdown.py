"""Row ranges sink to the scan, so that what lies outside is neither opened nor decoded.

Slice(a, Slice(b, x))  -> Slice(a within b, x)
Slice(a, Step(x))      -> Step(Slice(a, x))           if the step keeps row count and order
Slice(a, Scan(s))      -> Scan(s | rows=a)            if the source knows its row counts
"""

from __future__ import annotations

from typing import TypeAlias

from lakefeed.ops import Scan, Slice
from lakefeed.plan import Node

Range: TypeAlias = tuple[int, int | None]
EVERYTHING: Range = (0, None)


class PushSlices:
    """The rule for `sink`."""

    nothing = EVERYTHING

    def taken(self, load: Range, node: Node) -> Range | None:
        return within(load, (node.start, node.stop)) if isinstance(node, Slice) else None

    def parted(self, load: Range, node: Node) -> tuple[Range, Range]:
        return (EVERYTHING, load) if node.passes_limit else (load, EVERYTHING)

    def landed(self, load: Range, node: Node) -> Node:
        if load == EVERYTHING:
            return node
        # A predicate may already have pruned fragments, so places would no longer be those of the source.
        if isinstance(node, Scan) and node.source.ranged and node.pushdown.predicate is None:
            return node.pushed(rows=within(load, node.pushdown.rows or EVERYTHING))
        return Slice(node, *load)


def within(inner: Range, outer: Range) -> Range:
    """The range ``inner``, which counts inside ``outer``, as one range."""
    start = outer[0] + inner[0]
    stops = [stop for stop in (outer[1], None if inner[1] is None else outer[0] + inner[1]) if stop is not None]
    stop = min(stops) if stops else None
    return (start if stop is None else min(start, stop)), stop
